"""The zip file that a saved object is: records under one folder, stored and never compressed.

    archive/data.pkl            the object, with storages by number
    archive/data/0, 1, ...      the storages' bytes
    archive/byteorder, version  how to read them

Written here with every record's data on a multiple of 64 bytes, so that a mapped file's storages
are aligned; Python's own zip module cannot do that, nor does it promise to survive hostile files.

Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import zlib
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from braze.serialization.sources import Source

ALIGNMENT = 64

_LOCAL = Struct("<4s5H3I2H")
_CENTRAL = Struct("<4s6H3I5H2I")
_END = Struct("<4s4H2IH")
_END_64 = Struct("<4sQ2H2I4Q")
_LOCATOR = Struct("<4sIQI")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END_64_MARK, _LOCATOR_MARK = b"PK\6\6", b"PK\6\7"
_BIG, _MANY = 0xFFFFFFFF, 0xFFFF
_JANUARY_1980 = 0x21
_UTF8 = 0x800
_FIELD = Struct("<HH")  # what an extra field begins with: its number and length
_SIZES = Struct("<HH2Q")  # the extra field for what does not fit in 32 bits
_QUAD = Struct("<Q")
_SIZES_ID, _PADDING_ID = 1, 0x4246


class ArchiveWriter:
    """Writes records one after the other; `finish` writes the directory.

    Args:
        file: where `write` takes bytes; nothing else is asked of it.
        folder: what all records are under.
    """

    def __init__(self, file: Any, folder: str) -> None:
        self._write = file.write
        self._folder = folder
        self._at = 0
        self._directory: list[bytes] = []

    def record(self, name: str, data: Any) -> None:
        """Write a record."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        path = f"{self._folder}/{name}".encode()
        size, start = view.nbytes, self._at
        check = zlib.crc32(view)
        small = size < _BIG
        sizes = b"" if small else _SIZES.pack(_SIZES_ID, 16, size, size)
        extra = sizes + _padding(start + _LOCAL.size + len(path) + len(sizes))
        shown = size if small else _BIG
        common = (_UTF8, 0, 0, _JANUARY_1980, check, shown, shown, len(path))
        version = 20 if small else 45
        self._put(_LOCAL.pack(_LOCAL_MARK, version, *common, len(extra)) + path + extra)
        self._put(view)
        fields = b"" if small else _QUAD.pack(size) * 2
        if start >= _BIG:
            fields += _QUAD.pack(start)
        if fields:
            fields = _FIELD.pack(_SIZES_ID, len(fields)) + fields
        entry = (*common, len(fields), 0, 0, 0, 0, min(start, _BIG))
        self._directory.append(_CENTRAL.pack(_CENTRAL_MARK, 45, version, *entry) + path + fields)

    def finish(self) -> None:
        """Write the directory."""
        start, count = self._at, len(self._directory)
        self._put(b"".join(self._directory))
        size, end = self._at - start, self._at
        if start >= _BIG or size >= _BIG or count >= _MANY:
            whole = (count, count, size, start)
            self._put(_END_64.pack(_END_64_MARK, _END_64.size - 12, 45, 45, 0, 0, *whole))
            self._put(_LOCATOR.pack(_LOCATOR_MARK, 0, end, 1))
        shown = min(count, _MANY)
        last = (0, 0, shown, shown, min(size, _BIG), min(start, _BIG), 0)
        self._put(_END.pack(_END_MARK, *last))

    def _put(self, data: Any) -> None:
        self._write(data)
        self._at += len(data)


def _padding(start: int) -> bytes:
    """An extra field that moves what begins at `start` to a multiple of ALIGNMENT."""
    missing = -(start + _FIELD.size) % ALIGNMENT
    return _FIELD.pack(_PADDING_ID, missing) + b"Z" * missing


class Record(NamedTuple):
    """Where a record's bytes are in the file, and their checksum."""

    start: int
    size: int
    check: int


def is_archive(head: bytes) -> bool:
    """Does a file with these first bytes claim to be one?"""
    return head[:4] == _LOCAL_MARK


def _damaged(what: str) -> RuntimeError:
    return RuntimeError(f"failed reading the zip archive: {what}. The file is damaged")


