"""Compiling in another process while the program goes on.

In: a graph.  Out: a `Job`, whose reply comes when it is ready; asking costs microseconds.

Another process, since most of compiling is Python: a thread would share the interpreter's lock with
the program, which lets go of it at every NumPy call and would wait for it to come back each time.
The process is started when it is first needed and ends when it is idle; see
`braze.runtime.background_process`. A job whose process is gone is lost; the program then compiles
the graph itself, as it does where no process can be started.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref
from importlib.util import find_spec
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import overload

from braze.ir.graph import Graph
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.background_process import Reply, Request
from braze.runtime.config import config
from braze.runtime.environment import environment
from braze.runtime.sized_texts import Fit

# After the standard library, before whatever else is installed.
_PROGRAM = """
import sys
at = [i for i, path in enumerate(sys.path) if path.endswith("-packages")]
at = min(at, default=len(sys.path))
sys.path[at:at] = {paths!r}
from braze.runtime.background_process import serve
serve({descriptor})
"""
# What the compiler imports; it must be the program's own, wherever that found it.
_PACKAGES = ("braze", "numpy", "llvmlite", "networkx")
# So long it is busy with starting.
_STARTING_SECONDS = 0.7
_SENT_SETTINGS = ("cache_dir", "cache_bytes", "num_threads")


class Job:
    """A graph that is being compiled.

    Attributes:
        was_awaited: somebody has waited for it already.
    """

    __slots__ = ("__weakref__", "_compiler", "_end", "number", "reply", "was_awaited")

    def __init__(self, compiler: _Compiler, number: int, seconds: float) -> None:
        self._compiler = compiler
        self._end = time.perf_counter() + seconds
        self.number = number
        self.reply: Reply | None = None
        self.was_awaited = False

    def remaining(self) -> float:
        """Seconds that it should still take, by the guess that it was given."""
        return self._end - time.perf_counter()

    def poll(self) -> Reply | None:
        """The reply, if it is there."""
        if self.reply is None:
            self._compiler.receive(self, 0)
        return self.reply

    @overload
    def wait(self) -> Reply: ...
    @overload
    def wait(self, timeout: float) -> Reply | None: ...
    def wait(self, timeout: float | None = None) -> Reply | None:
        """The reply, as soon as it is there; None if that takes more than so many seconds."""
        self.was_awaited = True
        end = None if timeout is None else time.perf_counter() + timeout
        while self.reply is None:
            left = None if end is None else end - time.perf_counter()
            if left is not None and left <= 0:
                return self.poll()
            self._compiler.receive(self, left)
        return self.reply


class _Compiler:
    """A compiling process, as the program sees it.  Raises: OSError if it cannot be started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the connection's reading end
        self._sending = threading.Lock()
        self._jobs: weakref.WeakValueDictionary[int, Job] = weakref.WeakValueDictionary()
        self._made = 0
        self.ended = ""  # why it takes no more jobs
        self._started = time.perf_counter()
        self._connection, theirs = Pipe()
        try:
            self._process = _start(theirs)
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()

    def submit(
        self,
        graph: Graph,
        target: Target,
        key: str,
        wants_pool: bool,
        seconds: float,
        family: tuple[Fit, Point] | None,
    ) -> Job | None:
        """Hand over a graph; None if the process has ended."""
        self._look(None)
        with self._sending:
            if self.ended:
                return None
            self._made += 1
            job = self._jobs[self._made] = Job(self, self._made, seconds)
            settings = {name: getattr(config, name) for name in _SENT_SETTINGS}
            text, facts = str(graph), (target.to_text(), key, settings, environment(), wants_pool)
            try:
                self._connection.send(Request(job.number, text, *facts, family))
            except OSError:
                self._end("it has ended")
                return None
            except BaseException:  # an interrupt, perhaps in the middle of the request
                self._end("a request to it was interrupted")
                raise
            return job

    def receive(self, job: Job, timeout: float | None) -> None:
        """Take what has come in, after waiting for something for at most so many seconds."""
        if timeout != 0 and not self.ended:
            try:
                self._connection.poll(timeout)
            except OSError:
                pass  # ended by another thread
        self._look(job)
        if self.ended and job.reply is None:
            job.reply = Reply(job.number, lost=self.ended)

    def _look(self, job: Job | None) -> None:
        if not self._lock.acquire(blocking=False):
            return  # another thread does
        try:
            while not self.ended and (job is None or job.reply is None):
                if not self._connection.poll():
                    return
                reply = pickle.loads(self._connection.recv_bytes())
                if (found := self._jobs.get(reply.number)) is not None:
                    found.reply = reply
        except (EOFError, OSError):
            self._end("it has ended")
            self._report()
        except BaseException:  # an interrupt, in the middle of a reply
            self._end("a reply of it was interrupted")
            raise
        finally:
            self._lock.release()

    def _report(self) -> None:
        """Warn of an end that should not have come; there will be no further process then."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return
        if code:
            _background.refused = True
            warnings.warn(
                f"the process that compiles graphs has ended with {code}; from now on they are "
                "compiled in the foreground",
                RuntimeWarning,
                stacklevel=2,
            )

    def _end(self, why: str) -> None:
        self.ended = why
        self._connection.close()

    def is_busy(self) -> bool:
        """Whether it has anything to compile, or is only just starting."""
        self._look(None)
        if self.ended:
            return False
        is_new = time.perf_counter() < self._started + _STARTING_SECONDS
        return is_new or any(job.reply is None for job in list(self._jobs.values()))

    def leave(self) -> None:
        """At the end of the program: the process sees that, and comes to its own."""
        self._connection.close()
        self._process.returncode = self._process.poll() or 0  # nobody need wait for it

    def forget(self) -> None:
        """In a forked child: the process is the parent's, who alone may keep it."""
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._process.returncode = 0
        self._end("it is the parent's")


