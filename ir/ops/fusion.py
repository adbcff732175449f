"""The fusion node: a group of primitives that becomes one kernel, as the `fuse` pass makes it.

Its operands are the inputs of its `body` graph, its results the body's outputs, so its types come
from the body and not from this declaration's rule.
"""

from __future__ import annotations

from braze.ir.errors import VerifyError
from braze.ir.op import declare
from braze.ir.types import TensorType


def _types(*operands: TensorType, kind: str) -> tuple[TensorType, ...]:
    raise VerifyError("[fusion] a fusion node takes its result types from its body graph")


fusion = declare(
    "fusion",
    "fusion",
    "xs*",
    infer=_types,
    attributes={"kind": str},
    differentiable=False,
    doc="""One kernel. `kind` is what decides the loops: "pointwise", "reduce", "row" (reductions
and maps over rows that stay in cache), "columns" (rows, and sums of them), "contract" (a
contraction with its epilogue), "scatter", "sort", "random", "lattice", "host" (a call of NumPy),
"recurrence", "attention" or "copy".""",
)
