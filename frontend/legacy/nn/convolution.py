"""Convolutions over sequences, images and volumes.

Sizes of windows come as width, height (time, width, height), as in Torch7; parameters are laid out
as in `braze.nn`.
"""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.legacy.nn.module import Table
from braze.legacy.nn.windows import Windowed
from braze.nn import functional as F
from braze.tensors import Tensor


class _Convolution(Windowed):
    """What convolutions share: planes, and a bias that can be taken off."""

    nInputPlane: int
    nOutputPlane: int

    def noBias(self) -> Any:
        """Without a bias from now on."""
        self.bias = self.gradBias = None
        return self

    def _fan_in(self) -> int:
        """How many inputs an output has."""
        return self.weight[0].numel()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self._fan_in()), stdv)

    def _sizes(self) -> str:
        order = self._dimensions()
        parts = ["x".join(map(str, self._named("k", order)))]
        rest = [("d", 1), ("pad", 0), ("adj", 0)]
        values = [[getattr(self, f"{kind}{d}", usual) for d in order] for kind, usual in rest]
        last = max((i for i, v in enumerate(values) if any(x != rest[i][1] for x in v)), default=-1)
        parts += [", ".join(map(str, v)) for v in values[: last + 1]]
        without = "" if self.bias is not None else " without bias"
        return f"({self.nInputPlane} -> {self.nOutputPlane}, {', '.join(parts)}){without}"


class SpatialConvolution(_Convolution):
    """A convolution of images, (C, H, W) or (N, C, H, W).

    Shape:
        weight: (nOutputPlane, nInputPlane, kH, kW). bias: (nOutputPlane).
    """

    dilationH = dilationW = 1

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        kW: int,
        kH: int,
        dW: int = 1,
        dH: int = 1,
        padW: int = 0,
        padH: int | None = None,
    ) -> None:
        super().__init__()
        self.nInputPlane, self.nOutputPlane = nInputPlane, nOutputPlane
        self._window(kW=kW, kH=kH, dW=dW, dH=dH, padW=padW, padH=padW if padH is None else padH)
        self._make_parameters(weight=(nOutputPlane, nInputPlane, kH, kW), bias=(nOutputPlane,))
        self.reset()

    def _forward(self, input: Table) -> Table:
        stride, padding = self._named("d", "HW"), self._named("pad", "HW")
        dilation = self._named("dilation", "HW")
        return F.conv2d(input, self.weight, self.bias, stride, padding, dilation)


class SpatialDilatedConvolution(SpatialConvolution):
    """`SpatialConvolution` with windows that leave elements out."""

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        kW: int,
        kH: int,
        dW: int = 1,
        dH: int = 1,
        padW: int = 0,
        padH: int | None = None,
        dilationH: int = 1,
        dilationW: int | None = None,
    ) -> None:
        super().__init__(nInputPlane, nOutputPlane, kW, kH, dW, dH, padW, padH)
        self.dilationH = dilationH
        self.dilationW = dilationH if dilationW is None else dilationW


class SpatialConvolutionLocal(_Convolution):
    """A convolution of images of one size whose weights differ from place to place.

    Shape:
        weight: (oH, oW, nOutputPlane, nInputPlane, kH, kW). bias: (nOutputPlane, oH, oW).
    """

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        iW: int,
        iH: int,
        kW: int,
        kH: int,
        dW: int = 1,
        dH: int = 1,
        padW: int = 0,
        padH: int | None = None,
    ) -> None:
        super().__init__()
        padH = padW if padH is None else padH
        self.nInputPlane, self.nOutputPlane = nInputPlane, nOutputPlane
        self._window(kW=kW, kH=kH, dW=dW, dH=dH, padW=padW, padH=padH, iW=iW, iH=iH)
        self.oW = (iW + 2 * padW - kW) // dW + 1
        self.oH = (iH + 2 * padH - kH) // dH + 1
        if self.oW < 1 or self.oH < 1:
            raise ValueError(
                f"[SpatialConvolutionLocal] a window of {kW}x{kH} is larger than input"
            )
        self._make_parameters(
            weight=(self.oH, self.oW, nOutputPlane, nInputPlane, kH, kW),
            bias=(nOutputPlane, self.oH, self.oW),
        )
        self.reset()

    def _fan_in(self) -> int:
        return self.weight[0, 0, 0].numel()

    def _forward(self, input: Table) -> Table:
        pw, ph = self._named("pad", "WH")
        (kw, kh), (dw, dh) = self._named("k", "WH"), self._named("d", "WH")
        padded = F.pad(input, (pw, pw, ph, ph))
        windows = padded.unfold(-2, kh, dh).unfold(-2, kw, dw)  # ..., C, oH, oW, kH, kW
        output = braze.einsum("...chwij,hwocij->...ohw", windows, self.weight)
        return output if self.bias is None else output + self.bias


