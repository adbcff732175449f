"""A graph on a GPU ready to run: known in memory, its code on disk, or compiled at first sight.

In: a graph without devices, and a device's name.  Out: a `DeviceEntry`. With the tier "interpret"
operands are copied to the host, where the interpreter runs the graph, and results are copied back;
other tiers compile, as a GPU's user waits for neither. A graph that comes back with a third size of
some dimension is compiled once for all of them, as on the CPU (`braze.runtime.families`), unless an
earlier run has left that code on disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from braze.ir.collectives import current
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.config import config
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.compiling import compile_cuda, compile_cuda_symbolic, tools
from braze.runtime.cuda.devices import device_named
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.cuda.memory import DeviceStorage, copy_storage
from braze.runtime.cuda.precision import Settings, settings, target_for
from braze.runtime.executable import Input, Sites
from braze.runtime.families import Family, families, loaded, served, third_size
from braze.runtime.interpreting import interpret_with_lines
from braze.runtime.observing import Observer, observing
from braze.runtime.recompiles import Source, log
from braze.runtime.sized_texts import Text
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
from braze.runtime.stored_sizes import keep_code

if TYPE_CHECKING:
    from braze.runtime.cuda.checking import CheckedCudaExecutable
    from braze.runtime.cuda.timing import TimedCudaExecutable


# Fingerprint, device, and the features of its target.
Key = tuple[str, str, tuple[str, ...]]


class _Executables:
    """The most recently used."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.recent: OrderedDict[Key, CudaExecutable] = OrderedDict()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.lock = threading.RLock()
        self.recent = OrderedDict()

    def find(self, key: Key) -> CudaExecutable | None:
        with self.lock:
            found = self.recent.get(key)
            if found is not None:
                self.recent.move_to_end(key)
            return found

    def keep(self, key: Key, executable: CudaExecutable, most: int) -> None:
        with self.lock:
            self.recent[key] = executable
            while len(self.recent) > most:
                self.recent.popitem(last=False)


_executables = _Executables()


def clear_executables() -> None:
    """Forget all code; entries in use keep theirs."""
    with _executables.lock:
        _executables.recent.clear()


