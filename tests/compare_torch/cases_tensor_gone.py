"""Cases of methods that PyTorch had and has no more: what took their place is the reference."""

import numpy as np
from compare_cases import case


def regular(c, *batch, n=3):
    """Matrices far from singular."""
    values = c.f64(*batch, n, n).values + 4 * np.eye(n)
    return c.exactly(values)


def positive(c, n=3):
    """A positive definite matrix."""
    values = c.f64(n, n).values
    return c.exactly(values @ values.T + n * np.eye(n))


@case("Tensor.potrf", "Tensor.potri", "Tensor.potrs", "Tensor.pstrf")
def cholesky(c, name):
    x = positive(c)
    if name == "potrf":
        c(lambda m, x: x.potrf(), x, reference=lambda m, x: m.linalg.cholesky(x, upper=True),
          gradients=1)  # fmt: skip
        c(lambda m, x: x.potrf(upper=False), x, reference=lambda m, x: m.linalg.cholesky(x))
        c.error(lambda m, x: x.potrf(), c.f64(2, 3), reference=lambda m, x: m.linalg.cholesky(x))
    elif name == "potri":
        c(lambda m, x: x.triu().potri(), x,
          reference=lambda m, x: m.cholesky_inverse(x.triu(), upper=True))  # fmt: skip
        c(lambda m, x: x.tril().potri(upper=False), x,
          reference=lambda m, x: m.cholesky_inverse(x.tril()))  # fmt: skip
    elif name == "potrs":
        c(lambda m, b, x: b.potrs(x.triu()), c.f64(3, 2), x,
          reference=lambda m, b, x: m.cholesky_solve(b, x.triu(), upper=True))  # fmt: skip
    else:

        def rebuilt(m, x):
            u, pivots = x.pstrf()
            order = pivots.long() - int(pivots.min())
            return (u.t() @ u)[m.argsort(order)][:, m.argsort(order)]

        c(rebuilt, x, reference=lambda m, x: x * 1, gradients=0)


@case("Tensor.gesv", "Tensor.trtrs", "Tensor.gels")
def systems(c, name):
    b = c.f64(3, 2)
    if name == "gesv":
        c(lambda m, b, x: b.gesv(x)[0], b, regular(c),
          reference=lambda m, b, x: m.linalg.solve(x, b), gradients=1)  # fmt: skip
        c.error(lambda m, b, x: b.gesv(x), b, c.f64(2, 2),
                reference=lambda m, b, x: m.linalg.solve(x, b))  # fmt: skip
    elif name == "trtrs":
        for flags in ((), (False,), (True, True), (True, False, True)):
            c(lambda m, b, x, k=flags: b.trtrs(x, *k)[0], b, regular(c),
              reference=lambda m, b, x, k=flags: m.triangular_solve(b, x, *k)[0])  # fmt: skip
    else:
        c(lambda m, b, x: b.gels(x)[0][:3], c.f64(5, 2), c.f64(5, 3), gradients=0,
          reference=lambda m, b, x: m.linalg.lstsq(x, b).solution)  # fmt: skip


@case("Tensor.btrifact", "Tensor.btrifact_with_info", "Tensor.btrisolve")
def batched(c, name):
    def solved(m, b, x):
        return m.linalg.solve(x, b.unsqueeze(-1)).squeeze(-1)

    def f(m, b, x):
        lu, pivots = getattr(x, name if name != "btrisolve" else "btrifact")()[:2]
        return b.btrisolve(lu, pivots)

    c(f, c.f64(2, 3), regular(c, 2), reference=solved, gradients=0)
    c(f, c.f64(1, 3), regular(c, 1), reference=solved, gradients=0)


@case("Tensor.fft", "Tensor.ifft", "Tensor.rfft", "Tensor.irfft")
def transforms(c, name):
    def theirs(m, x, dims, normalized=False):
        norm = "ortho" if normalized else "backward"
        axes = tuple(range(-dims, 0))
        if name == "rfft":
            return m.view_as_real(m.fft.rfftn(x, dim=axes, norm=norm))
        z = m.view_as_complex(x.contiguous())
        if name == "irfft":
            return m.fft.irfftn(z, s=_sizes(z, dims), dim=axes, norm=norm)
        return m.view_as_real(getattr(m.fft, name + "n")(z, dim=axes, norm=norm))

    shape = (3, 4) if name == "rfft" else (3, 4, 2)
    for dims in (1, 2):
        for normalized in (False, True):
            options = {"signal_sizes": _shape(dims)} if name == "irfft" else {}
            c(lambda m, x, d=dims, n=normalized, o=options: getattr(x, name)(d, n, **o),
              c.f64(*shape).constant(),
              reference=lambda m, x, d=dims, n=normalized: theirs(m, x, d, n))  # fmt: skip


def _shape(dims):
    return (3, 6)[-dims:]


def _sizes(z, dims):
    return [*z.shape[-dims:-1], 2 * (z.shape[-1] - 1)]


@case("Tensor.is_distributed", "Tensor.storage_type")
def questions(c, name):
    if name == "is_distributed":
        c(lambda m, x: x.is_distributed(), c.f32(2))
    else:
        c(lambda m, x: isinstance(x.storage(), x.storage_type()), c.f32(2))


@case("Tensor.reinforce")
def reinforce(c):
    def refused(m, x):
        x.reinforce(1.0)

    c.error(refused, c.f32(2))


@case("Tensor.resize", "Tensor.resize_as")
def resized(c, name):
    def f(m, x):
        return x.resize(3, 2) if name == "resize" else x.resize_as(m.zeros(3, 2))

    c(f, c.f32(2, 3))
    c(f, c.f64(2, 3), gradients=1)


@case("Tensor.index")
def index(c):
    """Of 1.0, `x.index((i, j))` is `x[i, j]`."""
    c(lambda m, x: x.index((m.tensor([0, 1]), m.tensor([1, 0]))), c.f64(2, 2), gradients=1,
      reference=lambda m, x: x[m.tensor([0, 1]), m.tensor([1, 0])])  # fmt: skip
