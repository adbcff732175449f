"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from braze.functions.creation import empty
from braze.nn import functional as F
from braze.nn import init
from braze.nn.functional.convolution import convolve, convolve_transposed, same_padding
from braze.nn.functional.support import IntOrInts, ints
from braze.nn.modules.linear import placed, weight_and_bias
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share; a subclass says over how many dimensions, and in which
    direction.

    Weight and bias [out] start uniform in +-1 / sqrt(fan in).

    Raises:
        ValueError: groups do not divide the channels, an unknown padding or padding mode.
    """

    spatial: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts,
        padding: IntOrInts | str,
        dilation: IntOrInts,
        output_padding: IntOrInts,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {set(PADDING_MODES)}, but got "
                f"padding_mode={padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = ints(kernel_size, self.spatial, "kernel_size")
        self.stride = ints(stride, self.spatial, "stride")
        self.dilation = ints(dilation, self.spatial, "dilation")
        self.padding: Any = padding
        if not isinstance(padding, str):
            self.padding = ints(padding, self.spatial, "padding")
        self.output_padding = ints(output_padding, self.spatial, "output_padding")
        self.groups = groups
        self.padding_mode = padding_mode
        self._reversed_padding_repeated_twice = self._amounts()
        self.weight = Parameter(empty(self._weight_shape(), **placed(device, dtype)))
        if bias:
            self.bias: Parameter | None = Parameter(empty(out_channels, **placed(device, dtype)))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        ends = (self.out_channels, self.in_channels)
        first, second = ends[::-1] if self.transposed else ends
        return (first, second // self.groups, *self.kernel_size)

    def _amounts(self) -> list[int]:
        """The padding as `F.pad` takes it: last dimension first, before and after."""
        if self.padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError("padding='same' is not supported for strided convolutions")
        if self.padding == "same":
            pairs = same_padding(self.kernel_size, self.stride, self.dilation)
        elif self.padding == "valid":
            pairs = [(0, 0)] * self.spatial
        elif isinstance(self.padding, str):
            raise ValueError(
                f"Invalid padding string {self.padding!r}, should be one of {{'valid', 'same'}}"
            )
        else:
            pairs = [(amount, amount) for amount in self.padding]
        return [side for pair in reversed(pairs) for side in pair]

    def reset_parameters(self) -> None:
        """Draw new values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fan_in_and_out(self.weight)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,) * self.spatial:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.spatial:
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * self.spatial:
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(_ConvNd):
    """What the convolutions over 1, 2 and 3 dimensions share.

    Args:
        padding: amounts on both sides of each dimension, "valid" (none) or "same" (keeps the size).
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Weight: [out, in / groups, kernel...].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts | str = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        ends = (in_channels, out_channels, kernel_size, stride, padding, dilation)
        super().__init__(*ends, 0, groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = weight_and_bias(self)
        return self._conv_forward(input, weight, bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with other weights than the layer's own, for subclasses."""
        padding = self.padding
        if self.padding_mode != "zeros":
            padding = 0
            input = F.pad(input, self._reversed_padding_repeated_twice, self.padding_mode)
        return convolve(
            f"conv{self.spatial}d",
            self.spatial,
            input,
            weight,
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Conv):
    """Cross-correlation over one dimension: [N, C, L] or [C, L] to [N, out, L']."""

    spatial = 1


class Conv2d(_Conv):
    """Cross-correlation over two dimensions: [N, C, H, W] or [C, H, W] to [N, out, H', W']."""

    spatial = 2


class Conv3d(_Conv):
    """Cross-correlation over three dimensions: [N, C, D, H, W] or [C, D, H, W] to [N, out, D', H',
    W'].
    """

    spatial = 3


class _ConvTranspose(_ConvNd):
    """What the transposed convolutions over 1, 2 and 3 dimensions share.

    A dimension of n becomes (n - 1) * stride - 2 * padding + dilation * (kernel - 1) +
    output_padding + 1.

    Args:
        padding: what a convolution of the other direction would pad.
        output_padding: how much larger the result is, as several inputs of a strided convolution
            give one size; less than the stride or the dilation.

    Weight: [in, out / groups, kernel...].

    Raises:
        ValueError: as the convolutions, or a padding mode other than "zeros".
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrInts = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(
                f'Only "zeros" padding mode is supported for {type(self).__name__}, given '
                f"{padding_mode!r}"
            )
        ends = (in_channels, out_channels, kernel_size, stride, padding, dilation)
        super().__init__(*ends, output_padding, groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """The transposed convolution.

        Args:
            output_size: of the spatial dimensions or of all, in place of `output_padding`.

        Raises:
            ValueError: no output padding gives this size.
        """
        extra = self.output_padding
        if output_size is not None:
            extra = self._padding_to(input, tuple(output_size))
        return convolve_transposed(
            f"conv_transpose{self.spatial}d",
            self.spatial,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def _padding_to(self, input: Tensor, size: tuple[int, ...]) -> tuple[int, ...]:
        spatial = self.spatial
        others = 2 if input.ndim == spatial + 2 else 1
        if len(size) == others + spatial:
            size = size[others:]
        if len(size) != spatial:
            raise ValueError(
                f"ConvTranspose{spatial}D: for {input.ndim}D input, output_size must have "
                f"{spatial} or {spatial + others} elements (got {len(size)})"
            )
        own = tuple(input.shape[-spatial:])
        geometry = zip(own, self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in geometry]
        most = [low + s - 1 for low, s in zip(least, self.stride, strict=True)]
        if any(not a <= n <= b for a, n, b in zip(least, size, most, strict=True)):
            raise ValueError(
                f"requested an output size of {list(size)}, but valid sizes range from {least} to "
                f"{most} (for an input of {list(own)})"
            )
        return tuple(n - a for n, a in zip(size, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """The transposed convolution over one dimension: [N, C, L] or [C, L] to [N, out, L']."""

    spatial = 1


class ConvTranspose2d(_ConvTranspose):
    """The transposed convolution over two dimensions: [N, C, H, W] or [C, H, W] to [N, out, H',
    W'].
    """

    spatial = 2


class ConvTranspose3d(_ConvTranspose):
    """The transposed convolution over three dimensions: [N, C, D, H, W] or [C, D, H, W] to [N, out,
    D', H', W'].
    """

    spatial = 3
