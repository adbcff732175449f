"""Packages with narrow weights beside those with the model's own: sizes, times to load and of a
call, and what the results lose. ``python -m benchmarks.narrow_weights [--threads N]``."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import braze
from benchmarks import models
from benchmarks.inference import lstm_cell
from benchmarks.programs import normal

DTYPES = (None, "bfloat16", "int8")
ROUNDS, SECONDS, MOST_CALLS = 12, 0.08, 2000

MODELS: dict[str, tuple[Callable[[], Any], list[tuple[int, ...]]]] = {
    "MLP 784-512-512-10, batch 1": (lambda: models.mlp(braze, 784, 512, 512, 10), [(1, 784)]),
    "MLP 2048-4096-2048, batch 1": (lambda: models.mlp(braze, 2048, 4096, 2048), [(1, 2048)]),
    "LSTM 2 x 200, one step": (lambda: lstm_cell(braze), [(1, 1, 200), (2, 1, 200), (2, 1, 200)]),
    "4 encoder layers, 128 positions": (
        lambda: models.encoder(braze, 256, 8, 1024, 4),
        [(1, 128, 256)],
    ),
    "ResNet-50, batch 1": (lambda: models.resnet50(braze), [(1, 3, 224, 224)]),
}


def _seconds(call: Callable[[], Any], most: int = MOST_CALLS) -> float:
    """The median of some calls."""
    begin = time.perf_counter()
    call()
    once = time.perf_counter() - begin
    times = []
    for _ in range(max(2, min(most, int(SECONDS / max(once, 1e-6))))):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


def measure(name: str, folder: Path) -> None:
    """Print a row for each dtype; they take turns, and the best round counts."""
    make, shapes = MODELS[name]
    braze.manual_seed(0)
    model, arrays = make().eval(), [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    calls, best, facts = {}, {}, {}
    for dtype in DTYPES:
        path = folder / f"{dtype}.brz"
        inputs = [braze.tensor(array) for array in arrays]
        report = braze.aot.compile(model, inputs, path, weights=dtype)
        load = min(_seconds(lambda path=path: braze.aot.load(path), 3) for _ in range(3))
        loss = "" if report is None else f"{report.outputs[0].relative_error:.2g}"
        facts[dtype] = path.stat().st_size / 1e6, load * 1e3, loss
        package = braze.aot.load(path)
        calls[dtype] = lambda package=package: package(*arrays)
        best[dtype] = float("inf")
    for _ in range(ROUNDS):
        for dtype, call in calls.items():
            best[dtype] = min(best[dtype], _seconds(call))
    for dtype, (size, load, loss) in facts.items():
        label = dtype or "float32"
        print(f"| {name} | {label} | {size:.1f} | {load:.1f} | {best[dtype] * 1e6:.0f} | {loss} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="of a call")
    parser.add_argument("models", nargs="*", help="the beginnings of names; all by default")
    args = parser.parse_args()
    if args.threads:
        braze.set_num_threads(args.threads)
    print("| model | weights | MB | load, ms | call, us | relative error |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            if not args.models or name.startswith(tuple(args.models)):
                measure(name, Path(folder))


if __name__ == "__main__":
    main()
