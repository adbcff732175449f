"""The program that docs/tour.md follows through the compiler, and every block of that page.

`python tests/support/tour.py --bless` writes the blocks into the page; without the option it prints
them. The page marks a block's place, and what stands between the marks is generated:

    <!-- block: name -->
    <!-- end -->

Everything is made for one fixed target, and nothing depends on the machine, so the page changes
only when the compiler does.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.program import emit_kernel
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.graph import Graph
from braze.ir.loops import Contraction, Kernel, Nest, Program
from braze.ir.target import can_run, named_target
from braze.passes import PIPELINE, Report, compile_graph, layout, split_reductions
from braze.runtime.cpu import host_target

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tour.md"
TARGET = named_target("x86-64-v3")
FILE = "step.py"
WIDTH = 112

STEP = """\
import braze
import braze.nn.functional as F
from braze import nn

braze.manual_seed(0)
x, y = braze.randn(8, 16), braze.randint(10, (8,))
first, second = nn.Linear(16, 32), nn.Linear(32, 10)
optimizer = braze.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

for _ in range(3):
    optimizer.zero_grad()
    hidden = F.relu(first(x))
    scores = second(hidden)
    loss = F.cross_entropy(scores, y)
    loss.backward()
    optimizer.step()
print(braze.explain())
"""
RECOMPILE = """\
import braze

for rows in (8, 8, 8, 5, 5):
    data = braze.ones(16, 4)
    part = data[:rows].softmax(dim=1)
    part.sum().item()
print(braze.explain(limit=1))
"""
LOSS_LINE = STEP.splitlines().index("    loss = F.cross_entropy(scores, y)") + 1

# Not compared: another LLVM may choose other instructions for the same code.
VARYING = {"assembly"}
# Made by running the program, which needs a machine that can run code for the target.
NATIVE = {"explain", "recompile"}

Stages = dict[str, Any]


def has_native_blocks() -> bool:
    """Whether this machine can make the blocks of `NATIVE`."""
    return can_run(TARGET, host_target()) is None


def capture_step() -> tuple[Graph, str]:
    """Run the program. Gives the graph of an iteration, as it was captured, and what is printed."""
    from braze import engine

    graphs: list[Graph] = []
    prepare = engine.prepare

    def watch(graph: Graph, **options: Any) -> Any:
        graphs.append(graph)
        return prepare(graph, **options)

    engine.prepare = watch
    try:
        printed = run(STEP, FILE)
    finally:
        engine.prepare = prepare
    return graphs[-1], printed


def run(program: str, file: str) -> str:
    """What a program prints, which begins with an empty log of compiles."""
    from braze.runtime.recompiles import log

    log.clear()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, file, "exec"), {"__name__": file.removesuffix(".py")})
    return printed.getvalue()


def blocks() -> dict[str, str]:
    """Every block of the page by name, as Markdown."""
    graph, printed = capture_step()
    made: Stages = {}
    program, report = compile_graph(graph, TARGET, made.__setitem__)
    kernel = bias_kernel(program)
    source = emit_kernel(kernel, program, TARGET).ir_text
    return {
        "program": fenced(STEP, "python"),
        "captured": fenced(tidy(str(graph))),
        "passes": pass_table(graph, made),
        "loss-captured": fenced(lines_of(graph, LOSS_LINE)),
        "loss-decomposed": fenced(lines_of(made["decompose"], LOSS_LINE)),
        "layout": fenced(before_and_after(layout)),
        "split-reductions": fenced(before_and_after(split_reductions)),
        "fused": fenced("\n".join(fusions(made["fuse"]))),
        "refusals": fenced("\n".join(text for text in report.refusals if " after " in text)),
        "waves": wave_list(program),
        "memory": fenced(memory_chart(program, report)),
        "loops": fenced("\n".join(tidy(str(k)) for k in kernels_to_show(program))),
        "schedules": fenced(tidy(schedules(program))),
        "llvm": fenced(tidy_llvm(source), "llvm"),
        "assembly": fenced(inner_loop(assembly(source, TARGET)), "asm"),
        "explain": fenced(without_times(printed)),
        "recompile-program": fenced(RECOMPILE, "python"),
        "recompile": fenced(without_times(run(RECOMPILE, "rows.py"))),
    }


# What is taken from each stage --------------------------------------------------------------------


def pass_table(graph: Graph, made: Stages) -> str:
    """For each pass, the size of the graph after it, and how the numbers of operations changed."""
    lines = ["| pass | why it is there | operations after it | what it changed here |"]
    lines += ["|---|---|---|---|", f"| | captured | {len(graph.nodes)} | |"]
    before = Counter(node.op.name for node in graph.nodes)
    for entry in PIPELINE:
        after: Graph = made[entry.name]
        ops = Counter(node.op.name for node in after.nodes)
        if "fusion" in ops:
            kinds = Counter(node.attributes["kind"] for node in after.nodes)
            change = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            change = f"kernels: {change}" if "fusion" not in before else "only the order"
        else:
            change = counted_changes(before, ops)
        lines.append(f"| `{entry.name}` | {entry.why} | {len(after.nodes)} | {change} |")
        before = ops
    return "\n".join(lines)


def counted_changes(before: Counter[str], after: Counter[str]) -> str:
    """The differences of two counts in words."""
    signed = [(name, after[name] - before[name]) for name in sorted(before | after)]
    texts = [f"{count:+d} {name}" for name, count in signed if count]
    if len(texts) > 12:
        return "gone: " + ", ".join(name for name, _ in signed if not after[name])
    return ", ".join(texts) or "nothing"


def lines_of(graph: Graph, line: int) -> str:
    """The nodes that come from one line of the program."""
    found = [
        text.removeprefix("  ")
        for text in str(graph).splitlines()
        if re.search(rf"# {re.escape(FILE)}:{line}\b", text)
    ]
    return tidy("\n".join(found))


def before_and_after(function: Callable[..., Graph]) -> str:
    """The pair of graphs in the documentation of a pass."""
    text = sys.modules[function.__module__].__doc__ or ""
    return tidy(text[text.index("Before:") :].rstrip())


def fusions(graph: Graph) -> Iterator[str]:
    """The forward pass's first kernel, the loss's, and the last layer's update."""
    texts = re.findall(r"^  %.*? = fusion\(.*?^  }\n", str(graph), re.MULTILINE | re.DOTALL)
    wanted = ("maximum(", "exp(", "contract(")
    shown: list[str] = []
    for operation in wanted:
        candidates = [t for t in texts if operation in t and t not in shown]
        shown.append(candidates[-1] if operation == "contract(" else candidates[0])
    for text in sorted(shown, key=texts.index):
        yield tidy(re.sub("^  ", "", text.rstrip(), flags=re.MULTILINE))


