"""LLVM IR text to a relocatable object, to assembly or to optimised IR.

In: IR text and a `Target`.  Out: ELF bytes that `braze.runtime.object_loader` loads, or text.

Each call has its own LLVM context, and the long-running calls go past llvmlite's global lock, so
several threads compile at the same time.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from braze.codegen.llvm.target import create_target_machine, module_header
from braze.ir.errors import BrazeError
from braze.ir.target import Target

_CONTEXT_LINES = 4

_Entry = Callable[..., Any]


class CompileError(BrazeError, RuntimeError):
    """LLVM refused the IR; the message shows the IR around the fault."""


@dataclass(frozen=True)
class _Unlocked:
    """LLVM's long-running entry points, called without llvmlite's global lock.

    LLVM allows concurrent use of different contexts; llvmlite serialises every call all the same.
    """

    parse: _Entry
    verify: _Entry
    run_passes: _Entry
    emit: _Entry
    print_module: _Entry


@cache
def _unlocked() -> _Unlocked:
    library = ctypes.CDLL(ffi.lib._name)

    def entry(name: str) -> _Entry:
        declared = getattr(ffi.lib, name)
        function = getattr(library, name)
        function.argtypes, function.restype = declared.argtypes, declared.restype
        return function

    return _Unlocked(
        parse=entry("LLVMPY_ParseAssembly"),
        verify=entry("LLVMPY_VerifyModule"),
        run_passes=entry("LLVMPY_RunNewModulePassManager"),
        emit=entry("LLVMPY_TargetMachineEmitToMemory"),
        print_module=entry("LLVMPY_PrintModuleToString"),
    )


def compile_object(ir_text: str, target: Target, *, optimise: bool = True) -> bytes:
    """Compile a module to an ELF relocatable object (position-independent, small code model).

    `ir_text` needs neither a triple nor a data layout.  With ``optimise=False`` LLVM's passes over
    the IR are left out and code is selected quickly, for looking at what the generator wrote.
    Raises: CompileError.
    """
    with _module(ir_text, target, optimise) as (module, machine):
        return _emit(machine, module, as_object=True)


def assembly(ir_text: str, target: Target, *, optimise: bool = True) -> str:
    """The assembly text of what `compile_object` would make.  Raises: CompileError."""
    with _module(ir_text, target, optimise) as (module, machine):
        return _emit(machine, module, as_object=False).decode()


def optimised_ir(ir_text: str, target: Target) -> str:
    """The module after LLVM's IR passes, as text.  Raises: CompileError."""
    with _module(ir_text, target, True) as (module, _), ffi.OutputString() as text:
        _unlocked().print_module(module, text)
        return str(text)


@contextmanager
def _module(
    ir_text: str, target: Target, optimise: bool
) -> Iterator[tuple[llvm.ModuleRef, llvm.TargetMachine]]:
    machine = create_target_machine(target, level=2 if optimise else 0)
    with machine, llvm.create_context() as context, _parse(ir_text, target, context) as module:
        _verify(module, ir_text)
        if optimise:
            _run_pipeline(module, machine)
        yield module, machine


def _parse(ir_text: str, target: Target, context: llvm.ContextRef) -> llvm.ModuleRef:
    if "\0" in ir_text:
        raise CompileError("[compile] the IR text holds a NUL character")
    header = module_header(target)
    with ffi.OutputString() as message:
        pointer = _unlocked().parse(context, (header + ir_text).encode(), message)
        if message or not pointer:
            raise CompileError(_explain_parse_error(str(message), ir_text, len(header)))
    module = llvm.ModuleRef(pointer, context)
    if module.triple != target.triple:
        triple = module.triple
        module.close()
        raise CompileError(f"[compile] the IR is for {triple}, the target is {target.triple}")
    return module


def _verify(module: llvm.ModuleRef, ir_text: str) -> None:
    with ffi.OutputString() as message:
        if _unlocked().verify(module, message):
            raise CompileError(_explain_verifier_error(str(message), ir_text))


def _run_pipeline(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """The few passes that generated code needs before code selection.

    The generator has vectorised, unrolled and shared subexpressions itself, and code selection
    hoists what is
    invariant in loops: -O2 gives the same machine code and takes four to six times as long over it.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    with options, llvm.create_pass_builder(machine, options) as builder:
        with llvm.create_new_module_pass_manager() as manager:
            manager.add_always_inliner_pass()
            manager.add_sroa_pass()
            manager.add_instruction_combine_pass()
            manager.add_simplify_cfg_pass()
            manager.add_global_dead_code_eliminate_pass()
            _unlocked().run_passes(manager, module, builder)


def _emit(machine: llvm.TargetMachine, module: llvm.ModuleRef, *, as_object: bool) -> bytes:
    with ffi.OutputString() as message:
        buffer = _unlocked().emit(machine, module, int(as_object), message)
        if not buffer:
            raise CompileError(f"[compile] LLVM cannot emit code: {message}")
    try:
        start = ffi.lib.LLVMPY_GetBufferStart(buffer)
        return ctypes.string_at(start, ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _excerpt(ir_text: str, line: int, column: int | None = None) -> str:
    """The IR around a line (counted from 1), the line marked, with a caret under the column."""
    lines = ir_text.split("\n")
    shown = []
    for number in range(line - _CONTEXT_LINES, line + _CONTEXT_LINES + 1):
        if not 1 <= number <= len(lines):
            continue
        mark = ">" if number == line else " "
        shown.append(f"{mark}{number:5d} | {lines[number - 1]}")
        if number == line and column is not None:
            shown.append(" " * 6 + " | " + " " * (column - 1) + "^")
    return "\n".join(shown)


def _explain_parse_error(message: str, ir_text: str, header_length: int) -> str:
    found = re.search(r":(\d+):(\d+): (?:error: )?(.*)", message)
    if found is None:
        return f"[compile] LLVM cannot parse the IR: {message}"
    line, column = int(found[1]), int(found[2])
    if line == 1:
        column = max(1, column - header_length)
    return f"[compile] line {line}: {found[3]}\n{_excerpt(ir_text, line, column)}"


def _explain_verifier_error(message: str, ir_text: str) -> str:
    """The verifier quotes instructions but gives no line: look for the quote."""
    numbered: dict[str, int] = {}
    for number, line in enumerate(ir_text.split("\n"), start=1):
        numbered.setdefault(_normalise(line), number)
    for quoted in message.splitlines():
        number = numbered.get(_normalise(quoted), 0)
        if number and _normalise(quoted):
            return f"[compile] line {number}: {message.strip()}\n{_excerpt(ir_text, number)}"
    return f"[compile] the IR is not valid: {message.strip()}"


def _normalise(line: str) -> str:
    code = line.partition(";")[0].partition(", align")[0]
    return " ".join(code.split())
