"""Run an ONNX graph on tensors, node by node.

A value is a tensor, or an array where it is known whatever the inputs are: constants, sizes, and
what is computed from them alone. So what a model says about shapes is settled while it is traced,
and only arithmetic on its inputs becomes part of the traced graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

import braze
from braze.capture import tracer
from braze.onnx.known import KNOWN
from braze.onnx.protos import DTYPES, ELEMENT_TYPES, attribute_value, attributes_of
from braze.onnx.rules import NEWEST, ImportRule, import_rules
from braze.onnx.sized import SizedValues
from braze.tensors import Tensor

MAIN = ("", "ai.onnx")


class UnsupportedOperatorError(RuntimeError):
    """A model has operators that there is no rule for; the message names all of them."""


class Names:
    """The values by name in a graph, which also sees those of the graphs around it."""

    def __init__(self, outer: Names | None = None) -> None:
        self._own: dict[str, Any] = {"": None}
        self._outer = outer

    def __getitem__(self, name: str) -> Any:
        scope: Names | None = self
        while scope is not None:
            if name in scope._own:
                return scope._own[name]
            scope = scope._outer
        raise ValueError(f"the model reads a value {name!r} that nothing before has computed")

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._own


@dataclass
class Step:
    """A node with what is known of it before it runs.

    Attributes:
        proto: the node.
        version: of the operator: the opset version in which it came to be what it is here.
        rule: None for a function of the model.
        attributes: their values; those of the function's caller are added to a function's nodes.
        references: attribute -> the name of the attribute of the function's caller.
        function: what a node that calls a function of the model runs.
    """

    proto: onnx.NodeProto
    version: int
    rule: ImportRule | None
    attributes: dict[str, Any]
    references: dict[str, str] = field(default_factory=dict)
    function: onnx.FunctionProto | None = None


@dataclass
class Node:
    """What a rule may ask about the node that it computes."""

    step: Step
    runner: Runner
    names: Names

    @property
    def op(self) -> str:
        return self.step.proto.op_type

    @property
    def version(self) -> int:
        return self.step.version

    @property
    def results(self) -> int:
        """How many results the node names."""
        return len(self.step.proto.output)

    def wants(self, position: int) -> bool:
        """Whether the result is used."""
        outputs = self.step.proto.output
        return position < len(outputs) and outputs[position] != ""

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.step.attributes.get(name, default)

    def read(self, value: Any, what: str = "an operand") -> np.ndarray:
        """A value as an array."""
        return self.runner.read(value, what)

    def tensor(self, value: Any) -> Any:
        return self.runner.tensor(value)

    def run_graph(self, graph: onnx.GraphProto, inputs: Sequence[Any]) -> list[Any]:
        """Run one of the node's graphs, which sees the values around it."""
        names = Names(self.names)
        for info, value in zip(graph.input, inputs, strict=True):
            names[info.name] = value
        return self.runner.run(graph, names)


