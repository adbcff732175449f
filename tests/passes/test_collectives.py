"""Collectives in graphs: none is merged, dropped or moved past another; each begins as soon as it
can, and is waited for as late as it can be."""

import numpy as np
import pytest
from two_layers import two_layers

from braze.ir.collectives import Alone, current, use
from braze.ir.dtypes import f32, i64
from braze.ir.errors import AttributeTypeError, DTypeError, ShapeError
from braze.ir.graph import Graph
from braze.ir.interpreter import interpret
from braze.ir.op import op_named
from braze.ir.parser import parse_graph
from braze.ir.types import tensor_type
from braze.passes import optimise
from braze.runtime.cache import prepare
from braze.runtime.cpu import host_target
from braze.runtime.storage import Storage

STEP = two_layers(256)


class Noted(Alone):
    """A world of one that notes what is asked of it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def start(self, xs, **how):
        ticket = super().start(xs, **how)
        self.calls.append(("start", ticket, sum(x.size for x in xs)))
        return ticket

    def wait(self, ticket):
        self.calls.append(("wait", ticket))
        return super().wait(ticket)


@pytest.fixture
def noted():
    before, found = current(), Noted()
    use(found)
    yield found
    use(before)


def _names(graph: Graph) -> list[str]:
    """What each kernel is: its most telling operation."""
    found = []
    for node in graph.nodes:
        inner = [n.op.name for n in node.body.nodes] if node.body is not None else [node.op.name]
        telling = [n for n in inner if n.startswith("collective") or n == "contract"]
        found.append(telling[0] if telling else inner[-1] if inner else "copy")
    return found


def test_a_bucket_is_reduced_during_the_rest_of_the_backward_pass():
    names = _names(optimise(parse_graph(STEP), host_target()))
    starts = [i for i, name in enumerate(names) if name == "collective_start"]
    waits = [i for i, name in enumerate(names) if name == "collective_wait"]
    contractions = [i for i, name in enumerate(names) if name == "contract"]
    assert (len(starts), len(waits), len(contractions)) == (2, 2, 4)
    # The first begins before two contractions of the other layer, and nothing waits before the end.
    assert sum(i > starts[0] for i in contractions) == 2
    assert min(waits) > max(*starts, *contractions)


def test_compiled_code_calls_what_the_interpreter_calls(noted):
    rng = np.random.default_rng(0)
    graph = parse_graph(STEP)
    arrays = [rng.standard_normal(v.type.shape, np.float32) * 0.1 for v in graph.inputs]
    wanted = interpret(graph, arrays)
    assert noted.calls[0] == ("start", 1, 65536) and ("wait", 2) in noted.calls
    noted.calls.clear()
    storages = [Storage.from_numpy(a.copy()) for a in arrays]
    entry = prepare(graph, tier="compile")
    for tickets in ((3, 4), (5, 6)):
        outputs = [Storage.from_numpy(a.copy()) for a in (arrays[1], arrays[2])]
        inputs = [storages[0], *outputs, storages[3]]
        entry.run(inputs, outputs)
        first, second = tickets
        assert noted.calls[:2] == [("start", first, 65536), ("start", second, 65536)]
        assert sorted(noted.calls[2:]) == [("wait", first), ("wait", second)]
        noted.calls.clear()
        for storage, array in zip(outputs, wanted, strict=True):
            got = storage.array(np.float32, array.shape)
            np.testing.assert_allclose(got, array, rtol=1e-4, atol=1e-4)


def test_equal_and_unread_collectives_stay():
    graph = parse_graph("""graph @g(%x: f32[4]) -> (f32[4]) {
  %0: i64[] = constant(value=0, dtype=i64)
  %1: i64[] = collective_start(%0, %x; kind="all_reduce", reduction="sum", group=0, root=0)
  %2: f32[4] = collective_wait(%1; shape=(4), dtype=f32)
  %3: i64[] = collective_start(%1, %x; kind="all_reduce", reduction="sum", group=0, root=0)
  %4: f32[4] = collective_wait(%3; shape=(4), dtype=f32)
  return %4
}""")
    names = _names(optimise(graph, host_target()))
    assert names.count("collective_start") == names.count("collective_wait") == 2


def test_types():
    start, wait = op_named("collective_start"), op_named("collective_wait")
    ticket, x = tensor_type(i64), tensor_type(f32, (2, 3))
    how = {"kind": "all_reduce", "reduction": "sum", "group": 0, "root": 0}
    assert start.result_types([ticket, x, x], how) == (ticket,)
    assert wait.result_types([ticket], {"shape": (12,), "dtype": f32})[0].shape == (12,)
    with pytest.raises(DTypeError, match="a ticket is an i64"):
        start.result_types([tensor_type(f32), x], how)
    with pytest.raises(ShapeError, match="a ticket is 0-d"):
        wait.result_types([tensor_type(i64, (1,))], {"shape": (), "dtype": f32})
    with pytest.raises(DTypeError):
        start.result_types([ticket, x, ticket], how)
    with pytest.raises(AttributeTypeError, match="no kind 'all'"):
        start.result_types([ticket, x], {**how, "kind": "all"})


def test_a_result_can_be_had_once(noted):
    ticket = noted.start([np.ones(3)], kind="all_reduce", reduction="sum", group=0, root=0)
    assert noted.wait(ticket).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="no result for ticket"):
        noted.wait(ticket)


PAIR = """graph @g(%x: f32[16], %y: f32[48]) -> (f32[64], f32[64]) {
  %0: i64[] = constant(value=0, dtype=i64)
  %1: f32[16] = exp(%x)
  %2: f32[48] = exp(%y)
  %3: i64[] = collective_start(%0, %1, %2; kind="all_reduce", reduction="sum", group=0, root=0)
  %4: i64[] = collective_start(%3, %x, %y; kind="broadcast", reduction="sum", group=0, root=0)
  %5: f32[64] = collective_wait(%3; shape=(64), dtype=f32)
  %6: f32[64] = collective_wait(%4; shape=(64), dtype=f32)
  %7: f32[64] = neg(%5)
  return %7, %6
}"""


def test_compiled_code_hands_over_one_array(noted, monkeypatch):
    """The graph's own memory where operands lie side by side, else a copy of them all."""
    seen = []

    def start(xs, **how):
        (x,) = xs
        seen.append((how["kind"], x.copy(), how["in_place"], how.get("is_copy", False)))
        ticket = Alone.start(noted, xs, **how)
        if how.get("is_copy"):
            x[:] = 0  # it is nobody else's
        return ticket

    monkeypatch.setattr(noted, "start", start)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(n).astype(np.float32) for n in (16, 48))
    given = [Storage.from_numpy(array.copy()) for array in (x, y)]
    made = [Storage(256), Storage(256)]
    prepare(parse_graph(PAIR), tier="compile").run(given, made)
    both = np.concatenate([x, y])
    (first, sums, *how), (second, data, *other) = seen
    assert (first, how) == ("all_reduce", [True, False])
    assert (second, other) == ("broadcast", [False, True])
    np.testing.assert_allclose(sums, np.exp(both), rtol=1e-6)
    np.testing.assert_array_equal(data, both)
    np.testing.assert_allclose(made[0].array(np.dtype("f4"), (64,)), -np.exp(both), rtol=1e-6)
    np.testing.assert_array_equal(made[1].array(np.dtype("f4"), (64,)), both)
    np.testing.assert_array_equal(given[0].array(np.dtype("f4"), (16,)), x)
