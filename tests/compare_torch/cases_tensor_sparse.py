"""Cases of the methods of sparse tensors, and of dense ones that lead to them."""

from compare_cases import case


def _made(m, x, *, twice=False):
    """A sparse 3 x 4 tensor with the elements of a vector of three; `twice` at one place."""
    places = [[0, 2, 2], [1, 0, 0]] if twice else [[0, 2, 1], [1, 0, 3]]
    return m.sparse_coo_tensor(m.tensor(places), x, (3, 4))


def _parts(s):
    s = s.coalesce()
    return s.indices(), s.values(), tuple(s.shape)


@case("Tensor.to_sparse", "Tensor.to_dense")
def conversions(c, name):
    c(lambda m, x: _parts((x * (x > 0)).to_sparse()), c.f32(3, 4))
    c(lambda m, x: _parts((x * (x > 0)).to_sparse(1)), c.f32(3, 4).seen("transposed"))
    c(lambda m, x: _parts(x.to_sparse()), c.i64(2, 3))
    c(lambda m, x: x.to_sparse().to_dense(), c.f64(3, 4))
    c(lambda m, x: _made(m, x).to_dense(), c.f64(3), gradients=1)
    c(lambda m, x: _made(m, x, twice=True).to_dense(), c.f32(3))
    c(lambda m, x: x.to_dense(), c.f32(2))
    c.error(lambda m, x: x.to_sparse(3), c.f32(2, 3))


@case("Tensor.coalesce", "Tensor.is_coalesced", "Tensor.indices", "Tensor.values")
def parts(c, name):
    for twice in (False, True):
        c(lambda m, x, t=twice: _parts(_made(m, x, twice=t)), c.f32(3))
        c(lambda m, x, t=twice: _parts(_made(m, x, twice=t)), c.i64(3))
        c(lambda m, x, t=twice: _made(m, x, twice=t).is_coalesced(), c.f32(3))
    c(lambda m, x: _made(m, x).coalesce().is_coalesced(), c.f32(3))
    c(lambda m, x: _made(m, x, twice=True).coalesce().values() * 2, c.f64(3), gradients=1)
    c.error(lambda m, x: getattr(x, name)(), c.f32(3))
    if name in ("indices", "values"):
        c.error(lambda m, x: getattr(_made(m, x), name)(), c.f32(3))


@case("Tensor.sparse_dim", "Tensor.dense_dim")
def dimensions(c, name):
    c(lambda m, x: getattr(_made(m, x), name)(), c.f32(3))
    c(lambda m, x: getattr(x.to_sparse(1), name)(), c.f32(3, 2))
    c(lambda m, x: getattr(x, name)(), c.f32(3, 2))
    c.error(lambda m, x: getattr(_made(m, x), name)(1), c.f32(3))


@case("Tensor.sparse_mask")
def sparse_mask(c):
    c(lambda m, x, y: _parts(x.sparse_mask(_made(m, y).coalesce())), c.f32(3, 4), c.f32(3))
    c(lambda m, x, y: x.sparse_mask(_made(m, y.detach()).coalesce()).to_dense(), c.f64(3, 4),
      c.f64(3).constant(), gradients=1)  # fmt: skip
    c.error(lambda m, x, y: x.sparse_mask(_made(m, y).coalesce()), c.f32(2, 2), c.f32(3))
    c.error(lambda m, x, y: x.sparse_mask(y), c.f32(3), c.f32(3))


@case("Tensor.sparse_resize_", "Tensor.sparse_resize_and_clear_")
def sparse_resize(c, name):
    c(lambda m, x: _parts(getattr(_made(m, x), name)((5, 6), 2, 0)), c.f32(3))
    c(lambda m, x: tuple(getattr(_made(m, x), name)((5, 6), 2, 0).shape), c.i64(3))
    c.error(lambda m, x: getattr(x, name)((5, 6), 2, 0), c.f32(3))
    c.error(lambda m, x: getattr(_made(m, x), name)((5, 6), 1, 0), c.f32(3))
