"""Parameters that are computed from others, by a module: `register_parametrization`."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from braze.autograd.modes import no_grad
from braze.nn.modules.containers import ModuleDict, ModuleList
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter, set_value
from braze.sites import describing
from braze.tensors import Tensor


class _Cache:
    """What was computed inside `cached()`: (id of a module, name) -> tensor."""

    depth = 0
    tensors: dict[tuple[int, str], Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrised tensor once inside, however often it is looked at."""
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.tensors.clear()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _give(tensor: Tensor, value: Tensor) -> None:
    """Let a tensor, which stays the object that optimizers know, have another's value."""
    if value is not tensor:
        set_value(tensor, value.detach())


def _check_tensor(value: Any, what: str = "A parametrization must return a tensor.") -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{what} Got {type(value).__name__}.")


def _check_alike(start: str, new: Any, new_name: str, old: Any, old_name: str) -> None:
    """Raises: ValueError unless dtypes and shapes are the same."""
    for what in ("dtype", "shape"):
        one, two = getattr(old, what), getattr(new, what)
        if one != two:
            raise ValueError(
                f"{start.format(what)}, unless `unsafe` flag is enabled.\n"
                f"{old_name}{what}: {one}\n{new_name}{what}: {two}"
            )


_MAY_NOT_CHANGE = "Registering a parametrization may not change the {} of the tensor"


