"""Graphs on several devices as segments of one device each, run by the interpreter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.runtime.placed import run_split
from braze.runtime.splitting import Copy, Segment, is_split, split_devices

DEVICES = ("cpu", "cuda:0", "cuda:1")


def graph_of(body, head):
    graph = ir.parse_graph(f"graph @g({head}) -> " + body)
    ir.verify(graph)
    return graph


class Memory:
    """An array and the device that it is on; what nobody has written is nan."""

    def __init__(self, type, array=None):
        self.type = type
        fresh = np.full(type.shape, np.nan, type.dtype.numpy) if array is None else array
        self.array = np.array(fresh)


def run(split, graph, inputs):
    """Outputs and inputs after running the segments by the interpreter. Every segment may touch
    memory of its own device only, and is verified."""
    given = [
        value if role == "scalar" else Memory(v.type, value)
        for value, v, role in zip(inputs, graph.inputs, graph.roles, strict=True)
    ]
    made = [
        given[graph.aliases[i]] if i in graph.aliases else Memory(value.type)
        for i, value in enumerate(graph.outputs)
    ]
    live = 0

    def segment_run(number, segment, given, made):
        ir.verify(segment.graph)
        assert all(v.type.device == "cpu" for v in segment.graph.values())
        assert not any(node.op.is_transfer for node in segment.graph.nodes)
        memories = [m for m in (*given, *made) if isinstance(m, Memory)]
        assert {m.type.device for m in memories} <= {segment.device}
        for output, source in segment.graph.aliases.items():
            assert made[output] is given[source]
        for index, m in enumerate(made):
            assert index in segment.graph.aliases or all(m is not g for g in given)
        arrays = [m.array if isinstance(m, Memory) else m for m in given]
        for m, result in zip(made, interpret(segment.graph, arrays), strict=True):
            m.array[...] = result

    def copy(source, target):
        assert source.type.shape == target.type.shape
        target.array[...] = source.array

    def new(type):
        nonlocal live
        live += 1
        return Memory(type)

    run_split(split, [*given, *made], new, segment_run, copy)
    return [m.array for m in made], [g.array if isinstance(g, Memory) else g for g in given]


def check(graph, inputs):
    wanted = interpret(graph, inputs)
    split = split_devices(graph)
    found, after = run(split, graph, inputs)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    overwritten = set(graph.aliases.values())
    for i, (now, before) in enumerate(zip(after, inputs, strict=True)):
        if i not in overwritten:
            np.testing.assert_array_equal(now, before)
    return split


def shape_of(split):
    """The steps for people: a segment's device and operations, or "copy to device"."""
    return [
        f"copy to {split.types[step.target].device}"
        if isinstance(step, Copy)
        else " ".join([f"{step.device}:", *(node.op.name for node in step.graph.nodes)])
        for step in split.steps
    ]


X = np.arange(4, dtype=np.float32)


def test_the_example_of_the_module():
    graph = graph_of(
        """(f32[4]) {
      %0: f32[4]@cuda:0 = to_device(%x; device="cuda:0")
      %1: f32[4]@cuda:0 = mul(%0, %w)
      %2: f32[4] = to_device(%1; device="cpu")
      %3: f32[4] = neg(%2)
      return %3
    }""",
        "%x: f32[4], %w: f32[4]@cuda:0 param",
    )
    split = check(graph, [X, X + 1])
    assert shape_of(split) == ["copy to cuda:0", "cuda:0: mul", "copy to cpu", "cpu: neg"]


def test_a_graph_on_one_gpu_is_one_segment():
    graph = graph_of(
        """(f32[4]@cuda:0 = %w, f32[]@cuda:0) {
      %0: f32[4]@cuda:0 = mul(%x, %s)
      %1: f32[4]@cuda:0 = add(%w, %0)
      %2: f32[]@cuda:0 = sum(%0; dims=(0), keepdim=false)
      return %1, %2
    }""",
        "%x: f32[4]@cuda:0, %w: f32[4]@cuda:0 param, %s: f32[] scalar",
    )
    split = check(graph, [X, X + 1, 3.0])
    assert shape_of(split) == ["cuda:0: mul add sum"]
    (segment,) = split.steps
    assert isinstance(segment, Segment) and segment.nodes == (0, 1, 2)
    (source,) = segment.graph.aliases.values()
    assert segment.inputs[source] == 1 and sorted(segment.graph.roles) == [
        "data",
        "param",
        "scalar",
    ]


