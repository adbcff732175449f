"""Views under the names that give copies instead: `view_copy`, `select_copy`, `split_copy`, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.functions import movement, splitting, views
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor


def _slice(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    d = normalise_dimension("slice", dim, input.ndim)
    return input[(*(slice(None),) * d, slice(start, end, step))]


_VIEWS: dict[str, Callable[..., Any]] = {
    "alias": lambda input: input,
    "as_strided": views.as_strided,
    "detach": Tensor.detach,
    "diagonal": views.diagonal,
    "expand": movement.expand,
    "permute": movement.permute,
    "select": movement.select,
    "slice": _slice,
    "split": movement.split,
    "split_with_sizes": splitting.split_with_sizes,
    "squeeze": movement.squeeze,
    "t": movement.t,
    "transpose": movement.transpose,
    "unbind": movement.unbind,
    "unfold": views.METHODS["unfold"],
    "unsqueeze": movement.unsqueeze,
    "view": views.METHODS["view"],
}


def _copying(name: str, view: Callable[..., Any]) -> Callable[..., Any]:
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = view(input, *args, **kwargs)
        if isinstance(found, tuple):
            return tuple(movement.clone(part) for part in found)
        return movement.clone(found)

    function.__name__ = f"{name}_copy"
    function.__doc__ = f"As `{name}`, but a copy."
    return function


FUNCTIONS = {f"{name}_copy": _copying(name, view) for name, view in _VIEWS.items()}
