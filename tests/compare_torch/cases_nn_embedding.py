"""Cases of embeddings."""

from compare_cases import FLOATS, case
from compare_modules import module


def embedding_of(**options):
    return lambda m, i, w: m.nn.functional.embedding(i, w, **options)


def bag(m, i, w, *rest, **options):
    return m.nn.functional.embedding_bag(i, w, *rest, **options)


@case("torch.nn.functional.embedding")
def embedding(c):
    i, w = c.exactly([[0, 2], [1, 2]]), c.f64(4, 3)
    c(embedding_of(), i, w, gradients=2)
    c(embedding_of(padding_idx=2), i, w)
    c(embedding_of(padding_idx=-2), i, w)
    c(embedding_of(scale_grad_by_freq=True), i, w)
    c(embedding_of(max_norm=1.0), i, w.constant())
    c(embedding_of(max_norm=0.7, norm_type=1.0), i, w.constant())
    c(embedding_of(), c.exactly(1), w)
    c(embedding_of(), c.exactly([], "int64"), w)
    c(embedding_of(), i.to("int32"), w)
    c(embedding_of(), i, c.i64(4, 3))
    for dtype in FLOATS:
        c(embedding_of(), i, c.of(dtype, 4, 3))
    c(lambda m, i, w: grad_of_sparse(m, i, w, padding_idx=2), i, w)
    c.error(embedding_of(), c.exactly([4]), w)
    c.error(embedding_of(), c.exactly([-1]), w)
    c.error(embedding_of(), c.f64(2), w)
    c.error(embedding_of(), i, c.f64(4))
    c.error(embedding_of(padding_idx=4), i, w)
    c.error(embedding_of(padding_idx=-5), i, w)
    c.error(embedding_of(sparse=True, scale_grad_by_freq=True), i, w)


def grad_of_sparse(m, i, w, **options):
    weight = w.detach().requires_grad_()
    m.nn.functional.embedding(i, weight, sparse=True, **options).sin().sum().backward()
    return weight.grad.is_sparse, weight.grad.to_dense()


@case("torch.nn.functional.embedding_bag")
def embedding_bag(c):
    i, w, o = c.exactly([0, 2, 1, 2, 0, 3]), c.distinct(4, 3), c.exactly([0, 2, 2, 5])
    flat = c.exactly([[0, 2, 2], [1, 3, 0]])
    for mode in ("sum", "mean", "max"):
        c(lambda m, *x, k=mode: bag(m, *x, mode=k), i, w, o)
        c(lambda m, *x, k=mode: bag(m, *x, mode=k), flat, w)
        c(lambda m, *x, k=mode: bag(m, *x, mode=k, padding_idx=2), i, w, o)
        c(lambda m, *x, k=mode: bag(m, *x, mode=k, padding_idx=-2), flat, w)
        c(lambda m, *x, k=mode: bag(m, *x, mode=k, include_last_offset=True), i, w,
          c.exactly([0, 2, 2, 6]))  # fmt: skip
        c(lambda m, *x, k=mode: bag(m, *x, mode=k), c.exactly([2, 2]), w, c.exactly([0, 0, 1, 2]))
        c(lambda m, *x, k=mode: bag(m, *x, mode=k, padding_idx=1), c.exactly([1, 1, 3]), w,
          c.exactly([0, 2]))  # fmt: skip
        c(lambda m, *x, k=mode: bag(m, *x, mode=k), c.exactly([], "int64"), w, c.exactly([0, 0]),
          gradients=0)  # fmt: skip
        c(lambda m, *x, k=mode: bag(m, *x, mode=k), i.to("int32"), w, o.to("int32"))
    for mode in ("sum", "mean"):
        # PyTorch divides by the count of another row where counts differ.
        c(lambda m, *x, k=mode: bag(m, *x, mode=k, scale_grad_by_freq=True),
          c.exactly([0, 2, 1, 2, 0, 1]), w, o)  # fmt: skip
        c(lambda m, *x, k=mode: grad_of_sparse_bag(m, *x, mode=k), i, w, o)
    c(lambda m, *x: bag(m, *x, max_norm=1.0), i, w.constant(), o)
    c(lambda m, i, w, o, s: bag(m, i, w, o, mode="sum", per_sample_weights=s), i, w, o, c.f64(6))
    c(lambda m, i, w, s: bag(m, i, w, mode="sum", per_sample_weights=s, padding_idx=0), flat, w,
      c.f64(2, 3))  # fmt: skip
    c(lambda m, i, w, o: bag(m, w, i, o), i, c.f32(4, 3), o)
    for dtype in FLOATS:
        c(bag, i, c.of(dtype, 4, 3), o, rtol=2e-2)


def grad_of_sparse_bag(m, i, w, o, **options):
    weight = w.detach().requires_grad_()
    bag(m, i, weight, o, sparse=True, **options).sin().sum().backward()
    return weight.grad.is_sparse, weight.grad.to_dense()