class ParametrizationList(ModuleList):
    """The modules that a tensor goes through, and the tensor (or tensors) that it starts from.

    These are `original`, or, where the first module takes several, `original0`, `original1`, ...

    Args:
        modules: each takes the result of the one before.
        original: the tensor so far.
        unsafe: do not check that dtype and shape stay.

    Raises:
        ValueError: no modules, or what they and their `right_inverse` give does not fit.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        before = SimpleNamespace(dtype=original.dtype, shape=original.shape)
        new: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass  # and is taken to be the identity, as where there is none
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if isinstance(new, Tensor) else len(new)
        if isinstance(new, Tensor):
            if new.dtype != original.dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {original.dtype}\n"
                    f"right_inverse(original).dtype: {new.dtype}"
                )
            _give(original, new)
            _register(self, "original", original)
        else:
            self._register_all(new, original)
        if not unsafe:
            result = self()
            _check_tensor(result)
            _check_alike(_MAY_NOT_CHANGE, result, "parametrized ", before, "unparametrized ")

    def _register_all(self, tensors: Sequence[Any], original: Tensor) -> None:
        for position, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    "'right_inverse' must return a Tensor or a Sequence of tensors (list, "
                    f"tuple...). Got element {position} of the sequence with type "
                    f"{type(tensor).__name__}."
                )
            if isinstance(original, Parameter):
                tensor = Parameter(tensor, original.requires_grad)
            tensor.requires_grad_(original.requires_grad)
            _register(self, f"original{position}", tensor)

    def right_inverse(self, value: Tensor) -> None:
        """Choose the original tensors so that the result is a given value.

        Raises:
            RuntimeError: a module has no `right_inverse`.
            ValueError: what they return does not fit the original tensors.
        """
        found: Any = value
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse."
                    )
                found = module.right_inverse(found)
            if self.is_tensor:
                _check_tensor(found, "`right_inverse` should return a tensor.")
                self._set("original", found, "The tensor")
                return
            if not isinstance(found, Sequence):
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors. Got "
                    f"{type(found).__name__}."
                )
            if len(found) != self.ntensors:
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors of length "
                    f"{self.ntensors}. Got a sequence of length {len(found)}."
                )
            for position, tensor in enumerate(found):
                _check_tensor(tensor, "'right_inverse' must return a sequence of tensors.")
                self._set(f"original{position}", tensor, f"Tensor {position}")

    def _set(self, name: str, value: Tensor, what: str) -> None:
        original = getattr(self, name)
        if value.dtype != original.dtype:
            raise ValueError(
                f"{what} returned by `right_inverse` has dtype {value.dtype} while `{name}` has "
                f"dtype {original.dtype}"
            )
        _give(original, value)

    def forward(self) -> Any:
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        first, *others = self
        result = first(*(getattr(self, name) for name in names))
        for module in others:
            result = module(result)
        return result


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    if id(self) in memo:
        return memo[id(self)]
    new = self.__new__(type(self))
    memo[id(self)] = new
    new.__dict__ = copy.deepcopy(self.__dict__, memo)
    for slot in copyreg._slotnames(type(self)):  # type: ignore[attr-defined]
        if hasattr(self, slot):
            setattr(new, slot, copy.deepcopy(getattr(self, slot), memo))
    return new


def _getstate(self: Any) -> Any:
    raise RuntimeError(
        "Serialization of parametrized modules is only supported through state_dict()."
    )


def _inject_class(module: Module) -> None:
    """Give the module a class of its own, for properties; a pickle could not find it again."""
    kind = type(module)
    members: dict[str, Any] = {"__getstate__": _getstate}
    if not hasattr(kind, "__deepcopy__"):
        members["__deepcopy__"] = _deepcopy
    module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), members)


def _inject_property(module: Module, name: str) -> None:
    def get(self: Any) -> Any:
        parametrization = self.parametrizations[name]
        if describing():  # whether there is such a tensor; no time to compute it
            return next(parametrization.parameters(), None)
        if not _Cache.depth:
            return parametrization()
        key = (id(self), name)
        if key not in _Cache.tensors:
            _Cache.tensors[key] = parametrization()
        return _Cache.tensors[key]

    def put(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let a module's parameter or buffer be what another module computes from it.

    What is computed is the attribute `tensor_name`; what it is computed from is in
    `module.parametrizations[tensor_name]`, as `original`. Several parametrizations follow each
    other. Assigning to the attribute goes through `right_inverse`, which a parametrization may
    define; it also gives the first originals, which may be several tensors.

    Args:
        unsafe: do not check that dtype and shape stay.

    Raises:
        ValueError: there is no such tensor, or what the parametrization gives does not fit.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        stack: Any = module.parametrizations[tensor_name]
        stack.append(parametrization)
        stack.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        original = getattr(module, tensor_name)
        stack = ParametrizationList([parametrization], original, unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = stack
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    return module


def _check_next(module: Module, name: str, parametrization: Module) -> None:
    """Raises: ValueError unless the parametrization and its inverse keep dtype and shape."""
    before = getattr(module, name)
    after = parametrization(before)
    _check_tensor(after)
    own = f"module.{name}."
    _check_alike(_MAY_NOT_CHANGE, after, f"parametrization(module.{name}).", before, own)
    if hasattr(parametrization, "right_inverse"):
        try:
            back = parametrization.right_inverse(after)
        except NotImplementedError:
            return
        _check_tensor(back, "parametrization.right_inverse must return a tensor.")
        start = (
            "The tensor returned by parametrization.right_inverse must have the same {} as "
            f"module.{name}"
        )
        _check_alike(start, back, "returned ", before, own)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrizations (of a tensor)."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a tensor a parameter or buffer again.

    Args:
        leave_parametrized: with the value that is computed; else with that of `original`.

    Raises:
        ValueError: it has no parametrization, or has several originals and no value of its own.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    stack: Any = module.parametrizations[tensor_name]
    if stack.is_tensor:
        original = stack.original
        if leave_parametrized:
            with no_grad():
                _give(original, getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value) if value.requires_grad else value
    else:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is "
            "parametrized in terms of a sequence of tensors."
        )
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that a module had before it was parametrised."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give a module the parametrizations of another (of one tensor, or all), and the originals."""
    if not is_parametrized(from_module):
        return to_module
    names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name)))
        source: Any = from_module.parametrizations[name]
        for parametrization in source:
            register_parametrization(to_module, name, parametrization)
        target: Any = to_module.parametrizations[name]
        for key in (*source._parameters, *source._buffers):
            setattr(target, key, getattr(source, key))
    return to_module
