"""Graphs that differ only in one size.

In: graphs as they come to be compiled.  Out: the `Family` of each, and once it has enough members,
its `Fit`: the graph for any size. Code for many sizes is the family's, whether it was compiled here
or by an earlier run.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from braze.ir.graph import Graph
from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.config import config
from braze.runtime.disk_cache import DiskCache
from braze.runtime.sized_texts import Fit, Text, fitted, with_outline
from braze.runtime.stored_sizes import Reader, Shelf
from braze.runtime.symbolic_code import SymbolicCode

if TYPE_CHECKING:
    from braze.runtime.background import Job
    from braze.runtime.background_process import Reply
    from braze.runtime.checked_sizes import CheckedSizes

_FAMILIES_KEPT = 64
_MEMBERS_KEPT = 12
# The third size that comes back is compiled for all others: that a size changes once may be chance.
_MEMBERS_NEEDED = 3
# Graphs of which none comes back: they are data preparation, or a model's, which reads parameters,
# with a size that is new each time, such as the words of a batch. A usual batch, the last one and
# an evaluation's are three sizes; the fourth is taken for the sign of many.
_MET_NEEDED = 4


class Family:
    """What is known of some graphs that print alike but for integers.

    Args:
        key: of the disk's entry for it.

    Attributes:
        codes: code that serves many sizes, the latest first.
        refusal: why there is none; "" while that is not known.
        job: such code is being compiled in the background.
        checked: such code whose runs are checked.
        seconds: what the latest run of one of them took without machine code.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.codes: list[SymbolicCode[Any]] = []
        self.refusal = ""
        self.job: Job | None = None
        self.checked: list[CheckedSizes] = []
        self.seconds = 0.0
        self.lock = threading.Lock()
        self._members: OrderedDict[tuple[int, ...], tuple[Text, Text]] = OrderedDict()
        self._shelf: Shelf | None = None

    def code_for(self, outline: Text) -> tuple[SymbolicCode[Any], Point] | None:
        """Code that serves a graph, of which this is the outline, and its size."""
        for code in self.codes:
            sizes = code.sizes_of(outline)
            if sizes is not None:
                return code, sizes
        return None

    def code_on_disk(
        self, outline: Text, disk: DiskCache, read: Reader
    ) -> tuple[SymbolicCode[Any], Point] | None:
        """Code that serves a graph, if an earlier run left any that nobody has read yet, and its
        size. Which there are is looked up once.

        Args:
            read: of the target's code.
        """
        with self.lock:
            if self._shelf is None:
                self._shelf = Shelf(disk, self.key, read)
            found = self._shelf.take(outline)
            if found is not None:
                self.codes.insert(0, found[0])
            return found

    def drop(self, code: SymbolicCode[Any]) -> None:
        """Forget code that cannot be loaded."""
        self.codes.remove(code)

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
        outline = Text.outline(graph)
        fits = (code.fit.outline or code.fit for code in self.codes)
        return all(fit.sizes_of(outline) is None for fit in fits)

    def join(self, graph: Graph) -> tuple[Fit, Point] | None:
        """Enter a graph that is to be compiled; with enough members, the fit and its size."""
        return self._entered(graph, _MEMBERS_NEEDED)

    def _entered(self, graph: Graph, needed: int) -> tuple[Fit, Point] | None:
        text = Text.of(graph)
        with self.lock:
            self._members[text.numbers] = text, Text.outline(graph)
            self._members.move_to_end(text.numbers)
            while len(self._members) > _MEMBERS_KEPT:
                self._members.popitem(last=False)
            members = dict(self._members.values())
        if len(members) < needed or self.refusal or not config.dynamic_shapes:
            return None
        for texts in _alike(text, [*members]):
            fit = fitted(texts) if len(texts) >= needed else None
            sizes = None if fit is None else fit.sizes_of(text)
            if fit is not None and sizes is not None:
                whole = with_outline(fit, [members[own] for own in texts])
                return None if whole is None else (whole, sizes)
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


def served(code: SymbolicCode[Any], sizes: Point) -> str:
    """What is told of a graph that code for many sizes serves."""
    ((lowest,), (highest,), (size,)) = code.lowest, code.highest, sizes
    return f"one code serves sizes {lowest} to {highest}, here {size}"


def loaded(code: SymbolicCode[Any], sizes: Point) -> str:
    """What is told of a graph for which code for many sizes was read from the disk."""
    seen = ", ".join(str(size) for (size,) in code.fit.seen)
    return f"{served(code, sizes)}; an earlier run compiled it when it had met {seen}"


def third_size(code: SymbolicCode[Any] | None, refusal: str) -> str:
    """What is told of code for many sizes, or of why there is none."""
    if code is not None:
        ((lowest,), (highest,)) = code.lowest, code.highest
        return (
            "this is the third size of one dimension, so the code serves all from "
            f"{lowest} to {highest}"
        )
    return f"this is the third size of one dimension, but {refusal}" if refusal else ""


def family_key(graph: Graph, target: Target, tools: str = "") -> str:
    """What graphs of a family, on one target, have in common, as a key of the disk cache.

    Args:
        tools: what else compiles them.
    """
    return _key(Text.outline(graph), target, tools)


def _key(outline: Text, target: Target, tools: str) -> str:
    alike = "#".join(outline.form)
    return f"sizes {sha256(alike.encode()).hexdigest()} {target.to_text()} {tools}".rstrip()


class _Families:
    """The families that were met last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: OrderedDict[str, Family] = OrderedDict()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for family in self._families.values():
            family.lock = threading.Lock()
            family.job = None  # of the parent's

    def of(self, graph: Graph, target: Target, tools: str = "") -> Family:
        """The family of a graph; see `family_key`."""
        return self.met(graph, target, tools)[0]

    def met(self, graph: Graph, target: Target, tools: str = "") -> tuple[Family, Text]:
        """The family of a graph, and the graph's outline."""
        outline = Text.outline(graph)
        key = _key(outline, target, tools)
        with self._lock:
            family = self._families.get(key)
            if family is None:
                family = self._families[key] = Family(key)
            self._families.move_to_end(key)
            while len(self._families) > _FAMILIES_KEPT:
                self._families.popitem(last=False)
            return family, outline

    def may_serve(self) -> bool:
        """Whether any family has code for many sizes, or will have."""
        with self._lock:
            return any(family.codes or family.job for family in self._families.values())

    def clear(self) -> None:
        with self._lock:
            self._families.clear()


families = _Families()