class ArchiveReader:
    """The records of a file.

    Attributes:
        folder: what all records are under.

    Raises:
        RuntimeError: it is damaged, or something that nobody writes for honest reasons: compressed
            or encrypted records, two of one name, or records that overlap or are outside the file.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        try:
            start, size, count = self._find_directory()
            self._records = self._read_directory(start, size, count)
        except (StructError, UnicodeDecodeError) as error:
            raise _damaged(f"its directory cannot be read ({error})") from None
        if not self._records:
            raise _damaged("it has no records")
        self.folder = next(iter(self._records)).split("/", 1)[0]

    def __contains__(self, name: str) -> bool:
        return f"{self.folder}/{name}" in self._records

    def record(self, name: str) -> Record:
        """Where a record is.  Raises: RuntimeError if there is none."""
        try:
            return self._records[f"{self.folder}/{name}"]
        except KeyError:
            raise _damaged(f"file not found: {self.folder}/{name}") from None

    def read(self, name: str) -> bytes:
        """A record's bytes, checked."""
        found = self.record(name)
        data = self._source.read(found.start, found.size)
        self.check(name, data)
        return data

    def read_into(self, name: str, target: memoryview) -> None:
        """A record's bytes, checked, into memory of its size."""
        self._source.read_into(self.record(name).start, target)
        self.check(name, target)

    def check(self, name: str, data: Any) -> None:
        """Raises: RuntimeError unless the bytes are those that were written."""
        # (PyTorch writes no checksum on request.)
        expected = self.record(name).check
        if expected and zlib.crc32(data) != expected:
            raise _damaged(f"the checksum of {self.folder}/{name} is wrong")

    def _find_directory(self) -> tuple[int, int, int]:
        """Start, size and number of records."""
        size = self._source.size
        begin = max(0, size - _END.size - _MANY)
        tail = self._source.read(begin, size - begin)
        found = tail.rfind(_END_MARK)
        if found < 0:
            raise _damaged("not a ZIP archive, or cut off: it has no directory")
        _, disk, _, _, count, length, start, _ = _END.unpack_from(tail, found)
        if disk not in (0, _MANY):
            raise _damaged("it is one of several parts")
        if _BIG in (length, start) or count == _MANY:
            locator = found - _LOCATOR.size
            if locator >= 0 and tail[locator : locator + 4] == _LOCATOR_MARK:
                _, _, at, _ = _LOCATOR.unpack_from(tail, locator)
                values = _END_64.unpack(self._inside(at, _END_64.size, "the directory's end"))
                count, length, start = values[7], values[8], values[9]
        return start, length, count

    def _inside(self, start: int, size: int, what: str) -> bytes:
        if start + size > self._source.size:
            raise _damaged(f"{what} lies outside the file")
        return self._source.read(start, size)

    def _read_directory(self, start: int, length: int, count: int) -> dict[str, Record]:
        data = self._inside(start, length, "its directory")
        records: dict[str, Record] = {}
        spans: list[tuple[int, int]] = []
        at = 0
        for _ in range(count):
            mark, _, _, flags, method, _, _, check, packed, size, *rest = _CENTRAL.unpack_from(
                data, at
            )
            name_size, extra_size, note_size, _, _, _, header = rest
            if mark != _CENTRAL_MARK:
                raise _damaged("its directory is not one")
            at += _CENTRAL.size
            name = data[at : at + name_size].decode()
            extra = data[at + name_size : at + name_size + extra_size]
            at += name_size + extra_size + note_size
            size, packed, header = _wide(extra, size, packed, header)
            if flags & 1 or method or packed != size:
                raise RuntimeError(
                    f"record {name!r} is compressed or encrypted; saved objects are neither, so "
                    "this one is not read"
                )
            if name in records:
                raise _damaged(f"two records have the name {name!r}")
            records[name] = Record(self._data_start(name, header, size), size, check)
            spans.append((header, records[name].start + size))
        _check_apart([*spans, (start, start + length)])
        return records

    def _data_start(self, name: str, header: int, size: int) -> int:
        local = _LOCAL.unpack(self._inside(header, _LOCAL.size, f"record {name!r}"))
        if local[0] != _LOCAL_MARK:
            raise _damaged(f"record {name!r} does not begin where the directory says")
        start: int = header + _LOCAL.size + local[9] + local[10]
        if start + size > self._source.size:
            raise _damaged(f"record {name!r} lies outside the file")
        return start


def _wide(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Sizes and place, from the extra field where they need 64 bits."""
    values = [size, packed, header]
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, length = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if kind == _SIZES_ID:
            inside = at
            for i, value in enumerate(values):
                if value == _BIG:
                    (values[i],) = _QUAD.unpack_from(extra[: at + length], inside)
                    inside += 8
        at += length
    return values[0], values[1], values[2]


def _check_apart(spans: list[tuple[int, int]]) -> None:
    """Raises: RuntimeError if two spans overlap: a small file must not become a large one."""
    ordered = sorted(spans)
    for (_, end), (start, _) in zip(ordered, ordered[1:], strict=False):
        if start < end:
            raise _damaged("its records overlap")
