"""Element types in CUDA C, in memory and in registers, and their literals.

f16 and bf16 are computed with in f32, as on processors: they are rounded when they are stored or
cast. A bool is a byte in memory.
"""

from __future__ import annotations

import math

import numpy as np

from braze.codegen.cuda.text import bare, closing
from braze.ir.dtypes import DType, bf16, bool_, f16, f32, f64, i32, i64

MEMORY = {
    "bool": "unsigned char", "u8": "unsigned char", "u16": "unsigned short", "u32": "unsigned",
    "u64": "unsigned long long", "i8": "signed char", "i16": "short", "i32": "int",
    "i64": "long long", "f16": "__half", "bf16": "__nv_bfloat16", "f32": "float", "f64": "double",
}  # fmt: skip
_UNSIGNED = {8: "unsigned char", 16: "unsigned short", 32: "unsigned", 64: "unsigned long long"}
_LARGEST = 2**63 - 1


def memory_type(dtype: DType) -> str:
    """How elements lie in memory."""
    return MEMORY[dtype.name]


def register_type(dtype: DType) -> str:
    """What is computed with."""
    if dtype is bool_:
        return "bool"
    return "float" if is_narrow_float(dtype) else MEMORY[dtype.name]


def unsigned_type(dtype: DType) -> str:
    """The unsigned integer type of an integer dtype's width, at least 32 bits wide, whose
    arithmetic wraps around."""
    return _UNSIGNED[max(dtype.bits, 32)]


def is_narrow_float(dtype: DType) -> bool:
    return dtype in (f16, bf16)


def from_memory(text: str, dtype: DType) -> str:
    """An element as it was loaded, as a value in a register."""
    if dtype is bool_:
        return f"({text} != 0)"
    if dtype is f16:
        return f"__half2float({text})"
    return f"__bfloat162float({text})" if dtype is bf16 else text


def to_memory(text: str, dtype: DType) -> str:
    """A value in a register as it is stored."""
    if dtype is bool_:
        return f"(unsigned char)({text})"
    if not is_narrow_float(dtype):
        return text
    widened = "__half2float(" if dtype is f16 else "__bfloat162float("
    if text.startswith(widened) and closing(text, len(widened) - 1) == len(text) - 1:
        return text[len(widened) : -1]  # an element that is only moved
    return f"{'__float2half_rn' if dtype is f16 else '__float2bfloat16_rn'}({text})"


def rounded(text: str, dtype: DType) -> str:
    """A float in a register, rounded to one that f16 or bf16 holds; others stay."""
    return from_memory(to_memory(text, dtype), dtype) if is_narrow_float(dtype) else text


def literal(value: float | int | bool, dtype: DType) -> str:
    """A number as a value in a register."""
    if dtype is bool_:
        return "true" if value else "false"
    if dtype.is_floating_point:
        return _float(float(np.asarray(value).astype(dtype.numpy)), dtype is f64)
    number = int(value)
    if dtype is i64:
        return f"{number}LL" if -_LARGEST <= number else f"({-_LARGEST}LL - 1)"
    if dtype.bits < 32:  # of its own type, for functions of two equal types
        return f"({MEMORY[dtype.name]}){number}"
    if dtype.kind == "uint":
        return f"{number}{'ULL' if dtype.bits == 64 else 'u'}"
    if dtype is i32 and number == -(2**31):
        return f"({number + 1} - 1)"
    return str(number)


def _float(number: float, is_double: bool) -> str:
    if not math.isfinite(number):
        bits = "0x7fc00000" if math.isnan(number) else "0x7f800000"
        if is_double:
            bits = "0x7ff8000000000000LL" if math.isnan(number) else "0x7ff0000000000000LL"
        made = f"{'__longlong_as_double' if is_double else '__int_as_float'}({bits})"
        return f"(-{made})" if number < 0 else made
    text = repr(number) if is_double else f"{np.float32(number)!s}"
    if not any(c in text for c in ".e"):
        text += ".0"
    text += "" if is_double else "f"
    return f"({text})" if text.startswith("-") else text


def infinity(dtype: DType, sign: int) -> str:
    """The largest (or smallest) value of a dtype, as a value in a register."""
    if dtype.is_floating_point:
        return literal(sign * math.inf, f64 if dtype is f64 else f32)
    if dtype is bool_:
        return literal(sign > 0, dtype)
    limits = np.iinfo(dtype.numpy)
    return literal(int(limits.max if sign > 0 else limits.min), dtype)


def placed_types(dtype: DType, size: int) -> tuple[str, str]:
    """The types of a value that is kept with its place, and of the place: of the same size, so that
    all bytes of the pair are written.

    Args:
        size: how many places there are.
    """
    type = register_type(dtype)
    if dtype.itemsize == 8 or size < 2**31:
        if dtype.itemsize == 8:
            return type, "long long"
        return "int" if dtype.itemsize < 4 and type != "float" else type, "int"
    return "double" if type == "float" else "long long", "long long"


def placed(value: str, place: str, types: tuple[str, str]) -> str:
    """A value with its place."""
    both = (f"({t}){bare(x)}" if bare(x).isidentifier() else f"({t})({bare(x)})"
            for t, x in zip(types, (value, place), strict=True))  # fmt: skip
    return f"placed({', '.join(both)})"


def pack_type(dtype: DType, count: int) -> str:
    """Neighbouring elements that are loaded or stored at once."""
    return f"Pack<{memory_type(dtype)}, {count}>"