@case("torch.nn.functional.embedding_bag")
def errors_of_bags(c):
    i, w, o = c.exactly([0, 2, 1]), c.f64(4, 3), c.exactly([0, 2])
    flat = c.exactly([[0, 2, 2], [1, 3, 0]])
    c.error(bag, i, w)
    c.error(bag, flat, w, o)
    c.error(bag, c.i64(2, 2, 2, low=0), w)
    c.error(bag, i, w, c.exactly([[0, 1]]))
    c.error(bag, i, w, c.exactly([1, 2]))
    c.error(bag, i, w, c.exactly([0, 4]))
    c.error(bag, c.exactly([0, 4]), w, o)
    c.error(bag, c.exactly([0, -1]), w, o)
    c.error(bag, i, c.f64(4), o)
    c.error(bag, i, c.i64(4, 3), o)
    c.error(lambda m, *x: bag(m, *x, mode="min"), i, w, o)
    c.error(lambda m, *x: bag(m, *x, mode="max", sparse=True), i, w, o)
    c.error(lambda m, *x: bag(m, *x, mode="max", scale_grad_by_freq=True), i, w, o)
    c.error(lambda m, *x: bag(m, *x, padding_idx=4), i, w, o)
    c.error(lambda m, i, w, o, s: bag(m, i, w, o, per_sample_weights=s), i, w, o, c.f64(3))
    c.error(lambda m, i, w, o, s: bag(m, i, w, o, mode="sum", per_sample_weights=s), i, w, o,
            c.f64(2))  # fmt: skip
    c.error(lambda m, i, w, o, s: bag(m, i, w, o, mode="sum", per_sample_weights=s), i, w, o,
            c.f32(3))  # fmt: skip


@case("torch.nn.Embedding")
def embedding_module(c):
    i = c.exactly([[0, 2], [1, 2]])
    module(c, lambda nn: nn.Embedding(4, 3), i)
    module(c, lambda nn: nn.Embedding(4, 3, padding_idx=-2), i)
    module(c, lambda nn: nn.Embedding(4, 3, padding_idx=0, max_norm=0.3, norm_type=1.0), i,
           call=lambda m, made, i: no_grad(m, made, i))  # fmt: skip
    module(c, lambda nn: nn.Embedding(4, 3, scale_grad_by_freq=True), i)
    c(lambda m: repr(m.nn.Embedding(4, 3, sparse=True, max_norm=1, norm_type=3)))
    c(lambda m: m.nn.Embedding(4, 3, padding_idx=1).weight[1])
    c(lambda m, i, w: frozen(m, m.nn.Embedding.from_pretrained(w), i), i, c.f64(4, 3).constant())
    c(lambda m, i, w: m.nn.Embedding.from_pretrained(w, freeze=False, padding_idx=2)(i),
      i, c.f64(4, 3).constant())  # fmt: skip
    c(lambda m, w: m.nn.Embedding(4, 3, _weight=w, _freeze=True).weight, c.f64(4, 3).constant())
    c.random(lambda m: m.nn.Embedding(300, 50).weight.detach())
    c.error(lambda m: m.nn.Embedding(4, 3, padding_idx=4))
    c.error(lambda m: m.nn.Embedding(4, 3, padding_idx=-5))
    c.error(lambda m, w: m.nn.Embedding.from_pretrained(w), c.f32(3))
    c.error(lambda m, w: m.nn.Embedding(4, 3, _weight=w), c.f32(4, 4))
    c.error(lambda m, i: m.nn.Embedding(4, 3)(i), c.exactly([4]))


def frozen(m, made, i):
    return made(i), made.weight.requires_grad, repr(made)


def no_grad(m, made, i):
    with m.no_grad():
        return made(i), made.weight


@case("torch.nn.EmbeddingBag")
def embedding_bag_module(c):
    i, o = c.exactly([0, 2, 1, 2, 0, 3]), c.exactly([0, 2, 2, 5])
    for mode in ("sum", "mean", "max"):
        module(c, lambda nn, k=mode: nn.EmbeddingBag(4, 3, mode=k), i, o)
        module(c, lambda nn, k=mode: nn.EmbeddingBag(4, 3, mode=k, padding_idx=2), i, o)
        module(c, lambda nn, k=mode: nn.EmbeddingBag(4, 3, mode=k, include_last_offset=True), i,
               c.exactly([0, 2, 2, 6]))  # fmt: skip
    module(c, lambda nn: nn.EmbeddingBag(4, 3, mode="sum"), i, o, c.f64(6).constant())
    c(lambda m: repr(m.nn.EmbeddingBag(4, 3, max_norm=1.0, norm_type=3, scale_grad_by_freq=True)))
    c(lambda m, i, o, w: m.nn.EmbeddingBag.from_pretrained(w, False)(i, o),
      i, o, c.f64(4, 3).constant())  # fmt: skip
    c(lambda m, w: m.nn.EmbeddingBag.from_pretrained(w).weight.requires_grad,
      c.f64(4, 3).constant())  # fmt: skip
    c(lambda m: m.nn.EmbeddingBag(4, 3, padding_idx=-1).weight[3])
    c.error(lambda m: m.nn.EmbeddingBag(4, 3, padding_idx=4))
    c.error(lambda m, w: m.nn.EmbeddingBag(4, 3, _weight=w), c.f32(4, 4))
    c.error(lambda m, w: m.nn.EmbeddingBag.from_pretrained(w), c.f32(3))


@case("torch.nn.functional.one_hot")
def one_hot(c):
    def f(*arguments, **options):
        return lambda m, x: m.nn.functional.one_hot(x, *arguments, **options)

    c(f(), c.exactly([[0, 2], [1, 0]]))
    c(f(5), c.exactly([0, 3]))
    c(f(num_classes=3), c.exactly(1))
    c(f(3), c.exactly([], "int64"))
    c.error(f(2), c.exactly([0, 3]))
    c.error(f(), c.exactly([0, -1]))
    c.error(f(), c.exactly([], "int64"))
    c.error(f(0), c.exactly([0, 1]))
    c.error(f(), c.f64(3))
    c.error(f(), c.exactly([0, 1], "int32"))