class _FullConvolution(_Convolution):
    """A transposed convolution, with an output as large as a second tensor if one is given."""

    _letters: str
    _convolve: Any

    def _fan_in(self) -> int:
        return int(self.nInputPlane * self.weight[0, 0].numel())

    def _forward(self, input: Table) -> Table:
        kernel, stride = self._named("k", self._letters), self._named("d", self._letters)
        padding, adjustment = self._named("pad", self._letters), self._named("adj", self._letters)
        if isinstance(input, list):
            input, like = input
            rows = zip(like.shape[-len(kernel) :], padding, kernel, stride, strict=True)
            adjustment = tuple((size + 2 * pad - k) % d for size, pad, k, d in rows)
        return self._convolve(input, self.weight, self.bias, stride, padding, adjustment)


def _check_adjustment(*pairs: int) -> None:
    for adjustment, stride in zip(pairs[::2], pairs[1::2], strict=True):
        if adjustment > stride - 1:
            raise ValueError(
                f"what is added to the output's size must be smaller than the stride, given "
                f"{adjustment} for {stride}"
            )


class SpatialFullConvolution(_FullConvolution):
    """A transposed convolution of images; adjW and adjH add to the output's size.

    The input may be [images, tensor]: then the output is as high and wide as the tensor.

    Shape:
        weight: (nInputPlane, nOutputPlane, kH, kW). bias: (nOutputPlane).
    """

    _letters = "HW"
    _convolve = staticmethod(F.conv_transpose2d)

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        kW: int,
        kH: int,
        dW: int = 1,
        dH: int = 1,
        padW: int = 0,
        padH: int | None = None,
        adjW: int = 0,
        adjH: int = 0,
    ) -> None:
        super().__init__()
        self.nInputPlane, self.nOutputPlane = nInputPlane, nOutputPlane
        padH = padW if padH is None else padH
        self._window(kW=kW, kH=kH, dW=dW, dH=dH, padW=padW, padH=padH, adjW=adjW, adjH=adjH)
        _check_adjustment(adjW, dW, adjH, dH)
        self._make_parameters(weight=(nInputPlane, nOutputPlane, kH, kW), bias=(nOutputPlane,))
        self.reset()


class VolumetricConvolution(_Convolution):
    """A convolution of volumes, (C, T, H, W) or (N, C, T, H, W).

    Shape:
        weight: (nOutputPlane, nInputPlane, kT, kH, kW). bias: (nOutputPlane).
    """

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        kT: int,
        kW: int,
        kH: int,
        dT: int = 1,
        dW: int = 1,
        dH: int = 1,
        padT: int = 0,
        padW: int | None = None,
        padH: int | None = None,
    ) -> None:
        super().__init__()
        self.nInputPlane, self.nOutputPlane = nInputPlane, nOutputPlane
        padW = padT if padW is None else padW
        padH = padW if padH is None else padH
        self._window(kT=kT, kW=kW, kH=kH, dT=dT, dW=dW, dH=dH, padT=padT, padW=padW, padH=padH)
        self._make_parameters(weight=(nOutputPlane, nInputPlane, kT, kH, kW), bias=(nOutputPlane,))
        self.reset()

    def _forward(self, input: Table) -> Table:
        stride, padding = self._named("d", "THW"), self._named("pad", "THW")
        return F.conv3d(input, self.weight, self.bias, stride, padding)


class VolumetricFullConvolution(_FullConvolution):
    """A transposed convolution of volumes, as `SpatialFullConvolution`.

    Shape:
        weight: (nInputPlane, nOutputPlane, kT, kH, kW). bias: (nOutputPlane).
    """

    _letters = "THW"
    _convolve = staticmethod(F.conv_transpose3d)

    def __init__(
        self,
        nInputPlane: int,
        nOutputPlane: int,
        kT: int,
        kW: int,
        kH: int,
        dT: int = 1,
        dW: int = 1,
        dH: int = 1,
        padT: int = 0,
        padW: int = 0,
        padH: int = 0,
        adjT: int = 0,
        adjW: int = 0,
        adjH: int = 0,
    ) -> None:
        super().__init__()
        self.nInputPlane, self.nOutputPlane = nInputPlane, nOutputPlane
        self._window(kT=kT, kW=kW, kH=kH, dT=dT, dW=dW, dH=dH, padT=padT, padW=padW, padH=padH)
        self._window(adjT=adjT, adjW=adjW, adjH=adjH)
        _check_adjustment(adjT, dT, adjW, dW, adjH, dH)
        self._make_parameters(weight=(nInputPlane, nOutputPlane, kT, kH, kW), bias=(nOutputPlane,))
        self.reset()


