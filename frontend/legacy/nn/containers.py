"""Modules made of modules.

A container says in `_walk` which input and which gradient each of its modules gets on the way back,
and how their gradients make its own; that one walk serves `updateGradInput`, `accGradParameters`
and their combinations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import braze
from braze.legacy.nn.module import Module, Table, add_tables
from braze.tensors import Tensor

Real = float  # `float` is a method of modules
Visit = Callable[[Module, Table, Table], Table]


class Container(Module):
    """A module made of modules.

    Attributes:
        modules: they.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: list[Module] = []

    def add(self, module: Module) -> Any:
        """Append a module; returns the container."""
        self.modules.append(module)
        return self

    def get(self, index: int) -> Module:
        """The module at an index, from 0."""
        return self.modules[index]

    def size(self) -> int:
        """The number of modules."""
        return len(self.modules)

    def applyToModules(self, func: Callable[[Module], Any]) -> None:
        """Call `func` with each module of the container itself."""
        for module in self.modules:
            func(module)

    # Gradients ------------------------------------------------------------------------------------

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        """Visit each module with its input and its gradient; returns the container's gradInput."""
        raise NotImplementedError

    def updateGradInput(self, input: Table, gradOutput: Table) -> Table:
        self.gradInput = self._walk(input, gradOutput, lambda m, x, g: m.updateGradInput(x, g))
        return self.gradInput

    def accGradParameters(self, input: Table, gradOutput: Table, scale: Real = 1) -> None:
        def visit(module: Module, own: Table, gradient: Table) -> Table:
            module.accGradParameters(own, gradient, scale)
            return module.gradInput

        self._walk(input, gradOutput, visit)

    def backward(self, input: Table, gradOutput: Table, scale: Real = 1) -> Table:
        self.gradInput = self._walk(input, gradOutput, lambda m, x, g: m.backward(x, g, scale))
        return self.gradInput

    def accUpdateGradParameters(self, input: Table, gradOutput: Table, lr: Real) -> None:
        def visit(module: Module, own: Table, gradient: Table) -> Table:
            module.accUpdateGradParameters(own, gradient, lr)
            return module.gradInput

        self._walk(input, gradOutput, visit)

    # What is passed on ----------------------------------------------------------------------------

    def parameters(self) -> tuple[list[Tensor], list[Tensor]] | None:
        found = [pair for pair in (m.parameters() for m in self.modules) if pair is not None]
        if not found:
            return None
        return [p for pair in found for p in pair[0]], [g for pair in found for g in pair[1]]

    def zeroGradParameters(self) -> None:
        self.applyToModules(lambda m: m.zeroGradParameters())

    def updateParameters(self, learningRate: Real) -> None:
        self.applyToModules(lambda m: m.updateParameters(learningRate))

    def training(self) -> None:
        self.applyToModules(lambda m: m.training())
        super().training()

    def evaluate(self) -> None:
        self.applyToModules(lambda m: m.evaluate())
        super().evaluate()

    def reset(self, stdv: Real | None = None) -> None:
        self.applyToModules(lambda m: m.reset(stdv))

    def share(self, mlp: Any, *names: str) -> Any:
        for own, other in zip(self.modules, mlp.modules, strict=True):
            own.share(other, *names)
        return self

    def clearState(self) -> Any:
        self.applyToModules(lambda m: m.clearState())
        return super().clearState()

    def __repr__(self) -> str:
        lines = [f"  ({i}): {module!r}" for i, module in enumerate(self.modules)]
        body = "\n".join(line.replace("\n", "\n  ") for line in lines)
        return f"nn.{type(self).__name__} {{\n{body}\n}}" if lines else f"nn.{type(self).__name__}"


class Sequential(Container):
    """Modules one after another."""

    def insert(self, module: Module, index: int) -> None:
        """Put a module before the one at `index`."""
        self.modules.insert(index, module)

    def remove(self, index: int) -> None:
        """Take out the module at `index`."""
        del self.modules[index]

    def updateOutput(self, input: Table) -> Table:
        for module in self.modules:
            input = module.updateOutput(input)
        self.output = input
        return input

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        inputs = [input, *(module.output for module in self.modules[:-1])]
        for module, own in zip(reversed(self.modules), reversed(inputs), strict=False):
            gradOutput = visit(module, own, gradOutput)
        return gradOutput


