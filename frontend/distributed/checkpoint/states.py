"""Modules, optimizers and the like in a state dict, as nested dicts of what this rank has.

In: a state dict with such objects.  Out: one without them; what layers of
`distributed.tensor.parallel` share out, and what optimizers keep for it, as `Shard`s. And back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from braze.distributed.checkpoint.pieces import Shard
from braze.distributed.groups import ProcessGroup
from braze.nn.modules.module import Module
from braze.optim.optimizer import Optimizer
from braze.tensors import Tensor


@dataclass(frozen=True)
class Part:
    """What this rank has of a parameter.

    dim, group: along which it is shared out, and among whom.
    """

    shard: Shard
    dim: int
    group: ProcessGroup


# By the identity of parameters that are shared out.
Parts = dict[int, Part]


def is_stateful(value: Any) -> bool:
    """Whether something has a state dict that can be loaded again."""
    return all(callable(getattr(value, n, None)) for n in ("state_dict", "load_state_dict"))


def parts_of(state: Mapping[Any, Any]) -> Parts:
    """What the modules in a state dict have shared out."""
    found: Parts = {}
    for value in state.values():
        if isinstance(value, Module):
            for _, layer in _sharded_layers(value):
                for name, part in layer.sharded_state_dict().items():
                    if isinstance(part, Shard):
                        dim, group = layer.shared_along[name], layer.process_group
                        found[id(getattr(layer, name))] = Part(part, dim, group)
    return found


def states_of(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """A state dict in which such objects are their own state dicts.

    Raises: TypeError, an optimizer keeps something of another shape for a parameter that is shared
        out.
    """
    parts = parts_of(state)
    return {key: state_of(v, parts) if is_stateful(v) else v for key, v in state.items()}


def state_of(value: Any, parts: Parts) -> dict[Any, Any]:
    """The state dict of one such object.  Raises: as `states_of`."""
    state = dict(getattr(value, "shard_state_dict", value.state_dict)())
    if isinstance(value, Module):
        for prefix, layer in _sharded_layers(value):
            state |= {f"{prefix}{name}": v for name, v in layer.sharded_state_dict().items()}
    elif isinstance(value, Optimizer):
        entries = dict(state["state"])
        for number, part in _numbered(value, parts):
            if number in entries:
                entries[number] = {
                    name: _as_part(name, kept, part) for name, kept in entries[number].items()
                }
        state["state"] = entries
    return state


def give_state(value: Any, state: Mapping[Any, Any], parts: Parts, **how: Any) -> Any:
    """Let an object go on from its state dict of `states_of`, in which what was not there before
    may be whole; what its `load_state_dict` gives."""
    own = dict(state)
    if isinstance(value, Module):
        named = {name: parts[id(p)] for name, p in value.named_parameters() if id(p) in parts}
        own |= {name: _own(own[name], p.shard) for name, p in named.items() if name in own}
    elif isinstance(value, Optimizer):
        entries = dict(own["state"])
        for number, part in _numbered(value, parts):
            if number in entries:
                entries[number] = {n: _own(kept, part) for n, kept in entries[number].items()}
        own["state"] = entries
    return value.load_state_dict(own, **how)


def _sharded_layers(module: Module) -> Iterator[tuple[str, Any]]:
    """Those layers, and what their parameters' names begin with."""
    for path, layer in module.named_modules():
        if hasattr(layer, "sharded_state_dict"):
            yield (f"{path}." if path else ""), layer


def _numbered(optimizer: Optimizer, parts: Parts) -> Iterator[tuple[int, Shard]]:
    """The parameters that are shared out, by their numbers in the optimizer's state dict."""
    every = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(every):
        if id(parameter) in parts:
            yield number, parts[id(parameter)].shard


def _as_part(name: str, kept: Any, part: Shard) -> Any:
    if not isinstance(kept, Tensor) or kept.ndim == 0:
        return kept
    if tuple(kept.shape) != tuple(part.tensor.shape):
        raise TypeError(
            f"checkpoint: an optimizer keeps {name} of shape {tuple(kept.shape)} for a parameter "
            f"of shape {tuple(part.tensor.shape)} that is shared out; only what has the "
            "parameter's shape is a part of a larger one"
        )
    return Shard(kept, part.offsets, part.shape)


def _own(kept: Any, part: Shard) -> Any:
    """This rank's part of what may be whole."""
    if isinstance(kept, Shard):
        return kept.tensor
    if not isinstance(kept, Tensor) or tuple(kept.shape) != part.shape:
        return kept
    for dim, (offset, size) in enumerate(zip(part.offsets, part.tensor.shape, strict=True)):
        kept = kept.narrow(dim, offset, size)
    return kept.clone()
