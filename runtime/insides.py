"""Everything that compiling one graph went through, for people to look at: `Insides`.

In: a captured graph.  Out: the graph after each pass with where each node comes from, the loops,
each kernel's code (LLVM IR and assembly; CUDA C and its launches), the memory plan. Nothing is
cached or loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
class KernelInside:
    """A kernel from the fusion node to machine code.

    Attributes:
        name: unique in the graph.
        wave: number of the parallel region that runs it.
        kernel: its loops.
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
    program: Program
    kernels: list[KernelInside]
    blocks: list[ArenaBlock]
    figures: Figures
    seconds: float
    provenance: Provenance

    def origins(self, nodes: Sequence[Node]) -> dict[Node, list[int]]:
        """Of nodes of any stage: the positions of the captured nodes that they come from."""
        return {node: self.provenance.origins(node) for node in nodes}


def look_inside(graph: Graph, target: Target | None = None) -> Insides:
    """Compile a graph and keep every step.

    Raises: CompileError where LLVM refuses the generated code; whatever the passes raise.
    """
    from braze.runtime.compiler import compile_recorded, figures_of

    target = target or host_target()
    origin = Provenance(graph)
    record = Keeper(origin.graph, fingerprint(graph))
    if target.is_gpu:
        from braze.runtime.cuda.insides import compile_for_gpu

        program, report, functions = compile_for_gpu(origin.graph, target, record)
    else:
        program, report, generated = compile_recorded(origin.graph, target, record)
        functions = _host_functions(record, generated.symbols)
    pairs = list(zip(record.stages, record.results, strict=True))
    graphs = [
        GraphStage(
            stage.name, made, stage.seconds, {node: origin.origins(node) for node in made.nodes}
        )
        for stage, made in pairs
        if isinstance(made, Graph)
    ]
    nodes = dict(kernels_of(record.scheduled))
    kernels = [
        KernelInside(
            name=kernel.name,
            wave=wave,
            kernel=kernel,
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
        graph, target, record.stages, graphs, program, kernels, arena_blocks(program),
        figures_of(report), seconds, origin,
    )  # fmt: skip


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

# Kernel -> the name of its function, and its code by language.
Functions = dict[str, tuple[str, dict[str, str]]]


def _host_functions(record: Keeper, symbols: Mapping[str, str]) -> Functions:
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
