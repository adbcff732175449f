"""A whole program: its kernels, one function a wave, and `main`.

In: a `Program` of the loop IR and a target.  Out: LLVM modules that can be compiled at the same
time, of which one calls the others.

    i64 main(ptr buffers, ptr pool)                     the status code: 0, or 1 + the number of the
    failed check void wave(ptr buffers, i64 chunk, i64 thread)       runs one chunk of one of the
    wave's kernels

A wave with a single chunk is called directly. Any other goes to the function whose address is the
    pool's first
word: ``parallel(pool, wave, buffers, chunks)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from braze.codegen.llvm.host_calls import emit_host_call
from braze.codegen.llvm.kernel import (
    KERNEL_TYPE,
    CodegenError,
    EmittedKernel,
    IndirectCall,
    module_text,
    new_module,
)
from braze.codegen.llvm.nests import emit_nest
from braze.codegen.llvm.recurrences import MAIN_TYPE, emit_steps
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.loops import (
    Check,
    Contraction,
    HostCall,
    Kernel,
    Loop,
    Nest,
    Program,
    Sort,
    Statement,
)
from braze.ir.loops_recurrence import Recurrence
from braze.ir.target import FINISHED, Target


@dataclass(frozen=True, slots=True)
class Generated:
    """LLVM IR for a program.

    Attributes:
        modules: (name, text) of each; compile them in any order, link them by their symbols.
        main: the symbol of the program's function.
        scratch_bytes: workspace of each thread, a multiple of 4096; thread t's begins at t times
            this.
        pointers: length of the `buffers` array: inputs, outputs, arena, scratch, status.
    """

    modules: list[tuple[str, str]]
    main: str
    scratch_bytes: int
    pointers: int


def generate(program: Program, target: Target) -> Generated:
    """Generate code for every kernel and for the program's `main`.

    Raises:
        CodegenError: the program breaks a rule of the loop IR.
    """
    stride = _scratch_stride(program, target)
    name = "braze_program_" + re.sub(r"\W", "_", program.name, flags=re.ASCII)
    modules: dict[str, str] = {}
    _add_modules(modules, name, program, target, stride)
    return Generated(
        modules=list(modules.items()),
        main=name,
        scratch_bytes=stride,
        pointers=program.inputs + program.outputs + 3,
    )


def _add_modules(
    modules: dict[str, str],
    name: str,
    program: Program,
    target: Target,
    stride: int,
    *,
    is_step: bool = False,
) -> None:
    """Add a program's kernels and its `main`, `name`, after the programs of its recurrences.

    Equal steps have one program, so it is there once. Nothing runs beside it, so its threads' work-
    spaces are as far apart as it likes, and its code does not depend on the rest.
    """
    waves: list[list[EmittedKernel]] = [[] for _ in program.waves]
    for wave, emitted_wave in zip(program.waves, waves, strict=True):
        for kernel in wave:
            if isinstance(kernel, Recurrence):
                step = _step_symbol(kernel)
                if step not in modules:
                    own = _scratch_stride(kernel.program, target)
                    _add_modules(modules, step, kernel.program, target, own, is_step=True)
                continue
            emitted = emit_kernel(kernel, program, target, stride)
            if emitted.symbol in modules:
                symbol = emitted.symbol
                raise CodegenError(f"[{program.name}] two kernels share the symbol {symbol}")
            modules[emitted.symbol] = emitted.ir_text
            emitted_wave.append(emitted)
    modules[name] = _main_module(name, program, waves, target, is_step=is_step)


def _step_symbol(kernel: Recurrence) -> str:
    """The symbol of the program of a recurrence."""
    return "braze_" + re.sub(r"\W", "_", kernel.program.name, flags=re.ASCII)


def _scratch_stride(program: Program, target: Target) -> int:
    """The most workspace that a kernel needs: threads' workspaces are this far apart in all of
    them, since kernels of one wave run side by side."""
    most = 0
    for kernel in program.kernels():
        if isinstance(kernel, Contraction):
            from braze.codegen.llvm.contractions import scratch_bytes

            most = max(most, scratch_bytes(kernel, target))
        elif isinstance(kernel, Sort):
            from braze.codegen.llvm.sort_plan import sort_plan

            most = max(most, sort_plan(kernel, target).scratch_bytes)
        elif isinstance(kernel, Recurrence):
            most = max(most, _scratch_stride(kernel.program, target))
    return most


def emit_kernel(
    kernel: Kernel, program: Program, target: Target, scratch_stride: int | None = None
) -> EmittedKernel:
    """Generate one kernel's module.

    Args:
        scratch_stride: bytes between the workspaces of two threads, the same for all kernels of the
            program. None: found out again.
    """
    stride = _scratch_stride(program, target) if scratch_stride is None else scratch_stride
    if isinstance(kernel, Contraction):
        from braze.codegen.llvm.contractions import emit_contraction

        return emit_contraction(kernel, program.placements, program, target, stride)
    if isinstance(kernel, Sort):
        from braze.codegen.llvm.sorts import emit_sort

        return emit_sort(kernel, program.placements, program, target, stride)
    if isinstance(kernel, HostCall):
        return emit_host_call(kernel, program.placements, program, target)
    assert not isinstance(kernel, Recurrence), "a recurrence is a loop in `main`"
    return emit_nest(kernel, program.placements, program, target)


def _main_module(
    name: str,
    program: Program,
    waves: Sequence[Sequence[EmittedKernel]],
    target: Target,
    *,
    is_step: bool,
) -> str:
    """The function that runs the waves. Steps of a recurrence cannot fail and tell nobody that they
    are done."""
    module = new_module(name, target)
    main = ir.Function(module, MAIN_TYPE, name)
    main.attributes.add("nounwind")
    buffers, pool = main.args
    builder = ir.IRBuilder(main.append_basic_block("entry"))
    slot = constant(I64, program.inputs + program.outputs + 2)
    place = builder.gep(buffers, [slot], source_etype=POINTER)
    status = builder.load(place, typ=POINTER, align=8)
    for number, wave in enumerate(waves):
        for kernel in program.waves[number]:
            if isinstance(kernel, Recurrence):
                _call_steps(builder, kernel, program)
        functions = [ir.Function(module, KERNEL_TYPE, kernel.symbol) for kernel in wave]
        chunks = sum(kernel.chunks for kernel in wave)
        if chunks == 0:
            continue
        if chunks == 1:
            zero = constant(I64, 0)
            builder.call(functions[0], [buffers, zero, zero])
        else:
            _call_region(builder, pool, buffers, chunks, wave, functions, f"{name}_wave{number}")
        if any(_may_fail(kernel) for kernel in program.waves[number]):
            code = builder.load(status, typ=I64, align=8)
            with builder.if_then(builder.icmp_signed("!=", code, constant(I64, 0)), likely=False):
                builder.ret(code)
    if is_step:
        builder.ret(constant(I64, 0))
        return module_text(module)
    code = builder.load(status, typ=I64, align=8)
    with builder.if_then(builder.icmp_signed("==", code, constant(I64, 0))):
        mark = builder.gep(status, [constant(I64, FINISHED)], source_etype=I64)
        builder.store(constant(I64, 1), mark, align=8)
    builder.ret(code)
    return module_text(module)


def _call_steps(builder: ir.IRBuilder, kernel: Recurrence, program: Program) -> None:
    symbol, module = _step_symbol(kernel), builder.module
    step = module.globals.get(symbol) or ir.Function(module, MAIN_TYPE, symbol)
    emit_steps(builder, kernel, step, program)


def _call_region(
    builder: ir.IRBuilder,
    pool: ir.Value,
    buffers: ir.Value,
    chunks: int,
    wave: Sequence[EmittedKernel],
    functions: Sequence[ir.Function],
    name: str,
) -> None:
    """Hand a wave of several chunks to the pool."""
    region = functions[0]
    if len(wave) > 1:
        region = _wave_function(builder.module, name, wave, functions)
    signature = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, I64])
    parallel = builder.load(pool, typ=POINTER, align=8)
    arguments = [pool, region, buffers, constant(I64, chunks)]
    builder._insert(IndirectCall(builder.block, signature, parallel, arguments))


def _may_fail(kernel: Kernel) -> bool:
    """Does the kernel hold a run-time check or a host call? What comes after a failed one is not
    run."""

    def within(statements: Sequence[Statement]) -> bool:
        return any(
            isinstance(s, Check) or (isinstance(s, Loop) and within(s.body)) for s in statements
        )

    return isinstance(kernel, HostCall) or (isinstance(kernel, Nest) and within(kernel.body))


def _wave_function(
    module: ir.Module,
    name: str,
    wave: Sequence[EmittedKernel],
    functions: Sequence[ir.Function],
) -> ir.Function:
    """Chunk numbers count through the kernels; a binary search finds the one that a chunk belongs
    to.
    """
    function = ir.Function(module, KERNEL_TYPE, name)
    function.linkage = "internal"
    buffers, chunk, thread = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    starts = [0]
    for kernel in wave:
        starts.append(starts[-1] + kernel.chunks)

    def search(first: int, last: int) -> None:
        if last - first == 1:
            own = builder.sub(chunk, constant(I64, starts[first]))
            builder.call(functions[first], [buffers, own, thread])
            builder.ret_void()
            return
        middle = (first + last) // 2
        below = builder.append_basic_block()
        above = builder.append_basic_block()
        builder.cbranch(
            builder.icmp_signed("<", chunk, constant(I64, starts[middle])), below, above
        )
        builder.position_at_end(below)
        search(first, middle)
        builder.position_at_end(above)
        search(middle, last)

    search(0, len(wave))
    return function
