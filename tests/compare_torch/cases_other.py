"""Cases of the sections "Other Operations" and "Spectral Ops"."""

import numpy as np
from compare_cases import DTYPES, case


@case("torch.broadcast_tensors")
def broadcast_tensors(c):
    c(lambda m, x, y: m.broadcast_tensors(x, y), c.f64(3, 1), c.f64(4))
    c(lambda m, x: m.broadcast_tensors(x), c.i64(3).seen("strided"))
    c(lambda m, x, y, z: m.broadcast_tensors(x, y, z), c.f32(), c.f32(0, 1), c.i64(3))
    c.error(lambda m, x, y: m.broadcast_tensors(x, y), c.f32(3), c.f32(4))
    c.error(lambda m, x: m.broadcast_tensors(x, 3), c.f32(3))


@case("torch.cross")
def cross(c):
    c(lambda m, x, y: m.cross(x, y, 1), c.f64(2, 3), c.f64(2, 3), gradients=2)
    c(lambda m, x, y: m.cross(x, y), c.f64(3, 4).seen("transposed"), c.f64(3, 4))
    c(lambda m, x, y: m.cross(input=x, other=y, dim=-1), c.f32(4, 3), c.f32(1, 3))
    c(lambda m, x, y, o: m.cross(x, y, 0, out=o), c.f32(3), c.f32(3), c.f32(3))
    c.dtypes(lambda m, x, y: m.cross(x, y, 0), (3,), (3,))
    c.error(lambda m, x, y: m.cross(x, y, 0), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.cross(x, y), c.f32(2, 4), c.f32(2, 4))
    c.error(lambda m, x, y: m.cross(x, y, 2), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.cross(x, y, 1), c.f32(2, 3), c.f32(4, 3))


@case("torch.diag")
def diag(c):
    for diagonal in (0, 1, -1, 2, 5):
        c(lambda m, x, d=diagonal: m.diag(x, d), c.f64(3))
        c.either(lambda m, x, d=diagonal: m.diag(x, d), c.f64(3, 4), gradients=1)
    c(lambda m, x: m.diag(input=x, diagonal=0), c.i64(3, 2).seen("transposed"))
    c(lambda m, x, o: m.diag(x, out=o), c.f32(2), c.f32(2, 2))
    c.dtypes(lambda m, x: m.diag(x), (2,))
    c.error(lambda m, x: m.diag(x), c.f32(2, 2, 2))
    c.error(lambda m, x: m.diag(x), c.f32())


@case("torch.diag_embed")
def diag_embed(c):
    c(lambda m, x: m.diag_embed(x), c.f64(2, 3), gradients=2)
    c(lambda m, x: m.diag_embed(x, 1), c.f64(2, 3).seen("transposed"))
    c(lambda m, x: m.diag_embed(input=x, offset=-2, dim1=0, dim2=2), c.f32(2, 3))
    c.dtypes(lambda m, x: m.diag_embed(x), (2,))
    c.error(lambda m, x: m.diag_embed(x, 0, 0, 0), c.f32(3))
    c.error(lambda m, x: m.diag_embed(x, 0, 0, 3), c.f32(3))


@case("torch.diagflat")
def diagflat(c):
    c(lambda m, x: m.diagflat(x), c.f64(2, 2), gradients=2)
    c(lambda m, x: m.diagflat(x, -1), c.i64(3).seen("strided"))
    c(lambda m, x: m.diagflat(input=x, offset=2), c.f32())
    c(lambda m, x: m.diagflat(x), c.f32(0))


@case("torch.diagonal")
def diagonal(c):
    for arguments in ((), (1,), (-2,), (0, 1, 2), (0, -1, 0), (9,)):
        c.either(
            lambda m, x, a=arguments: m.diagonal(x, *a), c.f64(3, 4, 2), gradients=2, compiled=True
        )
    c(lambda m, x: m.diagonal(input=x, offset=1, dim1=0, dim2=1), c.i64(3, 4).seen("transposed"))
    c.error(lambda m, x: m.diagonal(x), c.f32(3))
    c.error(lambda m, x: m.diagonal(x, 0, 1, 1), c.f32(3, 3))
    c.error(lambda m, x: m.diagonal(x, 0, 0, 2), c.f32(3, 3))


