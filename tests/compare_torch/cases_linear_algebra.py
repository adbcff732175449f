"""Cases of the section "BLAS and LAPACK Operations"."""

import numpy as np
from compare_cases import Array, case

DTYPES = ("float64", "float32", "bfloat16", "float16", "int64", "uint8", "bool")


def products(c, name, first, second):
    """What products of two operands have in common."""

    def f(m, x, y, **named):
        return getattr(m, name)(x, y, **named)

    c(f, c.f64(*first), c.f64(*second), gradients=2)
    c(f, c.f32(*first).seen("transposed"), c.f32(*second).seen("strided"))
    c(f, c.i64(*first), c.i64(*second))
    c(f, c.f32(*(0 for _ in first)), c.f32(*(0 for _ in second)))
    result = np.empty(first) @ np.empty(second) if name in ("mm", "mv", "bmm", "matmul") else None
    if result is not None:
        c(lambda m, x, y, o: f(m, x, y, out=o), c.f32(*first), c.f32(*second), c.f32(*result.shape))
    for dtype in DTYPES:
        c.either(f, c.of(dtype, *first, low=1, high=2), c.of(dtype, *second, low=1, high=2))
    c.error(f, c.f32(*first), c.f64(*second))
    c.error(f, c.f32(*first), c.f32(*(size + 1 for size in second)))
    c.error(lambda m, x: f(m, x, 2.0), c.f32(*first))
    c.error(lambda m, x: getattr(m, name)(x), c.f32(*first))


@case("torch.mm")
def mm(c):
    products(c, "mm", (2, 3), (3, 4))
    c(lambda m, x, y: m.mm(input=x, mat2=y), c.f32(2, 3), c.f32(3, 1))
    c(lambda m, x, y: m.mm(x, y), c.f32(2, 0), c.f32(0, 3))
    c.error(lambda m, x, y: m.mm(x, y), c.f32(2, 3), c.f32(3))
    c.error(lambda m, x, y: m.mm(x, y), c.f32(2, 2, 2), c.f32(2, 2))


@case("torch.mv")
def mv(c):
    products(c, "mv", (2, 3), (3,))
    c(lambda m, x, y: m.mv(input=x, vec=y), c.f32(2, 3), c.f32(3))
    c.error(lambda m, x, y: m.mv(x, y), c.f32(2, 3), c.f32(3, 1))


@case("torch.bmm")
def bmm(c):
    products(c, "bmm", (2, 3, 4), (2, 4, 2))
    c(lambda m, x, y: m.bmm(input=x, mat2=y), c.f32(2, 3, 0), c.f32(2, 0, 2))
    c.error(lambda m, x, y: m.bmm(x, y), c.f32(1, 3, 4), c.f32(2, 4, 2))
    c.error(lambda m, x, y: m.bmm(x, y), c.f32(3, 4), c.f32(4, 2))


