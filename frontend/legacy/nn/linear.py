"""Linear maps, distances to learned points, and tables of vectors."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.autograd.modes import no_grad
from braze.legacy.nn.module import Module, Table
from braze.nn import functional as F
from braze.sizes import Size
from braze.tensors import Tensor


class Linear(Module):
    """x W' + b.

    Shape:
        input: (inputSize) or (N, inputSize). weight: (outputSize, inputSize). bias: (outputSize).
    """

    def __init__(self, inputSize: int, outputSize: int, bias: bool = True) -> None:
        super().__init__()
        self._make_parameters(weight=(outputSize, inputSize), bias=(outputSize,) if bias else None)
        self.reset()

    def noBias(self) -> Any:
        """Without a bias from now on."""
        self.bias = self.gradBias = None
        return self

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.weight.size(1)), stdv)
        return self

    def _forward(self, input: Table) -> Table:
        return F.linear(input, self.weight, self.bias)

    def _sizes(self) -> str:
        without = "" if self.bias is not None else " without bias"
        return f"({self.weight.size(1)} -> {self.weight.size(0)}){without}"


class PartialLinear(Module):
    """`Linear` of which only some outputs are computed: those that `setPartition` names.

    Shape:
        weight: (outputsize, inputsize). bias: (1, outputsize).
    """

    def __init__(self, inputsize: int, outputsize: int, bias: bool = True) -> None:
        super().__init__()
        self.inputsize, self.outputsize = inputsize, outputsize
        self._make_parameters(
            weight=(outputsize, inputsize), bias=(1, outputsize) if bias else None
        )
        self.allcolumns = braze.arange(outputsize)
        self.reset()
        self.resetPartition()

    def reset(self, stdv: float | None = None) -> Any:
        self.weight.normal_(0, 1 if stdv is None else stdv)

    def setPartition(self, indices: Tensor) -> Any:
        """Compute the outputs with these numbers."""
        self.partition = indices.long()
        return self

    def resetPartition(self) -> Any:
        """Compute all outputs."""
        self.partition = self.allcolumns
        return self

    def _forward(self, input: Table) -> Table:
        output = input.matmul(self.weight.index_select(0, self.partition).t())
        if self.bias is None:
            return output
        return output + self.bias.index_select(1, self.partition)

    def _sizes(self) -> str:
        without = "" if self.bias is not None else " without bias"
        return f"({self.inputsize} -> {self.outputsize}){without}"


class Bilinear(Module):
    """x' W_k y + b_k of rows: input is [x, y].

    Shape:
        weight: (outputSize, inputSize1, inputSize2). bias: (outputSize).
    """

    def __init__(
        self, inputSize1: int, inputSize2: int, outputSize: int, bias: bool = True
    ) -> None:
        super().__init__()
        self._make_parameters(
            weight=(outputSize, inputSize1, inputSize2), bias=(outputSize,) if bias else None
        )
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.weight.size(1)), stdv)
        return self

    def _forward(self, input: Table) -> Table:
        if len(input) != 2 or any(x.dim() != 2 for x in input):
            raise RuntimeError("[Bilinear] the input must be a list of two matrices")
        return F.bilinear(input[0], input[1], self.weight, self.bias)

    def _sizes(self) -> str:
        out, first, second = self.weight.shape
        without = "" if self.bias is not None else " without bias"
        return f"({first}x{second} -> {out}){without}"


class Add(Module):
    """x plus a learned vector, or one learned number if `scalar`."""

    def __init__(self, inputSize: int, scalar: bool = False) -> None:
        super().__init__()
        if scalar and inputSize != 1:
            raise ValueError(f"[Add] one number is one: inputSize must be 1, given {inputSize}")
        self.scalar = scalar
        self._make_parameters(bias=(inputSize,))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.bias.size(0)), stdv)

    def _forward(self, input: Table) -> Table:
        if self.scalar:
            return input + self.bias
        return (input.reshape(input.size(0), -1) + self.bias).view(input.shape)


class Mul(Module):
    """x times one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self._make_parameters(weight=(1,))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1, stdv)

    def _forward(self, input: Table) -> Table:
        return input * self.weight


