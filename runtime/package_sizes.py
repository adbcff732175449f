"""Code of a package for every size of one dimension.

In: what gives the graph of a size, and the range of sizes.  Out: `SizedCode`s, each for a range,
that between them serve them all; the few sizes that no code for many serves, as 1, have their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from braze.ir.errors import ShapeError
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime import compiler
from braze.runtime.executable import place
from braze.runtime.families import Fit, Text, fitted
from braze.runtime.package_codes import SizedCode
from braze.runtime.package_format import PackageError
from braze.runtime.package_narrow import Fold, Folded

if TYPE_CHECKING:
    from braze.codegen.llvm.panels import Order
    from braze.passes import Choices

Arrays = Mapping[str, np.ndarray]

# Sizes that may be compiled each for itself, below the ranges; and up to which they always are:
# what is best for a few rows is another thing for each number of them.
_MOST_ALONE = 16
_FEW = 8
_STEP = 4
_LEAST_SAMPLE = 7
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that a package is to serve.

    Attributes:
        name: of the dimension.
        lowest, highest: the least and the greatest size.
        usual: near which decisions are taken first.
        axes: argument -> the axes that have the size.
        graph_at: the captured graph of a size.
    """

    name: str
    lowest: int
    highest: int
    usual: int
    axes: dict[str, list[int]]
    graph_at: Callable[[int], Graph]


