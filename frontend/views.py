"""Views as tensors: where they look, writing through them, and making a tensor look elsewhere.

A view is a base and one movement, and the base may be a view itself; the tensor at the end of that
chain is the root. Writing through a view computes a new value of its base, and so on to the root,
in operations that the tape sees.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from braze import engine
from braze.capture import call_of, capture, constant, materialise, tracer
from braze.handle import EXPOSED, NUMBER, concrete, replace_in_place
from braze.ir.dtypes import bool_
from braze.ir.op import op_named
from braze.ir.ops.movement import inverse_permutation
from braze.ir.types import tensor_type
from braze.sharing import array_of, block_of
from braze.strides import Layout, is_row_major, moved, reshaped_strides, row_major, shows_twice
from braze.tensors import Tensor, apply, view_of, wrap

_PUT, _INDEX, _RESHAPE = op_named("index_put"), op_named("strided_index"), op_named("reshape")
_STRIDED = op_named("as_strided")
_HIDDEN = (
    "A view was created in no_grad mode and is being modified inplace with grad mode enabled. "
    "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your "
    "code by moving both the view and the inplace either both inside the no_grad block (if you "
    "don't want the inplace to be tracked) or both outside (if you want the inplace to be tracked)."
)
_REPEATS = (
    "unsupported operation: more than one element of the written-to tensor refers to a single "
    "memory location. Please clone() the tensor before performing the operation."
)
SLOTS = ("_base", "_handle", "_index", "_node", "_requires_grad", "_seen", "_view")


def base_of(tensor: Tensor) -> Tensor | None:
    """What a view looks into; None for a tensor that is no view."""
    base = tensor._base
    if base is not None and hasattr(base, "_origin"):
        base = tensor._base = base._origin
    return base


def root_of(tensor: Tensor) -> Tensor:
    """The tensor whose memory a view shows (itself, if it is no view)."""
    while (base := base_of(tensor)) is not None:
        tensor = base
    return tensor


def _cuts(tensor: Tensor) -> list[Tensor]:
    """What shows something without its history, from a view to its root."""
    found = []
    while (base := base_of(tensor)) is not None:
        if tensor._view is None:
            found.append(tensor)
        tensor = base
    return found


def _between(tensor: Tensor) -> str | None:
    return getattr(tensor, "_between", None)


def hidden_base(tensor: Tensor) -> Tensor | None:
    """What a view made while gradients were not recorded looks into; None for any other tensor."""
    cuts = _cuts(tensor)
    return base_of(cuts[0]) if cuts and _between(cuts[0]) == "no_grad" else None


def is_detached(tensor: Tensor) -> bool:
    """Is there a `detach` between a view and its root, so that the tape must not see writes?"""
    return bool(_cuts(tensor))


def is_silent(tensor: Tensor) -> bool:
    """Is there a `data` between a view and its root, so that writes must not count?"""
    return any(_between(cut) == "data" for cut in _cuts(tensor))


def layout_of(tensor: Tensor) -> Layout:
    """Strides and offset of a tensor's elements in its root."""
    base = base_of(tensor)
    if base is None:
        return row_major(tensor._handle.type.shape)
    layout = layout_of(base)
    if tensor._view is None:
        return layout
    return moved(tensor._view, base._handle.type.shape, layout)


def is_contiguous(tensor: Tensor) -> bool:
    """Are the elements in row-major order without gaps?"""
    if tensor._base is None:
        return True
    return is_row_major(tensor._handle.type.shape, layout_of(tensor).strides)


def can_reshape(tensor: Tensor, sizes: tuple[int, ...]) -> bool:
    """Do strides describe the elements under another shape too?"""
    own = tensor._handle.type
    if tensor._base is None or math.prod(sizes) != own.numel:
        return True  # the latter is an error, which the type rule finds
    return reshaped_strides(own.shape, layout_of(tensor).strides, sizes) is not None


