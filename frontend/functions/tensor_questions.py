"""Tensor methods that few programs call: what a tensor is not, how it lies in memory, diagonals
filled in place, and operators of Python's older protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.autograd.modes import no_grad
from braze.capture import call_of
from braze.functions import pointwise
from braze.functions.creation import empty, tensor
from braze.functions.movement import flip
from braze.functions.views import as_strided
from braze.handle import INFERENCE
from braze.ir.dtypes import DType, f64
from braze.ir.op import op_named
from braze.tensors import Tensor, apply
from braze.views import layout_of

# Devices and layouts that tensors do not have here.
NEVER = (
    "is_mkldnn is_mps is_xpu is_xla is_ipu is_maia is_mtia is_vulkan is_nested is_sparse_csr"
).split()


def is_inference(input: Tensor) -> bool:
    """Whether a tensor was made in `inference_mode`, or is a view of one that was."""
    return bool(input._current().flags & INFERENCE)


def _is_view(self: Tensor) -> bool:
    """Whether a tensor looks into the memory of another."""
    return self._base is not None


def _output_nr(self: Tensor) -> int:
    """Which of the results of `grad_fn` this is."""
    self._current()
    return self._index


def dim_order(self: Tensor, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the one with the largest stride to the one with the smallest."""
    strides = layout_of(self).strides
    return tuple(sorted(range(self.ndim), key=lambda d: -strides[d]))


def new_empty_strided(
    self: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: DType | None = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """A tensor with these strides, unless given of this tensor's dtype."""
    sizes, strides = tuple(size), tuple(stride)
    last = sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    memory = empty(0 if 0 in sizes else last + 1, dtype=dtype or self.dtype)
    made = as_strided(memory, sizes, strides)
    made.requires_grad = requires_grad
    return made


def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Set the main diagonal to a number, in place; in a tall matrix with `wrap` once more below.

    Raises:
        RuntimeError: there are fewer than two dimensions, or more and their sizes differ.
    """
    shape, strides = self._handle.type.shape, layout_of(self).strides
    if len(shape) < 2:
        raise RuntimeError("dimensions must larger than 1")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    step, offset = sum(strides), layout_of(self).offset
    as_strided(self, (min(shape),), (step,), offset).fill_(fill_value)
    rows, columns = shape[0], shape[1]
    if wrap and len(shape) == 2 and rows > columns + 1:
        for start in range(columns + 1, rows, columns + 1):
            count = min(columns, rows - start)
            as_strided(self, (count,), (step,), offset + start * strides[0]).fill_(fill_value)
    return self


def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over what broadcasting would have repeated.

    Raises:
        ShapeError: that shape does not broadcast to the tensor's.
    """
    sizes = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
    summed: Tensor = apply(call_of(op_named("sum_to_shape"), shape=tuple(sizes)), self)
    return summed


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """Replace each element by a Python function of it and those of two other tensors, broadcast.
    A sync point.

    Raises:
        RuntimeError: a gradient is asked of the tensor.
    """
    if self.requires_grad:
        raise RuntimeError("Can't call map2_() on Variable that requires grad.")
    shape = tuple(self.shape)
    columns = [np.broadcast_to(t._numpy(), shape).reshape(-1).tolist() for t in (self, x, y)]
    new = [callable(*values) for values in zip(*columns, strict=True)]
    with no_grad():
        return self.copy_(tensor(np.array(new, self.dtype.numpy).reshape(shape)))  # type: ignore[no-any-return]


def _reversed(self: Tensor) -> Tensor:
    """The first dimension in reverse order."""
    return flip(self, 0) if self.ndim else self


def _no_deletion(self: Tensor, key: Any) -> None:
    raise TypeError("Tensor does not support deleting items")


def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """self ** exponent in place.

    Raises:
        RuntimeError: the tensor is not float64, which the power is.
    """
    if self.dtype is not f64:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {self.dtype.public_name} but the "
            "operation's result requires dtype float64"
        )
    return self.pow_(exponent)  # type: ignore[no-any-return]


METHODS: dict[str, Any] = {
    **{name: property(lambda self: False) for name in NEVER},
    "is_inference": is_inference,
    "_is_view": _is_view,
    "output_nr": property(_output_nr),
    "name": property(lambda self: None),
    "volatile": property(lambda self: False),
    "dim_order": dim_order,
    "new_empty_strided": new_empty_strided,
    "fill_diagonal_": fill_diagonal_,
    "float_power_": float_power_,
    "sum_to_size": sum_to_size,
    "map2_": map2_,
    "__reversed__": _reversed,
    "__delitem__": _no_deletion,
    "__div__": pointwise.div,
    "__rdiv__": lambda self, other: pointwise.div(other, self),
    "__long__": lambda self: int(self),
    "__nonzero__": lambda self: bool(self),
}
