"""Relocatable objects as one: everything that calls each other in one file, the rest hidden.

In: objects in units, and blocks of bytes.  Out: the bytes of one ELF64 ``.o``, which any linker
takes.  No code is changed or moved: sections stay as they are, under new numbers, and so do their
relocations, so that the linker may still merge constants and relax addresses. A global name is
another one's only within its unit; between units only those are known that a unit publishes. All of
them become local but those which are to be exported.

Source: System V ABI, chapter 4 (object files).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from braze.runtime.elf import (
    ET_REL,
    HEADER,
    RELOCATION,
    SECTION,
    SHF_ALLOC,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_FILE,
    STT_OBJECT,
    SYMBOL,
    ObjectError,
    ObjectFile,
    Symbol,
)
from braze.runtime.relocations import MACHINES

# Writable, allocated, executable, merged, of strings: what stays true of a section that is moved.
_PLAIN_FLAGS = 0x1 | 0x2 | 0x4 | 0x10 | 0x20
_SHF_INFO_LINK = 0x40
_LOCAL, _GLOBAL = 0, 1
_MOST_SECTIONS = 0xFEFF  # from here on numbers have meanings

# A symbol of a unit's object: numbers of the unit, of the object in it, and of the symbol.
_Place = tuple[int, int, int]


@dataclass(frozen=True)
class Unit:
    """Objects that call each other.

    publish: global name of one of them -> the name under which other units know it.
    """

    objects: Sequence[bytes]
    publish: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Read-only bytes, in pieces that follow each other, under a name that all units know."""

    name: str
    pieces: Sequence[bytes | memoryview]
    alignment: int

    @property
    def size(self) -> int:
        return sum(len(piece) for piece in self.pieces)


def merge(
    units: Sequence[Unit],
    blocks: Sequence[Block],
    exported: Collection[str],
    allowed: Collection[str],
) -> bytes:
    """One object of all.

    Args:
        exported: published names that stay global.
        allowed: names that may be left for the linker to find elsewhere.

    Raises: ObjectError if the bytes are no objects, if they are of several machines, if a name is
        published twice or missing, or if something is needed that is neither there nor allowed.
    """
    files = [[ObjectFile(bytes(data)) for data in unit.objects] for unit in units]
    machines = {file.machine.name for own in files for file in own}
    if len(machines) != 1:
        raise ObjectError(f"[object] objects for {', '.join(sorted(machines))} cannot be one")
    (machine,) = machines
    writer = _Writer()
    symbols = _Symbols(units, files, blocks, exported, allowed)
    for u, own in enumerate(files):
        for f, file in enumerate(own):
            for index, number in _add_sections(writer, file):
                symbols.sections[u, f, index] = number
    for block in blocks:
        number = writer.add(
            b".rodata." + block.name.encode(), SHT_PROGBITS, SHF_ALLOC, block.pieces, block.size,
            alignment=block.alignment,
        )  # fmt: skip
        symbols.blocks[block.name] = number
    _add_tables(writer, symbols, files)
    # Nothing here runs code on the stack.
    writer.add(b".note.GNU-stack", SHT_PROGBITS, 0, [], 0)
    return writer.file(next(n for n, known in MACHINES.items() if known.name == machine))


def _add_sections(writer: _Writer, file: ObjectFile) -> Iterator[tuple[int, int]]:
    """The numbers of an object's sections that take up memory, and those that they have now."""
    for section in file.sections:
        if not section.is_loaded:
            continue
        name = file.section_name(section)
        if section.flags & ~_PLAIN_FLAGS:
            text = name.decode("utf-8", "backslashreplace")
            raise ObjectError(f"[object] section {text} has flags {section.flags:#x}")
        pieces = [file.content(section)] if section.has_content else []
        yield section.number, writer.add(
            name, section.kind, section.flags, pieces, section.size,
            alignment=section.alignment, entry_bytes=section.entry_bytes,
        )  # fmt: skip


