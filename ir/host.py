"""Evaluate a host call on flat memory: what compiled code and the loops interpreter have in common.

In: a `HostCall` and a flat array for each buffer.  Out: its results, written into theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.ir.loops import HostCall

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate_call(call: HostCall, operands: Sequence[Array]) -> list[Array | None]:
    """The results of a call; None for those that nobody needs.

    Args:
        operands: an array for each operand, flat or of its shape. They are not written.

    Raises:
        LinAlgError, and whatever the operation raises.
    """
    evaluate = call.op.evaluate
    assert evaluate is not None
    given = [
        array.reshape(operand.type.shape)
        for array, operand in zip(operands, call.operands, strict=True)
    ]
    found = evaluate(*given, **call.attributes)
    arrays = found if isinstance(found, tuple) else (found,)
    results: list[Array | None] = []
    for array, result in zip(arrays, call.results, strict=True):
        array = np.asarray(array)
        if array.shape != result.type.shape or array.dtype != result.type.dtype.numpy:
            raise RuntimeError(
                f"internal error: {call.op.name} gave {array.dtype}{list(array.shape)} "
                f"where its type is {result.type}"
            )
        results.append(array if result.buffer is not None else None)
    return results
