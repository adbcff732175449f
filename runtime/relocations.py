"""Relocation arithmetic: how an address is written into code or data, per machine.

In: the word found at a place, the address it must refer to and the place's own address.  Out: the
new word.  The tables name every relocation that the loader supports.

Sources: x86-64 psABI, table 4.9; ELF for the Arm 64-bit Architecture (AAELF64), chapter 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


class RelocationError(ValueError):
    """An address does not fit the field it must be written into."""


# (old word, S + A, P) -> new word.  "call" takes a stub's address where the symbol is external,
# "got" the address of the symbol's entry in the global offset table.
Patch = Callable[[int, int, int], int]
Via = Literal["symbol", "call", "got"]


@dataclass(frozen=True)
class Relocation:
    """One relocation type: the width in bytes of the word it patches, and how."""

    name: str
    width: int
    patch: Patch
    via: Via = "symbol"


@dataclass(frozen=True)
class Machine:
    """A machine's relocation types by number, and the stub that jumps to any address."""

    name: str
    relocations: Mapping[int, Relocation]
    stub: Callable[[int], bytes]


STUB_BYTES = 16


def _signed(value: int, bits: int) -> int:
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise RelocationError(f"{value:#x} does not fit {bits} signed bits")
    return value & ((1 << bits) - 1)


def _unsigned(value: int, bits: int) -> int:
    if not 0 <= value < 1 << bits:
        raise RelocationError(f"{value:#x} does not fit {bits} bits")
    return value


def _absolute64(word: int, value: int, place: int) -> int:
    return value & (1 << 64) - 1


def _absolute32(word: int, value: int, place: int) -> int:
    return _unsigned(value, 32)


def _absolute32_signed(word: int, value: int, place: int) -> int:
    return _signed(value, 32)


def _relative64(word: int, value: int, place: int) -> int:
    return (value - place) & (1 << 64) - 1


def _relative32(word: int, value: int, place: int) -> int:
    return _signed(value - place, 32)


def _x86_64_stub(address: int) -> bytes:
    # jmp *0(%rip), then the address.
    return b"\xff\x25\0\0\0\0" + address.to_bytes(8, "little") + b"\xcc\xcc"


X86_64 = Machine(
    "x86_64",
    {
        1: Relocation("R_X86_64_64", 8, _absolute64),
        2: Relocation("R_X86_64_PC32", 4, _relative32),
        4: Relocation("R_X86_64_PLT32", 4, _relative32, "call"),
        9: Relocation("R_X86_64_GOTPCREL", 4, _relative32, "got"),
        10: Relocation("R_X86_64_32", 4, _absolute32),
        11: Relocation("R_X86_64_32S", 4, _absolute32_signed),
        24: Relocation("R_X86_64_PC64", 8, _relative64),
        41: Relocation("R_X86_64_GOTPCRELX", 4, _relative32, "got"),
        42: Relocation("R_X86_64_REX_GOTPCRELX", 4, _relative32, "got"),
    },
    _x86_64_stub,
)


def _field(word: int, value: int, shift: int, bits: int) -> int:
    """`word` with the `bits` from bit `shift` on replaced by `value`."""
    mask = (1 << bits) - 1
    return word & ~(mask << shift) | (value & mask) << shift


def _branch(bits: int, shift: int) -> Patch:
    """A branch: a signed count of instructions in `bits` bits from bit `shift` on."""

    def patch(word: int, value: int, place: int) -> int:
        distance = value - place
        if distance % 4:
            raise RelocationError("a branch target is not aligned to 4 bytes")
        return _field(word, _signed(distance >> 2, bits), shift, bits)

    return patch


def _address_field(word: int, count: int) -> int:
    """ADR and ADRP keep the two low bits of their 21 apart from the others."""
    return _field(_field(word, count, 29, 2), count >> 2, 5, 19)


def _adr(word: int, value: int, place: int) -> int:
    return _address_field(word, _signed(value - place, 21))