def _add_tables(
    writer: _Writer, symbols: _Symbols, files: Sequence[Sequence[ObjectFile]]
) -> None:
    """The symbols, their names and the relocations, after all sections that they are about."""
    table, names, local_count = symbols.table()
    relocations: dict[int, list[bytes]] = {}
    for u, own in enumerate(files):
        for f, file in enumerate(own):
            for fixup in file.fixups:
                number = symbols.sections[u, f, fixup.section.number]
                info = symbols.number((u, f, fixup.symbol)) << 32 | fixup.kind
                packed = RELOCATION.pack(fixup.offset, info, fixup.addend)
                relocations.setdefault(number, []).append(packed)
    # The table of symbols comes behind the relocations, and its names behind it.
    symbol_table = writer.count + len(relocations)
    for number, packed_ones in sorted(relocations.items()):
        writer.add(
            b".rela" + writer.name_of(number), SHT_RELA, _SHF_INFO_LINK, packed_ones,
            RELOCATION.size * len(packed_ones), symbol_table, number, 8, RELOCATION.size,
        )  # fmt: skip
    writer.add(
        b".symtab", SHT_SYMTAB, 0, table, SYMBOL.size * len(table), symbol_table + 1, local_count,
        8, SYMBOL.size,
    )  # fmt: skip
    writer.add(b".strtab", SHT_STRTAB, 0, [names], len(names))


class _Strings:
    """A table of strings; equal ones lie in one place."""

    def __init__(self) -> None:
        self._places = {b"": 0}
        self._parts = [b"\0"]
        self._size = 1

    def place(self, text: bytes) -> int:
        found = self._places.get(text)
        if found is None:
            found = self._places[text] = self._size
            self._parts.append(text + b"\0")
            self._size += len(text) + 1
        return found

    def content(self) -> bytes:
        return b"".join(self._parts)


class _Symbols:
    """The symbols of all objects, as those of one.

    Attributes:
        sections: of a unit's object's section, its number in the file.
        blocks: name -> the number of its section.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        files: Sequence[Sequence[ObjectFile]],
        blocks: Sequence[Block],
        exported: Collection[str],
        allowed: Collection[str],
    ) -> None:
        self.sections: dict[tuple[int, int, int], int] = {}
        self.blocks: dict[str, int] = {}
        self._files, self._blocks, self._allowed = files, blocks, allowed
        self._numbers: dict[_Place, int] = {}
        self._external: dict[str, int] = {}
        self._block_numbers: dict[str, int] = {}
        self._exported: dict[_Place, str] = {}
        self._own = [self._defined(u) for u in range(len(units))]
        self._published: dict[str, _Place] = {}
        for u, unit in enumerate(units):
            for name, known_as in unit.publish.items():
                if name not in self._own[u]:
                    raise ObjectError(f"[object] no object defines {name!r}")
                if known_as in self._published:
                    raise ObjectError(f"[object] {known_as!r} is published twice")
                self._published[known_as] = self._own[u][name]
        for name in exported:
            if name not in self._published:
                raise ObjectError(f"[object] {name!r} is to be exported and not published")
            self._exported[self._published[name]] = name

    def _defined(self, u: int) -> dict[str, _Place]:
        """The global names of a unit."""
        found: dict[str, _Place] = {}
        for f, file in enumerate(self._files[u]):
            for s, symbol in enumerate(file.symbols):
                if s and not (symbol.is_local or symbol.is_external):
                    if symbol.name in found:
                        raise ObjectError(f"[object] two objects define {symbol.name!r}")
                    found[symbol.name] = u, f, s
        return found

    def table(self) -> tuple[list[bytes], bytes, int]:
        """The symbols' bytes, their names, and how many are local, which come first."""
        names, packed = _Strings(), [SYMBOL.pack(0, 0, 0, 0, 0, 0)]
        every: list[tuple[_Place, Symbol]] = [
            ((u, f, s), symbol)
            for u, own in enumerate(self._files)
            for f, file in enumerate(own)
            for s, symbol in enumerate(file.symbols)
            if s and not symbol.is_external and symbol.kind != STT_FILE
        ]

        def add(place: _Place, symbol: Symbol, name: str, binding: int) -> None:
            section = self.sections.get((*place[:2], symbol.section))
            if symbol.is_absolute:
                section = SHN_ABS
            if section is None:
                return  # of a section that is left out
            self._numbers[place] = len(packed)
            at, info = names.place(name.encode()), binding << 4 | symbol.kind
            packed.append(SYMBOL.pack(at, info, 0, section, symbol.value, symbol.size))

        for place, symbol in every:
            if place not in self._exported:
                add(place, symbol, symbol.name, _LOCAL)
        for block in self._blocks:
            self._block_numbers[block.name] = len(packed)
            at = names.place(block.name.encode())
            packed.append(SYMBOL.pack(at, STT_OBJECT, 0, self.blocks[block.name], 0, block.size))
        local_count = len(packed)
        for place, symbol in every:
            if place in self._exported:
                add(place, symbol, self._exported[place], _GLOBAL)
        for name in self._needed():
            self._external[name] = len(packed)
            packed.append(SYMBOL.pack(names.place(name.encode()), _GLOBAL << 4, 0, SHN_UNDEF, 0, 0))
        return packed, names.content(), local_count

    def _needed(self) -> list[str]:
        """What is to be found elsewhere."""
        found: dict[str, None] = {}
        for u, own in enumerate(self._files):
            for file in own:
                for fixup in file.fixups:
                    symbol = file.symbols[fixup.symbol]
                    if not fixup.symbol or not symbol.is_external or self._home(u, symbol):
                        continue
                    if symbol.name not in self._block_numbers:
                        found[symbol.name] = None
        missing = sorted(found.keys() - set(self._allowed))
        if missing:
            raise ObjectError(f"[object] nothing defines {', '.join(missing)}")
        return sorted(found)

    def _home(self, unit: int, symbol: Symbol) -> _Place | None:
        """Where what a unit's object does not define is defined."""
        return self._own[unit].get(symbol.name) or self._published.get(symbol.name)

    def number(self, place: _Place) -> int:
        """In the merged table, what a symbol stands for; after `table`."""
        unit, file, s = place
        if s == 0:
            return 0
        symbol = self._files[unit][file].symbols[s]
        if symbol.is_external:
            home = self._home(unit, symbol)
            if home is None:
                return {**self._external, **self._block_numbers}[symbol.name]
            place = home
        if place not in self._numbers:
            raise ObjectError(f"[object] symbol {symbol.name!r} is in no loaded section")
        return self._numbers[place]


