"""Integers that are functions of sizes that are not known when code is generated.

A `SymInt` is an integer, the one that the function has at a sample of the sizes, so that whatever
plans with integers plans for the sample. What is computed from it with +, -, *, //, % is again a
`SymInt`, and where code generation needs the number it emits the computation (see
`braze.codegen.llvm.symbolic`). A comparison, and anything else that gives no `SymInt`, is decided
for the sample: whoever decides so must know that the decision holds for the other sizes as well.

The function's arguments are *words*, which a compiled graph is given when it is called: the first
are the sizes themselves.

    >>> n = SymInt.word(0, 20)
    >>> rows = n * 4 + 8
    >>> print(rows, rows // 4, rows % 4, (rows // 7).at([34]))
    88 22 0 20
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any, TypeVar

# ("affine", word, factor, summand), or an operation on two forms or numbers.
Form = tuple[Any, ...]
T = TypeVar("T")


class SymInt(int):
    """An integer with the function that it is a value of."""

    form: Form

    def __new__(cls, value: int, form: Form) -> SymInt:
        self = int.__new__(cls, value)
        self.form = form
        return self

    @classmethod
    def word(cls, number: int, value: int) -> SymInt:
        """The word of that number, whose value in the sample is given."""
        return cls(value, ("affine", number, 1, 0))

    def at(self, words: Sequence[int]) -> int:
        """The function's value for these words."""
        return evaluate(self.form, words.__getitem__, int, lambda op, x, y: _OPERATIONS[op](x, y))

    @property
    def factor(self) -> int:
        """A number that divides the value for all words."""
        return _factor(self.form)

    # The result of an operation on plain values, with its form ------------------------------------

    def _affine(self, factor: int, summand: int) -> int:
        """factor * self + summand, of an affine form."""
        _, word, k, b = self.form
        value = int(self) * factor + summand
        if k * factor == 0:
            return value
        return SymInt(value, ("affine", word, k * factor, b * factor + summand))

    def _with(self, op: str, value: int, left: int, right: int) -> SymInt:
        return SymInt(value, (op, form_of(left), form_of(right)))

    def __add__(self, other: int) -> int:
        value = int(self) + int(other)
        if not isinstance(other, SymInt):
            if other == 0:
                return self
            if self.form[0] == "affine":
                return self._affine(1, other)
        elif self.form[0] == other.form[0] == "affine" and self.form[1] == other.form[1]:
            _, word, k, b = self.form
            if k + other.form[2] == 0:
                return value
            return SymInt(value, ("affine", word, k + other.form[2], b + other.form[3]))
        return self._with("+", value, self, other)

    __radd__ = __add__

    def __neg__(self) -> int:
        return self * -1

    def __sub__(self, other: int) -> int:
        if isinstance(other, SymInt) and other.form == self.form:
            return 0
        return self + -other

    def __rsub__(self, other: int) -> int:
        return -self + other

    def __mul__(self, other: int) -> int:
        if not isinstance(other, SymInt):
            if other in (0, 1):
                return self if other else 0
            if self.form[0] == "affine":
                return self._affine(other, 0)
        return self._with("*", int(self) * int(other), self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        if not isinstance(other, SymInt):
            if other == 1:
                return self
            if self.form[0] == "affine" and self.form[2] % other == 0:
                _, word, k, b = self.form
                return SymInt(int(self) // other, ("affine", word, k // other, b // other))
            if self.form[0] in "+*" and other > 1 and self.factor % other == 0:
                return SymInt(int(self) // other, _divided(self.form, other))
        return self._with("//", int(self) // int(other), self, other)

    def __rfloordiv__(self, other: int) -> int:
        return self._with("//", other // int(self), other, self)

    def __mod__(self, other: int) -> int:
        if not isinstance(other, SymInt):
            if other == 1:
                return 0
            if self.form[0] == "affine" and self.form[2] % other == 0:
                return int(self.form[3]) % other
            if other > 0 and self.factor % other == 0:
                return 0
        return self._with("%", int(self) % int(other), self, other)

    def __rmod__(self, other: int) -> int:
        return self._with("%", other % int(self), other, self)

    def __divmod__(self, other: int) -> tuple[int, int]:
        return self // other, self % other

    def __rdivmod__(self, other: int) -> tuple[int, int]:
        return other // self, other % self

    def __abs__(self) -> int:
        return self if int(self) >= 0 else -self

    def __pos__(self) -> SymInt:
        return self

    # As a number it is compared, hashed and printed -----------------------------------------------

    __hash__ = int.__hash__
    __str__ = int.__repr__

    def __repr__(self) -> str:
        return f"SymInt({int(self)}, {self.form})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SymInt, (int(self), self.form)


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": int.__add__,
    "*": int.__mul__,
    "//": int.__floordiv__,
    "%": int.__mod__,
    "min": min,
    "max": max,
}


def _factor(form: Form | int) -> int:
    """A number that divides the values of a form; 0 if they are 0."""
    if isinstance(form, int):
        return abs(form)
    match form[0]:
        case "affine":
            return gcd(*form[2:])
        case "*":
            return _factor(form[1]) * _factor(form[2])
        case "+":
            return gcd(_factor(form[1]), _factor(form[2]))
    return 1


def _divided(form: Form | int, by: int) -> Any:
    """A form over a divisor of its factor."""
    if isinstance(form, int):
        return form // by
    if form[0] == "affine":
        return "affine", form[1], form[2] // by, form[3] // by
    op, left, right = form
    if op == "+":
        return op, _divided(left, by), _divided(right, by)
    own = gcd(_factor(left), by)
    return op, _divided(left, own), _divided(right, by // own)


def form_of(value: int) -> Form | int:
    """The form of a `SymInt`; another integer is its own."""
    return value.form if isinstance(value, SymInt) else value


def is_symbolic(*values: int) -> bool:
    """Whether any of the integers is a `SymInt`."""
    return any(isinstance(value, SymInt) for value in values)


def is_always(number: int, value: int) -> bool:
    """Whether a number is this one, whatever the words are."""
    return number == value and not isinstance(number, SymInt)


def least(x: int, y: int) -> int:
    """The smaller of two integers, for whatever words there are."""
    value = min(int(x), int(y))
    return SymInt(value, ("min", form_of(x), form_of(y))) if is_symbolic(x, y) else value


def greatest(x: int, y: int) -> int:
    """The larger of two integers, for whatever words there are."""
    if form_of(x) == form_of(y):
        return x
    value = max(int(x), int(y))
    return SymInt(value, ("max", form_of(x), form_of(y))) if is_symbolic(x, y) else value


def value_at(value: int, words: Sequence[int]) -> int:
    """An integer, or the value of its function for these words."""
    return value.at(words) if isinstance(value, SymInt) else value


def evaluate(
    form: Form | int,
    word: Callable[[int], T],
    number: Callable[[int], T],
    apply: Callable[[str, T, T], T],
) -> T:
    """Compute a form over any kind of value.

    Args:
        word: the value of a word.
        number: of a plain integer.
        apply: the value of an operation, "+", "*", "//" or "%", both rounding down, or "min" or
            "max", which only `least` and `greatest` make.
    """
    if isinstance(form, int):
        return number(form)
    if form[0] == "affine":
        _, at, factor, summand = form
        value = word(at)
        if factor != 1:
            value = apply("*", value, number(factor))
        return apply("+", value, number(summand)) if summand else value
    op, left, right = form
    return apply(op, evaluate(left, word, number, apply), evaluate(right, word, number, apply))


def print_form(form: Form, names: Sequence[str] = ("n",)) -> str:
    """A form for people: ``4*n + 8``.

    Args:
        names: of the first words.
    """

    def single(text: str) -> str:
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def apply(op: str, left: str, right: str) -> str:
        if op == "+":
            return f"{left} - {right[1:]}" if right[0] == "-" else f"{left} + {right}"
        if op == "*" and right == "-1":
            return f"-{single(left)}"
        if op == "*" and right.lstrip("-").isdigit():
            return f"{right}*{single(left)}"
        if op in ("min", "max"):
            return f"{op}({left}, {right})"
        return f"{single(left)}{op}{single(right)}"

    return evaluate(form, lambda w: names[w] if w < len(names) else f"w{w}", str, apply)
