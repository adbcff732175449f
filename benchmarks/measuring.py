"""Runs workloads on peers and collects figures; see `run.py` for what a figure is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bars import judge
from benchmarks.limits import UNITS
from benchmarks.peers import PEERS
from benchmarks.processes import Setting, Worker
from benchmarks.suite import CPU, Workload, workloads

SCALE = {"ms": 1e3, "us": 1e6, "s": 1.0}
PAUSE = 0.02  # between turns: another peer's threads may spin for as long
# The steps after which results are compared, and how far apart they may lie: gradients and
# optimizers magnify rounding, sums of many numbers have more of it.
CHECKED_STEPS = {"training": 3}
TOLERANCE = {"kernels": 2e-3, "training": 2e-2, "inference": 2e-3}


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    names = ("braze", "torch", "jax", "jaxlib", "tinygrad", "onnxruntime", "numpy", "llvmlite")
    packages = {}
    for name in names:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": packages,
    }


def variants(peer: str, workload: Workload) -> list[str]:
    """The layouts that a peer is tried with."""
    return ["", "channels_last"] if PEERS[peer].layouts and workload.images else [""]


class Run:
    """The workers and the figures so far."""

    def __init__(self, setting: Setting, peers: list[str]) -> None:
        self.setting = setting
        self.peers = peers
        self._kept: dict[tuple[str, str], Worker] = {}
        self._gpu: str | None = None
        self._limits: dict[str, float] = {}
        self._beside: dict[str, dict[str, float]] = {}  # memory's, in a workload's own seconds
        self._figures: dict[str, dict[str, dict[str, Any]]] = {}

    def restore(self, results: dict[str, Any]) -> None:
        """Take over the figures of an earlier run; the better limits count."""
        self._limits = higher(self._limits, results["limits"])
        for name, row in results["workloads"].items():
            if "limits" in row:
                self._beside[name] = row["limits"]
        self._figures |= {name: row["peers"] for name, row in results["workloads"].items()}

    def limits(self) -> None:
        """Measure the machine; the best figures so far count."""
        self._limits = higher(self._limits, self._limits_now(0.5))

    def _limits_now(self, seconds: float) -> dict[str, float]:
        seconds, mebibytes = (0.05, 64) if self.setting.quick else (seconds, 256)
        command = ["-m", "benchmarks.limits", str(self.setting.threads)]
        if self.setting.device != CPU:
            command = ["-m", "benchmarks.limits_gpu", self.setting.device]
        try:
            text = self.setting.run([*command, str(seconds), str(mebibytes)])
        except RuntimeError as error:
            print(f"no limits: {error}", file=sys.stderr)
            return {}
        found: dict[str, Any] = json.loads(text)
        self._gpu = found.pop("name", self._gpu)
        return found

    def measure(self, workload: Workload) -> None:
        """The workload's figures for every peer that takes part."""
        peers = [name for name in self.peers if PEERS[name].takes(workload)]
        if workload.measure is not None:
            figures = {}
            for peer in peers:
                try:
                    figures[peer] = workload.measure(self.setting, peer)
                except RuntimeError as error:
                    figures[peer] = {"failed": str(error)[:300]}
            self._figures[workload.name] = figures
            return
        runs = [(peer, layout) for peer in peers for layout in variants(peer, workload)]
        workers = {run: self._worker(run, workload) for run in runs}
        figures_of: dict[tuple[str, str], dict[str, Any]] = {}
        for run, worker in workers.items():
            figures_of[run] = worker.ask(
                prepare=workload.name, layout=run[1], patience=self.setting.seconds
            )
        able = [run for run in runs if "first_steps" in figures_of[run]]
        # Bandwidth is shared with whoever is on the machine, and changes within minutes.
        is_bound = "memory" in workload.bars
        before = self._limits_now(self.setting.seconds) if is_bound else {}
        self._rounds(workload, {run: workers[run] for run in able}, figures_of)
        if is_bound:
            found = higher(before, self._limits_now(self.setting.seconds))
            self._beside[workload.name] = {n: v for n, v in found.items() if UNITS[n] == "GB/s"}
        if workload.group == "training":
            for run in able:
                figures_of[run].update(workers[run].ask(memory=None))
            for worker in workers.values():
                worker.close()
        self._figures[workload.name] = {
            peer: _better([(layout, figures_of[p, layout]) for p, layout in runs if p == peer])
            for peer in peers
        }

    def _rounds(
        self,
        workload: Workload,
        workers: dict[tuple[str, str], Worker],
        figures: dict[tuple[str, str], dict[str, Any]],
    ) -> None:
        """Let the workers take turns."""
        scale = SCALE[workload.unit] / workload.per
        for _ in range(self.setting.rounds):
            for run, worker in workers.items():
                if "failed" in figures[run]:
                    continue
                time.sleep(PAUSE)
                answer = worker.ask(run=self.setting.seconds)
                if "times" not in answer:
                    figures[run]["failed"] = answer.get("failed", "no times")
                    continue
                median = statistics.median(answer["times"]) * scale
                figures[run].setdefault("rounds", []).append(median)
        for run in workers:
            if "failed" not in figures[run]:
                figures[run]["value"] = min(figures[run]["rounds"])

    def _worker(self, run: tuple[str, str], workload: Workload) -> Worker:
        """A process for the peer. Training has a new one each time, for its memory's sake; the rest
        share one, which is started again if it has ended."""
        if workload.group == "training":
            return Worker(run[0], self.setting)
        if run not in self._kept or self._kept[run].ended:
            self._kept[run] = Worker(run[0], self.setting)
        return self._kept[run]

    def close(self) -> None:
        """End all workers."""
        for worker in self._kept.values():
            worker.close()
        self._kept.clear()

    @property
    def measured(self) -> set[str]:
        """Names of the workloads that have figures."""
        return set(self._figures)

    def results(self) -> dict[str, Any]:
        """What the JSON holds: conditions, limits, figures, bars."""
        rows: dict[str, Any] = {}
        for workload in workloads().values():
            if workload.name not in self._figures:
                continue
            beside = self._beside.get(workload.name, {})
            least = workload.cost.seconds({**self._limits, **beside})
            rows[workload.name] = {
                "group": workload.group,
                "about": workload.about,
                "unit": workload.unit,
                "bars": list(workload.bars),
                "limit": None if least is None else least * SCALE[workload.unit],
                "peers": self._figures[workload.name],
                **({"limits": beside} if beside else {}),
            }
        setting = self.setting
        found = {
            "version": 1,
            "machine": {**machine(), **({"gpu": self._gpu} if self._gpu else {})},
            "threads": setting.threads,
            "device": setting.device,
            "rounds": setting.rounds,
            "seconds": setting.seconds,
            "quick": setting.quick,
            "limits": dict(self._limits),
            "workloads": rows,
        }
        return {**found, "bars": [bar.facts() for bar in judge(found)]}

    def check(self, selected: list[Workload]) -> int:
        """Compare every peer's results with PyTorch's, or the first peer's; returns an exit status.
        """
        status = 0
        with tempfile.TemporaryDirectory() as folder:
            for workload in selected:
                if workload.group == "overheads":
                    continue
                results: dict[str, Any] = {}
                for peer in self.peers:
                    if PEERS[peer].takes(workload):
                        results[peer] = self._outputs(workload, peer, Path(folder) / "results.npz")
                status |= _compare(workload, results)
        self.close()
        return status

    def _outputs(self, workload: Workload, peer: str, path: Path) -> list[np.ndarray] | str:
        steps = CHECKED_STEPS.get(workload.group, 3)
        if (peer, "") not in self._kept or self._kept[peer, ""].ended:
            self._kept[peer, ""] = Worker(peer, self.setting)
        answer = self._kept[peer, ""].ask(outputs=str(path), name=workload.name, steps=steps)
        if answer:
            return str(answer.get("unsupported") or f"FAILED: {answer['failed']}")
        with np.load(path) as arrays:
            return [arrays[name] for name in arrays.files]


