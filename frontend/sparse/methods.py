"""Methods about sparseness: what every tensor answers, and what sparse tensors do in their own
way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from braze.devices import place_of
from braze.functions import movement
from braze.functions.promotion import cast
from braze.ir.dtypes import DType
from braze.placing import array_beside, array_on, beside, moved
from braze.sparse import construction, products, types
from braze.sparse.elementwise import raised
from braze.sparse.entries import coalesced, dense, looked_up, picked
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor

# Every tensor -------------------------------------------------------------------------------------


def to_dense(
    self: Tensor, dtype: DType | None = None, *, masked_grad: bool | None = None
) -> Tensor:
    """The tensor with all its elements in memory (itself if they are)."""
    found = dense(self) if isinstance(self, SparseTensor) else self
    return found if dtype is None else cast(found, dtype)


def sparse_mask(self: Tensor, mask: Tensor) -> Tensor:
    """The elements at the places of a sparse tensor, as a sparse tensor. A sync point if the mask
    (or a sparse `self`) is not coalesced.

    Raises:
        RuntimeError: the shapes differ. NotImplementedError: the mask is dense.
    """
    if not isinstance(mask, SparseTensor):
        raise NotImplementedError(
            f"sparse_mask(): the mask must be a sparse COO tensor, given {mask._handle.type}"
        )
    if self.shape != mask.shape:
        raise RuntimeError(
            "sparse_mask(): operands have incompatible sizes; self has size "
            f"{list(self.shape)} but mask has size {list(mask.shape)}"
        )
    places = coalesced(mask)
    indices, count = places._handle.indices, places.sparse_dim()
    if not isinstance(self, SparseTensor):
        values = picked(self, indices, self.shape)
    elif self.sparse_dim() != count:
        raise RuntimeError(
            f"sparse_mask(): self has {self.sparse_dim()} sparse dimensions and mask {count}"
        )
    else:
        values = looked_up(self, indices).clone()
    return make(indices, values, self.shape, True)


def _dense_has_no(name: str, wanted: str = "sparse coordinate tensor") -> Callable[..., Any]:
    def method(self: Tensor) -> NoReturn:
        raise RuntimeError(f"{name} expected {wanted} layout but got Strided")

    method.__name__ = name
    return method


def _no_parts(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *arguments: Any) -> NoReturn:
        raise NotImplementedError(f"{name}() is for sparse COO tensors, given {self._handle.type}")

    method.__name__ = name
    return method


METHODS: dict[str, Any] = {
    "to_dense": to_dense,
    "to_sparse": construction.to_sparse,
    "to_sparse_coo": construction.to_sparse,
    "sparse_mask": sparse_mask,
    **{name: _dense_has_no(name) for name in ("coalesce", "indices", "is_coalesced")},
    "values": _dense_has_no("values", "sparse tensor"),
    **{
        name: _no_parts(name)
        for name in ("_nnz", "_indices", "_values", "sparse_resize_", "sparse_resize_and_clear_")
    },
    "sparse_dim": lambda self: 0,
    "dense_dim": lambda self: self.ndim,
    **products.METHODS,
}

# Sparse tensors -----------------------------------------------------------------------------------


def coalesce(self: SparseTensor) -> SparseTensor:
    """The tensor with its entries in order and equal places summed (itself if it is so). A sync
    point."""
    return coalesced(self)


def copy_(self: SparseTensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Take over the entries of another sparse tensor, in place.

    Raises:
        RuntimeError: the other is dense, or of another shape.
    """
    if not isinstance(src, SparseTensor):
        raise RuntimeError(
            "copy_() between dense and sparse Tensors is not implemented! Found self type = "
            f"{types.type_name(self)} and src type = {src.type()}"
        )
    if src.shape != self.shape:
        raise RuntimeError(
            f"copy_(): expected a sparse tensor of shape {list(self.shape)}, given "
            f"{list(src.shape)}"
        )
    return self._replace(cast(beside(self, src), self.dtype).clone())


def resize_as_(
    self: SparseTensor, the_template: Tensor, *, memory_format: Any = None
) -> SparseTensor:
    """Take another sparse tensor's size, in place.

    Raises:
        RuntimeError: as `sparse_resize_`. NotImplementedError: the other is dense.
    """
    if not isinstance(the_template, SparseTensor):
        raise NotImplementedError("resize_as_() of a sparse tensor needs a sparse template")
    return construction.sparse_resize_(
        self, the_template.shape, the_template.sparse_dim(), the_template.dense_dim()
    )


