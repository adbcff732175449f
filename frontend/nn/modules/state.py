"""`state_dict` and `load_state_dict`: a module's parameters and persistent buffers by name, and
back.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from braze.autograd.modes import no_grad
from braze.capture import flush
from braze.nn.parameter import Parameter
from braze.placing import array_beside
from braze.removable import HookTable, RemovableHandle
from braze.sizes import Size
from braze.tensors import Tensor, from_array

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


class ModuleState:
    """What `Module` inherits: its state by name, and hooks around saving and loading."""

    _version: int
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _state_dict_pre_hooks: HookTable
    _state_dict_hooks: HookTable
    _load_state_dict_pre_hooks: HookTable
    _load_state_dict_post_hooks: HookTable

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """The parameters and persistent buffers of the module and all below it, by their dotted
        names.

        The tensors look into the module's own memory: they change as it trains. Clone what must
        not.

        Args:
            destination: the dictionary to fill; a new one by default.
            prefix: what all names start with.
            keep_vars: give the parameters themselves, not detached.
        """
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead.",
                FutureWarning,
                stacklevel=2,
            )
            given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
            destination = given["destination"] if destination is None else destination
            prefix = prefix or given.get("prefix", "")
            keep_vars = keep_vars or given.get("keep_vars", False)
        found = new_state_dict() if destination is None else destination
        metadata = {"version": self._version}
        if hasattr(found, "_metadata"):
            found._metadata[prefix[:-1]] = metadata
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(found, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_dict_hooks.values()):
            changed = hook(self, found, prefix, metadata)
            if changed is None:
                continue
            if getattr(hook, "_from_public_api", False):
                raise RuntimeError("state_dict post-hook must return None")
            found = changed
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers.

        Args:
            state_dict: names to tensors (or NumPy arrays).
            strict: whether the names must match exactly.
            assign: put the given tensors in place of the module's own instead of copying.

        Returns:
            The names that were missing or unexpected.

        Raises:
            TypeError: it is no mapping.
            RuntimeError: names (if strict) or shapes do not match; the message lists them all.
        """
        return load(self, state_dict, strict, assign)  # type: ignore[arg-type]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Enter the module's own state, not its children's."""
        for name, tensor in own_state(self):
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not ModuleState.get_extra_state:
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load the module's own state, not its children's; note what does not fit."""
        found = (strict, missing_keys, unexpected_keys, error_msgs)
        for hook, with_module in list(self._load_state_dict_pre_hooks.values()):
            module = (self,) if with_module else ()
            hook(*module, state_dict, prefix, local_metadata, *found)
        load_own(self, state_dict, prefix, local_metadata, *found)  # type: ignore[arg-type]

    def get_extra_state(self) -> Any:
        """Whatever else a subclass wants in its `state_dict()`."""
        raise RuntimeError(f"{type(self).__name__} has no extra state")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        raise RuntimeError(f"{type(self).__name__} does not implement set_extra_state()")

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict()`."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, metadata)` after `state_dict()`; it may change
        the dictionary, and returns None."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return RemovableHandle(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As `register_state_dict_post_hook`, but what it returns is what `state_dict()` gives.

        Raises:
            RuntimeError: the function was given to `register_state_dict_post_hook`.
        """
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was previously "
                "registered via register_state_dict_post_hook"
            )
        return RemovableHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, metadata, strict, missing, unexpected, errors)`
        before loading.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """As `register_load_state_dict_pre_hook`; the hook gets the module only if that is
        wanted."""
        return RemovableHandle(self._load_state_dict_pre_hooks, (hook, with_module))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` after loading; it may change the lists."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)


def own_state(module: ModuleState) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of a module's own parameters and persistent buffers."""
    hidden = module._non_persistent_buffers_set
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in hidden:
            yield name, buffer


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
    found = IncompatibleKeys([], [])
    errors: list[str] = []
    metadata = getattr(state_dict, "_metadata", None)
    given = StateDict(state_dict)  # which `_load_from_state_dict` may change
    if metadata is not None:
        given._metadata = metadata
    # Values are written straight into memory below, so nothing that reads the old ones may be
    # pending.
    flush()
    with no_grad():
        _load_below(module, given, "", metadata or {}, assign, found, errors)
    if strict:
        if found.unexpected_keys:
            names = _quoted(found.unexpected_keys)
            errors.insert(0, f"Unexpected key(s) in state_dict: {names}. ")
        if found.missing_keys:
            errors.insert(0, f"Missing key(s) in state_dict: {_quoted(found.missing_keys)}. ")
    if errors:
        text = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{text}")
    return found


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _load_below(
    module: Module,
    given: Mapping[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    assign: bool,
    found: IncompatibleKeys,
    errors: list[str],
) -> None:
    local = metadata.get(prefix[:-1], {})
    if assign:
        local["assign_to_params_buffers"] = True
    module._load_from_state_dict(
        given, prefix, local, True, found.missing_keys, found.unexpected_keys, errors
    )
    for name, child in module._modules.items():
        if child is not None:
            below = f"{prefix}{name}."
            part = {key: value for key, value in given.items() if key.startswith(below)}
            _load_below(child, part, below, metadata, assign, found, errors)
    for hook in list(module._load_state_dict_post_hooks.values()):
        if hook(module, found) is not None:
            raise AssertionError(
                "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to "
                "return new values, if incompatible_keys need to be modified, it should be done "
                "inplace."
            )


def load_own(
    module: Module,
    given: Mapping[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load a module's own parameters and persistent buffers; note what is missing, surplus or
    wrong.
    """
    own = dict(own_state(module))
    for name, tensor in own.items():
        key = prefix + name
        if key in given:
            _load_one(module, name, tensor, key, given[key], metadata, errors)
        elif strict:
            missing.append(key)
    extra = prefix + EXTRA_STATE
    if type(module).set_extra_state is not ModuleState.set_extra_state:
        if extra in given:
            module.set_extra_state(given[extra])
        elif strict:
            missing.append(extra)
    elif strict and extra in given:
        unexpected.append(extra)
    for key in given if strict else ():
        if key.startswith(prefix) and key != extra:
            name, _, below = key[len(prefix) :].partition(".")
            if name not in (module._modules if below else own):
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
    try:
        if metadata.get("assign_to_params_buffers"):
            _assign(module, name, tensor, value)
        else:
            _write(tensor, value)
    except Exception as error:
        errors.append(
            f'While copying the parameter named "{key}", whose dimensions in the model are '
            f"{tensor.shape} and whose dimensions in the checkpoint are {Size(shape)}, an "
            f"exception occurred : {error.args}."
        )


def _write(tensor: Tensor, value: Any) -> None:
    if tensor.is_sparse or isinstance(value, Tensor) and value.is_sparse:
        tensor.copy_(value)
        return
    array = value._numpy() if isinstance(value, Tensor) else value
    kind = tensor._handle.type.dtype.numpy
    made = np.array(array, dtype=kind, order="C").reshape(tuple(tensor.shape))
    tensor._replace(array_beside(tensor, made))


def _assign(module: Module, name: str, tensor: Tensor, value: Any) -> None:
    given = value if isinstance(value, Tensor) else from_array(np.ascontiguousarray(value))
    if tuple(given.shape) != tuple(tensor.shape):
        given = given[0]
    if isinstance(tensor, Parameter):
        if isinstance(given, Parameter):
            given.requires_grad_(tensor.requires_grad)
        else:
            given = Parameter(given, tensor.requires_grad)
    setattr(module, name, given)
