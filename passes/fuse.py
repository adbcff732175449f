"""Collect primitives into `fusion` nodes: one fusion node is one kernel.

Needs: primitives.  Keeps: types, outputs, order of what depends on each other, names, source lines.
Movements, constants and arithmetic on single numbers become part of every kernel that reads through
them.

Before:
    graph @g(%x: f32[8,4], %w: f32[5,4], %c: f32[5]) -> (f32[8,5]) {
      %0: f32[8,5] = contract(%x, %w; equation="mk,nk->mn")
      %1: f32[8,5] = add(%0, %c)
      %2: f32[8,5] = tanh(%1)
      return %2
    }
After:
    graph @g(%x: f32[8,4], %w: f32[5,4], %c: f32[5]) -> (f32[8,5]) {
      %0: f32[8,5] = fusion(%x, %w, %c; kind="contract") graph @contract_add_tanh(%0: f32[8,4], %1: f32[5,4], %2: f32[5]) -> (f32[8,5]) {
        %3: f32[8,5] = contract(%0, %1; equation="mk,nk->mn")
        %4: f32[8,5] = add(%3, %2)
        %5: f32[8,5] = tanh(%4)
        return %5
      }
      return %0
    }
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from braze.ir.graph import Graph, Node
from braze.ir.target import Target
from braze.passes.choices import Choices
from braze.passes.fusion_bodies import build_fused_graph
from braze.passes.fusion_rules import Joined, Rules
from braze.passes.groups import Group, Level, Reads
from braze.passes.space import space_of

# More sentences than this are not kept for the report.
MOST_REFUSALS = 200


def fuse(
    graph: Graph,
    target: Target,
    refusals: list[str] | None = None,
    *,
    sums_of_columns: bool = True,
    choices: Choices | None = None,
) -> Graph:
    """The graph as fusion nodes.

    Args:
        target: cache sizes decide how long a row may be.
        refusals: receives a sentence for each pair of neighbours that stays apart.
        sums_of_columns: whether these may be made by a kernel that goes through the rows, whose
            loops are others for each number of rows.
        choices: takes in what is chosen by sizes, or has what was chosen for others.
    """
    reads = Reads(graph)
    fuser = _Fuser(reads, target, sums_of_columns, choices or Choices())
    fuser.join_only_readers()
    fuser.join_neighbours()
    fuser.join_siblings()
    fuser.join_neighbours()
    if refusals is not None:
        refusals += fuser.final_refusals()
    return build_fused_graph(reads, fuser.rules, fuser.ordered())


class _Fuser:
    """Grows groups from single anchors."""

    def __init__(
        self, reads: Reads, target: Target, sums_of_columns: bool, choices: Choices
    ) -> None:
        self.reads = reads
        self.of: dict[Node, Group] = {}
        self.rules = Rules(reads, self.of, target, sums_of_columns, choices)
        self.refused: dict[tuple[int, int, str], tuple[Group, Group, str]] = {}
        self.order = _Order()
        self.count = 0
        for node in reads.anchors:
            levels: dict[Node, Level] = {node: "kept"}
            group = Group(self._number(), _kind(node), space_of(node), [node], levels)
            self.of[node] = group
            self.order.append(group)
            for read in reads.of[node]:
                if read.base.node is not None:
                    self._link(self.of[read.base.node], group)

    def _number(self) -> int:
        self.count += 1
        return self.count

    @staticmethod
    def _link(before: Group, after: Group) -> None:
        before.after.add(after)
        after.before.add(before)

    def groups(self) -> list[Group]:
        return list(dict.fromkeys(self.of.values()))

    def join_only_readers(self) -> None:
        """What one kernel reads is best computed there: then it is not stored at all."""
        for node in reversed(self.reads.anchors):
            group = self.of[node]
            if len(group.after) == 1:
                self._try(group, next(iter(group.after)), self.rules.into_only_reader, "into")

    def join_neighbours(self) -> None:
        """Producers with consumers, until nothing more fits."""
        changed = True
        while changed:
            changed = False
            for node in self.reads.anchors:
                changed |= self._join_producers(node)

    def _join_producers(self, node: Node) -> bool:
        joined = False
        again = True
        while again:
            again = False
            group = self.of[node]
            number, refused = group.number, self.refused
            producers = [p for p in group.before if (p.number, number, "after") not in refused]
            producers.sort(key=lambda p: (-self._traffic(p, group), p.number))
            for p in producers:
                if self._try(p, group, self.rules.vertical, "after"):
                    joined = again = True
                    break
        return joined

    def _traffic(self, p: Group, c: Group) -> int:
        bases = {read.base for _, read in self.rules.reads_between(p, c)}
        return sum(base.type.nbytes for base in bases)

    def join_siblings(self) -> None:
        """Groups that read the same values."""
        for base in list(self.reads.readers):
            again = True
            while again:
                again = False
                groups = list(dict.fromkeys(self.of[node] for node in self.reads.readers[base]))
                for a, b in combinations(groups, 2):
                    if self._try(a, b, self.rules.horizontal, "beside"):
                        again = True
                        break

    def _try(
        self, p: Group, c: Group, judge: Callable[[Group, Group], Joined | str], relation: str
    ) -> bool:
        if (p.number, c.number, relation) in self.refused:
            return False
        verdict = judge(p, c)
        if isinstance(verdict, Joined) and not self.order.can_join(p, c):
            verdict = "a third kernel needs the one and is needed by the other"
        if isinstance(verdict, str):
            self.refused[p.number, c.number, relation] = p, c, verdict
            return False
        self._merge(p, c, verdict)
        return True

    def final_refusals(self) -> list[str]:
        """Why groups that are left as neighbours stay apart."""
        final = {group.number for group in self.groups()}
        sentences = [
            f"{c.name} {relation} {p.name}: {verdict}"
            for (_, _, relation), (p, c, verdict) in self.refused.items()
            if p.number in final and c.number in final and relation != "into"
        ]
        return list(dict.fromkeys(sentences))[:MOST_REFUSALS]

    def _merge(self, p: Group, c: Group, joined: Joined) -> None:
        members = sorted({*p.members, *c.members}, key=self.reads.order.__getitem__)
        merged = Group(self._number(), joined.kind, joined.space, members, joined.levels)
        for group in (p, c):
            for before in group.before:
                before.after.discard(group)
                if before is not p and before is not c:
                    self._link(before, merged)
            for after in group.after:
                after.before.discard(group)
                if after is not p and after is not c:
                    self._link(merged, after)
        self.order.join(p, c, merged)
        for node in members:
            self.of[node] = merged

    def ordered(self) -> list[Group]:
        """The groups in an order in which each comes after what it reads."""
        waiting = {group: len(group.before) for group in self.groups()}
        ready = [group for group, count in waiting.items() if count == 0]
        order: list[Group] = []
        while ready:
            ready.sort(key=lambda g: -self.reads.order[g.members[0]])
            group = ready.pop()
            order.append(group)
            for after in group.after:
                waiting[after] -= 1
                if waiting[after] == 0:
                    ready.append(after)
        assert len(order) == len(waiting)
        return order


class _Order:
    """The groups' ranks: each is above those of what the group reads.

    Two groups become one only if no path leads from one to the other through a third. Such a path
    lies between their ranks, so that only what is there is looked at; a merge moves no more than
    that (D. J. Pearce and P. H. J. Kelly, A dynamic topological sort algorithm, 2007).
    """

    def __init__(self) -> None:
        self._rank: dict[Group, int] = {}

    def append(self, group: Group) -> None:
        """A new group, which nobody reads."""
        self._rank[group] = len(self._rank)

    def can_join(self, a: Group, b: Group) -> bool:
        """Is there no path of at least two edges between them?"""
        low, high = self._sorted(a, b)
        rank, most = self._rank, self._rank[high]
        seen: set[Group] = {low}
        stack = [group for group in low.after if group is not high]
        while stack:
            group = stack.pop()
            if group in seen or rank[group] > most:
                continue
            seen.add(group)
            if high in group.after:
                return False
            stack += group.after
        return True

    def join(self, a: Group, b: Group, merged: Group) -> None:
        """`merged` stands for both from now on; they may be joined, and it is linked already."""
        low, high = self._sorted(a, b)
        rank = self._rank
        least, most = rank.pop(low), rank.pop(high)
        behind = self._between(merged, least, most, forwards=True)
        before = self._between(merged, least, most, forwards=False)
        ranks = sorted([least, *(rank[group] for group in (*before, *behind))])
        for group, number in zip((*before, merged, *behind), ranks, strict=True):
            rank[group] = number

    def _sorted(self, a: Group, b: Group) -> tuple[Group, Group]:
        return (a, b) if self._rank[a] < self._rank[b] else (b, a)

    def _between(self, start: Group, least: int, most: int, *, forwards: bool) -> list[Group]:
        """What can be reached from a group within some ranks, in the order of the ranks."""
        rank = self._rank
        seen: set[Group] = set()
        stack = [start]
        while stack:
            group = stack.pop()
            for other in group.after if forwards else group.before:
                if other not in seen and least <= rank[other] <= most:
                    seen.add(other)
                    stack.append(other)
        return sorted(seen, key=rank.__getitem__)


def _kind(node: Node) -> str:
    """The kind of a group of one node; kinds name the loops that a kernel has."""
    return node.op.category if node.op.has_own_loops else "pointwise"
