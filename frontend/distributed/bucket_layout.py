"""Where gradients lie in a bucket.

In: the types of gradients, and handles.  Out: handles that follow each other in the bucket, and the
gradients out of a flat one.

Each lies in the order of its parameter, which the optimizer reads once it has left the caches: in
another order it would fetch its lines from all over the memory. What has made a gradient in another
order, as of a convolution, is turned while it is warm. Each begins at a multiple of 64 bytes, as
kernels need it; zeros fill the gaps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from braze.autograd.builders import HandleBuilder
from braze.capture import capture
from braze.handle import Handle
from braze.ir.op import op_named
from braze.ir.types import TensorType
from braze.trie import call_of

_ALIGNMENT = 64
_BUILDER = HandleBuilder()


class BucketLayout:
    """The layout of a bucket of gradients of these types, of one dtype.

    Args:
        alignment: where each is to begin, in bytes.

    Attributes:
        numel: the elements of the bucket.
    """

    def __init__(self, types: Sequence[TensorType], alignment: int = _ALIGNMENT) -> None:
        self._types = tuple(types)
        self._gaps = [-own.nbytes % alignment // own.dtype.itemsize for own in types]
        self._gaps[-1] = 0
        self.numel: int = sum(own.numel for own in types) + sum(self._gaps)
        # What `parts` captures in each iteration.
        self._cuts = []
        begin, cut, shaped = 0, op_named("slice"), op_named("reshape")
        for own, gap in zip(self._types, self._gaps, strict=True):
            end = begin + own.numel
            piece = call_of(cut, starts=(begin,), stops=(end,), steps=(1,))
            self._cuts.append((piece, call_of(shaped, shape=own.shape)))
            begin = end + gap

    def laid_out(self, gradients: Sequence[Handle]) -> list[Handle]:
        """The gradients as they lie in the bucket, those with zeros behind them flat."""
        found: list[Handle] = []
        for own, handle, gap in zip(self._types, gradients, self._gaps, strict=True):
            if gap:
                flat = _BUILDER.reshape(handle, shape=(own.numel,))
                handle = _BUILDER.pad(flat, low=(0,), high=(gap,), interior=(0,), value=0.0)
            found.append(handle)
        return found

    def parts(self, flat: Handle) -> Iterator[Handle]:
        """The gradients that a flat value holds."""
        for cut, shaped in self._cuts:
            yield capture(shaped, [capture(cut, [flat])])


@functools.lru_cache(maxsize=256)
def layout_of(types: tuple[TensorType, ...], alignment: int = _ALIGNMENT) -> BucketLayout:
    """The one layout for these types."""
    return BucketLayout(types, alignment)