class _Writer:
    """Sections in the order of their numbers, and the file of them."""

    def __init__(self) -> None:
        self._names = _Strings()
        self._called: list[bytes] = [b""]
        self._parts: list[bytes | memoryview] = []
        self._size = HEADER.size
        self._headers = [SECTION.pack(0, SHT_NULL, 0, 0, 0, 0, 0, 0, 0, 0)]

    @property
    def count(self) -> int:
        """The next section's number."""
        return len(self._headers)

    def name_of(self, number: int) -> bytes:
        return self._called[number]

    def add(
        self,
        name: bytes,
        kind: int,
        flags: int,
        pieces: Sequence[bytes | memoryview],
        size: int,
        link: int = 0,
        info: int = 0,
        alignment: int = 1,
        entry_bytes: int = 0,
    ) -> int:
        """Its number.  No pieces: the section has a size and no content."""
        self._fill(alignment)
        header = (self._names.place(name), kind, flags, 0, self._size, size, link, info)
        self._headers.append(SECTION.pack(*header, alignment, entry_bytes))
        self._called.append(name)
        self._parts += pieces
        self._size += sum(len(piece) for piece in pieces)
        return len(self._headers) - 1

    def _fill(self, alignment: int) -> None:
        gap = -self._size % alignment
        if gap:
            self._parts.append(bytes(gap))
            self._size += gap

    def file(self, machine: int) -> bytes:
        self._names.place(b".shstrtab")
        text = self._names.content()
        names = self.add(b".shstrtab", SHT_STRTAB, 0, [text], len(text))
        if self.count > _MOST_SECTIONS:
            raise ObjectError(f"[object] {self.count} sections are more than one file holds")
        self._fill(8)
        header = HEADER.pack(
            b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), ET_REL, machine, 1, 0, 0, self._size, 0,
            HEADER.size, 0, 0, SECTION.size, self.count, names,
        )  # fmt: skip
        return b"".join((header, *self._parts, *self._headers))
