"""Graphs that differ only in one size.

In: graphs as they come to be compiled.  Out: the `Family` of each, and once it has enough members,
its `Fit`: the graph for any size.

Graphs of a family print alike but for integers and the user's lines. If the integers are
polynomials of one of them, of degree two at most, that one is the family's size.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from braze.ir.fingerprint import description
from braze.ir.graph import Graph
from braze.ir.polynomials import Interpolation, Point, Polynomial
from braze.ir.target import Target
from braze.runtime.config import config
from braze.runtime.symbolic_code import SymbolicCode

if TYPE_CHECKING:
    from braze.runtime.background import Job
    from braze.runtime.background_process import Reply
    from braze.runtime.checked_sizes import CheckedSizes

# The user's line, of which every graph has its own; or an integer that is a word of its own.
_WORD = re.compile(r"#[^\n]*|(?<![\w.%$])\d+")
_FAMILIES_KEPT = 64
_MEMBERS_KEPT = 12
# The third size that comes back is compiled for all others: that a size changes once may be chance.
_MEMBERS_NEEDED = 3
# Graphs of which none comes back: they are data preparation, or a model's, which reads parameters,
# with a size that is new each time, such as the words of a batch. A usual batch, the last one and
# an evaluation's are three sizes; the fourth is taken for the sign of many.
_MET_NEEDED = 4


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


@dataclass(frozen=True, slots=True)
class Fit:
    """The integers of a family's graphs as functions of its sizes.

    Attributes:
        text: of one of the graphs.
        functions: those that are no constants. places: the numbers of the integers that each is of.
        seen: sizes of which there are graphs.
        free: the dimensions of which there are many sizes; the others have one.
    """

    text: Text
    functions: tuple[Polynomial, ...]
    places: tuple[tuple[int, ...], ...]
    seen: tuple[Point, ...]
    free: tuple[int, ...]

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


class Family:
    """What is known of some graphs that print alike but for integers.

    Attributes:
        codes: code that serves many sizes, the latest first.
        refusal: why there is none; "" while that is not known.
        job: such code is being compiled in the background.
        checked: such code whose runs are checked.
        seconds: what the latest run of one of them took without machine code.
    """

    def __init__(self) -> None:
        self.codes: list[SymbolicCode[Any]] = []
        self.refusal = ""
        self.job: Job | None = None
        self.checked: list[CheckedSizes] = []
        self.seconds = 0.0
        self.lock = threading.Lock()
        self._members: OrderedDict[tuple[int, ...], Text] = OrderedDict()

    def code_for(self, graph: Graph) -> tuple[SymbolicCode[Any], Point] | None:
        """Code that serves a graph, and its size."""
        if not self.codes:
            return None
        text = Text.of(graph)
        for code in self.codes:
            sizes = code.fit.sizes_of(text)
            if sizes is not None and code.serves(sizes):
                return code, sizes
        return None

    def receive(self, reply: Reply) -> bool:
        """Take in what came of the job; whether it was not known before."""
        if self.job is None or self.job.reply is not reply:
            return False
        self.job = None
        self.refusal = reply.refusal
        if reply.code is not None:
            self.codes.insert(0, reply.code)
        return True

    def is_due(self) -> bool:
        """Whether the next member may well be compiled for all sizes."""
        open_yet = config.dynamic_shapes and not self.refusal and not self.codes
        return open_yet and len(self._members) >= _MEMBERS_NEEDED - 1

    def meet(self, graph: Graph) -> bool:
        """Enter a graph that nobody has seen before; whether to compile it for all sizes at once,
        though none of them has come back."""
        if self.refusal or self.job is not None or not config.dynamic_shapes:
            return False
        found = self._entered(graph, _MET_NEEDED)
        if found is None:
            return False
        # Sizes far from those that there is code for are left alone.
        text = Text.of(graph)
        return all(code.fit.sizes_of(text) is None for code in self.codes)

    def join(self, graph: Graph) -> tuple[Fit, Point] | None:
        """Enter a graph that is to be compiled; with enough members, the fit and its size."""
        return self._entered(graph, _MEMBERS_NEEDED)

    def _entered(self, graph: Graph, needed: int) -> tuple[Fit, Point] | None:
        text = Text.of(graph)
        with self.lock:
            self._members[text.numbers] = text
            self._members.move_to_end(text.numbers)
            while len(self._members) > _MEMBERS_KEPT:
                self._members.popitem(last=False)
            members = list(self._members.values())
        if len(members) < needed or self.refusal or not config.dynamic_shapes:
            return None
        for texts in _alike(text, members):
            fit = fitted(texts) if len(texts) >= needed else None
            sizes = None if fit is None else fit.sizes_of(text)
            if fit is not None and sizes is not None:
                return fit, sizes
        return None


def _alike(text: Text, texts: Sequence[Text]) -> list[list[Text]]:
    """A text, last, and others that differ from it in the same places, those with the fewest first:
    where two sizes change, these are the ones in which one of them does."""
    groups: dict[tuple[int, ...], list[Text]] = {}
    for other in texts:
        pairs = enumerate(zip(other.numbers, text.numbers, strict=True))
        places = tuple(at for at, (a, b) in pairs if a != b)
        if places:
            groups.setdefault(places, []).append(other)
    return [[*groups[places], text] for places in sorted(groups, key=len)]


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


def served(code: SymbolicCode[Any], sizes: Point) -> str:
    """What is told of a graph that code for many sizes serves."""
    ((lowest,), (highest,), (size,)) = code.lowest, code.highest, sizes
    return f"one code serves sizes {lowest} to {highest}, here {size}"


def third_size(code: SymbolicCode[Any] | None, refusal: str) -> str:
    """What is told of code for many sizes, or of why there is none."""
    if code is not None:
        ((lowest,), (highest,)) = code.lowest, code.highest
        return (
            "this is the third size of one dimension, so the code serves all from "
            f"{lowest} to {highest}"
        )
    return f"this is the third size of one dimension, but {refusal}" if refusal else ""


class _Families:
    """The families that were met last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: OrderedDict[tuple[str, Target], Family] = OrderedDict()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for family in self._families.values():
            family.lock = threading.Lock()
            family.job = None  # of the parent's

    def of(self, graph: Graph, target: Target) -> Family:
        """The family of a graph."""
        alike = "#".join(Text.of(description(graph)).form)
        key = sha256(alike.encode()).hexdigest(), target
        with self._lock:
            family = self._families.setdefault(key, Family())
            self._families.move_to_end(key)
            while len(self._families) > _FAMILIES_KEPT:
                self._families.popitem(last=False)
            return family

    def may_serve(self) -> bool:
        """Whether any family has code for many sizes, or will have."""
        with self._lock:
            return any(family.codes or family.job for family in self._families.values())

    def clear(self) -> None:
        with self._lock:
            self._families.clear()


families = _Families()
