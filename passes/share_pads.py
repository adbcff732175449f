"""Keep one copy of a value that a convolution needs padded: its other readers look inside the
padding.

Needs: primitives, simplified.  Keeps: types, results.

The micro-kernels cannot read what is not in memory, so a padded operand is stored with its border,
unless that is left out of the sums (see `guards`). Where the value is computed elementwise, it can
be computed into the padded buffer in the first place.

Before:
    graph @g(%x: f32[1,8,4], %w: f32[3,4,4], %g: f32[1,8,4]) -> (f32[1,8,4], f32[4]) {
      %0: f32[1,8,4] = mul(%x, %g)
      %1: f32[1,10,4] = pad(%0; low=(0,1,0), high=(0,1,0), interior=(0,0,0), value=0.0)
      %2: f32[1,8,4,3] = window(%1; dims=(1), size=(3), stride=(1), dilation=(1))
      %3: f32[1,8,4] = contract(%2, %w; equation="nick,kco->nio")
      %4: f32[4] = sum(%0; dims=(0,1), keepdim=false)
      return %3, %4
    }
After:
    graph @g(%x: f32[1,8,4], %w: f32[3,4,4], %g: f32[1,8,4]) -> (f32[1,8,4], f32[4]) {
      %0: f32[1,8,4] = mul(%x, %g)
      %1: f32[1,10,4] = pad(%0; low=(0,1,0), high=(0,1,0), interior=(0,0,0), value=0.0)
      %2: f32[1,8,4] = slice(%1; starts=(0,1,0), stops=(1,9,4), steps=(1,1,1))
      %3: f32[1,8,4,3] = window(%1; dims=(1), size=(3), stride=(1), dilation=(1))
      %4: f32[1,8,4] = contract(%3, %w; equation="nick,kco->nio")
      %5: f32[4] = sum(%2; dims=(0,1), keepdim=false)
      return %4, %5
    }
"""

from __future__ import annotations

from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Node, Value
from braze.passes.guards import stored_pads

# A border that makes the value larger than this costs more to read past than a copy.
LARGEST_GROWTH = 1.6


def share_pads(graph: Graph) -> Graph:
    """The graph with values read from inside their padded copies."""
    uses, stored = graph.uses(), stored_pads(graph)
    chosen = {
        node.operands[0]: node
        for node in graph.nodes
        if node in stored and _is_shareable(node, uses, set(graph.outputs))
    }
    if not chosen:
        return graph
    new = Rewriter(graph)
    pads = set(chosen.values())
    for node in graph.nodes:
        if node in pads:
            continue
        new.keep(node)
        for result in node.results:
            if result in chosen:
                pad = chosen[result]
                with new.at(pad.location):
                    new.keep(pad)
                    new.replaced[result] = _inside(new, pad)
    return new.done()


def _inside(b: Rewriter, pad: Node) -> Value:
    low, gaps = pad.attributes["low"], pad.attributes["interior"]
    assert isinstance(low, tuple) and isinstance(gaps, tuple)
    steps = tuple(gap + 1 for gap in gaps)
    shape = pad.operands[0].shape
    stops = tuple(a + (n - 1) * s + 1 for a, n, s in zip(low, shape, steps, strict=True))
    value: Value = b.slice(b[pad.result], starts=low, stops=stops, steps=steps)
    return value


def _is_shareable(node: Node, uses: dict[Value, list[Node]], outputs: set[Value]) -> bool:
    source = node.operands[0]
    if source in outputs or source.node is None or not source.node.op.is_pointwise:
        return False
    others = [reader for reader in uses[source] if reader is not node]
    if not others or any(reader.op.name == "pad" for reader in others):
        return False
    if node.result.type.numel > LARGEST_GROWTH * source.type.numel or 0 in source.shape:
        return False
    return not _ends_contraction(source, uses)


def _ends_contraction(value: Value, uses: dict[Value, list[Node]]) -> bool:
    """Will a contraction's kernel compute the value? (Its stores cannot make the border.)"""
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().node
        if node is None:
            continue
        if node.op.is_contract and value not in _needing_another_kernel(node, uses):
            return True
        if node.op.is_pointwise:
            for x in node.operands:
                if x.type.numel == value.type.numel and x not in seen:
                    seen.add(x)
                    stack.append(x)
    return False


def _needing_another_kernel(contract: Node, uses: dict[Value, list[Node]]) -> set[Value]:
    """What depends on a contraction by way of more than elementwise operations on its result."""
    numel = contract.result.type.numel
    near, far = {contract.result}, set[Value]()
    stack = [(contract.result, False)]
    while stack:
        value, is_far = stack.pop()
        for node in uses[value]:
            same = node.op.is_pointwise and node.result.type.numel == numel
            beyond = is_far or not same
            for result in node.results:
                known = far if beyond else near
                if result not in known:
                    known.add(result)
                    stack.append((result, beyond))
    return far
