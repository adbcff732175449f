"""The stand-in for `nvcc`: CUDA C in, a shared library out that the emulated driver loads.

Takes the options that PyCUDA gives to nvcc: `nvcc --cubin OPTIONS kernel.cu` writes kernel.cubin,
`nvcc --preprocess OPTIONS kernel.cu` prints the source with its includes, `nvcc --version` says
which emulator this is. Options of the host compiler (-I, -D, -U, -include, -o) are passed on; those
that only concern a GPU's code are accepted and change nothing.

What is done to the source: its `__global__` functions are found, once comments are gone and
conditions decided, and a table of them is compiled behind it. In the compiler's assembly, each
function's mentions of variables in shared memory are followed, since a kernel's shared memory is
made of what it and the functions that it calls mention.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_STATIC_SHARED = 48 * 1024  # bytes; more has to be dynamic, on every GPU

LANGUAGE = ["-std=c++17", "-DBRAZE_EMULATED", "-fPIC", "-w"]
# Contracting a * b + c would make results depend on the compiler. Faults are told by line, so calls
# must leave an address to return to, and inlined functions be known.
CODE = [
    "-O2",
    "-g",
    "-fno-var-tracking",
    "-fno-optimize-sibling-calls",
    "-ffp-contract=off",
    "-fno-exceptions",
    "-fno-asynchronous-unwind-tables",
]
CODE += ["-fno-extern-tls-init", "-ftls-model=local-dynamic", "-fno-stack-protector"]
# The driver's library defines what these make the code call.
CHECKS = ["-fsanitize=thread,alignment,bounds,signed-integer-overflow,shift-exponent"]
CHECKS += ["-fsanitize=integer-divide-by-zero,float-cast-overflow"]
CHECKS += ["--param", "tsan-instrument-func-entry-exit=0"]
# Variables that nobody set hold a pattern that is no likely value.
CHECKS += ["-ftrivial-auto-var-init=pattern"]
CHECKED_FUNCTIONS = [f"-Wl,--wrap={name}" for name in ("memcpy", "memmove", "memset")]

PRELUDES = ("emulated.h", "half.h")  # half.h includes the other
WITH_VALUE = {"-arch", "-code", "-gencode", "-Xptxas", "-Xcompiler", "--compiler-options"}
WITH_VALUE |= {"-maxrregcount"}
PASSED_ON = ("-I", "-D", "-U")


class Refused(Exception):
    """The source or the command is wrong; the text is for the user."""


def parse_command(arguments: list[str]) -> tuple[list[str], list[str], str | None]:
    """Options for the host compiler, source files, and the output's name if one is given."""
    options, sources, output = [], [], None
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            next(rest, None)
        elif argument in ("-o", "--output-file"):
            output = next(rest)
        elif argument in PASSED_ON or argument == "-include":
            options += [argument, next(rest)]
        elif argument.startswith(PASSED_ON):
            options.append(argument)
        elif not argument.startswith("-"):
            sources.append(argument)
    return options, sources, output


def architecture_of(arguments: list[str]) -> int:
    """Which GPUs the machine code is for, as 80 for sm_80; 0 where it is not said."""
    text = " ".join(arguments)
    found = re.search(r"-(?:arch|code|gencode)[= ]\S*\bsm_(\d+)", text)
    return int(found[1]) if found else 0


def run_compiler(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},  # plain quotes in messages
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def checked() -> bool:
    return os.environ.get("BRAZE_EMULATED_CHECKS", "1") != "0"


def compiler() -> list[str]:
    """The host compiler with all options that the language and the code's form depend on."""
    device = str(HERE / "device")
    headers = ["-I", device, "-isystem", os.environ["BRAZE_EMULATED_HEADERS"]]
    # The driver knows its own headers by this name when it looks for the user's line.
    headers.append(f"-ffile-prefix-map={device}=<emulator>")
    return ["g++", *LANGUAGE, *CODE, *(CHECKS if checked() else []), *headers]


