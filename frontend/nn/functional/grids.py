"""Sampling at the places that a grid names (spatial transformers, Jaderberg et al., arXiv
1506.02025).

For each dimension a result has a few taps: neighbours of its place, with a weight and, where what
lies outside is zero, the question whether they lie inside. Places and weights are combined over the
dimensions, and all taps are read by one gather and summed, so that there is one large kernel, and
in the backward pass one scatter, whatever the number of taps. The conventions, also of the
gradients at the edges, are PyTorch's (ATen/native/GridSampler.h).
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braze.autograd.modes import inference_mode
from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.indexing import nothing_of
from braze.functions.movement import expand, reshape
from braze.functions.pointwise import UNARY, clamp, fmod, ne, where
from braze.functions.promotion import cast
from braze.functions.reductions import sum as total
from braze.ir.dtypes import DType, f32, i32, i64
from braze.ir.op import op_named
from braze.nn.functional.affine_grids import ALIGNMENT_WARNING
from braze.nn.functional.resampling_tables import CUBIC
from braze.placing import array_on
from braze.sites import user_stacklevel
from braze.tensors import Tensor, apply

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the places that `grid` names, from -1 to 1 in each dimension.

    Shape: input [N, C, H, W], grid [N, H', W', 2] with (x, y) last, to [N, C, H', W']; or input
        [N, C, D, H, W], grid [N, D', H', W', 3] with (x, y, z), to [N, C, D', H', W'].

    Args:
        mode: between the neighbours ("bilinear"), "nearest", or "bicubic" (4-D only).
        padding_mode: outside is "zeros", the nearest "border" element, or a "reflection".
        align_corners: whether -1 and 1 are the centres of the corner elements, or the outer edges
            (the default, with a warning if it is not said).

    Raises:
        ValueError: an unknown mode. RuntimeError: shapes or dtypes that do not fit.
    """
    require_tensors("grid_sample", input=input, grid=grid)
    if mode not in MODES:
        raise ValueError(
            "nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', "
            f"but got: '{mode}'"
        )
    if padding_mode not in PADDINGS:
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
            f"'reflection', but got: '{padding_mode}'"
        )
    if align_corners is None:
        warnings.warn(ALIGNMENT_WARNING, stacklevel=user_stacklevel())
    return _sample("grid_sampler", input, grid, mode, padding_mode, bool(align_corners))


