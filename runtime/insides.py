"""Everything that compiling one graph went through, for people to look at: `Insides`.

In: a captured graph.  Out: the graph after each pass with where each node comes from, the loops,
each kernel's code (LLVM IR and assembly; CUDA C and its launches), the memory plan. Nothing is
cached or loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph, Node
from braze.ir.loops import Kernel, Program
from braze.ir.loops_cost import Cost, kernel_cost
from braze.ir.loops_recurrence import Recurrence
from braze.ir.target import Target
from braze.runtime.artifact import Figures
from braze.runtime.cpu import host_target
from braze.runtime.provenance import Provenance, kernels_of
from braze.runtime.recorder import Keeper, Stage

_INSIDE = "    "  # of a wave in a program's text

# Kernel -> the name of its function, and its code by language.
Functions = dict[str, tuple[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class GraphStage:
    """The graph after a pass, or as it was captured.

    Attributes:
        name: of the pass.
        graph: what it made.
        seconds: what it took.
        origins: for each node the positions of the captured nodes that it comes from.
    """

    name: str
    graph: Graph
    seconds: float
    origins: dict[Node, list[int]]


@dataclass(frozen=True, slots=True)
class LoopStage:
    """A pass over the loops of kernels, or their making.

    Attributes:
        name: of the pass.
        seconds: what it took.
        kernels: of each kernel that it was made for, the loops after it, as text.
    """

    name: str
    seconds: float
    kernels: dict[str, str]


@dataclass(frozen=True, slots=True)
class KernelInside:
    """A kernel from the fusion node to machine code.

    Attributes:
        name: unique in the graph.
        wave: number of the parallel region that runs it.
        kernel: its loops. text: the same, in which the sizes of code for many are functions.
        node: the fusion node.
        origins: positions of the captured nodes that it computes.
        cost: counted from the loops.
        function: the symbol of its function, which kernels that do the same share.
        code: language -> the text of that function, and of its helpers: "llvm" and
            "assembly", or "cuda" and "launches".
    """

    name: str
    wave: int
    kernel: Kernel
    text: str
    node: Node
    origins: list[int]
    cost: Cost
    function: str
    code: dict[str, str]


@dataclass(frozen=True, slots=True)
class ArenaBlock:
    """A value in the arena: its place, and the waves from the one that makes it to its last reader.

    maker, readers: names of kernels.
    """

    name: str
    offset: int
    bytes: int
    first: int
    last: int
    maker: str
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Insides:
    """What compiling a graph went through.

    Attributes:
        captured: the graph as it was captured.
        target: what it was compiled for.
        stages: all of them as text.
        graphs: the captured graph and that after each pass.
        loops: the making of the kernels' loops, and the passes over them.
        program: the loops.
        kernels: in the order in which they run.
        blocks: the memory plan.
        figures: the compiler's own.
        seconds: of all stages.
        provenance: where nodes come from.
    """

    captured: Graph
    target: Target
    stages: list[Stage]
    graphs: list[GraphStage]
    loops: list[LoopStage]
    program: Program
    kernels: list[KernelInside]
    blocks: list[ArenaBlock]
    figures: Figures
    seconds: float
    provenance: Provenance

    @property
    def fusions(self) -> dict[Node, str]:
        """The nodes of the last graph, with the names of their kernels."""
        return {node: name for name, node in kernels_of(self.graphs[-1].graph)}

    def origins(self, nodes: Sequence[Node]) -> dict[Node, list[int]]:
        """Of nodes of any stage: the positions of the captured nodes that they come from."""
        return {node: self.provenance.origins(node) for node in nodes}


def look_inside(graph: Graph, target: Target | None = None) -> Insides:
    """Compile a graph and keep every step.

    Raises: CompileError where LLVM refuses the generated code; whatever the passes raise.
    """
    from braze.runtime.compiler import compile_recorded

    target = target or host_target()
    origin = Provenance(graph)
    record = Keeper(origin.graph, fingerprint(graph), whole=True)
    if target.is_gpu:
        from braze.runtime.cuda.insides import compile_for_gpu

        program, report, _, functions = compile_for_gpu(origin.graph, target, record)
    else:
        program, report, generated = compile_recorded(origin.graph, target, record)
        functions = host_functions(record, generated.symbols)
    return insides_of(graph, target, origin, record, program, report, functions)


def insides_of(
    graph: Graph,
    target: Target,
    origin: Provenance,
    record: Keeper,
    program: Program,
    report: Any,
    functions: Functions,
) -> Insides:
    """What a compile of a graph went through.

    Args:
        origin: knows the nodes of what was recorded as those of `graph`.
        record: the stages. program: the loops. report: the passes'. functions: the kernels' code.
    """
    from braze.runtime.compiler import figures_of

    pairs = list(zip(record.stages, record.results, strict=True))
    graphs = [
        GraphStage(
            stage.name, made, stage.seconds, {node: origin.origins(node) for node in made.nodes}
        )
        for stage, made in pairs
        if isinstance(made, Graph)
    ]
    nodes = dict(kernels_of(record.scheduled))
    loops = _loop_stages(record, program)
    texts = {kernel: text for stage in loops for kernel, text in stage.kernels.items()}
    kernels = [
        KernelInside(
            name=kernel.name,
            wave=wave,
            kernel=kernel,
            text=texts[kernel.name],
            node=nodes[kernel.name],
            origins=origin.origins(nodes[kernel.name]),
            cost=kernel_cost(kernel),
            function=functions[kernel.name][0],
            code=functions[kernel.name][1],
        )
        for wave, together in enumerate(program.waves)
        for kernel in together
    ]
    seconds = sum(stage.seconds for stage in record.stages)
    return Insides(
        graph, target, record.stages, graphs, loops, program, kernels, arena_blocks(program),
        figures_of(report), seconds, origin,
    )  # fmt: skip


def _loop_stages(record: Keeper, program: Program) -> list[LoopStage]:
    """The passes over loops in an order that fits all kernels, which not all have the same ones;
    last what was done to the whole program."""
    order: list[str] = []
    latest: dict[str, str] = {}
    for made in record.loops:
        if made.name not in order:
            before = latest.get(made.kernel)
            order.insert(0 if before is None else order.index(before) + 1, made.name)
        latest[made.kernel] = made.name
    stages = [
        LoopStage(
            name,
            sum(made.seconds for made in record.loops if made.name == name),
            {made.kernel: made.text for made in record.loops if made.name == name},
        )
        for name in order
    ]
    # The first one is that of these passes.
    for stage in [stage for stage in record.stages if stage.kind == "loops"][1:]:
        names = (kernel.name for kernel in program.kernels())
        texts = dict(zip(names, _kernel_texts(stage.text), strict=True))
        stages.append(LoopStage(stage.name, stage.seconds, texts))
    return stages


def _kernel_texts(program: str) -> Iterator[str]:
    """Those in a program's text, in which sizes may be functions, as they are alone."""
    found: list[str] = []
    for line in program.splitlines():
        is_inside = line.startswith(_INSIDE)
        if found and not (is_inside and line[len(_INSIDE)] in " }"):
            yield "\n".join(found)
            found = []
        if is_inside:
            found.append(line[len(_INSIDE) :])


