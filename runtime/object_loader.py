"""ELF relocatable objects as executable memory, without LLVM or a linker.

In: the bytes of little-endian ELF64 ``.o`` files for x86-64 or aarch64, which may call each other.
Out: a `LoadedObject`, whose `address(symbol)` may be called through ctypes.

They become one image, which is laid out as | code, stubs | read-only data, GOT | data |, each part
on its own pages, relocated in an ordinary bytearray, copied into fresh anonymous memory and then
protected as execute / read / read-write: no page is ever writable and executable.  The bytes are
not trusted: whatever is wrong with them raises `ObjectError`.  (Running the code of an object from
a stranger is as unsafe as it sounds.)
"""

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from braze.runtime.elf import Fixup, ObjectError, ObjectFile, Section
from braze.runtime.libc import libc_address, map_anonymous, protect, unmap
from braze.runtime.relocations import STUB_BYTES, RelocationError

__all__ = ["LoadedObject", "ObjectError"]

_GOT_ENTRY_BYTES = 8
# More than small-model code can be, so that a header that lies costs no memory.
_MOST_BYTES = 1 << 28


@cache
def _default_symbols() -> Mapping[str, int]:
    """What LLVM may call of its own accord."""
    return {name: libc_address(name) for name in ("memcpy", "memmove", "memset")}


@dataclass
class _Part:
    """Pages of one protection: [start, end) in the image."""

    protection: int
    start: int
    end: int = 0


# A section or symbol: its file's number and its own.
_Place = tuple[int, int]


@dataclass
class _Layout:
    """Where everything lies, as offsets from the image's start."""

    places: dict[_Place, int] = field(default_factory=dict)  # of sections
    known: dict[str, int] = field(default_factory=dict)  # of global names
    stubs: dict[_Place, int] = field(default_factory=dict)  # of symbols of elsewhere to be called
    got: dict[_Place, int] = field(default_factory=dict)  # of symbols
    parts: list[_Part] = field(default_factory=list)
    content_end: int = 0
    size: int = 0


