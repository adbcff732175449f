"""Lazy modules: layers that learn the size of their input from the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from braze.autograd.modes import no_grad
from braze.nn.modules.module import Module
from braze.nn.modules.state import own_state
from braze.nn.uninitialized import is_lazy
from braze.tensors import Tensor


class LazyModuleMixin(Module):
    """Makes a module lazy: put it before the module among the bases.

    The module holds uninitialised parameters and buffers. `initialize_parameters` is called with
    the first input, just before `forward`, and gives them their shapes; then the module becomes an
    instance of `cls_to_become`. State can be loaded before: what is loaded gives the shapes.

    Attributes:
        cls_to_become: the class of the module once it is initialised; None keeps its own.
    """

    cls_to_become: type[Module] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self.register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(
            self._infer_parameters, with_kwargs=True
        )

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters the shapes that an input asks for; every lazy module defines it."""
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {type(self).__name__}"
        )

    def _own(self) -> Iterator[tuple[dict[str, Any], str, Any]]:
        for table in (self._parameters, self._buffers):
            for name, tensor in list(table.items()):
                yield table, name, tensor

    def has_uninitialized_params(self) -> bool:
        """Whether there are parameters or buffers without a shape."""
        return any(is_lazy(tensor) for _, _, tensor in self._own())

    def _infer_parameters(self, module: Any, args: Any, kwargs: Any = None) -> None:
        """Before the first `forward`: initialise, and be lazy no longer."""
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        lazy = [entry for entry in self._own() if is_lazy(entry[2])]
        for table, name, _ in lazy:
            table[name] = None
        try:
            super()._apply(fn, recurse)
        finally:
            for table, name, tensor in lazy:
                table[name] = tensor
        with no_grad():
            for _, _, tensor in lazy:
                tensor.convert(fn)
        return self

    # State ----------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, tensor in own_state(self):
            kept = keep_vars or is_lazy(tensor)
            destination[prefix + name] = tensor if kept else tensor.detach()

    def _lazy_load_hook(
        self,
        module: Any,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Before loading: take on the shapes of what is loaded."""
        for _, name, tensor in module._own():
            given = state_dict.get(prefix + name)
            if is_lazy(tensor) and given is not None and not is_lazy(given):
                with no_grad():
                    tensor.materialize(given.shape)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # What has a value on neither side stays as it is.
        both = [
            (table, name, tensor, state_dict.pop(prefix + name))
            for table, name, tensor in self._own()
            if is_lazy(tensor) and is_lazy(state_dict.get(prefix + name))
        ]
        for table, name, _, _ in both:
            table[name] = None
        try:
            super()._load_from_state_dict(state_dict, prefix, *rest)
        finally:
            for table, name, tensor, given in both:
                table[name] = tensor
                state_dict[prefix + name] = given

    def _replicate_for_data_parallel(self) -> Any:
        raise RuntimeError(
            "Modules with uninitialized parameters can't be used with `DataParallel`. "
            "Run a dummy forward pass to correctly initialize the modules"
        )