class DeviceEntry:
    """A graph for one GPU; see `braze.runtime.cache.Entry`."""

    __slots__ = ("_checked", "_made", "_timed", "device", "fingerprint", "graph")

    def __init__(self, graph: Graph, fingerprint: str, device: str) -> None:
        self.graph = graph
        self.fingerprint = fingerprint
        self.device = device
        self._made: tuple[Settings, CudaExecutable] | None = None
        self._timed: tuple[Settings, TimedCudaExecutable] | None = None
        self._checked: CheckedCudaExecutable | None = None  # with `config.check`

    @property
    def is_compiled(self) -> bool:
        return self._kept() is not None

    def _kept(self) -> CudaExecutable | None:
        """The code of earlier runs, unless other settings hold now."""
        made = self._made
        return made[1] if made is not None and made[0] == settings() else None

    def run(
        self, tier: str, inputs: Sequence[Input], outputs: Sequence[Storage], sites: Sites | None
    ) -> None:
        """Compute the outputs, as far as can be told from here; see `CudaExecutable.run`.

        Raises:
            KernelDifference: with `config.check`, a kernel differs from the interpreter.
        """
        if observing.observer is not None:
            self._run_observed(observing.observer, tier, inputs, outputs, sites)
        elif tier == "interpret":
            self._interpret(inputs, outputs, sites)
        elif config.check:
            self._obtain_checked().run(inputs, outputs, sites)
        else:
            (self._kept() or self.compile()).run(inputs, outputs, sites)

    def _run_observed(
        self,
        observer: Observer,
        tier: str,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None,
    ) -> None:
        """As `run`, telling the observer what was done and how long it took. A run that is timed
        is waited for."""
        from braze.runtime.cuda.timing import timed_cuda_executable

        observer.placed(self.graph, self.device)
        if observer.wants_inputs:
            observer.given(self.graph, inputs)
        start = time.perf_counter()
        if tier == "interpret":
            self._interpret(inputs, outputs, sites)
            observer.worked("interpret", self.graph, sites, start, time.perf_counter())
            return
        if config.check:
            self._obtain_checked().run(inputs, outputs, sites)
            observer.worked("native", self.graph, sites, start, time.perf_counter())
            return
        if self._kept() is None:
            self.compile()
            observer.worked("compile", self.graph, None, start, time.perf_counter())
        executable = self.compile()
        timed: TimedCudaExecutable | None = None
        if observer.per_kernel:
            if self._timed is None or self._timed[0] != settings():
                held = settings()
                made = timed_cuda_executable(self.graph, device_named(self.device))
                self._timed = held, made
            executable = timed = self._timed[1]
        start = time.perf_counter()
        executable.run(inputs, outputs, sites)
        if timed is not None:
            observer.timed(self.graph, sites, timed.times())
            current().notice()
        observer.worked("native", self.graph, sites, start, time.perf_counter())

    def _obtain_checked(self) -> CheckedCudaExecutable:
        """The code for the graph's own sizes, whose kernels are compared with the interpreter."""
        if self._checked is None:
            from braze.runtime.cuda.checking import checked_cuda_executable

            start = time.perf_counter()
            self._checked = checked_cuda_executable(self.graph, device_named(self.device))
            self._count(self._checked.code, time.perf_counter() - start, "")
        return self._checked

    def compile(self) -> CudaExecutable:
        """Machine code for the graph, from memory, disk, or the compiler."""
        kept = self._kept()
        if kept is None:
            with _executables.lock:
                held = settings()
                target = target_for(self.graph, device_named(self.device).target)
                key = (self.fingerprint, self.device, target.features)
                kept = _executables.find(key) or self._compiled(key, target)
                self._made = held, kept
        return kept

    def _compiled(self, key: Key, target: Target) -> CudaExecutable:
        start = time.perf_counter()
        device = device_named(self.device)
        family, outline = families.met(self.graph, target, tools(target))
        found = family.code_for(outline)
        if found is not None:
            symbolic, sizes = found
            code = symbolic.instance(self.graph, sizes)
            executable = CudaExecutable(code, device)
            seconds = time.perf_counter() - start
            told = served(symbolic, sizes)
            log.note(self.graph, self.fingerprint, "dynamic", seconds, code, sizes=told)
            _executables.keep(key, executable, config.cache_entries)
            return executable
        code, told = self._compiled_member(family, outline, target)
        executable = CudaExecutable(code, device)
        self._count(code, time.perf_counter() - start, told)
        _executables.keep(key, executable, config.cache_entries)
        return executable

    def _count(self, code: CudaCode, seconds: float, told: str) -> None:
        """Note that the graph was compiled, or its machine code found on disk."""
        if code.from_disk:
            stats.disk_hits += 1
        else:
            stats.compiles += 1
            stats.compile_seconds += seconds
        stats.kernels += code.figures.kernels_after
        source: Source = "disk" if code.from_disk else "compiled"
        log.note(self.graph, self.fingerprint, source, seconds, code, sizes=told)

    def _compiled_member(
        self, family: Family, outline: Text, target: Target
    ) -> tuple[CudaCode, str]:
        """Code for the graph, for other sizes as well if it is their turn, and what is told of
        them."""
        from braze.codegen.cuda.errors import CodegenError
        from braze.passes.symbolic_fit import NotSymbolic
        from braze.runtime.kept_objects import disk_cache

        joined, disk = family.join(self.graph), disk_cache()
        told = ""
        if joined is not None:
            found = None
            if disk is not None:
                found = family.code_on_disk(outline, disk, CudaCode.loaded)
            if found is not None:
                return found[0].instance(self.graph, found[1]), loaded(*found)
            fit, sizes = joined
            try:
                made = compile_cuda_symbolic(fit, sizes, target, disk)
            except (NotSymbolic, CodegenError) as error:
                family.refusal = str(error)
                told = third_size(None, family.refusal)
            else:
                family.codes.insert(0, made)
                if disk is not None:
                    keep_code(disk, family.key, made)
                told = third_size(made, "")
                if made.serves(sizes):
                    return made.instance(self.graph, sizes), told
        return compile_cuda(self.graph, target, disk), told

    def _interpret(
        self, inputs: Sequence[Input], outputs: Sequence[Storage], sites: Sites | None
    ) -> None:
        given = []
        for value, item in zip(self.graph.inputs, inputs, strict=True):
            if isinstance(item, DeviceStorage):
                given.append(item.to_host().array(value.dtype.numpy, value.shape))
            else:
                given.append(item)  # type: ignore[arg-type]
        results = interpret_with_lines(self.graph, given, sites)
        stats.interpreted += 1
        for storage, result in zip(outputs, results, strict=True):
            copy_storage(Storage.from_numpy(np.ascontiguousarray(result)), storage)
