"""What the functions of a C model do for each size that calls choose, as LLVM IR.

In: how many sizes there are: none, one or two.  Out: texts for the names of `string.Template`s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from braze.codegen.llvm.c_reports import report


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension whose size calls choose: its name in C, its least and its greatest size."""

    name: str
    lowest: int
    highest: int


# Where a context keeps the sizes that it was last used for.
_PLACES = (24, 48)

SAY_SIZE = (
    """
define internal void @say_size(ptr %name, i64 %low, i64 %high, i64 %given, ptr %error) #2 {
"""
    + report("BAD_ARGUMENT", "size", "ptr %name", "i64 %low", "i64 %high", "i64 %given")
    + """
  ret void
}
"""
)


def size_texts(count: int) -> dict[str, str]:
    """The texts, by their names.

    SIZES and NO_SIZES are arguments, with a comma behind them.
    """

    def each(text: Callable[[int], str], between: str = "\n") -> str:
        return between.join(map(text, range(count)))

    return {
        "SIZE_COUNT": str(count),
        "SIZES": each(lambda d: f"i64 %size{d}, ", ""),
        "NO_SIZES": each(lambda d: "i64 0, ", ""),
        "SERVES": "  %serves0 = icmp eq i64 0, 0\n  %choices0 = add i64 0, 1\n" + each(_serves),
        "LOOK_SIZES": each(_within) + f"\nlook_size{count}:",
        "SAME_SIZES": "  %same0 = icmp eq ptr %last_code, %code\n" + each(_same),
        "KEEP_SIZES": each(_keep),
    }


def _serves(d: int) -> str:
    """Whether a code serves the sizes so far, and how many choices of them."""
    return f"""\
  %low{d}_at = getelementptr %code, ptr %code, i32 0, i32 0, i32 {d}
  %low{d} = load i64, ptr %low{d}_at
  %high{d}_at = getelementptr %code, ptr %code, i32 0, i32 1, i32 {d}
  %high{d} = load i64, ptr %high{d}_at
  %width{d} = sub i64 %high{d}, %low{d}
  %above{d} = sub i64 %size{d}, %low{d}
  %in{d} = icmp ule i64 %above{d}, %width{d}
  %serves{d + 1} = and i1 %serves{d}, %in{d}
  %each{d} = add i64 %width{d}, 1
  %choices{d + 1} = mul i64 %choices{d}, %each{d}"""


def _within(d: int) -> str:
    """Code may be right for more sizes than were asked for."""
    return f"""\
look_size{d}:
  %smallest{d} = load i64, ptr getelementptr (i64, ptr @sizes, i64 {2 * d})
  %greatest{d} = load i64, ptr getelementptr (i64, ptr @sizes, i64 {2 * d + 1})
  %above{d} = icmp sge i64 %size{d}, %smallest{d}
  %below{d} = icmp sle i64 %size{d}, %greatest{d}
  %within{d} = and i1 %above{d}, %below{d}
  br i1 %within{d}, label %look_size{d + 1}, label %say_size{d}
say_size{d}:
  %name{d} = load ptr, ptr getelementptr (ptr, ptr @dimensions, i64 {d})
  call void @say_size(
      ptr %name{d}, i64 %smallest{d}, i64 %greatest{d}, i64 %size{d}, ptr %error)
  br label %bad_argument"""


def _same(d: int) -> str:
    return f"""\
  %size{d}_at = getelementptr i8, ptr %context, i64 {_PLACES[d]}
  %last_size{d} = load i64, ptr %size{d}_at
  %is_same{d} = icmp eq i64 %last_size{d}, %size{d}
  %same{d + 1} = and i1 %same{d}, %is_same{d}"""


def _keep(d: int) -> str:
    return f"""\
  %size{d}_at = getelementptr i8, ptr %context, i64 {_PLACES[d]}
  store i64 %size{d}, ptr %size{d}_at"""
