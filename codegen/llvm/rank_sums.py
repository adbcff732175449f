"""Sums of what several processes have, as LLVM IR.

Out: the text of a module that depends on nothing, and the names of its functions:

    braze_sum_f32_mul(ptr addresses, i64 arrays, i64 count, float by)
    braze_sum_f32_div, braze_sum_f64_mul, braze_sum_f64_div

Each adds up arrays of `count` elements in the order of their addresses, multiplies the sum by a
number, or divides it by one, and writes it to all of them. That is one pass through memory, which
bounds it.
"""

from __future__ import annotations

# So many bytes of each array at a time: enough additions under way to hide their latency.
_STRIP_BYTES = 256
_TYPES = {"f32": ("float", 4), "f64": ("double", 8)}
_LAST = ("mul", "div")


def symbol(dtype: str, last: str) -> str:
    """The function for "f32" or "f64" whose last operation is "mul" or "div"."""
    return f"braze_sum_{dtype}_{last}"


def sums_module() -> str:
    """The module's LLVM IR."""
    return "".join(_function(dtype, last) for dtype in _TYPES for last in _LAST)


def _function(dtype: str, last: str) -> str:
    scalar, itemsize = _TYPES[dtype]
    lanes = _STRIP_BYTES // itemsize
    strip = f"<{lanes} x {scalar}>"
    ends = f"f{last} {strip} %strips.sum, %bys", f"f{last} {scalar} %tail.sum, %by"
    strips = _loop("strips", scalar, strip, ends[0], "entry", ("0", "%whole"), lanes)
    tail = _loop("tail", scalar, scalar, ends[1], "strips.end", ("%whole", "%count"), 1)
    return f"""
define void @{symbol(dtype, last)}(ptr %addresses, i64 %arrays, i64 %count, {scalar} %by) {{
entry:
  %one = insertelement {strip} poison, {scalar} %by, i64 0
  %bys = shufflevector {strip} %one, {strip} poison, <{lanes} x i32> zeroinitializer
  %rest = urem i64 %count, {lanes}
  %whole = sub i64 %count, %rest
  br label %strips.head
{strips}
strips.end:
  br label %tail.head
{tail}
tail.end:
  ret void
}}
"""


def _loop(
    name: str, scalar: str, type: str, last: str, before: str, span: tuple[str, str], step: int
) -> str:
    """A loop over the elements of a span, so many at a time, from the block `before` to the block
    ``name.end``."""
    start, stop = span
    text = f"""
NAME.head:
  %NAME.i = phi i64 [ {start}, %{before} ], [ %NAME.next, %NAME.done ]
  %NAME.more = icmp slt i64 %NAME.i, {stop}
  br i1 %NAME.more, label %NAME.first, label %NAME.end
NAME.first:
  %NAME.base = load ptr, ptr %addresses
  %NAME.at = getelementptr SCALAR, ptr %NAME.base, i64 %NAME.i
  %NAME.x = load TYPE, ptr %NAME.at, align 4
  br label %NAME.add
NAME.add:
  %NAME.a = phi i64 [ 1, %NAME.first ], [ %NAME.a.next, %NAME.added ]
  %NAME.sum = phi TYPE [ %NAME.x, %NAME.first ], [ %NAME.sum.next, %NAME.added ]
  %NAME.a.more = icmp slt i64 %NAME.a, %arrays
  br i1 %NAME.a.more, label %NAME.added, label %NAME.total
NAME.added:
  %NAME.a.slot = getelementptr ptr, ptr %addresses, i64 %NAME.a
  %NAME.a.base = load ptr, ptr %NAME.a.slot
  %NAME.a.at = getelementptr SCALAR, ptr %NAME.a.base, i64 %NAME.i
  %NAME.y = load TYPE, ptr %NAME.a.at, align 4
  %NAME.sum.next = fadd TYPE %NAME.sum, %NAME.y
  %NAME.a.next = add i64 %NAME.a, 1
  br label %NAME.add
NAME.total:
  %NAME.result = {last}
  br label %NAME.put
NAME.put:
  %NAME.b = phi i64 [ 0, %NAME.total ], [ %NAME.b.next, %NAME.put ]
  %NAME.b.slot = getelementptr ptr, ptr %addresses, i64 %NAME.b
  %NAME.b.base = load ptr, ptr %NAME.b.slot
  %NAME.b.at = getelementptr SCALAR, ptr %NAME.b.base, i64 %NAME.i
  store TYPE %NAME.result, ptr %NAME.b.at, align 4
  %NAME.b.next = add i64 %NAME.b, 1
  %NAME.b.more = icmp slt i64 %NAME.b.next, %arrays
  br i1 %NAME.b.more, label %NAME.put, label %NAME.done
NAME.done:
  %NAME.next = add i64 %NAME.i, {step}
  br label %NAME.head"""
    return text.replace("NAME", name).replace("SCALAR", scalar).replace("TYPE", type)
