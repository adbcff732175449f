"""Averages of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from braze.autograd.modes import no_grad
from braze.distributed.captured import together
from braze.distributed.groups import member
from braze.nn.parameter import Parameter
from braze.tensors import Tensor, wrap


def average_parameters(params: Iterable[Tensor], process_group: Any) -> None:
    """Every parameter becomes the average of the ranks'; those of one dtype are one message. Ranks
    that are not in the group keep theirs.

    Args:
        process_group: the ranks; None: all.
    """
    group = member(process_group)
    if group is None:
        return
    by_dtype: dict[Any, list[Tensor]] = {}
    for parameter in params:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    with no_grad():
        for parameters in by_dtype.values():
            handles = [parameter._current() for parameter in parameters]
            parts = together("all_reduce", handles, group, reduction="avg")
            for parameter, part in zip(parameters, parts, strict=True):
                parameter._replace(wrap(part, None, 0), tracked=False)


def get_params_to_average(params: Iterable[Any]) -> list[Tensor]:
    """Those of some parameters, or of an optimizer's groups, that have a gradient.

    Raises:
        NotImplementedError: there is something else.
    """
    found: list[Tensor] = []
    for param in params:
        if isinstance(param, Parameter):
            own = [param]
        elif isinstance(param, dict):
            own = param["params"]
        else:
            raise NotImplementedError(f"Parameter input of type {type(param)} is not supported")
        found += [parameter for parameter in own if parameter.grad is not None]
    return found


def average_parameters_or_parameter_groups(params: Iterable[Any], process_group: Any) -> None:
    """As `average_parameters`, of those that have a gradient; they may be an optimizer's groups.

    Raises:
        NotImplementedError: there is something else.
    """
    average_parameters(get_params_to_average(params), process_group)
