"""Where gradients lie in a bucket.

In: the types of gradients, and handles.  Out: handles that follow each other in the bucket, and the
gradients out of a flat one.

The kernel that makes a gradient is to write it into the bucket, so it lies there in the order in
which it is made: a convolution weight's with the channels last. Each begins at a multiple of 64
bytes, as kernels need it; zeros fill the gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from braze.autograd.builders import HandleBuilder
from braze.handle import Handle
from braze.ir.types import TensorType

_ALIGNMENT = 64
_BUILDER = HandleBuilder()


class BucketLayout:
    """The layout of a bucket of gradients of these types, of one dtype.

    Attributes:
        numel: the elements of the bucket.
    """

    def __init__(self, types: Sequence[TensorType]) -> None:
        self._types = tuple(types)
        self._gaps = [-own.nbytes % _ALIGNMENT // own.dtype.itemsize for own in types]
        self._gaps[-1] = 0
        self.numel: int = sum(own.numel for own in types) + sum(self._gaps)

    def laid_out(self, gradients: Sequence[Handle]) -> list[Handle]:
        """The gradients as they lie in the bucket, with what is between them."""
        found: list[Handle] = []
        for own, handle, gap in zip(self._types, gradients, self._gaps, strict=True):
            order = _order(own)
            found.append(_BUILDER.permute(handle, dims=order) if order else handle)
            if gap:
                found.append(_BUILDER.full(shape=(gap,), value=0.0, dtype=own.dtype))
        return found

    def parts(self, flat: Handle) -> Iterator[Handle]:
        """The gradients that a flat value holds."""
        start = 0
        for own, gap in zip(self._types, self._gaps, strict=True):
            part = _BUILDER.slice(flat, starts=(start,), stops=(start + own.numel,), steps=(1,))
            order = _order(own)
            if order:
                part = _BUILDER.reshape(part, shape=tuple(own.shape[d] for d in order))
                back = tuple(order.index(d) for d in range(own.rank))
                yield _BUILDER.permute(part, dims=back)
            else:
                yield _BUILDER.reshape(part, shape=own.shape)
            start += own.numel + gap


def _order(own: TensorType) -> tuple[int, ...]:
    """The dimensions in the order in which they lie; () if that is their own."""
    if own.rank < 3:
        return ()
    return (*range(2, own.rank), 1, 0)
