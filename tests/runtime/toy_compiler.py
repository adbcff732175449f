"""A compiler for toy graphs, so that the cache's tests depend on no pass and no code generator.

It takes graphs of `add` and `mul` over f32 tensors of one shape, scalars and constants, and of
`check_range` on 0-d i64 inputs, and writes one scalar loop.
"""

import struct
import time

import numpy as np

from braze.codegen.llvm.compile import compile_object
from braze.runtime.artifact import Artifact, FailureSite, Figures, slots_of

_INSTRUCTIONS = {"add": "fadd", "mul": "fmul"}


def toy_source(graph):
    values, loads, body, checks = {}, [], [], []
    numel = max([value.type.numel for value in graph.outputs], default=0)
    for i in range(len(graph.inputs) + len(graph.outputs) + 3):
        loads.append(f"  %q{i} = getelementptr ptr, ptr %buffers, i64 {i}")
        loads.append(f"  %p{i} = load ptr, ptr %q{i}")
    for i, value in enumerate(graph.inputs):
        if value.dtype.name == "f32":
            step = "%i" if value.shape else "0"
            body.append(f"  %a{i} = getelementptr float, ptr %p{i}, i64 {step}")
            body.append(f"  %v{i} = load float, ptr %a{i}")
            values[value] = f"%v{i}"
    status = len(graph.inputs) + len(graph.outputs) + 2
    code = 0
    for number, node in enumerate(graph.nodes):
        if node.op.name == "check_range":
            code += 1
            at = graph.inputs.index(node.operands[0])
            low, high = node.attributes["low"], node.attributes["high"]
            checks.append(f"""
  %c{code} = load i64, ptr %p{at}
  %above{code} = icmp sge i64 %c{code}, {low}
  %below{code} = icmp slt i64 %c{code}, {high}
  %fine{code} = and i1 %above{code}, %below{code}
  br i1 %fine{code}, label %next{code}, label %fail{code}
fail{code}:
  store i64 {code}, ptr %p{status}
  %w{code} = getelementptr i64, ptr %p{status}, i64 1
  store i64 %c{code}, ptr %w{code}
  ret i64 0
next{code}:""")
            continue
        if node.op.name == "constant":
            (bits,) = struct.unpack("<q", struct.pack("<d", np.float32(node.attributes["value"])))
            values[node.result] = f"0x{bits:016X}"
            continue
        left, right = (values[operand] for operand in node.operands)
        instruction = _INSTRUCTIONS[node.op.name]
        body.append(f"  %n{number} = {instruction} float {left}, {right}")
        values[node.result] = f"%n{number}"
    for i, value in enumerate(graph.outputs):
        body.append(f"  %o{i} = getelementptr float, ptr %p{len(graph.inputs) + i}, i64 %i")
        body.append(f"  store float {values[value]}, ptr %o{i}")
    lines = [
        "define i64 @toy_main(ptr %buffers, ptr %pool) {", "entry:", *loads, *checks,
        "  br label %head", "head:",
        "  %i = phi i64 [ 0, %before ], [ %j, %body ]".replace(
            "%before", f"%next{code}" if code else "%entry"),
        f"  %more = icmp slt i64 %i, {numel}", "  br i1 %more, label %body, label %end",
        "body:", *body, "  %j = add i64 %i, 1", "  br label %head", "end:", "  ret i64 0", "}",
    ]  # fmt: skip
    return "\n".join(lines)


def toy_artifact(graph, target, record=None, change=None):
    """Stands in for `braze.runtime.compiler.compile_artifact`."""
    start = time.perf_counter()
    checks = [(i, n) for i, n in enumerate(graph.nodes) if n.op.name == "check_range"]
    inputs, outputs = slots_of(graph)
    return Artifact(
        name=graph.name,
        target=target.to_text(),
        main="toy_main",
        objects=(compile_object(toy_source(graph), target),),
        inputs=inputs,
        outputs=outputs,
        arena_bytes=4096,
        scratch_bytes=0,
        failures=tuple(
            FailureSite(**n.attributes, node=i, location=n.location) for i, n in checks
        ),
        figures=Figures(len(graph.nodes), 1, 8192, 2048, (), time.perf_counter() - start),
    )
