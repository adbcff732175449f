"""A module as a tree: walking over children, parameters and buffers, and converting all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from braze.autograd.modes import no_grad
from braze.functions.creation import check_device
from braze.functions.methods import zero_gradient
from braze.functions.promotion import cast
from braze.functions.tensor_types import dtype_of
from braze.ir.dtypes import DType, bf16, f16, f32, f64
from braze.nn.parameter import Parameter, set_value
from braze.tensors import Tensor

if TYPE_CHECKING:
    from braze.nn.modules.module import Module

Self = TypeVar("Self", bound="ModuleTree")
Member = TypeVar("Member")


class ModuleTree:
    """What `Module` inherits: the tables of its members and everything that goes over them."""

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]

    # Walking --------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Dotted name and module: this one (name ""), then all below it, depth first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self  # type: ignore[misc]
        for name, child in self._modules.items():
            if child is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Name and module of the direct children, each once."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The direct children, each once."""
        for _, child in self.named_children():
            yield child

    def _named_members(
        self,
        table: Callable[[Any], dict[str, Member | None]],
        prefix: str,
        recurse: bool,
        remove_duplicate: bool,
    ) -> Iterator[tuple[str, Member]]:
        seen: set[int] = set()
        modules: Any = [(prefix, self)]
        if recurse:
            modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for path, module in modules:
            for name, member in table(module).items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Dotted name and parameter, of this module and (if `recurse`) all below it."""
        return self._named_members(lambda m: m._parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once: what an optimizer is given."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Dotted name and buffer, of this module and (if `recurse`) all below it."""
        return self._named_members(lambda m: m._buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; "" is this one.

        Raises:
            AttributeError: there is none, or it is not a module.
        """
        from braze.nn.modules.module import Module

        module: Any = self
        for name in target.split(".") if target else []:
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        found: Module = module
        return found

    def _get_member(self, target: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        table = module._parameters if kind == "nn.Parameter" else module._buffers
        if name not in table:
            raise AttributeError(f"`{name}` is not {'an' if kind[0] == 'n' else 'a'} {kind}")
        return table[name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        parameter: Parameter = self._get_member(target, "nn.Parameter")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        buffer: Tensor = self._get_member(target, "buffer")
        return buffer

    # Changing all of it ---------------------------------------------------------------------------

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below and then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)  # type: ignore[arg-type]
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode (or, with False, evaluation mode) here and below.

        Raises:
            ValueError: `mode` is not a bool.
        """
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Set whether gradients are recorded for the parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                zero_gradient(parameter.grad)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace each parameter's, gradient's and buffer's value by `fn` of it."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        with no_grad():
            for parameter in self._parameters.values():
                if parameter is not None:
                    gradient = parameter.grad
                    _convert(parameter, fn)
                    if gradient is not None:
                        _convert(gradient, fn)
            for buffer in self._buffers.values():
                if buffer is not None:
                    _convert(buffer, fn)
        return self

    def to(self: Self, *args: Any, dtype: Any = None, device: Any = None, **ignored: Any) -> Self:
        """Convert the floating-point parameters and buffers to a dtype, or move everything to a
        device.

        Takes a dtype, a device, or a tensor to be like. `non_blocking` is accepted.

        Raises:
            TypeError: the dtype is not a floating-point one. RuntimeError: there is no such device.
        """
        for argument in args:
            if isinstance(argument, Tensor):
                dtype, device = argument.dtype, argument.device
            elif isinstance(argument, DType):
                dtype = argument
            elif not isinstance(argument, bool):
                device = argument
        check_device(device)
        if dtype is None:
            return self
        if not dtype.is_floating_point:
            raise TypeError(
                f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype!r}"
            )
        return self._floats_to(dtype)

    def _floats_to(self: Self, dtype: DType) -> Self:
        return self._apply(lambda t: cast(t, dtype) if t.dtype.is_floating_point else t)

    def type(self: Self, dst_type: Any) -> Self:
        """Convert all parameters and buffers, integer ones too, to a dtype, a tensor type or its
        name."""
        dtype = dtype_of(dst_type)
        return self._apply(lambda t: cast(t, dtype))

    def float(self: Self) -> Self:
        """Convert the floating-point parameters and buffers to float32."""
        return self._floats_to(f32)

    def double(self: Self) -> Self:
        """Convert the floating-point parameters and buffers to float64."""
        return self._floats_to(f64)

    def half(self: Self) -> Self:
        """Convert the floating-point parameters and buffers to float16."""
        return self._floats_to(f16)

    def bfloat16(self: Self) -> Self:
        """Convert the floating-point parameters and buffers to bfloat16."""
        return self._floats_to(bf16)

    def cuda(self: Self, device: Any = None) -> Self:
        """Move everything to a GPU.

        Raises:
            RuntimeError: this machine has none that tensors can be on.
        """
        check_device("cuda" if device is None else device)
        return self

    def share_memory(self: Self) -> Self:
        """Move the parameters and buffers to memory that processes share."""
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.share_memory_()
        return self

    def cpu(self: Self) -> Self:
        """Move everything to the CPU, where it is."""
        return self


def _convert(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    current = tensor.detach()
    new = fn(current)
    if new is not current:
        set_value(tensor, new)
