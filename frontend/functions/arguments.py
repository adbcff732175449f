"""TypeError, as in PyTorch, for an argument that must be a tensor and is none, whatever its use
would have come to.

`require_tensors` checks at the start of a function that must know. `explained` checks after a
failure, so that calls that succeed do not pay for it.
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


def require_tensors(name: str, *operands: Any, **named: Any) -> None:
    """Raise TypeError for an operand that is no tensor.

    Args:
        named: operands whose parameters are to be named, behind the others.
    """
    given = (*operands, *named.values())
    for operand in given:
        if not isinstance(operand, Tensor):
            break
    else:
        return
    for position, operand in enumerate(given):
        if not isinstance(operand, Tensor):
            word = [*[""] * len(operands), *(f"'{parameter}' " for parameter in named)][position]
            raise TypeError(
                f"{name}(): argument {word}(position {position + 1}) must be Tensor, not "
                f"{type(operand).__name__}"
            )


def count_tensors(function: Callable[..., Any]) -> int:
    """How many parameters are annotated as tensors."""
    kinds = getattr(function, "__annotations__", {}).items()
    return sum(kind in (*_ONE, *_MANY) for name, kind in kinds if name != "return")


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


def check_arguments(
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
    if not count_tensors(function):
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
                check_arguments(name, tensor_parameters(function), args, kwargs)
            except TypeError as explanation:
                raise explanation from error
            raise

    return wrapped
