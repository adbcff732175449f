"""Lower a contraction with its epilogue: addresses of the operands, and stores of expressions of
the sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Access, Buffer, Contraction, Expr, Ref, Store
from braze.ir.ops.contract import parse_equation
from braze.passes.access import Point, flat_index, reshape_point
from braze.passes.contraction_operands import Obstacle, OperandAddresses, operand_addresses
from braze.passes.expressions import Expressions, converted, statement_indices
from braze.passes.lower_nest import accumulation_dtype, core_of, rearranged_point


def lower_contraction(
    name: str, body: Graph, outputs: Sequence[Value], buffers: Mapping[Value, Buffer]
) -> Contraction | None:
    """The contraction of a body, with everything behind it as its epilogue; None if it has no
    points.

    Args:
        outputs: the body's outputs in the order of their stores.
        buffers: for the body's inputs and outputs.
    """
    (node,) = (n for n in body.nodes if n.op.is_contract)
    if node.result.type.numel == 0:
        return None
    return _ContractionLowering(name, body, outputs, buffers, node).run()


class _ContractionLowering:
    def __init__(
        self,
        name: str,
        body: Graph,
        outputs: Sequence[Value],
        buffers: Mapping[Value, Buffer],
        node: Node,
    ) -> None:
        self.outputs = outputs
        self.name = name
        self.body = body
        self.buffers = buffers
        self.loads = {value: buffers[value] for value in body.inputs}
        self.node = node
        self.dtype = accumulation_dtype(node.result.dtype)
        self.mismatches: list[tuple[Index, Index]] = []

    def run(self) -> Contraction:
        stops = [_in_memory(x) for x in self.node.operands]
        found = operand_addresses(self.node, stops, decided=True)
        if isinstance(found, Obstacle):
            raise AssertionError(f"internal error: operand {found.operand}: {found.reason}")
        left, right, out = parse_equation(str(self.node.attributes["equation"]))
        while True:
            self.mismatches = []
            self.point = found.splitting.point([found.letters[c] for c in out])
            stores = self._stores()
            indices = list(statement_indices([*stores]))
            indices += [index for pair in self.mismatches for index in pair]
            if not found.splitting.refine(indices):
                break
        if self.mismatches:
            got, wanted = self.mismatches[0]
            raise AssertionError(
                f"internal error: a contraction is read at {got}, made at {wanted}"
            )
        inner_letters = [c for c in left if c in right and c not in out]
        outer = self._variables(found, out)
        inner = self._variables(found, "".join(inner_letters))
        if not inner:
            inner = [LoopVar("k", 1)]
        dims = (*outer, *inner)
        accesses = self._accesses(found, dims)
        values = [*dict.fromkeys([*self.body.inputs, *self.body.outputs])]
        return Contraction(
            name=self.name,
            buffers=tuple(self.buffers[value] for value in values),
            dims=dims,
            inner=len(inner),
            lhs=accesses[0],
            rhs=accesses[1],
            stores=stores,
            dtype=self.dtype,
        )

    def _accesses(self, found: OperandAddresses, dims: tuple[LoopVar, ...]) -> list[Access]:
        """Strides along the split variables. (Splitting for the epilogue keeps addresses
        affine.)"""
        addresses = found.addresses()
        assert not isinstance(addresses, Obstacle)
        accesses: list[Access] = []
        for base, address in zip(found.stops, addresses, strict=True):
            index = address.index
            assert index.is_affine
            strides = tuple(index.coefficient(v) for v in dims)
            accesses.append(Access(self.loads[base], strides, index.constant, address.guard))
        return accesses

    def _variables(self, found: OperandAddresses, letters: str) -> list[LoopVar]:
        variables = found.splitting.current([found.letters[c] for c in letters])
        return [v for v in variables if v.extent != 1]

    def _stores(self) -> list[Store]:
        expressions = Expressions(self.loads, self._leaf)
        stores: list[Store] = []
        result = self.node.result
        for value in self.outputs:
            core, chain = core_of(value)
            if core.type.numel != result.type.numel:
                raise AssertionError(f"internal error: {core} is not aligned with {result}")
            point = reshape_point(self.point, result.shape, core.shape)
            expr = expressions.at(core, point)
            for node in reversed(chain):
                point = rearranged_point(node, point)
            stores.append(Store(self.buffers[value], flat_index(point, value.shape), expr))
        return stores

    def _leaf(self, node: Node, point: Point) -> Expr:
        if node is not self.node:
            raise AssertionError(f"internal error: {node.op.name} inside a contraction's epilogue")
        shape = node.result.shape
        got, wanted = flat_index(point, shape), flat_index(self.point, shape)
        if got != wanted:
            self.mismatches.append((got, wanted))
        return converted(Ref("acc", self.dtype), node.result.dtype)


def _in_memory(value: Value) -> Value:
    """The body's input that an operand is moved from."""
    while value.node is not None:
        value = value.node.operands[0]
    return value
