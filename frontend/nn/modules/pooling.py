"""Pooling layers over windows of a fixed size, and the inverse of max pooling."""

from __future__ import annotations

from typing import Any

from braze.nn import functional as F
from braze.nn.functional.support import Ints, ints
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
        self.kernel_size = ints(kernel_size, 1, "kernel_size")
        self.stride = ints(kernel_size if stride is None else stride, 1, "stride")
        self.padding = ints(padding, 1, "padding")
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


class _AvgPool(Module):
    """As `AvgPool1d`, over several dimensions, and with a divisor of one's own."""

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
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
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

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of each window of [N, C, H, W] or [C, H, W]; see `F.avg_pool2d`."""

    spatial = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of [N, C, D, H, W] or [C, D, H, W]; see `F.avg_pool3d`."""

    spatial = 3


class _MaxUnpool(Module):
    """Puts maxima back where they were, with zeros elsewhere; see `F.max_unpool1d`.

    Args:
        kernel_size, stride, padding: those of the pooling layer, which gave the indices.
    """

    spatial: int

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size: Ints = ints(kernel_size, self.spatial, "kernel_size")
        given = kernel_size if stride is None else stride
        self.stride: Ints = ints(given, self.spatial, "stride")
        self.padding: Ints = ints(padding, self.spatial, "padding")

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        """Args: output_size: of the last dimensions or of all, where several sizes are pooled to
        the input's.
        """
        unpool = getattr(F, f"max_unpool{self.spatial}d")
        result: Tensor = unpool(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )
        return result

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The partial inverse of `MaxPool1d`."""

    spatial = 1


class MaxUnpool2d(_MaxUnpool):
    """The partial inverse of `MaxPool2d`."""

    spatial = 2


class MaxUnpool3d(_MaxUnpool):
    """The partial inverse of `MaxPool3d`."""

    spatial = 3


class _LPPool(Module):
    """The p-norm of each window.

    Args:
        norm_type: p.
        stride: the window's size by default.
        ceil_mode: let a last window stick out.
    """

    spatial: int

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(F, f"lp_pool{self.spatial}d")
        result: Tensor = pool(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )
        return result

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """The p-norm of each window of [N, C, L] or [C, L]."""

    spatial = 1


class LPPool2d(_LPPool):
    """The p-norm of each window of [N, C, H, W] or [C, H, W]."""

    spatial = 2


class LPPool3d(_LPPool):
    """The p-norm of each window of [N, C, D, H, W] or [C, D, H, W]."""

    spatial = 3
