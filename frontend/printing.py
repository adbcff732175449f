"""How tensors print: NumPy's formatting in PyTorch's frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from braze.ir.dtypes import bf16, bool_, i64

if TYPE_CHECKING:
    from braze.tensors import Tensor


def format_tensor(tensor: Tensor) -> str:
    """The text of a tensor: its elements (4 digits, long ones shortened), dtype unless it is a
    default, history."""
    from braze.functions.promotion import get_default_dtype

    array = tensor._numpy()
    if tensor.dtype is bf16:
        array = array.astype(np.float32)
    body = np.array2string(
        array,
        precision=4,
        threshold=1000,
        edgeitems=3,
        separator=", ",
        prefix="tensor(",
        suppress_small=False,
        floatmode="fixed"
        if array.dtype.kind == "f" and np.all(np.isfinite(array))
        else "maxprec_equal",
    )
    parts = [body]
    if tensor.dtype not in (get_default_dtype(), i64, bool_) or tensor.numel() == 0:
        parts.append(f"dtype={tensor.dtype!r}")
    if tensor.grad_fn is not None:
        parts.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        parts.append("requires_grad=True")
    return f"tensor({', '.join(parts)})"
