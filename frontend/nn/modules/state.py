"""`state_dict` and `load_state_dict`: a module's parameters and persistent buffers by name, and
back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from braze.autograd.modes import no_grad
from braze.capture import flush
from braze.nn.parameter import Parameter, mark_buffer
from braze.tensors import Size, Tensor, from_array

if TYPE_CHECKING:
    from braze.nn.modules.module import Module

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What did not match in a `load_state_dict` that was not strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:  # also what str() gives
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class StateDict(OrderedDict[str, Any]):
    """Names to tensors, in the order of registration. `_metadata` holds each module's version."""

    _metadata: OrderedDict[str, dict[str, Any]]


def new_state_dict() -> StateDict:
    """An empty one."""
    state = StateDict()
    state._metadata = OrderedDict()
    return state


def save_own(module: Module, destination: Any, prefix: str, keep_vars: bool) -> None:
    """A module's own parameters and persistent buffers, not its children's."""
    for name, parameter in module._parameters.items():
        if parameter is not None:
            destination[prefix + name] = parameter if keep_vars else parameter.detach()
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            destination[prefix + name] = buffer if keep_vars else buffer.detach()
    if module._has_extra_state():
        destination[prefix + EXTRA_STATE] = module.get_extra_state()


def load(
    module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Copy (or with `assign` put) the values into a module and all below it.

    Raises:
        TypeError: it is no mapping.
        RuntimeError: shapes differ, or, if strict, the names do.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    metadata = getattr(state_dict, "_metadata", None) or {}
    given = StateDict(state_dict)
    # Values are written straight into memory below, so nothing that reads the old ones may be
    # pending.
    flush()
    with no_grad():
        _load_below(module, given, "", metadata, strict, assign, missing, unexpected, errors)
    result = IncompatibleKeys(missing, unexpected)
    _after_load(module, result)
    if strict:
        if unexpected:
            errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
        if missing:
            errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if errors:
        text = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{text}")
    return result


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _load_below(
    module: Module,
    given: StateDict,
    prefix: str,
    metadata: Mapping[str, Any],
    strict: bool,
    assign: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    local = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local["assign_to_params_buffers"] = True
    module._load_from_state_dict(given, prefix, local, True, missing, unexpected, errors)
    for name, child in module._modules.items():
        if child is not None:
            below = f"{prefix}{name}."
            part = StateDict((key, value) for key, value in given.items() if key.startswith(below))
            _load_below(child, part, below, metadata, strict, assign, missing, unexpected, errors)


def _after_load(module: Module, result: IncompatibleKeys) -> None:
    for child in module.modules():
        for hook in list(child._load_state_dict_post_hooks.values()):
            if hook(child, result) is not None:
                raise RuntimeError(
                    "Hooks registered with ``register_load_state_dict_post_hook`` are not expected "
                    "to return "
                    "new values, if incompatible_keys need to be modified, it should be done "
                    "inplace."
                )


def load_own(
    module: Module,
    given: Mapping[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load a module's own parameters and persistent buffers; note what is missing, surplus or
    wrong.
    """
    named: dict[str, Tensor | None] = dict(module._parameters)
    named.update(
        (name, buffer)
        for name, buffer in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    )
    own = {name: tensor for name, tensor in named.items() if tensor is not None}
    for name, tensor in own.items():
        key = prefix + name
        if key not in given:
            missing.append(key)
            continue
        _load_one(module, name, tensor, key, given[key], metadata, errors)
    extra = prefix + EXTRA_STATE
    if module._has_extra_state():
        if extra in given:
            module.set_extra_state(given[extra])
        else:
            missing.append(extra)
    for key in given:
        if key.startswith(prefix) and (key != extra or not module._has_extra_state()):
            name, _, below = key[len(prefix) :].partition(".")
            known = name in module._modules if below else name in own
            if not known:
                unexpected.append(key)


def _load_one(
    module: Module,
    name: str,
    tensor: Tensor,
    key: str,
    value: Any,
    metadata: Mapping[str, Any],
    errors: list[str],
) -> None:
    if not isinstance(value, (Tensor, np.ndarray)):
        errors.append(
            f'While copying the parameter named "{key}", expected a Tensor or an array from '
            f"checkpoint but received {type(value)}"
        )
        return
    shape = tuple(value.shape)
    if shape != tuple(tensor.shape) and not (tensor.ndim == 0 and shape == (1,)):
        errors.append(
            f"size mismatch for {key}: copying a param with shape {Size(shape)} from checkpoint, "
            f"the shape in current model is {tensor.shape}."
        )
        return
    if metadata.get("assign_to_params_buffers"):
        _assign(module, name, tensor, value)
        return
    if tensor.is_sparse or isinstance(value, Tensor) and value.is_sparse:
        try:
            tensor.copy_(value)
        except RuntimeError as error:
            errors.append(f'While copying the parameter named "{key}": {error}')
        return
    array = value._numpy() if isinstance(value, Tensor) else value
    kind = tensor._handle.type.dtype.numpy
    tensor._replace(from_array(np.array(array, dtype=kind, order="C").reshape(tuple(tensor.shape))))


def _assign(module: Module, name: str, tensor: Tensor, value: Any) -> None:
    given = value if isinstance(value, Tensor) else from_array(np.ascontiguousarray(value))
    if isinstance(tensor, Parameter):
        if not isinstance(given, Parameter):
            given = Parameter(given, tensor.requires_grad)
        module._parameters[name] = given
    else:
        mark_buffer(given)
        module._buffers[name] = given
