"""The order that fusion keeps of its groups: what may be joined, and ranks after merges."""

import random

import pytest
from networks import residual_step

from braze.ir.target import named_target
from braze.passes import optimise
from braze.passes.fuse import _Order
from braze.passes.fusion_rules import Rules
from braze.passes.groups import Group
from braze.passes.space import Space


def linked(before, after):
    before.after.add(after)
    after.before.add(before)


def made(number):
    return Group(number, "pointwise", Space((), ()), [], {})


def reaches_through_a_third(start, goal):
    stack, seen = [g for g in start.after if g is not goal], set()
    while stack:
        group = stack.pop()
        if group is goal:
            return True
        if group not in seen:
            seen.add(group)
            stack += group.after
    return False


def merge(a, b, number):
    merged = made(number)
    for group in (a, b):
        for other in group.before:
            other.after.discard(group)
            if other is not a and other is not b:
                linked(other, merged)
        for other in group.after:
            other.before.discard(group)
            if other is not a and other is not b:
                linked(merged, other)
    return merged


@pytest.mark.parametrize("seed", range(40))
def test_merges_of_any_graph(seed):
    rng = random.Random(seed)
    count = rng.randint(3, 40)
    order, groups = _Order(), []
    for number in range(count):
        group = made(number)
        order.append(group)
        for other in rng.sample(groups, min(len(groups), rng.randint(0, 3))):
            linked(other, group)
        groups.append(group)
    joined = refused = 0
    for number in range(count, 4 * count):
        if len(groups) < 2:
            break
        a, b = rng.sample(groups, 2)
        fits = not reaches_through_a_third(a, b) and not reaches_through_a_third(b, a)
        assert order.can_join(a, b) == fits
        if not fits:
            refused += 1
            continue
        merged = merge(a, b, number)
        order.join(a, b, merged)
        groups = [g for g in groups if g is not a and g is not b] + [merged]
        joined += 1
        ranks = order._rank
        assert set(ranks) == set(groups) and len(set(ranks.values())) == len(groups)
        assert all(ranks[g] < ranks[after] for g in groups for after in g.after)
    assert joined


def test_what_a_node_reads_of_a_row_is_worked_out_once(monkeypatch):
    """Groups ask again and again as they grow."""
    asked, worked_out = [], []
    judge, find = Rules._reads_own_row, Rules._read_places

    def counting_judge(rules, node, level, group):
        asked.append(node)
        return judge(rules, node, level, group)

    def counting_find(rules, *key):
        worked_out.append(key)
        return find(rules, *key)

    monkeypatch.setattr(Rules, "_reads_own_row", counting_judge)
    monkeypatch.setattr(Rules, "_read_places", counting_find)
    optimise(residual_step(), named_target("x86-64-v3"))
    assert len(set(worked_out)) == len(worked_out) < len(asked)
