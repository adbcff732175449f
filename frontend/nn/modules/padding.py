"""Padding layers. Amounts are one int for all sides, or before and after the last dimension, then
before and after the one before it, and so on; negative ones crop.
"""

from __future__ import annotations

from typing import Any

from braze.nn import functional as F
from braze.nn.functional.support import IntOrInts
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class _Pad(Module):
    """What the padding layers share; a subclass says over how many dimensions, and how."""

    spatial: int
    mode: str

    def __init__(self, padding: IntOrInts) -> None:
        super().__init__()
        single = not isinstance(padding, (tuple, list))
        sides: Any = (padding,) * (2 * self.spatial) if single else tuple(padding)  # type: ignore[arg-type]
        self.padding: tuple[int, ...] = sides

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """Pads with one number.

    Raises:
        RuntimeError: the input has too few dimensions.
    """

    mode = "constant"

    def __init__(self, padding: IntOrInts, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pads the last dimension with one number."""

    spatial = 1


class ConstantPad2d(_ConstantPad):
    """Pads the last two dimensions with one number."""

    spatial = 2


class ConstantPad3d(_ConstantPad):
    """Pads the last three dimensions with one number."""

    spatial = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: IntOrInts) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Pads the last dimension with zeros."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Pads the last two dimensions with zeros."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Pads the last three dimensions with zeros."""


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Pads [N, C, L] or [C, L] with its mirror image, which does not repeat the edge."""

    spatial = 1


class ReflectionPad2d(_ReflectionPad):
    """Pads [N, C, H, W] or [C, H, W] with its mirror images, which do not repeat the edges."""

    spatial = 2


class ReflectionPad3d(_ReflectionPad):
    """Pads [N, C, D, H, W] or [C, D, H, W] with its mirror images, which do not repeat the
    edges.
    """

    spatial = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Pads [N, C, L] or [C, L] with its first and last elements."""

    spatial = 1


class ReplicationPad2d(_ReplicationPad):
    """Pads [N, C, H, W] or [C, H, W] with its edges."""

    spatial = 2


class ReplicationPad3d(_ReplicationPad):
    """Pads [N, C, D, H, W] or [C, D, H, W] with its edges."""

    spatial = 3


class _CircularPad(_Pad):
    """Pads with the elements of the other side.

    Raises:
        ValueError: the input has other dimensions.
    """

    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        ranks = (self.spatial + 1, self.spatial + 2)
        if input.ndim not in ranks:
            raise ValueError(f"expected {ranks[0]}D or {ranks[1]}D input (got {input.ndim}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """Pads [N, C, L] or [C, L] with the elements of the other side."""

    spatial = 1


class CircularPad2d(_CircularPad):
    """Pads [N, C, H, W] or [C, H, W] with the elements of the other sides."""

    spatial = 2


class CircularPad3d(_CircularPad):
    """Pads [N, C, D, H, W] or [C, D, H, W] with the elements of the other sides."""

    spatial = 3
