"""Host calls as LLVM kernels: hand the addresses of the arrays to the runtime.

In: a `HostCall`, where its buffers lie, and a module.  Out: an `EmittedKernel` of one chunk.

The runtime's function is ``i64 host(i64 number, ptr addresses)``; its own address stands in word
HOST of the status block. It gives 0, or 1 where the call raised an error, which the runtime
keeps; the code in the status block is then -1 - number, and the program ends after the wave.
"""

from __future__ import annotations

from collections.abc import Mapping

from braze.codegen.llvm import ir
from braze.codegen.llvm.kernel import EmittedKernel, KernelFunction
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.loops import HostCall, Placement, Program
from braze.ir.target import HOST


def emit_host_call(
    call: HostCall, placements: Mapping[str, Placement], program: Program, module: ir.Module
) -> EmittedKernel:
    """Generate the kernel of one call.

    The addresses are those of the operands and then of the results that somebody needs.
    """
    kernel = KernelFunction(call.name, call.buffers, placements, program, module)
    builder = kernel.builder
    buffers = [a.buffer for a in (*call.operands, *call.results) if a.buffer is not None]
    addresses = builder.alloca(POINTER, size=constant(I64, max(len(buffers), 1)))
    for place, buffer in enumerate(buffers):
        slot = builder.gep(addresses, [constant(I64, place)], source_etype=POINTER)
        builder.store(kernel.pointer(buffer), slot, align=8)
    status = kernel.status()
    word = builder.gep(status, [constant(I64, HOST)], source_etype=I64)
    host = builder.load(word, typ=POINTER, align=8)
    signature = ir.FunctionType(I64, [I64, POINTER])
    arguments = [constant(I64, call.number), addresses]
    failed = builder.call(host, arguments, signature)
    with builder.if_then(builder.icmp_signed("!=", failed, constant(I64, 0)), likely=False):
        builder.store(constant(I64, -1 - call.number), status, align=8)
    builder.ret_void()
    return EmittedKernel(kernel.symbol, kernel.module, 1)
