"""A module as a tree: walking over children, parameters and buffers, and converting all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from braze.autograd.modes import no_grad
from braze.devices import check_device
from braze.functions.creation import empty_like
from braze.functions.methods import zero_gradient
from braze.functions.promotion import cast
from braze.functions.tensor_types import dtype_of
from braze.ir.dtypes import DType, bf16, f16, f32, f64
from braze.module_changes import Changes
from braze.nn.parameter import Parameter, mark_buffer, set_value
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

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module where a dotted name says.

        Args:
            strict: only in place of one that is there.

        Raises:
            ValueError: the name is empty, or it is not a module.
            AttributeError: there is nothing on the way, or something else than a module in that
                place, or (if strict) nothing.
        """
        from braze.nn.modules.module import Module

        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict or hasattr(parent, name):
            parent.get_submodule(name)
        setattr(parent, name, module)

    def _get_member(self, target: str) -> tuple[Any, Module, str]:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        return getattr(module, name), module, name

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        parameter, _, name = self._get_member(target)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return parameter

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name.

        Raises:
            AttributeError: there is none.
        """
        buffer, module, name = self._get_member(target)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer  # type: ignore[no-any-return]

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
        """Give each parameter and gradient the value `fn` of it, and replace each buffer by it."""
        Changes.count += 1
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
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = new = fn(buffer)
                    mark_buffer(new)
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Convert the floating-point and complex parameters and buffers to a dtype, or move
        everything to a device.

        Takes a device and a dtype, or a dtype, or a tensor to be like; then `non_blocking`, and by
        keyword `memory_format`.

        Raises:
            TypeError: the dtype is not a floating-point or complex one, or other arguments.
            RuntimeError: there is no such device.
        """
        given = _named(args, kwargs)
        dtype, device, layout = (given.get(k) for k in ("dtype", "device", "memory_format"))
        check_device(device)
        if dtype is not None and not dtype.is_differentiable:
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={dtype!r}"
            )

        def convert(tensor: Tensor) -> Tensor:
            changes = dtype is not None and tensor.dtype.is_differentiable
            more = {"memory_format": layout} if layout is not None and tensor.ndim in (4, 5) else {}
            return tensor.to(device, dtype if changes else tensor.dtype, **more)

        return self._apply(convert)

    def to_empty(self: Self, *, device: Any, recurse: bool = True) -> Self:
        """Move everything to a device without its values, which are undefined afterwards.

        Args:
            recurse: whether the modules below are moved too.

        Raises:
            RuntimeError: there is no such device.
        """
        check_device(device)
        return self._apply(lambda t: empty_like(t, device=device), recurse)

    def _floats_to(self: Self, dtype: DType) -> Self:
        return self._apply(lambda t: cast(t, dtype) if t.dtype.is_floating_point else t)

    def type(self: Self, dst_type: Any) -> Self:
        """Convert all parameters and buffers, integer ones too, to a dtype, a tensor type or its
        name, as `Tensor.type` does."""
        dtype_of(dst_type)  # raises, also where there is nothing to convert
        return self._apply(lambda t: t.type(dst_type))

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
            RuntimeError: there is something to move, and this machine has no GPU for it.
        """
        return self._apply(lambda tensor: tensor.cuda(device))

    def share_memory(self: Self) -> Self:
        """Move the parameters, gradients and buffers to memory that processes share."""
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.share_memory_()
            if tensor.grad is not None:
                tensor.grad.share_memory_()
        return self

    def cpu(self: Self) -> Self:
        """Move everything to the CPU."""
        return self._apply(lambda tensor: tensor.cpu())


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `to` by name.

    Raises:
        TypeError: they are others.
    """
    found = dict(kwargs)
    rest = list(args)
    tensor = found.pop("tensor", None)
    if rest and isinstance(rest[0], Tensor):
        tensor = rest.pop(0)
    if tensor is not None:
        found |= {"dtype": tensor.dtype, "device": tensor.device}
    elif rest and not isinstance(rest[0], DType):
        found["device"] = rest.pop(0)
    if rest and (rest[0] is None or isinstance(rest[0], DType)) and tensor is None:
        found["dtype"] = rest.pop(0)
    if rest and isinstance(rest[0], bool):
        found["non_blocking"] = rest.pop(0)
    known = {"dtype", "device", "non_blocking", "memory_format"}
    if rest or set(found) - known:
        raise TypeError(
            f"to() received an invalid combination of arguments: {(*args, *kwargs.items())}"
        )
    return found


def _convert(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    current = tensor.detach()
    new = fn(current)
    if new is not current:
        set_value(tensor, new)