def memory_of(tensor: Tensor) -> np.ndarray:
    """The elements as an array in the root's memory, to which others may write from now on. A sync
    point."""
    root = root_of(tensor)
    if root._handle.flags & NUMBER:
        root = tensor  # an expanded number has no memory but the view's own
    handle = root._current()
    materialise(handle)
    pending = handle.pending
    if pending is not None and pending is pending.tracer.pending:
        pending.tracer.flush()  # it reads the memory as it is now
    memory, own = array_of(handle), tensor._handle.type
    if root is tensor:
        return memory
    flat = memory.reshape(-1).view(own.dtype.numpy)
    strides, offset = layout_of(tensor)
    size = own.dtype.itemsize
    start = flat[offset:] if own.numel else flat[:0]
    return np.lib.stride_tricks.as_strided(start, own.shape, [s * size for s in strides])


def address_of(tensor: Tensor) -> int:
    """Where a view's first element is in the root's memory. A sync point."""
    root = root_of(tensor)
    if root._handle.flags & NUMBER:
        root = tensor  # as in `memory_of`
    start = int(materialise(root._current()).address)
    if root is tensor:
        return start
    own = tensor._handle.type
    return start + layout_of(tensor).offset * own.dtype.itemsize if own.numel else start


def unrecorded(tensor: Tensor) -> Tensor:
    """A tensor's value without its history, and no view of it."""
    return tensor.detach() if tensor.is_sparse else wrap(tensor._current(), None, 0)


# Writing ------------------------------------------------------------------------------------------


def before_update(tensor: Tensor) -> Tensor:
    """The tensor as an operand of the operation that will overwrite it: where the tape is written,
    the operation's own gradient must read a copy."""
    if not (tensor._requires_grad and tracer().grad_enabled):
        return tensor
    if tensor.is_sparse:
        return tensor  # whose new values replace the old ones
    handle = tensor._current()
    copy = capture(call_of(_RESHAPE, shape=handle.type.shape), [handle])
    operand = wrap(copy, tensor._node, tensor._index)
    operand._requires_grad = True
    return operand


def forgotten(old: Tensor, new: Tensor) -> Tensor:
    """`new`, on the tape as overwriting `old`: no gradient flows to what `old` was made from."""
    never = wrap(constant(False, tensor_type(bool_)), None, 0)
    replaced: Tensor = apply(call_of(op_named("where")), never, old, new)
    return replaced


def check_writable(tensor: Tensor, whole: bool = True) -> None:
    """Raise the errors of writing in place, before anything is captured that could fail later.

    Args:
        whole: all of it is written to, and not a part.

    Raises:
        RuntimeError: a leaf that requires a gradient or a view of one (and gradients are being
            recorded), a view made while they were not, or one that shows an element twice.
    """
    if tracer().grad_enabled:
        what, at = "a leaf", tensor
        while at._node is not None or not at._requires_grad:
            base = None if at._base is not None and at._view is None else base_of(at)
            if base is None:
                break
            what, at = "a view of a leaf", base
        else:
            raise RuntimeError(
                f"{what} Variable that requires grad is being used in an in-place operation."
            )
        if tensor._base is not None and hidden_base(tensor) is not None:
            raise RuntimeError(_HIDDEN)
    if whole and shows_repeats(tensor):
        raise RuntimeError(_REPEATS)


def write_through(view: Tensor, new: Tensor, tracked: bool, silent: bool = False) -> Tensor:
    """Let the base of a view have what the view shows replaced by `new`; returns that base.

    Raises:
        RuntimeError: the view shows an element twice, or the tape sees the write and the root is a
            leaf that requires a gradient, or the view was made while gradients were not recorded.
    """
    base = base_of(view)
    assert base is not None
    call = view._view
    if call is None:
        between = _between(view)
        if between == "no_grad" and tracked and tracer().grad_enabled:
            raise RuntimeError(_HIDDEN)
        base._replace(new, tracked=False, silent=silent or between == "data")
        return base
    if tracked and base._node is None and base._requires_grad and tracer().grad_enabled:
        raise RuntimeError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation."
        )
    if _store_in_shared_memory(view, new, tracked, silent):
        return base
    if shows_repeats(base):
        return _write_past(base, view, new, tracked, silent)
    rule = _RULES.get(call.op.name)
    value = None if rule is None else rule(base, new, call.attributes)
    if value is None:
        shape = base._handle.type.shape
        layout = moved(call, shape, row_major(shape))
        if shows_twice(new._handle.type.shape, layout.strides):
            return _write_past(base, view, new, tracked, silent)
        value = put_strided(base, layout, new)
    base._replace(value, tracked, silent)
    return base


