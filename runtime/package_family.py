"""The graphs of many sizes of some dimensions, compared, and code that is made from them.

In: what gives the graph of sizes.  Out: `Family.code`, code for many sizes; and `Family.alone`,
code for one choice of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.errors import ParseError, ShapeError, VerifyError
from braze.ir.graph import Graph
from braze.ir.parser import parse_graph
from braze.ir.polynomials import Interpolation, Point
from braze.ir.target import Target
from braze.ir.verifier import verify
from braze.runtime import compiler
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.compiling import compile_cuda, compile_cuda_symbolic
from braze.runtime.executable import place
from braze.runtime.kept_objects import disk_cache
from braze.runtime.package_codes import Dynamic, SizedCode
from braze.runtime.package_format import PackageError
from braze.runtime.package_narrow import Fold
from braze.runtime.package_recipes import Recipe, positions_of
from braze.runtime.provenance import Provenance
from braze.runtime.sized_texts import Fit, Text, fitted_at
from braze.runtime.symbolic_code import SymbolicCode

if TYPE_CHECKING:
    from braze.codegen.llvm.panels import Order

Arrays = Mapping[str, np.ndarray]

# Sizes that may be compiled each for itself, below the ranges.
MOST_ALONE = 16
# How many times as large the next sample is, where ranges are covered.
STEP = 4
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that a package is to serve.

    Attributes:
        dynamic: the dimensions.
        usual: sizes near which decisions are taken first.
        graph_at: the captured graph of sizes.
        more: arrays of inputs that only graphs of other sizes have, once these were asked for.
    """

    dynamic: Dynamic
    usual: Point
    graph_at: Callable[[Point], Graph]
    more: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Making:
    """What code is made from.

    greatest: by dimension, the last prime up to the greatest size, of a module that does not take
        much larger ones, as its table of positions has no more; None where code may be looked at
        for these.
    """

    sizes: Sizes
    fold: Fold
    target: Target
    greatest: list[int | None]

    @classmethod
    def of(cls, sizes: Sizes, fold: Fold, target: Target) -> Making:
        """Call the module with a little more than the greatest sizes, to see whether it can be."""
        from braze.passes.symbolic_sizes import primes_from

        made = cls(sizes, fold, target, [None] * len(sizes.usual))
        for dim, highest in enumerate(sizes.dynamic.highest):
            beyond = list(sizes.usual)
            beyond[dim] = next(primes_from(highest + 1))
            try:
                sizes.graph_at(tuple(beyond))
            except Exception:  # of any kind, as what the user's code asserts
                made.limit(dim)
        return made

    def limit(self, dim: int) -> None:
        """Look at no larger sizes than those that are wanted."""
        from braze.passes.symbolic_sizes import primes_from

        highest = self.sizes.dynamic.highest[dim]
        self.greatest[dim] = next(primes_from(highest, -1), highest)

    def within(self, dim: int, size: int) -> int:
        """A size that code can be looked at for, the nearest one up to the wanted one."""
        greatest = self.greatest[dim]
        return size if greatest is None else min(size, greatest)

    def refused(self, reason: object) -> PackageError:
        return PackageError(
            f"[package] no code serves many sizes of {self.sizes.dynamic.name}: {reason}"
        )


