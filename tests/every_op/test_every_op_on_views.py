"""Every operation's public function: on views of any layout and with negative dimensions it gives
what the operation means for the same values in a row."""

import numpy as np
import pytest
from composites import to_primitives
from native import Native
from op_calls import IN_STEPS, UNNAMED, NotExpressible, call
from op_samples import Sample, accepted
from test_every_op_values import BUDGET, OPS, TOLERANCE, assert_near, graph_of

import braze
import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.passes import compile_graph
from braze.passes.split_complex import split_complex
from braze.runtime.cpu import host_target
from braze.tracing import trace

NAMED = [op for op in OPS if op.name not in UNNAMED]
COMPILED = 8  # cases of an op
RANDOM = {"bernoulli", "binomial", "dropout", "multinomial", "poisson"}

# Layouts: the array that memory holds, and the view of it with the operand's values ---------------


def as_it_is(x):
    return x, lambda t: t


def transposed(x):
    order = tuple(reversed(range(x.ndim)))
    return np.array(x.transpose(order), order="C"), lambda t: t.permute(*order)


def strided(x):
    base = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
    places = tuple(slice(1, None, 2) for _ in x.shape)
    base[places] = x
    return base, lambda t: t[places] if places else t


def offset(x):
    base = np.concatenate([np.zeros(3, x.dtype), x.reshape(-1), np.zeros(2, x.dtype)])
    return base, lambda t: t[3 : 3 + x.size].reshape(x.shape)


def expanded(x):
    """The first element of the first dimension for all of them."""
    if not x.ndim or not x.shape[0]:
        return as_it_is(x)
    return x[:1].copy(), lambda t: t.expand(x.shape)


LAYOUTS = (as_it_is, transposed, strided, offset, expanded)


def values(layout, x):
    """The operand's values under a layout."""
    x = np.asarray(x)
    if layout is expanded and x.ndim and x.shape[0]:
        return np.broadcast_to(x[:1], x.shape).copy()
    return x


def fits(layout, op, sample):
    """Repeated rows are no matrices to factorise, nor all of them good orders of indices; the
    parts of a complex number lie side by side."""
    if op.name == "view_as_complex":
        return layout is as_it_is
    square = op.is_host or op.name in ("scatter", "index_put", "searchsorted")
    return layout is not expanded or not square


def from_behind(op, sample):
    """The attributes with negative dimensions."""
    rank = np.asarray(sample.operands[0]).ndim
    made = dict(sample.attributes)
    for name in ("dim", "dim1", "dim2"):
        if name in made:
            made[name] -= rank + (op.name in ("stack", "diag_embed"))
    if "dims" in made and isinstance(made["dims"], tuple):
        made["dims"] = tuple(d - rank for d in made["dims"])
    return made


def chosen(op):
    """Some samples in f32, or in the first dtype that the op takes; and others in c64."""
    takes = [d for d in (ir.f32, *ir.dtypes.ALL) if accepted(op, d)]
    given = accepted(op, takes[0])
    if takes[0] is not ir.c64 and ir.c64 in takes:
        given = [*given[::2], *accepted(op, ir.c64)[1::2]]
    kept = []
    for sample in given:
        operands = [np.asarray(a) for a in sample.operands]
        indices = [a for name, a in zip(op.operands, operands, strict=False) if name == "index"]
        inside = all((a >= 0).all() for a in indices) and not sample.edges
        if inside and sum(a.size for a in operands) <= 200:
            kept.append(sample)
    return kept


def meaning(op, sample, arrays):
    graph, inputs = graph_of(op, [Sample(arrays, sample.attributes)])
    return interpret(graph, inputs)


def cases(op):
    """(sample, layout, arrays in memory, views of them, expected results) of all that fit."""
    for sample in chosen(op):
        for layout in LAYOUTS:
            if not fits(layout, op, sample):
                continue
            made = [layout(np.asarray(a)) for a in sample.operands]
            arrays = [values(layout, a) for a in sample.operands]
            try:
                expected = meaning(op, sample, arrays)
            except IndexError:
                continue
            yield sample, layout, [m[0] for m in made], [m[1] for m in made], expected


def assert_results(op, found, expected, what):
    """The function may give fewer results than the op (max_pool's taps)."""
    assert 1 <= len(found) <= len(expected), what
    for one, other in zip(found, expected, strict=False):
        tolerance = TOLERANCE.get(ir.from_numpy(other.dtype).name, 0.0)
        assert_near(np.asarray(one), other, tolerance, what)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """What is compiled is compiled at once, all cases of an operation together."""
    monkeypatch.setattr(braze.config, "tier", "interpret")


@pytest.mark.parametrize("op", [op for op in NAMED if op.name not in RANDOM], ids=str)
def test_views(op):
    """Run at once on views of arrays, and compiled with the views inside."""
    count = 0
    compiled = []
    for sample, layout, bases, views, expected in cases(op):
        attributes = sample.attributes if layout is as_it_is else from_behind(op, sample)
        what = f"{op.name} {sample} {layout.__name__}"
        try:
            tensors = [v(braze.from_numpy(b)) for v, b in zip(views, bases, strict=True)]
            found = [t.numpy() for t in call(op, tensors, attributes)]
        except NotExpressible:
            continue
        assert_results(op, found, expected, what)
        count += 1
        compiled.append((bases, views, attributes, expected[: len(found)], what))
    assert count >= 2
    size = len(to_primitives(split_complex(graph_of(op, [sample])[0])).nodes)
    most = min(max(BUDGET // 12 // max(size, 1), 3), COMPILED)
    step = -(-len(compiled) // most)
    step += step % len(LAYOUTS) == 0  # not always the same layout
    run_compiled(op, compiled[len(op.name) % step :: step])


def run_compiled(op, cases):
    """All cases in one graph."""
    arrays = [b for bases, *_ in cases for b in bases]

    def function(*tensors):
        given = iter(tensors)
        results = []
        for bases, views, attributes, _, _ in cases:
            own = [view(next(given)) for view, _ in zip(views, bases, strict=True)]
            results += call(op, own, attributes)
        return results

    traced = trace(function, [braze.from_numpy(a) for a in arrays])
    assert (op in {node.op for node in traced.graph.nodes}) == (op.name not in IN_STEPS)
    # What the function captured besides its arguments: numbers.
    given = [*arrays, *traced.captured]
    inputs = [
        np.asarray(a).astype(v.dtype.numpy) for a, v in zip(given, traced.graph.inputs, strict=True)
    ]
    outputs = interpret(traced.graph, inputs)
    program, _ = compile_graph(traced.graph, host_target())
    for found in (outputs, Native(program).run(inputs, outputs)):
        rest = iter(found)
        for *_, expected, what in cases:
            own = [next(rest) for _ in expected]
            assert_results(op, own, expected, what)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_views_of_random_functions(name):
    op = ir.op_named(name)
    for sample in chosen(op):
        results = []
        given = [
            np.asarray(a)
            for name, a in zip(op.operands, sample.operands, strict=True)
            if name not in ("seed", "offset")
        ]
        for layout in (as_it_is, transposed, strided, offset):
            made = [layout(a) for a in given]
            braze.manual_seed(5)
            tensors = [view(braze.from_numpy(base)) for base, view in made]
            (found,) = call(op, tensors, sample.attributes)
            results.append(found.numpy())
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
