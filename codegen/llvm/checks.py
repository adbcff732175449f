"""Run-time assertions: the first failure goes into the status block.

In: a `Check` statement and the emitter at its point.  Out: a test, and code off the main path that
stores [code, value, bound] if no other failure is there yet. The program ends after
the wave; the runtime looks at the block afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.expressions import ExpressionEmitter
from braze.codegen.llvm.types import I1, I64, POINTER, constant, intrinsic, like
from braze.ir.loops import Check, Loop, Statement


def has_check(statements: Sequence[Statement]) -> bool:
    """Is there a check among the statements, or within their loops?"""
    return any(
        isinstance(s, Check) or (isinstance(s, Loop) and has_check(s.body)) for s in statements
    )


def emit_check(emitter: ExpressionEmitter, check: Check, status: ir.Value) -> None:
    """Report failure number `check.code` unless low <= value < high in every lane that takes part.
    """
    builder = emitter.builder
    if emitter.width > 1 and not emitter.varies(check.value):
        emitter = emitter.scalar
    value = emitter.value(check.value)
    if value.type != like(value.type, I64):
        signed = check.value.dtype.is_signed
        value = (builder.sext if signed else builder.zext)(value, like(value.type, I64))
    shifted = builder.sub(value, constant(value.type, check.low))
    outside = builder.icmp_unsigned(">=", shifted, constant(value.type, check.high - check.low))
    if emitter.mask is not None:
        outside = builder.and_(outside, emitter.mask)
    failed = outside
    if emitter.width > 1:
        failed = intrinsic(builder, "vector.reduce.or", I1, [outside], [outside.type])
    with builder.if_then(failed, likely=False):
        wrong = value
        if emitter.width > 1:
            bits = builder.bitcast(outside, ir.IntType(emitter.width))
            lane = intrinsic(builder, "cttz", bits.type, [bits, constant(I1, 1)], [bits.type])
            wide = builder.zext(lane, I64) if emitter.width < 64 else lane
            wrong = builder.extract_element(value, wide)
        report = _report_function(builder.module)
        arguments = [status, constant(I64, check.code), wrong, constant(I64, check.high)]
        builder.call(report, arguments)


def _report_function(module: ir.Module) -> ir.Function:
    """void report(status, code, value, bound): the first caller of all threads wins."""
    name = "braze_report"
    found = module.globals.get(name)
    if found is not None:
        return found
    signature = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64, I64])
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    for attribute in ("nounwind", "noinline", "cold"):
        function.attributes.add(attribute)
    status, code, value, bound = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    before = builder.load_atomic(status, "monotonic", 8, typ=I64)
    free = builder.icmp_signed("==", before, constant(I64, 0))
    with builder.if_then(free):
        exchanged = builder.cmpxchg(status, constant(I64, 0), code, "seq_cst", "seq_cst")
        with builder.if_then(builder.extract_value(exchanged, 1)):
            for place, word in ((1, value), (2, bound)):
                address = builder.gep(status, [constant(I64, place)], source_etype=I64)
                builder.store(word, address, align=8)
    builder.ret_void()
    return function
