"""Random well-typed graphs over the primitives, and inputs for them: what passes and backends are
tested on.

`random_graphs()` is a hypothesis strategy, `random_graph(seed)` the same without hypothesis,
`sample_inputs` makes inputs. The graphs are tame, so that two right implementations agree on them
closely: float values stay small (their bounds are tracked), functions get operands inside their
domain, and whatever jumps (comparison, rounding, argmax) reads only values that no rounding error
has touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from graph_steps import STEPS, Maker
from hypothesis import strategies as st

import braze.ir as ir
from braze.ir.graph import Graph

DEFAULT_DTYPES = (ir.f32, ir.f64, ir.i64, ir.i32, ir.bool_)


@dataclass(frozen=True)
class Recipe:
    """What a generated graph may hold.

    Attributes:
        nodes: how many steps at most; a step adds one to a few nodes.
        dtypes: of the inputs. Comparisons and indexing bring in bool and i64 all the same.
        steps: names of the kinds of steps, from `graph_steps.STEPS`; all by default.
        numel: size of the largest value.
        decorated: values get names and nodes source locations, sometimes odd ones.
        aliases: outputs may overwrite inputs.
    """

    nodes: int = 10
    dtypes: tuple[ir.DType, ...] = DEFAULT_DTYPES
    steps: tuple[str, ...] = tuple(STEPS)
    numel: int = 200
    decorated: bool = False
    aliases: bool = True


class Choices:
    """Where the generator's decisions come from: `integer(low, high)` is inclusive."""

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer

    def chance(self, percent: int) -> bool:
        return self.integer(1, 100) <= percent

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]


def random_graphs(**recipe: Any) -> st.SearchStrategy[Graph]:
    """A hypothesis strategy for graphs; see `Recipe` for the arguments."""
    made = Recipe(**recipe)

    @st.composite
    def graphs(draw: Any) -> Graph:
        return _make(Choices(lambda low, high: draw(st.integers(low, high))), made)

    return graphs()


def random_graph(seed: int, **recipe: Any) -> Graph:
    """The graph of a seed; see `Recipe` for the arguments."""
    return _make(Choices(random.Random(seed).randint), Recipe(**recipe))


def _make(choices: Choices, recipe: Recipe) -> Graph:
    maker = Maker(choices, recipe.dtypes, recipe.numel)
    for _ in range(choices.integer(1, 3)):
        maker.new_input()
    for _ in range(choices.integer(1, recipe.nodes)):
        step = STEPS[choices.pick(recipe.steps)]
        with maker.b.at(_location(choices) if recipe.decorated else None):
            step(maker)
    made = [value for node in maker.b.graph.nodes for value in node.results]
    # The last value, so that most of the graph is alive, and a few more.
    pool = made or maker.b.graph.inputs
    outputs = [pool[-1]]
    for _ in range(choices.integer(0, 2)):
        outputs.append(choices.pick(pool))
    if choices.chance(5):
        outputs.append(maker.b.graph.inputs[0])
    graph = maker.b.finish(outputs)
    if recipe.aliases:
        _alias(choices, graph)
    if recipe.decorated:
        _name(choices, graph)
    return graph


def _alias(choices: Choices, graph: Graph) -> None:
    """Let some outputs overwrite an input of their type."""
    free = [i for i, role in enumerate(graph.roles) if role in ("param", "buffer")]
    for position, output in enumerate(graph.outputs):
        fitting = [i for i in free if graph.inputs[i].type == output.type]
        if fitting and choices.chance(50):
            graph.aliases[position] = choices.pick(fitting)
            free.remove(graph.aliases[position])


NAMES = ("x", "net.fc.weight", "_0", "odd name", 'quo"ted\\', "7", "naïve", "")
PLACES = (
    ir.Location("train.py", 12),
    ir.Location("train.py", 12, "net.fc (Linear(8, 2))"),
    ir.Location("C:\\my files\\a.py", 3, ""),
    ir.Location("a.py:4 in b", 5, "c # d"),
    ir.Location("<stdin>", 1, 'Layer(name="x")'),
    ir.Location("", 0, "line\nbreak"),
)


def _location(choices: Choices) -> ir.Location | None:
    return choices.pick(PLACES) if choices.chance(50) else None


def _name(choices: Choices, graph: Graph) -> None:
    names = list(NAMES)
    for value in graph.values():
        if names and choices.chance(30):
            value.name = names.pop(choices.integer(0, len(names) - 1))


# Inputs -------------------------------------------------------------------------------------------


def sample_inputs(graph: Graph, seed: int = 0) -> list[Any]:
    """Inputs for a graph: arrays, and Python numbers for scalars.

    Floats are uniform in (-2, 2), integers in [-5, 10] (unsigned ones in [0, 10]).
    """
    generator = np.random.default_rng(seed)
    inputs: list[Any] = []
    for value, role in zip(graph.inputs, graph.roles, strict=True):
        array = sample(generator, value.type)
        inputs.append(array.item() if role == "scalar" else array)
    return inputs


def sample(
    generator: np.random.Generator,
    type: ir.TensorType,
    domain: tuple[float, float] = (-2.0, 2.0),
) -> np.ndarray:
    """An array of a type; see `sample_inputs`."""
    dtype = type.dtype
    if dtype.is_floating_point:
        array = generator.uniform(*domain, size=type.shape)
    elif dtype is ir.bool_:
        array = generator.integers(0, 2, size=type.shape)
    else:
        array = generator.integers(-5 if dtype.is_signed else 0, 11, size=type.shape)
    return np.asarray(array).astype(dtype.numpy)


# Comparison ---------------------------------------------------------------------------------------

TOLERANCE = {"f64": 1e-10, "f32": 2e-4, "f16": 2e-2, "bf16": 1e-1}


def assert_same(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Outputs agree: exactly for integers and bools, else up to rounding at the array's scale."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        dtype = ir.from_numpy(other.dtype)
        if not dtype.is_floating_point:
            np.testing.assert_array_equal(one, other)
            continue
        wide = other.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        scale = max(1.0, float(finite.max())) if finite.size else 1.0
        tolerance = TOLERANCE[dtype.name]
        np.testing.assert_allclose(
            one.astype(np.float64), wide, rtol=tolerance, atol=tolerance * scale
        )


def same_graph(one: Graph, other: Graph) -> bool:
    """Whether two graphs are equal in everything: structure, names, locations, kinds of numbers."""
    if (one.name, one.roles, one.aliases) != (other.name, other.roles, other.aliases):
        return False
    left, right = list(one.values()), list(other.values())
    if [(v.type, v.name) for v in left] != [(v.type, v.name) for v in right]:
        return False
    number = {value: i for i, value in enumerate(left)}
    number.update({value: i for i, value in enumerate(right)})
    if [number[v] for v in one.outputs] != [number[v] for v in other.outputs]:
        return False
    if len(one.nodes) != len(other.nodes):
        return False
    for a, b in zip(one.nodes, other.nodes, strict=True):
        if (a.op, a.location) != (b.op, b.location):
            return False
        if [number[v] for v in a.operands] != [number[v] for v in b.operands]:
            return False
        # By repr, for nan, and to tell 1, 1.0 and True apart; the order counts as well.
        if repr(a.attributes) != repr(b.attributes) or (a.body is None) != (b.body is None):
            return False
        if a.body is not None and b.body is not None and not same_graph(a.body, b.body):
            return False
    return True
