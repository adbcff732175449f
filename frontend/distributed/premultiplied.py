"""Sums of what each rank has times a factor of its own.

In: tensors and a `PremultipliedSum`.  Out: a captured multiplication with a captured sum behind it,
so compiled code multiplies while it computes or reads the operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.autograd.modes import no_grad
from braze.distributed.captured import replaced_by
from braze.distributed.groups import ProcessGroup
from braze.distributed.works import CapturedWork, PremultipliedSum, Work
from braze.functions.movement import cat
from braze.tensors import Tensor


def premultiplied(
    kind: str,
    target: Tensor,
    given: Sequence[Tensor],
    op: PremultipliedSum,
    group: ProcessGroup,
    async_op: bool,
    root: int | None = None,
) -> Work | None:
    """Let a tensor become the reduction of what all ranks give, one tensor behind the other.

    Args:
        kind: of `braze.ir.collectives.KINDS`, one that reduces.
        root: a rank of the group, whose tensor alone is written.

    Raises: TypeError, the elements are no floating-point or complex numbers.
    """
    with no_grad():
        whole = given[0] if len(given) == 1 else cat([each.reshape(-1) for each in given])
        scaled = multiplied(kind, whole, op)
        how: dict[str, Any] = {"reduction": "sum"}
        if root is not None:
            how["root"] = root
            # The others' tensors stay as they are; they take part with a copy.
            target = target if group.rank() == root else scaled
        replaced_by(kind, target, scaled, group, **how)
    if not async_op:
        return None
    return CapturedWork([target] if root in (None, group.rank()) else [])


def multiplied(kind: str, tensor: Tensor, op: PremultipliedSum) -> Tensor:
    """A tensor times the factor, of its dtype, which the tape does not see.

    Raises: TypeError, the elements are no floating-point or complex numbers.
    """
    dtype = tensor.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        raise TypeError(
            "PreMulSum Data type must be a floating-point or complex one: "
            f"[{kind}] cannot use {op!r} with {dtype.name} elements"
        )
    factor = op.factor.detach().reshape(()) if isinstance(op.factor, Tensor) else op.factor
    with no_grad():
        return (tensor.detach() * factor).to(dtype)
