"""LLVM types, constants and intrinsics for Braze's dtypes.

In: dtypes and lane counts.  Out: llvmlite types and constants. A *register type* is what a value
has while it is computed with (bool is i1; f16 and bf16 are held as f32), a *memory type* what it
has in a buffer (bool is one byte, f16 and bf16 are their sixteen bits). `lanes == 1` stands for
scalars throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from braze.codegen.llvm import ir
from braze.codegen.llvm.ir_types import vector
from braze.codegen.llvm.symbolic import emitted, writing
from braze.ir.dtypes import DType, bf16, f16
from braze.ir.symint import SymInt, is_symbolic

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()

_SCALAR = {
    "bool": I1, "u8": I8, "i8": I8, "i16": I16, "u32": I32, "i32": I32, "i64": I64,
    "u16": I16, "u64": I64,
    "f16": F32, "bf16": F32, "f32": F32, "f64": F64,
}  # fmt: skip
_MEMORY = {**_SCALAR, "bool": I8, "f16": I16, "bf16": I16}


def is_narrow_float(dtype: DType) -> bool:
    """True for the floats that are computed with in f32."""
    return dtype is f16 or dtype is bf16


def register_type(dtype: DType, lanes: int = 1) -> ir.Type:
    """The type in which values of `dtype` are computed with."""
    return vector(_SCALAR[dtype.name], lanes)


def memory_type(dtype: DType, lanes: int = 1) -> ir.Type:
    """The type of elements of `dtype` in a buffer."""
    return vector(_MEMORY[dtype.name], lanes)


def register_bits(dtype: DType) -> int:
    """Bits of one element in a register; a bool counts as one byte, as in memory."""
    return 32 if is_narrow_float(dtype) else dtype.itemsize * 8


def lanes_of(type: ir.Type) -> int:
    """1 for a scalar type, else the vector's length."""
    return type.count if isinstance(type, ir.VectorType) else 1


def element_of(type: ir.Type) -> ir.Type:
    """The type of one lane."""
    return type.element if isinstance(type, ir.VectorType) else type


def like(type: ir.Type, element: ir.Type) -> ir.Type:
    """`element` in as many lanes as `type` has."""
    return vector(element, lanes_of(type))


def is_float(type: ir.Type) -> bool:
    return isinstance(element_of(type), (ir.FloatType, ir.DoubleType, ir.HalfType))


def bits_of(type: ir.Type) -> int:
    """Bits of one lane."""
    element = element_of(type)
    return element.width if isinstance(element, ir.IntType) else 64 if element == F64 else 32


def constant(type: ir.Type, value: float | int) -> ir.Value:
    """The same number in every lane: floats are rounded, integers wrap."""
    if value.__class__ is int:
        return _whole(type, value)
    if isinstance(value, SymInt):
        return _symbolic(type, value)
    # By text, since 0.0 and -0.0 are equal.
    return _constant(type, repr(value), value)


@lru_cache(maxsize=4096)
def _whole(type: ir.Type, value: int) -> ir.Constant:
    return _constant(type, repr(value), value)


@lru_cache(maxsize=4096)
def _constant(type: ir.Type, _text: str, value: float | int) -> ir.Constant:
    element = element_of(type)
    if isinstance(element, ir.IntType):
        number = int(value) & ((1 << element.width) - 1)
        if number >> (element.width - 1) and element.width > 1:
            number -= 1 << element.width
        scalar = ir.Constant(element, number)
    else:
        with np.errstate(over="ignore"):
            rounded = float(np.float32(value)) if element == F32 else float(value)
        scalar = ir.Constant(element, rounded)
    if element is type:
        return scalar
    return ir.Constant(type, f"splat ({scalar.typed})")


def _symbolic(type: ir.Type, value: SymInt) -> ir.Value:
    """A number that the function computes."""
    builder, element, number = writing(), element_of(type), emitted(value)
    if not isinstance(element, ir.IntType):
        number = builder.sitofp(number, element)
    elif element.width < 64:
        number = builder.trunc(number, element)
    return splat(builder, number, lanes_of(type))


