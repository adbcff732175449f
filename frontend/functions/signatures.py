"""Functions whose signature at the top level is not that of the method of the same name: a shape or
dimensions are one argument there, and have a keyword; a dimension is not chosen for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.functions import movement, reductions
from braze.ir.dtypes import DType
from braze.tensors import Tensor


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in row-major order under another shape; see `Tensor.reshape`."""
    return movement.reshape(input, *_together("reshape", "shape", shape))


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Reorder the dimensions; see `Tensor.permute`."""
    return movement.permute(input, *_together("permute", "dims", dims))


def flip(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Reverse the order along dimensions; see `Tensor.flip`."""
    return movement.flip(input, *_together("flip", "dims", dims))


def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension."""
    return reductions.softmax(input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along a dimension, without overflow."""
    return reductions.log_softmax(input, dim, dtype)


def _together(name: str, parameter: str, values: Any) -> tuple[Any, ...]:
    """Raise TypeError for a number in place of a sequence."""
    if hasattr(values, "__index__"):
        raise TypeError(
            f"{name}(): argument '{parameter}' (position 2) must be tuple of ints, not "
            f"{type(values).__name__}"
        )
    return (tuple(values),)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function for function in (reshape, permute, flip, softmax, log_softmax)
}