@case("torch.einsum")
def einsum(c):
    c(lambda m, x, y: m.einsum("ij,jk->ik", x, y), c.f64(2, 3), c.f64(3, 4), gradients=2)
    c(lambda m, x, y: m.einsum("ij,jk", [x, y]), c.f64(2, 3).seen("transposed"), c.f64(3, 4))
    for equation, *shapes in (
        *(
            ("ii", (3, 3)),
            ("ii->i", (3, 3)),
            ("ij->ji", (2, 3)),
            ("ij->", (2, 3)),
            ("ij->j", (2, 3)),
        ),
        *(("i,j->ij", (2,), (3,)), ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("i,i->", (3,), (3,))),
        *(("...ij,jk->...ik", (2, 2, 3), (3, 2)), ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2))),
        *(
            (" i j , j k -> i k ", (2, 3), (3, 2)),
            ("Ab,bA->A", (2, 3), (3, 2)),
            ("ij,j", (2, 3), (3,)),
        ),
    ):
        c(lambda m, *x, e=equation: m.einsum(e, *x), *(c.f64(*s) for s in shapes))
    c(lambda m, x: m.einsum("ij->ji", x), c.i64(2, 3))
    for equation in ("ij,jk->il", "ij", "ij,jk,kl->il", "i->ii", "i1->i", "ij,jk-ik", "..i.->i"):
        c.error(lambda m, x, y, e=equation: m.einsum(e, x, y), c.f32(2, 3), c.f32(3, 4))
    c.error(lambda m, x, y: m.einsum("ij,jk->ik", x, y), c.f32(2, 3), c.f32(2, 4))
    c.error(lambda m, x, y: m.einsum("ij,jk->ik", x, y), c.f32(2, 3), c.f64(3, 4))


@case("torch.flatten")
def flatten(c):
    for arguments in ((), (1,), (0, 1), (1, -1), (-2,), (2, 2)):
        c(lambda m, x, a=arguments: m.flatten(x, *a), c.f64(2, 3, 4))
    c(lambda m, x: m.flatten(input=x, start_dim=0, end_dim=1), c.i64(2, 3).seen("transposed"))
    c(lambda m, x: m.flatten(x), c.f32())
    c(lambda m, x: m.flatten(x), c.f32(0, 3))
    c.error(lambda m, x: m.flatten(x, 2, 1), c.f32(2, 3, 4))
    c.error(lambda m, x: m.flatten(x, 3), c.f32(2, 3, 4))
    c.error(lambda m, x: m.flatten(x, 0, -4), c.f32(2, 3, 4))


@case("torch.flip")
def flip(c):
    for dims in ((0,), (0, 1), (-1,), [1, -3], ()):
        c(lambda m, x, d=dims: m.flip(x, d), c.f64(2, 3, 2))
    c.error(lambda m, x: m.flip(x, 0), c.f64(3))
    c(lambda m, x: m.flip(input=x, dims=(0,)), c.i64(4).seen("strided"))
    c.dtypes(lambda m, x: m.flip(x, (0,)), (3,))
    c.error(lambda m, x: m.flip(x, (0, 0)), c.f32(2, 3))
    c.error(lambda m, x: m.flip(x, (2,)), c.f32(2, 3))
    c.error(lambda m, x: m.flip(x), c.f32(2, 3))


@case("torch.roll")
def roll(c):
    for arguments in ((1,), (2, 0), (-1, 1), ((1, 2), (0, 1)), (7, 0), ((1,), (-1,))):
        c(lambda m, x, a=arguments: m.roll(x, *a), c.f64(3, 4))
    c(lambda m, x: m.roll(input=x, shifts=1, dims=0), c.i64(3).seen("strided"))
    c(lambda m, x: m.roll(x, 1, 0), c.f32(0, 2))
    c.dtypes(lambda m, x: m.roll(x, 1), (3,))
    c.error(lambda m, x: m.roll(x, (1, 2), 0), c.f32(2, 3))
    c.error(lambda m, x: m.roll(x, (1, 2)), c.f32(2, 3))
    c.error(lambda m, x: m.roll(x, 1, 2), c.f32(2, 3))
    c.error(lambda m, x: m.roll(x, ()), c.f32(2, 3))


@case("torch.rot90")
def rot90(c):
    for arguments in ((), (2,), (-1,), (1, (1, 2)), (3, [0, -1]), (5,), (0,)):
        c(lambda m, x, a=arguments: m.rot90(x, *a), c.f64(2, 3, 2))
    c(lambda m, x: m.rot90(input=x, k=1, dims=(0, 1)), c.i64(2, 3).seen("transposed"))
    c.error(lambda m, x: m.rot90(x, 1, (0, 0)), c.f32(2, 3))
    c.error(lambda m, x: m.rot90(x, 1, (0, 2)), c.f32(2, 3))
    c.error(lambda m, x: m.rot90(x, 1, (0,)), c.f32(2, 3))
    c.error(lambda m, x: m.rot90(x), c.f32(3))


