"""Sliding blocks as columns, and back, as layers."""

from __future__ import annotations

from braze.nn import functional as F
from braze.nn.functional.support import IntOrInts
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class Unfold(Module):
    """The sliding blocks of images as columns; see `F.unfold`.

    Shape: [N, C, H, W] or [C, H, W] to [N, C * kh * kw, blocks].
    """

    def __init__(
        self,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Columns summed as the blocks of images; see `F.fold`.

    Shape: [N, C * kh * kw, blocks] or [C * kh * kw, blocks] to [N, C, *output_size].
    """

    def __init__(
        self,
        output_size: IntOrInts,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        blocks = (self.kernel_size, self.dilation, self.padding, self.stride)
        return F.fold(input, self.output_size, *blocks)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
