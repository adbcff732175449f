"""Numerical gradients of sampled functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.functions.movement import cat, narrow, reshape
from braze.functions.promotion import cast, get_default_dtype
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor


def gradient(
    input: Tensor,
    *,
    spacing: float | Sequence[float] | Sequence[Tensor] = 1,
    dim: int | Sequence[int] | None = None,
    edge_order: int = 1,
) -> tuple[Tensor, ...]:
    """The derivatives along dimensions, of second order inside (for uneven spacing after A.
    Quarteroni, R. Sacco, F. Saleri, "Numerical Mathematics", 2007).

    Args:
        spacing: between samples: one number, one for each dimension, or a vector of coordinates for
            each.
        dim: along which (all by default).
        edge_order: 1 or 2, the order at both ends.

    Raises:
        RuntimeError: spacings that do not fit, too few samples, or another order.
    """
    if edge_order not in (1, 2):
        raise RuntimeError(
            f"torch.gradient only supports edge_order=1 and edge_order=2, {edge_order}"
        )
    if dim is None:
        dims = list(range(input.ndim))
    else:
        given = [dim] if isinstance(dim, int) else list(dim)
        dims = [normalise_dimension("gradient", d, input.ndim) for d in given]
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"dim {dims} appears multiple times in the list of dims")
    spacings: list[Any] = [spacing] * len(dims) if isinstance(spacing, (int, float)) else [*spacing]
    if len(spacings) != len(dims):
        raise RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar, or a list of length "
            f"equal to the number of dimensions, {len(dims)}, but got one of {len(spacings)}"
        )
    x = input if input.dtype.is_differentiable else cast(input, get_default_dtype())
    return tuple(_along(x, d, step, edge_order) for d, step in zip(dims, spacings, strict=True))


def _along(x: Tensor, dim: int, spacing: Any, edge_order: int) -> Tensor:
    size = x.shape[dim]
    if size < edge_order + 1:
        raise RuntimeError(
            "torch.gradient expected each dimension size to be at least edge_order+1"
        )
    if isinstance(spacing, Tensor):
        if tuple(spacing.shape) != (size,):
            raise RuntimeError(
                "torch.gradient expected each element of spacing to have as many coordinates as "
                f"the dimension, {size}, but got {list(spacing.shape)}"
            )
        places = reshape(cast(spacing, x.dtype), [-1 if d == dim else 1 for d in range(x.ndim)])
        steps: Any = narrow(places, dim, 1, size - 1) - narrow(places, dim, 0, size - 1)
    else:
        steps = None
    rises = narrow(x, dim, 1, size - 1) - narrow(x, dim, 0, size - 1)
    slopes = rises / (spacing if steps is None else steps)
    last = size - 2

    def part(values: Any, start: int, length: int) -> Any:
        return narrow(values, dim, start, length)

    first, end = part(slopes, 0, 1), part(slopes, last, 1)
    if edge_order == 2:
        first = _edge(first, part(slopes, 1, 1), steps, 0, 1, part)
        end = _edge(end, part(slopes, last - 1, 1), steps, last, last - 1, part)
    if size == 2:
        return cat([first, end], dim)
    left, right = part(slopes, 0, last), part(slopes, 1, last)
    if steps is None:
        middle = (left + right) * 0.5
    else:
        before, after = part(steps, 0, last), part(steps, 1, last)
        middle = (left * after + right * before) / (before + after)
    return cat([first, middle, end], dim)


def _edge(near: Tensor, far: Tensor, steps: Any, at: int, beside: int, part: Any) -> Tensor:
    """The slope at an end: the nearest one, continued by how it differs from the next."""
    if steps is None:
        return near + (near - far) * 0.5
    h, k = part(steps, at, 1), part(steps, beside, 1)
    return near + (near - far) * (h / (h + k))
