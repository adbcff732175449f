"""Lower a kernel over rows that also sums rows up, column by column.

Its rows are cut into the parts that the sums are of. For each part the sums start at zero, then its
rows are done one after the other as in any kernel over rows (`lower_nest`), and what a row adds to
the sums is added in memory: there are a few rows of them, which stay in the cache. Parts are
independent, so they are shared out among threads.

Before:
    graph @g(%x: f32[64,1000]) -> (f32[64], f32[4,1000]) {
      %0, %1: f32[64], f32[4,1000] = fusion(%x; kind="columns") graph @sums(%0: f32[64,1000]) -> (f32[64], f32[4,1000]) {
        %1: f32[64] = sum(%0; dims=(1), keepdim=false)
        %2: f32[4,16,1000] = reshape(%0; shape=(4,16,1000))
        %3: f32[4,1000] = sum(%2; dims=(1), keepdim=false)
        return %1, %3
      }
      return %0, %1
    }
After:
    nest @sums_1(%x: f32[64000] in, %0: f32[64] out, %1: f32[4000] inout) {
      for i0 in 4 chunks 4 {
        for c_2 in 1000 vector {
          store %1[1000*i0 + c_2] = 0.0
        }
        for i1 in 16 {
          reduce r0_2 in 1000 vector {
            sum0 = sum(%x[16000*i0 + 1000*i1 + r0_2])
          }
          for r1_2 in 1000 vector {
            store %1[1000*i0 + r1_2] = add(%1[1000*i0 + r1_2], %x[16000*i0 + 1000*i1 + r1_2])
          }
          store %0[16*i0 + i1] = sum0
        }
      }
    }
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from braze.ir.graph import Graph, Node, Value
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Const, Load, Loop, Nest, Statement, Store
from braze.ir.op import op_named
from braze.passes.access import flat_index, reshape_point
from braze.passes.column_sums import column_sums, parts_of
from braze.passes.lower_nest import (
    CheckCodes,
    NestLowering,
    loops_around,
    reduction_stages,
)
from braze.passes.parallelise import chunks_for, work_of
from braze.passes.space import Space, space_of
from braze.passes.splitting import Splitting


def lower_columns(
    name: str,
    body: Graph,
    outputs: Sequence[Value],
    buffers: Mapping[Value, Buffer],
    codes: CheckCodes,
) -> Nest:
    """The loops of such a kernel; the arguments are those of `lower_nest`."""
    sums = column_sums(body)
    mine = {value: buffers[value] for value in [*body.inputs, *body.outputs]}
    mine |= {node.result: replace(buffers[node.result], access="inout") for node in sums}
    statements = _ColumnsLowering(body, outputs, mine, codes, sums).run()
    return Nest(name, tuple(mine.values()), statements)


class _ColumnsLowering(NestLowering):
    def __init__(
        self,
        body: Graph,
        outputs: Sequence[Value],
        buffers: Mapping[Value, Buffer],
        codes: CheckCodes,
        sums: list[Node],
    ) -> None:
        row = space_of(sums[0]).key[-1][0]
        space = Space((*parts_of(body), row), (False, False, True))
        stages = [[n for n in stage if n not in sums] for stage in reduction_stages(body)]
        others = [value for value in outputs if value.node not in sums]
        super().__init__(body, others, buffers, codes, space, [s for s in stages if s])
        self.sums = sums
        self.start = self.row_variables("c_")
        variables = [*self.kept, *(v for r in self.rows for v in r), *self.start]
        self.splitting = Splitting(variables)

    def _place(self, node: Node, row: list[LoopVar]) -> Index:
        """Where the sum for a part and a column is kept."""
        point = (*self.splitting.point(self.kept[:1]), *self.splitting.point(row))
        dims = (self.space.dims[0], *self.space.dims[2:])
        return flat_index(reshape_point(point, dims, node.result.shape), node.result.shape)

    def stores(self) -> tuple[list[Statement], list[Statement]]:
        """Before the others, what a row adds to the sums."""
        whole, single = super().stores()
        added: list[Statement] = []
        _, full = self.points(self.rows[-1])
        for node in self.sums:
            x, buffer = node.operands[0], self.buffers[node.result]
            value = self.expressions.at(x, reshape_point(full, self.space.dims, x.shape))
            place = self._place(node, self.rows[-1])
            total = Apply(op_named("add"), (Load(buffer, place), value), value.dtype)
            added.append(Store(buffer, place, total))
        return [*added, *whole], single

    def looped(self, statements: list[Statement]) -> list[Statement]:
        """The rows of a part after its sums' start, for all parts."""
        parts, rows = (self.splitting.current([v]) for v in self.kept)
        zeros: list[Statement] = []
        for node in self.sums:
            buffer = self.buffers[node.result]
            zeros.append(Store(buffer, self._place(node, self.start), Const(0.0, buffer.dtype)))
        start = loops_around(self.splitting.current(self.start), zeros)
        part = [*start, *loops_around(rows, statements)]
        outer, *inner = parts
        body = loops_around(inner, part)
        chunks = min(chunks_for(work_of(body, outer.extent)), outer.extent)
        return [Loop(outer, body, chunks=chunks)]
