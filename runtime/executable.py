"""A compiled graph in memory, and its one native call.

In: an `Artifact`.  Out: an `Executable`, whose `run` writes the outputs' storages.

A call costs Python a few microseconds: the pointers go into a block that is made once, Python
numbers into another by one `pack_into`, and the native code does the rest in one foreign call.
"""

from __future__ import annotations

import ctypes
import functools
import linecache
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from braze.ir.dtypes import DType, dtype_named
from braze.ir.errors import BrazeError, failed_check
from braze.ir.graph import Location
from braze.ir.scalars import narrowed
from braze.ir.target import FAILED, FINISHED, HOST, VALUE
from braze.runtime.artifact import Artifact, Slot
from braze.runtime.object_loader import LoadedObject
from braze.runtime.places import Place, current_place
from braze.runtime.pool import get_pool
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
from braze.runtime.workspace import Workspace, cpu_workspace

if TYPE_CHECKING:
    from braze.runtime.host_calls import HostCalls

Input = Storage | int | float | bool
# The user's line of a captured node in this call: by position among the graph's nodes.
Sites = Callable[[int], Location | None] | Sequence[Location | None]

# The word of the status block in which compiled code looks for the host calls' function.
_SCALAR_BYTES = 8
# One word each, little-endian. A number that `struct` refuses goes the long way, see `_converted`.
_SCALAR_FORMATS = {
    "bool": "?7x", "u8": "B7x", "u32": "I4x", "i8": "b7x", "i16": "h6x", "i32": "i4x", "i64": "q",
    "u16": "H6x", "u64": "Q",
    "f16": "e6x", "f32": "f4x", "f64": "d", "bf16": "8s",
}  # fmt: skip


class Resident:
    """The last inputs of a graph, where they stay in the same memory from call to call: their
    addresses are put together once.

    storages: of all inputs behind those that a call brings; none of them a number.
    """

    __slots__ = ("packed", "storages")

    def __init__(self, storages: Sequence[Storage]) -> None:
        self.storages = list(storages)
        self.packed = struct.pack(f"@{len(storages)}N", *[s.address for s in storages])


