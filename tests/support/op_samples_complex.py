"""Samplers of making and taking apart complex numbers, and of the operations on pairs of parts.

Each `<name>_pairs` runs `<name>` on operands whose last dimension holds the two parts, so its
samples are those of `<name>`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from op_samples import Draw, Sample, accepted, sampler

import braze.ir as ir
from braze.ir.ops.host_rules import as_pairs

TWINS = {
    f"{op.name}_pairs": op
    for op in ir.all_ops()
    if op.is_host and f"{op.name}_pairs" in {other.name for other in ir.all_ops()}
}


@sampler("view_as_complex")
def _view_as_complex(draw: Draw) -> Iterator[Sample]:
    for shape in ((3, 2), (2,), (0, 2), (2, 1, 2), (2, 2, 2), (37, 2)):
        yield Sample([draw(*shape)])


@sampler("checked")
def _checked(draw: Draw) -> Iterator[Sample]:
    for shape in ((2, 3), (), (0, 2), (37,)):
        yield Sample([draw(*shape), np.asarray(True)], {"message": "a test"})


@sampler(*TWINS)
def _pairs(draw: Draw) -> Iterator[Sample]:
    op = TWINS[draw.op.name]
    narrow = draw.dtype is not ir.f64
    for dtype in (ir.f32, ir.c64) if narrow else (ir.f64, ir.c128):
        for sample in accepted(op, dtype) or ():
            arrays = [np.asarray(a) for a in sample.operands]
            results = op.result_types(sample.types, sample.attributes)
            pairs = tuple(i for i, a in enumerate(arrays) if np.iscomplexobj(a))
            if not pairs and not any(t.dtype.is_complex for t in results):
                continue
            arrays = [as_pairs(a) if i in pairs else a for i, a in enumerate(arrays)]
            own = dtype.to_real().numpy
            operands = [a.astype(draw.dtype.numpy) if a.dtype == own else a for a in arrays]
            yield Sample(operands, {**sample.attributes, "pairs": pairs}, gradients=False)
