"""From traced graphs to an ONNX graph: each operation's rule is called in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from braze.ir.graph import Graph, Node, Value
from braze.ir.symint import SymInt, evaluate
from braze.onnx.exporting.sizes import Sizes, fitted
from braze.onnx.exporting.tracing import Variants, writable
from braze.onnx.exporting.writer import Operand, Writer
from braze.onnx.protos import ELEMENT_TYPES
from braze.onnx.rules import export_rules
from braze.tensors import Tensor
from braze.tracing import Traced


def written(graph: Graph, opset: int) -> onnx.GraphProto:
    """One graph of the IR, whose inputs become ``input0`` and so on."""
    own = writable(graph, export_rules())
    traced = Traced(own, len(own.inputs), [], None, "")
    names = [f"input{i}" for i in range(len(own.inputs))]
    emitter = Emitter(Variants([traced], [{}]), names, [{}] * len(names), opset)
    return emitter.graph(None, True, False)


class Emitter:
    """Writes one model.

    Args:
        variants: what the module was traced to; the first is written.
        names: of the inputs.
        opened: their open dimensions.
    """

    def __init__(
        self,
        variants: Variants,
        names: Sequence[str],
        opened: Sequence[Mapping[int, str]],
        opset: int,
    ) -> None:
        self.variants = variants
        self.graphs = variants.graphs
        self.base = self.graphs[0]
        self.sizes = Sizes()
        self.labels: list[str] = []
        self.writer = Writer(opset, self.sizes)
        self.inputs = self.base.inputs[: variants.traced[0].arguments]
        self.weights: list[str] = []
        for name in names:
            self.writer.fresh(name)
        for value, name, dims in zip(self.inputs, names, opened, strict=True):
            shape = [
                self._input_size(value, d, dims[d]) if d in dims else size
                for d, size in enumerate(value.shape)
            ]
            self.writer.names[value] = Operand(name, value.dtype, tuple(shape))
        self._enter_captured()

    def _input_size(self, value: Value, dim: int, label: str) -> int:
        vector = tuple(choice[label] for choice in self.variants.choices)
        size = self.sizes.word(vector, value, dim)
        if len(self.labels) < len(self.sizes.vectors):
            self.labels.append(label)
        return size

    def _enter_captured(self) -> None:
        """The tensors that the module used, as initializers."""
        used = {x for node in self.base.nodes for x in node.operands} | set(self.base.outputs)
        first = self.base.inputs[len(self.inputs) :]
        sources = [t.captured for t in self.variants.traced]
        for number, value in enumerate(first):
            if value not in used:
                continue
            arrays = [_array(captured[number]) for captured in sources]
            if any(a is not arrays[0] and not _equal(a, arrays[0]) for a in arrays[1:]):
                raise ValueError(
                    f"the module uses a tensor ({value.type}) that depends on the sizes of the "
                    "dynamic dimensions and is no operation's result; make fewer dimensions dynamic"
                )
            name = self.writer.fresh(value.name or "captured")
            self.writer.initializers[name] = arrays[0]
            if self.base.input_role(value) in ("param", "buffer") or value.name:
                self.weights.append(name)
            self.writer.names[value] = Operand(name, value.dtype, tuple(value.shape))

    # Nodes ----------------------------------------------------------------------------------------

    def _emit(self) -> None:
        rules = export_rules()
        readers: dict[Value, list[Node]] = self.base.uses()
        w = self.writer
        outputs = set(self.base.outputs)
        w.readers, w.outputs = readers, outputs
        for position, node in enumerate(self.base.nodes):
            alike = [graph.nodes[position] for graph in self.graphs]
            attributes = {
                name: fitted(self.sizes, node, name, [n.attributes[name] for n in alike])
                for name in node.attributes
            }
            operands = [w.names[x] for x in node.operands]
            shapes = [self._shape(alike, i) for i in range(len(node.results))]
            w.results = tuple(
                Operand("", v.dtype, s) for v, s in zip(node.results, shapes, strict=True)
            )
            w.wanted = tuple(bool(readers[v]) or v in outputs for v in node.results)
            w.node_now = node
            try:
                made = rules[node.op.name](w, *operands, **attributes)
            except Exception as error:
                error.add_note(f"in {node.op.name} at {node.location}")
                raise
            listed = [made] if isinstance(made, str) else list(made)
            for i, (value, name) in enumerate(zip(node.results, listed, strict=True)):
                if name:
                    w.makers[name] = node
                    w.names[value] = Operand(name, value.dtype, self._named(name, alike, i))

    def _shape(self, alike: list[Node], result: int) -> tuple[int, ...]:
        """A result's sizes, as far as they are known before there is the result."""
        columns = zip(*(n.results[result].shape for n in alike), strict=True)
        return tuple(
            self.sizes.unknown(c[0]) if (fit := self.sizes.fit(tuple(c))) is None else fit
            for c in columns
        )

    def _named(self, name: str, alike: list[Node], result: int) -> tuple[int, ...]:
        """A result's sizes. What is no polynomial of known ones is a new word."""
        columns = zip(*(n.results[result].shape for n in alike), strict=True)
        shape = []
        for dim, c in enumerate(columns):
            fit = self.sizes.fit(tuple(c), parts=False)
            if fit is None:
                fit = self.sizes.word(tuple(c), alike[0].results[result], dim)
                self.labels.append(f"{name}_dim_{dim}")
            shape.append(fit)
        return tuple(shape)

    # The graph ------------------------------------------------------------------------------------

    def graph(
        self,
        output_names: Sequence[str] | None,
        export_params: bool,
        keep_initializers_as_inputs: bool,
    ) -> onnx.GraphProto:
        self._emit()
        w = self.writer
        count = len(self.base.outputs)
        if len(output_names or ()) > count:
            raise ValueError(f"{len(output_names or ())} output_names were given for {count}")
        own = ["output"] if count == 1 else [f"output{i}" for i in range(count)]
        wishes = list(output_names or ()) + own[len(output_names or ()) :]
        infos = []
        for value, wish in zip(self.base.outputs, wishes, strict=True):
            operand = w.names[value]
            name = w.fresh(wish)
            if name != wish and wish in (output_names or ()):
                raise ValueError(f"output name {wish!r} is another value's already")
            w.nodes.append(helper.make_node("Identity", [operand.name], [name]))
            infos.append(self._info(name, operand))
        nodes = _without_copies(_needed(w.nodes, [i.name for i in infos]))
        read = {name for node in nodes for name in node.input}
        inputs = [self._info(w.names[v].name, w.names[v]) for v in self.inputs]
        tensors = []
        for name, array in w.initializers.items():
            if name not in read:
                continue
            bare = not export_params and name in self.weights
            if bare or keep_initializers_as_inputs:
                number = helper.np_dtype_to_tensor_dtype(array.dtype)
                inputs.append(helper.make_tensor_value_info(name, number, array.shape))
            if not bare:
                tensors.append(numpy_helper.from_array(array, name))
        return helper.make_graph(nodes, self.base.name, inputs, infos, initializer=tensors)

    def _info(self, name: str, operand: Operand) -> onnx.ValueInfoProto:
        shape = [self._label(s) if isinstance(s, SymInt) else int(s) for s in operand.shape]
        return helper.make_tensor_value_info(name, ELEMENT_TYPES[operand.dtype], shape)

    def _label(self, size: SymInt) -> str:
        def apply(op: str, x: str, y: str) -> str:
            if y[0] == "-":
                op, y = "-", y[1:]
            return f"({x} {op} {y})" if op != "*" else f"{x}*{y}"

        return evaluate(size.form, self.labels.__getitem__, str, apply).strip("()")


def _array(source: Any) -> np.ndarray:
    assert isinstance(source, Tensor)
    return source._numpy()


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _needed(nodes: list[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _without_copies(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """An output that a node computes for nothing else is named where it is computed."""
    made = {name: node for node in nodes for name in node.output}
    copies = [n for n in nodes if n.op_type == "Identity" and not n.name]
    renamed: dict[str, str] = {}
    gone = set()
    for copy in copies:
        source, output = copy.input[0], copy.output[0]
        if source in made and source not in renamed:
            renamed[source] = output
            gone.add(id(copy))
    kept = [n for n in nodes if id(n) not in gone]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        for i, name in enumerate(node.output):
            node.output[i] = renamed.get(name, name)
    return kept
