"""Numbers of a symbolic program as LLVM values.

In: a `SymInt`, in a function that has the words.  Out: an i64 value, computed where the function's
builder stands; LLVM finds out what was computed before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from braze.codegen.llvm import ir
from braze.ir.symint import SymInt, evaluate

I64 = ir.IntType(64)

Word = Callable[[int], ir.Value]


class _Functions(threading.local):
    """The functions being written: the builder of each, and where it finds the words."""

    def __init__(self) -> None:
        self.stack: list[tuple[ir.IRBuilder, Word, int] | None] = []


_functions = _Functions()


@contextmanager
def symbolic_scope() -> Iterator[None]:
    """For a function that is written inside: what it enters ends with it."""
    _functions.stack.append(None)
    try:
        yield
    finally:
        _functions.stack.pop()


def enter_function(builder: ir.IRBuilder, word: Word, sizes: int) -> None:
    """From now on numbers are emitted with this builder.

    Args:
        word: the value of a word, at the builder's position.
        sizes: how many of the words are sizes.
    """
    _functions.stack[-1] = builder, word, sizes


def size_count() -> int:
    """How many sizes the function being written has."""
    entered = _functions.stack[-1] if _functions.stack else None
    return 0 if entered is None else entered[2]


def own_sizes() -> list[ir.Value]:
    """What a function of a symbolic program tells those that it calls, besides."""
    entered = _functions.stack[-1] if _functions.stack else None
    return [] if entered is None else [entered[1](number) for number in range(entered[2])]


def writing() -> ir.IRBuilder:
    """The builder of the function being written, which has the words."""
    return _entered()[0]


def _entered() -> tuple[ir.IRBuilder, Word]:
    entered = _functions.stack[-1] if _functions.stack else None
    if entered is None:
        raise AssertionError("internal error: a symbolic number in a function without words")
    return entered[:2]


def emitted(number: SymInt) -> ir.Value:
    """The number's value, as i64."""
    builder, word = _entered()
    return evaluate(
        number.form, word, lambda n: ir.Constant(I64, n), lambda *args: _operation(builder, *args)
    )


def _operation(builder: ir.IRBuilder, op: str, left: ir.Value, right: ir.Value) -> ir.Value:
    if op == "+":
        return builder.add(left, right, flags=("nsw",))
    if op == "*":
        return builder.mul(left, right, flags=("nsw",))
    assert op in ("//", "%"), op  # others are the host's
    # Divisors are positive; the quotient is rounded down.
    zero = ir.Constant(I64, 0)
    rest = builder.srem(left, right)
    is_below = builder.icmp_signed("<", rest, zero)
    if op == "%":
        return builder.add(rest, builder.select(is_below, right, zero))
    return builder.sub(builder.sdiv(left, right), builder.zext(is_below, I64))