_Main = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class Executable:
    """Machine code of one graph, ready to be called.

    Calls from several threads are serialised, since they share the arena, unless each is in a place
    of its own (`braze.runtime.places`).
    Raises: ObjectError if the objects cannot be loaded.
    """

    def __init__(self, artifact: Artifact, workspace: Workspace = cpu_workspace) -> None:
        self.artifact = artifact
        self._code = _code_of(artifact.objects, artifact.main)
        self._main = self._code.main
        self._counts = len(artifact.inputs), len(artifact.outputs)
        self._pack = struct.Struct(f"@{sum(self._counts)}N").pack_into
        self._call = _Call(artifact, workspace)
        self._calls: dict[Workspace, _Call] = {}  # of places

    def run(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[Storage],
        sites: Sites | None = None,
        resident: Resident | None = None,
    ) -> None:
        """Compute the outputs.

        Args:
            inputs: a storage for each input, a Python number for those of role "scalar".
            outputs: a storage for each output; an aliased one is its input's storage.
            sites: the user's lines in this call, for an error's message.
            resident: the inputs behind `inputs`, if these are not all.

        Raises:
            IndexError: an index was out of range. Outputs may be partly written then.
            DivisorError: integers were divided by zero; the same holds.
            LinAlgError, or another error of a host call; the same holds.
            ValueError: too many or too few inputs or outputs.
            What a signal's handler raises (KeyboardInterrupt) surfaces only after the native call;
            if that call wrote the outputs, the exception has an attribute `graph_finished`.
        """
        count = len(inputs) if resident is None else len(inputs) + len(resident.storages)
        if (count, len(outputs)) != self._counts:
            raise ValueError(self._wrong_count(count, len(outputs)))
        place = current_place()
        call = self._call if place is None else self._call_in(place.workspace)
        scalars = call.scalars
        with call.workspace.lock:
            if scalars.positions:
                inputs = scalars.fill(inputs)
            given = [storage.address for storage in inputs]  # type: ignore[union-attr]
            made = [storage.address for storage in outputs]
            self._run_at(call, place, given, made, resident, sites)

    def run_at(
        self, given: Sequence[int], made: Sequence[int], resident: Resident | None = None
    ) -> None:
        """`run` with the addresses of the inputs and outputs, as many as there are; no input has
        the role "scalar"."""
        place = current_place()
        call = self._call if place is None else self._call_in(place.workspace)
        with call.workspace.lock:
            self._run_at(call, place, given, made, resident, None)

    def _run_at(
        self,
        call: _Call,
        place: Place | None,
        given: Sequence[int],
        made: Sequence[int],
        resident: Resident | None,
        sites: Sites | None,
    ) -> None:
        """The native call; the caller has the workspace's lock."""
        workspace = call.workspace
        if resident is None:
            self._pack(call.pointers, 0, *given, *made)
        else:
            pack = _packing(len(given), len(resident.packed), len(made))
            pack(call.pointers, 0, *given, resident.packed, *made)
        pool = get_pool() if place is None else place.pool()
        if call.generation != workspace.generation or call.threads != pool.threads:
            call.reserve(pool.threads)
        # Here and not after a failure: an interrupt may come before that is looked at.
        status = workspace.status
        status[FAILED] = status[FINISHED] = 0
        if call.host_calls is not None:
            status[HOST] = call.host_calls.address
        try:
            self._main(call.address, pool.address)
            stats.native_calls += 1
        except BaseException as error:
            if status[FINISHED]:
                error.graph_finished = True  # type: ignore[attr-defined]
            if call.host_calls is not None and call.host_calls.leave_memory():
                workspace.leave_arena()
            raise
        if status[FAILED]:
            if call.host_calls is not None and call.host_calls.leave_memory():
                workspace.leave_arena()
            raise self._failure(status[FAILED], status[VALUE], sites, call.host_calls)

    def _call_in(self, workspace: Workspace) -> _Call:
        call = self._calls.get(workspace)
        if call is None:
            call = self._calls.setdefault(workspace, _Call(self.artifact, workspace))
        return call

    def _wrong_count(self, inputs: int, outputs: int) -> str:
        return (
            f"graph @{self.artifact.name} takes {self._counts[0]} inputs and {self._counts[1]} "
            f"outputs, given {inputs} and {outputs}"
        )

    def _host_failure(
        self, number: int, sites: Sites | None, host_calls: HostCalls
    ) -> BaseException:
        error = host_calls.take_error()
        location = host_calls.calls[number].location
        node = self.artifact.calls[number].node
        if sites is not None and node >= 0:
            location = site_of(sites, node) or location
        if isinstance(error, BrazeError):
            return type(error)(f"{error}{place(location)}")
        error.add_note(f"in host call {number} of graph @{self.artifact.name}{place(location)}")
        return error

    def _failure(
        self, code: int, value: int, sites: Sites | None, host_calls: HostCalls | None
    ) -> BaseException:
        if code < 0 and host_calls is not None:
            return self._host_failure(-1 - code, sites, host_calls)
        failures = self.artifact.failures
        if not 1 <= code <= len(failures):
            return RuntimeError(f"graph @{self.artifact.name} reported unknown failure {code}")
        site = failures[code - 1]
        location = site.location
        if sites is not None and site.node >= 0:
            location = site_of(sites, site.node) or location
        error = failed_check(site.message, value, site.low, site.high)
        return type(error)(f"{error}{place(location)}")


class _Code:
    """Loaded objects, and their entry point. The code's memory is the objects'."""

    __slots__ = ("__weakref__", "loaded", "main")

    def __init__(self, objects: Sequence[bytes], main: str) -> None:
        self.loaded = LoadedObject(objects)
        self.main = _Main(self.loaded.address(main))


# Code for many sizes is loaded once.
_codes: WeakValueDictionary[tuple[str, tuple[bytes, ...]], _Code] = WeakValueDictionary()


def _code_of(objects: tuple[bytes, ...], main: str) -> _Code:
    code = _codes.get((main, objects))
    if code is None:
        code = _codes[main, objects] = _Code(objects, main)
    return code


