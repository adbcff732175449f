"""Functions of the input, element by element, and sums and extremes of it."""

from __future__ import annotations

from typing import Any

import braze
from braze.legacy.nn.module import Module, Table, map_table
from braze.nn import functional as F
from braze.tensors import Tensor


class Abs(Module):
    """|x|."""

    def _forward(self, input: Table) -> Table:
        return input.abs()


class AddConstant(Module):
    """x + constant_scalar."""

    def __init__(self, constant_scalar: Any, inplace: bool = False) -> None:
        super().__init__()
        self.constant_scalar, self.inplace = constant_scalar, inplace

    def _forward(self, input: Table) -> Table:
        return input + self.constant_scalar


class MulConstant(Module):
    """x * constant_scalar."""

    def __init__(self, constant_scalar: Any, inplace: bool = False) -> None:
        super().__init__()
        self.constant_scalar, self.inplace = constant_scalar, inplace

    def _forward(self, input: Table) -> Table:
        return input * self.constant_scalar


class HardTanh(Module):
    """x, but not less than `min_value` and not more than `max_value`."""

    def __init__(self, min_value: float = -1, max_value: float = 1, inplace: bool = False) -> None:
        super().__init__()
        self.min_val, self.max_val, self.inplace = min_value, max_value, inplace
        if max_value <= min_value:
            raise ValueError(
                f"[{type(self).__name__}] max_value must be larger than min_value, given "
                f"{max_value} and {min_value}"
            )

    def _forward(self, input: Table) -> Table:
        return F.hardtanh(input, self.min_val, self.max_val)


class Clamp(HardTanh):
    """`HardTanh` whose limits must be given."""

    def __init__(self, min_value: float, max_value: float) -> None:
        super().__init__(min_value, max_value)


class ReLU6(HardTanh):
    """min(max(x, 0), 6)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0, 6, inplace)


class Threshold(Module):
    """x where it is larger than `threshold`, else `value`."""

    def __init__(self, threshold: float = 0, value: float = 0, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.val, self.inplace = threshold, value, inplace

    def _forward(self, input: Table) -> Table:
        return F.threshold(input, self.threshold, self.val)


class ReLU(Threshold):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0, 0, inplace)


class ELU(Module):
    """x where it is positive, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def _forward(self, input: Table) -> Table:
        return F.elu(input, self.alpha)


class LeakyReLU(Module):
    """x where it is positive, else negval * x."""

    def __init__(self, negval: float = 1 / 100, inplace: bool = False) -> None:
        super().__init__()
        self.negval, self.inplace = negval, inplace

    def _forward(self, input: Table) -> Table:
        return F.leaky_relu(input, self.negval)


class RReLU(Module):
    """`LeakyReLU` with a slope drawn for each element in training, the mean slope otherwise."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= lower <= upper <= 1:
            raise ValueError(
                f"[RReLU] needs 0 <= lower <= upper <= 1, given lower {lower} and upper {upper}"
            )
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def _forward(self, input: Table) -> Table:
        return F.rrelu(input, self.lower, self.upper, self.train)


class PReLU(Module):
    """`LeakyReLU` whose slope is learned: one, or one for each of `nOutputPlane` channels."""

    def __init__(self, nOutputPlane: int = 0) -> None:
        super().__init__()
        self.nOutputPlane = nOutputPlane
        self._make_parameters(weight=(max(nOutputPlane, 1),))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self.weight.fill_(0.25)
        return self

    def _forward(self, input: Table) -> Table:
        return F.prelu(input, self.weight)


class HardShrink(Module):
    """x where |x| is larger than `lambd`, else 0."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def _forward(self, input: Table) -> Table:
        return F.hardshrink(input, self.lambd)


class SoftShrink(Module):
    """x brought closer to 0 by `lambd`, where that leaves its sign, else 0."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def _forward(self, input: Table) -> Table:
        return F.softshrink(input, self.lambd)


class SoftPlus(Module):
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""

    def __init__(self, beta: float = 1, threshold: float = 20) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def _forward(self, input: Table) -> Table:
        return F.softplus(input, self.beta, self.threshold)


class Exp(Module):
    """e ** x."""

    def _forward(self, input: Table) -> Table:
        return input.exp()


class Log(Module):
    """The natural logarithm."""

    def _forward(self, input: Table) -> Table:
        return input.log()


class LogSigmoid(Module):
    """log(1 / (1 + exp(-x)))."""

    def _forward(self, input: Table) -> Table:
        return F.logsigmoid(input)


class Power(Module):
    """x ** p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.pow = p

    def _forward(self, input: Table) -> Table:
        return input.pow(self.pow)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def _forward(self, input: Table) -> Table:
        return input.sigmoid()


class SoftSign(Module):
    """x / (1 + |x|)."""

    def _forward(self, input: Table) -> Table:
        return F.softsign(input)


def root(x: Tensor) -> Tensor:
    """The square root; where it is 0, so is its gradient."""
    zero = x == 0
    return braze.where(zero, 0.0, braze.where(zero, 1.0, x).sqrt())


class Sqrt(Module):
    """The square root; where it is 0, so is its gradient."""

    def __init__(self, b: float = 0, eps: float = 0) -> None:
        super().__init__()
        self.eps = eps

    def _forward(self, input: Table) -> Table:
        return root(input + self.eps if self.eps else input)


class Square(Module):
    """x ** 2."""

    def _forward(self, input: Table) -> Table:
        return input * input


