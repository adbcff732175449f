"""A program that somebody looks at between its waves: what `main` has beside calls of its kernels.

In: the builder of `main`.  Out: code that calls the runtime's ``i64 watch(i64 waves)`` with how
many waves have run. Its address stands in word WATCH of the status block. Where it gives anything
but 0, the program ends there, and does not say that it has finished.

A watched program's kernels are the very functions of the program itself.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.target import WATCH


def call_watcher(builder: ir.IRBuilder, status: ir.Value, waves: int) -> None:
    """Ask whether to go on, after so many waves."""
    word = builder.gep(status, [constant(I64, WATCH)], source_etype=I64)
    watch = builder.load(word, typ=POINTER, align=8)
    stop = builder.call(watch, [constant(I64, waves)], ir.FunctionType(I64, [I64]))
    with builder.if_then(builder.icmp_signed("!=", stop, constant(I64, 0)), likely=False):
        builder.ret(stop)
