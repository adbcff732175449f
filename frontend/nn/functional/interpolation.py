"""`interpolate`: images, signals and volumes at another size, and the older names for it."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.autograd.modes import inference_mode
from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.movement import clone
from braze.functions.pointwise import UNARY, add, clamp
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, f32, f64, u8
from braze.ir.op import op_named
from braze.nn.functional import resampling_tables as tables
from braze.nn.functional.adaptive_pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from braze.placing import array_on
from braze.tensors import Tensor, apply

Numbers = tuple[Any, ...]

POOLS: dict[int, Callable[..., Tensor]] = {
    3: adaptive_avg_pool1d,
    4: adaptive_avg_pool2d,
    5: adaptive_avg_pool3d,
}
# Mode -> (kind of table, ranks of the input).
MODES = {
    "nearest": ("nearest", (3, 4, 5)),
    "nearest-exact": ("nearest-exact", (3, 4, 5)),
    "linear": ("linear", (3,)),
    "bilinear": ("linear", (4,)),
    "trilinear": ("linear", (5,)),
    "bicubic": ("cubic", (4,)),
    "lanczos": ("lanczos", (4,)),
}
_NAMES = "nearest | linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact"


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input at another size: one number for all spatial dimensions, or one for each.

    Shape: [N, C, L], [N, C, H, W] or [N, C, D, H, W] to the same with other spatial sizes.

    Args:
        size, scale_factor: exactly one of them; the size for a factor is rounded down.
        mode: "nearest", "nearest-exact", "area", "linear" (3-D), "bilinear", "bicubic", "lanczos"
            (4-D) or "trilinear" (5-D).
        align_corners: whether the centres of the corner elements are put on each other (True), or
            the corners' outer edges (False, the default); not for "nearest" and "area".
        recompute_scale_factor: compute with the ratio of the sizes in place of the given factor.
        antialias: where the image shrinks, average over what lies between results ("bilinear",
            "bicubic"; "lanczos" does so always).

    Raises:
        ValueError: contradictory arguments, or a wrong number of sizes. TypeError: sizes that are
            not integers. NotImplementedError: the mode does not fit the rank or dtype.
            RuntimeError: an empty size.

    Example:
        >>> import braze
        >>> x = braze.tensor([[[1.0, 2.0]]])
        >>> braze.nn.functional.interpolate(x, scale_factor=2, mode="linear").tolist()
        [[[1.0, 1.25, 1.75, 2.0]]]
    """
    require_tensors("interpolate", input=input)
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear "
            "| bicubic | trilinear"
        )
    output, scales = _sizes(input, size, scale_factor)
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if antialias and (mode not in ("bilinear", "bicubic", "lanczos") or input.ndim != 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires "
            "a 4-D tensor as input"
        )
    _check_dtype(input, mode)
    if mode == "area" and input.ndim in POOLS:
        return POOLS[input.ndim](input, output)
    _check_mode(input, mode, bool(align_corners), antialias)
    _check_sizes(input, output)
    if recompute_scale_factor or scales is None:
        scales = (None,) * len(output)
    return _resampled(input, output, scales, mode, bool(align_corners), antialias)


def _sizes(input: Tensor, size: Any, scale_factor: Any) -> tuple[tuple[int, ...], Numbers | None]:
    """The sizes of the result, and the factors where these are given."""
    spatial = input.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    given = size if size is not None else scale_factor
    numbers = tuple(given) if isinstance(given, (list, tuple)) else (given,) * max(spatial, 0)
    if len(numbers) != spatial:
        what = "output size" if size is not None else "scale_factor"
        raise ValueError(
            f"Input and {what} must have the same number of spatial dimensions, but got input with "
            f"spatial dimensions of {list(input.shape[2:])} and {what} of {given}."
        )
    if size is None:
        pairs = zip(input.shape[2:], numbers, strict=True)
        return tuple(int(n * float(scale)) for n, scale in pairs), numbers
    try:
        return tuple(operator.index(n) for n in numbers), None
    except TypeError:
        kinds = [type(n).__name__ for n in numbers]
        raise TypeError(
            f"expected size to be an int or a tuple of ints, but got size with types {kinds}"
        ) from None