def higher(limits: dict[str, float], others: dict[str, float]) -> dict[str, float]:
    """The higher figure of each.

    >>> higher({"copy": 50.0}, {"copy": 40.0, "read": 30.0})
    {'copy': 50.0, 'read': 30.0}
    """
    return {**others, **{n: max(v, others.get(n, 0.0)) for n, v in limits.items()}}


def _better(choices: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The figures of the better layout. Memory is the least of them all, for fairness."""
    able = [(layout, facts) for layout, facts in choices if "value" in facts]
    if not able:
        return choices[0][1]
    layout, facts = min(able, key=lambda choice: choice[1]["value"])
    facts = {**facts, "layout": layout} if layout else dict(facts)
    peaks = [other["peak_bytes"] for _, other in able if "peak_bytes" in other]
    return {**facts, "peak_bytes": min(peaks)} if peaks else facts


def difference(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest distance between results, in units of the largest number of each array."""
    if [a.shape for a in found] != [a.shape for a in wanted]:
        return float("inf")
    worst = 0.0
    for mine, other in zip(found, wanted, strict=True):
        a, b = mine.astype(np.float64), other.astype(np.float64)
        scale = np.abs(b).max(initial=0.0) or 1.0
        gap = np.abs(a - b).max(initial=0.0) / scale
        worst = max(worst, float(gap) if np.isfinite(gap) else float("inf"))
    return worst


def _compare(workload: Workload, results: dict[str, Any]) -> int:
    base = next((p for p in ("torch", *results) if isinstance(results.get(p), list)), "")
    status, words = 0, []
    for peer, result in results.items():
        if isinstance(result, str):
            words.append(f"{peer} {'-' if 'FAILED' not in result else result}")
            status |= "FAILED" in result
        elif peer != base:
            gap = difference(result, results[base])
            wrong = gap > TOLERANCE[workload.group]
            status |= wrong
            words.append(f"{peer} {gap:.1e}{' WRONG' if wrong else ''}")
    print(f"{workload.name:28}against {base}: {', '.join(words)}", flush=True)
    return int(status)
