"""A whole program: its kernels, one function a wave, and `main`.

In: a `Program` of the loop IR and a target.  Out: LLVM modules that can be compiled at the same
time, of which one calls the others. Small kernels share a module.

    i64 main(ptr buffers, ptr pool)                     the status code: 0, or 1 + the number of the
    failed check void wave(ptr buffers, i64 chunk, i64 thread)       runs one chunk of one of the
    wave's kernels

A wave with a single chunk is called directly. Any other goes to the function whose address is the
    pool's first
word: ``parallel(pool, wave, buffers, chunks)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.checks import has_check
from braze.codegen.llvm.host_calls import emit_host_call
from braze.codegen.llvm.kernel import (
    KERNEL_TYPE,
    CodegenError,
    EmittedKernel,
    symbol_of,
)
from braze.codegen.llvm.nests import emit_nest
from braze.codegen.llvm.places import Places, PlaceTable, Row
from braze.codegen.llvm.recurrences import MAIN_TYPE, emit_steps
from braze.codegen.llvm.shared_kernels import Shared, shared_kernels
from braze.codegen.llvm.stopwatch import Stopwatch
from braze.codegen.llvm.symbolic import enter_function, symbolic_scope
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.codegen.llvm.watching import call_watcher
from braze.codegen.llvm.winograd_maps import MODULE as MAPS_MODULE
from braze.codegen.llvm.winograd_maps import maps_in, maps_module
from braze.ir.loops import Contraction, HostCall, Kernel, Nest, Program, Sort
from braze.ir.loops_attention import Attention
from braze.ir.loops_recurrence import Recurrence
from braze.ir.symint import is_symbolic
from braze.ir.target import FINISHED, Target

Made = Callable[[str, str], None]
Timing = tuple[Stopwatch, list[str]]

# Instructions from which a module is full. LLVM takes two milliseconds for an empty one, and as
# long for 60 instructions; but modules are compiled side by side.
_MODULE_LINES = 600


@dataclass(frozen=True, slots=True)
class Generated:
    """LLVM IR for a program.

    Attributes:
        modules: (name, text) of each; compile them in any order, link them by their symbols.
        main: the symbol of the program's function.
        scratch_bytes: workspace of each thread, a multiple of 4096; thread t's begins at t times
            this.
        pointers: length of the `buffers` array: inputs, outputs, arena, scratch, status, words.
        symbols: of each kernel the function that runs it, or a recurrence's program; kernels that
            do the same share one.
        slots: of a timed program, the kernel that each slot of times is of.
    """

    modules: list[tuple[str, str]]
    main: str
    scratch_bytes: int
    pointers: int
    symbols: dict[str, str]
    slots: list[str]


@dataclass(frozen=True, slots=True)
class Called:
    """A kernel's function, and how it is called if it is not the kernel's own."""

    kernel: EmittedKernel
    shared: Shared | None


def generate(
    program: Program,
    target: Target,
    made: Made | None = None,
    *,
    timed: bool = False,
    watched: bool = False,
) -> Generated:
    """Generate code for every kernel and for the program's `main`.

    Args:
        made: called with each module's name and text as soon as it is there.
        timed: have the program write when each chunk of each kernel ran (`stopwatch`).
        watched: have it call a function before the first wave and after each (`watching`).

    Raises:
        CodegenError: the program breaks a rule of the loop IR.
    """
    name = "braze_program_" + re.sub(r"\W", "_", program.name, flags=re.ASCII)
    modules = _Modules(made)
    watch = Stopwatch() if timed else None
    stride = _add_modules(modules, name, program, target, watch, watched=watched)
    return Generated(
        modules=list(modules.texts.items()),
        main=name,
        scratch_bytes=stride,
        pointers=program.inputs + program.outputs + 3 + program.words,
        symbols=modules.symbols,
        slots=[] if watch is None else watch.slots,
    )


class _Modules:
    """The modules so far, in the order of their making, each with the name of a function in it."""

    def __init__(self, made: Made | None) -> None:
        self.texts: dict[str, str] = {}
        self.symbols: dict[str, str] = {}
        self._symbols: set[str] = set()
        self._maps: set[str] = set()
        self._made = made

    def claim(self, symbol: str, program: Program) -> None:
        """Take a name for a kernel.  Raises: CodegenError if another one has it."""
        if symbol in self._symbols:
            raise CodegenError(f"[{program.name}] two kernels share the symbol {symbol}")
        self._symbols.add(symbol)

    def add(self, name: str, module: ir.Module) -> None:
        """Add a module of a program."""
        self._maps.update(maps_in(module))
        self._add(name, module)

    def add_last(self, name: str, module: ir.Module) -> None:
        """Add the last one, behind what they all share."""
        self._maps.update(maps_in(module))
        if self._maps:
            self._add(MAPS_MODULE, maps_module(self._maps))
        self._add(name, module)

    def _add(self, name: str, module: ir.Module) -> None:
        self.texts[name] = text = str(module)
        if self._made is not None:
            self._made(name, text)


def _add_modules(
    modules: _Modules,
    name: str,
    program: Program,
    target: Target,
    watch: Stopwatch | None = None,
    *,
    is_step: bool = False,
    watched: bool = False,
) -> int:
    """Add a program's kernels and its `main`, `name`, after the programs of its recurrences.

    Equal steps have one program, so it is there once. Nothing runs beside it, so its threads' work-
    spaces are as far apart as it likes, and its code does not depend on the rest.

    Returns: how far apart they are.
    """
    for kernel in program.kernels():
        if isinstance(kernel, Recurrence) and _step_symbol(kernel) not in modules.texts:
            _add_modules(modules, _step_symbol(kernel), kernel.program, target, is_step=True)
        if isinstance(kernel, Recurrence):
            modules.symbols[kernel.name] = _step_symbol(kernel)
    # Shared kernels are functions without the words.
    shared = {} if program.words else shared_kernels(program)
    functions: dict[Kernel, EmittedKernel] = {}
    module = ir.Module(is_part=True)

    def add(kernels: Iterable[Kernel], stride: int) -> None:
        nonlocal module
        for kernel in kernels:
            common = shared.get(kernel)
            source = kernel if common is None else common.kernel
            if source not in functions:
                within = program if common is None else common.program
                modules.claim(symbol_of(source.name), program)
                functions[source] = emit_kernel(source, within, target, stride, module)
                if module.lines >= _MODULE_LINES:
                    modules.add(functions[source].symbol, module)
                    module = ir.Module(is_part=True)
            functions[kernel] = functions[source]
            modules.symbols[kernel.name] = functions[source].symbol

    # It takes a while to find out how all contractions are computed. LLVM has the nests by then.
    add((k for k in program.kernels() if isinstance(k, Nest)), 0)
    stride = _scratch_stride(program, target, shared)
    add((k for k in program.kernels() if not isinstance(k, (Nest, Recurrence))), stride)
    waves = [
        [Called(functions[k], shared.get(k)) for k in wave if not isinstance(k, Recurrence)]
        for wave in program.waves
    ]
    with symbolic_scope():
        _write_main(module, name, program, waves, watch, is_step=is_step, watched=watched)
    if is_step:
        modules.add(name, module)
    else:
        modules.add_last(name, module)
    return stride


def _step_symbol(kernel: Recurrence) -> str:
    """The symbol of the program of a recurrence."""
    return "braze_" + re.sub(r"\W", "_", kernel.program.name, flags=re.ASCII)


def _scratch_stride(program: Program, target: Target, shared: Mapping[Kernel, Shared]) -> int:
    """The most workspace that a kernel needs: threads' workspaces are this far apart in all of
    them, since kernels of one wave run side by side."""
    most = 0
    different = dict.fromkeys(shared[k].kernel if k in shared else k for k in program.kernels())
    for kernel in different:
        if isinstance(kernel, Contraction):
            from braze.codegen.llvm.contractions import scratch_bytes

            most = _at_least(most, scratch_bytes(kernel, target))
        elif isinstance(kernel, Sort):
            from braze.codegen.llvm.sort_plan import sort_plan

            most = _at_least(most, sort_plan(kernel, target).scratch_bytes)
        elif isinstance(kernel, Attention):
            from braze.codegen.llvm.attention_plan import attention_plan

            most = _at_least(most, attention_plan(kernel, target).scratch_bytes)
        elif isinstance(kernel, Recurrence):
            inner = {} if kernel.program.words else shared_kernels(kernel.program)
            most = _at_least(most, _scratch_stride(kernel.program, target, inner))
    return most


def _at_least(most: int, bytes: int) -> int:
    """The larger one; of symbolic numbers, which may be either, their sum."""
    return most + bytes if is_symbolic(most, bytes) else max(most, bytes)


def emit_kernel(
    kernel: Kernel,
    program: Program,
    target: Target,
    scratch_stride: int | None = None,
    module: ir.Module | None = None,
) -> EmittedKernel:
    """Generate one kernel.

    Args:
        scratch_stride: bytes between the workspaces of two threads, the same for all kernels of the
            program. None: found out again.
        module: to write into. None: one of its own.
    """
    module = module or ir.Module()
    stride = scratch_stride
    if stride is None:
        stride = _scratch_stride(program, target, {})
    with symbolic_scope():
        return _emitted(kernel, program, target, stride, module)


def _emitted(
    kernel: Kernel, program: Program, target: Target, stride: int, module: ir.Module
) -> EmittedKernel:
    if isinstance(kernel, Contraction):
        from braze.codegen.llvm.contractions import emit_contraction

        return emit_contraction(kernel, program.placements, program, target, stride, module)
    if isinstance(kernel, Sort):
        from braze.codegen.llvm.sorts import emit_sort

        return emit_sort(kernel, program.placements, program, target, stride, module)
    if isinstance(kernel, Attention):
        from braze.codegen.llvm.attention import emit_attention

        return emit_attention(kernel, program.placements, program, target, stride, module)
    if isinstance(kernel, HostCall):
        return emit_host_call(kernel, program.placements, program, module)
    assert not isinstance(kernel, Recurrence), "a recurrence is a loop in `main`"
    return emit_nest(kernel, program.placements, program, target, module)


def _write_main(
    module: ir.Module,
    name: str,
    program: Program,
    waves: Sequence[Sequence[Called]],
    watch: Stopwatch | None,
    *,
    is_step: bool,
    watched: bool,
) -> None:
    """The function that runs the waves. Steps of a recurrence cannot fail and tell nobody that they
    are done; they are timed together."""
    main = ir.Function(module, MAIN_TYPE, name)
    main.attributes.add("nounwind")
    buffers, pool = main.args
    builder = ir.IRBuilder(main.append_basic_block("entry"))
    slot = constant(I64, program.inputs + program.outputs + 2)
    place = builder.gep(buffers, [slot], source_etype=POINTER)
    status = builder.load(place, typ=POINTER, align=8)
    places = Places(builder, program)
    if program.words:
        enter_function(builder, places.word, program.sizes)
    size = max((_table_size(wave) for wave in waves), default=0)
    table = places.array(size, "table") if size else None
    rows = PlaceTable(module, name)
    if watch is not None:
        watch.enter(builder, status)
    if watched:
        call_watcher(builder, status, 0)
    for number, wave in enumerate(waves):
        for kernel in program.waves[number]:
            if isinstance(kernel, Recurrence):
                start = None if watch is None else watch.now(builder)
                _call_steps(builder, kernel, program)
                if watch is not None and start is not None:
                    watch.note_here(builder, kernel.name, start)
        if wave:
            names = [k.name for k in program.waves[number] if not isinstance(k, Recurrence)]
            timing = None if watch is None else (watch, names)
            _call_wave(places, rows, wave, table, pool, f"{name}_wave{number}", timing)
        if watched:
            call_watcher(builder, status, number + 1)
        if any(_may_fail(kernel) for kernel in program.waves[number]):
            code = builder.load(status, typ=I64, align=8)
            with builder.if_then(builder.icmp_signed("!=", code, constant(I64, 0)), likely=False):
                builder.ret(code)
    rows.finish()
    if is_step:
        builder.ret(constant(I64, 0))
        return
    code = builder.load(status, typ=I64, align=8)
    with builder.if_then(builder.icmp_signed("==", code, constant(I64, 0))):
        mark = builder.gep(status, [constant(I64, FINISHED)], source_etype=I64)
        builder.store(constant(I64, 1), mark, align=8)
    builder.ret(code)


def _call_steps(builder: ir.IRBuilder, kernel: Recurrence, program: Program) -> None:
    symbol, module = _step_symbol(kernel), builder.module
    step = module.globals.get(symbol) or ir.Function(module, MAIN_TYPE, symbol)
    emit_steps(builder, kernel, step, program)


def _table_size(wave: Sequence[Called]) -> int:
    """How many pointers are written for a wave: an array for each call of what is shared, and,
    if there are other kernels, a list of the arrays."""
    own = sum(called.shared.pointers for called in wave if called.shared is not None)
    return own + len(wave) if own and len(wave) > 1 else own


def _call_wave(
    places: Places,
    rows: PlaceTable,
    wave: Sequence[Called],
    table: ir.Value | None,
    pool: ir.Value,
    name: str,
    timing: Timing | None,
) -> None:
    """Run a wave's kernels: one chunk here, more on the pool.

    Args:
        timing: a stopwatch and the kernels' names.
    """
    builder = places.builder
    buffers = builder.function.args[0]
    chunks = sum(called.kernel.chunks for called in wave)
    if chunks == 0:
        return
    arrays = _write_table(places, rows, wave, table)
    region = _function(builder.module, wave[0].kernel.symbol)
    listed = arrays is not None and len(wave) > 1
    if len(wave) > 1 or timing is not None:
        region = _wave_function(builder.module, name, wave, timing, listed=listed)
    given = buffers if arrays is None else arrays
    if timing is not None:
        given = timing[0].hand_over(builder, given)
    if chunks == 1 and len(wave) == 1:
        builder.call(region, [given, constant(I64, 0), constant(I64, 0)])
        return
    signature = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, I64])
    parallel = builder.load(pool, typ=POINTER, align=8)
    arguments = [pool, region, given, constant(I64, chunks)]
    builder.call(parallel, arguments, signature)


def _write_table(
    places: Places, rows: PlaceTable, wave: Sequence[Called], table: ir.Value | None
) -> ir.Value | None:
    """The array of a single call of what is shared, or the list of the arrays of several kernels;
    None if nothing in the wave is shared."""
    if table is None or not _table_size(wave):
        return None
    builder = places.builder
    start = len(wave) if len(wave) > 1 else 0
    pointers: list[Row] = []
    for number, called in enumerate(wave):
        array = builder.function.args[0]
        if called.shared is not None:
            at = constant(I64, start + len(pointers))
            array = builder.gep(table, [at], source_etype=POINTER)
            pointers += [places.row(buffer, first) for buffer, first in called.shared.places]
            pointers += places.rest()
        if len(wave) > 1:
            places.put(table, number, array)
    first = builder.gep(table, [constant(I64, start)], source_etype=POINTER)
    rows.fill(builder, first, pointers)
    return table


def _function(module: ir.Module, symbol: str) -> ir.Function:
    return module.globals.get(symbol) or ir.Function(module, KERNEL_TYPE, symbol)


def _may_fail(kernel: Kernel) -> bool:
    """Does the kernel hold a run-time check or a host call? What comes after a failed one is not
    run."""
    return isinstance(kernel, HostCall) or (isinstance(kernel, Nest) and has_check(kernel.body))


def _wave_function(
    module: ir.Module,
    name: str,
    wave: Sequence[Called],
    timing: Timing | None,
    *,
    listed: bool,
) -> ir.Function:
    """Chunk numbers count through the kernels; a binary search finds the one that a chunk belongs
    to.

    Args:
        listed: the pointer is to the list of the kernels' arrays, not to the array of them all.
    """
    function = ir.Function(module, KERNEL_TYPE, name)
    function.linkage = "internal"
    buffers, chunk, thread = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    times, slots = None, [0] * len(wave)
    if timing is not None:
        times, buffers = timing[0].take_over(builder, buffers)
        counts = zip(timing[1], wave, strict=True)
        slots = [timing[0].claim(kernel, called.kernel.chunks) for kernel, called in counts]
    starts = [0]
    for called in wave:
        starts.append(starts[-1] + called.kernel.chunks)

    def search(first: int, last: int) -> None:
        if last - first == 1:
            given = buffers
            if listed:
                place = builder.gep(buffers, [constant(I64, first)], source_etype=POINTER)
                given = builder.load(place, typ=POINTER, align=8)
            own = builder.sub(chunk, constant(I64, starts[first]))
            start = None if timing is None else timing[0].now(builder)
            builder.call(_function(module, wave[first].kernel.symbol), [given, own, thread])
            if timing is not None and start is not None and times is not None:
                slot = builder.add(own, constant(I64, slots[first]))
                timing[0].note(builder, times, slot, start, thread)
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