def _moving(name: str) -> Callable[..., Any]:
    function = getattr(movement, name)

    def method(self: SparseTensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._replace(function(self, *args, **kwargs))

    method.__name__ = f"{name}_"
    method.__doc__ = f"In-place `{name}`."
    return method


def _refuse(error: type[Exception], message: str) -> Callable[..., Any]:
    def method(self: SparseTensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise error(message)

    return method


def _new_zeros(self: SparseTensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """A sparse tensor without entries."""
    wanted = kwargs.get("device")
    place = self._handle.type.device if wanted is None else place_of(wanted)
    sizes = movement.sizes_of(size)
    made = construction.empty_sparse(sizes, dtype or self.dtype, place=place)
    made.requires_grad = bool(kwargs.get("requires_grad"))
    return made


def _new(self: SparseTensor, *arguments: Any) -> Tensor:
    """A sparse tensor of this dtype, made as by `braze.sparse.FloatTensor`."""
    return moved(types.construct(arguments, self.dtype), self._handle.type.device)


def _type(self: SparseTensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor cast to a dtype, a tensor type or its name, and
    moved to where tensors of the type are."""
    from braze.functions.tensor_types import dtype_of, placed_as

    if dtype is None:
        return types.type_name(self)
    return placed_as(cast(self, dtype_of(dtype)), dtype)


# Copies and pickles -------------------------------------------------------------------------------


def _shallow_copy(self: SparseTensor) -> Tensor:
    new = self.detach()
    new._requires_grad = self._requires_grad
    new.__dict__.update(self.__dict__)
    return new


def _deep_copy(self: SparseTensor, memo: dict[Any, Any]) -> Tensor:
    """A leaf with memory of its own.

    Raises:
        RuntimeError: an operation that is on the tape made the tensor.
    """
    if id(self) in memo:
        known: Tensor = memo[id(self)]
        return known
    if self._node is not None:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol"
        )
    new = rebuild(*_parts(self))
    memo[id(self)] = new
    if self._handle.values._grad is not None:
        gradient = np.array(self._handle.values._grad._numpy())
        new._handle.values._grad = array_beside(self, gradient)
    new.__dict__.update(self.__dict__)
    return new


def _parts(self: SparseTensor) -> tuple[Any, ...]:
    own = self._handle
    arrays = [np.array(part._numpy(), order="C") for part in (own.indices, own.values)]
    return (*arrays, own.type.shape, own.coalesced, self._requires_grad, own.type.device)


def rebuild(
    indices: np.ndarray,
    values: np.ndarray,
    size: tuple[int, ...],
    is_coalesced: bool,
    requires_grad: bool,
    device: str = "cpu",
) -> SparseTensor:
    """Unpickle a sparse tensor.

    Raises:
        RuntimeError: it was on a device that this machine has not.
    """
    arrays = [a if a.flags.writeable else a.copy() for a in (indices, values)]
    there, what = (array_on(place_of(device), array) for array in arrays)
    new = make(there, what, size, is_coalesced)
    new._requires_grad = requires_grad
    return new


def _reduce(self: SparseTensor, protocol: Any) -> tuple[Any, ...]:
    made = (rebuild, _parts(self))
    return (*made, dict(self.__dict__)) if self.__dict__ else made


_NO_MEMORY = _refuse(NotImplementedError, "Cannot access storage of a sparse tensor")
SPARSE_METHODS: dict[str, Any] = {
    "coalesce": coalesce,
    "copy_": copy_,
    "resize_as_": resize_as_,
    "zero_": construction.zero_,
    "sparse_resize_": construction.sparse_resize_,
    "sparse_resize_and_clear_": construction.sparse_resize_and_clear_,
    "pow": raised,
    "__pow__": raised,
    **{f"{name}_": _moving(name) for name in ("transpose", "t", "squeeze", "unsqueeze")},
    "new": _new,
    "new_zeros": _new_zeros,
    "new_empty": _new_zeros,
    **{
        name: _refuse(NotImplementedError, f"{name}() would not be sparse")
        for name in ("new_ones", "new_full", "fill_")
    },
    **{
        name: _refuse(NotImplementedError, f"{name}() is for tensors with memory of their own")
        for name in ("set_", "resize_", "apply_", "map_", "as_strided")
    },
    "type": _type,
    "is_contiguous": lambda self, memory_format=None: False,
    "contiguous": _refuse(
        RuntimeError, "unsupported memory format option Contiguous for a sparse tensor"
    ),
    "stride": lambda self, dim=None: (0,) * self.ndim if dim is None else 0,
    **dict.fromkeys(("storage", "untyped_storage", "share_memory_"), _NO_MEMORY),
    "is_shared": lambda self: False,
    "as_subclass": _refuse(
        NotImplementedError, "a sparse tensor cannot become an instance of another class"
    ),
    "__dlpack__": _NO_MEMORY,
    "__setitem__": _refuse(TypeError, "Cannot assign to a sparse tensor"),
    "nbytes": property(
        _refuse(
            RuntimeError,
            "nbytes is not defined for sparse tensors.  If you want the size of the constituent "
            "tensors, add the nbytes of the indices and values.",
        )
    ),
    "__copy__": _shallow_copy,
    "__deepcopy__": _deep_copy,
    "__reduce_ex__": _reduce,
}
for _name, _method in SPARSE_METHODS.items():
    setattr(SparseTensor, _name, _method)
