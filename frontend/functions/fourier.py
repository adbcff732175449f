"""Fourier transforms in the form of PyTorch 1.0: complex numbers are pairs, the last dimension.

The last `signal_ndim` (1 to 3) dimensions, not counting the pairs, are transformed; any before them
are a batch. With `normalized` the result is divided by the square root of the number of elements;
without, the inverse transforms are divided by this number. `braze.fft` has the modern forms.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.movement import select
from braze.functions.transforms import complex_transform, from_real, to_real
from braze.ir.dtypes import f32, f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

_AS_REAL, _AS_COMPLEX = call_of(op_named("view_as_real")), call_of(op_named("view_as_complex"))


def _operand(name: str, input: Tensor, ndim: int, pairs: bool) -> tuple[Tensor, tuple[int, ...]]:
    """The operand, of pairs as a complex tensor, and the dimensions to transform."""
    require_tensors(name, input)
    given = input._handle.type
    if given.dtype not in (f32, f64):
        raise DTypeError(f"[{name}] needs float32 or float64, given {given}")
    if pairs:
        if given.shape[-1:] != (2,):
            raise ShapeError(
                f"[{name}] the last dimension must hold real and imaginary part: {given}"
            )
        input = apply(_AS_COMPLEX, input)
    if not 1 <= ndim <= 3 or input.ndim < ndim:
        raise ShapeError(f"[{name}] {ndim} dimensions (1 to 3) to transform of {given}")
    dims = tuple(range(input.ndim - ndim, input.ndim))
    if any(input.shape[d] == 0 for d in dims):
        raise ShapeError(f"[{name}] a dimension to transform is empty: {given}")
    return input, dims


def _norm(normalized: bool) -> str:
    return "ortho" if normalized else "backward"


def _complex(name: str, input: Tensor, ndim: int, normalized: bool, inverse: bool) -> Tensor:
    x, dims = _operand(name, input, ndim, True)
    out = complex_transform(name, x, dims, (-1,) * ndim, _norm(normalized), inverse)
    return apply(_AS_REAL, out)  # type: ignore[no-any-return]


def fft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """The transform of complex numbers [..., n_1, ..., n_d, 2]."""
    return _complex("fft", input, signal_ndim, normalized, False)


def ifft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """The inverse of `fft`."""
    return _complex("ifft", input, signal_ndim, normalized, True)


def rfft(
    input: Tensor, signal_ndim: int, normalized: bool = False, onesided: bool = True
) -> Tensor:
    """The transform of real numbers [..., n_1, ..., n_d] as pairs; if `onesided`, without the
    half of the last dimension that follows from symmetry: [..., n_d // 2 + 1, 2]."""
    x, dims = _operand("rfft", input, signal_ndim, False)
    transform = from_real if onesided else complex_transform
    out = transform("rfft", x, dims, (-1,) * signal_ndim, _norm(normalized), False)
    return apply(_AS_REAL, out)  # type: ignore[no-any-return]


def irfft(
    input: Tensor,
    signal_ndim: int,
    normalized: bool = False,
    onesided: bool = True,
    signal_sizes: Sequence[int] | None = None,
) -> Tensor:
    """The inverse of `rfft`, of what is `onesided` or not.

    Args:
        signal_sizes: [n_1, ..., n_d] of the result; by default the last is taken to be even.

    Raises:
        ShapeError: the sizes do not fit the input.
    """
    if not onesided:
        return select(_complex("irfft", input, signal_ndim, normalized, True), -1, 0)
    x, dims = _operand("irfft", input, signal_ndim, True)
    given = tuple(x.shape[d] for d in dims)
    sizes = tuple(signal_sizes) if signal_sizes else (*given[:-1], 2 * (given[-1] - 1))
    if len(sizes) != signal_ndim or sizes[:-1] != given[:-1]:
        raise ShapeError(f"[irfft] signal sizes {list(sizes)} do not fit {input._handle.type}")
    if sizes[-1] < 1 or sizes[-1] // 2 + 1 != given[-1]:
        raise ShapeError(f"[irfft] {input._handle.type} is not half of a signal of {sizes[-1]}")
    return to_real("irfft", x, dims, sizes, _norm(normalized), True)


# Methods of `Tensor`; the short-time transforms are in `braze.functions.short_time`.
METHODS = "fft ifft rfft irfft".split()
