"""What gradient rules emit their operations on: captured handles, or tensors that are recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from braze.capture import call_of, capture, constant
from braze.handle import Handle
from braze.ir.dtypes import DType
from braze.ir.op import op_named
from braze.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from braze.tensors import Tensor


class Tracked:
    """A tensor as gradient rules see values: with the `type` that handles and IR values have."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def type(self) -> TensorType:
        return self.tensor._handle.type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype


class HandleBuilder:
    """What gradient rules emit on: captures operations on handles. Numbers become constants."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        op = op_named(name)
        plain = call_of(op) if not op.attributes else None

        def emit(*operands: Handle | float, **attributes: Any) -> Any:
            return capture(plain or call_of(op, **attributes), _lift(operands))

        setattr(self, name, emit)
        return emit


def _lift(operands: tuple[Handle | float, ...]) -> list[Handle]:
    """Numbers take the dtype of the last handle, as in `braze.ir.Builder`."""
    like = None
    plain = True
    for operand in operands:
        if isinstance(operand, Handle):
            like = operand
        else:
            plain = False
    if plain:
        return list(operands)  # type: ignore[arg-type]
    assert like is not None
    return [o if isinstance(o, Handle) else constant(o, like.type) for o in operands]


class TrackedBuilder:
    """As `HandleBuilder`, on tensors, so that the gradient itself can be differentiated."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        from braze.tensors import apply, wrap

        op = op_named(name)

        def emit(*operands: Tracked | float, **attributes: Any) -> Any:
            like = [o for o in operands if isinstance(o, Tracked)]
            tensors = [
                o.tensor if isinstance(o, Tracked) else wrap(constant(o, like[-1].type), None, 0)
                for o in operands
            ]
            results = apply(call_of(op, **attributes), *tensors)
            if isinstance(results, tuple):
                return tuple(Tracked(tensor) for tensor in results)
            return Tracked(results)

        setattr(self, name, emit)
        return emit
