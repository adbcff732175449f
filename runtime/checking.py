"""Compiled graphs run kernel by kernel beside the interpreter: `config.check`.

In: a graph.  Out: a `CheckedExecutable`, whose runs raise `KernelDifference` at the first kernel
that does not compute what the interpreter makes of the very same operands.

The code is the graph's own with another `main`, which stops before the first wave of kernels and
after each (`braze.codegen.llvm.watching`). There all that the next wave reads has been copied, so
that it does not matter what a kernel overwrites, and one kernel's rounding is no other's error.
What a wave does not write must stay as it is, too.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from braze.ir.graph import Graph
from braze.ir.loops import Program
from braze.ir.target import FAILED, WATCH, Target
from braze.runtime.artifact import Artifact
from braze.runtime.check_reports import Wrong, wrong_place, wrong_result
from braze.runtime.checked_memory import CheckedMemory
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable, Input, Resident, Sites
from braze.runtime.kernel_cases import KernelCase, kernel_cases
from braze.runtime.kernel_difference import KernelDifference
from braze.runtime.provenance import Provenance
from braze.runtime.shared_blocks import block_under
from braze.runtime.storage import Storage

_Watch = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class CheckedExecutable(Executable):
    """Machine code whose runs are checked, one at a time.

    Attributes:
        cases: its kernels.
    """

    def __init__(
        self,
        artifact: Artifact,
        program: Program,
        scheduled: Graph,
        graph: Graph,
        origin: Provenance,
    ) -> None:
        super().__init__(artifact)
        self.cases = kernel_cases(program, scheduled)
        self._memory = CheckedMemory(program, scheduled, self.cases)
        self._graph = graph
        self._origin = origin
        self._waves: list[list[KernelCase]] = [[] for _ in program.waves]
        for case in self.cases:
            self._waves[case.wave].append(case)
        self._lock = threading.Lock()  # of what a run is about
        self._function = _Watch(self._watch)
        self._address = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        self._error: BaseException | None = None
        self._now: Any = None
        self._shared: list[int] = []
        self._sites: Sites | None = None

    def run(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None = None,
        resident: Resident | None = None,
    ) -> None:
        """As `Executable.run`.

        Raises:
            KernelDifference: a kernel does not do what the interpreter does. Outputs may be partly
                written then; what the graph overwrites is as it was before.
        """
        given = [*inputs, *resident.storages] if resident is not None else list(inputs)
        with self._lock:
            self._shared = [
                slot
                for slot, item in enumerate(given)
                if isinstance(item, Storage) and block_under(item.owner) is not None
            ]
            super().run(given, outputs, sites)

    def _run_at(
        self, call: Any, place: Any, given: Any, made: Any, resident: Any, sites: Any
    ) -> None:
        # The caller holds the workspace's lock, whose status block this is.
        call.workspace.status[WATCH] = self._address
        self._now, self._sites, self._error = call, sites, None
        try:
            super()._run_at(call, place, given, made, resident, sites)
        except BaseException:
            if self._error is None:
                raise
        finally:
            if isinstance(self._error, KernelDifference):
                self._memory.restore()
            self._now = self._sites = None
            self._memory.forget()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _watch(self, waves: int) -> int:
        """Called by compiled code when so many waves have run; 1 ends the program."""
        try:
            memory = self._memory
            if waves == 0:
                memory.begin(self._now.pointers, self._shared)
            else:
                self._look(self._waves[waves - 1])
            if waves < len(self._waves):
                memory.need(self._waves[waves])
                memory.spoil(self._waves[waves])
        except BaseException as error:  # nothing may pass through native code
            self._error = error
            return 1
        return 0

    def _look(self, wave: Sequence[KernelCase]) -> None:
        """Look at what a wave has done."""
        failed = bool(self._now.workspace.status[FAILED])
        for case in wave:
            self._check(case, failed=failed)
        memory = self._memory
        fault = memory.fault(wave)
        if fault is not None and not failed:
            self._raise(wrong_place(fault, memory))
        memory.keep(wave)

    def _check(self, case: KernelCase, *, failed: bool) -> None:
        """Compare one kernel's results.

        Args:
            failed: a run-time check or a host call of its wave has reported an error.
        """
        if case.is_collective:
            return  # to compute it again takes all processes
        wrong = wrong_result(case, self._memory, failed=failed)
        if wrong is not None:
            self._raise(wrong)

    def _raise(self, wrong: Wrong) -> NoReturn:
        raise wrong.error(self._graph, self._origin, self._sites) from wrong.cause


def checked_executable(graph: Graph, target: Target | None = None) -> CheckedExecutable:
    """Compile a graph, for its own sizes, to code that is checked when it runs.

    Raises: CompileError and what the passes raise.
    """
    from braze.ir.fingerprint import fingerprint
    from braze.runtime.compiler import compile_watched
    from braze.runtime.kept_objects import pool_object
    from braze.runtime.pool import get_pool
    from braze.runtime.recorder import Keeper

    record = Keeper(graph, fingerprint(graph))
    artifact, program, origin = compile_watched(graph, target or host_target(), record)
    get_pool(compile=pool_object)
    return CheckedExecutable(artifact, program, record.scheduled, graph, origin)
