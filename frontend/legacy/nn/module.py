"""The base of all modules of `legacy.nn`.

A module says in `_forward` how its output comes from its input and its parameters. That is recorded
once, for the output; `updateGradInput` and `accGradParameters` differentiate the record. What is
never read is never computed, since tensors are captured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import braze
from braze.autograd import grad
from braze.autograd.modes import enable_grad, no_grad
from braze.tensors import Tensor

Table = Any  # a tensor, or a list of tables

Real = float  # `float` and `type` are methods below
Kind = type
M = TypeVar("M", bound="Module")


def map_table(function: Callable[..., Any], table: Table, *others: Table) -> Table:
    """The same table with `function` of each tensor (and of those at its place in others)."""
    if isinstance(table, (list, tuple)):
        return [map_table(function, *items) for items in zip(table, *others, strict=True)]
    return function(table, *others)


def tensors_of(table: Table) -> Iterator[Tensor]:
    """The tensors in order."""
    if isinstance(table, (list, tuple)):
        for item in table:
            yield from tensors_of(item)
    elif isinstance(table, Tensor):
        yield table


def add_tables(a: Table, b: Table) -> Table:
    """Their sum, tensor by tensor."""
    return map_table(lambda x, y: x + y, a, b)


def gradients_of(
    outputs: Sequence[Tensor], wanted: Sequence[Tensor], given: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The gradients of what is wanted; zero for what the outputs do not depend on."""
    asked = [x for x in wanted if x.requires_grad]
    found: Iterator[Any] = iter(())
    if outputs and asked:
        found = iter(grad(outputs, asked, given, retain_graph=True, allow_unused=True))
    gradients = []
    for x in wanted:
        own = next(found, None) if x.requires_grad else None
        gradients.append(braze.zeros_like(x) if own is None else own)
    return gradients


def _leaf(tensor: Any) -> Any:
    """The tensor without its history, and with a gradient of its own if it is floating-point."""
    if not isinstance(tensor, Tensor):
        return tensor
    leaf = tensor.detach()
    return leaf.requires_grad_() if leaf.dtype.is_floating_point else leaf


@dataclass
class Record:
    """What an output was computed from.

    Attributes:
        given: the input itself. input: what stands for it on the tape, and `parameters` for the
            parameters. versions: of the parameters, when they were read.
    """

    given: Table
    input: Table
    parameters: dict[str, Tensor]
    versions: list[int]
    output: Table


class Typed:
    """What has floating-point tensors of a type, and can have others: a module or a criterion."""

    type: Any

    def _convert(self, kind: Any) -> None:
        for name, value in self.__dict__.items():
            self.__dict__[name] = _converted(value, kind)

    def float(self) -> Any:
        """With tensors of float32, where they are."""
        return self.type(f"torch.{'cuda.' * _is_on_gpu(self)}FloatTensor")

    def double(self) -> Any:
        """With tensors of float64, where they are."""
        return self.type(f"torch.{'cuda.' * _is_on_gpu(self)}DoubleTensor")

    def cuda(self) -> Any:
        """With tensors on the GPU.  Raises: RuntimeError, if there is none."""
        return self.type("torch.cuda.FloatTensor")