class CMul(Module):
    """x times learned numbers, element by element; sizes as `CMul(3, 4)`."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.size = Size(args[0] if len(args) == 1 and isinstance(args[0], tuple) else args)
        self._make_parameters(weight=self.size)
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.weight.numel()), stdv)

    def _forward(self, input: Table) -> Table:
        rows = input.reshape(input.size(0), -1)
        return (rows * self.weight.reshape(1, -1)).view(input.shape)


class Cosine(Module):
    """Cosines of the angles to learned vectors.

    Shape:
        input: (N, inputSize). weight: (outputSize, inputSize).
    """

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__()
        self._make_parameters(weight=(outputSize, inputSize))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.weight.size(0)), stdv)

    def _forward(self, input: Table) -> Table:
        lengths = self.weight.norm(2, 1) + 1e-12
        return input.matmul(self.weight.t()) / lengths / (input.norm(2, 1, True) + 1e-12)


class Euclidean(Module):
    """Distances to learned points.

    Shape:
        input: (N, inputSize). weight: (inputSize, outputSize).
    """

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__()
        self._make_parameters(weight=(inputSize, outputSize))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        self._uniform(1 / math.sqrt(self.weight.size(0)), stdv)

    def _forward(self, input: Table) -> Table:
        return (input.unsqueeze(-1) - self.weight).norm(2, -2)


class WeightedEuclidean(Module):
    """`Euclidean` in which each point has learned scales of the axes, `diagCov`.

    Shape:
        input: (inputSize) or (N, inputSize). weight, diagCov: (inputSize, outputSize).
    """

    _parameters = ("weight", "diagCov")
    diagCov: Any
    gradDiagCov: Any

    def __init__(self, inputSize: int, outputSize: int) -> None:
        super().__init__()
        self._make_parameters(weight=(inputSize, outputSize), diagCov=(inputSize, outputSize))
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        limit = 1 / math.sqrt(self.weight.size(1)) if stdv is None else stdv * math.sqrt(3)
        self.weight.uniform_(-limit, limit)
        self.diagCov.fill_(1)

    def _forward(self, input: Table) -> Table:
        return ((input.unsqueeze(-1) - self.weight) * self.diagCov).norm(2, -2)


class LookupTable(Module):
    """Learned vectors, by number.

    Args:
        nIndex, nOutput: how many, and their size. paddingValue: a number whose vector gets no
            gradient; -1 for none. maxNorm: vectors that are read are scaled down to this norm.
        normType: which norm that is; 2 by default.

    Shape:
        input: (N) or (N, T), of integers. output: (N, nOutput) or (N, T, nOutput).
    """

    def __init__(
        self,
        nIndex: int,
        nOutput: int,
        paddingValue: int = -1,
        maxNorm: float | None = None,
        normType: float | None = None,
    ) -> None:
        super().__init__()
        self.paddingValue, self.maxNorm, self.normType = paddingValue, maxNorm, normType
        self.shouldScaleGradByFreq = False
        self._make_parameters(weight=(nIndex, nOutput))
        self.reset()

    def setPadding(self, paddingValue: int) -> Any:
        """See the class."""
        self.paddingValue = paddingValue
        return self

    def setMaxNorm(self, maxNorm: float | None) -> Any:
        """See the class."""
        self.maxNorm = maxNorm
        return self

    def setNormType(self, normType: float | None) -> Any:
        """See the class."""
        self.normType = normType
        return self

    def scaleGradByFreq(self) -> Any:
        """Divide the gradients by how often a number occurs in the batch."""
        self.shouldScaleGradByFreq = True
        return self

    def reset(self, stdv: float | None = None) -> Any:
        self.weight.normal_(0, 1 if stdv is None else stdv)

    def updateOutput(self, input: Table) -> Table:
        if self.maxNorm is not None:
            with no_grad():
                braze.embedding_renorm_(self.weight, input.long(), self.maxNorm, self.normType or 2)
        return super().updateOutput(input)

    def _forward(self, input: Table) -> Table:
        padding = self.paddingValue if self.paddingValue >= 0 else None
        return F.embedding(
            input.long(),
            self.weight,
            padding_idx=padding,
            scale_grad_by_freq=self.shouldScaleGradByFreq,
        )

    def _sizes(self) -> str:
        return f"({self.weight.size(0)} -> {self.weight.size(1)})"