def _page(word: int, value: int, place: int) -> int:
    return _address_field(word, _signed((value >> 12) - (place >> 12), 21))


def _low12(scale: int) -> Patch:
    """The offset within a 4 KiB page, in units of ``1 << scale`` bytes."""

    def patch(word: int, value: int, place: int) -> int:
        offset = value & 0xFFF
        if offset & ((1 << scale) - 1):
            raise RelocationError(f"an address is not aligned to {1 << scale} bytes")
        return _field(word, offset >> scale, 10, 12)

    return patch


def _move(part: int, *, checked: bool) -> Patch:
    """MOVZ and MOVK: 16 bits of the address, starting at bit ``16 * part``."""

    def patch(word: int, value: int, place: int) -> int:
        value = _unsigned(value, 16 * part + 16) if checked else value
        return _field(word, value >> 16 * part, 5, 16)

    return patch


def _aarch64_stub(address: int) -> bytes:
    # ldr x16, #8; br x16; then the address.  x16 is the linker's own register (AAPCS64, 6.1.1).
    return b"\x50\x00\x00\x58" + b"\x00\x02\x1f\xd6" + address.to_bytes(8, "little")


AARCH64 = Machine(
    "aarch64",
    {
        257: Relocation("R_AARCH64_ABS64", 8, _absolute64),
        258: Relocation("R_AARCH64_ABS32", 4, _absolute32),
        260: Relocation("R_AARCH64_PREL64", 8, _relative64),
        261: Relocation("R_AARCH64_PREL32", 4, _relative32),
        263: Relocation("R_AARCH64_MOVW_UABS_G0", 4, _move(0, checked=True)),
        264: Relocation("R_AARCH64_MOVW_UABS_G0_NC", 4, _move(0, checked=False)),
        265: Relocation("R_AARCH64_MOVW_UABS_G1", 4, _move(1, checked=True)),
        266: Relocation("R_AARCH64_MOVW_UABS_G1_NC", 4, _move(1, checked=False)),
        267: Relocation("R_AARCH64_MOVW_UABS_G2", 4, _move(2, checked=True)),
        268: Relocation("R_AARCH64_MOVW_UABS_G2_NC", 4, _move(2, checked=False)),
        269: Relocation("R_AARCH64_MOVW_UABS_G3", 4, _move(3, checked=True)),
        273: Relocation("R_AARCH64_LD_PREL_LO19", 4, _branch(19, 5)),
        274: Relocation("R_AARCH64_ADR_PREL_LO21", 4, _adr),
        275: Relocation("R_AARCH64_ADR_PREL_PG_HI21", 4, _page),
        277: Relocation("R_AARCH64_ADD_ABS_LO12_NC", 4, _low12(0)),
        278: Relocation("R_AARCH64_LDST8_ABS_LO12_NC", 4, _low12(0)),
        279: Relocation("R_AARCH64_TSTBR14", 4, _branch(14, 5)),
        280: Relocation("R_AARCH64_CONDBR19", 4, _branch(19, 5)),
        282: Relocation("R_AARCH64_JUMP26", 4, _branch(26, 0), "call"),
        283: Relocation("R_AARCH64_CALL26", 4, _branch(26, 0), "call"),
        284: Relocation("R_AARCH64_LDST16_ABS_LO12_NC", 4, _low12(1)),
        285: Relocation("R_AARCH64_LDST32_ABS_LO12_NC", 4, _low12(2)),
        286: Relocation("R_AARCH64_LDST64_ABS_LO12_NC", 4, _low12(3)),
        299: Relocation("R_AARCH64_LDST128_ABS_LO12_NC", 4, _low12(4)),
        311: Relocation("R_AARCH64_ADR_GOT_PAGE", 4, _page, "got"),
        312: Relocation("R_AARCH64_LD64_GOT_LO12_NC", 4, _low12(3), "got"),
    },
    _aarch64_stub,
)

# By ELF machine number.
MACHINES: Mapping[int, Machine] = {62: X86_64, 183: AARCH64}