class Tanh(Module):
    """The hyperbolic tangent."""

    def _forward(self, input: Table) -> Table:
        return input.tanh()


class TanhShrink(Module):
    """x - tanh(x)."""

    def _forward(self, input: Table) -> Table:
        return F.tanhshrink(input)


def _classes(input: Tensor) -> int:
    """The dimension of classes: the first of three, the second of two and four."""
    return 0 if input.dim() in (1, 3) else 1


class SoftMax(Module):
    """exp(x) / sum exp(x) over classes: dimension 0 of one or three, 1 of two or four."""

    def _forward(self, input: Table) -> Table:
        return F.softmax(input, _classes(input))


class SoftMin(Module):
    """`SoftMax` of -x."""

    def _forward(self, input: Table) -> Table:
        return F.softmax(-input, _classes(input))


class LogSoftMax(Module):
    """The logarithm of `SoftMax`."""

    def _forward(self, input: Table) -> Table:
        return F.log_softmax(input, _classes(input))


class SpatialSoftMax(SoftMax):
    """`SoftMax` over the channels of images."""


class Identity(Module):
    """x."""


class Contiguous(Module):
    """x, in memory row by row."""

    def _forward(self, input: Table) -> Table:
        return map_table(lambda x: x.contiguous(), input)


class Copy(Module):
    """x as another type: classes of tensors such as `torch.DoubleTensor`."""

    def __init__(self, intype: Any, outtype: Any, dontCast: bool = False) -> None:
        super().__init__()
        self.intype, self.outtype, self.dontCast = intype, outtype, dontCast

    def _forward(self, input: Table) -> Table:
        return input.type(self.outtype)

    def type(self, type: Any = None, tensorCache: Any = None) -> Any:
        return self if type is not None and self.dontCast else super().type(type, tensorCache)


class GradientReversal(Module):
    """x; the gradient is turned around and scaled by `lambd` (Ganin and Lempitsky, 1409.7495)."""

    def __init__(self, lambd: float = 1) -> None:
        super().__init__()
        self.lambd = lambd

    def setLambda(self, lambd: float) -> None:
        """Scale by another number from now on."""
        self.lambd = lambd

    def updateGradInput(self, input: Table, gradOutput: Table) -> Table:
        self.gradInput = gradOutput * -self.lambd
        return self.gradInput


class L1Penalty(Module):
    """x; its gradient has that of l1weight * |x| added, the penalty that `loss` is the sum of.

    Args:
        sizeAverage: of the mean in place of the sum. provideOutput: pass gradOutput on too.
    """

    def __init__(
        self, l1weight: float, sizeAverage: bool = False, provideOutput: bool = True
    ) -> None:
        super().__init__()
        self.l1weight, self.sizeAverage, self.provideOutput = l1weight, sizeAverage, provideOutput
        self.loss: Any = 0

    def _weight(self, input: Tensor) -> float:
        return self.l1weight / input.numel() if self.sizeAverage else self.l1weight

    def updateOutput(self, input: Table) -> Table:
        self.loss = input.abs().sum() * self._weight(input)
        self.output = input
        return input

    def updateGradInput(self, input: Table, gradOutput: Table) -> Table:
        penalty = input.sign() * self._weight(input)
        self.gradInput = penalty + gradOutput if self.provideOutput else penalty
        return self.gradInput


# Noise --------------------------------------------------------------------------------------------


class Dropout(Module):
    """In training, elements are zero with probability `p`, the others divided by 1 - p.

    Attributes:
        noise: what the last input was multiplied with.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"[{type(self).__name__}] p must be in [0, 1), given {p}")
        self.p, self.inplace = p, inplace
        self.noise = braze.empty(0)

    def setp(self, p: float) -> None:
        """Use another probability from now on."""
        self.p = p

    def _noise_shape(self, input: Tensor) -> list[int]:
        return list(input.shape)

    def _forward(self, input: Table) -> Table:
        if not self.train or self.p == 0:
            return input
        kept = braze.rand(self._noise_shape(input), device=input.device) >= self.p
        self.noise = kept.to(input.dtype) / (1 - self.p)
        return input * self.noise


class SpatialDropout(Dropout):
    """`Dropout` of whole channels of images."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def _noise_shape(self, input: Tensor) -> list[int]:
        return [*input.shape[:-2], 1, 1]


class VolumetricDropout(Dropout):
    """`Dropout` of whole channels of volumes."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def _noise_shape(self, input: Tensor) -> list[int]:
        return [*input.shape[:-3], 1, 1, 1]


# Reductions ---------------------------------------------------------------------------------------


class Sum(Module):
    """The sum along a dimension, or its mean if `sizeAverage`."""

    def __init__(self, dimension: int = 0, sizeAverage: bool = False) -> None:
        super().__init__()
        self.dimension, self.sizeAverage = dimension, sizeAverage

    def _forward(self, input: Table) -> Table:
        return input.mean(self.dimension) if self.sizeAverage else input.sum(self.dimension)


class Mean(Sum):
    """The mean along a dimension."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension, True)


class Max(Module):
    """The largest along a dimension; of one dimension, it is kept with size 1."""

    def __init__(self, dimension: int = 0) -> None:
        super().__init__()
        self.dimension = dimension

    def _forward(self, input: Table) -> Table:
        return input.max(self.dimension, input.dim() == 1)[0]


class Min(Max):
    """The smallest along a dimension; of one dimension, it is kept with size 1."""

    def _forward(self, input: Table) -> Table:
        return input.min(self.dimension, input.dim() == 1)[0]
