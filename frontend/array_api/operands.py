"""Type promotion by the array API standard: unlike PyTorch's it does not ask for ranks."""

from __future__ import annotations

from functools import reduce
from typing import Any

from braze.functions.promotion import cast
from braze.ir.dtypes import promote
from braze.tensors import Tensor


def together(*operands: Any) -> list[Any]:
    """Tensors in the dtype that theirs promote to; Python numbers stay as they are.

    In PyTorch a tensor with dimensions decides against one without; here both have a say.
    """
    dtypes = [x.dtype for x in operands if isinstance(x, Tensor)]
    if not dtypes:
        return list(operands)
    dtype = reduce(promote, dtypes)
    return [cast(x, dtype) if isinstance(x, Tensor) else x for x in operands]