def _store_in_shared_memory(view: Tensor, new: Tensor, tracked: bool, silent: bool) -> bool:
    """Write to the view's elements alone, at once, where other processes write to the rest.

    Returns:
        Whether that was so. What the tape records goes the usual way.
    """
    root = root_of(view)
    old = root._handle
    if not old.flags & EXPOSED or new._node is not None or block_of(old) is None:
        return False
    if tracked and root._requires_grad and tracer().grad_enabled:
        return False
    source = materialise(new._handle)
    target = memory_of(view)
    np.copyto(target, source.array(target.dtype, target.shape))
    storage = old.storage
    assert isinstance(storage, engine.Storage)
    root._handle = concrete(old.type, storage, old.flags)
    replace_in_place(old, root._handle, silent)
    root._handle.home = None  # it is there already
    root._writes = getattr(root, "_writes", 0) + 1
    return True


def shows_repeats(tensor: Tensor) -> bool:
    """Does a view show an element of its root twice?"""
    if tensor._base is None:
        return False
    return shows_twice(tensor._handle.type.shape, layout_of(tensor).strides)


def _write_past(base: Tensor, view: Tensor, new: Tensor, tracked: bool, silent: bool) -> Tensor:
    """Write through a view of something that shows elements twice, which the view may not do."""
    if tracked:
        check_writable(view, whole=False)
    if shows_repeats(view):
        raise RuntimeError(_REPEATS)
    _write_to_root(view, new, tracked, silent or is_silent(view))
    base._current()  # its place on the tape is behind the root's
    return base


def _write_to_root(view: Tensor, new: Tensor, tracked: bool, silent: bool) -> None:
    root = root_of(view)
    root._replace(
        put_strided(root, layout_of(view), new), tracked and not is_detached(view), silent
    )


def instead(old: Tensor, new: Tensor) -> Tensor:
    """A value with a history, which replaces all of one: of that, the gradient is zero and not
    None."""
    root = root_of(old)
    if root._node is None or new._node is None:
        return new
    whole = root._handle.type.numel == old._handle.type.numel
    return forgotten(old, new) if whole else new


def fill_repeated(view: Tensor, new: Tensor) -> Tensor:
    """Write one number to all elements of a view that shows some of them twice.

    Raises:
        RuntimeError: as `check_writable`.
    """
    check_writable(view, whole=False)
    _write_to_root(view, new, True, is_silent(view))
    view._current()
    return view


def put_strided(base: Tensor, layout: Layout, new: Tensor) -> Tensor:
    """The value of `base` with the elements at a layout's places replaced."""
    whole = base._handle.type
    flat = apply(call_of(_RESHAPE, shape=(whole.numel,)), base)
    index = apply(
        call_of(
            _INDEX,
            shape=new._handle.type.shape,
            strides=layout.strides,
            offset=layout.offset,
        )
    )
    if new._handle.type.numel:
        flat = apply(call_of(_PUT, dim=0), flat, index, new)
    result: Tensor = apply(call_of(_RESHAPE, shape=whole.shape), flat)
    return result


def _reshape(base: Tensor, new: Tensor, attributes: Any) -> Any:
    return apply(call_of(_RESHAPE, shape=base._handle.type.shape), new)


def _permute(base: Tensor, new: Tensor, attributes: Any) -> Any:
    dims = inverse_permutation(attributes["dims"])
    return apply(call_of(op_named("permute"), dims=dims), new)