def test_what_depends_on_numbers_alone_is_computed_where_it_is_wanted():
    graph = graph_of(
        """(f32[3]@cuda:0, f32[3]@cuda:1, f32[3]) {
      %0: f32[] = constant(value=2.0, dtype=f32)
      %1: f32[] = mul(%0, %s)
      %2: f32[3] = expand(%1; shape=(3))
      %3: f32[3]@cuda:0 = to_device(%2; device="cuda:0")
      %4: f32[3]@cuda:1 = to_device(%3; device="cuda:1")
      return %3, %4, %2
    }""",
        "%s: f32[] scalar",
    )
    split = check(graph, [1.5])
    assert shape_of(split) == [f"{d}: constant mul expand" for d in ("cuda:0", "cuda:1", "cpu")]


def test_there_and_back_again_is_no_copy():
    graph = graph_of(
        """(f32[4]) {
      %0: f32[4]@cuda:0 = to_device(%x; device="cuda:0")
      %1: f32[4] = to_device(%0; device="cpu")
      %2: f32[4] = neg(%1)
      return %2
    }""",
        "%x: f32[4]",
    )
    assert shape_of(check(graph, [X])) == ["cpu: neg"]


def test_outputs_that_are_inputs_are_copied():
    graph = graph_of("(f32[4]@cuda:0, f32[4], f32[4]@cuda:0) {\n"
                     '%0: f32[4]@cuda:0 = to_device(%x; device="cuda:0")\n'
                     '%1: f32[4] = to_device(%y; device="cpu")\n'
                     "return %0, %1, %0\n}", "%x: f32[4], %y: f32[4]@cuda:0")  # fmt: skip
    split = check(graph, [X, X + 1])
    assert [type(step) for step in split.steps] == [Copy] * 3


def test_state_is_not_overwritten_before_others_have_read_it():
    """The second segment of the GPU reads %w after the first could have overwritten it."""
    graph = graph_of(
        """(f32[4]@cuda:0 = %w, f32[4]@cuda:0) {
      %0: f32[4]@cuda:0 = add(%w, %w)
      %1: f32[4] = to_device(%0; device="cpu")
      %2: f32[4] = neg(%1)
      %3: f32[4]@cuda:0 = to_device(%2; device="cuda:0")
      %4: f32[4]@cuda:0 = mul(%3, %w)
      return %0, %4
    }""",
        "%w: f32[4]@cuda:0 param",
    )
    split = check(graph, [X + 1])
    assert shape_of(split)[-1] == "copy to cuda:0"
    assert all(not s.graph.aliases for s in split.steps if isinstance(s, Segment))


def test_state_is_not_overwritten_before_all_checks():
    graph = graph_of(
        """(f32[4]@cuda:0 = %w, i64[2]) {
      %0: f32[4]@cuda:0 = add(%w, %w)
      %1: f32[4] = to_device(%0; device="cpu")
      %2: i64[4] = cast(%1; dtype=i64)
      check_range(%i; message="take", low=0, high=4)
      %3: i64[2] = take(%2, %i; dim=0)
      return %0, %3
    }""",
        "%w: f32[4]@cuda:0 param, %i: i64[2]",
    )
    check(graph, [X + 1, np.array([0, 3])])
    state, split = np.array(X + 1), split_devices(graph)
    memory = [Memory(t) for t in split.types]
    memory[0].array[...] = state
    memory[1].array[...] = [0, 9]
    with pytest.raises(IndexError):
        run_split(
            split,
            [*memory[:2], memory[0], memory[3]],
            Memory,
            lambda n, s, given, made: [
                m.array.__setitem__(..., r)
                for m, r in zip(made, interpret(s.graph, [g.array for g in given]), strict=True)
            ],
            lambda source, target: target.array.__setitem__(..., source.array),
        )
    np.testing.assert_array_equal(memory[0].array, state)


