"""What an error of a compile is told: which graph it was, and how to have that compile alone.

In: the error and the graph.  Out: a note to the error, and with `config.dump_dir` a program there
that compiles the graph again, stage by stage (`braze.runtime.repro`).
"""

from __future__ import annotations

import re
from pathlib import Path

from braze.ir.devices import HOST
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.config import config
from braze.runtime.repro import Setting, drawn_for, write_graph

_INTERPRET = "braze.config.tier = 'interpret' runs it without a compiler"


def explain_failure(error: Exception, graph: Graph, target: Target) -> None:
    """Note with an error which graph was being compiled, and write its reproducer, if there is a
    directory for that.

    Args:
        target: what it was compiled for.
    """
    on = f" for {target.name}" if target.is_gpu else ""
    if not config.dump_dir:
        error.add_note(
            f"while compiling graph @{graph.name}{on}; BRAZE_DUMP=<directory> writes what was made "
            f"of it and a program that compiles it alone, and {_INTERPRET}"
        )
        return
    name = re.sub(r"[^\w.+-]", "_", graph.name) or "_"
    path = Path(config.dump_dir, f"repro-{name}.py")
    setting = Setting("cuda:0" if target.is_gpu else HOST, target, data="arrays drawn at random")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(path, graph, drawn_for(graph), setting)
    except (OSError, MemoryError) as failure:
        written = f"no reproducer could be written: {failure}"
    else:
        written = f"reproducer: python {path}"
    error.add_note(f"while compiling graph @{graph.name}{on}; {written}; {_INTERPRET}")