def _slice(base: Tensor, new: Tensor, attributes: Any) -> Any:
    from braze.functions.indexing import write_slice

    return write_slice(base, new, attributes)


def _select(base: Tensor, new: Tensor, attributes: Any) -> Any:
    """The row with its dimension back, as a slice."""
    from braze.functions.indexing import write_slice

    shape, d, index = base._handle.type.shape, attributes["dim"], attributes["index"]
    row = apply(call_of(_RESHAPE, shape=(*shape[:d], 1, *shape[d + 1 :])), new)
    starts = tuple(index if axis == d else 0 for axis in range(len(shape)))
    return write_slice(base, row, {"starts": starts, "steps": (1,) * len(shape)})


def _expand(base: Tensor, new: Tensor, attributes: Any) -> Any:
    """Expanding is harmless where it only adds dimensions of one element."""
    same = new._handle.type.numel == base._handle.type.numel
    return _reshape(base, new, attributes) if same else None


def _bitcast(base: Tensor, new: Tensor, attributes: Any) -> Any:
    return apply(call_of(op_named("bitcast"), dtype=base._handle.type.dtype), new)


def _view_as_real(base: Tensor, new: Tensor, attributes: Any) -> Any:
    return apply(call_of(op_named("view_as_complex")), new)


def _view_as_complex(base: Tensor, new: Tensor, attributes: Any) -> Any:
    return apply(call_of(op_named("view_as_real")), new)


_RULES: dict[str, Any] = {
    "reshape": _reshape,
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "expand": _expand,
    "bitcast": _bitcast,
    "view_as_real": _view_as_real,
    "view_as_complex": _view_as_complex,
}


# Looking elsewhere --------------------------------------------------------------------------------


def stand_in(tensor: Tensor) -> Tensor:
    """A tensor that is what another is now, and stays so when that one is made to look
    elsewhere."""
    twin: Tensor = object.__new__(Tensor)
    for name in SLOTS:
        if hasattr(tensor, name):
            setattr(twin, name, getattr(tensor, name))
    twin._writes = getattr(tensor, "_writes", 0)
    if hasattr(tensor, "_between"):
        twin._between = tensor._between
    return twin


def redirect(tensor: Tensor, make: Any) -> Tensor:
    """Make a tensor look elsewhere, in place; views of it made earlier look where they did.

    Args:
        make: given what the tensor was, returns a view: what it becomes.

    Raises:
        RuntimeError: it is a leaf that requires a gradient, and gradients are being recorded.
    """
    if tensor._node is None and tensor._requires_grad and tracer().grad_enabled:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation."
        )
    before = stand_in(tensor)
    before._handle = tensor._current()
    became = make(before)
    assert became._base is not None
    if not hasattr(tensor, "_origin"):
        tensor._origin = before
    for name in ("_base", "_handle", "_seen", "_view"):
        setattr(tensor, name, getattr(became, name))
    if became._node is not None:
        tensor._node, tensor._index, tensor._requires_grad = became._node, became._index, True
    root = root_of(tensor)
    if root is root_of(before) and not is_silent(before):  # a change in place, for `_version`
        root._writes = getattr(root, "_writes", 0) + 1
    return tensor


def strided_view(tensor: Tensor, sizes: Any, strides: Any, offset: int) -> Tensor:
    """A view of a tensor's root by any strides; off the tape if the tensor is."""
    root = root_of(tensor)
    whole = root._handle.type.numel
    cuts = _cuts(tensor)
    top = cuts[0] if cuts else root  # what the tape knows of the memory
    if not (top.numel() == whole and is_contiguous(top)):
        top = root
    flat = view_of(call_of(_RESHAPE, shape=(whole,)), top)
    call = call_of(_STRIDED, sizes=tuple(sizes), strides=tuple(strides), offset=offset)
    view = view_of(call, flat)
    return view.detach() if top is root and cuts else view
