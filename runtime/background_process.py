"""The process that compiles while the program goes on: the far end of `braze.runtime.background`.

In: requests on a connection.  Out: for each a `Reply`, in their order; the disk's entry is written
here.  It has its own interpreter, so the passes take no time from the program's.

It ends once nothing came for a while, or when the program does. What is being compiled then is
still finished for the disk, or a program that always ends sooner would never be compiled.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from braze.ir.polynomials import Point
from braze.runtime.sized_texts import Fit
from braze.runtime.symbolic_code import SymbolicCode

IDLE_SECONDS = 20.0
_NICENESS = 10  # of what nobody waits for


@dataclass(frozen=True, slots=True)
class Request:
    """A graph to compile.

    Attributes:
        number: the reply's.
        graph, target: as text.
        key: of the disk's entry.
        settings: the configuration that compiling depends on.
        environment: the compiler's, which must be this process's too.
        wants_pool: the pool's code is to come along.
        family: the graph's family and its size, if it is to be compiled for other sizes as well.
    """

    number: int
    graph: str
    target: str
    key: str
    settings: dict[str, Any]
    environment: dict[str, str]
    wants_pool: bool
    family: tuple[Fit, Point] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request.

    Attributes:
        number: the request's.
        facts, objects: of the `Artifact`.
        code: for other sizes as well. refusal: why there is none.
        pool: the pool's object code, if it was asked for.
        seconds: what compiling took.
        warnings: to be given where the program sees them.
        error: why there is no code.
        lost: why this process could not even try: the program has to compile the graph itself.
    """

    number: int
    facts: dict[str, Any] | None = None
    objects: tuple[bytes, ...] = ()
    code: SymbolicCode | None = None
    refusal: str = ""
    pool: bytes | None = None
    seconds: float = 0.0
    warnings: tuple[Warning, ...] = ()
    error: Exception | None = None
    lost: str = ""


class _Orphaned(Exception):
    """The program has ended."""


class _Server:
    """Reads in one thread, so that the program's end is seen while another compiles."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._orphaned = False
        self._finishing = False  # something that is worth finishing, whoever waits for it

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        _prepare()
        while True:
            try:
                request = self._requests.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                return
            if request is None:
                return
            # A sixth of the time would go into looking for cycles among what is still in use.
            gc.disable()
            try:
                self._connection.send_bytes(_pickled(self._answer(request)))
            except (OSError, _Orphaned):
                return
            gc.enable()
            gc.collect()

    def _read(self) -> None:
        while True:
            try:
                self._requests.put(self._connection.recv())
            except (EOFError, OSError):
                break
        with self._lock:
            self._orphaned = True
            if not self._finishing:
                os._exit(0)
        os.nice(_NICENESS)

    def _answer(self, request: Request) -> Reply:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                reply = self._compiled(request)
            except _Orphaned:
                raise
            except Exception as error:
                error.add_note("in the compiler's process:\n" + traceback.format_exc())
                reply = Reply(request.number, error=error)
        if not caught:
            return reply
        given = tuple(w.message for w in caught if isinstance(w.message, Warning))
        return replace(reply, warnings=given)

    def _compiled(self, request: Request) -> Reply:
        from braze.ir.errors import ParseError
        from braze.ir.parser import parse_graph
        from braze.ir.target import Target
        from braze.runtime.compiler import compile_member
        from braze.runtime.config import config
        from braze.runtime.environment import environment
        from braze.runtime.families import family_key
        from braze.runtime.kept_objects import disk_cache, pool_object
        from braze.runtime.stored_sizes import keep_compiled

        start = time.perf_counter()
        for name, value in request.settings.items():
            setattr(config, name, value)
        if environment() != request.environment:
            return Reply(request.number, lost="its compiler is another one")
        try:
            graph = parse_graph(request.graph)
        except ParseError as error:  # an operation that the program has declared
            return Reply(request.number, lost=f"it cannot read the graph: {error}")
        disk = disk_cache()
        if disk is not None:
            _make(disk.directory)
        self._keep_on(disk is not None)
        target = Target.from_text(request.target)
        artifact, code, refusal = compile_member(graph, target, request.family)
        seconds = time.perf_counter() - start
        pool = pool_object() if request.wants_pool else None
        # The directory may have gone with the program, and is not to come back then.
        if disk is not None and (not self._orphaned or disk.directory.is_dir()):
            own = family_key(graph, target)
            keep_compiled(disk, request.key, own, artifact, code)
        self._keep_on(False)
        return Reply(
            request.number, artifact.facts(), artifact.objects, code, refusal, pool, seconds
        )

    def _keep_on(self, finishing: bool) -> None:
        """What is done from now on is worth finishing, or no longer."""
        with self._lock:
            self._finishing = finishing
            if self._orphaned:
                raise _Orphaned


def _prepare() -> None:
    """Read in the compiler, before there is anything to compile."""
    from braze.codegen.llvm import program, symbolic_check  # noqa: F401
    from braze.passes import symbolic  # noqa: F401
    from braze.runtime import compiler  # noqa: F401
    from braze.runtime.environment import environment

    environment()


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        pass  # `store` says so


def _pickled(reply: Reply) -> bytes:
    """The reply as bytes; an exception that cannot be sent is told in words."""
    try:
        data = pickle.dumps(reply)
        if reply.error is not None:
            pickle.loads(data)
        return data
    except Exception:
        error = RuntimeError(f"{type(reply.error).__name__}: {reply.error}")
        for note in getattr(reply.error, "__notes__", ()):
            error.add_note(note)
        return pickle.dumps(Reply(reply.number, error=error))


def serve(descriptor: int) -> None:
    """Answer the requests that come on a socket, until the program ends or asks no more."""
    with Connection(descriptor) as connection:
        _Server(connection).run()
    os._exit(0)  # the reading thread is of no interest, nor is what the compiler would tidy up