class TemporalConvolution(_Convolution):
    """A convolution of sequences of frames, (T, inputFrameSize) or (N, T, inputFrameSize).

    Shape:
        weight: (outputFrameSize, kW * inputFrameSize), frame by frame. bias: (outputFrameSize).
    """

    def __init__(self, inputFrameSize: int, outputFrameSize: int, kW: int, dW: int = 1) -> None:
        super().__init__()
        self.inputFrameSize, self.outputFrameSize = inputFrameSize, outputFrameSize
        self.nInputPlane, self.nOutputPlane = inputFrameSize, outputFrameSize
        self._window(kW=kW, dW=dW)
        self._make_parameters(
            weight=(outputFrameSize, inputFrameSize * kW), bias=(outputFrameSize,)
        )
        self.reset()

    def _forward(self, input: Table) -> Table:
        frames = self.weight.view(self.outputFrameSize, -1, self.inputFrameSize).transpose(1, 2)
        output = F.conv1d(input.transpose(-2, -1), frames, self.bias, self._named("d", "W"))
        return output.transpose(-2, -1)


# Between some planes only -------------------------------------------------------------------------


class SpatialConvolutionMap(_Convolution):
    """A convolution of images in which an output plane sees only some input planes.

    Args:
        conMatrix: (K, 2), the input's and the output's plane of each of K connections.

    Shape:
        weight: (K, kH, kW). bias: (number of output planes).
    """

    class maps:
        """Usual connections."""

        @staticmethod
        def full(nin: int, nout: int) -> Tensor:
            """Every output plane sees every input plane."""
            return braze.tensor([[float(i), float(j)] for j in range(nout) for i in range(nin)])

        @staticmethod
        def oneToOne(nfeat: int) -> Tensor:
            """Every output plane sees the input plane of its number."""
            return braze.tensor([[float(i), float(i)] for i in range(nfeat)])

        @staticmethod
        def random(nin: int, nout: int, nto: int) -> Tensor:
            """Every output plane sees `nto` input planes, drawn at random, all used alike."""
            order: list[int] = []
            while len(order) < nto * nout:
                order += braze.randperm(nin).tolist()[: nin // nto * nto]
            rows = [[float(order[j * nto + i]), float(j)] for j in range(nout) for i in range(nto)]
            return braze.tensor(rows)

    def __init__(self, conMatrix: Tensor, kW: int, kH: int, dW: int = 1, dH: int = 1) -> None:
        super().__init__()
        self.connTable = conMatrix
        self._window(kW=kW, kH=kH, dW=dW, dH=dH)
        self.nInputPlane = int(conMatrix.select(1, 0).max()) + 1
        self.nOutputPlane = int(conMatrix.select(1, 1).max()) + 1
        self._make_parameters(weight=(conMatrix.size(0), kH, kW), bias=(self.nOutputPlane,))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        if stdv is not None:
            self._uniform(0, stdv)
            return
        to = self.connTable.select(1, 1).long()
        inputs = braze.bincount(to, minlength=self.nOutputPlane)
        size = self.weight.size(1) * self.weight.size(2)
        limits = 1 / (inputs.to(self.weight.dtype) * size).sqrt()
        self.weight.copy_((braze.rand_like(self.weight) * 2 - 1) * limits[to].view(-1, 1, 1))
        self.bias.copy_((braze.rand_like(self.bias) * 2 - 1) * limits)

    def _dense(self, first: int, second: int) -> Tensor:
        """The weights as those of a convolution between all planes, zero where none is."""
        planes = self.connTable.long()
        shape = [self.nInputPlane, self.nOutputPlane]
        like = {"dtype": self.weight.dtype, "device": self.weight.device}
        whole = braze.zeros(shape[first], shape[second], *self.weight.shape[1:], **like)
        return whole.index_put((planes[:, first], planes[:, second]), self.weight, True)

    def _forward(self, input: Table) -> Table:
        return F.conv2d(input, self._dense(1, 0), self.bias, self._named("d", "HW"))


class SpatialFullConvolutionMap(SpatialConvolutionMap):
    """`SpatialConvolutionMap`, transposed."""

    def _forward(self, input: Table) -> Table:
        return F.conv_transpose2d(input, self._dense(0, 1), self.bias, self._named("d", "HW"))
