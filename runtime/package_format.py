"""The file that a package is: a zip archive which nothing but this module needs to unpack.

    mimetype              what `file` and people recognise it by
    code/<target>/*.o     objects, the thread pool's among them; where calls choose a size, in a
                          folder for each range of sizes; for a GPU, kernels.cubin. Behind each
                          its seal (`braze.runtime.package_seal`)
    weights.safetensors   the parameters
    graph.ir              the captured graph as text
    compiled/*.ir         graphs that code was compiled from: as captured for its sizes, if that is
                          another one, and after what depends on weights alone was computed
    compiled.json         which code was compiled from which of them, and how
                          (`braze.runtime.package_recipes`); for people, nothing runs it
    manifest.json         everything else; where each entry lies, and its SHA-256
    archive comment       format version; where the manifest lies, and its SHA-256

Entries are stored, not compressed, and begin on multiples of 64, so they are read in place: weights
are never copied. Everything is checked against its hash before anything is believed, and the
format's version before that. Large entries have a hash for each piece of `PIECE` bytes, which
threads check side by side, while the code is loaded. FORMAT changes with this layout, with the
calling convention of compiled graphs, and with the thread pool's interface.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from braze.ir.errors import BrazeError
from braze.runtime.files import replacing
from braze.runtime.package_seal import binding, is_sealed, sealed, unsealed

FORMAT = 8
MIMETYPE = b"application/x-braze-package"
MANIFEST = "manifest.json"

PIECE = 1 << 20
_MOST_THREADS = 8
_ALIGNMENT = 64
# An extra field of a header that other tools skip: its kind is what Android's zipalign uses.
_PADDING = struct.Struct("<HH")
_PADDING_KIND = 0xD935
# A zip file's local header: its signature, and where names begin.
_LOCAL_SIGNATURE = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30
_START = b"mimetype" + MIMETYPE
_COMMENT = re.compile(rb"braze-package (\d{4}) (\d{16}) (\d{16}) ([0-9a-f]{64})")
_COMMENT_BYTES = len("braze-package ") + 4 + 1 + 16 + 1 + 16 + 1 + 64


# What reading facts raises that are not what they should be, though the hashes are right.
UNSOUND = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, ArithmeticError,
)  # fmt: skip

_Place = tuple[int, int, str | list[str]]  # offset, size, hash


class PackageError(BrazeError, ValueError):
    """A file is not a package, is damaged, or is not for this machine or this version."""


def write_archive(path: Path, manifest: dict[str, Any], entries: Mapping[str, bytes]) -> None:
    """Write a package beside its place and rename it into it; equal contents make equal files."""
    from zipfile import ZIP_STORED, ZipFile, ZipInfo

    def add(archive: ZipFile, name: str, data: bytes) -> dict[str, Any]:
        # No time: the default is the earliest that the format knows.
        info = ZipInfo(name)
        assert archive.fp is not None
        begin = archive.fp.tell() + _LOCAL_HEADER_BYTES + len(name.encode())
        if begin % _ALIGNMENT and begin > len(_START) + _LOCAL_HEADER_BYTES:
            fill = -(begin + _PADDING.size) % _ALIGNMENT
            info.extra = _PADDING.pack(_PADDING_KIND, fill) + bytes(fill)
        archive.writestr(info, data)
        # The archive stands right behind the entry's last byte.
        offset = archive.fp.tell() - len(data)
        return {"offset": offset, "size": len(data), "sha256": _digest(data)}

    others = {name: _digest(data) for name, data in entries.items() if not is_sealed(name)}
    bound = binding(manifest, others)
    entries = {
        name: sealed(bound, name, data) if is_sealed(name) else data
        for name, data in entries.items()
    }
    with replacing(path) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        add(archive, "mimetype", MIMETYPE)
        places = {name: add(archive, name, data) for name, data in entries.items()}
        text = json.dumps({**manifest, "entries": places}, indent=1).encode()
        place = add(archive, MANIFEST, text)
        archive.comment = (
            f"braze-package {FORMAT:04d} {place['offset']:016d} {place['size']:016d} "
            f"{place['sha256']}"
        ).encode()


class Archive:
    """A package's checked contents.

    manifest: what `write_archive` was given.

    Raises: PackageError, FileNotFoundError and other OSErrors.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        """
        Args:
            wait: for all checks. If not, `finish` does; until then entries of several pieces may
                not be what was written.
        """
        self.path = path
        self._data = _map(path)
        self._checks: list[tuple[str, _Hashes, list[str]]] = []
        format, offset, size, digest = self._comment()
        if format != FORMAT:
            raise PackageError(
                f"{path} has format {format}, this Braze reads format {FORMAT}; compile it again"
            )
        text = self._checked(MANIFEST, offset, size, digest)
        self.manifest, places = self._parsed(bytes(text))
        self._entries = {
            name: self._checked(name, offset, size, digest)
            for name, (offset, size, digest) in places.items()
        }
        others = {name: place[2] for name, place in places.items() if not is_sealed(name)}
        self._bound = binding(self.manifest, others)
        if wait:
            self.finish()

    def finish(self) -> None:
        """Wait until everything is checked.  Raises: PackageError."""
        while self._checks:
            name, hashes, digests = self._checks.pop()
            self._require_equal(name, hashes.all(), digests)

    def __getitem__(self, name: str) -> memoryview:
        """An entry's bytes, in place; code without its seal.

        Raises: KeyError; PackageError for code that belongs to another manifest or other entries.
        """
        data = self._entries[name]
        if not is_sealed(name):
            return data
        code = unsealed(self._bound, name, data)
        if code is None:
            raise PackageError(
                f"{self.path} is inconsistent: {name} was not made for this manifest and these "
                "weights"
            )
        return code

    def _comment(self) -> tuple[int, int, int, str]:
        """Format, place, size and hash of the manifest."""
        data, path = self._data, self.path
        start = data[_LOCAL_HEADER_BYTES : _LOCAL_HEADER_BYTES + len(_START)]
        if data[: len(_LOCAL_SIGNATURE)] != _LOCAL_SIGNATURE or start != _START:
            raise PackageError(f"{path} is not a Braze package")
        found = _COMMENT.fullmatch(data[-_COMMENT_BYTES:])
        if found is None:
            raise PackageError(f"{path} is truncated, or damaged at its end")
        return int(found[1]), int(found[2]), int(found[3]), found[4].decode()

    def _parsed(self, text: bytes) -> tuple[dict[str, Any], dict[str, _Place]]:
        """The manifest, and where the entries lie and their hashes."""
        try:
            manifest = json.loads(text)
            places = {
                name: (place["offset"], place["size"], place["sha256"])
                for name, place in manifest.pop("entries").items()
            }
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise PackageError(f"{self.path} has no manifest: {error!r}") from None
        for name, (offset, size, digest) in places.items():
            texts = digest if isinstance(digest, list) else [digest]
            if not (
                type(offset) is int and type(size) is int and offset >= 0 and size >= 0
            ) or not all(isinstance(own, str) for own in texts):
                raise PackageError(f"{self.path} has no manifest: it does not say where {name} is")
        return manifest, places

    def _checked(self, name: str, offset: int, size: int, digest: str | list[str]) -> memoryview:
        if offset + size > len(self._data):
            raise PackageError(f"{self.path} is damaged: {name} lies outside the file")
        content = memoryview(self._data)[offset : offset + size]
        if isinstance(digest, list):
            self._checks.append((name, _Hashes(_pieces(content)), digest))
        else:
            found = [sha256(piece).hexdigest() for piece in _pieces(content)]
            self._require_equal(name, found, [digest])
        return content

    def _require_equal(self, name: str, found: list[str], digests: list[str]) -> None:
        if found != digests:
            raise PackageError(f"{self.path} is damaged: {name} is not what was written")