def prepare() -> None:
    """Compiles the headers beforehand: the compiler finds the form that fits its options."""
    for prelude in PRELUDES:
        folder = HERE / "device" / f"{prelude}.gch"
        folder.mkdir(exist_ok=True)
        output = folder / ("checked" if checked() else "unchecked")
        header = [*compiler(), "-x", "c++-header", str(HERE / "device" / prelude)]
        run_compiler([*header, "-o", str(output)])


def without_includes(source: str, options: list[str]) -> str:
    """The source with its own conditions decided and its own macros replaced; no includes.

    So this is quick, and words like `__global__` stay, which are macros of a header.
    """
    own = re.sub(r"^[ \t]*#[ \t]*include\b.*$", "", source, flags=re.M)
    definitions = [option for option in options if not option.startswith("-I")]
    command = ["g++", *LANGUAGE, "-D__CUDACC__", "-x", "c++", "-E", "-P", *definitions, "-"]
    return run_compiler(command, own)


def kernels_of(text: str) -> dict[str, str]:
    """Names of the kernels that a text defines, with their `__launch_bounds__` or ""."""
    found = {}
    for match in re.finditer(r"__global__", text):
        head = text[match.end() : text.find("{", match.end())]
        if ";" in head or re.search(r"template\s*<[^;{}]*>\s*$", text[: match.start()]):
            continue  # a declaration, or a template, which has no name to launch by
        bounds = re.search(r"__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)", head)
        if bounds:
            head = head.replace(bounds[0], " ")
        name = re.search(r"([A-Za-z_]\w*)\s*\(", head)
        if name:
            found[name[1]] = split_arguments(bounds[1])[0] if bounds else ""
    return found


def split_arguments(text: str) -> list[str]:
    """Splits at the commas that lie in no parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "(<[") - (character in ")>]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def dynamic_arrays(text: str) -> list[str]:
    """Names of the arrays that a text declares as `extern __shared__`."""
    pattern = r"extern\s+(?:[\w:]+(?:\([^()]*\))?\s+)*?__shared__\s[^;]*?(\w+)\s*\[\s*\]\s*;"
    return sorted(set(re.findall(pattern, text)))


def program(source: str, kernels: dict[str, str], arrays: list[str], architecture: int) -> str:
    """The source with the tables behind it."""
    lines = ["", '#include "tables.h"', f"BRAZE_ARCHITECTURE({architecture});", "BRAZE_KERNELS = {"]
    for kernel, bounds in kernels.items():
        lines.append(f"    BRAZE_KERNEL({kernel}, {bounds or 'BRAZE_MOST_THREADS'}),")
    lines += ["    {nullptr, nullptr, 0, 0}};", ""]
    for array in arrays:
        lines.append(
            f'asm(".globl {array}\\n.type {array}, @object\\n.set {array}, braze_dynamic_shared");'
        )
    return source + "\n".join(lines) + "\n"


LABEL = re.compile(r"^([A-Za-z_.$][\w.$]*):", re.M)
TYPE = re.compile(r"^\s*\.type\s+([\w.$]+),\s*@(function|object)", re.M)


def functions_of(assembly: str) -> Iterator[tuple[str, str]]:
    """Each function's name and its text."""
    functions = {m[1] for m in TYPE.finditer(assembly) if m[2] == "function"}
    labels = [m for m in LABEL.finditer(assembly) if m[1] in functions]
    for label in labels:
        end = assembly.find(f"\t.size\t{label[1]},", label.end())
        yield label[1], assembly[label.end() : end if end >= 0 else len(assembly)]


TLS_SECTION = r"^\s*\.section\s+\.t(?:bss|data)[^\n]*\n(.*?)(?=^\s*\.(?:section|text|data|bss)\b)"


def shared_sizes(assembly: str) -> dict[str, int]:
    """Bytes of each variable in the thread-local block, by its name in the assembly."""
    sizes = {}
    for section in re.finditer(TLS_SECTION, assembly, re.S | re.M):
        for name, size in re.findall(r"^\s*\.size\s+([\w.$]+),\s*(\d+)", section[1], re.M):
            sizes[name] = int(size)
    sizes.pop("braze_dynamic_shared", None)
    return sizes


