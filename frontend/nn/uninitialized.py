"""Parameters and buffers whose shape is not known yet: what lazy modules hold until their first
call.

They have a dtype, but no value: their handle raises where an operation would read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from braze.copying import retype
from braze.functions.creation import empty
from braze.handle import BUFFER, PARAM, Handle
from braze.ir.types import tensor_type
from braze.nn.parameter import Parameter
from braze.tensors import Tensor, wrap

_CONVERSIONS = "to cpu cuda half float double bfloat16 char short int long".split()

# Methods that need no value, by name; attributes that are no methods need none either.
_ALLOWED = frozenset(
    "size is_complex is_floating_point get_device materialize requires_grad_ share_memory_".split()
).union(_CONVERSIONS)


def _refuse(what: str) -> NoReturn:
    raise ValueError(
        f"Attempted to use an uninitialized parameter in {what}. This error happens when you are "
        "using a lazy module or explicitly manipulating `braze.nn.UninitializedParameter` objects. "
        "When using lazy modules, call `forward` with a dummy batch to initialize the parameters "
        "before calling functions on them"
    )


class UninitializedHandle(Handle):
    """A handle with a dtype, but without a value."""

    __slots__ = ()

    @property
    def storage(self) -> NoReturn:  # type: ignore[override]
        """There is none.

        Raises:
            ValueError: always.
        """
        _refuse("an operation")


def _without_value(dtype: Any, device: Any) -> UninitializedHandle:
    like = empty(0, dtype=dtype, device=device)._handle.type
    handle = UninitializedHandle.__new__(UninitializedHandle)
    handle.type = tensor_type(like.dtype, (0,), like.device)
    handle.pending, handle.slot, handle.home, handle.site = None, -1, None, None
    handle.flags = 0
    return handle


def _refusing(name: str) -> Callable[..., NoReturn]:
    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(name)

    return method


def _converting(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        like = getattr(self.data, name)(*args, **kwargs)
        return type(self)(self.requires_grad, device=like.device, dtype=like.dtype)

    method.__name__ = name
    method.__doc__ = f"Another one, of the dtype and on the device that `Tensor.{name}` gives."
    return method


class UninitializedTensorMixin(Tensor):
    """What uninitialised parameters and buffers share."""

    __slots__ = ()

    cls_to_become: type[Tensor]

    def materialize(self, shape: Sequence[int], device: Any = None, dtype: Any = None) -> None:
        """Become a tensor of a shape, whose elements are not set, in place.

        Args:
            device, dtype: by default those that were given before.
        """
        old = self._handle
        new = empty(tuple(shape), dtype=dtype or old.type.dtype, device=device or old.type.device)
        self._handle = new._handle
        self._handle.flags |= old.flags & (PARAM | BUFFER)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]

    def convert(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Take on the dtype that a function gives to a tensor of this one's.

        Raises:
            RuntimeError: the function moves tensors to shared memory.
        """
        old = self._handle.type
        probe = empty(1, dtype=old.dtype, device=old.device)
        like = fn(probe)
        if not probe.is_cuda and probe.is_shared():  # (of a GPU all are)
            self.share_memory_()
        flags = self._handle.flags
        self._handle = _without_value(like.dtype, like.device)
        self._handle.flags = flags

    @property  # type: ignore[misc]
    def data(self) -> Tensor:
        """An empty tensor of the same dtype."""
        return empty(0, dtype=self._handle.type.dtype, device=self._handle.type.device)

    @property
    def shape(self) -> NoReturn:
        """There is none.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually "
            "happens in `load_state_dict` when trying to load an uninitialized parameter into an "
            "initialized one. Call `forward` to initialize the parameters before accessing their "
            "attributes."
        )

    def size(self, dim: int | None = None) -> Any:
        """That of an empty tensor."""
        return self.data.size(dim)

    def share_memory_(self) -> NoReturn:
        """Raises RuntimeError: there is no memory to share."""
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to "
            "initialize the parameters before calling `module.share_memory()`."
        )

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in _ALLOWED:
            if callable(getattr(Tensor, name, None)):
                _refuse(name)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = self.__copy__()
        return memo[id(self)]

    def __copy__(self) -> Any:
        kind, arguments = self.__reduce_ex__(2)
        return kind(*arguments)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, None, self._handle.type.dtype)

    for _name in _CONVERSIONS:
        locals()[_name] = _converting(_name)
    for _name in "len iter getitem setitem bool float int index array contains".split():
        locals()[f"__{_name}__"] = _refusing(f"__{_name}__")
    del _name


def _made(kind: Any, requires_grad: bool, device: Any, dtype: Any, role: int) -> Any:
    made = retype(wrap(_without_value(dtype, device), None, 0), kind)
    made._handle.flags |= role
    made.requires_grad = requires_grad
    return made


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter without a shape. It can change its dtype, and become a `Parameter` by
    `materialize`; all else raises.

    Args:
        requires_grad: whether gradients are to be recorded for it.

    Raises:
        RuntimeError: gradients are wanted for a dtype that is not floating point.
    """

    __slots__ = ()

    cls_to_become = Parameter

    def __new__(  # type: ignore[misc]
        cls, requires_grad: bool = True, device: Any = None, dtype: Any = None
    ) -> UninitializedParameter:
        made: UninitializedParameter = _made(cls, requires_grad, device, dtype, PARAM)
        return made


class UninitializedBuffer(UninitializedTensorMixin):
    """A buffer without a shape. It can change its dtype, and become a `Tensor` by `materialize`;
    all else raises.

    Args:
        persistent: whether it is to be part of the module's state.
    """

    __slots__ = ()

    cls_to_become = Tensor

    def __new__(
        cls,
        requires_grad: bool = False,
        device: Any = None,
        dtype: Any = None,
        persistent: bool = True,
    ) -> UninitializedBuffer:
        made: UninitializedBuffer = _made(cls, requires_grad, device, dtype, BUFFER)
        made.__dict__.update(persistent=persistent, _is_buffer=True)
        return made


def is_lazy(param: Any) -> bool:
    """Whether it is an uninitialised parameter or buffer."""
    return isinstance(param, UninitializedTensorMixin)
