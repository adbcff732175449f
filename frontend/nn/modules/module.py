"""The base of all layers and networks: named parameters, buffers and children, and a cheap call.

PyTorch's protocol. Registering hooks is in `braze.nn.modules.hook_methods`, calls with hooks in
`braze.nn.modules.hooks`, saving and loading in `braze.nn.modules.state`, walking and converting in
`braze.nn.modules.tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from braze.module_changes import Changes
from braze.nn.modules import global_hooks
from braze.nn.modules.global_hooks import (
    CALL_HOOKS,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from braze.nn.modules.hook_methods import ModuleHooks
from braze.nn.modules.hooks import HookedCall
from braze.nn.modules.state import ModuleState
from braze.nn.modules.tree import ModuleTree
from braze.nn.parameter import Buffer, Parameter, mark_buffer
from braze.tensors import Tensor

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]


def type_name(value: Any) -> str:
    """A value's type as error messages name it."""
    kind = type(value)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )


class Module(ModuleTree, ModuleHooks, ModuleState):
    """A layer or network: subclass it, register parameters and children by assigning them, define
    `forward`.

    Attributes:
        training: whether dropout, batch normalisation and the like act as in training.

    Example:
        >>> from braze import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.head = nn.Linear(4, 2)
        ...     def forward(self, x):
        ...         return self.head(x)
        >>> Net()
        Net(
          (head): Linear(in_features=4, out_features=2, bias=True)
        )
    """

    dump_patches = False
    call_super_init = False

    _version = 1

    training: bool
    _compiled_call_impl: Callable[..., Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: none, unless the class sets `call_super_init`, which hands them to the next class
        in line."""
        if kwargs and not self.call_super_init:
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                f"'{next(iter(kwargs))}'"
            )
        if args and not self.call_super_init:
            raise TypeError(
                f"{type(self).__name__}.__init__() takes 1 positional argument but "
                f"{len(args) + 1} were given"
            )
        # Directly, since `__setattr__` needs these tables.
        self.__dict__.update(_empty_tables(), training=True)
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(_empty_tables() | state)

    # Calling --------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        # Read from this frame when an error message names the layer: see braze.sites.
        __braze_module__ = self  # noqa: F841
        if (
            self._forward_pre_hooks
            or self._forward_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or CALL_HOOKS
        ):
            return HookedCall(self, args, kwargs).run()
        return self.forward(*args, **kwargs) if kwargs else self.forward(*args)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Let calls of this module go through `braze.compile`, whose arguments these are."""
        from braze.compiled import compile

        self.__dict__["_compiled_call_impl"] = compile(_Uncompiled(self), *args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    # Attributes -----------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name without one.

        Raises:
            KeyError: the name is empty, has a dot, or is an attribute already.
            TypeError: it is not a parameter.
            ValueError: it was computed, and so is no leaf.
        """
        Changes.count += 1
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{type_name(param)}' object to parameter '{name}' "
                    "(braze.nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must "
                    f"be created explicitly. To express '{name}' as a function of another Tensor, "
                    "compute the value in the forward() method."
                )
            param = global_hooks.registered(global_hooks.PARAMETERS, self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but is not trained.

        Args:
            persistent: whether it is part of `state_dict()`.

        Raises:
            KeyError: as `register_parameter`. TypeError: it is not a tensor.
        """
        Changes.count += 1
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"cannot assign '{type_name(tensor)}' object to buffer '{name}' "
                    "(braze.Tensor or None required)"
                )
            mark_buffer(tensor)
        self._buffers[name] = global_hooks.registered(global_hooks.BUFFERS, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child.

        Raises:
            TypeError: it is not a module. KeyError: as `register_parameter`.
        """
        Changes.count += 1
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{type_name(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = global_hooks.registered(global_hooks.MODULES, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """As `add_module`."""
        self.add_module(name, module)

    def _check_name(self, kind: str, name: str, table: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type_name(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in table and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        try:
            entries = own["_parameters"]
            if name in entries:
                return entries[name]
            entries = own["_modules"]
            if name in entries:
                return entries[name]
            entries = own["_buffers"]
            if name in entries:
                return entries[name]
        except KeyError:
            pass  # before `Module.__init__` was called
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        Changes.count += 1
        own = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in own:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif "_parameters" in own and name in self._parameters:
            self._refuse(value, f"parameter '{name}' (braze.nn.Parameter or None expected)")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            if "_modules" not in own:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_modules")
            value = global_hooks.registered(global_hooks.MODULES, self, name, value)
            self._modules[name] = value
        elif "_modules" in own and name in self._modules:
            self._refuse(value, f"child module '{name}' (braze.nn.Module or None expected)")
            value = global_hooks.registered(global_hooks.MODULES, self, name, value)
            self._modules[name] = value
        elif isinstance(value, Buffer) or ("_buffers" in own and name in self._buffers):
            self._set_buffer(name, value)
        else:
            object.__setattr__(self, name, value)

    def _set_buffer(self, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"cannot assign '{type_name(value)}' as buffer '{name}' "
                "(braze.nn.Buffer, braze.Tensor or None expected)"
            )
        if isinstance(value, Buffer):
            persistent = value.persistent
        else:
            persistent = name not in self._non_persistent_buffers_set
        self.register_buffer(name, value, persistent)

    def _forget(self, name: str, keep: str) -> None:
        """Take a name out of wherever it is, so that it can be registered as something else."""
        self.__dict__.pop(name, None)
        self._non_persistent_buffers_set.discard(name)
        for table in {"_parameters", "_buffers", "_modules"} - {keep}:
            self.__dict__[table].pop(name, None)

    @staticmethod
    def _refuse(value: Any, what: str) -> None:
        if value is not None:
            raise TypeError(f"cannot assign '{type_name(value)}' as {what}")

    def __delattr__(self, name: str) -> None:
        Changes.count += 1
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        tables = (self._parameters, self._modules, self._buffers)
        names = {*dir(type(self)), *self.__dict__, *(name for table in tables for name in table)}
        return sorted(name for name in names if not name[0].isdigit())

    # Text -----------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """A layer's settings, for its line in `repr`."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr()
        lines = own.split("\n") if own else []
        children = [f"({name}): {indented(repr(child))}" for name, child in self._modules.items()]
        if len(lines) <= 1 and not children:
            return f"{self._get_name()}({''.join(lines)})"
        body = "\n  ".join([*lines, *children])
        return f"{self._get_name()}(\n  {body}\n)"


class _Uncompiled:
    """A module whose calls do not go through what its `compile()` made."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = self._module.__dict__
        compiled = own.pop("_compiled_call_impl")
        try:
            return self._module(*args, **kwargs)
        finally:
            own["_compiled_call_impl"] = compiled


def _empty_tables() -> dict[str, Any]:
    """The attributes that every module has, whatever older pickle it comes from."""
    tables = (
        "_parameters",
        "_buffers",
        "_modules",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_backward_pre_hooks",
        "_backward_hooks",
        "_state_dict_pre_hooks",
        "_state_dict_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    )
    empty: dict[str, Any] = {name: {} for name in tables}
    return empty | {"_non_persistent_buffers_set": set(), "_is_full_backward_hook": None}


def indented(text: str) -> str:
    """With all lines but the first moved in."""
    return text.replace("\n", "\n  ")