class Module(Typed):
    """A part of a network that keeps its output, its parameters and their gradients.

    Attributes:
        output, gradInput: of the last `forward` and `backward`.
        train: whether it is in training mode, which `training()` and `evaluate()` set.
        weight, bias, gradWeight, gradBias: of modules that have them.
    """

    _parameters: Sequence[str] = ("weight", "bias")
    weight: Any
    bias: Any
    gradWeight: Any
    gradBias: Any

    def __init__(self) -> None:
        self.output: Table = braze.empty(0)
        self.gradInput: Table = braze.empty(0)
        self.train = True
        self._type = "torch.FloatTensor"
        self._record: Record | None = None

    def _forward(self, input: Table) -> Table:
        """The output; subclasses define it."""
        return input

    # Output and gradients -------------------------------------------------------------------------

    def forward(self, input: Table) -> Table:
        """The output for an input: a tensor, or a list of tensors."""
        return self.updateOutput(input)

    def __call__(self, input: Table, gradOutput: Table = None) -> Any:
        """`forward`, or with `gradOutput` also `backward`: (output, gradInput)."""
        output = self.forward(input)
        return output if gradOutput is None else (output, self.backward(input, gradOutput))

    def updateOutput(self, input: Table) -> Table:
        """Compute `output`."""
        self._record = self._recorded(input)
        self.output = map_table(lambda x: x.detach(), self._record.output)
        return self.output

    def backward(self, input: Table, gradOutput: Table, scale: Real = 1) -> Table:
        """Compute `gradInput`, and add to the parameters' gradients, for the last input."""
        self.updateGradInput(input, gradOutput)
        self.accGradParameters(input, gradOutput, scale)
        return self.gradInput

    def backwardUpdate(self, input: Table, gradOutput: Table, lr: Real) -> Table:
        """Compute `gradInput`, and take the parameters' gradients times `lr` off them."""
        self.updateGradInput(input, gradOutput)
        self.accUpdateGradParameters(input, gradOutput, lr)
        return self.gradInput

    def updateGradInput(self, input: Table, gradOutput: Table) -> Table:
        """Compute `gradInput`: zero for what the output does not depend on."""
        record = self._record_of(input)
        leaves = list(tensors_of(record.input))
        found = iter(self._gradients(record, gradOutput, leaves))
        self.gradInput = map_table(lambda _: next(found), record.input)
        return self.gradInput

    def accGradParameters(self, input: Table, gradOutput: Table, scale: Real = 1) -> None:
        """Add the parameters' gradients times `scale` to `gradWeight`, `gradBias`."""
        for name, gradient in self._parameter_gradients(input, gradOutput):
            getattr(self, gradient_name(name)).add_(gradient, alpha=scale)

    def accUpdateGradParameters(self, input: Table, gradOutput: Table, lr: Real) -> None:
        """Take the parameters' gradients times `lr` off the parameters."""
        for name, gradient in self._parameter_gradients(input, gradOutput):
            getattr(self, name).sub_(gradient, alpha=lr)

    def sharedAccUpdateGradParameters(self, input: Table, gradOutput: Table, lr: Real) -> None:
        """`accUpdateGradParameters` for parameters that several modules share."""
        if self.parameters():
            self.zeroGradParameters()
            self.accGradParameters(input, gradOutput, 1)
            self.updateParameters(lr)

    def _own(self) -> dict[str, Tensor]:
        return {n: getattr(self, n) for n in self._parameters if getattr(self, n, None) is not None}

    def _recorded(self, input: Table) -> Record:
        own = self._own()
        with enable_grad():
            leaves = map_table(_leaf, input)
            tracked = {name: _leaf(parameter) for name, parameter in own.items()}
            self.__dict__.update(tracked)
            try:
                output = self._forward(leaves)
            finally:
                self.__dict__.update(own)
        return Record(input, leaves, tracked, [p._version for p in own.values()], output)

    def _record_of(self, input: Table) -> Record:
        """What was recorded for an input, and for the parameters as they are now."""
        record = self._record
        versions = [p._version for p in self._own().values()]
        if record is None or record.given is not input or record.versions != versions:
            record = self._record = self._recorded(input)
        return record

    def _gradients(
        self, record: Record, gradOutput: Table, wanted: Sequence[Tensor]
    ) -> list[Tensor]:
        pairs = [
            (y, g)
            for y, g in zip(tensors_of(record.output), tensors_of(gradOutput), strict=True)
            if y.requires_grad
        ]
        outputs, gradients = [y for y, _ in pairs], [g for _, g in pairs]
        return [x.detach() for x in gradients_of(outputs, wanted, gradients)]

    def _parameter_gradients(self, input: Table, gradOutput: Table) -> Iterator[tuple[str, Tensor]]:
        record = self._record_of(input)
        gradients = self._gradients(record, gradOutput, list(record.parameters.values()))
        yield from zip(record.parameters, gradients, strict=True)

    # Parameters -----------------------------------------------------------------------------------

    def _make_parameters(self, **shapes: Sequence[int] | None) -> None:
        """Make parameters of these shapes (None: there is none) and their gradients."""
        for name, shape in shapes.items():
            both = (None, None) if shape is None else (braze.zeros(*shape), braze.zeros(*shape))
            self.__dict__[name], self.__dict__[gradient_name(name)] = both

    def _uniform(self, limit: Real, stdv: Real | None = None) -> None:
        """Numbers from -limit to limit in all parameters, or of a deviation."""
        limit = limit if stdv is None else stdv * 3**0.5
        with no_grad():
            for parameter in self._own().values():
                parameter.uniform_(-limit, limit)

    def reset(self, stdv: Real | None = None) -> Any:
        """Give the parameters new random values.

        Args:
            stdv: their deviation; by default one that suits the module.
        """

    def parameters(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """The parameters and their gradients, in the same order; None if there are none."""
        own = self._own()
        if not own:
            return None
        return list(own.values()), [getattr(self, gradient_name(name)) for name in own]

    def zeroGradParameters(self) -> None:
        """Set the parameters' gradients to zero."""
        found = self.parameters()
        for gradient in found[1] if found else ():
            gradient.zero_()

    def updateParameters(self, learningRate: Real) -> None:
        """Take the parameters' gradients times `learningRate` off them."""
        found = self.parameters()
        if found:
            for parameter, gradient in zip(*found, strict=True):
                parameter.sub_(gradient, alpha=learningRate)

    def flattenParameters(self) -> tuple[Tensor, Tensor] | None:
        """Let all parameters, and all gradients, look into one vector each; returns the two."""
        found = self.parameters()
        return None if found is None else (_flatten(found[0]), _flatten(found[1]))

    # The tree -------------------------------------------------------------------------------------

    @property
    def _children(self) -> list[Module]:
        return getattr(self, "modules", [])

    def training(self) -> None:
        """Behave as in training."""
        self.train = True

    def evaluate(self) -> None:
        """Behave as in use: no dropout, and stored statistics."""
        self.train = False

    def apply(self, callback: Callable[[Module], Any]) -> None:
        """Call `callback` with this module and all below it."""
        for module in self.listModules():
            callback(module)

    def listModules(self) -> list[Module]:
        """This module and all below it."""
        return [self, *(m for child in self._children for m in child.listModules())]

    def findModules(
        self, typename: str | Kind, container: Module | None = None
    ) -> tuple[list[Module], list[Module | None]]:
        """Modules of a class, given or named, and the container of each."""
        names = {type(self), type(self).__name__, str(type(self))}
        pairs = ([self], [container]) if typename in names else ([], [])
        nodes: list[Module] = list(pairs[0])
        containers: list[Module | None] = list(pairs[1])
        for child in self._children:
            more, theirs = child.findModules(typename, self)
            nodes, containers = nodes + more, containers + theirs
        return nodes, containers

    def replace(self, callback: Callable[[Module], Module]) -> Module:
        """What `callback` gives for this module, once it was asked for those below."""
        out = callback(self)
        children = out._children
        children[:] = [child.replace(callback) for child in children]
        return out

    def share(self: M, mlp: Module, *names: str) -> M:
        """Let parameters of these names look where another module's do."""
        for name in names:
            if getattr(self, name, None) is not None:
                getattr(self, name).set_(getattr(mlp, name))
        return self

    def clone(self: M, *names: str) -> M:
        """A copy, which shares the parameters of these names."""
        twin = copy.deepcopy(self)
        return twin.share(self, *names) if names else twin

    def __deepcopy__(self: M, memo: dict[int, Any]) -> M:
        twin: M = object.__new__(type(self))
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            twin.__dict__[name] = None if name == "_record" else copy.deepcopy(value, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_record": None}

    def clearState(self: M) -> M:
        """Forget output and gradInput, which are only as large as the last batch."""
        self.output, self.gradInput, self._record = braze.empty(0), braze.empty(0), None
        return self

    # Types ----------------------------------------------------------------------------------------

    def type(self, type: Any = None, tensorCache: Any = None) -> Any:
        """The type's name ("torch.FloatTensor"), or this module with floating-point tensors of
        another type."""
        if type is None:
            return self._type
        self._convert(type)
        self._record = None
        self._type = type if isinstance(type, str) else f"torch.{type.__name__}"
        return self

    def __repr__(self) -> str:
        return f"nn.{type(self).__name__}{self._sizes()}"

    def _sizes(self) -> str:
        return ""


def gradient_name(parameter: str) -> str:
    """`weight` -> `gradWeight`."""
    return f"grad{parameter[0].upper()}{parameter[1:]}"


def _converted(value: Any, kind: Any) -> Any:
    if isinstance(value, Tensor):
        return value.type(kind) if value.dtype.is_floating_point else value
    if isinstance(value, list):
        return [_converted(item, kind) for item in value]
    return value.type(kind) if isinstance(value, Typed) else value


def _is_on_gpu(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_cuda
    parts = vars(value).values() if isinstance(value, Typed) else value
    return isinstance(value, (Typed, list)) and any(map(_is_on_gpu, parts))


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector with the tensors' elements, which the tensors look into from now on; those that
    share memory share it there too."""
    places: dict[tuple[int, int], int] = {}
    parts: list[Tensor] = []
    offset = 0
    for tensor in tensors:
        key = (tensor.data_ptr(), tensor.numel())
        if key not in places:
            places[key] = offset
            parts.append(tensor.detach().reshape(-1))
            offset += tensor.numel()
    starts = [places[tensor.data_ptr(), tensor.numel()] for tensor in tensors]
    flat = braze.cat(parts).clone()
    for tensor, start in zip(tensors, starts, strict=True):
        tensor.set_(flat[start : start + tensor.numel()].view(tensor.shape))
    return flat