def _check_mode(input: Tensor, mode: str, align_corners: bool, antialias: bool) -> None:
    rank = input.ndim
    if mode == "lanczos" and rank == 4:
        if align_corners:
            raise ValueError("Lanczos mode does not support align_corners=True")
        if not antialias:
            raise ValueError("Lanczos mode requires antialias=True")
    if mode in MODES and rank in MODES[mode][1]:
        return
    if mode in ("linear", "bilinear", "trilinear") and rank in (3, 4, 5):
        raise NotImplementedError(
            f"Got {rank}D input, but {mode} mode needs {MODES[mode][1][0]}D input"
        )
    raise NotImplementedError(
        f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {rank}D) for the modes: "
        f"{_NAMES} (got {mode})"
    )


def _check_dtype(input: Tensor, mode: str) -> None:
    """Images may be uint8, which signals and volumes are only for "nearest"."""
    allowed = mode in ("nearest", "nearest-exact") or mode != "area" and input.ndim == 4
    if not input.dtype.is_floating_point and not (allowed and input.dtype is u8):
        raise NotImplementedError(f'"interpolate" ({mode}) not implemented for {input.dtype!r}')


def _check_sizes(input: Tensor, output: tuple[int, ...]) -> None:
    if min((*input.shape[2:], *output)) < 1:
        raise RuntimeError(
            "Input and output sizes should be greater than 0, but got input "
            f"{list(input.shape[2:])} output {list(output)}"
        )
    if input.shape[1] == 0:
        raise RuntimeError(
            "Non-empty data tensor expected (only the batch may be empty), but got a tensor with "
            f"sizes {list(input.shape)}"
        )


# Tables -------------------------------------------------------------------------------------------


def _resampled(
    input: Tensor,
    output: tuple[int, ...],
    scales: Numbers,
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> Tensor:
    kind = MODES[mode][0]
    whole = input.dtype is u8
    wide = f64 if input.dtype is f64 else f32
    x, place = cast(input, wide), input._handle.type.device
    sizes = tuple(input.shape[2:])
    # What shrinks goes first, of equal ones the last dimension: less is left for the others. Whole
    # numbers are rounded after each dimension, so their order matters.
    order = sorted(range(len(output)), key=lambda d: (0 if whole else output[d] / sizes[d], -d))
    for d in order:
        scale = None if scales[d] is None else float(scales[d])
        made = _tables(kind, sizes[d], output[d], align_corners, scale, antialias, wide, place)
        if made is None:
            continue
        x = apply(call_of(op_named("resample"), dim=d + 2), x, *made)
        if whole:
            x = clamp(UNARY["floor"](add(x, 0.5)), 0, 255)
    return clone(input) if x is input else cast(x, input.dtype)


@functools.lru_cache(maxsize=256)
def _tables(
    kind: str,
    size: int,
    output: int,
    align_corners: bool,
    scale: float | None,
    antialias: bool,
    dtype: DType,
    place: str,
) -> tuple[Tensor, ...] | None:
    """Operands of `resample` after its first; None where it would change nothing.

    They depend on settings alone, so the tensors are made once, and outside `inference_mode`, for
    what is made there may not be kept for a backward pass.
    """
    if kind.startswith("nearest"):
        table = tables.nearest(size, output, scale, kind == "nearest-exact", dtype is f64)
    elif antialias:
        table = tables.antialiased(kind, size, output, align_corners, scale)
    elif kind == "cubic":
        table = tables.cubic(size, output, align_corners, scale)
    else:
        table = tables.linear(size, output, align_corners, scale)
    if size == output and (antialias or tables.is_identity(table, size)):
        return None
    arrays = (*tables.all_places(table), *tables.all_places(tables.adjoint(table, size)))
    kinds = (np.dtype(np.int32), dtype.numpy) * 2
    with inference_mode(False):
        return tuple(array_on(place, a.astype(k)) for a, k in zip(arrays, kinds, strict=True))


# Older names --------------------------------------------------------------------------------------


def _deprecated(name: str) -> None:
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.",
        stacklevel=3,
    )


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` by its old name."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "nearest"."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "bilinear" and aligned corners."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)
