"""The parts of an ELF relocatable object: sections, symbols, relocations.

In: the bytes of a little-endian ELF64 ``.o`` for x86-64 or aarch64; they are not trusted.  Out: an
`ObjectFile` whose indices and offsets have all been checked, or an `ObjectError`.

Source: System V ABI, chapter 4 (object files).
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from braze.ir.errors import BrazeError
from braze.runtime.relocations import MACHINES, Machine, Relocation


class ObjectError(BrazeError, ValueError):
    """The bytes are not an object that the loader can load."""


# The format's structures and numbers, for what writes such a file as well.
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")

ET_REL = 1
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 0, 1, 2, 3, 4
SHF_ALLOC = 2
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
STT_OBJECT, STT_SECTION, STT_FILE = 1, 3, 4

_SHT_NOBITS, _SHT_REL = 8, 9
# Constructors and destructors, which nobody would run.
_SHT_ARRAYS = (14, 15, 16)
_CONSTRUCTOR_SECTIONS = (b".ctors", b".dtors", b".init_array", b".fini_array")
_SHF_WRITE, _SHF_EXECINSTR, _SHF_TLS = 1, 4, 0x400
_SHN_LOWEST_RESERVED = 0xFF00
_STT_TLS, _STT_IFUNC = 6, 10

_MOST_ALIGNMENT = 4096  # the smallest page: an image starts on one


class Section(NamedTuple):
    """A section; `is_loaded`: it takes up memory at run time; `has_content`: bytes of the file;
    `entry_bytes`: of each of its equal items, for the linker, which merges equal ones."""

    name_offset: int
    number: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_bytes: int

    @property
    def is_loaded(self) -> bool:
        return bool(self.flags & SHF_ALLOC) and self.kind != SHT_NULL

    @property
    def is_code(self) -> bool:
        return bool(self.flags & _SHF_EXECINSTR)

    @property
    def is_writable(self) -> bool:
        return bool(self.flags & _SHF_WRITE)

    @property
    def has_content(self) -> bool:
        return self.kind not in (SHT_NULL, _SHT_NOBITS)


class Symbol(NamedTuple):
    """A name for an offset `value` in a section, for a number, or for something external.

    kind: a function, an object, ...: `STT_...` of the format.
    """

    name: str
    section: int
    value: int
    size: int
    kind: int
    is_local: bool

    @property
    def is_named_place(self) -> bool:
        """Whether it is a function or an object, not a section or a file name."""
        return bool(self.name) and self.kind not in (STT_SECTION, STT_FILE)

    @property
    def is_external(self) -> bool:
        return self.section == SHN_UNDEF

    @property
    def is_offered(self) -> bool:
        """Whether it is a place that other objects may name."""
        return self.is_named_place and not (self.is_local or self.is_external)

    @property
    def is_absolute(self) -> bool:
        return self.section == SHN_ABS


class Fixup(NamedTuple):
    """One relocation to be applied at `offset` of `section`; `kind`: its number in the format."""

    section: Section
    offset: int
    kind: int
    relocation: Relocation
    symbol: int
    addend: int


class ObjectFile:
    """A parsed object.  Raises: ObjectError."""

    machine: Machine
    sections: list[Section]
    symbols: list[Symbol]
    fixups: list[Fixup]

    def __init__(self, data: bytes) -> None:
        self._data = data
        header = self._unpack(HEADER, 0, "the file header")
        ident, kind, machine, table = (header[i] for i in (0, 1, 2, 6))
        item, count, names_index = header[11:]
        if ident[:4] != b"\x7fELF":
            raise ObjectError("[object] not an ELF file")
        if ident[4:6] != b"\x02\x01":
            raise ObjectError("[object] not a 64-bit little-endian ELF file")
        if kind != ET_REL:
            raise ObjectError(f"[object] ELF type {kind} is not a relocatable object")
        if machine not in MACHINES:
            raise ObjectError(f"[object] ELF machine {machine} is not supported")
        if item != SECTION.size:
            raise ObjectError(f"[object] section headers of {item} bytes")
        self.machine = MACHINES[machine]
        headers = self._items(SECTION, table, count * SECTION.size, "a section header")
        self.sections = [self._read_section(index, item) for index, item in enumerate(headers)]
        self._refuse_constructors(names_index)
        self.symbols = self._read_symbols()
        self.fixups = [fixup for table in self.sections for fixup in self._read_fixups(table)]

    def content(self, section: Section) -> bytes:
        """The bytes that the file holds for `section`."""
        return self._data[section.offset : section.offset + section.size]

    def section_name(self, section: Section) -> bytes:
        """What `section` is called."""
        end = self._section_names.find(b"\0", section.name_offset)
        return self._section_names[section.name_offset : end]

    def _unpack(self, layout: struct.Struct, offset: int, what: str) -> tuple[Any, ...]:
        if offset + layout.size > len(self._data):
            raise ObjectError(f"[object] truncated: {what} at {offset} exceeds the file")
        return layout.unpack_from(self._data, offset)

    def _items(
        self, layout: struct.Struct, start: int, size: int, what: str
    ) -> Iterator[tuple[Any, ...]]:
        """The equal items that a table of `size` bytes holds."""
        size -= size % layout.size
        if start + size > len(self._data):
            raise ObjectError(f"[object] truncated: {what} exceeds the file")
        return layout.iter_unpack(self._data[start : start + size])

    def _read_section(self, index: int, header: tuple[Any, ...]) -> Section:
        name, kind, flags, _, offset, size, link, info, alignment, items = header
        section = Section(
            name, index, kind, flags, offset, size, link, info, max(1, alignment), items
        )
        if section.has_content and offset + size > len(self._data):
            raise ObjectError(f"[object] truncated: section {index} exceeds the file")
        if flags & _SHF_TLS:
            raise ObjectError("[object] thread-local storage is not supported")
        if not section.is_loaded:
            return section
        if section.is_code and section.is_writable:
            raise ObjectError(f"[object] section {index} is both writable and executable")
        if not section.has_content and not section.is_writable:
            raise ObjectError(f"[object] section {index} is read-only and has no content")
        if alignment & (alignment - 1) or alignment > _MOST_ALIGNMENT:
            raise ObjectError(f"[object] section {index} has alignment {alignment}")
        return section

    def _refuse_constructors(self, names_index: int) -> None:
        if names_index >= len(self.sections) or not self.sections[names_index].has_content:
            raise ObjectError("[object] the section names are missing")
        self._section_names = self.content(self.sections[names_index])
        for section in self.sections:
            name = self.section_name(section)
            if section.kind in _SHT_ARRAYS or name.startswith(_CONSTRUCTOR_SECTIONS):
                raise ObjectError("[object] constructors and destructors are not supported")

    def _read_symbols(self) -> list[Symbol]:
        tables = [section for section in self.sections if section.kind == SHT_SYMTAB]
        if len(tables) > 1:
            raise ObjectError("[object] more than one symbol table")
        if not tables:
            return []
        table = tables[0]
        if table.link >= len(self.sections) or not self.sections[table.link].has_content:
            raise ObjectError("[object] the symbol table has no string table")
        names = self.content(self.sections[table.link])
        items = self._items(SYMBOL, table.offset, table.size, "a symbol")
        return [self._read_symbol(item, names) for item in items]

    def _read_symbol(self, item: tuple[Any, ...], names: bytes) -> Symbol:
        name_offset, info, _, section, value, size = item
        kind, binding = info & 15, info >> 4
        end = names.find(b"\0", name_offset)
        if end < 0:
            raise ObjectError("[object] a symbol's name is outside the string table")
        if kind in (_STT_TLS, _STT_IFUNC):
            raise ObjectError("[object] thread-local and indirect symbols are not supported")
        if SHN_UNDEF < section < _SHN_LOWEST_RESERVED:
            if section >= len(self.sections):
                raise ObjectError(f"[object] a symbol lies in section {section}, which is missing")
            if value > self.sections[section].size:
                raise ObjectError("[object] a symbol lies outside its section")
        name = names[name_offset:end].decode("utf-8", "backslashreplace")
        return Symbol(name, section, value, size, kind, binding == 0)

    def _read_fixups(self, table: Section) -> list[Fixup]:
        if table.kind not in (SHT_RELA, _SHT_REL):
            return []
        if table.info >= len(self.sections):
            raise ObjectError("[object] relocations for a section that is not there")
        section = self.sections[table.info]
        if not section.is_loaded:
            return []
        if table.kind == _SHT_REL:
            raise ObjectError("[object] relocations without addends are not supported")
        items = self._items(RELOCATION, table.offset, table.size, "a relocation")
        fixups = (self._read_fixup(section, item) for item in items)
        return [fixup for fixup in fixups if fixup is not None]

    def _read_fixup(self, section: Section, item: tuple[int, int, int]) -> Fixup | None:
        offset, info, addend = item
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        if kind == 0 or (kind == 256 and self.machine.name == "aarch64"):
            return None  # R_*_NONE
        relocation = self.machine.relocations.get(kind)
        if relocation is None:
            raise ObjectError(f"[object] {self.machine.name} relocation {kind} is not supported")
        if not section.has_content or offset + relocation.width > section.size:
            raise ObjectError(f"[object] {relocation.name} lies outside its section")
        if symbol >= len(self.symbols):
            raise ObjectError(f"[object] {relocation.name} names symbol {symbol}")
        return Fixup(section, offset, kind, relocation, symbol, addend)