class Family:
    """The graphs of all sizes of some dimensions, where the others have one, and their code.

    Args:
        first: sizes near which the graphs are compared.
        free: the dimensions.
    """

    def __init__(self, making: Making, first: Point, free: Sequence[int]) -> None:
        self.making, self.free = making, free
        # One order of each weight for all sizes but 1, where all is a matter of reading them once.
        self._decided: dict[str, Order | None] = {}
        # What depends on weights and on these sizes; see `fold_weights`.
        self._at_run_time: frozenset[str] = frozenset()
        nearest = first
        while (found := self._captured_fit(first)) is None:
            # Of few rows the library's layers may make another graph.
            farther = self._farther(first)
            if farther is None or max(first[dim] for dim in free) > MOST_ALONE:
                points = self._near(nearest)[0]
                raise self._specialised(points[0], points[-1])
            first = farther
        self.captured = found
        for dim in free:
            if not self._reaches(first, dim):
                making.limit(dim)
        self._fit, self._arrays, self._positions = self._folded_fit(first)

    def code(self, point: Point) -> SizedCode[Any]:
        """Code for many sizes, planned for some.  Raises: PackageError: there is none."""
        from braze.codegen.cuda.errors import CodegenError as CudaCodegenError
        from braze.codegen.llvm.kernel import CodegenError
        from braze.codegen.llvm.panels import Packer
        from braze.passes.symbolic_fit import NotSymbolic

        target = self.making.target
        code: SymbolicCode[Any]
        orders = None
        try:
            fit = replace(self._fit, seen=(point,))
            if target.is_gpu:
                code = compile_cuda_symbolic(fit, point, target, disk_cache(), for_package=True)
                given = arrays_read(code.artifact, self._arrays)
            else:
                pack = Packer(self._arrays, target, self._decided)
                code = compiler.compile_symbolic(fit, point, target, pack)
                given, orders = pack.given, dict(self._decided)
            artifact = code.described()
        except (NotSymbolic, CodegenError, CudaCodegenError, ValueError) as error:
            raise self.making.refused(error) from error
        highest = [
            self._served(dim, size) if dim in self.free else size
            for dim, size in enumerate(code.highest)
        ]
        recipe = Recipe.of_family(self.captured, fit, point, self._positions, orders)
        return SizedCode(code.lowest, tuple(highest), artifact, code.layout, given, recipe)

    def _served(self, dim: int, highest: int) -> int:
        """The greatest size that code serves which was seen to serve sizes up to another one."""
        if highest != self.making.greatest[dim]:
            return highest
        # No larger one could be looked at, and of the last few none is a prime. At the very last
        # one a table may not be cut.
        most = self.making.sizes.dynamic.highest[dim]
        known = list(self.captured.seen[0])
        while most > highest:
            known[dim] = most
            if self.describes(tuple(known)):
                break
            most -= 1
        return most

    def alone(self, point: Point) -> SizedCode[Any]:
        """Code for one choice of sizes."""
        from braze.codegen.llvm.panels import Packer
        from braze.passes import Choices

        # In another graph the same names are those of other values.
        is_like = max(point) > 1 and self.describes(point)
        choices = Choices(at_run_time=self._at_run_time) if is_like and self._at_run_time else None
        captured = self.making.sizes.graph_at(point)
        origin = Provenance(captured)
        graph, arrays = self.making.fold(origin.graph, choices)
        recipe = Recipe(str(captured), str(graph), positions_of(graph, origin))
        target = self.making.target
        if target.is_gpu:
            code = compile_cuda(graph, target, disk_cache())
            return SizedCode(point, point, code, None, arrays_read(code, arrays), recipe)
        pack = Packer(arrays, target, self._decided if is_like else None)
        artifact = compiler.compile_artifact(graph, target, change=pack)
        if is_like:
            recipe = replace(recipe, orders=dict(self._decided))
        return SizedCode(point, point, artifact, None, pack.given, recipe)

    def describes(self, point: Point) -> bool:
        """Whether the module computes the same for some sizes."""
        return self.captured.describes(Text.of(self.making.sizes.graph_at(point)), point)

    def require_same(self, points: Sequence[Point]) -> None:
        """Raise ShapeError if the module computes something else for some of the sizes."""
        for point in points:
            if not self.describes(point):
                raise self._specialised(self.captured.seen[0], point)

    def _captured_fit(self, first: Point) -> Fit | None:
        """The graphs as they are captured."""
        points, near = self._near(first)
        graph_at = self.making.sizes.graph_at
        return fitted_at(near, {point: Text.of(graph_at(point)) for point in points})

    def _reaches(self, first: Point, dim: int) -> bool:
        """Whether there are graphs of much larger sizes than those that are wanted."""
        far = list(first)
        far[dim] = STEP * self.making.sizes.dynamic.highest[dim]
        try:
            verify(parse_graph(self.captured.text_at(tuple(far))))
        except (ParseError, VerifyError):
            return False
        return True

    def _farther(self, first: Point) -> Point | None:
        """Sizes twice as far, if none near them is too large."""
        farther = tuple(size * 2 if dim in self.free else size for dim, size in enumerate(first))
        points = self._near(farther)[0]
        highest = self.making.sizes.dynamic.highest
        return farther if all(max(sizes) <= most for sizes, most in zip(
            zip(*points, strict=True), highest, strict=True
        )) else None  # fmt: skip

    def _folded_fit(self, first: Point) -> tuple[Fit, Arrays, tuple[int, ...]]:
        """The graphs whose weights are folded, these, and the captured node that each of their
        nodes comes from. What passes decide for the first sizes they decide for the others; where
        that is not possible, further sizes are tried."""
        from braze.passes import Choices

        making = self.making
        tries = 0
        while True:
            points, near = self._near(first)
            made = Choices(many_sizes=True, at_run_time=self._at_run_time)
            one, *others = points
            origin = Provenance(making.sizes.graph_at(one))
            members = [making.fold(origin.graph, made)]
            members += [
                making.fold(making.sizes.graph_at(point), Choices(made)) for point in others
            ]
            texts = [Text.of(graph) for graph, _ in members]
            fit = fitted_at(near, dict(zip(points, texts, strict=True)))
            arrays = members[0][1]
            if fit is not None and all(arrays.keys() == other.keys() for _, other in members):
                cut = {name for _, other in members[1:] for name in _differing(arrays, other)}
                if not cut:
                    return fit, arrays, positions_of(members[0][0], origin)
                assert not cut <= self._at_run_time
                # As of a table of positions: each call takes its part.
                self._at_run_time |= cut
                continue
            tries += 1
            farther = self._farther(first)
            if farther is None or tries == _TRIES:
                raise making.refused("what the passes decide changes with it")
            first = farther

    def _near(self, first: Point) -> tuple[list[Point], Interpolation]:
        """Sizes to compare graphs at, primes, and those of them that functions are found from."""
        from braze.passes.symbolic_sizes import primes_from

        nodes, taken = [[size] for size in first], set[int]()
        for dim in self.free:
            greatest = self.making.greatest[dim]
            free = (n for n in primes_from(first[dim]) if n not in taken)
            nodes[dim] = [*islice(free, 3)]
            if greatest is not None and nodes[dim][-1] > greatest:
                below = (n for n in primes_from(greatest, -1) if n not in taken)
                nodes[dim] = [*islice(below, 3)][::-1]
            taken.update(nodes[dim])
        near = Interpolation(nodes)
        last = tuple(own[-1] for own in nodes)
        return [*dict.fromkeys([*near.points, last])], near

    def _specialised(self, one: Point, other: Point) -> ShapeError:
        """The error, with the line of the first operation that differs."""
        sizes = self.making.sizes
        dims = sizes.dynamic.dims
        here = " and ".join(f"{d.name} is {n}" for d, n in zip(dims, other, strict=True))
        there = f"it is {one[0]}" if len(dims) == 1 else f"they are {' and '.join(map(str, one))}"
        return ShapeError(
            f"[aot] the module computes something else where {here} than where {there}, so one "
            f"code cannot serve both{_line_of(sizes.graph_at(one), sizes.graph_at(other))}"
        )


def arrays_read(code: CudaCode, arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays that code for a GPU reads."""
    return {slot.name: arrays[slot.name] for slot in code.inputs if slot.name in arrays}


# The graphs of other sizes must be the same ------------------------------------------------------


def _line_of(one: Graph, other: Graph) -> str:
    """The line of the first operation that differs."""
    for node, second in zip(one.nodes, other.nodes, strict=False):
        kinds = [{k: type(v) for k, v in n.attributes.items()} for n in (node, second)]
        if node.op is not second.op or kinds[0] != kinds[1] or node.location != second.location:
            return place(second.location)
    known = {value.name for value in one.inputs}
    for node in other.nodes:
        if any(v.node is None and v.name not in known for v in node.operands):
            return place(node.location)  # it reads an array that is another one for other sizes
    nodes = max(one.nodes, other.nodes, key=len)
    rest = nodes[min(len(one.nodes), len(other.nodes)) :]
    return place(rest[0].location) if rest else ""


def _differing(one: Arrays, other: Arrays) -> list[str]:
    """The names of arrays that are not the same; both have the same names."""
    return [
        name
        for name, array in one.items()
        if array.shape != other[name].shape or array.tobytes() != other[name].tobytes()
    ]
