"""The integers of a program as functions of a size, from its text and those for a few other sizes.

In: texts of programs.  Out: a `SymInt` for each place of a text where the integers differ.

Texts are compared kernel by kernel. The order of the kernels, and with it the names of the values
between them, how many chunks they are cut into and which of their loops are unrolled may be another
for each size: these are matters of speed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from braze.ir.errors import BrazeError
from braze.ir.symint import SymInt, print_form, through

# A kernel or the meaning of a check, up to the next one.
_BEGIN = r"  site |    (?:nest|contraction|sort|host|recurrence|attention) "
_ITEM = re.compile(rf"^(?:{_BEGIN}).*\n?(?:(?!{_BEGIN}|  wave|  \}}|\}}).*\n?)*", re.MULTILINE)
# What is no integer of the program, and what may differ.
_WORD = re.compile(
    r"(?P<number>(?<![\w.])\d+(?![\w]))"
    r"|(?P<value>(?<!\))%(?:\w+|\"[^\"]*\"))"  # behind a parenthesis it is a remainder
    r"|(?P<speed> chunks \d+| unroll\b)"
    r"|(?P<kernel>@[^\s(]+)"
    r"|#[^\n]*|\"[^\"]*\"|[$\w.]+"
)


class NotSymbolic(BrazeError, ValueError):
    """No one program serves several sizes; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """A kernel's text, or that of what a check means.

    Attributes:
        start: where it begins in the program's text.
        form: without its integers, names and what may differ; it has the places of the integers.
        places, numbers: of the integers, from the item's start.
    """

    start: int
    form: str
    places: tuple[int, ...]
    numbers: tuple[int, ...]


def items_of(text: str) -> list[Item]:
    """The kernels and checks of a program's text."""
    return [_item(found.start(), found[0]) for found in _ITEM.finditer(text)]


def _item(start: int, text: str) -> Item:
    places, numbers, pieces, end = [], [], [], 0
    for word in _WORD.finditer(text):
        stands_for = {"number": "#", "value": "%", "speed": "", "kernel": "@"}.get(
            word.lastgroup or "", word[0]
        )
        if word.lastgroup == "number":
            places.append(word.start())
            numbers.append(int(word[0]))
        elif word.lastgroup == "kernel":
            stands_for = re.sub(r"_\d+$", "", word[0])
        pieces += [text[end : word.start()], stands_for]
        end = word.end()
    return Item(start, "".join([*pieces, text[end:]]), tuple(places), tuple(numbers))


def symbols_of(
    sample: int, items: list[Item], others: Iterator[tuple[int, list[Item]]], needed: int
) -> dict[int, SymInt]:
    """The function for each integer that differs, by its position in the sample's text.

    Args:
        sample: the size of `items`.
        others: further sizes, of which the first with the same kernels are taken.
        needed: how many.

    Raises:
        NotSymbolic: there are too few, or the integers are no polynomials of the size.
    """
    forms = Counter(item.form for item in items)
    alike = ((size, its) for size, its in others if Counter(i.form for i in its) == forms)
    near = {size: _in_order(its) for size, its in islice(alike, needed)}
    if len(near) < needed:
        raise NotSymbolic(f"sizes near {sample} are compiled to other kernels")
    symbols: dict[int, SymInt] = {}
    seen: Counter[str] = Counter()
    for item in items:
        number = seen[item.form]
        seen[item.form] += 1
        rows = {size: its[item.form][number].numbers for size, its in near.items()}
        for at, value in enumerate(item.numbers):
            symbol = _function(sample, value, {size: row[at] for size, row in rows.items()})
            if symbol is None:
                line = item.form.split("\n", 1)[0].strip()
                raise NotSymbolic(f"{value} is no simple function of the size {sample} in {line}")
            if isinstance(symbol, SymInt):
                symbols[item.start + item.places[at]] = symbol
    return symbols


def _in_order(items: list[Item]) -> dict[str, list[Item]]:
    """The items of each form."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.form].append(item)
    return found


def _function(sample: int, value: int, others: Mapping[int, int]) -> int | None:
    """The polynomial of degree two, at most, through the values at some sizes; a number if all are
    the same, None if there is none with whole coefficients."""
    if all(other == value for other in others.values()):
        return value
    points = {sample: value, **others}
    found = through(list(points.items())[:3])
    if found is None:
        return None
    square, factor, summand = found
    if any((square * s + factor) * s + summand != v for s, v in points.items()):
        return None
    n = SymInt.word(0, sample)
    return (n * square + factor) * n + summand


def agree(
    items: list[Item], symbols: Mapping[int, SymInt], size: int, actual: list[Item]
) -> bool:
    """Whether the functions give the kernels that there are for a size, with all their integers."""

    def predicted(item: Item) -> tuple[str, tuple[int, ...]]:
        pairs = zip(item.places, item.numbers, strict=True)
        found = ((symbols.get(item.start + place), number) for place, number in pairs)
        return item.form, tuple(s.at([size]) if s is not None else n for s, n in found)

    return Counter(map(predicted, items)) == Counter((i.form, i.numbers) for i in actual)


def with_functions(text: str, symbols: Mapping[int, SymInt]) -> str:
    """A program's text with functions of the size n, in braces, for its integers."""
    pieces, end = [], 0
    for start, symbol in sorted(symbols.items()):
        pieces += [text[end:start], f"{{{print_form(symbol.form)}}}"]
        end = start + len(str(symbol))
    return "".join([*pieces, text[end:]])
