"""Between dtypes: NumPy's `astype`, and the same bits as another dtype.

Floats truncate to integers, integers wrap around, bool tests for nonzero. A float that does not fit
gives some number: C++ leaves undefined what happens, so GPUs' own instructions are named.
In: a C expression in a dtype's register type.  Out: one in another's.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.codegen.cuda.types import (
    from_memory,
    is_narrow_float,
    memory_type,
    register_type,
    rounded,
    to_memory,
)
from braze.ir.dtypes import DType, bf16, bool_, f16, f64, u32, u64

Use = Callable[[str], None]


def cast(text: str, source: DType, goal: DType, use: Use) -> str:
    """The value of `text` in another dtype. A 16-bit float that comes in is rounded already."""
    if source is goal:
        return text
    type = register_type(goal)
    if goal is bool_:
        return f"({text} != 0)"
    if goal is f16 and source is f64:  # rounded once
        return f"__half2float(__double2half({text}))"
    if is_narrow_float(goal):
        if source is bf16 or source is f16:
            return rounded(text, goal)
        return rounded(text if register_type(source) == "float" else f"float({text})", goal)
    if goal.is_floating_point:
        return text if register_type(source) == type else f"{type}({text})"
    if not source.is_floating_point:
        return f"({type})({text})"
    if goal is u64:
        use("to_u64")
        return f"to_u64({text})"
    through = "long long" if goal.bits == 64 or goal is u32 else "int"
    short = "ll" if through == "long long" else "int"
    whole = f"__{register_type(source)}2{short}_rz({text})"
    return whole if type == through else f"({type}){whole}"


def bitcast(text: str, source: DType, goal: DType, use: Use) -> str:
    """The same bits as another dtype of the same width."""
    if source is goal:
        return text
    if source.is_integer and goal.is_integer:
        return f"({register_type(goal)})({text})"
    use("bit_cast")
    raw = to_memory(text, source)
    return from_memory(f"bit_cast<{memory_type(goal)}>({raw})", goal)
