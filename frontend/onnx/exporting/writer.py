"""Writes the nodes of an ONNX graph: names, constants, sizes that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from braze.ir.dtypes import DType
from braze.ir.graph import Node, Value
from braze.ir.symint import SymInt, evaluate, is_symbolic
from braze.onnx.exporting.sizes import Sizes
from braze.onnx.protos import ELEMENT_TYPES

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Operand:
    """A value of the graph. Sizes that are not fixed are `SymInt`s."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


class Writer:
    """Collects nodes and constants.

    Attributes:
        opset: the version to write for.
        results: of the operation whose rule runs: names (to be), dtypes and shapes.
        wanted: for each of them, whether anything reads it.
    """

    def __init__(self, opset: int, sizes: Sizes) -> None:
        self.opset = opset
        self.sizes = sizes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.names: dict[Any, Operand] = {}
        self.results: tuple[Operand, ...] = ()
        self.wanted: tuple[bool, ...] = ()
        self._taken: set[str] = set()
        self._constants: dict[tuple[Any, ...], str] = {}
        self._words: dict[int, str] = {}
        # What the rules of recurrences ask for: who made a value, who reads the current results.
        self.makers: dict[str, Node] = {}
        self.readers: dict[Value, list[Node]] = {}
        self.outputs: set[Value] = set()
        self.node_now: Node | None = None
        self.single: set[str] = set()

    # Names ----------------------------------------------------------------------------------------

    def fresh(self, wish: str) -> str:
        """A name that nothing else has."""
        name, count = wish, 0
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name

    # Nodes ----------------------------------------------------------------------------------------

    def node(self, op: str, *inputs: Operand | str, **attributes: Any) -> str:
        """A node of one result, whose name is returned."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def nodes_of(self, op: str, count: int, *inputs: Operand | str, **attributes: Any) -> list[str]:
        """A node of several results."""
        names = [x if isinstance(x, str) else x.name for x in inputs]
        while names and not names[-1]:
            names.pop()
        outputs = [self.fresh(f"{op.lower()}_out") for _ in range(count)]
        given = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op, names, outputs, name=self.fresh(op), **given))
        return outputs

    def cast(self, x: Operand | str, dtype: DType) -> str:
        return self.node("Cast", x, to=ELEMENT_TYPES[dtype])

    # Constants ------------------------------------------------------------------------------------

    def constant(self, array: Any, dtype: DType | None = None, name: str = "const") -> str:
        """An initializer; equal small ones are shared."""
        array = np.asarray(array, None if dtype is None else dtype.numpy)
        key = (array.dtype.str, array.shape, array.tobytes() if array.size < 64 else id(array))
        if key not in self._constants or array.size >= 64:
            own = self.fresh(name)
            self.initializers[own] = array
            self._constants[key] = own
        return self._constants[key]

    def ints(self, values: Sequence[int]) -> str:
        """A vector of int64, computed where sizes are not fixed."""
        if not is_symbolic(*values):
            return self.constant(np.array([int(v) for v in values], np.int64))
        parts: list[str] = []
        for value in values:
            if isinstance(value, SymInt):
                parts.append(self._computed(value))
            else:
                parts.append(self.constant(np.array([value], np.int64)))
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def _computed(self, value: SymInt) -> str:
        operations = {"+": "Add", "*": "Mul"}

        def apply(op: str, x: str, y: str) -> str:
            if op == "//":  # of sizes, which are not negative
                return self.node("Div", x, y)
            return self.node("Mod", x, y) if op == "%" else self.node(operations[op], x, y)

        return evaluate(
            value.form, self._word, lambda n: self.constant(np.array([n], np.int64)), apply
        )

    def _word(self, number: int) -> str:
        if number not in self._words:
            value, dim = self.sizes.source(number)
            source = self.names[value]
            self._words[number] = self.node("Shape", source, start=dim, end=dim + 1)
        return self._words[number]

    def scalar(self, value: int | float, dtype: DType) -> str:
        """A 0-d constant, or a computed size."""
        if isinstance(value, SymInt):
            return self.cast(self.node("Squeeze", self._computed(value)), dtype)
        return self.constant(np.array(value, dtype.numpy))

    # Movements ------------------------------------------------------------------------------------

    def reshape(self, x: Operand | str, shape: Sequence[int], old: Sequence[int] = ()) -> str:
        """To sizes of which some may be computed; those of `old` at the same place are copied."""
        new: list[int] = []
        for i, size in enumerate(shape):
            same = i < len(old) and isinstance(size, SymInt) and isinstance(old[i], SymInt)
            new.append(0 if same and size.form == old[i].form else size)  # type: ignore
        if 0 in [s for s in shape if not isinstance(s, SymInt)]:
            return self.node("Reshape", x, self.ints(shape), allowzero=1)
        if sum(isinstance(s, SymInt) for s in new) == 1:
            new = [-1 if isinstance(s, SymInt) else s for s in new]
        return self.node("Reshape", x, self.ints(new))

    def unsqueeze(self, x: Operand | str, *dims: int) -> str:
        return self.node("Unsqueeze", x, self.ints(dims)) if dims else _name(x)

    def squeeze(self, x: Operand | str, *dims: int) -> str:
        return self.node("Squeeze", x, self.ints(dims)) if dims else _name(x)

    def permute(self, x: Operand | str, dims: Sequence[int]) -> str:
        if list(dims) == list(range(len(dims))):
            return _name(x)
        return self.node("Transpose", x, perm=list(dims))

    def slice(
        self,
        x: Operand | str,
        dims: Sequence[int],
        starts: Sequence[int],
        stops: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> str:
        inputs = [self.ints(starts), self.ints(stops), self.ints(dims)]
        if steps is not None and any(s != 1 for s in steps):
            inputs.append(self.ints(steps))
        return self.node("Slice", x, *inputs)

    def reduce(self, op: str, x: Operand | str, dims: Sequence[int], keepdim: bool) -> str:
        """A reduction; in older versions most of them have the axes as an attribute."""
        if not dims:
            return self.node("Identity", x)
        if self.opset >= 18 or op == "ReduceSum":
            return self.node(op, x, self.ints(dims), keepdims=int(keepdim))
        return self.node(op, x, axes=list(dims), keepdims=int(keepdim))

    # Recurrences ----------------------------------------------------------------------------------

    def product_of(self, x: Operand) -> tuple[Operand, Operand, Operand | None] | None:
        """Inputs, weights and bias of the linear layer that made an operand; None if none did."""
        node = self.makers.get(x.name)
        if node is None or node.op.name not in ("linear", "linear_no_bias"):
            return None
        source, weight, *bias = (self.names[v] for v in node.operands)
        return source, weight, bias[0] if bias else None

    def only_last(self, result: int, reverse: bool) -> bool:
        """Whether of a result of the current operation only the last step is read."""
        assert self.node_now is not None
        value = self.node_now.results[result]
        last = 0 if reverse else value.shape[0] - 1
        return value not in self.outputs and all(
            n.op.name == "select" and n.attributes == {"dim": 0, "index": last}
            for n in self.readers[value]
        )


def _name(x: Operand | str) -> str:
    return x if isinstance(x, str) else x.name


END = _LAST
