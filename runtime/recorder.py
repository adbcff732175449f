"""What the compiler shows of its work: every stage as text, to a list, to files, to stderr.

In: stage names with graphs, programs or text, as the pipeline reaches them.  Out: `Stage` records
with times; ``<dump_dir>/<graph>-<fingerprint>/NN-<stage>.ir``; lines on stderr by `config.debug`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from braze.ir.graph import Graph
from braze.ir.loops import Kernel, Program
from braze.runtime.config import config

Kind = str
OfKernels = Callable[[str, Kernel], None]
# Suffix of the dump's file, and the debug level from which the text is shown.
_KINDS: dict[Kind, tuple[str, int]] = {
    "graph": (".ir", 2),
    "text": (".txt", 2),
    "loops": (".loops", 3),
    "llvm": (".ll", 4),
    "cuda": (".cu", 4),
    "assembly": (".s", 5),
}


class Stage(NamedTuple):
    """One stage: the name of what was just done, its result as text, and how long it took."""

    name: str
    text: str
    kind: Kind
    seconds: float


class LoopPass(NamedTuple):
    """The loops of a kernel after a pass over them: the pass's name, the kernel's, the loops as
    text, what it took, and when it was done."""

    name: str
    kernel: str
    text: str
    seconds: float
    until: float


class Recorder:
    """Collects the stages of one compile, and shows and dumps them as the configuration says.

    Called by the pipeline as ``record(stage, graph_or_program_or_text)``. The time since the last
    call, printing apart, is the stage's.
    """

    def __init__(self, graph: Graph, fingerprint: str) -> None:
        self.stages: list[Stage] = []
        self._label = f"{_file_name(graph.name)}-{fingerprint[:8]}"
        self._directory = Path(config.dump_dir, self._label) if config.dump_dir else None
        self._started = self._last = time.perf_counter()
        self("captured", graph)

    @staticmethod
    def is_wanted() -> bool:
        """Whether the configuration asks for anything to be shown."""
        return bool(config.dump_dir or config.debug)

    @property
    def of_kernels(self) -> OfKernels | None:
        """What is to be called with a kernel after each pass over its loops; None: nothing."""
        return None

    @property
    def wants_assembly(self) -> bool:
        return self._directory is not None or config.debug >= _KINDS["assembly"][1]

    def __call__(self, name: str, result: object, kind: Kind = "") -> None:
        seconds = time.perf_counter() - self._last
        if not kind:
            kinds = {Graph: "graph", Program: "loops"}
            kind = kinds.get(type(result), "text")
        stage = Stage(name, str(result), kind, seconds)
        self.stages.append(stage)
        if self._directory is not None:
            self._dump(self._directory, stage)
        self._show(stage)
        self._last = time.perf_counter()

    def restart_clock(self) -> None:
        """Leave the time since the last stage out of the next: it went into imports."""
        self._last = time.perf_counter()

    def _dump(self, directory: Path, stage: Stage) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        number = len(self.stages) - 1
        if number == 0:
            # Else stages of an earlier, longer compile would lie among these.
            for old in directory.glob("[0-9][0-9]-*"):
                old.unlink()
        suffix = _KINDS[stage.kind][0]
        file = directory / f"{number:02d}-{_file_name(stage.name)}{suffix}"
        file.write_text(stage.text if stage.text.endswith("\n") else stage.text + "\n")

    def _show(self, stage: Stage) -> None:
        level = _KINDS[stage.kind][1]
        # The texts of a module take no time of their own: `generate` and `objects` are the stages.
        if config.debug >= 1 and len(self.stages) > 1 and (level < 4 or config.debug >= level):
            milliseconds = stage.seconds * 1e3
            print(f"[{self._label}] {stage.name:<24} {milliseconds:9.2f} ms", file=sys.stderr)
        if config.debug >= level:
            print(f"-- {stage.name}\n{stage.text}", file=sys.stderr)

    def finish(self) -> None:
        """Show the total."""
        if config.debug >= 1:
            total = sum(stage.seconds for stage in self.stages) * 1e3
            print(f"[{self._label}] {'total':<24} {total:9.2f} ms", file=sys.stderr)


class Keeper(Recorder):
    """Keeps what was recorded as well: graphs, programs and texts, one for each stage.

    Args:
        whole: keep assembly, and the loops after each pass over them, too.

    Attributes:
        loops: the loops of each kernel as they were lowered and after each pass over them.
    """

    def __init__(self, graph: Graph, fingerprint: str, *, whole: bool = False) -> None:
        self.results: list[object] = []
        self.loops: list[LoopPass] = []
        self._whole = whole
        super().__init__(graph, fingerprint)

    def __call__(self, name: str, result: object, kind: Kind = "") -> None:
        super().__call__(name, result, kind)
        self.results.append(result)

    @property
    def wants_assembly(self) -> bool:
        return self._whole or super().wants_assembly

    @property
    def of_kernels(self) -> OfKernels | None:
        return self._keep_loops if self._whole else None

    def _keep_loops(self, stage: str, kernel: Kernel) -> None:
        now = time.perf_counter()
        before = self.loops[-1].until if self.loops else self._last
        text = str(kernel)
        printed = time.perf_counter()
        self._last += printed - now
        self.loops.append(LoopPass(stage, kernel.name, text, now - before, printed))

    @property
    def scheduled(self) -> Graph:
        """The last graph, of which each node is a kernel."""
        return next(r for r in reversed(self.results) if isinstance(r, Graph))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text) or "_"
