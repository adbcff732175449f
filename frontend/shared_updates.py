"""In-place operations on memory that other processes write to at the same time.

Elsewhere an operation on exposed memory reads a copy made at the call (`braze.sharing`). An update
must not: what others wrote after the copy would be overwritten. So what is pending runs first, and
then the update alone, which reads and writes the memory itself and only those elements that it is
about. What remains between reading an element and writing it is what any lock-free program has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from braze.capture import flush, tracer
from braze.handle import EXPOSED
from braze.sharing import block_of
from braze.tensors import Tensor
from braze.views import root_of

# They change what a tensor looks at or is, not what it holds.
_NO_UPDATES = frozenset(
    """
    as_strided_ coalesce_ detach_ rename_ requires_grad_ resize_ resize_as_ set_ share_memory_
    squeeze_ swapaxes_ swapdims_ t_ transpose_ unsqueeze_
    """.split()
)


_NOTHING = nullcontext()


@contextmanager
def direct() -> Iterator[None]:
    """What is captured inside reads and writes exposed memory itself, at the end."""
    state = tracer()
    flush()
    before, state.whole = state.whole, True
    try:
        yield
    finally:
        state.whole = before
    flush()


def is_in_shared_memory(tensor: Tensor) -> bool:
    """Whether other processes can have the tensor's memory; quick where they cannot."""
    handle = (tensor if tensor._base is None else root_of(tensor))._handle
    return bool(handle.flags & EXPOSED) and not tracer().whole and block_of(handle) is not None


def direct_if_shared(tensors: Iterable[Tensor]) -> AbstractContextManager[None]:
    """As `direct` if one of the tensors is in shared memory."""
    exposed = [t for t in tensors if t._base is not None or t._handle.flags & EXPOSED]
    return direct() if any(map(is_in_shared_memory, exposed)) else _NOTHING


def updating(method: Callable[..., Any]) -> Callable[..., Any]:
    """An in-place method that is also right for shared memory."""

    @functools.wraps(method)
    def update(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        # (The first two questions keep all other updates quick.)
        if self._handle.flags & EXPOSED or self._base is not None:
            if is_in_shared_memory(self):
                # A graph that reads other parts of the memory than it writes would write a copy.
                args = tuple([_apart(item) for item in args])
                with direct():
                    return method(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return update


def _apart(item: Any) -> Any:
    """A tensor in shared memory as a copy of it."""
    return item.clone() if isinstance(item, Tensor) and is_in_shared_memory(item) else item


def is_update(name: str) -> bool:
    """Whether a method of this name overwrites elements."""
    if name.startswith("__"):
        return name == "__setitem__" or name.startswith("__i") and name not in _QUESTIONS
    return name.endswith("_") and not name.startswith("_") and name not in _NO_UPDATES


_QUESTIONS = frozenset({"__index__", "__int__", "__invert__", "__init__", "__iter__"})
