"""The texts of graphs that print alike but for integers, and these integers as functions of sizes.

In: graphs.  Out: a `Text` of each, and a `Fit` of several: the text for any size. If the integers
are polynomials of one of them, of degree two at most, that one is the size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from braze.ir.fingerprint import description
from braze.ir.graph import Graph
from braze.ir.polynomials import Interpolation, Point, Polynomial

# The user's line, of which every graph has its own; or an integer that is a word of its own.
_WORD = re.compile(r"#[^\n]*|(?<![\w.%$])\d+")


@dataclass(frozen=True, slots=True)
class Text:
    """A graph's text, taken apart.

    Attributes:
        pieces: what is between the integers. form: the same without the user's lines.
        numbers: the integers.
    """

    pieces: tuple[str, ...]
    form: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, graph: Graph | str) -> Text:
        """The text of a graph."""
        text = str(graph)
        pieces, form, numbers = [""], [""], []
        end = 0
        for word in _WORD.finditer(text):
            between = text[end : word.start()]
            pieces[-1] += between
            form[-1] += between
            if word[0][0] == "#":
                pieces[-1] += word[0]
            else:
                numbers.append(int(word[0]))
                pieces.append("")
                form.append("")
            end = word.end()
        pieces[-1] += text[end:]
        form[-1] += text[end:]
        return cls(tuple(pieces), tuple(form), tuple(numbers))

    @classmethod
    def outline(cls, graph: Graph) -> Text:
        """What makes a graph the program that it is, which is soon written down."""
        return cls.of(description(graph))


@dataclass(frozen=True, slots=True)
class Fit:
    """The integers of a family's graphs as functions of its sizes.

    Attributes:
        text: of one of the graphs.
        functions: those that are no constants. places: the numbers of the integers that each is of.
        seen: sizes of which there are graphs.
        free: the dimensions of which there are many sizes; the others have one.
        outline: the same of the graphs' outlines.
    """

    text: Text
    functions: tuple[Polynomial, ...]
    places: tuple[tuple[int, ...], ...]
    seen: tuple[Point, ...]
    free: tuple[int, ...]
    outline: Fit | None = None

    def numbers_at(self, sizes: Point) -> tuple[int, ...]:
        """The integers for some sizes."""
        numbers = list(self.text.numbers)
        for function, places in zip(self.functions, self.places, strict=True):
            value = function.at(sizes)
            for place in places:
                numbers[place] = value
        return tuple(numbers)

    def text_at(self, sizes: Point) -> str:
        """The graph for some sizes, as text."""
        numbers = map(str, self.numbers_at(sizes))
        pairs = zip(self.text.pieces, numbers, strict=False)
        return "".join([*(piece for pair in pairs for piece in pair), self.text.pieces[-1]])

    def describes(self, text: Text, sizes: Point) -> bool:
        """Whether a text is that of the graph for some sizes."""
        return text.form == self.text.form and self.numbers_at(sizes) == text.numbers

    def sizes_of(self, text: Text) -> Point | None:
        """The sizes of a graph, if the fit describes it."""
        if text.form != self.text.form:
            return None
        sizes = list(self.seen[0])
        for dim in self.free:
            # One of the integers is the size itself.
            pairs = zip(self.functions, self.places, strict=True)
            sizes[dim] = next(text.numbers[own[0]] for f, own in pairs if f.is_size(dim))
        made = tuple(sizes)
        return made if self.describes(text, made) else None


def fitted(texts: Sequence[Text]) -> Fit | None:
    """The fit of at least three graphs; None if they do not differ in one size alone."""
    rows = [text.numbers for text in texts]
    if any(text.form != texts[0].form for text in texts[1:]):
        return None
    steps = [abs(b - a) for a, b in zip(*rows[:2], strict=True)]
    unit = min((at for at, step in enumerate(steps) if step), key=steps.__getitem__, default=None)
    if unit is None or len({row[unit] for row in rows[:3]}) < 3:
        return None
    near = Interpolation([[row[unit] for row in rows[:3]]])
    sizes = [(row[unit],) for row in rows]
    fit = fitted_at(near, dict(zip(sizes, texts, strict=True)))
    described = fit is not None and all(map(fit.describes, texts, sizes))
    return fit if described else None


def fitted_at(near: Interpolation, texts: Mapping[Point, Text]) -> Fit | None:
    """The fit of graphs for some sizes, the points of `near` among them; None if there is none."""
    *_, latest = texts.values()
    if any(text.form != latest.form for text in texts.values()):
        return None
    places: dict[Polynomial, list[int]] = {}
    known: dict[tuple[int, ...], Polynomial] = {}
    rows = [texts[sizes].numbers for sizes in near.points]
    for at, values in enumerate(zip(*rows, strict=True)):
        if all(text.numbers[at] == values[0] for text in texts.values()):
            continue
        found = known.get(values) or near.through(values)
        if found is None:
            return None
        known[values] = found
        places.setdefault(found, []).append(at)
    fit = Fit(latest, tuple(places), tuple(map(tuple, places.values())), tuple(texts), near.free)
    if not all(any(f.is_size(dim) for f in fit.functions) for dim in near.free):
        return None
    return fit if all(fit.describes(text, sizes) for sizes, text in texts.items()) else None


def with_outline(fit: Fit, outlines: Sequence[Text]) -> Fit | None:
    """A fit of one size with that of the graphs' outlines, in the order of the sizes it has seen;
    None if there is none."""
    near = Interpolation([[size for (size,) in fit.seen[:3]]])
    found = fitted_at(near, dict(zip(fit.seen, outlines, strict=True)))
    return None if found is None else replace(fit, outline=found)
