"""State dicts by the names of parameters, for models and optimizers together, with PyTorch's names.

Names are those of the model without `DistributedDataParallel` around it or its parts, so that it is
loaded with or without. What layers of `distributed.tensor.parallel` share out is a `Shard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import braze
from braze import distributed as dist
from braze.distributed.checkpoint.pieces import Shard
from braze.distributed.checkpoint.states import (
    Part,
    give_state,
    parts_of,
    state_of,
)
from braze.nn.modules.module import Module
from braze.nn.parallel.distributed import DistributedDataParallel
from braze.optim.optimizer import Optimizer
from braze.tensors import Tensor

Optimizers = Optimizer | Iterable[Optimizer]
State = dict[str, Any]


@dataclass(frozen=True)
class StateDictOptions:
    """What state dicts have.

    Args:
        full_state_dict: tensors that are shared out are put together, on all ranks, which all call
            the function then; else each has its `Shard`.
        cpu_offload: tensors of GPUs are copied to the CPU; others are the model's own.
        ignore_frozen_params: parameters that need no gradient are left out.
        strict: in loading, as `Module.load_state_dict` takes it.
    """

    full_state_dict: bool = False
    cpu_offload: bool = False
    ignore_frozen_params: bool = False
    strict: bool = True


def get_model_state_dict(model: Module, *, options: StateDictOptions | None = None) -> State:
    """The parameters and buffers of a model by their names."""
    options = options or StateDictOptions()
    parts = parts_of({"": model})
    parameters = dict(model.named_parameters())
    found: State = {}
    for name, value in state_of(model, parts).items():
        parameter = parameters.get(name)
        if options.ignore_frozen_params and parameter is not None and not parameter.requires_grad:
            continue
        found[_bare(model, name)] = _as_asked(value, parts.get(id(parameter)), options)
    return found


def get_optimizer_state_dict(
    model: Module, optimizers: Optimizers, *, options: StateDictOptions | None = None
) -> State:
    """What optimizers keep, by the names of a model's parameters.

    Returns:
        {"state": {name: {...}}, "param_groups": [{..., "params": [names]}]}, of all optimizers
        together.

    Raises:
        RuntimeError: there is no optimizer, or one has a parameter that the model has not.
    """
    options = options or StateDictOptions()
    parts = parts_of({"": model})
    names = _names(model)
    found: State = {"state": {}, "param_groups": []}
    for optimizer in _listed(optimizers):
        own = state_of(optimizer, parts)
        parameters = _parameters(optimizer, names)
        for number, entry in own["state"].items():
            parameter = parameters[number]
            found["state"][names[id(parameter)]] = {
                name: _as_asked(kept, parts.get(id(parameter)), options)
                for name, kept in entry.items()
            }
        for group in own["param_groups"]:
            named = [names[id(parameters[number])] for number in group["params"]]
            found["param_groups"].append({**group, "params": named})
    return found


def get_state_dict(
    model: Module, optimizers: Optimizers, *, options: StateDictOptions | None = None
) -> tuple[State, State]:
    """Those of a model and of its optimizers.  Raises: as `get_optimizer_state_dict`."""
    return (
        get_model_state_dict(model, options=options),
        get_optimizer_state_dict(model, optimizers, options=options),
    )


def set_model_state_dict(
    model: Module, model_state_dict: Mapping[str, Any], *, options: StateDictOptions | None = None
) -> Any:
    """Let a model have what `get_model_state_dict` gave; whole tensors are shared out again.

    Returns:
        What `Module.load_state_dict` does.

    Raises:
        RuntimeError: names or shapes differ.
    """
    options = options or StateDictOptions()
    names = {_bare(model, name): name for name in model.state_dict()}
    own = {names.get(name, name): value for name, value in model_state_dict.items()}
    return give_state(model, own, parts_of({"": model}), strict=options.strict)


def set_optimizer_state_dict(
    model: Module,
    optimizers: Optimizers,
    optim_state_dict: Mapping[str, Any],
    *,
    options: StateDictOptions | None = None,
) -> None:
    """Let optimizers have what `get_optimizer_state_dict` gave, of whatever optimizers had the same
    groups of parameters.

    Args:
        options: make no difference.

    Raises:
        RuntimeError: there is no optimizer; one has a parameter that the model has not, or a group
            that the state dict has not.
    """
    parts = parts_of({"": model})
    names = _names(model)
    for optimizer in _listed(optimizers):
        parameters = _parameters(optimizer, names)
        numbers = {names[id(p)]: number for number, p in enumerate(parameters)}
        groups = [
            _group_of(optim_state_dict, [names[id(p)] for p in group["params"]], numbers)
            for group in optimizer.param_groups
        ]
        state = {
            numbers[name]: entry
            for name, entry in optim_state_dict["state"].items()
            if name in numbers
        }
        give_state(optimizer, {"state": state, "param_groups": groups}, parts)


def set_state_dict(
    model: Module,
    optimizers: Optimizers,
    *,
    model_state_dict: Mapping[str, Any],
    optim_state_dict: Mapping[str, Any],
    options: StateDictOptions | None = None,
) -> Any:
    """As `set_model_state_dict` and `set_optimizer_state_dict`."""
    result = set_model_state_dict(model, model_state_dict, options=options)
    set_optimizer_state_dict(model, optimizers, optim_state_dict, options=options)
    return result


def _bare(model: Module, name: str) -> str:
    """A name without what `DistributedDataParallel` adds to it."""
    kept, current = [], model
    for token in name.split("."):
        if not (token == "module" and isinstance(current, DistributedDataParallel)):
            kept.append(token)
        current = getattr(current, token, current)
    return ".".join(kept)


def _names(model: Module) -> dict[int, str]:
    return {id(p): _bare(model, name) for name, p in model.named_parameters()}


def _listed(optimizers: Optimizers) -> list[Optimizer]:
    found = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
    if not found:
        raise RuntimeError("Optimizers are not passed in, and there is no state without them")
    return found


def _parameters(optimizer: Optimizer, names: Mapping[int, str]) -> list[Tensor]:
    """An optimizer's parameters, by their numbers."""
    found = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in found:
        if id(parameter) not in names:
            raise RuntimeError(
                "the optimizer has a parameter that the model has not, of shape "
                f"{tuple(parameter.shape)}"
            )
    return found


def _group_of(
    state: Mapping[str, Any], names: list[str], numbers: Mapping[str, int]
) -> dict[str, Any]:
    """The group of the same parameters, by their numbers."""
    for group in state["param_groups"]:
        if set(group["params"]) == set(names):
            return {**group, "params": [numbers[name] for name in names]}
    raise RuntimeError(f"the state dict has no group of the parameters {names}")


def _as_asked(value: Any, part: Part | None, options: StateDictOptions) -> Any:
    if options.full_state_dict and isinstance(value, Shard) and part is not None:
        value = _whole(value, part)
    if not options.cpu_offload:
        return value
    if isinstance(value, Shard):
        return Shard(value.tensor.detach().cpu(), value.offsets, value.shape)
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _whole(shard: Shard, part: Part) -> Tensor:
    """All ranks' parts, put together."""
    own = shard.tensor.detach().contiguous()
    every = [braze.empty_like(own) for _ in range(part.group.size())]
    dist.all_gather(every, own, group=part.group)
    return braze.cat(every, dim=part.dim)
