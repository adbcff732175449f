"""Cases of distances, and of changes of shape."""

from compare_cases import FLOATS, case
from compare_modules import module


@case("torch.nn.functional.pairwise_distance")
def pairwise_distance(c):
    def f(*arguments, **options):
        return lambda m, x, y: m.nn.functional.pairwise_distance(x, y, *arguments, **options)

    x, y = c.f64(3, 4), c.f64(3, 4)
    c(f(), x, y, gradients=2)
    for p in (1.0, 3.0, 0.0, float("inf")):
        c(f(p), x, y, gradients=int(p > 0))
    c(f(2.0, 0.1, True), x, c.f64(4))
    c(f(keepdim=True, eps=0), c.f64(4), c.f64(4))
    c(f(), c.f64(2, 3, 4), c.f64(3, 1))
    c.dtypes(f(), (3, 4), (3, 4), dtypes=FLOATS)
    c.error(f(), x, c.f64(3, 5))
    c.error(lambda m, x: m.nn.functional.pairwise_distance(x, 1.0), x)


@case("torch.nn.functional.cosine_similarity")
def cosine_similarity(c):
    def f(*arguments, **options):
        return lambda m, x, y: m.nn.functional.cosine_similarity(x, y, *arguments, **options)

    x, y = c.f64(3, 4), c.f64(3, 4)
    c(f(), x, y, gradients=2)
    c(f(dim=0), x, y)
    c(f(-1, 0.5), x, c.f64(4))
    c(f(dim=0), c.f64(4), c.f64(4))
    c(f(), c.exactly([[0.0, 0.0]]).constant(), c.exactly([[1.0, 2.0]]).constant())
    c(f(dim=2), c.f64(2, 1, 4), c.f64(1, 3, 4))
    c.dtypes(f(), (3, 4), (3, 4), dtypes=FLOATS)
    c.pairs(f(), (3, 4), (3, 4), left=FLOATS, right=FLOATS, rtol=1e-2)
    c.error(f(), x, c.f64(3, 5))
    c.error(f(dim=2), x, y)
    c.error(f(), c.i64(3, 4), c.i64(3, 4))
    c.error(lambda m, x: m.nn.functional.cosine_similarity(x, 1.0), x)


@case("torch.nn.functional.pdist")
def pdist(c):
    def f(*arguments, **options):
        return lambda m, x: m.nn.functional.pdist(x, *arguments, **options)

    c(f(), c.f64(4, 3))
    for p in (0.0, 1.0, 1.5, 3.0, float("inf")):
        c(f(p), c.f64(4, 3))
    c(f(p=2), c.f64(1, 3))
    c(f(), c.f64(0, 3), gradients=0)  # PyTorch's crashes
    c(f(), c.f64(3, 0), gradients=0)
    c(f(), c.f32(5, 3).seen("strided"))
    c.error(f(), c.f64(3))
    c.error(f(), c.i64(3, 3))
    c.error(f(-1.0), c.f64(3, 3))


@case("torch.nn.PairwiseDistance")
def pairwise_distance_module(c):
    module(c, lambda nn: nn.PairwiseDistance(), c.f64(3, 4), c.f64(3, 4))
    module(c, lambda nn: nn.PairwiseDistance(1, 0.1, True), c.f64(3, 4), c.f64(3, 4))


@case("torch.nn.CosineSimilarity")
def cosine_similarity_module(c):
    module(c, lambda nn: nn.CosineSimilarity(), c.f64(3, 4), c.f64(3, 4))
    module(c, lambda nn: nn.CosineSimilarity(dim=0, eps=0.5), c.f64(3, 4), c.f64(3, 4))


@case("torch.nn.Identity")
def identity(c):
    module(c, lambda nn: nn.Identity(3, bias=False), c.f64(3, 4))
    c(lambda m: m.nn.Identity()("text"))


@case("torch.nn.Flatten")
def flatten(c):
    module(c, lambda nn: nn.Flatten(), c.f64(3, 4, 2))
    module(c, lambda nn: nn.Flatten(0, -2), c.f64(3, 4, 2))
    module(c, lambda nn: nn.Flatten(0), c.f64())
    c.error(lambda m, x: m.nn.Flatten(2, 1)(x), c.f64(3, 4, 2))
    c.error(lambda m, x: m.nn.Flatten(3)(x), c.f64(3, 4, 2))


@case("torch.nn.Unflatten")
def unflatten(c):
    module(c, lambda nn: nn.Unflatten(1, (2, 3)), c.f64(2, 6))
    module(c, lambda nn: nn.Unflatten(-1, [-1, 3]), c.f64(2, 6))
    c.error(lambda m: m.nn.Unflatten(1, 2))
    c.error(lambda m: m.nn.Unflatten(1, (2, 1.5)))
    c.error(lambda m, x: m.nn.Unflatten(1, (4, 2))(x), c.f64(2, 6))
    c.error(lambda m, x: m.nn.Unflatten(2, (4, 2))(x), c.f64(2, 6))