@case("torch.meshgrid")
def meshgrid(c):
    c(lambda m, x, y: m.meshgrid(x, y), c.f64(2), c.f64(3))
    c(lambda m, x, y, z: m.meshgrid([x, y, z]), c.i64(2), c.i64(), c.i64(3))
    c(lambda m, x, y: m.meshgrid(x, y, indexing="xy"), c.f32(2), c.f32(3).seen("strided"))
    c.error(lambda m, x, y: m.meshgrid(x, y), c.f32(2), c.f32(3, 1))
    c.error(lambda m, x, y: m.meshgrid(x, y), c.f32(2), c.i64(3))
    c.error(lambda m, x: m.meshgrid(x, x, indexing="ab"), c.f32(2))
    c.error(lambda m: m.meshgrid())


@case("torch.renorm")
def renorm(c):
    for p in (1, 2, 3.5):
        c(lambda m, x, p=p: m.renorm(x, p, 0, 2.0), c.f64(3, 4), gradients=1)
    c(lambda m, x: m.renorm(input=x, p=2, dim=-1, maxnorm=1), c.f32(3, 4).seen("transposed"))
    c(lambda m, x, o: m.renorm(x, 2, 0, 1, out=o), c.f32(2, 2), c.f32(2, 2))
    c.either(lambda m, x: m.renorm(x, 2, 0, 1), c.i64(2, 2))
    c.error(lambda m, x: m.renorm(x, 2, 0, 1), c.f32(3))
    c.error(lambda m, x: m.renorm(x, -1, 0, 1), c.f32(3, 2))
    c.error(lambda m, x: m.renorm(x, 2, 0, -1), c.f32(3, 2))
    c.error(lambda m, x: m.renorm(x, 2, 2, 1), c.f32(3, 2))


@case("torch.tensordot")
def tensordot(c):
    c(lambda m, x, y: m.tensordot(x, y), c.f64(2, 3, 4), c.f64(3, 4, 2), gradients=2)
    c(lambda m, x, y: m.tensordot(x, y, 1), c.f64(2, 3).seen("transposed"), c.f64(3, 4))
    c(lambda m, x, y: m.tensordot(x, y, dims=([0, 1], [1, 0])), c.f32(2, 3, 4), c.f32(3, 2))
    c(lambda m, x, y: m.tensordot(x, y, 0), c.f32(2), c.f32(3))
    c(lambda m, x, y: m.tensordot(x, y, ([-1], [0])), c.f32(2, 3), c.f32(3))
    c.error(lambda m, x, y: m.tensordot(x, y, 1), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.tensordot(x, y, -1), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.tensordot(x, y, ([0, 1], [0])), c.f32(2, 3), c.f32(2, 3))
    c.error(lambda m, x, y: m.tensordot(x, y, 1), c.f32(2, 3), c.f64(3, 2))


@case("torch.trace")
def trace(c):
    c(lambda m, x: m.trace(x), c.f64(3, 4), gradients=2)
    c(lambda m, x: m.trace(input=x), c.i64(3, 2).seen("transposed"))
    c(lambda m, x: m.trace(x), c.f32(0, 2))
    c.dtypes(lambda m, x: m.trace(x), (2, 2))
    c.error(lambda m, x: m.trace(x), c.f32(3))
    c.error(lambda m, x: m.trace(x), c.f32(3, 3, 3))


@case("torch.tril", "torch.triu")
def triangles(c, name):
    for diagonal in (0, 1, -1, 4, -4):
        c(lambda m, x, d=diagonal: getattr(m, name)(x, d), c.f64(3, 4))
    c(lambda m, x: getattr(m, name)(input=x, diagonal=0), c.f64(2, 3, 3).seen("transposed"))
    c(lambda m, x, o: getattr(m, name)(x, out=o), c.f32(2, 2), c.f32(2, 2))
    c(lambda m, x: getattr(m, name)(x), c.f32(0, 2))
    c.dtypes(lambda m, x: getattr(m, name)(x), (2, 3))
    c.error(lambda m, x: getattr(m, name)(x), c.f32(3))
    c.error(lambda m, x: getattr(m, name)(x, 0.5), c.f32(3, 3))


@case("torch.affine_grid_generator")
def affine_grid(c):
    for corners in (True, False):
        c(lambda m, x, a=corners: m.affine_grid_generator(x, (2, 1, 3, 4), a), c.f64(2, 2, 3))


