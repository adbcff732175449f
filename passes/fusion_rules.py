"""Which groups may become one kernel, and why not.

`Rules.vertical(p, c)` judges a producer and its consumer, `Rules.horizontal(a, b)` two independent
groups. Both give a `Joined`, the levels of all nodes in the common kernel, or a sentence that says
what stands against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from braze.ir.graph import Node, Value
from braze.ir.index import Index
from braze.ir.target import Target
from braze.passes.access import (
    Point,
    broadcast_point,
    flat_index,
    loop_variables,
    point_of,
    reshape_point,
    source_index,
)
from braze.passes.choices import Choices
from braze.passes.column_sums import columns_of, parts_in
from braze.passes.contraction_operands import LARGE_RESULT
from braze.passes.groups import Group, Level, Read, Reads, is_flat
from braze.passes.lower_nest import core_of, is_rearrangement, rearranged_point
from braze.passes.space import Space, space_of

# A kernel of more statements than this compiles slowly and spills registers.
MOST_MEMBERS = 64
MOST_BUFFERS = 28
# Recomputing is cheaper than storing and loading up to this many instructions and repetitions.
CHEAP_INSTRUCTIONS = 3
CHEAP_REPETITIONS = 9.0
# What a sort computes for each key, without vectors, in place of loading it.
MOST_KEY_INSTRUCTIONS = 6
# The border of a padded value is computed for nothing; that costs less than a copy.
FREE_REPETITIONS = 1.7
# Up to this many points one core is enough, so rows need not be many.
SMALL_SPACE = 1 << 15
FEWEST_ROWS = 8
# Arrays of one row that are in the cache at a time, and bytes of their elements.
ROW_BYTES = 3 * 4
COLUMNS_AT_ONCE = 16
# Kinds of kernels that have no place for a statement besides their stores.
WITHOUT_CHECKS = ("contract", "lattice", "scan", "scatter", "sort")
# Kinds of kernels that hold one operation, and write over none of its operands.
ALONE = {
    "host": "a host call is made between kernels",
    "recurrence": "the steps of a recurrence are kernels of their own",
    "attention": "attention keeps its scores in blocks, at which nothing else is computed",
    "lattice": "a lattice's kernel reads what it has stored, and holds nothing else",
}
# Independent kernels are joined for a shared input of this size; below, a common wave does as well.
SHARED_BYTES = 1 << 14


def _check_fault(kind: str, group: Group) -> str | None:
    """Why a kernel of this kind cannot take in a group, if the group holds a check."""
    if kind in WITHOUT_CHECKS and any(not node.results for node in group.members):
        return f"a {kind}'s loops hold no run-time checks"
    return None


@dataclass(slots=True)
class Joined:
    """How two groups make one."""

    kind: str
    space: Space
    levels: dict[Node, Level]


class Rules:
    """The judge of one graph's groups."""

    def __init__(
        self,
        reads: Reads,
        group_of: dict[Node, Group],
        target: Target,
        sums_of_columns: bool,
        choices: Choices,
    ) -> None:
        self.reads = reads
        self.group_of = group_of
        self.target = target
        self.sums_of_columns = sums_of_columns
        self.choices = choices
        self._places: dict[tuple[Node, Level, Space], list[tuple[Value, bool, bool]]] = {}
        # Of groups, which are judged many times and never change.
        self._reads_of: dict[Group, list[tuple[Node, Read]]] = {}
        self._read_elsewhere: dict[Group, list[tuple[Value, list[Node]]]] = {}

    def _is_slow(self, why: str, p: Group, c: Group, own: bool) -> bool:
        """What sizes say of two groups' common kernel, which would be right in any case; for other
        sizes of the same graph it is not said anew."""
        if not self.choices.many_sizes:
            return own
        places = (tuple(map(self.reads.order.__getitem__, group.members)) for group in (p, c))
        return self.choices.settle((why, *places), own)

    # Facts about groups ---------------------------------------------------------------------------

    def _reads(self, group: Group) -> list[tuple[Node, Read]]:
        found = self._reads_of.get(group)
        if found is None:
            of = self.reads.of
            found = [(node, read) for node in group.members for read in of[node]]
            self._reads_of[group] = found
        return found

    def reads_between(self, p: Group, c: Group) -> list[tuple[Node, Read]]:
        levels = p.levels
        return [found for found in self._reads(c) if found[1].base.node in levels]

    def outputs(self, group: Group, without: Group | None = None) -> list[Value]:
        """The values that others read: graph outputs, and what groups other than `without` use."""
        candidates = self._read_elsewhere.get(group)
        if candidates is None:
            candidates = [
                (value, [r for r in self.reads.readers.get(value, ()) if r not in group.levels])
                for node in group.members
                for value in node.results
            ]
            candidates = [c for c in candidates if c[1] or c[0] in self.reads.outputs]
            self._read_elsewhere[group] = candidates
        return [
            value
            for value, readers in candidates
            if value in self.reads.outputs
            or any(self.group_of[reader] is not without for reader in readers)
        ]

    def _bases(self, group: Group) -> set[Value]:
        return {read.base for _, read in self._reads(group)}

    def _too_large(self, a: Group, b: Group) -> str | None:
        if len(a.members) + len(b.members) > MOST_MEMBERS:
            return f"together they have more than {MOST_MEMBERS} operations"
        inner = set(a.levels) | set(b.levels)
        bases = {v for v in self._bases(a) | self._bases(b) if v.node not in inner}
        outputs = len(self.outputs(a, b)) + len(self.outputs(b, a))
        if len(bases) + outputs > MOST_BUFFERS:
            return f"together they use more than {MOST_BUFFERS} buffers"
        return None

    def _row_fault(self, space: Space, p: Group, c: Group) -> str | None:
        """Why rows of this space should not be visited twice by the groups' kernel."""
        fault = self._own_row_fault(space)
        if self._is_slow("rows", p, c, fault is not None):
            return fault or "rows are too long or too few for other sizes"
        return None

    def _own_row_fault(self, space: Space) -> str | None:
        rows, row = space.kept, space.full // max(space.kept, 1)
        columns = 1
        for size, reduced in zip(reversed(space.dims), reversed(space.reduced), strict=True):
            if size != 1:
                columns = 1 if reduced else min(size, COLUMNS_AT_ONCE)
                break
        if row * columns * ROW_BYTES > self.target.l2_bytes:
            return f"a row of {row} elements does not stay in the cache"
        if space.full > SMALL_SPACE and rows < FEWEST_ROWS * columns:
            return f"{rows} rows are too few to share out among cores"
        return None

    # Producer and consumer ------------------------------------------------------------------------

    def vertical(self, p: Group, c: Group) -> Joined | str:
        """May `c`, which reads `p`, be computed in `p`'s kernel?"""
        if fault := self._too_large(p, c):
            return fault
        for kind, fault in ALONE.items():
            if kind in (p.kind, c.kind):
                return fault
        read = {r.base.node for _, r in self.reads_between(p, c)}
        if any(p.levels[node] == "columns" for node in read if node is not None):
            return "it reads sums over rows, which are known when all rows are done"
        if p.kind == "scatter":
            # Nothing but reshapes may lie between: a cast on the way would be lost.
            reshaped = all(
                is_flat(n) and core_of(n.results[0])[0].node in p.members for n in c.members
            )
            moved = self._as_moved(p, c) if reshaped else None
            fault = "a scatter writes where its data say, so its readers must wait for all of it"
            return fault if moved is None else moved
        if p.kind == "sort":
            return "a sort knows none of its results before it has read all of a row"
        moved = self._as_moved(p, c)
        if moved is not None:
            return moved
        if p.kind == "pointwise":
            return self._map_into(p, c)
        if p.kind == "reduce":
            return self._after_reduction(p, c)
        return self._epilogue(p, c)

    def into_only_reader(self, p: Group, c: Group) -> Joined | str:
        """May an elementwise producer be computed by `c`, the only one that reads it?"""
        if p.kind != "pointwise" or c.kind not in ("pointwise", "reduce", "scan"):
            return "only elementwise producers are computed by their readers"
        if self.outputs(p, c):
            return "its values are needed elsewhere too"
        if self._levels_wanted(p, c) not in ({"kept"}, {"full"}):
            return "its reader reads it in another order of the elements"
        return self._too_large(p, c) or self._map_into(p, c)

    def _as_moved(self, p: Group, c: Group) -> Joined | None:
        """A rearranged copy of one of the producer's values is stored beside it."""
        if len(c.members) != 1 or p.kind == "random":
            return None
        (node,) = c.members
        if not node.op.is_movement or len(node.operands) != 1:
            return None
        (read,) = self.reads.of[node] if len(self.reads.of[node]) == 1 else (None,)
        if read is None or not read.rearranged or read.base.node is None:
            return None
        if p.levels[read.base.node] not in ("kept", "full"):
            return None
        if p.kind == "contract":
            if self._is_slow("moved", p, c, self._is_scattered(p, node)):
                return None
        if p.levels[read.base.node] == "full" and p.space.is_reduced:
            if self._row_fault(p.space, p, c):
                return None
        return Joined(p.kind, p.space, {**p.levels, node: "moved"})

    def _is_scattered(self, p: Group, moved: Node) -> bool:
        """Does a copy of a contraction's result lie across its vectors, where the result itself
        lies along them?"""
        (contraction,) = (n for n in p.members if n.op.is_contract)
        result, found = contraction.result, self.reads.addresses[contraction]
        if result.type.numel < LARGE_RESULT or found.result_run().is_short:
            return False
        variables = loop_variables("m", result.shape)
        core, chain = core_of(moved.result)
        point = reshape_point(point_of(variables), result.shape, core.shape)
        for node in reversed(chain):
            point = rearranged_point(node, point)
        index = flat_index(point, moved.result.shape)
        order = sorted(range(len(variables)), key=lambda d: -index.coefficient(variables[d]))
        return index.is_affine and found.result_run(order).is_short

    def _map_into(self, p: Group, c: Group) -> Joined | str:
        wanted = self._levels_wanted(p, c)
        if len(wanted) == 1:
            (level,) = wanted
            if level in ("kept", "full"):
                return self._map_aligned(p, c, level)
        return self._map_inside(p, c)

    def _levels_wanted(self, p: Group, c: Group) -> set[Level]:
        """At which levels of `c` the values of `p` are read."""
        found: set[Level] = set()
        for node, read in self.reads_between(p, c):
            level = "full" if node.op.is_reduce else c.levels[node]
            found.add(level if read.aligned else "inside")
        return found

    def _map_aligned(self, p: Group, c: Group, level: Level) -> Joined | str:
        size = c.space.full if level == "full" else c.space.kept
        if p.space.full != size:
            return f"it has {p.space.full} points where its reader has {size}"
        if c.kind == "random" and (fault := self._flat_fault(p)):
            return fault
        if fault := _check_fault(c.kind, p):
            return fault
        if level == "full" and c.space.is_reduced and self.outputs(p, c):
            if fault := self._row_fault(c.space, p, c):
                return f"its values are needed elsewhere too, and {fault}"
        levels: dict[Node, Level] = {
            node: level if own == "kept" else own for node, own in p.levels.items()
        }
        return Joined(c.kind, c.space, {**levels, **c.levels})

    def _map_inside(self, p: Group, c: Group) -> Joined | str:
        """Evaluate the producer wherever the consumer reads it."""
        if self.outputs(p, c):
            return "its values are needed elsewhere too, in another order of the elements"
        if any(not node.results for node in p.members):
            return "it holds a run-time check, which must be made once for each element"
        repeated = 0.0
        for node, read in self.reads_between(p, c):
            if node.op.is_contract:
                return "a contraction reads its operands from memory"
            points = space_of(node).full if c.levels[node] != "inside" else c.space.full
            repeated = max(repeated, 0.0) + points / max(read.base.type.numel, 1)
        cost = sum(node.op.cost for node in p.members)
        if c.kind == "sort" and cost > MOST_KEY_INSTRUCTIONS:
            return "a sort makes its keys one by one, where an elementwise kernel has vectors"
        inputs = len(self._bases(p))
        cheap = cost <= CHEAP_INSTRUCTIONS and inputs <= 2
        most = CHEAP_REPETITIONS if cheap else FREE_REPETITIONS
        if self._is_slow("repeated", p, c, repeated > most):
            return f"each of its elements would be computed {repeated:.3g} times"
        levels: dict[Node, Level] = dict.fromkeys(p.levels, "inside")
        return Joined(c.kind, c.space, {**levels, **c.levels})

    def _after_reduction(self, p: Group, c: Group) -> Joined | str:
        if c.kind == "pointwise":
            aligned = all(
                read.aligned and c.levels[node] == "kept" for node, read in self.reads_between(p, c)
            )
            if aligned and c.space.full == p.space.kept:
                return Joined("reduce", p.space, {**p.levels, **c.levels})
            if c.space.full != p.space.full:
                return "it reads a reduction's result neither once for a row nor along the row"
            levels: dict[Node, Level] = {
                node: "full" if own == "kept" else own for node, own in c.levels.items()
            }
        elif c.kind == "reduce":
            found = dict(c.levels) if c.space.key == p.space.key else self._columns_of(c, p)
            if len(parts_in(p) | parts_in(c)) > 1:
                return "their sums over rows are of parts of other lengths"
            if found is None:
                return "the two reductions run over different rows"
            levels = found
        else:
            return f"a {c.kind} kernel has no loop over the reduction's rows"
        if fault := self._row_fault(p.space, p, c):
            return fault
        for node, _ in self.reads_between(p, c):
            if not self._reads_own_row(node, levels[node], p):
                return f"{node.op.name} reads a row other than its own"
        return Joined("reduce", p.space, {**p.levels, **levels})

    def _reads_own_row(self, node: Node, level: Level, p: Group) -> bool:
        """Does a node at a level of p's space read p's values of the very point, or of its row?"""
        if level not in ("full", "kept", "columns"):
            return False
        key = node, "full" if node.op.is_reduce else level, p.space
        if key not in self._places:  # it is asked for again as the groups grow
            self._places[key] = self._read_places(*key)
        for base, is_row, is_point in self._places[key]:
            if base.node in p.levels:
                own = p.levels[base.node]
                if not (is_row if own == "kept" else own == "full" and is_point):
                    return False
        return True

    def _read_places(
        self, node: Node, level: Level, space: Space
    ) -> list[tuple[Value, bool, bool]]:
        """The bases that a node at a level of a space reads, and whether at the number of the row,
        or of the point."""
        variables = loop_variables("s", space.dims)
        point = point_of(variables)
        kept = tuple(i for i, reduced in zip(point, space.reduced, strict=True) if not reduced)
        own_row = flat_index(kept, space.kept_shape)
        own_point = flat_index(point, space.dims)
        core = self._stored_as(node)
        shape = space_of(node).dims if core is None else core.shape
        start = (
            reshape_point(point, space.dims, shape)
            if level == "full"
            else reshape_point(kept, space.kept_shape, shape)
        )
        places = (
            self._reading_points(node, start, set())
            if core is None
            else self._walk(core, start, set())
        )
        flat = ((base, flat_index(at, base.shape)) for base, at in places)
        return [(base, at == own_row, at == own_point) for base, at in flat]

    def _stored_as(self, node: Node) -> Value | None:
        """What a rearrangement rearranges: a kernel's loops follow that, not the order in which it
        is stored."""
        core: Value | None = None
        while is_rearrangement(node):
            core = node.operands[0]
            if core.node is None or self.reads.is_base(core):
                break
            node = core.node
        return core

    def _reading_points(
        self, node: Node, point: Point, seen: set[tuple[Value, Point]]
    ) -> Iterator[tuple[Value, Point]]:
        """The bases that a node reads at a point of its space, and where in them; each once."""
        if node.op.is_movement:
            for source in source_index(node, point):
                yield from self._walk(node.operands[source.operand], source.index, seen)
        elif node.op.category == "gather":
            for base in {read.base for read in self.reads.of[node]}:
                yield base, tuple(Index((), -1) for _ in base.shape)
        else:
            for operand in node.operands:
                yield from self._walk(operand, broadcast_point(point, operand.shape), seen)

    def _walk(
        self, value: Value, point: Point, seen: set[tuple[Value, Point]]
    ) -> Iterator[tuple[Value, Point]]:
        if (value, point) in seen:
            return
        seen.add((value, point))
        if self.reads.is_base(value):
            yield value, point
        elif value.node is not None:
            yield from self._reading_points(value.node, point, seen)

    def _epilogue(self, p: Group, c: Group) -> Joined | str:
        """Behind a contraction, a scan or a draw of random bits: elementwise operations on its
        result."""
        if c.kind != "pointwise":
            return f"a {c.kind} kernel needs the whole result of a {p.kind} kernel first"
        for node, read in self.reads_between(p, c):
            if not read.aligned or c.levels[node] != "kept":
                return f"{node.op.name} reads the result in another order of the elements"
        if c.space.full != p.space.full:
            return f"it has {c.space.full} points where the producer has {p.space.full}"
        if p.kind == "random" and (fault := self._flat_fault(c)):
            return fault
        if fault := _check_fault(p.kind, c):
            return fault
        if p.kind == "contract":
            fault = self._scatter_fault(p, c)
            if self._is_slow("scattered", p, c, fault is not None):
                return fault or "operands do not fit vectors for other sizes"
        return Joined(p.kind, p.space, {**p.levels, **c.levels})

    def _scatter_fault(self, p: Group, c: Group) -> str | None:
        """Why a contraction, whose vectors may have to run across its result, should not read what
        `c` does besides."""
        (node,) = (n for n in p.members if n.op.is_contract)
        size, run = node.result.type.numel, self.reads.addresses[node].result_run()
        if not run.is_short or size < LARGE_RESULT:
            return None
        # An optimizer's update of a convolution's weight, say, whose innermost dimensions are taps.
        if not any(v.type.numel == size and v.node not in p.levels for v in self._bases(c)):
            return None
        return f"it reads operands that vectors fit only {run.length} neighbouring elements of"

    def _flat_fault(self, group: Group) -> str | None:
        """Why a group cannot run along the flat order of a kernel of random bits."""
        for node in group.members:
            if group.levels[node] != "kept":
                return "random bits are made in flat order, which rearranged values do not follow"
            if not (node.op.is_pointwise or node.op.category == "check"):
                return f"random bits are made in flat order, which {node.op.name} does not follow"
            if self._uses_place(node):
                return "random bits are made in flat order, ramps and pads need an element's index"
            for read in self.reads.of[node]:
                if not read.aligned and read.base.type.numel != 1:
                    return "random bits are made in flat order, which a broadcast operand breaks"
        return None

    def _uses_place(self, node: Node) -> bool:
        stack = list(node.operands)
        while stack:
            value = stack.pop()
            if value.node is None or self.reads.is_base(value):
                continue
            if value.node.op.category == "creation" and "value" not in value.node.attributes:
                return True
            if value.node.op.name == "pad":  # also of a single number, which is aligned otherwise
                return True
            stack += value.node.operands
        return False

    def _columns_of(self, group: Group, rows: Group) -> dict[Node, Level] | None:
        return columns_of(group, rows) if self.sums_of_columns else None

    # Siblings -------------------------------------------------------------------------------------

    def horizontal(self, a: Group, b: Group) -> Joined | str:
        """May two groups that do not depend on each other share their loops?"""
        if b in a.after or a in b.after:
            return "the one needs the other"
        if {a.kind, b.kind} - {"pointwise", "reduce"}:
            return "only elementwise kernels and reductions share loops with a neighbour"
        if "moved" in a.levels.values() or "moved" in b.levels.values():
            return "a rearranged copy keeps its own loops"
        rows, moved = a, self._columns_of(b, a)
        if a.kind == b.kind == "pointwise":
            same = a.space.full == b.space.full
            levels = {**a.levels, **b.levels}
            space = a.space
        elif a.kind == b.kind:
            if a.space.key == b.space.key:
                moved = b.levels
            elif moved is None:
                rows, moved = b, self._columns_of(a, b)
            same = moved is not None and len(parts_in(a) | parts_in(b)) < 2
            levels = {**rows.levels, **(moved or {})}
            space = rows.space
        else:
            rows, other = (a, b) if a.kind == "reduce" else (b, a)
            level: Level = "kept" if other.space.full == rows.space.kept else "full"
            same = level == "kept" or other.space.full == rows.space.full
            moved = {node: level if own == "kept" else own for node, own in other.levels.items()}
            levels = {**rows.levels, **moved}
            space = rows.space
            if level == "full" and (fault := self._row_fault(space, a, b)):
                return fault
        if not same:
            return "their loops differ"
        if self._is_slow("apart", a, b, not self._share(a, b)):
            return "they share no large input"
        return self._too_large(a, b) or Joined(
            "reduce" if space.is_reduced else "pointwise", space, levels
        )

    def _share(self, a: Group, b: Group) -> bool:
        if any(not node.results for g in (a, b) for node in g.members):
            return bool(self._bases(a) & self._bases(b))

        def followed(group: Group) -> set[Value]:
            """What the group reads once for each point, or through the same movement, which it may
            store too."""
            nodes = [n for n in group.members if group.levels[n] in ("full", "kept")]
            found = {read.base for n in nodes for read in self.reads.of[n] if read.aligned}
            found |= {result for n in nodes if n.op.is_movement for result in n.results}
            return found | {operand for n in nodes for operand in n.operands}

        return any(v.type.nbytes >= SHARED_BYTES for v in followed(a) & followed(b))
