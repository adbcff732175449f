"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from braze.functions.creation import empty
from braze.nn import functional as F
from braze.nn import init
from braze.nn.functional.convolution import convolve, same_padding
from braze.nn.functional.support import IntOrInts, ints
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What the convolutions over 1, 2 and 3 dimensions share; a subclass says over how many.

    Args:
        padding: amounts on both sides of each dimension, "valid" (none) or "same" (keeps the size).
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Weight [out, in / groups, kernel...] and bias [out] start uniform in +-1 / sqrt(fan in).

    Raises:
        ValueError: groups do not divide the channels, an unknown padding or padding mode.
    """

    spatial: int

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
        self.groups = groups
        self.padding_mode = padding_mode
        self._border = self._amounts()
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, **placed(device, dtype)))
        if bias:
            self.bias: Parameter | None = Parameter(empty(out_channels, **placed(device, dtype)))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

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
            fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._border, self.padding_mode), 0
        return convolve(
            f"conv{self.spatial}d",
            self.spatial,
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,) * self.spatial:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.spatial:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


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
