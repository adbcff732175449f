"""Every graph's way to a result: known in memory, on disk, compiled, or interpreted the first time.

In: a captured graph.  Out: an `Entry`, whose `run` fills storages.  Graphs of equal fingerprint
share everything, whatever their names and source lines.

Tiers: with "auto" a graph is interpreted at its first run, unless the disk has its code or it is an
optimizer's first step (`braze.runtime.training_steps`), and compiled when it comes again: at once
if that is soon done, else in another process (`braze.runtime.background`), and until its code is
there the graph is interpreted; "compile" compiles at the first run and waits; "interpret" never.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.artifact import Artifact
from braze.runtime.blas_threads import one_left_free
from braze.runtime.config import TIERS, Tier, config
from braze.runtime.cpu import host_target
from braze.runtime.disk_cache import DiskCache
from braze.runtime.executable import Executable, Input, Resident, Sites
from braze.runtime.families import Family, families, loaded, served, third_size
from braze.runtime.interpreting import changed, interpret_with_lines, stopwatch
from braze.runtime.kept_objects import disk_cache, pool_object
from braze.runtime.object_loader import ObjectError
from braze.runtime.observing import Observer, observing
from braze.runtime.placed import PlacedEntry
from braze.runtime.pool import get_pool, is_pool_loaded
from braze.runtime.prediction import (
    SLOW_RUN,
    SYMBOLIC_TIMES,
    compile_seconds,
    is_worth_waiting,
)
from braze.runtime.recompiles import log
from braze.runtime.recorder import Recorder
from braze.runtime.shared_blocks import block_under
from braze.runtime.sized_texts import Text
from braze.runtime.splitting import is_split
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
from braze.runtime.stored_sizes import keep_compiled
from braze.runtime.training_steps import forget_steps, is_first_step

if TYPE_CHECKING:
    from braze.runtime.background import Job
    from braze.runtime.background_process import Reply
    from braze.runtime.checking import CheckedExecutable
    from braze.runtime.timing import TimedExecutable


class _Known:
    """What is known of one fingerprint on one target; shared by its entries."""

    __slots__ = (
        "__weakref__",
        "beside",
        "checked",
        "executable",
        "family",
        "fingerprint",
        "guess",
        "job",
        "lock",
        "looked",
        "runs",
        "seconds",
        "target",
        "timed",
    )

    def __init__(self, fingerprint: str, target: Target) -> None:
        self.fingerprint = fingerprint
        self.target = target
        self.executable: Executable | None = None
        self.timed: TimedExecutable | None = None  # for profiling
        self.checked: CheckedExecutable | None = None  # with `config.check`
        self.family: Family | None = None  # if it has been met once
        self.runs = 0  # without machine code
        self.looked = False  # on disk
        self.guess = -1.0  # how long compiling takes; below zero, nobody has asked
        self.seconds = 0.0  # what the latest run took without machine code
        self.beside = True  # it may be compiled in the background: that has not failed yet
        self.job: Job | None = None  # it is being compiled there
        self.lock = threading.Lock()

    @property
    def disk_key(self) -> str:
        return f"graph {self.fingerprint} {self.target.to_text()}"


class Entry:
    """A graph ready to run.

    Attributes:
        graph: as it was captured.
        tier: of this entry, or None to follow `config.tier`.
    """

    __slots__ = ("_known", "graph", "tier")

    def __init__(self, graph: Graph, known: _Known, tier: Tier | None) -> None:
        self.graph = graph
        self.tier = tier
        self._known = known

    @property
    def fingerprint(self) -> str:
        return self._known.fingerprint

    @property
    def is_compiled(self) -> bool:
        """Whether machine code is loaded."""
        return self._known.executable is not None

    def run(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None = None,
        resident: Resident | None = None,
    ) -> None:
        """Compute the outputs.

        Args:
            inputs: a storage for each input; a Python number for those of role "scalar".
            outputs: a storage for each output, of its size; for an output that overwrites an input
                (`graph.aliases`), that input's storage.
            sites: the user's line of each of the graph's nodes in this call, as a list or a
                function, for error messages; by default the lines in the graph.
            resident: the inputs behind `inputs`, if these are not all.

        Raises:
            IndexError: an index was out of range.
            LinAlgError: a matrix has not the property that an operation needs.
            CompileError: the compiler failed.
            KernelDifference: with `config.check`, a kernel differs from the interpreter.
        """
        tier = self.tier or config.tier
        executable = self._known.executable
        if config.check and tier != "interpret":
            executable = self._obtain_checked()
        if executable is not None and observing.observer is None and tier != "interpret":
            executable.run(inputs, outputs, sites, resident)
            return
        if resident is not None:
            inputs = [*inputs, *resident.storages]
        if observing.observer is not None:
            self._run_observed(observing.observer, inputs, outputs, sites)
            return
        executable = None if tier == "interpret" else self._obtain(tier)
        if executable is None:
            self._interpret(inputs, outputs, sites)
        else:
            executable.run(inputs, outputs, sites)

    def _run_observed(
        self,
        observer: Observer,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None,
    ) -> None:
        """As `run`, telling the observer what was done and how long it took."""
        if observer.wants_inputs:
            observer.given(self.graph, inputs)
        tier = self.tier or config.tier
        executable: Executable | None = None
        if tier != "interpret" and not observer.per_operation:
            if config.check:
                executable = self._obtain_checked()
            else:
                executable = self._known.executable or self._obtain(tier)
            if executable is not None and observer.per_kernel and not config.check:
                executable = self._obtain_timed(observer)
        start = time.perf_counter()
        if executable is not None:
            executable.run(inputs, outputs, sites)
            timed = self._known.timed
            if observer.per_kernel and timed is executable and timed is not None:
                observer.timed(self.graph, sites, timed.times())
            observer.worked("native", self.graph, sites, start, time.perf_counter())
            return
        self._interpret(inputs, outputs, sites, observer if observer.per_operation else None)
        observer.worked("interpret", self.graph, sites, start, time.perf_counter())

    def _obtain_timed(self, observer: Observer) -> TimedExecutable:
        """The same code with stopwatches in it, compiled for the observer."""
        known = self._known
        with known.lock:
            if known.timed is None:
                from braze.runtime.timing import timed_executable

                start = time.perf_counter()
                known.timed = timed_executable(self.graph, known.target)
                observer.worked("compile", self.graph, None, start, time.perf_counter())
            return known.timed

    def _obtain_checked(self) -> CheckedExecutable:
        """The same code with stops in it, at which its kernels are compared with the
        interpreter."""
        known = self._known
        with known.lock:
            if known.checked is None:
                from braze.runtime.checked_sizes import checked_for

                start = time.perf_counter()
                known.checked = checked_for(self.graph, known.target)
                end = time.perf_counter()
                self._count(known.checked.artifact, end - start, start, end)
            return known.checked

    def compile(self) -> Executable:
        """Machine code for the graph, from memory, disk, or the compiler."""
        executable = self._obtain("compile")
        assert executable is not None
        return executable

    def _obtain(self, tier: Tier) -> Executable | None:
        """Machine code, or None if the graph is to be interpreted this time."""
        known = self._known
        with known.lock:
            is_new, known.looked = not known.looked, True
            if known.executable is None and is_new:
                known.executable = self._from_disk()
            if known.executable is None and config.dynamic_shapes:
                disk = disk_cache() if is_new else None
                if disk is not None or families.may_serve():
                    family, outline = families.met(self.graph, known.target)
                    if tier == "auto" and known.job is None and self._waits_for(family):
                        return None
                    known.executable = self._from_family(family, outline, disk)
            if known.executable is None:
                known.runs += 1
                is_first = known.runs == 1
                if tier == "auto" and is_first and not self._comes_back():
                    log.note(self.graph, known.fingerprint, "interpreted once")
                    if self._is_left_to_another(first_run=True):
                        from braze.runtime import background

                        background.start_early()
                    return None
                if known.job is None and tier == "auto":
                    if self._is_left_to_another(first_run=is_first):
                        self._submit()
                if known.job is None:
                    known.executable = self._from_compiler()
                    return known.executable
                reply = self._ask(known.job, tier)
                if reply is None:
                    return None
                known.executable = self._from_background(reply)
            return known.executable

    def _comes_back(self) -> bool:
        """Whether the graph, which is new, will surely come again, or one of another size."""
        if is_first_step(self.graph):
            return True
        if "param" not in self.graph.roles:
            return False
        known = self._known
        known.family = families.of(self.graph, known.target)
        return known.family.meet(self.graph)

    def _waits_for(self, family: Family) -> bool:
        """Whether code for all sizes is still being compiled, for another one."""
        if family.job is None:
            return False
        reply = family.job.poll()
        if reply is None:
            return True
        if family.receive(reply) and reply.facts is not None:
            artifact = Artifact.from_facts(reply.facts, reply.objects)
            self._count_reply(reply, artifact, 0)
        return False

    def _from_family(
        self, family: Family, outline: Text, disk: DiskCache | None
    ) -> Executable | None:
        """Code that serves other sizes of the same graph too, which may be on disk only."""
        start = time.perf_counter()
        found, source = family.code_for(outline), "dynamic"
        if found is None and disk is not None:
            found, source = family.code_on_disk(outline, disk, Artifact.from_facts), "disk"
        if found is None:
            return None
        code, sizes_here = found
        try:
            artifact = code.instance(self.graph, sizes_here)
            executable = _load(artifact, pool_object)
        except (ValueError, ObjectError) as error:
            if disk is None or not code.disk_key:
                raise
            disk.discard(code.disk_key, f"it cannot be loaded: {error}")
            family.drop(code)
            return None
        end = time.perf_counter()
        sizes = loaded(code, sizes_here) if source == "disk" else served(code, sizes_here)
        if source == "disk":
            self._count_loaded(artifact, start, end, sizes)
        else:
            fingerprint = self._known.fingerprint
            log.note(self.graph, fingerprint, "dynamic", end - start, artifact, sizes=sizes)
        return executable

    def _ask(self, job: Job, tier: Tier) -> Reply | None:
        """What came of compiling, or None if the graph is to be interpreted this time."""
        if tier == "compile" or config.background == "never":
            return job.wait()
        known = self._known
        # Once, when the code seems to come before a run without it would be over.
        if not job.was_awaited and job.remaining() <= known.seconds / 2:
            return job.wait(known.seconds)
        return job.poll()

    def _is_left_to_another(self, *, first_run: bool = False) -> bool:
        """Whether another process is to compile the graph while it is interpreted here."""
        known, wanted = self._known, config.background
        if wanted == "never" or not known.beside or Recorder.is_wanted():
            return False
        family, ours = known.family, known.seconds
        if first_run:  # how long it takes is not known yet
            ours = (family and family.seconds) or SLOW_RUN
        if wanted == "always":
            return True
        seconds = self._guess()
        if family is None and not first_run:
            family = families.of(self.graph, known.target)
        if family is not None and family.is_due():
            seconds *= SYMBOLIC_TIMES
        return not is_worth_waiting(seconds, ours)

    def _guess(self) -> float:
        """How many seconds compiling is likely to take."""
        known = self._known
        if known.guess < 0:
            known.guess = compile_seconds(self.graph)
        return known.guess

    def _submit(self) -> None:
        from braze.runtime import background

        known = self._known
        wants_pool = not is_pool_loaded()
        family = families.of(self.graph, known.target)
        joined = family.join(self.graph)
        known.job = background.submit(
            self.graph, known.target, known.disk_key, wants_pool, self._guess(), joined
        )
        if known.job is not None:
            family.job = known.job if joined else family.job
            log.note(self.graph, known.fingerprint, "underway")
            known.runs = 1  # from now on, those beside it

    def _from_background(self, reply: Reply) -> Executable:
        """The code that came.  Raises: what compiling raised."""
        known = self._known
        known.job = None
        family = families.of(self.graph, known.target)
        is_news = family.receive(reply)
        is_counted = not is_news and (reply.code is not None or reply.refusal != "")
        for warning in reply.warnings:
            warnings.warn(warning, stacklevel=2)
        if reply.facts is None:
            known.beside = False  # an error is raised here, each time, from now on
            log.drop(known.fingerprint)
            if reply.error is not None:
                raise reply.error
            return self._from_compiler()
        artifact = Artifact.from_facts(reply.facts, reply.objects)
        get_pool(compile=lambda: reply.pool or pool_object())
        executable = Executable(artifact)
        if not is_counted:
            self._count_reply(reply, artifact, known.runs - 1)
        return executable

    def _count_reply(self, reply: Reply, artifact: Artifact, beside: int) -> None:
        now = time.perf_counter()  # this thread has spent no time on it
        sizes = third_size(reply.code, reply.refusal)
        self._count(artifact, reply.seconds, now, now, beside, sizes)

    def _from_disk(self) -> Executable | None:
        disk, known = disk_cache(), self._known
        if disk is None:
            return None
        start = time.perf_counter()
        found = disk.load(known.disk_key)
        if found is None:
            return None
        try:
            artifact = Artifact.from_facts(*found)
            executable = _load(artifact, pool_object)
        except (ValueError, ObjectError) as error:
            disk.discard(known.disk_key, f"it cannot be loaded: {error}")
            return None
        self._count_loaded(artifact, start, time.perf_counter())
        return executable

    def _count_loaded(self, artifact: Artifact, start: float, end: float, sizes: str = "") -> None:
        """Note that the code was on disk."""
        stats.disk_hits += 1
        stats.kernels += artifact.figures.kernels_after
        if observing.observer is not None:
            observing.observer.worked("load", self.graph, None, start, end)
        fingerprint = self._known.fingerprint
        log.note(self.graph, fingerprint, "disk", end - start, artifact, sizes=sizes)

    def _from_compiler(self) -> Executable:
        from concurrent.futures import ThreadPoolExecutor

        from braze.runtime.compiler import compile_member

        known = self._known
        start = time.perf_counter()
        family = families.of(self.graph, known.target)
        joined = family.join(self.graph)
        with ThreadPoolExecutor(1, "braze-pool") as beside:
            pool = None if is_pool_loaded() else beside.submit(pool_object)
            artifact, code, refusal = compile_member(self.graph, known.target, joined)
        if code is not None:
            family.codes.insert(0, code)
        family.refusal = family.refusal or refusal
        executable = _load(artifact, pool_object if pool is None else pool.result)
        end = time.perf_counter()
        disk = disk_cache()
        if disk is not None:
            keep_compiled(disk, known.disk_key, family.key, artifact, code)
        self._count(artifact, end - start, start, end, sizes=third_size(code, refusal))
        return executable

    def _count(
        self,
        artifact: Artifact,
        seconds: float,
        start: float,
        end: float,
        beside: int = 0,
        sizes: str = "",
    ) -> None:
        """Note that the graph was compiled, beside so many interpreted runs."""
        if observing.observer is not None:
            observing.observer.worked("compile", self.graph, None, start, end)
        stats.compiles += 1
        stats.compile_seconds += seconds
        stats.kernels += artifact.figures.kernels_after
        fingerprint = self._known.fingerprint
        log.note(self.graph, fingerprint, "compiled", seconds, artifact, beside, sizes)

    def _interpret(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None,
        observer: Observer | None = None,
    ) -> None:
        graph, start = self.graph, time.perf_counter()
        given = [
            item.array(value.dtype.numpy, value.shape) if isinstance(item, Storage) else item
            for value, item in zip(graph.inputs, inputs, strict=True)
        ]
        # Other processes may write to the rest of what is overwritten in part, at any moment: what
        # is read and what is compared with it are one copy.
        read: dict[int, np.ndarray] = {}
        for at, source in graph.aliases.items():
            if block_under(outputs[at].owner) is not None:
                read[at] = given[source] = np.array(given[source])
        watch = stopwatch(observer, sites) if observer else None
        with one_left_free() if _is_compiling() else nullcontext():
            results = interpret_with_lines(graph, given, sites, watch)
        stats.interpreted += 1
        # All results exist, and share no memory with the inputs: overwriting these is safe now.
        for at, (storage, result) in enumerate(zip(outputs, results, strict=True)):
            target = storage.array(result.dtype, result.shape)
            np.copyto(target, result, where=changed(read[at], result) if at in read else True)
        known = self._known
        known.seconds = time.perf_counter() - start
        if known.family is not None:
            known.family.seconds = known.seconds


def _is_compiling() -> bool:
    """Whether another process is compiling something."""
    background = sys.modules.get("braze.runtime.background")
    return background is not None and background.is_busy()


# The caches ---------------------------------------------------------------------------------------


class _Memory:
    """Known graphs: the recently used, and all that somebody holds an entry of."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.recent: OrderedDict[tuple[str, Target], _Known] = OrderedDict()
        self.alive: WeakValueDictionary[tuple[str, Target], _Known] = WeakValueDictionary()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # Other threads of the parent may have held these.
        self.lock = threading.Lock()
        for known in list(self.alive.values()):
            known.lock = threading.Lock()
            known.job = None  # of the parent's

    def find(self, key: tuple[str, Target]) -> tuple[_Known, bool]:
        """What is known of a fingerprint and target, and whether anything was."""
        with self.lock:
            known = self.recent.get(key) or self.alive.get(key)
            was_known = known is not None
            if known is None:
                known = self.alive[key] = _Known(*key)
            self.recent[key] = known
            self.recent.move_to_end(key)
            while len(self.recent) > config.cache_entries:
                self.recent.popitem(last=False)
            return known, was_known

    def clear(self) -> None:
        with self.lock:
            self.recent.clear()
            self.alive.clear()


_memory = _Memory()


Prepared = Entry | PlacedEntry


def prepare(graph: Graph, *, tier: Tier | None = None) -> Prepared:
    """Look a graph up; nothing is compiled before it runs.

    Args:
        tier: overrides `config.tier` for this entry.
    """
    if tier is not None and tier not in TIERS:
        raise ValueError(f"[prepare] tier must be one of {', '.join(TIERS)}, given {tier!r}")
    if is_split(graph):
        return PlacedEntry(graph, tier)
    known, was_known = _memory.find((fingerprint(graph), host_target()))
    if was_known:
        stats.cache_hits += 1
    else:
        stats.graphs += 1
    return Entry(graph, known, tier)


def clear_memory() -> None:
    """Forget every graph; the disk and entries in use keep theirs."""
    _memory.clear()
    families.clear()
    forget_steps()


def _load(artifact: Artifact, pool: Callable[[], bytes]) -> Executable:
    # The pool's code first, from the disk as well, so that a warm start needs no compiler.
    get_pool(compile=pool)
    return Executable(artifact)