# Spectral -----------------------------------------------------------------------------------------


@case("torch.bartlett_window", "torch.blackman_window", "torch.hann_window", "torch.hamming_window")
def windows(c, name):
    f = lambda m, *a, **k: getattr(m, name)(*a, **k)  # noqa: E731
    for length in (0, 1, 2, 5, 8):
        c(lambda m, n=length: f(m, n))
        c(lambda m, n=length: f(m, n, False), compiled=False)
    c(lambda m: f(m, window_length=6, periodic=True))
    c(lambda m: f(m, 6, dtype=m.float64))
    c(lambda m: f(m, 6, requires_grad=True).requires_grad)
    for dtype in DTYPES:
        c.either(lambda m, d=dtype: f(m, 4, dtype=getattr(m, d)))
    if name == "hamming_window":
        c(lambda m: m.hamming_window(5, True, 0.6))
        c(lambda m: m.hamming_window(5, False, alpha=0.5, beta=0.3))
    c.error(lambda m: f(m, -1))
    c.error(lambda m: f(m, 2.5))
    c.error(lambda m: f(m))


def _real(m, complex_):
    return m.view_as_real(complex_.contiguous())


def _pairs(m, x):
    return m.view_as_complex(x.contiguous())


def _last(n):
    return tuple(range(-n, 0))


@case("torch.fft")
def fft(c):
    for n in (1, 2):
        for normalized in (False, True):
            norm = "ortho" if normalized else None
            c(
                lambda m, x, n=n, s=normalized: m.fft(x, n, s),
                c.f64(2, 3, 4, 2),
                reference=lambda m, x, n=n, s=norm: _real(
                    m, m.fft.fftn(_pairs(m, x), dim=_last(n), norm=s)
                ),
            )


@case("torch.ifft")
def ifft(c):
    for n in (1, 2):
        for normalized in (False, True):
            norm = "ortho" if normalized else None
            c(
                lambda m, x, n=n, s=normalized: m.ifft(x, n, s),
                c.f64(2, 3, 4, 2),
                reference=lambda m, x, n=n, s=norm: _real(
                    m, m.fft.ifftn(_pairs(m, x), dim=_last(n), norm=s)
                ),
            )


@case("torch.rfft")
def rfft(c):
    for n in (1, 2):
        for onesided in (False, True):
            c(
                lambda m, x, n=n, o=onesided: m.rfft(x, n, onesided=o),
                c.f64(2, 3, 4),
                reference=lambda m, x, n=n, o=onesided: _real(
                    m, m.fft.rfftn(x, dim=_last(n)) if o else m.fft.fftn(x, dim=_last(n))
                ),
            )
    c(
        lambda m, x: m.rfft(x, 1, True),
        c.f32(5),
        reference=lambda m, x: _real(m, m.fft.rfft(x, norm="ortho")),
    )


@case("torch.irfft")
def irfft(c):
    for n in (1, 2):
        sizes = (3, 5)[-n:]
        c(
            lambda m, x, n=n, s=sizes: m.irfft(x, n, signal_sizes=s),
            c.f64(2, 3, 3, 2),
            reference=lambda m, x, n=n, s=sizes: m.fft.irfftn(_pairs(m, x), s=s, dim=_last(n)),
        )
    c(
        lambda m, x: m.irfft(x, 1, True),
        c.f32(4, 2),
        reference=lambda m, x: m.fft.irfft(_pairs(m, x), norm="ortho"),
    )


@case("torch.stft")
def stft(c):
    signal = c.f64(2, 24)

    def reference(m, x, *arguments, **named):
        return _real(m, m.stft(x, *arguments, return_complex=True, **named))

    for arguments, named in (
        *(((8,), {}), ((8, 4), {}), ((8, 3, 6), {"center": False}), ((8,), {"normalized": True})),
        *(((8,), {"onesided": False}), ((8,), {"pad_mode": "constant"})),
    ):
        c(
            lambda m, x, a=arguments, k=named: m.stft(x, *a, **k),
            signal,
            reference=lambda m, x, a=arguments, k=named: reference(m, x, *a, **k),
        )
    window = c.exactly(np.hanning(8))
    c(
        lambda m, x, w: m.stft(x, 8, window=w.detach()),
        signal,
        window,
        reference=lambda m, x, w: reference(m, x, 8, window=w.detach()),
    )
    c.error(
        lambda m, x: m.stft(x, 30, center=False),
        signal,
        reference=lambda m, x: reference(m, x, 30, center=False),
    )
