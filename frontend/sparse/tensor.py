"""The sparse COO tensor: places and what is there, each a dense tensor.

In: `indices`, i64[sparse dimensions, entries], and `values`, [entries, dense dimensions...]. An
element that is named several times is the sum of its entries; a *coalesced* tensor names none
twice, in lexicographic order.

Gradients flow through the values: a sparse tensor has the place on the tape that its values have,
and the gradient of a sparse leaf has the leaf's own pattern. Nothing here is ever a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from braze.capture import call_of, materialise, tracer
from braze.devices import Used
from braze.handle import Handle, SparseHandle
from braze.ir.op import op_named
from braze.ir.types import tensor_type
from braze.layouts import layout, sparse_coo
from braze.placing import moved
from braze.removable import RemovableHandle
from braze.tensors import Tensor, view_of

_HANDLE: Any = Tensor.__dict__["_handle"]
_NEVER_A_VIEW: Any = property(lambda self: None, lambda self, value: None)


def make(
    indices: Tensor, values: Tensor, size: Sequence[int], coalesced: bool = False
) -> SparseTensor:
    """A sparse tensor of parts that are known to fit. It is on the GPU on which one of them is;
    what was made on the CPU to go with it is moved there."""
    place = values._handle.type.device
    if Used.devices:
        place = place if place != "cpu" else indices._handle.type.device
        indices, values = moved(indices, place), moved(values, place)
    type = tensor_type(values._handle.type.dtype, tuple(size), place)
    return around(SparseHandle(type, indices, values, coalesced))


def moved_parts(tensor: Tensor, place: str) -> SparseTensor:
    """A sparse tensor on another device; a gradient finds its way back."""
    own = tensor._handle
    assert isinstance(own, SparseHandle)
    indices, values = moved(own.indices, place), moved(own.values, place)
    return make(indices, values, own.type.shape, own.coalesced)


def around(handle: SparseHandle) -> SparseTensor:
    """A sparse tensor of this indices, values and size."""
    tensor: SparseTensor = object.__new__(SparseTensor)
    tensor._handle = handle
    return tensor


def alias(values: Tensor) -> Tensor:
    """A tensor on the same memory with the same history, that is not the same object."""
    return view_of(call_of(op_named("reshape"), shape=values._handle.type.shape), values)


class SparseTensor(Tensor):
    """A tensor of layout `braze.sparse_coo`; made by `braze.sparse_coo_tensor`, `to_sparse` and by
    operations on such tensors.

    Functions that have no sparse form raise NotImplementedError; nothing becomes dense unasked.

    Attributes:
        _shown: the gradient last read: what it was made of, and the sparse tensor.
    """

    __slots__ = ("_shown",)

    _shown: tuple[Tensor | Handle, SparseTensor]

    # Has `braze.tensors.view_of` ask what it is.
    _origin = property(lambda self: self)  # type: ignore[assignment]
    _base = _NEVER_A_VIEW
    _view = _NEVER_A_VIEW
    _seen = _NEVER_A_VIEW

    @property
    def _handle(self) -> SparseHandle:  # type: ignore[override]
        found: SparseHandle = _HANDLE.__get__(self)
        return found

    @_handle.setter
    def _handle(self, handle: Handle) -> None:
        if not isinstance(handle, SparseHandle):
            raise NotImplementedError(
                f"a sparse COO tensor ({self._handle.type}) cannot be overwritten with a dense one"
            )
        _HANDLE.__set__(self, handle)

    # Parts ----------------------------------------------------------------------------------------

    def _indices(self) -> Tensor:
        """The places of all entries as they are stored, i64[sparse_dim, nnz]."""
        return self._handle.indices

    def _values(self) -> Tensor:
        """The values of all entries as they are stored, [nnz, dense...], without their history."""
        return self._handle.values.detach()

    def _nnz(self) -> int:
        """How many entries are stored."""
        return self._handle.indices._handle.type.shape[1]

    def indices(self) -> Tensor:
        """The places, i64[sparse_dim, nnz].

        Raises:
            RuntimeError: the tensor is not coalesced.
        """
        self._check_coalesced("indices")
        return self._handle.indices.detach()

    def values(self) -> Tensor:
        """The elements at `indices()`, [nnz, dense...]; gradients flow through it.

        Raises:
            RuntimeError: the tensor is not coalesced.
        """
        self._check_coalesced("values")
        return alias(self._handle.values)

    def _check_coalesced(self, what: str) -> None:
        if not self._handle.coalesced:
            raise RuntimeError(
                f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first"
            )

    def is_coalesced(self) -> bool:
        """Whether no element is named twice and the places are in order, as far as is known."""
        return self._handle.coalesced

    def _coalesced_(self, coalesced: bool) -> SparseTensor:
        """Say whether the tensor is coalesced.

        Raises:
            RuntimeError: it is not.
        """
        own = self._handle
        if coalesced:
            from braze.sparse.entries import check_order

            check_order(own.indices, own.type.shape)
        self._handle = SparseHandle(own.type, own.indices, own.values, coalesced)
        return self

    def sparse_dim(self) -> int:
        """How many dimensions, the first ones, the indices are for."""
        return self._handle.indices._handle.type.shape[0]

    def dense_dim(self) -> int:
        """How many dimensions, the last ones, the values have besides that of the entries."""
        return len(self._handle.values._handle.type.shape) - 1

    _dimI = sparse_dim
    _dimV = dense_dim

    @property
    def is_sparse(self) -> bool:
        """True."""
        return True

    @property
    def layout(self) -> layout:
        """`braze.sparse_coo`."""
        return sparse_coo

    # Value ----------------------------------------------------------------------------------------

    def _current(self) -> SparseHandle:  # type: ignore[override]
        return self._handle

    def _replace(self, new: Tensor, tracked: bool = True, silent: bool = False) -> Tensor:
        """Take over another sparse tensor's entries, in place.

        The values are written in place where only they change and the tape does not watch, so that
        `detach()`ed tensors and what the values were made from see it.

        Raises:
            RuntimeError: this is a leaf that requires a gradient.
            NotImplementedError: the new value is dense.
        """
        recording = tracked and tracer().grad_enabled
        if recording and self._requires_grad and self._node is None:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        if not isinstance(new, SparseTensor):
            self._handle = new._handle  # type: ignore[assignment]  # raises
            raise AssertionError
        own, theirs = self._handle, new._handle
        watched = recording and (self._requires_grad or new._requires_grad)
        if theirs.indices is own.indices and own.type == theirs.type and not watched:
            source = theirs.values
            if source is not own.values:
                fresh = source._base is None and source._handle is not own.values._handle
                own.values._replace(source if fresh else source.clone(), tracked)
            own.coalesced = theirs.coalesced
            return self
        self._handle = SparseHandle(theirs.type, theirs.indices, theirs.values, theirs.coalesced)
        return self

    def _numpy(self) -> np.ndarray:
        materialise(self._handle)  # raises
        raise AssertionError

    def _exposed(self) -> np.ndarray:
        self._no_memory()

    def _no_memory(self) -> NoReturn:
        raise TypeError("can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() first.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._no_memory()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """Not for sparse tensors.

        Raises:
            TypeError: always; ``to_dense().numpy()`` has all elements.
        """
        self._no_memory()

    def item(self) -> float | int | bool:
        """The only element as a Python number. A sync point.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        if self._handle.type.numel != 1:
            raise RuntimeError(
                f"a Tensor with {self.numel()} elements cannot be converted to Scalar"
            )
        found: float | int | bool = self.to_dense().item()
        return found

    def __bool__(self) -> bool:
        if self._handle.type.numel == 1:
            return bool(self.item())
        return super().__bool__()

    def data_ptr(self) -> int:
        """Not for sparse tensors.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage")

    def __repr__(self) -> str:
        from braze.printing import format_sparse

        return format_sparse(self)

    # Gradients ------------------------------------------------------------------------------------

    @property
    def _node(self) -> Any:  # type: ignore[override]
        return self._handle.values.grad_fn

    @property
    def _index(self) -> int:  # type: ignore[override]
        values = self._handle.values
        values._current()
        return values._index

    @property
    def _requires_grad(self) -> bool:  # type: ignore[override]
        return self._handle.values.requires_grad

    @_requires_grad.setter
    def _requires_grad(self, value: bool) -> None:
        own = self._handle
        if own.values._requires_grad != value:  # not of others that have these values
            values = own.values.detach()
            values._requires_grad = value
            self._handle = SparseHandle(own.type, own.indices, values, own.coalesced)

    @property
    def _grad(self) -> Tensor | None:  # type: ignore[override]
        """The gradient that the values have accumulated, at their places."""
        found = self._handle.values._grad
        if found is None:
            return None
        own = self._handle
        # Coalesced, what is shown has the gradient as its values; else it is computed from them.
        source = found if own.coalesced else found._current()
        shown = getattr(self, "_shown", None)
        if shown is None or shown[0] is not source:
            from braze.sparse.gradients import gradient_at

            shown = self._shown = (source, gradient_at(own, found))
        return shown[1]

    @_grad.setter
    def _grad(self, value: Tensor | None) -> None:
        values = self._handle.values
        if value is None:
            values._grad = None
            return
        if not isinstance(value, SparseTensor):
            raise RuntimeError(
                "attempting to assign a gradient to a tensor that has data of a different type"
            )
        from braze.sparse.gradients import elements_at

        values._grad = elements_at(self._handle, value.detach())

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulate gradients into the leaves, from the gradient (sparse or dense) of this tensor;
        see `braze.autograd.backward`."""
        from braze.autograd.engine import backward

        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self) -> SparseTensor:
        """The same entries without their history; the values share memory."""
        own = self._handle
        return around(SparseHandle(own.type, own.indices, own.values.detach(), own.coalesced))

    def detach_(self) -> SparseTensor:
        """Take this tensor off the tape, making it a leaf."""
        self._handle = self.detach()._handle
        return self

    @property
    def data(self) -> SparseTensor:  # type: ignore[override]
        """The entries without their history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, SparseTensor):
            raise RuntimeError(
                "Attempted to call `variable.set_data(tensor)`, but `variable` and `tensor` have "
                "incompatible tensor type."
            )
        requires_grad = self._requires_grad
        self._handle = value.detach()._handle
        self._requires_grad = requires_grad

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in `grad`.

        Raises:
            RuntimeError: the tensor requires no gradient.
        """
        self._handle.values.retain_grad()

    @property
    def retains_grad(self) -> bool:
        """Whether this is not a leaf and `retain_grad` was called."""
        return self._handle.values.retains_grad

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(gradient)` with the sparse gradient of this tensor; what it returns, sparse,
        replaces it.

        Raises:
            RuntimeError: the tensor requires no gradient.
        """
        from braze.sparse.gradients import elements_at, gradient_at

        own = self._handle

        def on_values(gradient: Tensor) -> Tensor | None:
            changed = hook(gradient_at(own, gradient))
            return None if changed is None else elements_at(own, changed)

        return own.values.register_hook(on_values)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `hook(tensor)` after a backward pass has added to this leaf's `grad`.

        Raises:
            RuntimeError: the tensor requires no gradient, or is not a leaf.
        """
        return self._handle.values.register_post_accumulate_grad_hook(lambda values: hook(self))
