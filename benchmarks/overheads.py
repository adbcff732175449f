"""What is paid besides the arithmetic: a captured operation, a cached call, a parallel region,
importing, the first result, compiling, and how many graphs are compiled."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import training
from benchmarks.processes import Setting, Worker
from benchmarks.programs import Call, Library, Loop, normal
from benchmarks.suite import Workload

OPERATIONS = 400


def _captured(library: Library) -> Loop:
    x, y = (library.tensor(normal(8, seed=i) * 0.1) for i in range(2))

    def chain(x: Any, y: Any) -> Any:
        for _ in range(OPERATIONS // 2):
            x = x * y
            x = x + y
        return x

    compiled = library.compile(chain)
    return Loop(lambda: compiled(x, y))


def _differentiated(library: Library) -> Loop:
    x, y = (library.tensor(normal(8, seed=i) * 0.1) for i in range(2))
    x = x.requires_grad_(True)

    def chain(x: Any, y: Any) -> Any:
        for _ in range(OPERATIONS // 2):
            x = x * y
            x = x + y
        return x.sum()

    compiled = library.compile(chain)

    def step() -> Any:
        x.grad = None
        compiled(x, y).backward()
        return x.grad

    return Loop(step)


def _hundred(library: Library) -> Call:
    nn = library.T.nn

    class Hundred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            ones = [nn.Parameter(library.tensor(normal(8, seed=i))) for i in range(100)]
            self.scales = nn.ParameterList(ones)

        def forward(self, x: Any) -> Any:
            for scale in self.scales:
                x = x + scale
            return x

    return Call(Hundred().eval(), [library.tensor(normal(8))])


def _printed(module: str, *arguments: str) -> Callable[[Setting, str], dict[str, Any]]:
    """The number that a process of its own prints."""

    def measure(setting: Setting, peer: str) -> dict[str, Any]:
        size = "quick" if setting.quick else "full"
        command = ["-m", module, *arguments, str(setting.threads), size]
        return {"value": float(setting.run(command).split()[-1])}

    return measure


def _repeats(setting: Setting) -> int:
    return 2 if setting.quick else 5


def _wall(setting: Setting, code: str, cache: Path | None = None) -> float:
    begin = time.perf_counter()
    setting.run(["-c", code], cache)
    return time.perf_counter() - begin


IMPORTS = {
    "braze": "import braze",
    "torch": "import torch",
    "jax": "import jax.numpy",
    "tinygrad": "import tinygrad",
    "onnxruntime": "import onnxruntime",
}
FIRST = {
    "braze": "import braze as T; print((T.ones(3) * 2 + 1).sum().item())",
    "torch": "import torch as T; print((T.ones(3) * 2 + 1).sum().item())",
    "jax": "import jax.numpy as T; print(float((T.ones(3) * 2 + 1).sum()))",
    "tinygrad": "from benchmarks.peers import zig_clang; zig_clang.provide();"
    "from tinygrad import Tensor as T; print((T.ones(3) * 2 + 1).sum().item())",
}


def _import(setting: Setting, peer: str) -> dict[str, Any]:
    """Milliseconds more than a Python process that imports nothing."""
    empty, full = [], []
    for _ in range(_repeats(setting)):
        empty.append(_wall(setting, "pass"))
        full.append(_wall(setting, IMPORTS[peer]))
    return {"value": 1e3 * max(0.0, min(full) - min(empty)), "rounds": [1e3 * t for t in full]}


def _first_result(setting: Setting, peer: str) -> dict[str, Any]:
    """Milliseconds of a whole process that prints one number, with nothing cached."""
    times = []
    for _ in range(_repeats(setting)):
        with tempfile.TemporaryDirectory() as folder:
            times.append(1e3 * _wall(setting, FIRST[peer], Path(folder)))
    return {"value": min(times), "rounds": times}


def beyond(first_steps: list[float]) -> float:
    """Seconds that the first steps took beyond as many steady ones.

    >>> beyond([3.0, 2.0, 1.0, 1.0])
    3.0
    """
    return sum(first_steps) - len(first_steps) * min(first_steps)


def _compile(name: str) -> Callable[[Setting, str], dict[str, Any]]:
    """Cold: with empty caches. Warm: another process after that one, with what it left."""

    def measure(setting: Setting, peer: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for key in ("value", "warm"):
                worker = Worker(peer, setting, Path(folder))
                answer = worker.ask(prepare=name, patience=0.2 if setting.quick else 2.0)
                worker.close()
                if "first_steps" not in answer:
                    return answer
                found[key] = beyond(answer["first_steps"])
                found[f"{key}_steps"] = answer["first_steps"]
        return found

    return measure


_COMPILERS = ("braze", "braze.compile", "torch.compile", "jax", "tinygrad")
_BARS = {
    "train.resnet18": ("compile",),
    "train.mlp": ("compile_small",),
    "train.mlp_one": ("compile_small",),
    "train.actor_critic": ("compile_small",),
}


def _row(name: str, about: str, unit: str, **facts: Any) -> Workload:
    return Workload(name, "overheads", about, unit=unit, **facts)


WORKLOADS = [
    _row(
        "overhead.captured_op",
        f"each of {OPERATIONS} operations on 8 numbers",
        "us",
        make=_captured,
        per=OPERATIONS,
        bars=("captured_op",),
    ),
    _row(
        "overhead.differentiated_op",
        "the same with its gradient",
        "us",
        make=_differentiated,
        per=OPERATIONS,
    ),
    _row(
        "overhead.cached_call",
        "a model of a hundred parameters of 8 numbers, without gradients",
        "us",
        make=_hundred,
        bars=("cached_call",),
    ),
    *(
        _row(
            f"overhead.{name}",
            about,
            "us",
            measure=_printed("benchmarks.parallel_region", work),
            peers=("braze",),
            bars=("parallel_region",),
        )
        for name, work, about in (
            ("parallel_region", "empty", "a parallel region in which nothing is done"),
            ("parallel_meeting", "meeting", "one in which every thread takes part"),
        )
    ),
    _row(
        "overhead.import",
        "importing the library",
        "ms",
        measure=_import,
        peers=tuple(IMPORTS),
    ),
    _row(
        "overhead.first_result",
        "from starting Python to the end of a program that prints one number",
        "ms",
        measure=_first_result,
        peers=tuple(FIRST),
    ),
    _row(
        "graphs.fifty_lengths",
        "graphs compiled by a language model that meets fifty lengths of sentences",
        "graphs",
        measure=_printed("benchmarks.counting", "fifty_lengths"),
        peers=("braze",),
        bars=("few_graphs",),
    ),
    _row(
        "graphs.one_off",
        "graphs compiled while a thousand arrays of different sizes are prepared",
        "graphs",
        measure=_printed("benchmarks.counting", "one_off"),
        peers=("braze",),
        bars=("no_graphs",),
    ),
    *(
        _row(
            w.name.replace("train.", "compile."),
            f"what the first steps take beyond steady ones: {w.about}",
            "s",
            measure=_compile(w.name),
            peers=_COMPILERS,
            bars=_BARS.get(w.name, ()),
        )
        for w in training.WORKLOADS
    ),
]
