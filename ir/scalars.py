"""Python numbers as elements of a dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.ir.dtypes import DType, u64

_WORD = (1 << 64) - 1


def narrowed(number: int | float | np.number[Any], dtype: DType) -> np.ndarray[Any, np.dtype[Any]]:
    """A number as a 0-d array, out of range as in compiled code: wrapped around, or inf.

    Example:
        >>> from braze.ir.dtypes import i8
        >>> narrowed(130, i8).item(), narrowed(-1, u64).item()
        (-126, 18446744073709551615)
    """
    wide: np.ndarray[Any, np.dtype[Any]]
    if isinstance(number, (float, np.floating)):
        wide = np.asarray(number, dtype=np.float64)
    else:
        word = np.asarray(int(number) & _WORD, dtype=np.uint64)
        wide = word if dtype is u64 else word.view(np.int64)
    with np.errstate(all="ignore"):
        return wide.astype(dtype.numpy)
