"""What the code in a package was compiled from, so that all of its compile can be looked at.

In: the graphs that were compiled.  Out: entries of the package, and each code's `Recipe` back from
them.  Only who looks into a package reads these; loading and running it does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from braze.ir.graph import Graph
from braze.ir.polynomials import Point, Polynomial
from braze.runtime.package_format import UNSOUND, Archive, PackageError
from braze.runtime.provenance import Provenance
from braze.runtime.sized_texts import Fit, Text

if TYPE_CHECKING:
    from braze.codegen.llvm.panels import Order

INDEX, FOLDER = "compiled.json", "compiled/"


@dataclass(frozen=True, slots=True)
class Sized:
    """How code for many sizes was compiled: `graph` of the recipe is that of one of them.

    functions, places: the graph's integers that change with the sizes (`sized_texts.Fit`).
    free: the dimensions of which there are many sizes.
    point: sizes near which decisions were taken.
    """

    functions: tuple[Polynomial, ...]
    places: tuple[tuple[int, ...], ...]
    free: tuple[int, ...]
    point: Point


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one code was compiled from.

    Attributes:
        captured: the captured graph, as text.
        graph: the graph that was compiled: what depends on weights alone is in these.
        positions: for each of its nodes that of the captured node it comes from, or -1.
        sized: of code for many sizes.
        orders: the orders of weights that were decided for this and for other sizes together.
    """

    captured: str
    graph: str
    positions: tuple[int, ...]
    sized: Sized | None = None
    orders: Mapping[str, Order | None] | None = None

    @classmethod
    def of_family(
        cls,
        captured: Fit,
        fit: Fit,
        point: Point,
        positions: tuple[int, ...],
        orders: Mapping[str, Order | None] | None,
    ) -> Recipe:
        """That of code for many sizes.

        Args:
            captured, fit: the captured graphs, and those that were compiled.
            point: sizes near which decisions were taken.
        """
        from braze.passes.symbolic_sizes import sample_for

        sample = sample_for(point, fit.free)
        sized = Sized(fit.functions, fit.places, fit.free, point)
        texts = captured.text_at(sample), fit.text_at(sample)
        return cls(*texts, positions, sized, orders)

    def fit(self) -> Fit:
        """The graphs that code for many sizes was compiled from."""
        assert self.sized is not None
        sized = self.sized
        text = Text.of(self.graph)
        return Fit(text, sized.functions, sized.places, (sized.point,), sized.free)


def positions_of(graph: Graph, origin: Provenance) -> tuple[int, ...]:
    """Of the nodes of a graph that was made of a captured one."""
    return tuple(origin.position(node.location) for node in graph.nodes)


class Recipes:
    """The recipes of a package while it is written: each text is stored once.

    Args:
        entries: of the package, which are added to; those that are there may be referred to.
    """

    def __init__(self, entries: dict[str, bytes]) -> None:
        self._entries = entries
        self._names = {data.decode(): name for name, data in entries.items()}
        self._facts: list[dict[str, Any]] = []

    def add(self, recipe: Recipe) -> int:
        """Store a recipe; its number."""
        facts: dict[str, Any] = {
            "captured": self._entry(recipe.captured),
            "graph": self._entry(recipe.graph),
            "positions": recipe.positions,
        }
        if recipe.sized is not None:
            sized = recipe.sized
            facts["sized"] = {
                "functions": [function.terms for function in sized.functions],
                "places": sized.places,
                "free": sized.free,
                "point": sized.point,
            }
        if recipe.orders is not None:
            facts["orders"] = dict(recipe.orders)
        if facts not in self._facts:
            self._facts.append(facts)
        return self._facts.index(facts)

    def finish(self) -> None:
        """Add what says which text is what."""
        self._entries[INDEX] = json.dumps(self._facts, separators=(",", ":")).encode()

    def _entry(self, text: str) -> str:
        if text not in self._names:
            count = sum(name.startswith(FOLDER) for name in self._names.values())
            self._names[text] = f"{FOLDER}{count}.ir"
            self._entries[self._names[text]] = text.encode()
        return self._names[text]


def recipe_of(archive: Archive, entry: Mapping[str, Any]) -> Recipe:
    """What code was compiled from.

    Args:
        entry: what the manifest says of the code.

    Raises:
        PackageError: the package does not say.
    """
    try:
        return _recipe(archive, json.loads(bytes(archive[INDEX]))[entry["recipe"]])
    except UNSOUND as error:
        raise PackageError(
            f"{archive.path} does not say what its code was compiled from: {error!r}"
        ) from error


def _recipe(archive: Archive, facts: dict[str, Any]) -> Recipe:
    captured, graph = (bytes(archive[facts[key]]).decode() for key in ("captured", "graph"))
    sized = None
    if "sized" in facts:
        own = facts["sized"]
        functions = tuple(
            Polynomial(tuple((int(factor), _ints(powers)) for factor, powers in terms))
            for terms in own["functions"]
        )
        places = tuple(map(_ints, own["places"]))
        sized = Sized(functions, places, _ints(own["free"]), _ints(own["point"]))
    orders: dict[str, Order | None] | None = None
    if "orders" in facts:
        orders = {
            name: None if order is None else (_ints(order[0]), _ints(order[1]))
            for name, order in facts["orders"].items()
        }
    return Recipe(captured, graph, _ints(facts["positions"]), sized, orders)


def _ints(plain: Any) -> tuple[int, ...]:
    return tuple(map(int, plain))