def codes_for(sizes: Sizes, fold: Fold, target: Target) -> list[SizedCode]:
    """Code for every size.

    Args:
        fold: computes what depends on weights alone.

    Raises:
        ShapeError: the module computes something else for other sizes; the message has its line.
        PackageError: there is no code for many sizes; the message says why.
    """
    graph_at = cache(sizes.graph_at)
    first = max(_LEAST_SAMPLE, min(sizes.usual, sizes.highest))
    captured = _fit(sizes, graph_at, _primes(first, 3))
    fit, arrays = _folded_fit(sizes, lambda size, choices: fold(graph_at(size), choices), first)
    codes: list[SizedCode] = []
    # One order of each weight for all sizes but 1, where all is a matter of reading them once.
    decided: dict[str, Order | None] = {}

    def alone(size: int) -> SizedCode:
        return _alone(fold(graph_at(size)), size, target, None if size == 1 else decided)

    def add(size: int) -> SizedCode:
        code = _symbolic(sizes, fit, size, arrays, target, decided)
        lowest = max(code.lowest, sizes.lowest)
        # Of a few rows another graph may be made, as layers of the library do: those sizes have
        # code of their own.
        while lowest <= _MOST_ALONE and captured.size_of(Text.of(graph_at(lowest))) != lowest:
            lowest += 1
        code = replace(code, lowest=lowest)
        for end in {min(lowest, sizes.highest), min(code.highest, sizes.highest)}:
            _require_same(sizes, captured, graph_at(end), end)
        codes.append(code)
        return code

    code = add(first)
    least, most, count = code.lowest, code.highest, 0
    while most < sizes.highest:
        # The farther the sample, the fewer codes; but the passes may decide otherwise there.
        for near in (most * _STEP, most * 2, most + 1):
            code = add(near)
            if code.lowest <= most + 1 and code.highest > most:
                break
            codes.pop()
        else:
            code = alone(most + 1)
            codes.append(code)
            count += 1
            if count > _MOST_ALONE:
                raise PackageError(
                    f"[package] no code serves the sizes of {sizes.name} above {most}"
                )
        most = code.highest
    while least > max(sizes.lowest, _MOST_ALONE):
        code = add(max(_LEAST_SAMPLE, least // _STEP))
        if code.highest < least - 1 or code.lowest >= least:
            raise PackageError(f"[package] no code serves the sizes of {sizes.name} below {least}")
        least = code.lowest
    for size in range(sizes.lowest, max(least, min(sizes.highest, _FEW) + 1)):
        codes.append(alone(size))
    return codes


def _folded_fit(
    sizes: Sizes, folded: Callable[[int, Choices], Folded], first: int
) -> tuple[Fit, dict[str, np.ndarray]]:
    """The graphs whose weights are folded, and these. What passes decide for the first size they
    decide for the others; where that is not possible, further sizes are tried."""
    from braze.passes import Choices

    refusal = "what the passes decide changes with it"
    for _ in range(_TRIES):
        made = Choices()
        one, *rest = _primes(first, 3)
        members = [folded(one, made), *(folded(size, Choices(made)) for size in rest)]
        fit = fitted([Text.of(graph) for graph, _ in members])
        arrays = members[0][1]
        if fit is not None:
            if all(_equal(arrays, other) for _, other in members[1:]):
                return fit, arrays
            refusal = "a table of weights that is cut to its length is computed ahead of time"
        first *= 2
        if first > sizes.highest:
            break
    raise PackageError(f"[package] no code serves many sizes of {sizes.name}: {refusal}")


def _symbolic(
    sizes: Sizes,
    fit: Fit,
    size: int,
    arrays: Arrays,
    target: Target,
    decided: dict[str, Order | None],
) -> SizedCode:
    from braze.codegen.llvm.kernel import CodegenError
    from braze.codegen.llvm.panels import Packer
    from braze.passes.symbolic_fit import NotSymbolic

    pack = Packer(arrays, target, decided)
    try:
        code = compiler.compile_symbolic(replace(fit, seen=(size,)), size, target, pack)
        artifact = code.described()
    except (NotSymbolic, CodegenError, ValueError) as error:
        raise PackageError(
            f"[package] no code serves many sizes of {sizes.name}: {error}"
        ) from error
    return SizedCode(code.lowest, code.highest, artifact, code.layout, pack.given)


def _alone(
    folded: Folded, size: int, target: Target, decided: dict[str, Order | None] | None
) -> SizedCode:
    from braze.codegen.llvm.panels import Packer

    graph, arrays = folded
    pack = Packer(arrays, target, decided)
    artifact = compiler.compile_artifact(graph, target, change=pack)
    return SizedCode(size, size, artifact, None, pack.given)


# The graphs of other sizes must be the same ------------------------------------------------------


def _fit(sizes: Sizes, graph_at: Callable[[int], Graph], probes: list[int]) -> Fit:
    graphs = [graph_at(size) for size in probes]
    fit = fitted([Text.of(graph) for graph in graphs])
    if fit is not None:
        return fit
    raise _specialised(sizes, graphs[0], graphs[1], *probes[:2])


def _require_same(sizes: Sizes, fit: Fit, graph: Graph, size: int) -> None:
    if fit.size_of(Text.of(graph)) != size:
        first = fit.seen[0]
        raise _specialised(sizes, sizes.graph_at(first), graph, first, size)


def _specialised(sizes: Sizes, one: Graph, other: Graph, a: int, b: int) -> ShapeError:
    """The error, with the line of the first operation that differs."""
    line = ""
    for node, second in zip(one.nodes, other.nodes, strict=False):
        kinds = [{k: type(v) for k, v in n.attributes.items()} for n in (node, second)]
        if node.op is not second.op or kinds[0] != kinds[1] or node.location != second.location:
            line = place(second.location)
            break
    else:
        nodes = max(one.nodes, other.nodes, key=len)
        rest = nodes[min(len(one.nodes), len(other.nodes)) :]
        line = place(rest[0].location) if rest else ""
    return ShapeError(
        f"[aot] the module computes something else where {sizes.name} is {b} than where it is {a}, "
        f"so one code cannot serve both{line}"
    )


def _equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        array.shape == other[name].shape and array.tobytes() == other[name].tobytes()
        for name, array in one.items()
    )


def _primes(least: int, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        if all(least % d for d in range(2, int(least**0.5) + 1)):
            found.append(least)
        least += 1
    return found
