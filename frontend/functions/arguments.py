"""What is wrong with the arguments of a call that failed: PyTorch raises TypeError for an argument
of a wrong type, whatever its use would have come to.

The check is made after the failure, so that calls that succeed do not pay for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from braze.functions.keywords import choice
from braze.tensors import Tensor

# Position (-1 - position of `*parameter`) and name of each parameter that must be a tensor, and
# whether it is a sequence of tensors.
Parameters = tuple[tuple[int, str, bool], ...]
_ONE = ("Tensor",)
_MANY = ("Sequence[Tensor]", "list[Tensor]", "tuple[Tensor, ...]")


def tensor_parameters(function: Callable[..., Any]) -> Parameters:
    """The parameters that are annotated as tensors."""
    found = []
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        kind = parameter.annotation
        if kind in (*_ONE, *_MANY):
            if parameter.kind is parameter.VAR_POSITIONAL:
                position = -1 - position
            found.append((position, parameter.name, kind in _MANY))
    return tuple(found)


def check_tensors(
    name: str, parameters: Parameters, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Raise TypeError if an argument that must be a tensor is none.

    Raises:
        TypeError: with the function, the parameter, its position and the type given.
    """
    for position, parameter, many in parameters:
        if position < 0:  # all positional arguments from there on
            for i, item in enumerate(args[-1 - position :]):
                if not isinstance(item, (Tensor, list, tuple)):
                    raise TypeError(
                        f"{name}(): expected Tensor as element {i} of argument '{parameter}', but "
                        f"got {type(item).__name__}"
                    )
            continue
        value = args[position] if position < len(args) else kwargs.get(parameter)
        if value is None and position >= len(args) and parameter not in kwargs:
            continue
        at = f"argument '{parameter}' (position {position + 1})"
        if not many:
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}(): {at} must be Tensor, not {type(value).__name__}")
        elif not isinstance(value, (list, tuple)):
            raise TypeError(f"{name}(): {at} must be tuple of Tensors, not {type(value).__name__}")
        else:
            for i, item in enumerate(value):
                if not isinstance(item, Tensor):
                    raise TypeError(
                        f"{name}(): expected Tensor as element {i} of {at}, but got "
                        f"{type(item).__name__}"
                    )


def explained(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, which raises TypeError where it failed for want of a tensor."""
    parameters = tensor_parameters(function)
    if not parameters:
        return function

    _, plain, keywords, other = choice(function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            if not kwargs:
                return plain(*args)
            return (plain if keywords.isdisjoint(kwargs) else other)(*args, **kwargs)
        except TypeError:  # it tells what is wrong already
            raise
        except Exception as error:
            try:
                check_tensors(name, parameters, args, kwargs)
            except TypeError as explanation:
                raise explanation from error
            raise

    return wrapped