def _digest(data: bytes) -> str | list[str]:
    """An entry's hash, or those of its pieces."""
    hashes = [sha256(piece).hexdigest() for piece in _pieces(memoryview(data))]
    return hashes[0] if len(hashes) == 1 else hashes


def _pieces(data: memoryview) -> list[memoryview]:
    """What is hashed as one: at least one piece."""
    return [data[at : at + PIECE] for at in range(0, max(1, len(data)), PIECE)]


class _Hashes:
    """The hashes of some pieces, which threads compute from now on."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces
        self._found = [""] * len(pieces)
        self._left = iter(range(len(pieces)))  # taking the next one is atomic
        self._helpers = []
        for _ in range(min(len(os.sched_getaffinity(0)) - 1, len(pieces), _MOST_THREADS)):
            busy = allocate_lock()
            busy.acquire()
            self._helpers.append(busy)
            # Not a `Thread`, whose `start` waits until the other thread runs.
            start_new_thread(self._help, (busy,))

    def _help(self, busy: LockType) -> None:
        try:
            self._work()
        finally:
            busy.release()

    def _work(self) -> None:
        for number in self._left:
            self._found[number] = sha256(self._pieces[number]).hexdigest()

    def all(self) -> list[str]:
        """Of all pieces, in order; this thread helps."""
        self._work()
        for busy in self._helpers:
            busy.acquire()
        return self._found


def _map(path: Path) -> bytes | mmap.mmap:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
