"""Pooling layers."""

from __future__ import annotations

from typing import Any

from braze.nn import functional as F
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class _MaxPool(Module):
    """The maximum of each window.

    Args:
        stride: the window's size by default.
        padding: of minus infinity, on both sides.
        ceil_mode: let a last window stick out.
        return_indices: also return the flat positions of the maxima.
    """

    spatial: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"max_pool{self.spatial}d")
        return pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The maximum of each window of [N, C, L] or [C, L]."""

    spatial = 1


class MaxPool2d(_MaxPool):
    """The maximum of each window of [N, C, H, W] or [C, H, W]."""

    spatial = 2


class MaxPool3d(_MaxPool):
    """The maximum of each window of [N, C, D, H, W] or [C, D, H, W]."""

    spatial = 3


class AvgPool1d(Module):
    """The mean of each window of [N, C, L] or [C, L].

    Args:
        count_include_pad: whether the zeros of the padding count as elements.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(AvgPool1d):
    """As `AvgPool1d`, with a divisor of one's own."""

    spatial: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        pool = F.avg_pool2d if self.spatial == 2 else F.avg_pool3d
        return pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool2d(_AvgPool):
    """The mean of each window of [N, C, H, W] or [C, H, W]; see `F.avg_pool2d`."""

    spatial = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of [N, C, D, H, W] or [C, D, H, W]; see `F.avg_pool3d`."""

    spatial = 3


class _AdaptiveAvgPool(Module):
    """Means over windows chosen so that the result has a given size."""

    spatial: int

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(F, f"adaptive_avg_pool{self.spatial}d")
        result: Tensor = pool(input, self.output_size)
        return result

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means, so that the last dimension gets the given size."""

    spatial = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means, so that the last two dimensions get the given sizes (None: keep)."""

    spatial = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means, so that the last three dimensions get the given sizes (None: keep)."""

    spatial = 3