def wave_list(program: Program) -> str:
    """The kernels in the order in which they run."""
    lines = ["| wave | kernels |", "|---|---|"]
    for number, wave in enumerate(program.waves):
        lines.append(f"| {number} | {'<br>'.join(f'`{kernel.name}`' for kernel in wave)} |")
    return "\n".join(lines)


def memory_chart(program: Program, report: Report) -> str:
    """Each value in the arena: where it lies, and in which waves it is alive."""
    spans: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for number, wave in enumerate(program.waves):
        for kernel in wave:
            for buffer in kernel.buffers:
                spans.setdefault(buffer.name, []).append(number)
                sizes[buffer.name] = buffer.numel * buffer.dtype.itemsize
    placed = [
        (place.offset, name)
        for name, place in program.placements.items()
        if place.kind == "arena" and name in spans
    ]
    waves = range(len(program.waves))
    lines = ["offset  bytes  value   alive in waves", " " * 24 + " ".join(f"{w:<2}" for w in waves)]
    for offset, name in sorted(placed, key=lambda item: (item[0], min(spans[item[1]]))):
        first, last = min(spans[name]), max(spans[name])
        alive = " ".join("##" if first <= w <= last else " ." for w in waves)
        lines.append(f"{offset:6}  {sizes[name]:5}  %{name:<6} {alive}")
    lines.append(
        f"arena: {report.arena_bytes} bytes; at most {report.lower_bound} bytes are alive at a "
        f"time; {report.bytes_before} without sharing"
    )
    return "\n".join(lines)