@functools.cache
def _packing(given: int, packed: int, made: int) -> Callable[..., None]:
    """Writes addresses, bytes of addresses, and addresses."""
    return struct.Struct(f"@{given}N{packed}s{made}N").pack_into


class _Call:
    """What one call at a time fills in: the pointers and numbers that compiled code is given; the
    words behind the pointers are the same for all."""

    def __init__(self, artifact: Artifact, workspace: Workspace) -> None:
        buffers = len(artifact.inputs) + len(artifact.outputs)
        self.workspace = workspace
        self.pointers = (ctypes.c_size_t * (buffers + 3 + len(artifact.words)))()
        self.pointers[buffers + 3 :] = list(artifact.words)
        self.address = ctypes.addressof(self.pointers)
        self.scalars = _Scalars(artifact.inputs)
        self.host_calls: HostCalls | None = None
        if artifact.calls:  # what they need takes longer to load than many a package
            from braze.runtime.host_calls import HostCalls

            self.host_calls = HostCalls(artifact.calls)
        self._needs = artifact.arena_bytes, artifact.scratch_bytes
        self._pack_memory = struct.Struct("@3N").pack_into
        self._memory_offset = 8 * buffers
        # The workspace's generation and the threads that the last `reserve` was for.
        self.generation = self.threads = -1

    def reserve(self, threads: int) -> None:
        """Have the workspace large enough, for as long as its generation is what it is then."""
        workspace, (arena, scratch) = self.workspace, self._needs
        workspace.reserve(arena, scratch * threads)
        if workspace.generation != self.generation:
            self._pack_memory(self.pointers, self._memory_offset, *workspace.addresses)
            self.generation = workspace.generation
        self.threads = threads


def site_of(sites: Sites, node: int) -> Location | None:
    """The user's line of a node of the captured graph."""
    return sites(node) if callable(sites) else sites[node]


def place(location: Location | None) -> str:
    """What an error's message ends in: the user's line, its text, and the layer."""
    if location is None:
        return ""
    text = linecache.getline(location.file, location.line).strip()
    line = f"\n  at {location.file}:{location.line}" + (f": {text}" if text else "")
    return line + (f"\n  in {location.scope}" if location.scope else "")


class _Scalars:
    """The words that hold a call's Python numbers; each has an `address` as a storage has."""

    def __init__(self, inputs: Sequence[Slot]) -> None:
        self.positions = tuple(i for i, slot in enumerate(inputs) if slot.role == "scalar")
        self._dtypes = [dtype_named(inputs[i].dtype) for i in self.positions]
        self._format = struct.Struct("<" + "".join(_SCALAR_FORMATS[d.name] for d in self._dtypes))
        self._words = (ctypes.c_uint64 * max(1, len(self.positions)))()
        start = ctypes.addressof(self._words)
        words = [_Word(start + _SCALAR_BYTES * i) for i in range(len(self.positions))]
        self._places = tuple(zip(self.positions, words, strict=True))

    def fill(self, inputs: Sequence[Input]) -> list[Input]:
        """Write the numbers; the inputs with words in their places."""
        filled: list[Input] = list(inputs)
        numbers = []
        for position, word in self._places:
            numbers.append(filled[position])
            filled[position] = word  # type: ignore[call-overload]
        try:
            self._format.pack_into(self._words, 0, *numbers)
        except (struct.error, OverflowError, TypeError):
            converted = map(_converted, numbers, self._dtypes)
            for i, number in enumerate(converted):
                self._words[i] = int.from_bytes(number, "little")
        return filled


class _Word:
    """Where one number lies."""

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address


def _converted(number: Input, dtype: DType) -> bytes:
    """A number as the bytes of its dtype, out of range as the interpreter has it: wrapped, or inf.

    Raises: TypeError if it is no number.
    """
    if not isinstance(number, (int, float, np.generic)):
        raise TypeError(f"a scalar input must be a Python number, given {type(number).__name__}")
    narrow = narrowed(number, dtype)
    return narrow.tobytes().ljust(_SCALAR_BYTES, b"\0")