def _start(connection: Connection) -> subprocess.Popen[bytes]:
    descriptor = connection.fileno()
    program = _PROGRAM.format(paths=_paths(), descriptor=descriptor)
    return subprocess.Popen(
        [sys.executable, "-I", "-c", program],
        pass_fds=[descriptor],
        start_new_session=True,  # an interrupt from the keyboard is not for it
        stdin=subprocess.DEVNULL,
        # Whoever reads the program's output until its end is not to wait for this process.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _paths() -> list[str]:
    """Where the compiler's packages lie."""
    paths: dict[str, None] = {}
    for package in _PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            paths[str(Path(os.path.abspath(spec.origin)).parent.parent)] = None
    return list(paths)


class _Background:
    """This process's compiler, if it has one.

    Attributes:
        refused: no process can be started, or one has failed.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._compiler: _Compiler | None = None
        self.refused = not _can_start_python()
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self._leave)

    def compiler(self) -> _Compiler | None:
        """The process, started if need be; None if there is to be none."""
        with self._lock:
            if self.refused:
                return None
            if self._compiler is None or self._compiler.ended:
                try:
                    self._compiler = _Compiler()
                except OSError as error:
                    self.refused = True
                    warnings.warn(
                        f"graphs are compiled in the foreground: no process starts ({error})",
                        RuntimeWarning,
                        stacklevel=2,
                    )
            return self._compiler

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        if self._compiler is not None:
            self._compiler.forget()
            self._compiler = None

    def _leave(self) -> None:
        if self._compiler is not None:
            self._compiler.leave()


def _can_start_python() -> bool:
    """Whether `sys.executable` is a Python that can be asked to run a program."""
    name = os.path.basename(sys.executable or "")
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


_background = _Background()


def is_busy() -> bool:
    """Whether a graph is being compiled beside the program."""
    compiler = _background._compiler
    return compiler is not None and compiler.is_busy()


def start_early() -> None:
    """Start the process, which takes a moment, before there is anything to compile."""
    _background.compiler()


def submit(
    graph: Graph,
    target: Target,
    key: str,
    wants_pool: bool,
    seconds: float,
    family: tuple[Fit, Point] | None = None,
) -> Job | None:
    """Have a graph compiled beside the program; None if it must compile the graph itself.

    Args:
        key: of the disk cache's entry.
        wants_pool: the thread pool's code is wanted, too.
        seconds: what it may take.
        family: the graph's family and its size, if it is to be compiled for other sizes as well.
    """
    for _ in range(2):  # the process may just be ending, for it had nothing to do
        compiler = _background.compiler()
        if compiler is None:
            return None
        job = compiler.submit(graph, target, key, wants_pool, seconds, family)
        if job is not None:
            return job
    return None
