"""The grids of affine maps, for `grid_sample` (Jaderberg et al., arXiv 1506.02025)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from braze.functions.arguments import require_tensors
from braze.functions.creation import arange
from braze.functions.movement import expand, stack
from braze.functions.promotion import cast
from braze.ir.dtypes import DType, f32
from braze.sites import user_stacklevel
from braze.tensors import Tensor

ALIGNMENT_WARNING = (
    "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. "
    "Please specify align_corners=True if the old behavior is desired. See the documentation of "
    "grid_sample for details."
)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid that `grid_sample` needs for affine maps: theta @ (x, y, 1) for each place.

    Shape: theta [N, 2, 3] and size (N, C, H, W) to [N, H, W, 2]; theta [N, 3, 4] and size
        (N, C, D, H, W) to [N, D, H, W, 3].

    Raises:
        ValueError: theta does not fit the size, is not of floating point, or the size is empty.
            NotImplementedError: the size has neither 4 nor 5 numbers.
    """
    require_tensors("affine_grid", theta=theta)
    if align_corners is None:
        warnings.warn(ALIGNMENT_WARNING, stacklevel=user_stacklevel())
    if not theta.dtype.is_floating_point:
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype!r}")
    if len(size) not in (4, 5):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
            f"respectively. Got size {size}."
        )
    spatial = len(size) - 2
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (spatial, spatial + 1):
        raise ValueError(
            f"Expected a batch of {spatial}D affine matrices of shape Nx{spatial}x{spatial + 1} "
            f"for size {size}. Got {theta.shape}."
        )
    if align_corners and min(size[2:]) == 1:
        warnings.warn(
            "Since version 1.3.0, affine_grid behavior has changed for unit-size grids when "
            "align_corners=True. This is not an intended use case of affine_grid. See the "
            "documentation of affine_grid for details.",
            stacklevel=user_stacklevel(),
        )
    elif min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    return affine_grid_generator(theta, size, bool(align_corners))


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """`nn.functional.affine_grid` without its warnings.

    Raises:
        RuntimeError: theta does not fit the size.
    """
    require_tensors("affine_grid_generator", theta=theta)
    spatial = len(size) - 2
    if spatial not in (2, 3):
        raise RuntimeError(
            "AffineGridGenerator needs 4d (spatial) or 5d (volumetric) inputs, given size "
            f"{list(size)}"
        )
    wanted = (size[0], spatial, spatial + 1)
    if tuple(theta.shape) != wanted:
        raise RuntimeError(
            f"Expected theta to have shape {list(wanted)} for size {list(size)}, got "
            f"{list(theta.shape)}"
        )
    wide = cast(theta, f32) if theta.dtype.bits == 16 else theta
    sizes = tuple(size[2:])
    columns = []
    for row in range(spatial):
        value = wide[:, row, spatial].reshape((-1, *(1,) * spatial))
        for column in range(spatial):
            axis = spatial - 1 - column
            base = _centres(sizes[axis], align_corners, wide.dtype)
            base = base.reshape([sizes[axis] if d == axis else 1 for d in range(spatial)])
            value = value + wide[:, row, column].reshape((-1, *(1,) * spatial)) * base
        columns.append(expand(value, (size[0], *sizes)))
    return cast(stack(columns, -1), theta.dtype)


def _centres(count: int, align_corners: bool, dtype: DType) -> Tensor:
    """Places from -1 to 1: both ends included, or the centres of equal parts."""
    steps = arange(count, dtype=dtype)
    if align_corners:
        return steps * (2 / (count - 1)) - 1 if count > 1 else steps
    return (steps * 2 + 1) / count - 1
