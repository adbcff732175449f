"""The base of criterions, and those made of others."""

from __future__ import annotations

import copy
from typing import Any

import braze
from braze.autograd.modes import enable_grad
from braze.legacy.nn.module import Module, Table, Typed, _leaf, gradients_of, map_table, tensors_of
from braze.tensors import Tensor


class Criterion(Typed):
    """A loss, with a gradient for its input.

    Attributes:
        output: the loss: a tensor without dimensions, which is computed when it is read.
        gradInput: of the last `backward`.
    """

    sizeAverage = True

    def __init__(self) -> None:
        self.output: Any = 0
        self.gradInput: Table = braze.empty(0)

    def _loss(self, input: Table, target: Any) -> Tensor:
        """The loss; subclasses define it."""
        raise NotImplementedError

    def _mean(self, losses: Tensor, count: int | None = None) -> Tensor:
        """The sum, or with `sizeAverage` that divided by a count (of elements)."""
        if not self.sizeAverage:
            return losses.sum()
        return losses.sum() / (losses.numel() if count is None else count)

    def forward(self, input: Table, target: Any) -> Any:
        """The loss."""
        return self.updateOutput(input, target)

    def __call__(self, input: Table, target: Any) -> Any:
        """`forward`."""
        return self.forward(input, target)

    def backward(self, input: Table, target: Any) -> Table:
        """The loss's gradient for its input."""
        return self.updateGradInput(input, target)

    def updateOutput(self, input: Table, target: Any) -> Any:
        """Compute `output`."""
        self.output = self._loss(input, target)
        return self.output

    def updateGradInput(self, input: Table, target: Any) -> Table:
        """Compute `gradInput`."""
        with enable_grad():
            leaves = map_table(_leaf, input)
            loss = self._loss(leaves, target)
        outputs = [loss] if loss.requires_grad else []
        found = iter(gradients_of(outputs, list(tensors_of(leaves))))
        self.gradInput = map_table(lambda _: next(found), leaves)
        return self.gradInput

    def clone(self) -> Any:
        """A copy."""
        return copy.deepcopy(self)

    def type(self, type: Any, tensorCache: Any = None) -> Any:
        """With floating-point tensors of another type."""
        self._convert(type)
        return self

    def __repr__(self) -> str:
        return f"nn.{type(self).__name__}"


class MultiCriterion(Criterion):
    """The weighted sum of several losses of one input and target."""

    def __init__(self) -> None:
        super().__init__()
        self.criterions: list[Criterion] = []
        self.weights: list[Any] = []

    def add(self, criterion: Criterion, weight: Any = 1) -> Any:
        """Append a loss."""
        self.criterions.append(criterion)
        self.weights.append(weight)
        return self

    def _parts(self, input: Table, target: Any) -> list[tuple[Table, Any]]:
        return [(input, target)] * len(self.criterions)

    def updateOutput(self, input: Table, target: Any) -> Any:
        rows = zip(self.criterions, self.weights, self._parts(input, target), strict=True)
        self.output = sum(weight * c.updateOutput(*part) for c, weight, part in rows)
        return self.output

    def _gradients(self, input: Table, target: Any) -> list[Table]:
        rows = zip(self.criterions, self.weights, self._parts(input, target), strict=True)
        return [
            map_table(lambda g, weight=weight: g * weight, c.updateGradInput(*part))
            for c, weight, part in rows
        ]

    def updateGradInput(self, input: Table, target: Any) -> Table:
        first, *rest = self._gradients(input, target)
        for more in rest:
            first = map_table(lambda x, y: x + y, first, more)
        self.gradInput = first
        return first


class ParallelCriterion(MultiCriterion):
    """The weighted sum of losses, each of its own member of input and target.

    Args:
        repeatTarget: all have the same target.
    """

    def __init__(self, repeatTarget: bool = False) -> None:
        super().__init__()
        self.repeatTarget = repeatTarget

    def _parts(self, input: Table, target: Any) -> list[tuple[Table, Any]]:
        targets = [target] * len(input) if self.repeatTarget else target
        return list(zip(input, targets, strict=True))

    def updateGradInput(self, input: Table, target: Any) -> Table:
        self.gradInput = self._gradients(input, target)
        return self.gradInput


class CriterionTable(Module):
    """A criterion as a module whose input is [input, target]."""

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    def updateOutput(self, input: Table) -> Any:
        self.output = self.criterion.updateOutput(*input)
        return self.output

    def updateGradInput(self, input: Table, gradOutput: Any = None) -> Table:
        self.gradInput = [self.criterion.updateGradInput(*input)]
        return self.gradInput

    def accGradParameters(self, input: Table, gradOutput: Any = None, scale: Any = 1) -> None:
        """There are no parameters."""
