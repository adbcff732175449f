"""The libraries that are compared, each behind an adapter with the same few methods.

An adapter is made in a process of its own with a number of threads, and with the device's name if
that is a GPU. `prepare(workload)` gives the program's step, which returns when its results are
known, or raises `Unsupported`: this peer has no version of the workload. `arrays(result)` are a
step's results as NumPy arrays.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.published import Published
from benchmarks.suite import CPU, Workload


class Unsupported(Exception):
    """A peer has no version of a workload; shown as "-"."""


@dataclass(frozen=True)
class Options:
    """How a workload is prepared.

    channels_last: the layout of images, where there is a choice.
    random: see `programs.Library`.
    """

    channels_last: bool = False
    random: bool = True


class Adapter(Protocol):
    """What the worker calls."""

    def prepare(self, workload: Workload, options: Options) -> Callable[[], Any]:
        """The step of the workload."""

    def arrays(self, result: Any) -> list[np.ndarray]:
        """The results of a step."""


def compiler_for_tinygrad() -> bool:
    """Whether it finds what it compiles with."""
    there = "CC" in os.environ or shutil.which("clang")
    return bool(there or importlib.util.find_spec("ziglang"))


@dataclass(frozen=True)
class Peer:
    """One column of the report.

    packages: what it needs installed.
    adapter: module and class of its adapter.
    layouts: whether images are also tried with channels last, and the better figure reported.
    groups: where it takes part; () for everywhere.
    on_gpus: whether it is measured there.
    """

    name: str
    packages: tuple[str, ...]
    adapter: tuple[str, str]
    layouts: bool = False
    groups: tuple[str, ...] = ()
    on_gpus: bool = False

    def missing(self, device: str = CPU) -> str:
        """Why it cannot be measured here; "" if it can."""
        if device != CPU and not self.on_gpus:
            return "it is measured on the CPU only"
        absent = [p for p in self.packages if importlib.util.find_spec(p) is None]
        if absent:
            return f"{', '.join(absent)} not installed"
        if self.name == "torch.compile" and not (shutil.which("g++") or shutil.which("clang++")):
            return "it needs a C++ compiler"
        if self.name == "tinygrad" and not compiler_for_tinygrad():
            return "it needs clang, or the package ziglang"
        return ""

    def open(self, threads: int, device: str = CPU) -> Adapter:
        """The adapter, in this process."""
        module, name = self.adapter
        where = () if device == CPU else (device,)
        adapter: Adapter = getattr(importlib.import_module(module), name)(threads, *where)
        return adapter

    def takes(self, workload: Workload) -> bool:
        """Whether it takes part in a workload."""
        if workload.peers:
            return self.name in workload.peers
        return not self.groups or workload.group in self.groups


_TORCHLIKE = "benchmarks.peers.torchlike"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("braze", ("braze",), (_TORCHLIKE, "Braze"), on_gpus=True),
        Peer("braze.compile", ("braze",), (_TORCHLIKE, "BrazeCompile"), on_gpus=True),
        Peer("braze.aot", ("braze",), (_TORCHLIKE, "BrazePackage"), groups=("inference",)),
        Peer("torch", ("torch",), (_TORCHLIKE, "Torch"), layouts=True, on_gpus=True),
        Peer(
            "torch.compile", ("torch",), (_TORCHLIKE, "TorchCompile"), layouts=True, on_gpus=True
        ),
        Peer("jax", ("jax", "jaxlib"), ("benchmarks.peers.with_jax", "Jax")),
        Peer("tinygrad", ("tinygrad",), ("benchmarks.peers.with_tinygrad", "Tinygrad")),
        Peer(
            "onnxruntime",
            ("onnxruntime", "onnx", "onnxscript", "torch"),  # torch and the rest write its models
            ("benchmarks.peers.with_onnx", "OnnxRuntime"),
            groups=("kernels", "inference"),
        ),
    )
}
OURS = tuple(name for name in PEERS if name.startswith("braze"))


def published_file(model: Published) -> Path:
    """A published model's file.

    Raises:
        Unsupported: its package is not installed.
    """
    path = model.path()
    if path is None:
        raise Unsupported(f"{model.package} is not installed")
    return path


def leaves(result: Any) -> list[Any]:
    """The tensors in tuples, lists and dicts, in order.

    >>> leaves({"a": 1, "b": (2, [3])})
    [1, 2, 3]
    """
    if isinstance(result, dict):
        return [leaf for item in result.values() for leaf in leaves(item)]
    if isinstance(result, (tuple, list)):
        return [leaf for item in result for leaf in leaves(item)]
    return [result]
