"""Pooling over sequences, images and volumes, and what undoes it."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.legacy.nn.containers import Sequential
from braze.legacy.nn.elementwise import MulConstant, Power, Sqrt, Square
from braze.legacy.nn.module import Module, Table
from braze.legacy.nn.windows import Windowed
from braze.nn import functional as F
from braze.tensors import Tensor


class _Pooling(Windowed):
    """What poolings share: how sizes are rounded."""

    ceil_mode = False

    def ceil(self) -> Any:
        """Round sizes up from now on."""
        self.ceil_mode = True
        return self

    def floor(self) -> Any:
        """Round sizes down from now on."""
        self.ceil_mode = False
        return self

    def _sizes(self) -> str:
        letters = self._dimensions()
        parts = ["x".join(map(str, self._named("k", letters)))]
        parts.append(", ".join(map(str, self._named("d", letters))))
        if any(getattr(self, f"pad{d}", 0) for d in letters):
            parts.append(", ".join(map(str, self._named("pad", letters))))
        return f"({', '.join(parts)})"


class SpatialMaxPooling(_Pooling):
    """The largest in each window of images, (C, H, W) or (N, C, H, W).

    Attributes:
        indices: where each is in its plane, of the last input.
    """

    _letters = "HW"

    def __init__(
        self,
        kW: int,
        kH: int,
        dW: int | None = None,
        dH: int | None = None,
        padW: int = 0,
        padH: int = 0,
    ) -> None:
        super().__init__()
        self.kW, self.kH, self.dW, self.dH = kW, kH, dW or kW, dH or kH
        self.padW, self.padH = padW, padH
        self.indices = braze.empty(0, dtype=braze.int64)
        self.input_size: tuple[int, ...] = ()

    def _forward(self, input: Table) -> Table:
        pool = F.max_pool2d if self._letters == "HW" else F.max_pool3d
        output, self.indices = pool(
            input,
            self._named("k", self._letters),
            self._named("d", self._letters),
            self._named("pad", self._letters),
            ceil_mode=self.ceil_mode,
            return_indices=True,
        )
        self.input_size = tuple(input.shape[-len(self._letters) :])
        return output


class VolumetricMaxPooling(SpatialMaxPooling):
    """The largest in each window of volumes, (C, T, H, W) or (N, C, T, H, W)."""

    _letters = "THW"

    def __init__(
        self,
        kT: int,
        kW: int,
        kH: int,
        dT: int | None = None,
        dW: int | None = None,
        dH: int | None = None,
        padT: int = 0,
        padW: int = 0,
        padH: int = 0,
    ) -> None:
        super().__init__(kW, kH, dW, dH, padW, padH)
        self.kT, self.dT, self.padT = kT, dT or kT, padT


class SpatialMaxUnpooling(Module):
    """Puts elements back to where a pooling module took the largest from; zeros elsewhere."""

    _letters = "WH"

    def __init__(self, poolingModule: SpatialMaxPooling) -> None:
        super().__init__()
        letters = poolingModule._letters
        if not isinstance(poolingModule, SpatialMaxPooling) or len(letters) != len(self._letters):
            raise TypeError(
                f"[{type(self).__name__}] needs the pooling module that it undoes, given "
                f"{poolingModule!r}"
            )
        if poolingModule._named("k", letters) != poolingModule._named("d", letters):
            raise ValueError(f"[{type(self).__name__}] windows must not overlap")
        self.pooling = poolingModule

    def _forward(self, input: Table) -> Table:
        sizes = self.pooling.input_size
        planes = input.shape[: -len(sizes)]
        flat = braze.zeros(*planes, math.prod(sizes), dtype=input.dtype, device=input.device)
        places = self.pooling.indices.reshape(*planes, -1)
        return flat.scatter(-1, places, input.reshape(*planes, -1)).view(*planes, *sizes)


class VolumetricMaxUnpooling(SpatialMaxUnpooling):
    """`SpatialMaxUnpooling` of volumes."""

    _letters = "TWH"


class SpatialAveragePooling(_Pooling):
    """The mean of each window of images."""

    def __init__(
        self, kW: int, kH: int, dW: int = 1, dH: int = 1, padW: int = 0, padH: int = 0
    ) -> None:
        super().__init__()
        self.kW, self.kH, self.dW, self.dH, self.padW, self.padH = kW, kH, dW, dH, padW, padH
        self.count_include_pad = True
        self.divide = True

    def setCountIncludePad(self) -> Any:
        """Count the zeros around in the mean."""
        self.count_include_pad = True
        return self

    def setCountExcludePad(self) -> Any:
        """Do not count the zeros around in the mean."""
        self.count_include_pad = False
        return self

    def _forward(self, input: Table) -> Table:
        return F.avg_pool2d(
            input,
            self._named("k", "HW"),
            self._named("d", "HW"),
            self._named("pad", "HW"),
            self.ceil_mode,
            self.count_include_pad,
            None if self.divide else 1,
        )


class VolumetricAveragePooling(_Pooling):
    """The mean of each window of volumes."""

    def __init__(
        self,
        kT: int,
        kW: int,
        kH: int,
        dT: int | None = None,
        dW: int | None = None,
        dH: int | None = None,
    ) -> None:
        super().__init__()
        self.kT, self.kW, self.kH = kT, kW, kH
        self.dT, self.dW, self.dH = dT or kT, dW or kW, dH or kH

    def _forward(self, input: Table) -> Table:
        return F.avg_pool3d(input, self._named("k", "THW"), self._named("d", "THW"))


class SpatialLPPooling(Sequential):
    """(sum |x| ** pnorm) ** (1 / pnorm) of each window of images."""

    def __init__(
        self,
        nInputPlane: int,
        pnorm: float,
        kW: int,
        kH: int,
        dW: int | None = None,
        dH: int | None = None,
    ) -> None:
        super().__init__()
        dW, dH = dW or kW, dH or kH
        self.kW, self.kH, self.dW, self.dH = kW, kH, dW, dH
        self.add(Square() if pnorm == 2 else Power(pnorm))
        self.add(SpatialAveragePooling(kW, kH, dW, dH))
        self.add(MulConstant(kW * kH))
        self.add(Sqrt() if pnorm == 2 else Power(1 / pnorm))


class SpatialAdaptiveMaxPooling(Module):
    """The largest of windows that give an output of width `w` and height `h`."""

    def __init__(self, w: int, h: int) -> None:
        super().__init__()
        self.w, self.h = w, h
        self.indices = braze.empty(0, dtype=braze.int64)

    def _forward(self, input: Table) -> Table:
        output, self.indices = F.adaptive_max_pool2d(input, (self.h, self.w), True)
        return output


class SpatialFractionalMaxPooling(Module):
    """The largest of windows at random places (Graham, arXiv 1412.6071).

    Args:
        arg1, arg2: the output's width and height, or, below 1, its parts of the input's.
    """

    def __init__(self, poolSizeW: int, poolSizeH: int, arg1: float, arg2: float) -> None:
        super().__init__()
        if poolSizeW < 2 or poolSizeH < 2:
            raise ValueError(
                "[SpatialFractionalMaxPooling] windows must be 2 wide and high or more"
            )
        self.poolSizeW, self.poolSizeH = poolSizeW, poolSizeH
        self.outW: int | None = None
        self.outH: int | None = None
        self.ratioW: float | None = None
        self.ratioH: float | None = None
        if arg1 >= 1 and arg2 >= 1:
            self.outW, self.outH = int(arg1), int(arg2)
        elif 0 < arg1 < 1 and 0 < arg2 < 1:
            self.ratioW, self.ratioH = arg1, arg2
        else:
            raise ValueError(
                "[SpatialFractionalMaxPooling] two sizes, or two ratios between 0 and 1, are "
                f"needed, given {arg1} and {arg2}"
            )
        self.fixed = False
        self.randomSamples: Tensor | None = None
        self.indices = braze.empty(0, dtype=braze.int64)

    def fixPoolingRegions(self, val: bool = True) -> Any:
        """Keep the places that were drawn."""
        self.fixed = val
        return self

    def _forward(self, input: Table) -> Table:
        shape = (*input.shape[:2], 2)
        if self.randomSamples is None or self.randomSamples.shape != shape or not self.fixed:
            self.randomSamples = braze.rand(*shape, dtype=input.dtype, device=input.device)
        if self.outW is not None:
            size = (self.outH, self.outW)
        else:
            assert self.ratioW is not None and self.ratioH is not None
            size = (int(input.size(2) * self.ratioH), int(input.size(3) * self.ratioW))
        output, self.indices = F.fractional_max_pool2d(
            input,
            (self.poolSizeH, self.poolSizeW),
            output_size=size,
            return_indices=True,
            _random_samples=self.randomSamples,
        )
        return output


class SpatialSubSampling(_Pooling):
    """The sum of each window of images, times a learned number for each plane, plus one.

    Shape:
        weight, bias: (nInputPlane).
    """

    def __init__(self, nInputPlane: int, kW: int, kH: int, dW: int = 1, dH: int = 1) -> None:
        super().__init__()
        self.nInputPlane = nInputPlane
        self.kW, self.kH, self.dW, self.dH = kW, kH, dW, dH
        self._make_parameters(weight=(nInputPlane,), bias=(nInputPlane,))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.kW * self.kH), stdv)

    def _forward(self, input: Table) -> Table:
        window, stride = self._named("k", "HW"), self._named("d", "HW")
        sums = F.avg_pool2d(input, window, stride, divisor_override=1)
        return sums * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class TemporalMaxPooling(Module):
    """The largest of `kW` frames, of sequences (T, F) or (N, T, F)."""

    def __init__(self, kW: int, dW: int | None = None) -> None:
        super().__init__()
        self.kW, self.dW = kW, dW or kW

    def _forward(self, input: Table) -> Table:
        return input.unfold(-2, self.kW, self.dW).max(-1)[0]


class TemporalSubSampling(Module):
    """The sum of `kW` frames, times a learned number for each feature, plus one.

    Shape:
        input: (T, inputFrameSize). weight, bias: (inputFrameSize).
    """

    def __init__(self, inputFrameSize: int, kW: int, dW: int = 1) -> None:
        super().__init__()
        self.inputFrameSize, self.kW, self.dW = inputFrameSize, kW, dW
        self._make_parameters(weight=(inputFrameSize,), bias=(inputFrameSize,))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.kW), stdv)

    def _forward(self, input: Table) -> Table:
        return input.unfold(-2, self.kW, self.dW).sum(-1) * self.weight + self.bias