def numbers(element: ir.Type, values: Sequence[int]) -> ir.Value:
    """A vector of given numbers, some of which may be symbolic."""
    if not is_symbolic(*values):
        return constants(element, values)
    found: ir.Value = poison(vector(element, len(values)))
    for lane, value in enumerate(values):
        item = constant(element, value)
        found = writing().insert_element(found, item, constant(I32, lane))
    return found


def constants(element: ir.Type, values: Sequence[int | float]) -> ir.Constant:
    """A vector of given numbers (a scalar for one)."""
    if isinstance(element, ir.IntType):
        return _whole_numbers(element, tuple(values))
    return _side_by_side(element, values)


@lru_cache(maxsize=1024)
def _whole_numbers(element: ir.Type, values: tuple[int | float, ...]) -> ir.Constant:
    return _side_by_side(element, values)


def _side_by_side(element: ir.Type, values: Sequence[int | float]) -> ir.Constant:
    assert not any(isinstance(value, SymInt) for value in values), "a symbol is no constant"
    items = [_constant(element, repr(value), value) for value in values]
    return items[0] if len(items) == 1 else ir.Constant(vector(element, len(items)), items)


@cache
def zero(type: ir.Type) -> ir.Constant:
    """Zero bits of any first-class type."""
    return ir.Constant(type, "zeroinitializer") if lanes_of(type) > 1 else _whole(type, 0)


@cache
def poison(type: ir.Type) -> ir.Constant:
    """No particular value."""
    return ir.Constant(type, "poison")


def lane_numbers(element: ir.IntType, lanes: int, stride: int = 1) -> ir.Value:
    """<0, stride, 2 * stride, ...>."""
    if isinstance(stride, SymInt):
        ramp = constants(element, list(range(lanes)))
        return writing().mul(ramp, constant(vector(element, lanes), stride))
    return constants(element, [lane * stride for lane in range(lanes)])


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A scalar in every lane."""
    if lanes == 1 or isinstance(value.type, ir.VectorType):
        return value
    type = vector(value.type, lanes)
    if isinstance(value, ir.Constant):
        return ir.Constant(type, f"splat ({value.typed})")
    single = builder.insert_element(poison(type), value, constant(I32, 0))
    return builder.shuffle_vector(single, poison(type), constants(I32, [0] * lanes))


def _mangled(type: ir.Type) -> str:
    if isinstance(type, ir.VectorType):
        return f"v{type.count}{_mangled(type.element)}"
    if isinstance(type, ir.PointerType):
        return "p0"
    return f"i{type.width}" if isinstance(type, ir.IntType) else f"f{bits_of(type)}"


def declare(module: ir.Module, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    """The function of that name in the module, declared on first use."""
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(result, arguments), name)
    return found


def intrinsic(
    builder: ir.IRBuilder,
    name: str,
    result: ir.Type,
    arguments: Sequence[ir.Value],
    overloads: Sequence[ir.Type] | None = None,
) -> ir.Value:
    """Call ``llvm.<name>``, overloaded on the result's type unless told otherwise."""
    suffix = ".".join(_mangled(t) for t in (overloads if overloads is not None else (result,)))
    full = f"llvm.{name}.{suffix}" if suffix else f"llvm.{name}"
    function = declare(builder.module, full, result, *(a.type for a in arguments))
    return builder.call(function, arguments)


FIRST_LEVEL, SECOND_LEVEL = 3, 2  # caches, as LLVM's prefetch calls them


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, cache: int) -> None:
    """Have a line fetched into a cache. An address of no memory does no harm."""
    arguments = [pointer, *(constant(I32, value) for value in (0, cache, 1))]
    intrinsic(builder, "prefetch", ir.VoidType(), arguments, (pointer.type,))