@case("torch.matmul")
def matmul(c):
    products(c, "matmul", (2, 3), (3, 4))
    for first, second in (
        *(((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 2, 3), (3, 2)), ((2, 2, 3), (3,))),
        *(((3,), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((1, 2, 3), (4, 3, 2)), ((0, 2), (2, 3))),
    ):
        c(lambda m, x, y: m.matmul(x, y), c.f64(*first), c.f64(*second))
    c.error(lambda m, x, y: m.matmul(x, y), c.f32(), c.f32(3))
    c.error(lambda m, x, y: m.matmul(x, y), c.f32(2, 2, 3), c.f32(3, 3, 2))


@case("torch.dot")
def dot(c):
    products(c, "dot", (4,), (4,))
    c(lambda m, x, y: m.dot(input=x, tensor=y), c.f32(3), c.f32(3))
    c.error(lambda m, x, y: m.dot(x, y), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.dot(x, y), c.f32(), c.f32())


@case("torch.ger")
def ger(c):
    c(lambda m, x, y: m.ger(x, y), c.f64(2), c.f64(3), gradients=2)
    c(lambda m, x, y: m.ger(input=x, vec2=y), c.i64(2).seen("strided"), c.i64(0))
    c(lambda m, x, y, o: m.ger(x, y, out=o), c.f32(2), c.f32(3), c.f32(2, 3))
    c.pairs(lambda m, x, y: m.ger(x, y), (2,), (3,))
    c.error(lambda m, x, y: m.ger(x, y), c.f32(2, 2), c.f32(3))
    c.error(lambda m, x: m.ger(x, 2.0), c.f32(2))


ADDED = {
    "addmm": ((2, 4), (2, 3), (3, 4)),
    "addmv": ((2,), (2, 3), (3,)),
    "addr": ((2, 3), (2,), (3,)),
    "addbmm": ((3, 2), (2, 3, 4), (2, 4, 2)),
    "baddbmm": ((2, 3, 2), (2, 3, 4), (2, 4, 2)),
}


@case(*(f"torch.{name}" for name in ADDED))
def added(c, name):
    def f(m, *x, **named):
        return getattr(m, name)(*x, **named)

    def operands(dtype="float64"):
        return [c.of(dtype, *shape) for shape in ADDED[name]]

    target, first, second = operands("float32")
    c(f, *operands(), gradients=2)
    c(lambda m, *x: f(m, *x, beta=0.5, alpha=2), *operands())
    c(lambda m, *x: f(m, *x, beta=2, alpha=3), *operands("int64"))
    c(f, target.seen("transposed"), first.seen("transposed"), second.seen("strided"))
    c(f, c.f32(ADDED[name][0][-1]), first, second)
    c(f, c.f64(), *operands()[1:])
    c(lambda m, x, y, z, o: f(m, x, y, z, out=o), target, first, second, target)
    c(
        lambda m, *x: f(m, *x, beta=0),
        Array(np.full_like(target.values, np.nan), "float32"),
        first,
        second,
    )
    for dtype in DTYPES:
        c.either(f, *operands(dtype))
    c.either(lambda m, *x: f(m, *x, beta=0.5), *operands("int64"))
    if name != "addr":
        c.error(f, target, first, Array(second.values, "float64", leaf=False))
    c.error(f, c.f32(7), first, second)
    c.error(f, target, second.to("float32"), c.f32(*(9 for _ in second.values.shape)))
    c.error(lambda m, x, y: f(m, x, y), target, first)
    c.error(lambda m, x, y: f(m, 2.0, x, y), first, second)


@case("torch.addmv_")
def addmv_(c):
    c(lambda m, x, y, z: m.addmv_(x, y, z), c.f32(2), c.f32(2, 3), c.f32(3))
    c(lambda m, x, y, z: m.addmv_(x * 1, y, z, beta=0.5, alpha=2), c.f64(2), c.f64(2, 3), c.f64(3))
    c.error(lambda m, x, y, z: m.addmv_(x, y, z), c.f32(3), c.f32(2, 3), c.f32(3))


@case("torch.chain_matmul")
def chain_matmul(c):
    c(lambda m, *x: m.chain_matmul(*x), c.f64(2, 3), c.f64(3, 4), c.f64(4, 1), gradients=2)
    c(lambda m, *x: m.chain_matmul(*x), c.f32(2, 3), c.f32(3, 4))
    c(lambda m, x: m.chain_matmul(x), c.f32(2, 3))
    c.error(lambda m, *x: m.chain_matmul(*x), c.f32(2, 3), c.f32(2, 4))
    c.error(lambda m, *x: m.chain_matmul(*x), c.f32(2, 3, 1), c.f32(3, 4))
    c.error(lambda m: m.chain_matmul())


@case("torch.matrix_power")
def matrix_power(c):
    for n in (0, 1, 2, 5, -1, -2):
        c(lambda m, x, n=n: m.matrix_power(x, n), regular(c, 3), gradients=1 if n else 0)
    c(lambda m, x: m.matrix_power(input=x, n=3), c.f32(2, 2, 2, low=0, high=1))
    c.error(lambda m, x: m.matrix_power(x, 2), c.f32(2, 3))
    c.error(lambda m, x: m.matrix_power(x, 2), c.f32(3))
    c.error(lambda m, x: m.matrix_power(x, 1.5), c.f32(2, 2))
    c.error(lambda m, x: m.matrix_power(x, 2), c.i64(3))


# Factorizations and solvers -----------------------------------------------------------------------


def regular(c, n, *batch, dtype="float64"):
    """A matrix far from being singular."""
    values = c.generator.uniform(-1, 1, (*batch, n, n)) + 3 * np.eye(n)
    return Array(values, dtype)


def positive(c, n, *batch, dtype="float64"):
    """A symmetric positive definite matrix."""
    values = c.generator.uniform(-1, 1, (*batch, n, n))
    return Array(values @ np.swapaxes(values, -1, -2) + n * np.eye(n), dtype)


def singular():
    return Array(np.array([[1.0, 2.0], [2.0, 4.0]]), "float64")


@case("torch.inverse")
def inverse(c):
    c(lambda m, x: m.inverse(x), regular(c, 3), gradients=2)
    c(lambda m, x: m.inverse(input=x), regular(c, 2, 2, dtype="float32").seen("transposed"))
    c(lambda m, x: m.inverse(x), c.f32(0, 0))
    c(lambda m, x, o: m.inverse(x, out=o), regular(c, 2, dtype="float32"), c.f32(2, 2))
    c.error(lambda m, x: m.inverse(x), c.f32(2, 3))
    c.error(lambda m, x: m.inverse(x), c.f32(3))
    c.error(lambda m, x: m.inverse(x), singular().constant())
    c.error(lambda m, x: m.inverse(x), c.i64(2, 2))


@case("torch.det", "torch.logdet", "torch.slogdet")
def det(c, name):
    f = lambda m, x: getattr(m, name)(x)  # noqa: E731
    c(f, positive(c, 3), gradients=2)
    c(f, regular(c, 2, 2, dtype="float32").seen("transposed"))
    c(f, Array(-positive(c, 3).values, "float64"), gradients=0)
    c(f, c.f32(0, 0))
    c(f, singular(), gradients=0)
    c(lambda m, x: getattr(m, name)(input=x), regular(c, 2, dtype="float32"))
    c.error(f, c.f32(2, 3))
    c.error(f, c.f32(3))
    c.error(f, c.i64(2, 2))


@case("torch.cholesky")
def cholesky(c):
    c(lambda m, x: m.cholesky(x), positive(c, 3), gradients=1)
    c(lambda m, x: m.cholesky(x, True), positive(c, 3))
    c(lambda m, x: m.cholesky(input=x, upper=False), positive(c, 2, 2, dtype="float32"))
    c(lambda m, x, o: m.cholesky(x, out=o), positive(c, 2, dtype="float32"), c.f32(2, 2))
    c.error(lambda m, x: m.cholesky(x), c.f32(2, 3))
    c.error(lambda m, x: m.cholesky(x), Array(-np.eye(2), "float32"))


@case("torch.potrf")
def potrf(c):
    c(
        lambda m, x: m.potrf(x),
        positive(c, 3),
        reference=lambda m, x: m.linalg.cholesky(x, upper=True),
    )
    c(lambda m, x: m.potrf(x, False), positive(c, 3), reference=lambda m, x: m.linalg.cholesky(x))
    c(lambda m, x: m.potrf(a=x, upper=False), positive(c, 3, dtype="float32"),
      reference=lambda m, x: m.linalg.cholesky(x))  # fmt: skip
    c.error(lambda m, x: m.potrf(x), c.f32(2, 3), reference=lambda m, x: m.linalg.cholesky(x))


@case("torch.potri")
def potri(c):
    c(lambda m, x: m.potri(x), positive(c, 3), gradients=0,
      reference=lambda m, x: m.cholesky_inverse(x, upper=True))  # fmt: skip
    c(lambda m, x: m.potri(x, upper=False), positive(c, 3, dtype="float32"),
      reference=lambda m, x: m.cholesky_inverse(x))  # fmt: skip


@case("torch.potrs")
def potrs(c):
    right = c.f64(3, 2)
    c(lambda m, b, x: m.potrs(b, x.triu()), right, positive(c, 3),
      reference=lambda m, b, x: m.cholesky_solve(b, x.triu(), upper=True))  # fmt: skip
    c(lambda m, b, x: m.potrs(b, x.tril(), upper=False), right, positive(c, 3),
      reference=lambda m, b, x: m.cholesky_solve(b, x.tril()))  # fmt: skip


@case("torch.pstrf")
def pstrf(c):
    def rebuilt(m, x, upper):
        u, pivots = m.pstrf(x, upper)
        factor = u if upper else u.t()
        order = pivots.long() - int(pivots.min())
        inverse = m.argsort(order)
        return (factor.t().matmul(factor))[inverse][:, inverse]

    for upper in (True, False):
        c(
            lambda m, x, u=upper: rebuilt(m, x, u),
            positive(c, 4),
            gradients=0,
            reference=lambda m, x: x * 1,
        )


@case("torch.qr")
def qr(c):
    for shape in ((4, 3), (3, 4), (3, 3), (2, 4, 3)):
        c(lambda m, x: m.qr(x), c.f64(*shape), gradients=1 if shape[-2] >= shape[-1] else 0)
        c(lambda m, x: m.qr(x, False), c.f64(*shape), gradients=0)
    c(lambda m, x: m.qr(input=x, some=True), c.f32(4, 3).seen("transposed"))
    c.error(lambda m, x: m.qr(x), c.f32(3))
    c.error(lambda m, x: m.qr(x), c.i64(3, 3))


@case("torch.geqrf")
def geqrf(c):
    c(lambda m, x: m.geqrf(x), c.f64(4, 3), gradients=0)
    c(lambda m, x: m.geqrf(input=x), c.f32(3, 4))
    c.error(lambda m, x: m.geqrf(x), c.f32(3))


@case("torch.orgqr")
def orgqr(c):
    c(lambda m, x: m.orgqr(*m.geqrf(x)), c.f64(4, 3), gradients=0)
    c(lambda m, x: m.orgqr(*m.geqrf(x)), c.f32(3, 3))
    c.error(lambda m, x, t: m.orgqr(x, t), c.f32(3), c.f32(3))
    c.error(lambda m, x, t: m.orgqr(x, t), c.f32(3, 3), c.f32(4))


@case("torch.ormqr")
def ormqr(c):
    for left in (True, False):
        for transpose in (True, False):
            c(
                lambda m, x, y, s=left, t=transpose: m.ormqr(*m.geqrf(x), y, s, t),
                *(c.f64(3, 3), c.f64(3, 2) if left else c.f64(2, 3)),
                gradients=0,
            )
    c.error(lambda m, x, y: m.ormqr(*m.geqrf(x), y), c.f32(3, 3), c.f32(2, 3))


@case("torch.svd")
def svd(c):
    def rebuilt(m, x, some=True):
        u, s, v = m.svd(x, some=some)
        k = s.shape[-1]
        return (
            (u[..., :k] * s[..., None, :]).matmul(v[..., :k].transpose(-1, -2)),
            s,
            u.shape,
            v.shape,
        )

    for shape in ((3, 4), (4, 3), (2, 3, 3)):
        c(rebuilt, c.f64(*shape))
        c(lambda m, x: rebuilt(m, x, False), c.f64(*shape), gradients=0)
        c(lambda m, x: m.svd(x).S, c.f64(*shape), gradients=1)
    c(lambda m, x: m.svd(x, compute_uv=False), c.f32(3, 4), atol=1e-5)
    c.error(lambda m, x: m.svd(x), c.f32(3))
    c.error(lambda m, x: m.svd(x), c.i64(3, 3))


@case("torch.symeig")
def symeig(c):
    def values(m, x, upper=True):
        return m.linalg.eigvalsh(x, UPLO="U" if upper else "L")

    c(lambda m, x: m.symeig(x)[0], positive(c, 3), reference=values)
    c(lambda m, x: m.symeig(x, upper=False).eigenvalues, c.f64(3, 3),
      reference=lambda m, x: values(m, x, False))  # fmt: skip
    c(
        lambda m, x: m.symeig(x)[1],
        positive(c, 3),
        gradients=0,
        reference=lambda m, x: m.zeros(0).double(),
    )

    def rebuilt(m, x):
        w, v = m.symeig(x, eigenvectors=True)
        return (v * w).matmul(v.t()), w

    c(rebuilt, positive(c, 4), reference=lambda m, x: (x * 1, values(m, x)), gradients=0)
    c.error(lambda m, x: m.symeig(x), c.f32(2, 3), reference=values)


@case("torch.eig")
def eig(c):
    def pairs(m, x):
        w = m.view_as_real(m.linalg.eigvals(x))
        return w[m.argsort(w[:, 0] * 100 + w[:, 1])]

    def ours(m, x):
        w = m.eig(x)[0]
        return w[m.argsort(w[:, 0] * 100 + w[:, 1])]

    c(ours, c.f64(4, 4), gradients=0, reference=pairs)
    c(ours, positive(c, 3, dtype="float32"), reference=pairs)

    def residual(m, x):
        w, v = m.eig(x, eigenvectors=True)
        return x.matmul(v) - v * w[:, 0]

    c(residual, positive(c, 3), gradients=0, reference=lambda m, x: x * 0)
    c.error(lambda m, x: m.eig(x), c.f32(2, 3), reference=pairs)


@case("torch.pinverse")
def pinverse(c):
    c(lambda m, x: m.pinverse(x), c.f64(3, 4))
    c(lambda m, x: m.pinverse(x), c.f64(4, 3).seen("transposed"))
    c(lambda m, x: m.pinverse(input=x, rcond=1e-2), c.f32(3, 3))
    c(lambda m, x: m.pinverse(x), c.exactly([[1.0, 2.0], [2.0, 4.0]]), gradients=0)
    c.error(lambda m, x: m.pinverse(x), c.f32(3))


@case("torch.matrix_rank")
def matrix_rank(c):
    def rank(m, x, **named):
        return m.linalg.matrix_rank(x, **named)

    c(lambda m, x: m.matrix_rank(x), c.f64(3, 4), gradients=0, reference=rank)
    c(lambda m, x: m.matrix_rank(x), singular(), gradients=0, reference=rank)
    c(
        lambda m, x: m.matrix_rank(x, 10.0),
        c.f32(3, 3),
        reference=lambda m, x: rank(m, x, atol=10.0),
    )
    c(lambda m, x: m.matrix_rank(x, symmetric=True), positive(c, 3), gradients=0, reference=rank)
    c.error(lambda m, x: m.matrix_rank(x), c.f32(3), reference=rank)


@case("torch.gesv")
def gesv(c):
    def solved(m, b, x):
        return m.linalg.solve(x, b), m.linalg.lu_factor(x)[0]

    f = lambda m, b, x: tuple(m.gesv(b, x))  # noqa: E731
    c(f, c.f64(3, 2), regular(c, 3), reference=solved, gradients=0)
    c(lambda m, b, x: m.gesv(b, x)[0], c.f64(3, 2), regular(c, 3),
      reference=lambda m, b, x: m.linalg.solve(x, b), gradients=2)  # fmt: skip
    c(f, c.f32(2, 3, 1), regular(c, 3, 2, dtype="float32"), reference=solved)
    c.error(f, c.f32(3, 2), c.f32(2, 3), reference=solved)
    c.error(f, c.f64(2, 1), singular().constant(), reference=solved)


@case("torch.trtrs")
def trtrs(c):
    def solved(m, b, x, upper=True, transpose=False, unitriangular=False):
        return tuple(m.triangular_solve(b, x, upper, transpose, unitriangular))

    c(lambda m, b, x: tuple(m.trtrs(b, x)), c.f64(3, 2), regular(c, 3), reference=solved)
    for flags in ((False,), (True, True), (False, True), (True, False, True)):
        c(lambda m, b, x, k=flags: tuple(m.trtrs(b, x, *k)), c.f64(3, 2), regular(c, 3),
          reference=lambda m, b, x, k=flags: solved(m, b, x, *k))  # fmt: skip
    c.error(lambda m, b, x: m.trtrs(b, x), c.f32(3, 2), c.f32(2, 3), reference=solved)


@case("torch.gels")
def gels(c):
    c(lambda m, b, x: m.gels(b, x)[0][:3], c.f64(5, 2), c.f64(5, 3), gradients=0,
      reference=lambda m, b, x: m.linalg.lstsq(x, b).solution)  # fmt: skip
    c(lambda m, b, x: m.gels(b, x)[0], c.f64(3, 2), c.f64(3, 5), gradients=0,
      reference=lambda m, b, x: m.linalg.lstsq(x, b).solution)  # fmt: skip
    c.error(lambda m, b, x: m.gels(b, x), c.f32(3, 2), c.f32(4, 2),
            reference=lambda m, b, x: m.linalg.lstsq(x, b))  # fmt: skip


@case("torch.btrifact", "torch.btrifact_with_info")
def btrifact(c, name):
    def factored(m, x, pivot=True):
        found = m.linalg.lu_factor_ex(x)
        return tuple(found) if name.endswith("info") else tuple(found)[:2]

    c(lambda m, x: tuple(getattr(m, name)(x)), regular(c, 3, 2), reference=factored, gradients=0)
    c(
        lambda m, x: tuple(getattr(m, name)(x)),
        regular(c, 2, 1, dtype="float32"),
        reference=factored,
    )
    c.error(lambda m, x: getattr(m, name)(x), c.f32(3), reference=factored)


@case("torch.btrisolve")
def btrisolve(c):
    c(
        lambda m, b, x: m.btrisolve(b, *m.btrifact(x)[:2]),
        *(c.f64(2, 3), regular(c, 3, 2)),
        reference=lambda m, b, x: m.linalg.solve(x, b.unsqueeze(-1)).squeeze(-1),
        gradients=0,
    )


@case("torch.btriunpack")
def btriunpack(c):
    c(
        lambda m, x: tuple(m.btriunpack(*m.btrifact(x)[:2])),
        regular(c, 3, 2),
        reference=lambda m, x: tuple(m.linalg.lu(x)),
        gradients=0,
    )