class LoadedObject:
    """Objects in executable memory.

    data: the object file, or several. A global name that one lacks is looked up in the others.
    symbols: addresses of external names, besides memcpy, memmove and memset.
    allow_foreign: load an object for another machine, to be looked at and never called.

    Raises: ObjectError if `data` is truncated, foreign or uses what is not supported, or if a name
    has no address; MemoryError.  The memory goes with `close`, or with the last reference.
    """

    def __init__(
        self,
        data: bytes | Sequence[bytes],
        symbols: Mapping[str, int] | None = None,
        *,
        allow_foreign: bool = False,
    ) -> None:
        self._base = 0
        self._size = 0
        objects = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
        files = [ObjectFile(bytes(one)) for one in objects]
        machines = {file.machine.name for file in files}
        if len(machines) != 1:
            known = ", ".join(sorted(machines)) or "none"
            raise ObjectError(f"[object] expected objects for one machine, given {known}")
        (self.machine,) = machines
        here = platform.machine()
        if self.machine != here and not allow_foreign:
            raise ObjectError(f"[object] made for {self.machine}, this machine is {here}")
        layout = _plan(files)
        self._base, self._size = map_anonymous(layout.size), layout.size
        content = _link(files, layout, self._base, {**_default_symbols(), **(symbols or {})})
        ctypes.memmove(self._base, bytes(content), len(content))
        self._protect(layout)
        self._addresses = {
            symbol.name: self._base + layout.places[number, symbol.section] + symbol.value
            for number, file in enumerate(files)
            for symbol in file.symbols
            if symbol.is_named_place and (number, symbol.section) in layout.places
        }
        # A local name must not hide a global one.
        self._addresses |= {name: self._base + place for name, place in layout.known.items()}

    def _protect(self, layout: _Layout) -> None:
        # On aarch64 Linux makes the instruction cache coherent as it first maps a page executable.
        for part in layout.parts:
            if part.end > part.start:
                protect(self._base + part.start, part.end - part.start, part.protection)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names that the object defines, sorted."""
        return tuple(sorted(self._addresses))

    @property
    def nbytes(self) -> int:
        """Bytes of memory held; 0 once closed."""
        return self._size

    def address(self, symbol: str) -> int:
        """Where `symbol` lies in memory.  Raises: ObjectError if unknown, or after `close`."""
        if not self._base:
            raise ObjectError(f"[object] {symbol!r} was asked of a closed object")
        if symbol not in self._addresses:
            known = ", ".join(self.symbols[:8]) or "none"
            raise ObjectError(f"[object] no symbol {symbol!r}; defined: {known}")
        return self._addresses[symbol]

    def close(self) -> None:
        """Unmap the memory.  Nothing of the object may run or be called afterwards."""
        base, size = self._base, self._size
        self._base = self._size = 0
        if base:
            unmap(base, size)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the very end another thread may still run this code, and the system frees it anyway.
        if getattr(self, "_base", 0) and not is_finalizing():
            self.close()


def _align(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) // alignment * alignment


def _plan(files: Sequence[ObjectFile]) -> _Layout:
    """Give every loaded section, stub and GOT entry its place."""
    layout = _Layout()
    Placed = tuple[_Place, Section]
    code: list[Placed] = []
    data: list[Placed] = []
    constants: list[Placed] = []
    for number, file in enumerate(files):
        for section in file.sections:
            if section.is_loaded:
                kind = code if section.is_code else data if section.is_writable else constants
                kind.append(((number, section.number), section))
    # Sections without content come last, so the image that is built and copied ends before them.
    data.sort(key=lambda placed: not placed[1].has_content)

    def add_sections(sections: list[Placed]) -> None:
        for place, section in sections:
            layout.size = _align(layout.size, section.alignment)
            layout.places[place] = layout.size
            layout.size += section.size
            if section.has_content:
                layout.content_end = layout.size
            if layout.size > _MOST_BYTES:
                raise ObjectError(f"[object] more than {_MOST_BYTES} bytes of memory")

    def add_slots(slots: dict[_Place, int], symbols: list[_Place], width: int) -> None:
        for symbol in symbols:
            layout.size = _align(layout.size, width)
            slots[symbol] = layout.size
            layout.size += width
            layout.content_end = layout.size

    def part(protection: int, sections: list[Placed]) -> _Part:
        layout.size = _align(layout.size, mmap.PAGESIZE)
        layout.parts.append(_Part(protection, layout.size))
        add_sections(sections)
        return layout.parts[-1]

    def symbols_via(via: str) -> list[_Place]:
        return sorted({(number, fixup.symbol) for number, file in enumerate(files)
                       for fixup in file.fixups if fixup.relocation.via == via})  # fmt: skip

    defined = {symbol.name for file in files for symbol in file.symbols if symbol.is_offered}

    def is_elsewhere(place: _Place) -> bool:
        symbol = files[place[0]].symbols[place[1]]
        return symbol.is_external and symbol.name not in defined

    text = part(mmap.PROT_READ | mmap.PROT_EXEC, code)
    add_slots(layout.stubs, list(filter(is_elsewhere, symbols_via("call"))), STUB_BYTES)
    text.end = _align(layout.size, mmap.PAGESIZE)
    rodata = part(mmap.PROT_READ, constants)
    add_slots(layout.got, symbols_via("got"), _GOT_ENTRY_BYTES)
    rodata.end = _align(layout.size, mmap.PAGESIZE)
    part(mmap.PROT_READ | mmap.PROT_WRITE, data).end = _align(layout.size, mmap.PAGESIZE)
    layout.size = max(_align(layout.size, mmap.PAGESIZE), mmap.PAGESIZE)
    layout.known = {
        symbol.name: layout.places[number, symbol.section] + symbol.value
        for number, file in enumerate(files)
        for symbol in file.symbols
        if symbol.is_offered and (number, symbol.section) in layout.places
    }
    return layout


def _link(
    files: Sequence[ObjectFile], layout: _Layout, base: int, external: Mapping[str, int]
) -> bytearray:
    """The image's bytes up to the last that has content, relocated to run at `base`."""
    image = bytearray(layout.content_end)

    def symbol_address(number: int, index: int) -> int:
        symbol = files[number].symbols[index]
        start = layout.places.get((number, symbol.section))
        if start is not None:
            return base + start + symbol.value
        if symbol.is_absolute or index == 0:
            return symbol.value
        if not symbol.is_external:
            raise ObjectError(f"[object] symbol {symbol.name!r} is in no loaded section")
        if symbol.name in layout.known:
            return base + layout.known[symbol.name]
        if symbol.name not in external:
            raise ObjectError(f"[object] no address for external symbol {symbol.name!r}")
        return external[symbol.name]

    word64 = (1 << 64) - 1
    for (number, index), offset in layout.stubs.items():
        address = symbol_address(number, index) & word64
        image[offset : offset + STUB_BYTES] = files[number].machine.stub(address)
    for (number, index), offset in layout.got.items():
        entry = (symbol_address(number, index) & word64).to_bytes(_GOT_ENTRY_BYTES, "little")
        image[offset : offset + _GOT_ENTRY_BYTES] = entry
    for number, file in enumerate(files):
        for section in file.sections:
            if section.is_loaded and section.has_content:
                start = layout.places[number, section.number]
                image[start : start + section.size] = file.content(section)
        for fixup in file.fixups:
            via, symbol = fixup.relocation.via, (number, fixup.symbol)
            if via == "got":
                target = base + layout.got[symbol]
            elif via == "call" and symbol in layout.stubs:
                target = base + layout.stubs[symbol]
            else:
                target = symbol_address(*symbol)
            _apply(image, fixup, layout.places[number, fixup.section.number], base, target)
    return image


def _apply(image: bytearray, fixup: Fixup, start: int, base: int, target: int) -> None:
    relocation = fixup.relocation
    offset = start + fixup.offset
    old = int.from_bytes(image[offset : offset + relocation.width], "little")
    try:
        new = relocation.patch(old, target + fixup.addend, base + offset)
    except RelocationError as error:
        raise ObjectError(f"[object] {relocation.name}: {error}") from None
    image[offset : offset + relocation.width] = new.to_bytes(relocation.width, "little")
