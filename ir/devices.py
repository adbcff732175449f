"""On which device an operation's results are: the one place where operands' devices are compared.

In: the operands' types, at least one of them on a GPU.  Out: the types of the results.

A device is "cpu" or "cuda:N". All operands are on one device, but for 0-d values on the CPU: these
are numbers, and meet any device. What has no operand is made on the CPU; `to_device` brings it
elsewhere, and the runtime computes it there (`braze.runtime.splitting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from braze.ir.errors import DeviceError
from braze.ir.types import TensorType, tensor_type

if TYPE_CHECKING:
    from braze.ir.op import AttributeValue, Op

HOST = "cpu"


def on_device(type: TensorType, device: str) -> TensorType:
    """The type of the same elements elsewhere."""
    return tensor_type(type.dtype, type.shape, device)


def common_device(types: Sequence[TensorType]) -> str:
    """Where an operation on operands of these types runs.

    Raises:
        DeviceError: they are on several devices.
    """
    found = HOST
    for type in types:
        if type.device != HOST:
            if found not in (HOST, type.device):
                raise DeviceError(_apart(found, type.device))
            found = type.device
    if found != HOST and any(t.device == HOST and t.shape for t in types):
        raise DeviceError(_apart(found, HOST))
    return found


def _apart(first: str, second: str) -> str:
    return (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{first} and {second}!"
    )


def placed_types(
    op: Op, operands: Sequence[TensorType], attributes: Mapping[str, AttributeValue]
) -> tuple[TensorType, ...]:
    """The result types of an operation on a GPU: the rule's, which knows no devices, put there.

    Raises:
        DeviceError: the operands are on several devices. What the rule raises.
    """
    if op.is_transfer:
        return op.infer(*operands, **attributes)
    device = common_device(operands)
    results = op.infer(*[on_device(t, HOST) for t in operands], **attributes)
    return tuple(on_device(t, device) for t in results)
