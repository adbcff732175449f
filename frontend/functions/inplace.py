"""The in-place form of a function: the tensor takes over the result, cast to its own dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.functions.out import check_castable
from braze.functions.promotion import cast
from braze.handle import SparseOperand
from braze.tensors import Tensor
from braze.views import before_update


def inplace_form(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method that replaces its tensor's value by the function's result.

    Raises (when called):
        RuntimeError: the result has another shape, or a dtype that the tensor's cannot hold.
    """

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = function(before_update(self), *args, **kwargs)
        own, new = self._handle.type, result._handle.type
        if new.shape != own.shape:
            raise RuntimeError(
                f"output with shape {list(own.shape)} doesn't match the broadcast shape "
                f"{list(new.shape)}"
            )
        check_castable(new.dtype, own.dtype)
        try:
            return self._replace(cast(result, own.dtype))
        except SparseOperand:  # a dense tensor times a sparse one
            return self._replace(cast(result.to_dense(), own.dtype))

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"In-place `{function.__name__}`."
    return method
