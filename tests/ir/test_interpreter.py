"""What running a graph on NumPy arrays promises."""

import gc
import weakref

import numpy as np
import pytest
from graphs import assert_same, random_graph, sample_inputs

import braze.ir as ir
from braze.ir.interpreter import decomposition, interpret
from braze.ir.op import _TABLE, declare
from braze.ir.parser import parse_graph

F32 = ir.f32


def build(function, *types):
    b = ir.Builder("test")
    values = [b.input(t) for t in types]
    results = function(b, *values)
    return b.finish([results] if isinstance(results, ir.Value) else list(results))


def vector(n=3):
    return np.arange(1, n + 1, dtype=np.float32)


@pytest.fixture
def composite():
    """A composite op without an evaluation of its own, and one made of it."""
    decomposed = []

    def twice(b, x, *, by):
        decomposed.append(by)
        return b.mul(x, by)

    types = {"infer": lambda x, *, by: (x,), "attributes": {"by": float}}
    declare("test_scaled", "composite", "x", decompose=twice, differentiable=False, doc="", **types)
    declare(
        "test_outer",
        "composite",
        "x",
        infer=lambda x: (x, x),
        decompose=lambda b, x: (b.test_scaled(x, by=2.0), b.test_scaled(b.neg(x), by=3.0)),
        results="first second",
        differentiable=False,
        doc="",
    )
    decomposition.cache_clear()
    yield decomposed
    del _TABLE["test_scaled"], _TABLE["test_outer"]
    decomposition.cache_clear()


def test_outputs_in_order():
    graph = build(lambda b, x: (b.mul(x, x), b.neg(x), x), ir.tensor_type(F32, (3,)))
    product, negative, same = interpret(graph, [vector()])
    assert product.tolist() == [1, 4, 9]
    assert negative.tolist() == [-1, -2, -3]
    assert same.tolist() == [1, 2, 3]
    assert product.dtype == np.float32


def test_numbers_serve_for_scalars():
    b = ir.Builder("scalars")
    values = [b.input(ir.tensor_type(d), "scalar") for d in (F32, ir.i64, ir.bool_, ir.u8)]
    found = interpret(b.finish(values), [0.1, 2**40, True, -1])
    assert [(a.dtype.name, a.item()) for a in found] == [
        ("float32", np.float32(0.1)),
        ("int64", 2**40),
        ("bool", True),
        ("uint8", 255),
    ]


def test_inputs_must_fit():
    graph = build(lambda b, x: b.neg(x), ir.tensor_type(F32, (3,)))
    graph.inputs[0].name = "x"
    with pytest.raises(ir.ShapeError, match=r"input x must be f32\[3\], given shape \[4\]"):
        interpret(graph, [vector(4)])
    with pytest.raises(ir.DTypeError, match=r"input x must be f32\[3\], given float64\[3\]"):
        interpret(graph, [vector().astype(np.float64)])
    with pytest.raises(ir.ShapeError):
        interpret(graph, [1.0])
    with pytest.raises(ir.AttributeTypeError, match="takes 1 inputs, given 2"):
        interpret(graph, [vector(), vector()])


def test_outputs_share_no_memory():
    """Whoever writes outputs over inputs, in place, must not see one change another."""

    def views(b, x):
        flat = b.reshape(x, shape=(6,))
        return x, flat, b.permute(x, dims=(1, 0)), flat, b.expand(x, shape=(2, 2, 3))

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = interpret(build(views, ir.tensor_type(F32, (2, 3))), [x])
    for i, one in enumerate(found):
        assert one.flags.c_contiguous and one.flags.writeable
        assert not np.shares_memory(one, x)
        assert not any(np.shares_memory(one, other) for other in found[:i])


@pytest.mark.parametrize("seed", range(40))
def test_running_twice_gives_the_same(seed):
    """No evaluation changes its operands."""
    graph = random_graph(seed, nodes=20)
    inputs = sample_inputs(graph, seed)
    kept = [np.array(x) for x in inputs]
    first = interpret(graph, inputs)
    assert_same(interpret(graph, inputs), first)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after)


def test_values_are_dropped_after_their_last_use():
    references, alive = [], []

    def watch(node, operands, results):
        gc.collect()
        alive.append([i for i, r in enumerate(references) if r() is not None])
        references.extend(weakref.ref(array) for array in results)

    def chain(b, x):
        first = b.exp(x)
        second = b.exp(first)
        third = b.add(second, first)
        return b.neg(b.neg(third))

    interpret(build(chain, ir.tensor_type(F32, (3,))), [vector()], trace=watch)
    # Seen while a node's operands are still held: 0 and 1 live until the addition has run.
    assert alive == [[], [0], [0, 1], [2], [3]]


def test_the_trace_sees_nodes_of_bodies():
    text = """graph @f(%x: f32[3]) -> (f32[]) {
      %0: f32[] = fusion(%x; kind="reduce") graph @body(%x: f32[3]) -> (f32[]) {
        %0: f32[3] = mul(%x, %x)
        %1: f32[] = sum(%0; dims=(0), keepdim=false)
        return %1
      }
      return %0
    }"""
    seen = []
    graph = parse_graph(text)
    (found,) = interpret(graph, [vector()], lambda n, xs, ys: seen.append((n.op.name, len(xs))))
    assert found == 14.0 and found.shape == ()
    assert seen == [("mul", 2), ("sum", 1), ("fusion", 1)]


def test_composites_are_decomposed_once(composite):
    graph = build(
        lambda b, x: (*b.test_outer(x), b.test_scaled(x, by=2.0), b.test_scaled(x, by=2)),
        ir.tensor_type(F32, (3,)),
    )
    expected = [[2, 4, 6], [-3, -6, -9], [2, 4, 6], [2, 4, 6]]
    assert [a.tolist() for a in interpret(graph, [vector()])] == expected
    # 2 and 2.0 are equal but are not taken for each other.
    assert [(type(by), by) for by in composite] == [(float, 2.0), (float, 3.0), (int, 2)]
    interpret(graph, [vector()])
    assert len(composite) == 3


def test_errors_name_the_user_s_line(tmp_path):
    file = tmp_path / "train.py"
    file.write_text("import braze\nloss = nll_loss(p, target)\n")
    b = ir.Builder("check")
    x = b.input(ir.tensor_type(ir.i64, (3,)))
    with b.at(ir.Location(str(file), 2, "net.loss (NLLLoss())")):
        b.check_range(x, low=0, high=10, message="nll_loss")
    graph = b.finish([x])
    assert interpret(graph, [np.array([0, 9, 5])])[0].tolist() == [0, 9, 5]
    with pytest.raises(IndexError) as caught:
        interpret(graph, [np.array([0, -1, 10])])
    assert str(caught.value) == (
        "[nll_loss] index -1 is out of range [0, 10)\n"
        f"  at {file}:2: loss = nll_loss(p, target)\n"
        "  in net.loss (NLLLoss())"
    )


def test_other_errors_keep_their_type_and_get_a_note():
    graph = build(lambda b, x: b.neg(x), ir.tensor_type(F32, (3,)))
    graph.nodes[0].location = ir.Location("nowhere.py", 7)
    graph.nodes[0].result.type = ir.tensor_type(F32, (4,))
    with pytest.raises(
        RuntimeError, match=r"neg gave float32\[3\] where its type is f32\[4\]"
    ) as e:
        interpret(graph, [vector()])
    assert e.value.__notes__ == ["at nowhere.py:7"]
