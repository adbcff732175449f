"""The real compiler, without a GPU: NVIDIA's NVRTC from its wheel on PyPI.

    compile(source, "sm_90") -> {"kernel": Resources(registers=40, spills=0, ...), ...}

Whatever the compiler or the assembler says against the source is raised as `CompileError`, with its
log. Dynamic shared memory is decided at launch, so it is not in what a kernel takes.
"""

import ctypes
import re
from functools import cache
from typing import NamedTuple

from cuda_emulator.build import built, download_wheels, headers

NVRTC = "nvidia-cuda-nvrtc==13.0.88"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


class CompileError(RuntimeError):
    """The compiler refused the source."""


class Resources(NamedTuple):
    """What a thread or block of a kernel takes."""

    registers: int  # of 32 bits, a thread
    spills: int  # bytes of stores and loads, a thread, for want of registers
    stack: int  # bytes a thread: arrays that are indexed at run time, and spilled registers
    shared: int  # bytes a block, without the dynamic part


@cache
def library() -> ctypes.CDLL:
    folder = built("cuda-nvrtc", NVRTC, lambda to: download_wheels((NVRTC,), to))
    libraries = folder / "nvidia/cu13/lib"
    # The compiler opens this by its name alone.
    ctypes.CDLL(str(next(libraries.glob("libnvrtc-builtins.so*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(libraries / "libnvrtc.so.13"))


def text_of(program: ctypes.c_void_p, what: str) -> bytes:
    """A text, or bytes, that the compiler keeps for a program."""
    size = ctypes.c_size_t()
    getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library(), f"nvrtcGet{what}")(program, buffer)
    return buffer.raw


def cubin(source: str, architecture: str, options: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """The machine code for "sm_90" or another, and what the assembler said about it."""
    program = ctypes.c_void_p()
    library().nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    )
    given = [f"--gpu-architecture={architecture}", f"--include-path={headers()}"]
    given += ["--ptxas-options=-v", *options]
    array = (ctypes.c_char_p * len(given))(*[option.encode() for option in given])
    try:
        failed = library().nvrtcCompileProgram(program, len(given), array)
        log = text_of(program, "ProgramLog").rstrip(b"\0").decode()
        if failed:
            raise CompileError(f"for {architecture}:\n{log}")
        return text_of(program, "CUBIN"), log
    finally:
        library().nvrtcDestroyProgram(ctypes.byref(program))


ENTRY = re.compile(r"Compiling entry function '([^']+)'(.*?)(?=Compiling entry function|\Z)", re.S)


def number(pattern: str, text: str) -> int:
    found = re.search(rf"(\d+) bytes {pattern}", text)
    return int(found[1]) if found else 0


def resources_of(log: str) -> dict[str, Resources]:
    """What the assembler's log says, by kernel."""
    result = {}
    for name, text in ENTRY.findall(log):
        registers = re.search(r"Used (\d+) registers", text)
        if registers is None:
            raise ValueError(f"the assembler's log says no registers:\n{log}")
        spills = number("spill stores", text) + number("spill loads", text)
        result[name] = Resources(
            int(registers[1]), spills, number("stack frame", text), number("smem", text)
        )
    return result


def compile(source: str, architecture: str, *options: str) -> dict[str, Resources]:
    """Compiles for one architecture, and says what each kernel takes."""
    _, log = cubin(source, architecture, options)
    return resources_of(log)


def report(found: dict[str, Resources]) -> str:
    """A line for each kernel, those that spill and take most registers first."""
    lines = [f"{'kernel':<56} {'registers':>9} {'spills':>7} {'stack':>7} {'shared':>7}"]
    for name, own in sorted(found.items(), key=lambda item: (-item[1].spills, -item[1].registers)):
        numbers = f"{own.registers:>9} {own.spills:>7} {own.stack:>7} {own.shared:>7}"
        lines.append(f"{name:<56} {numbers}")
    return "\n".join(lines)