class Runner:
    """Runs the graphs of one model.

    Args:
        model: its opset versions and functions.
        directory: where external data lies.
    """

    def __init__(self, model: onnx.ModelProto, directory: str = "") -> None:
        self.directory = directory
        self.opsets = {_domain(o.domain): o.version for o in model.opset_import}
        self.functions = {(_domain(f.domain), f.name): f for f in model.functions}
        self.sized = SizedValues()
        self.constants: dict[int, tuple[np.ndarray, Tensor]] = {}
        self._weights: dict[int, Tensor] = {}
        self._known: dict[int, np.ndarray] = {}
        self._steps: dict[int, tuple[Any, list[Step]]] = {}

    # What the model needs -------------------------------------------------------------------------

    def missing(self, graph: onnx.GraphProto) -> list[str]:
        """A line for each node without a rule."""
        return list(dict.fromkeys(self._missing(graph.node, self.opsets, ())))

    def _missing(
        self, nodes: Iterable[onnx.NodeProto], opsets: Mapping[str, int], seen: tuple[Any, ...]
    ) -> Iterable[str]:
        for node in nodes:
            key = (_domain(node.domain), node.op_type)
            for attribute in node.attribute:
                for graph in [attribute.g, *attribute.graphs]:
                    yield from self._missing(graph.node, opsets, seen)
            if key in self.functions:
                if key not in seen:
                    function = self.functions[key]
                    yield from self._missing(function.node, _opsets(function), (*seen, key))
                continue
            found = _rule_for(node, opsets)
            if isinstance(found, str):
                yield found

    # Running --------------------------------------------------------------------------------------

    def run(
        self,
        graph: onnx.GraphProto | onnx.FunctionProto,
        names: Names,
        opsets: Mapping[str, int] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """The outputs of a graph whose inputs are in `names`.

        Args:
            opsets: the versions that a function is written for.
            given: the attributes with which it was called.
        """
        if isinstance(graph, onnx.GraphProto):
            for initializer in graph.initializer:
                if initializer.name not in names:
                    value = attribute_value(_as_attribute(initializer), self.directory)
                    names[initializer.name] = value
            outputs = [info.name for info in graph.output]
        else:
            outputs = list(graph.output)
        for step in self._steps_of(graph, opsets or self.opsets):
            if step.references:
                bound = {
                    own: given[outer]
                    for own, outer in step.references.items()
                    if given is not None and outer in given
                }
                step = Step(
                    step.proto,
                    step.version,
                    step.rule,
                    {**step.attributes, **bound},
                    function=step.function,
                )
            self._run_step(step, names)
        # Which of a function's outputs are computed may depend on what its caller wants.
        optional = isinstance(graph, onnx.FunctionProto)
        return [None if optional and n not in names else names[n] for n in outputs]

    def _steps_of(self, graph: Any, opsets: Mapping[str, int]) -> list[Step]:
        found = self._steps.get(id(graph))
        if found is None or found[0] is not graph:
            steps = [self._step(node, opsets) for node in graph.node]
            found = self._steps[id(graph)] = (graph, steps)
        return found[1]

    def _step(self, node: onnx.NodeProto, opsets: Mapping[str, int]) -> Step:
        attributes = attributes_of(node, self.directory)
        references = {a.name: a.ref_attr_name for a in node.attribute if a.ref_attr_name}
        function = self.functions.get((_domain(node.domain), node.op_type))
        if function is not None:
            attributes |= {
                a.name: attribute_value(a)
                for a in function.attribute_proto
                if a.name not in attributes and a.name not in references
            }
            return Step(node, 0, None, attributes, references, function)
        found = _rule_for(node, opsets)
        if isinstance(found, str):
            raise UnsupportedOperatorError(f"there is no rule for {found}")
        rule, version = found
        return Step(node, version, rule, attributes, references)

    def _run_step(self, step: Step, names: Names) -> None:
        operands = [names[name] for name in step.proto.input]
        try:
            results = self._results(step, operands, names)
        except UnsupportedOperatorError:
            raise
        except Exception as error:
            error.add_note(f"in {label(step.proto)}")
            raise
        outputs = step.proto.output
        if len(results) < len(outputs) and any(outputs[len(results) :]):
            raise NotImplementedError(
                f"{label(step.proto)}: result {len(results)} is not supported"
            )
        for name, value in zip(outputs, results, strict=False):
            if name:
                names[name] = value

    def _results(self, step: Step, operands: list[Any], names: Names) -> Sequence[Any]:
        if step.function is not None:
            return self._call(step.function, operands, step.attributes)
        rule = step.rule
        assert rule is not None
        node = Node(step, self, names)
        fold = KNOWN.get(rule.name)
        if fold is not None and all(x is None or isinstance(x, np.ndarray) for x in operands):
            result = fold(node, *operands)
            if result is not NotImplemented:
                results = _listed(result)
                if any(self.sized.origin_of(x) is not None for x in operands):
                    self.sized.note(results, node, operands)
                return results
        if rule.run is None:
            return self._define(step, operands)
        if not rule.raw:
            operands = [
                self.read(x, f"operand {i}") if i in rule.read else self.tensor(x)
                for i, x in enumerate(operands)
            ]
        results = _listed(rule.run(node, *operands))
        if rule.name in ("Shape", "Size"):
            self.sized.note(results)
        return results

    def _call(
        self, function: onnx.FunctionProto, operands: Sequence[Any], given: Mapping[str, Any]
    ) -> list[Any]:
        names = Names()
        for i, name in enumerate(function.input):
            names[name] = operands[i] if i < len(operands) else None
        return self.run(function, names, _opsets(function), given)

    def _define(self, step: Step, operands: list[Any]) -> list[Any]:
        """Run ONNX's own definition of an operator."""
        proto = step.proto
        schema: Any = onnx.defs.get_schema(proto.op_type, step.version, "")
        if schema.has_context_dependent_function:
            types = [_type_of(x) for x in operands]
            text = schema.get_context_dependent_function(
                _bound(step).SerializeToString(), [t.SerializeToString() for t in types]
            )
            function = onnx.FunctionProto.FromString(text)
        elif schema.has_function:
            function = schema.function_body
        else:
            raise UnsupportedOperatorError(f"there is no rule for {label(proto)}")
        given = {
            name: onnx.helper.get_attribute_value(a.default_value)
            for name, a in schema.attributes.items()
            if a.default_value.type
        }
        given |= step.attributes
        results = self._call(function, operands, given)
        return results[: len(proto.output)]

    # Values ---------------------------------------------------------------------------------------

    def tensor(self, value: Any) -> Any:
        """A value as a tensor; None and sequences stay what they are."""
        if not isinstance(value, np.ndarray):
            return value
        if self.sized.origin_of(value) is not None:
            return self.sized.tensor(value)
        found = self.constants.get(id(value))
        if found is None:
            found = (value, braze.from_numpy(np.array(value)))
            if len(self.constants) > 4096:  # arrays that are made anew in each call
                self.constants.clear()
            self.constants[id(value)] = found
        return found[1]

    def use(self, weights: Iterable[Tensor]) -> None:
        """Say which tensors are initializers, whose values may be known."""
        self._weights = {id(tensor): tensor for tensor in weights}

    def known(self, value: Any) -> np.ndarray | None:
        """The elements of an initializer, or None if it is something else, or not computed yet.

        As long as they are the same, so is the array.
        """
        own = self._weights.get(id(value))
        if own is None or own is not value or own._current().storage is None:
            return None
        current = own._numpy()
        found = self._known.get(id(value))
        if found is None or not np.array_equal(found, current):
            found = self._known[id(value)] = current.copy()
        return found

    def read(self, value: Any, what: str) -> Any:
        """A value as an array; None stays None.

        Raises:
            ValueError: it depends on the inputs, and the model is being traced.
        """
        if value is None or isinstance(value, np.ndarray):
            return value
        if not isinstance(value, Tensor):
            raise TypeError(f"{what} must be a tensor, given {type(value).__name__}")
        array = self.known(value)
        if array is not None:
            return array
        if tracer().whole:
            raise ValueError(
                f"the value of {what} must be known when the model is compiled, but it is computed "
                "from the model's inputs; give inputs that never change to load(), as "
                "fixed={name: value}"
            )
        return value.detach()._numpy().copy()


def label(node: onnx.NodeProto) -> str:
    """A node for people."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name!r} ({node.domain + '.' if node.domain else ''}{node.op_type})"


def _rule_for(node: onnx.NodeProto, opsets: Mapping[str, int]) -> tuple[ImportRule, int] | str:
    """A node's rule and its operator's version, or what is missing."""
    domain = _domain(node.domain)
    opset = opsets.get(domain)
    where = f"{label(node)}: domain {domain or 'ai.onnx'!r}, opset version {opset}"
    if opset is None:
        return f"{where} (the model does not import that domain)"
    if domain != "":
        return where
    try:
        version = onnx.defs.get_schema(node.op_type, opset, "").since_version
    except onnx.defs.SchemaError:
        return f"{where} (there is no such operator in this version)"
    rule = import_rules().get(node.op_type)
    if rule is None:
        return where
    if not rule.since <= version <= NEWEST:
        return f"{where} (version {version} of the operator; supported are {rule.since}-{NEWEST})"
    return rule, version


def _domain(domain: str) -> str:
    return "" if domain in MAIN else domain


def _opsets(function: onnx.FunctionProto) -> dict[str, int]:
    return {_domain(o.domain): o.version for o in function.opset_import}


def _listed(result: Any) -> Sequence[Any]:
    return result if isinstance(result, tuple) else (result,)


def _as_attribute(tensor: onnx.TensorProto) -> onnx.AttributeProto:
    attribute = onnx.AttributeProto(name=tensor.name, type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(tensor)
    return attribute


def _bound(step: Step) -> onnx.NodeProto:
    """The node with values for the attributes that refer to its caller's."""
    node = onnx.NodeProto()
    node.CopyFrom(step.proto)
    kept = [a for a in node.attribute if not a.ref_attr_name]
    made = [
        onnx.helper.make_attribute(name, step.attributes[name])
        for name in (a.name for a in node.attribute if a.ref_attr_name)
        if name in step.attributes
    ]
    del node.attribute[:]
    node.attribute.extend([*kept, *made])
    return node


def _type_of(value: Any) -> onnx.TypeProto:
    """The type of a value as ONNX writes it."""
    if value is None:
        return onnx.TypeProto()
    if isinstance(value, list):
        inner = _type_of(value[0]) if value else onnx.TypeProto()
        return onnx.helper.make_sequence_type_proto(inner)
    if isinstance(value, np.ndarray):
        number = next(n for n, d in DTYPES.items() if d.numpy == value.dtype)
        return onnx.helper.make_tensor_type_proto(number, value.shape)
    return onnx.helper.make_tensor_type_proto(ELEMENT_TYPES[value.dtype], tuple(value.shape))
