"""The integers of a program as functions of sizes, from its text and those for a few other sizes.

In: texts of programs.  Out: a `SymInt` for each place of a text where the integers differ.

Texts are compared kernel by kernel. The order of the kernels, and with it the names of the values
between them, how many chunks they are cut into and which of their loops are unrolled may be another
for each size: these are matters of speed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from braze.ir.errors import BrazeError
from braze.ir.loops_recurrence import STEP
from braze.ir.polynomials import Interpolation, Point
from braze.ir.symint import SymInt, print_form

# A kernel or the meaning of a check, up to the next one.
_BEGIN = r"  site |    (?:nest|contraction|sort|host|recurrence|attention) "
_ITEM = re.compile(rf"^(?:{_BEGIN}).*\n?(?:(?!{_BEGIN}|  wave|  \}}|\}}).*\n?)*", re.MULTILINE)
# What is no integer of the program, and what may differ.
_WORDS = (
    r"(?P<number>(?<![\w.])\d+(?![\w]))"
    r"|(?P<value>(?<!\))%(?:\w+|\"[^\"]*\"))"  # behind a parenthesis it is a remainder
    r"|(?P<speed> chunks \d+| unroll\b)"
    r"|(?P<kernel>@[^\s(]+)"
    r"|#[^\n]*|\"[^\"]*\"|[$\w.]+"
)
_WORD = re.compile(_WORDS)
# Where the values of a step are in its arena, which is laid out again for all sizes.
_WORD_OF_STEPS = re.compile(
    rf"(?P<layout>(?<=arena)\"?: u8\[\d+\](?= inout)|(?<=arena )\d+)|{_WORDS}"
)
_RECURRENCE = "    recurrence "
# A step's name tells what it computes, its sizes included.
_STEP = re.compile(rf"@{STEP}[0-9a-f]+")
# What stands for words of each kind.
_FORMS = {"number": "#", "value": "%", "speed": "", "kernel": "@", "layout": "arena"}
# Of sizes in what people read.
_NAMES = ("n", "m")


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
    words = _WORD_OF_STEPS if text.startswith(_RECURRENCE) else _WORD
    for word in words.finditer(text):
        stands_for = _FORMS.get(word.lastgroup or "", word[0])
        if word.lastgroup == "number":
            places.append(word.start())
            numbers.append(int(word[0]))
        elif word.lastgroup == "kernel":
            stands_for = _STEP.sub(f"@{STEP}", re.sub(r"_\d+$", "", word[0]))
        pieces += [text[end : word.start()], stands_for]
        end = word.end()
    return Item(start, "".join([*pieces, text[end:]]), tuple(places), tuple(numbers))


def are_alike(items: list[Item], others: list[Item]) -> bool:
    """Whether there are the same kernels, but for integers."""
    return Counter(item.form for item in items) == Counter(item.form for item in others)


def symbols_of(near: Interpolation, items_at: Mapping[Point, list[Item]]) -> dict[int, SymInt]:
    """The function for each integer that differs, by its position in the sample's text.

    Args:
        near: the sizes that functions are found from, the first of which are the sample.
        items_at: the kernels for these and some other sizes, alike for all.

    Raises:
        NotSymbolic: the integers are no polynomials of the sizes.
    """
    sample = near.points[0]
    items = items_at[sample]
    in_order = {sizes: _in_order(own) for sizes, own in items_at.items()}
    symbols: dict[int, SymInt] = {}
    functions: dict[tuple[int, ...], int | None] = {}
    seen: Counter[str] = Counter()
    for item in items:
        number = seen[item.form]
        seen[item.form] += 1
        rows = [own[item.form][number].numbers for own in in_order.values()]
        for at, values in enumerate(zip(*rows, strict=True)):
            if values not in functions:
                functions[values] = _function(near, dict(zip(in_order, values, strict=True)))
            symbol = functions[values]
            if symbol is None:
                line, size = item.form.split("\n", 1)[0].strip(), sized(sample)
                raise NotSymbolic(
                    f"{item.numbers[at]} is no simple function of the size {size} in {line}"
                )
            if isinstance(symbol, SymInt):
                symbols[item.start + item.places[at]] = symbol
    return symbols


def sized(point: Point) -> str:
    """Sizes for people: ``8 x 128``."""
    return " x ".join(map(str, point))


def _in_order(items: list[Item]) -> dict[str, list[Item]]:
    """The items of each form."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.form].append(item)
    return found


def _function(near: Interpolation, values: Mapping[Point, int]) -> int | None:
    """The function with the values at some sizes; a number if all are the same, None if there is
    none."""
    found = near.through([values[sizes] for sizes in near.points])
    if found is None or any(found.at(sizes) != value for sizes, value in values.items()):
        return None
    return found.symbol(near.points[0])


def agree(
    items: list[Item], symbols: Mapping[int, SymInt], sizes: Point, actual: list[Item]
) -> bool:
    """Whether the functions give the kernels that there are for some sizes, with all their
    integers."""
    found = {symbol.form: symbol.at(sizes) for symbol in symbols.values()}

    def predicted(item: Item) -> tuple[str, tuple[int, ...]]:
        pairs = zip(item.places, item.numbers, strict=True)
        known = ((symbols.get(item.start + place), number) for place, number in pairs)
        return item.form, tuple(found[s.form] if s is not None else n for s, n in known)

    return Counter(map(predicted, items)) == Counter((i.form, i.numbers) for i in actual)


def with_functions(text: str, symbols: Mapping[int, SymInt]) -> str:
    """A program's text with functions of the sizes, n and m, in braces, for its integers."""
    pieces, end = [], 0
    for start, symbol in sorted(symbols.items()):
        pieces += [text[end:start], f"{{{print_form(symbol.form, _NAMES)}}}"]
        end = start + len(str(symbol))
    return "".join([*pieces, text[end:]])