def grid_sampler(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    """`nn.functional.grid_sample` with numbers for the modes, in the order of its description."""
    mode, padding = _named("grid_sampler", interpolation_mode, padding_mode)
    return _sample("grid_sampler", input, grid, mode, padding, align_corners)


def grid_sampler_2d(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    """`grid_sampler` of [N, C, H, W]."""
    mode, padding = _named("grid_sampler_2d", interpolation_mode, padding_mode)
    return _sample("grid_sampler_2d", input, grid, mode, padding, align_corners, 4)


def grid_sampler_3d(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    """`grid_sampler` of [N, C, D, H, W]."""
    mode, padding = _named("grid_sampler_3d", interpolation_mode, padding_mode)
    return _sample("grid_sampler_3d", input, grid, mode, padding, align_corners, 5)


def _named(name: str, mode: int, padding: int) -> tuple[str, str]:
    if not 0 <= mode <= 2 or not 0 <= padding <= 2:
        raise RuntimeError(
            f"{name}(): interpolation and padding modes are numbers from 0 to 2, given {mode} and "
            f"{padding}"
        )
    return MODES[mode], PADDINGS[padding]


def _sample(
    name: str,
    input: Tensor,
    grid: Tensor,
    mode: str,
    padding: str,
    align_corners: bool,
    rank: int | None = None,
) -> Tensor:
    require_tensors(name, input=input, grid=grid)
    _check(name, input, grid, mode, rank)
    dtype = input.dtype
    wide = f32 if dtype.bits == 16 else dtype
    samples, channels, *sizes = input.shape
    rest = grid.shape[1:-1]
    points = math.prod(rest)
    if samples * channels * points == 0:
        shape = (samples, channels, *rest)
        return nothing_of(input, shape) + nothing_of(grid, shape)
    found = _taps(cast(grid, wide), sizes, mode, padding, align_corners)
    count = found.index.shape[1]
    flat = reshape(cast(input, wide), (samples, channels, math.prod(sizes)))

    def of_channels(x: Tensor) -> Tensor:
        return reshape(x, (samples, 1, count, points))

    index = expand(of_channels(found.index), (samples, channels, count, points))
    index = reshape(index, (samples, channels, count * points))
    picked = apply(call_of(op_named("take_along"), dim=2), flat, index)
    picked = reshape(picked, (samples, channels, count, points))
    weight = of_channels(found.weight)
    if found.inside is None:
        terms = picked * weight
    elif input.ndim == 5 or mode == "nearest":
        terms = where(of_channels(found.inside), picked * weight, 0.0)
    else:  # a place that is no number gives none; in volumes it counts as outside
        terms = where(of_channels(found.inside), picked, 0.0) * weight
    return reshape(cast(total(terms, 2), dtype), (samples, channels, *rest))


def _check(name: str, input: Tensor, grid: Tensor, mode: str, rank: int | None) -> None:
    x, places = input._handle.type, grid._handle.type
    spatial = x.rank - 2
    if (rank is not None and x.rank != rank) or spatial not in (2, 3) or places.rank != x.rank:
        wanted = "4D or 5D" if rank is None else f"{rank}D"
        raise RuntimeError(
            f"{name}(): expected {wanted} input and grid with same number of dimensions, but got "
            f"input with sizes {list(x.shape)} and grid with sizes {list(places.shape)}"
        )
    if x.dtype is not places.dtype:
        raise RuntimeError(
            f"{name}(): expected input and grid to have same dtype, but input has "
            f"{input.dtype!r} and grid has {grid.dtype!r}"
        )
    if x.shape[0] != places.shape[0]:
        raise RuntimeError(
            f"{name}(): expected grid and input to have same batch size, but got input with sizes "
            f"{list(x.shape)} and grid with sizes {list(places.shape)}"
        )
    if places.shape[-1] != spatial:
        raise RuntimeError(
            f"{name}(): expected grid to have size {spatial} in last dimension, but got grid with "
            f"sizes {list(places.shape)}"
        )
    if 0 in x.shape[2:]:
        raise RuntimeError(
            f"{name}(): expected input to have non-empty spatial dimensions, but input has sizes "
            f"{list(x.shape)}"
        )
    if spatial == 3 and mode == "bicubic":
        raise RuntimeError(f"{name}(): bicubic interpolation only supports 4D input")
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {input.dtype!r}')


# Taps ---------------------------------------------------------------------------------------------


# The taps of one dimension, as distances from the element left of (nearest: at) the place.
STEPS = {"nearest": (0,), "bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}


@dataclass
class _Taps:
    """Of each result, [N, taps, points]: which element of the flattened input it reads, times what,
    and whether that is inside."""

    index: Tensor
    weight: Tensor
    inside: Tensor | None


def _taps(
    grid: Tensor, sizes: Sequence[int], mode: str, padding: str, align_corners: bool
) -> _Taps:
    """Everything is computed for each tap, also what the taps have in common: so it is one loop."""
    rank = len(sizes)
    points = math.prod(grid.shape[1:-1])
    count = len(STEPS[mode]) ** rank
    shape = (grid.shape[0], count, points)
    wanted = i32 if math.prod(sizes) < 2**31 else i64
    result: _Taps | None = None
    for d, size in enumerate(sizes):
        place = grid[..., rank - 1 - d]  # the grid's last dimension begins with the input's last
        place = expand(reshape(place, (shape[0], 1, points)), shape)
        x = _centred(place, size, align_corners)
        at, weight = _along(x, d, rank, size, mode, padding, align_corners)
        index = cast(clamp(at, 0, size - 1), wanted)
        inside = (at >= 0).logical_and(at <= size - 1) if padding == "zeros" else None
        if result is not None:
            index, weight = result.index * size + index, result.weight * weight
            if inside is not None and result.inside is not None:
                inside = result.inside.logical_and(inside)
        result = _Taps(index, weight, inside)
    assert result is not None
    return result


def _centred(place: Tensor, size: int, align_corners: bool) -> Tensor:
    """Places from -1 to 1 in elements, with 0 in the centre of the first one."""
    if align_corners:
        return (place + 1) / 2 * (size - 1)
    return ((place + 1) * size - 1) / 2


def _along(
    x: Tensor, d: int, rank: int, size: int, mode: str, padding: str, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Where along dimension d the taps of places x read, and with what weights."""
    place = x._handle.type.device
    steps = _of_taps(STEPS[mode], rank, d, x.dtype, place)
    if mode == "bicubic":  # each tap is mapped by itself, so that the curve stays smooth
        left = UNARY["floor"](x)
        weight = _keys(UNARY["abs"](x - left - steps))
        return _mapped(left + steps, size, padding, align_corners).detach(), weight
    x = _mapped(x, size, padding, align_corners)
    if mode == "nearest":
        at = UNARY["round"](x)
        return at.detach(), (x - at) * 0.0 + 1.0  # depends on the place, with gradient 0
    left = UNARY["floor"](x)
    share = _of_taps((1.0, 0.0), rank, d, x.dtype, place) + (x - left) * _of_taps(
        (-1.0, 1.0), rank, d, x.dtype, place
    )
    return (left + steps).detach(), share


@functools.lru_cache
def _of_taps(
    numbers: tuple[float, ...], rank: int, d: int, dtype: DType, place: str
) -> Tensor:
    """[1, taps, 1]: for all combinations of `rank` taps the number of that along dimension d. Made
    outside `inference_mode`, for it is kept for backward passes."""
    chosen = [combined[d] for combined in itertools.product(numbers, repeat=rank)]
    with inference_mode(False):
        return array_on(place, np.array(chosen, dtype.numpy).reshape(1, -1, 1))


def _keys(x: Tensor) -> Tensor:
    """Keys' kernel at distance x < 2."""
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return where(x < 1, near, far)


def _mapped(x: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Places outside moved to where the padding takes its values from."""
    if padding == "zeros":
        return x
    low, span = (0.0, size - 1) if align_corners else (-0.5, size)
    if padding == "reflection" and span:
        x = x - low
        x = where(x < 0, -x, x)
        flips = UNARY["floor"](x / span).detach()
        extra = fmod(x, span)
        odd = ne(fmod(flips, 2.0), 0)
        x = where(odd, span - extra + low, extra + low)
    # At the edges and beyond no gradient flows; what is no number is taken to the first element.
    return where(x > 0, where(x < size - 1, x, float(size - 1)), 0.0)
