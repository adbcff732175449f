"""An ELF relocatable object as executable memory, without LLVM or a linker.

In: the bytes of a little-endian ELF64 ``.o`` for x86-64 or aarch64.  Out: a `LoadedObject`, whose
`address(symbol)` may be called through ctypes.

The image is laid out as | code, stubs | read-only data, GOT | data |, each part on its own pages,
relocated in an ordinary bytearray, copied into fresh anonymous memory and then protected as
execute / read / read-write: no page is ever writable and executable.  The bytes are not trusted:
whatever is wrong with them raises `ObjectError`.  (Running the code of an object from a stranger is
as unsafe as it sounds.)
"""

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable, Mapping
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


@dataclass
class _Layout:
    """Where everything lies, as offsets from the image's start."""

    places: dict[int, int] = field(default_factory=dict)  # of sections
    stubs: dict[int, int] = field(default_factory=dict)  # of external symbols that are called
    got: dict[int, int] = field(default_factory=dict)  # of symbols
    parts: list[_Part] = field(default_factory=list)
    content_end: int = 0
    size: int = 0


class LoadedObject:
    """An object in executable memory.

    data: the object file.
    symbols: addresses of external names, besides memcpy, memmove and memset.
    allow_foreign: load an object for another machine, to be looked at and never called.

    Raises: ObjectError if `data` is truncated, foreign or uses what is not supported, or if a name
    has no address; MemoryError.  The memory goes with `close`, or with the last reference.
    """

    def __init__(
        self,
        data: bytes,
        symbols: Mapping[str, int] | None = None,
        *,
        allow_foreign: bool = False,
    ) -> None:
        self._base = 0
        self._size = 0
        file = ObjectFile(bytes(data))
        self.machine = file.machine.name
        here = platform.machine()
        if self.machine != here and not allow_foreign:
            raise ObjectError(f"[object] made for {self.machine}, this machine is {here}")
        layout = _plan(file)
        self._base, self._size = map_anonymous(layout.size), layout.size
        content = _link(file, layout, self._base, {**_default_symbols(), **(symbols or {})})
        ctypes.memmove(self._base, bytes(content), len(content))
        self._protect(layout)
        # Globals last: a local name must not hide one.
        self._addresses = {
            symbol.name: self._base + layout.places[symbol.section] + symbol.value
            for symbol in sorted(file.symbols, key=lambda symbol: not symbol.is_local)
            if symbol.is_named_place and symbol.section in layout.places
        }

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


def _plan(file: ObjectFile) -> _Layout:
    """Give every loaded section, stub and GOT entry its place."""
    layout = _Layout()
    loaded = [section for section in file.sections if section.is_loaded]
    code = [section for section in loaded if section.is_code]
    data = [section for section in loaded if section.is_writable]
    constants = [section for section in loaded if not section.is_code and not section.is_writable]
    # Sections without content come last, so the image that is built and copied ends before them.
    data.sort(key=lambda section: not section.has_content)

    def add_sections(sections: list[Section]) -> None:
        for section in sections:
            layout.size = _align(layout.size, section.alignment)
            layout.places[section.index] = layout.size
            layout.size += section.size
            if section.has_content:
                layout.content_end = layout.size
            if layout.size > _MOST_BYTES:
                raise ObjectError(f"[object] more than {_MOST_BYTES} bytes of memory")

    def add_slots(slots: dict[int, int], symbols: list[int], width: int) -> None:
        for symbol in symbols:
            layout.size = _align(layout.size, width)
            slots[symbol] = layout.size
            layout.size += width
            layout.content_end = layout.size

    def part(protection: int, sections: list[Section]) -> _Part:
        layout.size = _align(layout.size, mmap.PAGESIZE)
        layout.parts.append(_Part(protection, layout.size))
        add_sections(sections)
        return layout.parts[-1]

    def symbols_via(via: str) -> list[int]:
        return sorted({fixup.symbol for fixup in file.fixups if fixup.relocation.via == via})

    called = [index for index in symbols_via("call") if file.symbols[index].is_external]
    text = part(mmap.PROT_READ | mmap.PROT_EXEC, code)
    add_slots(layout.stubs, called, STUB_BYTES)
    text.end = _align(layout.size, mmap.PAGESIZE)
    rodata = part(mmap.PROT_READ, constants)
    add_slots(layout.got, symbols_via("got"), _GOT_ENTRY_BYTES)
    rodata.end = _align(layout.size, mmap.PAGESIZE)
    part(mmap.PROT_READ | mmap.PROT_WRITE, data).end = _align(layout.size, mmap.PAGESIZE)
    layout.size = max(_align(layout.size, mmap.PAGESIZE), mmap.PAGESIZE)
    return layout


def _link(file: ObjectFile, layout: _Layout, base: int, external: Mapping[str, int]) -> bytearray:
    """The image's bytes up to the last that has content, relocated to run at `base`."""
    image = bytearray(layout.content_end)
    for section in file.sections:
        if section.is_loaded and section.has_content:
            start = layout.places[section.index]
            image[start : start + section.size] = file.content(section)

    def symbol_address(index: int) -> int:
        symbol = file.symbols[index]
        if symbol.section in layout.places:
            return base + layout.places[symbol.section] + symbol.value
        if symbol.is_absolute or index == 0:
            return symbol.value
        if not symbol.is_external:
            raise ObjectError(f"[object] symbol {symbol.name!r} is in no loaded section")
        if symbol.name not in external:
            raise ObjectError(f"[object] no address for external symbol {symbol.name!r}")
        return external[symbol.name]

    word64 = (1 << 64) - 1
    for index, offset in layout.stubs.items():
        image[offset : offset + STUB_BYTES] = file.machine.stub(symbol_address(index) & word64)
    for index, offset in layout.got.items():
        entry = (symbol_address(index) & word64).to_bytes(_GOT_ENTRY_BYTES, "little")
        image[offset : offset + _GOT_ENTRY_BYTES] = entry
    for fixup in file.fixups:
        via, index = fixup.relocation.via, fixup.symbol
        if via == "got":
            target = base + layout.got[index]
        elif index in layout.stubs and via == "call":
            target = base + layout.stubs[index]
        else:
            target = symbol_address(index)
        _apply(image, fixup, layout.places[fixup.section.index], base, target)
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