# The memory plan ----------------------------------------------------------------------------------


def arena_blocks(program: Program) -> list[ArenaBlock]:
    """The values in a program's arena, in the order of their making."""
    makers: dict[str, tuple[int, str]] = {}
    readers: dict[str, list[tuple[int, str]]] = {}
    sizes: dict[str, int] = {}
    for wave, together in enumerate(program.waves):
        for kernel in together:
            buffers = [(b, b.access) for b in kernel.buffers]
            if isinstance(kernel, Recurrence) and kernel.arena is not None:
                buffers.append((kernel.arena, "out"))
            for buffer, access in buffers:
                if program.placements[buffer.name].kind != "arena":
                    continue
                sizes[buffer.name] = int(buffer.numel) * buffer.dtype.itemsize
                if buffer.name in makers or access == "in":
                    readers.setdefault(buffer.name, []).append((wave, kernel.name))
                else:
                    makers[buffer.name] = wave, kernel.name
    return [
        ArenaBlock(
            name=name,
            offset=int(program.placements[name].offset),
            bytes=sizes[name],
            first=wave,
            last=max((at for at, _ in readers.get(name, ())), default=wave),
            maker=maker,
            readers=tuple(reader for _, reader in readers.get(name, ())),
        )
        for name, (wave, maker) in makers.items()
    ]


# The texts of functions ---------------------------------------------------------------------------


def host_functions(record: Keeper, symbols: Mapping[str, str]) -> Functions:
    """Of each kernel the text of its function, by what was recorded.

    Args:
        symbols: kernel -> function.
    """
    llvm = _functions((s.text for s in record.stages if s.kind == "llvm"), _llvm_functions)
    assembly = _functions((s.text for s in record.stages if s.kind == "assembly"), _assembled)
    return {
        name: (
            symbol,
            {"llvm": _of_symbol(llvm, symbol), "assembly": _of_symbol(assembly, symbol)},
        )
        for name, symbol in symbols.items()
    }


_DEFINE = re.compile(r"^define [^@]*@\"?([\w.$]+)\"?\(.*?^\}$", re.MULTILINE | re.DOTALL)
_LABEL = re.compile(r"^([A-Za-z_][\w.$]*):", re.MULTILINE)


def _llvm_functions(text: str) -> Iterator[tuple[str, str]]:
    for match in _DEFINE.finditer(text):
        yield match[1], match[0]


def _assembled(text: str) -> Iterator[tuple[str, str]]:
    """What is between a function's label and its ``.size``."""
    for match in _LABEL.finditer(text):
        end = text.find(f"\t.size\t{match[1]}, ", match.start())
        if end >= 0:
            yield match[1], text[match.start() : end].rstrip()


def _functions(
    texts: Iterable[str], split: Callable[[str], Iterable[tuple[str, str]]]
) -> dict[str, str]:
    return {symbol: own for text in texts for symbol, own in split(text)}


def _of_symbol(functions: dict[str, str], symbol: str) -> str:
    """A function and its helpers, whose names begin with its own."""
    helpers = [s for s in functions if s != symbol and _is_helper(s, symbol)]
    names: Sequence[str] = [*([symbol] if symbol in functions else []), *helpers]
    return "\n\n".join(functions[name] for name in names)


def _is_helper(name: str, symbol: str) -> bool:
    rest = name.removeprefix(symbol)
    return rest != name and not rest[0].isdigit()