def shared_variables(assembly: str) -> dict[str, list[str]]:
    """For each function the variables in shared memory that it, or what it calls, mentions."""
    sizes = shared_sizes(assembly)
    bodies = dict(functions_of(assembly))
    mentions = {name: set(re.findall(r"[A-Za-z_][\w.$]*", body)) for name, body in bodies.items()}

    def reach(name: str, seen: set[str]) -> set[str]:
        seen.add(name)
        found = mentions[name] & sizes.keys()
        for other in (mentions[name] & bodies.keys()) - seen:
            found |= reach(other, seen)
        return found

    return {name: sorted(reach(name, set())) for name in bodies} if sizes else {}


def add_tables(assembly: str, kernels: dict[str, str]) -> str:
    """The assembly with the table of shared variables, by kernel."""
    sizes = shared_sizes(assembly)
    lines = ['\t.section .data.rel.ro,"aw"', "\t.balign 8", "\t.globl braze_shared_variables"]
    lines.append("braze_shared_variables:")
    for function, variables in shared_variables(assembly).items():
        name = plain_name(function)
        if name not in kernels:
            continue
        total = sum(sizes[variable] for variable in variables)
        if total > MOST_STATIC_SHARED:
            raise Refused(
                f"ptxas error   : Entry function '{function}' uses too much shared data "
                f"({total:#x} bytes, {MOST_STATIC_SHARED:#x} max)\n"
            )
        lines += [f"\t.quad {function}, {v}@dtpoff, {sizes[v]}" for v in variables]
    lines += ["\t.quad 0, 0, 0", "\t.globl braze_dynamic_offset", "braze_dynamic_offset:"]
    lines.append("\t.quad braze_dynamic_shared@dtpoff")
    return assembly + "\n".join(lines) + "\n"


def plain_name(symbol: str) -> str:
    """The function's own name: C++ has it behind its length, as in _Z3addPf."""
    mangled = re.match(r"_Z(\d+)", symbol)
    return symbol[mangled.end() :][: int(mangled[1])] if mangled else symbol


def compile_to_library(arguments: list[str]) -> None:
    options, sources, output = parse_command(arguments)
    if len(sources) != 1:
        raise Refused(f"nvcc (emulated): one source file is compiled at a time, got {sources}\n")
    source = Path(sources[0]).read_text()
    text = without_includes(source, options)
    kernels = kernels_of(text)
    target = Path(output or Path(sources[0]).with_suffix(".cubin").name)
    prelude = PRELUDES[bool(re.search(r"cuda_(fp16|bf16)\.h", source))]
    command = [*compiler(), "-include", prelude, *options, "-x", "c++", "-S", "-o", "-"]
    with tempfile.TemporaryDirectory() as folder:
        # A file of the source's own name, since messages and line numbers speak of it.
        complete = Path(folder, Path(sources[0]).name)
        complete.write_text(
            program(source, kernels, dynamic_arrays(text), architecture_of(arguments))
        )
        own_folder = ["-iquote", str(Path(sources[0]).resolve().parent)]
        assembly = run_compiler([*command, *own_folder, str(complete)])
    library = ["-L", os.environ["BRAZE_EMULATED_LIBRARY"], "-l:libcuda.so.1"]
    library += CHECKED_FUNCTIONS if checked() else []
    link = ["g++", "-shared", "-x", "assembler", "-", "-x", "none", "-o", str(target), *library]
    run_compiler(link, add_tables(assembly, kernels))


def main(arguments: list[str]) -> int:
    try:
        if "--version" in arguments:
            version = os.environ["BRAZE_EMULATED_VERSION"]
            print(f"nvcc: Braze's emulator {version}, {'checked' if checked() else 'unchecked'}")
        elif "--prepare" in arguments:
            prepare()
        elif "--preprocess" in arguments or "-E" in arguments:
            options, sources, _ = parse_command(arguments)
            command = [*compiler(), "-include", PRELUDES[0], "-x", "c++", "-E", "-P"]
            print(run_compiler([*command, *options, *sources]))
        else:
            compile_to_library(arguments)
    except Refused as refused:
        sys.stderr.write(str(refused))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
