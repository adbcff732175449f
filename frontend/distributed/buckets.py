"""What a communication hook is given."""

from __future__ import annotations

from collections.abc import Sequence

from braze.autograd.builders import HandleBuilder
from braze.distributed.bucket_layout import BucketLayout
from braze.handle import Handle
from braze.tensors import Tensor, wrap

_BUILDER = HandleBuilder()


class GradBucket:
    """Gradients that are reduced together, in one flat buffer."""

    def __init__(
        self,
        index: int,
        layout: BucketLayout,
        laid_out: Sequence[Handle],
        parameters: Sequence[Tensor],
        is_last: bool,
    ) -> None:
        flat = [_BUILDER.reshape(handle, shape=(handle.type.numel,)) for handle in laid_out]
        whole = _BUILDER.concat(*flat, dim=0) if len(flat) > 1 else flat[0]
        self._buffer = wrap(whole, None, 0)
        self._index = index
        self._layout = layout
        self._parameters = list(parameters)
        self._is_last = is_last

    def index(self) -> int:
        """Which bucket it is; 0 has the gradients of the last parameters."""
        return self._index

    def buffer(self) -> Tensor:
        """All of its elements, 1-d. Between gradients there may be some zeros."""
        return self._buffer

    def set_buffer(self, buffer: Tensor) -> None:
        """Have other elements in place of them."""
        self._buffer = buffer

    def gradients(self) -> list[Tensor]:
        """What the buffer holds, each of its parameter's shape."""
        return self.cut(self._buffer)

    def parameters(self) -> list[Tensor]:
        """Whose gradients these are."""
        return list(self._parameters)

    def is_last(self) -> bool:
        """Whether it is the iteration's last."""
        return self._is_last

    def cut(self, buffer: Tensor) -> list[Tensor]:
        """The gradients in a tensor like the buffer."""
        return [wrap(part, None, 0) for part in self._layout.parts(buffer._current())]

    def join(self, gradients: Sequence[Tensor]) -> Tensor:
        """A tensor like the buffer with these gradients."""
        laid_out = self._layout.laid_out([gradient._current() for gradient in gradients])
        return GradBucket(0, self._layout, laid_out, (), True).buffer()