def bias_kernel(program: Program) -> Nest:
    """The kernel that sums the gradient of the first bias over the batch, and updates the bias."""
    name = next(n for n, p in program.placements.items() if p.kind == "input" and p.slot == 2)
    for kernel in program.kernels():
        if isinstance(kernel, Nest) and name in {buffer.name for buffer in kernel.buffers}:
            return kernel
    raise LookupError(f"no nest reads %{name}")


def kernels_to_show(program: Program) -> Iterator[Kernel]:
    """The first contraction, the loss's row program, and the kernel followed further down."""
    yield next(k for k in program.kernels() if isinstance(k, Contraction))
    yield next(k for k in program.kernels() if "exp(" in str(k))
    yield bias_kernel(program)


def schedules(program: Program) -> str:
    """How each contraction is computed, in a line."""
    return "\n".join(
        f"{kernel.name}: {schedule(kernel, TARGET)}"
        for kernel in program.kernels()
        if isinstance(kernel, Contraction)
    )


# Text ---------------------------------------------------------------------------------------------


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def tidy(text: str) -> str:
    """Without the layers' paths, and with long lines wrapped."""
    text = re.sub(rf"({re.escape(FILE)}:\d+) in [\w.]+ \(.*?\)\)?(?=,|$)", r"\1", text, flags=re.M)
    return "\n".join(part for line in text.splitlines() for part in wrapped(line))


def wrapped(line: str) -> Iterator[str]:
    """A line in pieces that are not longer than `WIDTH`; each but the first is indented more."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    while len(line) > WIDTH:
        cut = max(line.rfind(", ", len(indent) + 8, WIDTH), line.rfind(" -> ", 0, WIDTH))
        if cut < len(indent) + 8:
            break
        cut += 1
        yield line[:cut].rstrip()
        line = indent + line[cut:].lstrip()
    yield line


def tidy_llvm(text: str) -> str:
    """Only the function, without what says which pointers may alias."""
    body = text[text.index("define ") : text.rindex("\n}") + 2]
    body = re.sub(r", !(alias\.scope|noalias|invariant\.load) !\d+", "", body)
    body = re.sub(r'%"([\w.]+)"', r"%\1", body)
    return tidy(re.sub(r"splat \((\w+) +", r"splat (\1 ", body))


def inner_loop(text: str) -> str:
    """The first loop: from the label that a jump leads back to, to that jump."""
    lines = [line.expandtabs(8) for line in text.splitlines()]
    for start, line in enumerate(lines):
        label = re.match(r"(\.L\w+):", line)
        if label is None:
            continue
        for end in range(start + 1, len(lines)):
            if re.match(rf"\s+j\w+\s+{re.escape(label[1])}$", lines[end]):
                return "\n".join(lines[start : end + 1])
    raise LookupError("the assembly has no loop")


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ s", "... s", text)


# The page -----------------------------------------------------------------------------------------

_BLOCK = re.compile(r"(<!-- block: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def blocks_in(page: str) -> dict[str, str]:
    """The blocks that a page holds."""
    return {name: text.rstrip("\n") for _, name, text, _ in _BLOCK.findall(page)}


def with_blocks(page: str, made: dict[str, str]) -> str:
    """The page with these blocks; the ones that are missing in `made` stay as they are."""

    def replaced(match: re.Match[str]) -> str:
        text = made.get(match[2], match[3].rstrip("\n"))
        return f"{match[1]}{text}\n{match[4]}"

    return _BLOCK.sub(replaced, page)


def main() -> None:
    # Set before the runtime starts: one target, no code of earlier runs.
    if has_native_blocks():
        os.environ["BRAZE_TARGET"] = TARGET.name
    made = blocks()
    if not has_native_blocks():
        for name in NATIVE:
            del made[name]
    if "--bless" in sys.argv[1:]:
        PAGE.write_text(with_blocks(PAGE.read_text(), made))
    else:
        for name, text in made.items():
            print(f"<!-- block: {name} -->\n{text}\n<!-- end -->")


if __name__ == "__main__":
    for _name in [name for name in os.environ if name.startswith("BRAZE_")]:
        del os.environ[_name]
    os.environ["BRAZE_CACHE_DIR"] = ""
    os.environ["BRAZE_BACKGROUND"] = "never"  # however slow the machine is
    main()
