"""One operation whose results replace the values of tensors in place: what an optimizer's step
consists of, for each parameter.

The same as `apply` and then `Tensor._replace` for each result, without the tensors in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze import tensors
from braze.capture import Call, capture
from braze.handle import EXPOSED, INFERENCE, SparseOperand
from braze.tensors import Tensor, apply, wrap


def update(call: Call, operands: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Run an operation and let its results become the values of some of its operands.

    Gradients must not be being recorded.

    Args:
        targets: one for each result, of its type, among the operands.
    """
    if tensors.autocast_hook is None:
        values = [t._handle if t._base is None else t._current() for t in operands]
        try:
            captured = capture(call, values, 4)
        except SparseOperand:
            pass
        else:
            results = captured if captured.__class__ is list else (captured,)
            for target, new in zip(targets, results, strict=True):
                old = target._handle
                if target._base is None and new.storage is None:
                    if not old.flags & (EXPOSED | INFERENCE):
                        target._take(old, new)
                        continue
                target._replace(wrap(new, None, 0))
            return
    replaced = apply(call, *operands)
    results = replaced if replaced.__class__ is tuple else (replaced,)
    for target, tensor in zip(targets, results, strict=True):
        target._replace(tensor)