class Concat(Container):
    """The modules' outputs for one input, joined along a dimension."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def updateOutput(self, input: Table) -> Table:
        outputs = [module.updateOutput(input) for module in self.modules]
        self.output = self._joined(outputs)
        return self.output

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        return braze.cat(outputs, self.dimension)

    def _window(self, gradOutput: Tensor, output: Tensor, offset: int) -> Tensor:
        """The part of the whole gradient that belongs to one output."""
        return gradOutput.narrow(self.dimension, offset, output.size(self.dimension))

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        total, offset = None, 0
        for module in self.modules:
            gradient = visit(module, input, self._window(gradOutput, module.output, offset))
            total = gradient if total is None else add_tables(total, gradient)
            offset += module.output.size(self.dimension)
        return total


class DepthConcat(Concat):
    """`Concat` of outputs of several sizes, which zeros around them make equal."""

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        sizes = [max(sizes) for sizes in zip(*(x.shape for x in outputs), strict=True)]
        return braze.cat([self._padded(x, sizes) for x in outputs], self.dimension)

    def _padded(self, x: Tensor, sizes: list[int]) -> Tensor:
        widths: list[int] = []
        for d in reversed(range(x.dim())):
            missing = 0 if d == self.dimension else sizes[d] - x.size(d)
            widths += [missing // 2, missing - missing // 2]
        return braze.constant_pad_nd(x, widths)

    def _window(self, gradOutput: Tensor, output: Tensor, offset: int) -> Tensor:
        window = super()._window(gradOutput, output, offset)
        for d in range(output.dim()):
            if d != self.dimension:
                start = (window.size(d) - output.size(d)) // 2
                window = window.narrow(d, start, output.size(d))
        return window


class Parallel(Container):
    """A module for each slice of the input; the outputs are joined.

    Args:
        inputDimension: along which the input is taken apart. outputDimension: along which the
            outputs are joined.
    """

    def __init__(self, inputDimension: int, outputDimension: int) -> None:
        super().__init__()
        self.inputDimension, self.outputDimension = inputDimension, outputDimension
        self._slices: list[Tensor] = []
        self._sliced: Any = None

    def _pieces(self, input: Tensor) -> list[Tensor]:
        """The slices; the same tensors for the same input, so that modules know them again."""
        if self._sliced is not input:
            self._sliced, self._slices = input, list(input.unbind(self.inputDimension))
        return self._slices

    def updateOutput(self, input: Table) -> Table:
        pairs = zip(self.modules, self._pieces(input), strict=False)
        outputs = [module.updateOutput(piece) for module, piece in pairs]
        self.output = braze.cat(outputs, self.outputDimension)
        return self.output

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        gradients, offset = [], 0
        for module, piece in zip(self.modules, self._pieces(input), strict=False):
            size = module.output.size(self.outputDimension)
            window = gradOutput.narrow(self.outputDimension, offset, size)
            gradients.append(visit(module, piece, window))
            offset += size
        return braze.stack(gradients, self.inputDimension)

    def clearState(self) -> Any:
        self._slices, self._sliced = [], None
        return super().clearState()


class ConcatTable(Container):
    """The list of the modules' outputs for one input."""

    def updateOutput(self, input: Table) -> Table:
        self.output = [module.updateOutput(input) for module in self.modules]
        return self.output

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        total = None
        for module, own in zip(self.modules, gradOutput, strict=True):
            gradient = visit(module, input, own)
            total = gradient if total is None else add_tables(total, gradient)
        return total


class ParallelTable(Container):
    """A module for each member of the input; the list of their outputs."""

    def updateOutput(self, input: Table) -> Table:
        self.output = [m.updateOutput(x) for m, x in zip(self.modules, input, strict=False)]
        return self.output

    def _walk(self, input: Table, gradOutput: Table, visit: Visit) -> Table:
        rows = zip(self.modules, input, gradOutput, strict=False)
        return [visit(module, own, gradient) for module, own, gradient in rows]
