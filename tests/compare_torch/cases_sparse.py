"""Cases of functions of sparse tensors; their results are compared as dense ones."""

from compare_cases import case


def coo(m, indices, values, size=(3, 4), **named):
    return m.sparse_coo_tensor(indices, values, size, **named)


def places(c):
    return c.exactly([[0, 1, 2, 0], [1, 3, 0, 1]])


@case("torch.sparse_coo_tensor")
def sparse_coo_tensor(c):
    for dtype in ("float64", "float32", "int64"):
        c(lambda m, i, v: coo(m, i, v).to_dense(), places(c), c.of(dtype, 4))
    c(lambda m, i, v: m.sparse_coo_tensor(i, v).to_dense(), places(c), c.f64(4))
    c(lambda m, i, v: m.sparse_coo_tensor(indices=i, values=v, size=(3, 4, 2)).to_dense(),
      *(places(c), c.f32(4, 2)))  # fmt: skip
    c(lambda m: m.sparse_coo_tensor([[0, 1]], [1.0, 2.5], (3,), dtype=m.float64).to_dense())
    c(lambda m, i, v: coo(m, i, v).shape, places(c), c.f32(4))
    c(lambda m, i, v: coo(m, i, v).is_sparse, places(c), c.f32(4))
    c.error(lambda m, i, v: coo(m, i, v), places(c), c.f32(3))
    c.error(lambda m, i, v: coo(m, i, v), c.exactly([[0, 1]]), c.f32(2))


@case("torch.hspmm", "torch.smm")
def sparse_products(c, name):
    f = lambda m, i, v, y: getattr(m, name)(coo(m, i, v), y).to_dense()  # noqa: E731
    c(f, places(c), c.f64(4), c.f64(4, 2), gradients=0)
    c(f, places(c), c.f32(4), c.f32(4, 2).seen("transposed"))
    c.error(f, places(c), c.f32(4), c.f32(3, 2))


@case("torch.sspaddmm")
def sspaddmm(c):
    def f(m, i, x, v, y, **named):
        return m.sspaddmm(coo(m, i, x, (3, 2)), coo(m, i, v), y, **named).to_dense()

    small = c.exactly([[0, 1, 2, 0], [1, 0, 0, 1]])
    c(f, small, c.f64(4), c.f64(4), c.f64(4, 2), gradients=0)
    c(lambda m, *x: f(m, *x, beta=2, alpha=0.5), small, c.f32(4), c.f32(4), c.f32(4, 2))
