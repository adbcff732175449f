"""Optimizer steps with sparse gradients."""

from __future__ import annotations

from typing import Any

from braze.capture import Call
from braze.functions.promotion import cast
from braze.handle import NUMBER
from braze.ir.dtypes import bool_
from braze.sparse.elementwise import add_to_dense
from braze.sparse.entries import dense
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor, apply


def _require_dense(name: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if isinstance(tensor, SparseTensor):
            raise NotImplementedError(f"[{name}] parameters and their state must be dense")


def _is_zero(number: Tensor) -> bool:
    handle = number._handle
    if handle.flags & NUMBER:
        return handle.storage == 0
    return not bool(cast(number, bool_))


def _check_decay(name: str, decay: Tensor) -> None:
    if not _is_zero(decay):
        raise RuntimeError(
            f"[{name}] weight decay is not supported with sparse gradients: it changes every "
            "element"
        )


def _sgd(call: Call, param: Tensor, grad: Any, lr: Tensor, decay: Tensor) -> Tensor:
    """Only the rows of the gradient are touched."""
    _require_dense(call.op.name, param)
    _check_decay(call.op.name, decay)
    step = grad * cast(-lr, param.dtype)
    return add_to_dense(param, step)


def _sgd_momentum(
    call: Call, param: Tensor, grad: Any, buffer: Tensor, *numbers: Tensor
) -> tuple[Tensor, ...]:
    """The buffer moves everywhere, so the step is dense."""
    _require_dense(call.op.name, param, buffer)
    _check_decay(call.op.name, numbers[-1])
    return apply(call, param, dense(grad), buffer, *numbers)  # type: ignore[no-any-return]


def _refuse_adam(call: Call, *operands: Tensor) -> Any:
    raise RuntimeError("Adam does not support sparse gradients, please consider SparseAdam instead")


FORMS: dict[str, Any] = {
    "sgd_step": _sgd,
    "sgd_momentum_step": _sgd_momentum,
    "adam_step": _refuse_adam,
}
