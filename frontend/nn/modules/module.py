"""The base of all layers and networks: named parameters, buffers and children, and a cheap call.

PyTorch's protocol. Hooks are in `braze.nn.modules.hooks`, saving and loading in
`braze.nn.modules.state`, walking and converting in `braze.nn.modules.tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from braze.nn.modules import state
from braze.nn.modules.hooks import ForwardHook, HookHandle, call_with_hooks
from braze.nn.modules.tree import ModuleTree
from braze.nn.parameter import Parameter, mark_buffer
from braze.removable import HookTable
from braze.tensors import Tensor


def type_name(value: Any) -> str:
    """A value's type as error messages name it."""
    kind = type(value)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )


class Module(ModuleTree):
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

    _version = 1

    training: bool
    _forward_pre_hooks: HookTable
    _forward_hooks: HookTable
    _backward_pre_hooks: HookTable
    _backward_hooks: HookTable

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            given = f"{len(args)} positional" if args else f"keyword {sorted(kwargs)[0]!r}"
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected {given} argument")
        # Directly, since `__setattr__` needs these tables.
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent_buffers_set=set(),
            _forward_pre_hooks={},
            _forward_hooks={},
            _backward_pre_hooks={},
            _backward_hooks={},
            _state_dict_pre_hooks={},
            _state_dict_hooks={},
            _load_state_dict_pre_hooks={},
            _load_state_dict_post_hooks={},
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # Calling --------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Read from this frame when an error message names the layer: see braze.sites.
        __braze_module__ = self  # noqa: F841
        if (
            self._forward_pre_hooks
            or self._forward_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
        ):
            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call `hook(module, args)` before `forward`; what it returns replaces the arguments."""
        entry = ForwardHook(hook, with_kwargs, False)
        return HookHandle(self._forward_pre_hooks, entry, prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> HookHandle:
        """Call `hook(module, args, result)` after `forward`; what it returns replaces the result.

        Args:
            always_call: call it, with None as the result, even if `forward` raises.
        """
        entry = ForwardHook(hook, with_kwargs, always_call)
        return HookHandle(self._forward_hooks, entry, prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(module, grad_output)` when the gradients of the results are known; it may
        replace them.
        """
        return HookHandle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the arguments are
        known.

        Both are tuples, one entry for each positional argument or result (None where it is no
        tensor or needs no gradient). A tuple that the hook returns replaces `grad_input`. A result
        that nothing used counts as zero.
        """
        return HookHandle(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """As `register_full_backward_hook`, under the name that PyTorch deprecates.

        There it sees the gradients of the module's last operation only; here those of the module.
        """
        return HookHandle(self._backward_hooks, hook)

    # Attributes -----------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name without one.

        Raises:
            KeyError: the name is empty, has a dot, or is an attribute already.
            TypeError: it is not a parameter.
            ValueError: it was computed, and so is no leaf.
        """
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
                    "be created "
                    "explicitly. To express one as a function of another Tensor, compute the value "
                    "in the forward() "
                    "method."
                )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but is not trained.

        Args:
            persistent: whether it is part of `state_dict()`.

        Raises:
            KeyError: as `register_parameter`. TypeError: it is not a tensor.
        """
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
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child.

        Raises:
            TypeError: it is not a module. KeyError: as `register_parameter`.
        """
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{type_name(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = module

    register_module = add_module

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
        for table in ("_parameters", "_buffers", "_modules"):
            entries = own.get(table)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in own:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_modules" not in own:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_modules")
            self._modules[name] = value
        elif "_parameters" in own and name in self._parameters:
            self._refuse(value, f"parameter '{name}' (braze.nn.Parameter or None expected)")
            self._parameters[name] = None
        elif "_modules" in own and name in self._modules:
            self._refuse(value, f"child module '{name}' (braze.nn.Module or None expected)")
            self._modules[name] = None
        elif "_buffers" in own and name in self._buffers:
            if isinstance(value, Tensor):
                mark_buffer(value)
            else:
                self._refuse(value, f"buffer '{name}' (braze.Tensor or None expected)")
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

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
        tables = (self._parameters, self._buffers, self._modules)
        return sorted({*super().__dir__(), *(name for table in tables for name in table)})

    # State ----------------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """The parameters and persistent buffers of the module and all below it, by their dotted
        names.

        The tensors look into the module's own memory: they change as it trains. Clone what must
        not.
        """
        found = state.new_state_dict() if destination is None else destination
        if hasattr(found, "_metadata"):
            found._metadata[prefix[:-1]] = {"version": self._version}
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(found, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_dict_hooks.values()):
            changed = hook(self, found, prefix, {"version": self._version})
            if changed is not None:
                found = changed
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state.IncompatibleKeys:
        """Copy values into the parameters and buffers.

        Args:
            state_dict: names to tensors (or NumPy arrays).
            strict: whether the names must match exactly.
            assign: put the given tensors in place of the module's own instead of copying.

        Returns:
            The names that were missing or unexpected.

        Raises:
            RuntimeError: names (if strict) or shapes do not match; the message lists them all.
        """
        return state.load(self, state_dict, strict, assign)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        state.save_own(self, destination, prefix, keep_vars)

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
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(
                self,
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )
        state.load_own(
            self, state_dict, prefix, local_metadata, missing_keys, unexpected_keys, error_msgs
        )

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    def get_extra_state(self) -> Any:
        """Whatever else a subclass wants in its `state_dict()`."""
        raise RuntimeError(f"{type(self).__name__} has no extra state")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        raise RuntimeError(f"{type(self).__name__} does not implement set_extra_state()")

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict()`."""
        return HookHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, state_dict, prefix, metadata)` after `state_dict()`."""
        return HookHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, state_dict, prefix, metadata, strict, missing, unexpected, errors)`
        before loading.
        """
        return HookHandle(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, incompatible_keys)` after loading; it may change the lists."""
        return HookHandle(self._load_state_dict_post_hooks, hook)

    # Text -----------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """A layer's settings, for its line in `repr`."""
        return ""

    def __repr__(self) -> str:
        lines = self.extra_repr().split("\n") if self.extra_repr() else []
        children = [f"({name}): {_indented(repr(child))}" for name, child in self._modules.items()]
        if len(lines) <= 1 and not children:
            return f"{self._get_name()}({''.join(lines)})"
        body = "\n  ".join([*lines, *children])
        return f"{self._get_name()}(\n  {body}\n)"


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