def test_two_states_can_change_places():
    graph = graph_of("(f32[4]@cuda:0 = %y, f32[4]@cuda:0 = %x) {\nreturn %x, %y\n}",
                     "%x: f32[4]@cuda:0, %y: f32[4]@cuda:0")  # fmt: skip
    check(graph, [X, X + 1])


def test_memory_in_between_is_let_go_after_its_last_use():
    graph = graph_of(
        """(f32[]) {
      %0: f32[4]@cuda:0 = to_device(%x; device="cuda:0")
      %1: f32[4]@cuda:0 = neg(%0)
      %2: f32[4]@cuda:1 = to_device(%1; device="cuda:1")
      %3: f32[]@cuda:1 = sum(%2; dims=(0), keepdim=false)
      %4: f32[] = to_device(%3; device="cpu")
      return %4
    }""",
        "%x: f32[4]",
    )
    split = check(graph, [X])
    assert [len(dead) for dead in split.last_uses] == [0, 1, 1, 1, 1]


def test_graphs_for_the_cpu_are_left_alone():
    graph = graph_of("(f32[4]) {\n%0: f32[4] = neg(%x)\nreturn %0\n}", "%x: f32[4]")
    assert not is_split(graph)


@st.composite
def placed_graphs(draw):
    """Graphs of elementwise operations, sums, constants and moves over three devices, some with
    state."""
    b = ir.Builder("g")
    values, states = [], []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["data", "param", "scalar"]))
        device = "cpu" if kind == "scalar" else draw(st.sampled_from(DEVICES))
        type = ir.tensor_type(ir.f32, () if kind == "scalar" else (3,), device)
        values.append(b.input(type, kind, f"i{number}"))
        if kind == "param":
            states.append((number, type))
    for _ in range(draw(st.integers(1, 14))):
        what = draw(st.sampled_from(["move", "move", "add", "mul", "neg", "sum", "number", "fill"]))
        x = draw(st.sampled_from(values))
        if what == "move":
            values.append(b.to_device(x, device=draw(st.sampled_from(DEVICES))))
        elif what == "number":
            values.append(b.constant(value=draw(st.integers(-3, 3)) / 2, dtype=ir.f32))
        elif what == "fill":
            values.append(b.full(shape=(3,), value=draw(st.integers(-3, 3)) / 2, dtype=ir.f32))
        elif what == "neg":
            values.append(b.neg(x))
        elif what == "sum" and x.shape:
            values.append(b.sum(x, dims=(0,), keepdim=False))
        else:
            y = draw(st.sampled_from(values))
            try:
                values.append(b.mul(x, y) if what == "mul" else b.add(x, y))
            except ir.DeviceError:
                values.append(b.add(b.to_device(x, device=y.type.device), y))
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    aliases = {}
    for number, type in states:
        fitting = [i for i, v in enumerate(outputs) if v.type is type and i not in aliases]
        if fitting and draw(st.booleans()):
            aliases[draw(st.sampled_from(fitting))] = number
    graph = b.finish(outputs, aliases)
    needed = {v.node for v in graph.outputs}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(v.node for v in node.operands)
    graph.nodes = [node for node in graph.nodes if node in needed]
    return graph


@settings(max_examples=300, deadline=None)
@given(placed_graphs())
def test_any_graph_computes_what_it_computes_on_one_device(graph):
    ir.verify(graph)
    random = np.random.default_rng(0)
    inputs = [
        float(random.integers(-2, 3)) if role == "scalar"
        else random.integers(-2, 3, v.shape).astype(np.float32)
        for v, role in zip(graph.inputs, graph.roles, strict=True)
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        check(graph, inputs)
