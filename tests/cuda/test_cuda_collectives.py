"""Collectives in programs of GPUs: begun beside the kernels, waited for where they are needed."""

import json

import cuda_device
import numpy as np
import pytest
from two_layers import two_layers

import braze.ir as ir
from braze.ir.collectives import WHOLE, Alone, current, use
from braze.ir.cuda_program import CollectiveStep, Launch
from braze.ir.interpreter import interpret
from braze.runtime.config import config
from braze.runtime.cuda.code import CudaCode
from braze.runtime.cuda.compiling import compile_cuda
from braze.runtime.cuda.devices import device_named
from braze.runtime.cuda.executable import CudaExecutable
from braze.runtime.cuda.launch_graph import Graphs
from braze.runtime.cuda.memory import DeviceStorage, copy_storage
from braze.runtime.storage import Storage

GPU = "cuda:0"
HOW = 'reduction="sum", group=0, root=0'

STEP = two_layers(96)


class Noted(Alone):
    """A world of one that notes what is asked of it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def enqueue(self, given, kept, **how):
        ticket = super().enqueue(given, kept, **how)
        self.calls.append(("start", ticket, how["kind"], given, kept))
        return ticket

    def order(self, ticket):
        self.calls.append(("wait", ticket))
        return super().order(ticket)

    def is_in_place(self, number=0):
        (*_, given, kept) = [call for call in self.calls if call[0] == "start"][number]
        return given.address == kept.address


@pytest.fixture
def noted():
    before, found = current(), Noted()
    use(found)
    yield found
    use(before)


def executable(text):
    device = device_named(GPU)
    graph = ir.parse_graph(text)
    return graph, CudaExecutable(compile_cuda(graph, device.target, None), device)


def on_gpu(array):
    storage = DeviceStorage.on(device_named(GPU), array.nbytes)
    copy_storage(Storage.from_numpy(array.copy()), storage)
    return storage


def run(graph, code, arrays):
    """The outputs, of which aliased ones are in their inputs' memory."""
    inputs = [on_gpu(array) for array in arrays]
    outputs = [
        inputs[graph.aliases[i]] if i in graph.aliases
        else DeviceStorage.on(device_named(GPU), value.type.nbytes)
        for i, value in enumerate(graph.outputs)
    ]  # fmt: skip
    code.run(inputs, outputs)
    return [
        storage.to_host().array(value.type.dtype.numpy, value.type.shape)
        for storage, value in zip(outputs, graph.outputs, strict=True)
    ]


def sample(graph):
    rng = np.random.default_rng(0)
    made = [rng.standard_normal(v.type.shape) / 10 for v in graph.inputs]
    return [a.astype(v.type.dtype.numpy) for a, v in zip(made, graph.inputs, strict=True)]


def check(text, noted):
    graph, code = executable(text)
    arrays = sample(graph)
    wanted = interpret(graph, arrays)
    noted.calls.clear()
    for found, expected in zip(run(graph, code, arrays), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return code


def test_a_gradient_is_reduced_in_its_place_while_the_next_is_computed(noted):
    code = check(STEP, noted)
    assert [call[:2] for call in noted.calls] == [
        ("start", 1 + 2), ("start", 2 + 2), ("wait", 1 + 2), ("wait", 2 + 2),
    ]  # fmt: skip
    assert noted.is_in_place(0) and noted.is_in_place(1)
    steps = code.code.program.steps
    first, second, *waits = [i for i, s in enumerate(steps) if isinstance(s, CollectiveStep)]
    assert sum(isinstance(s, Launch) for s in steps[first:second]) >= 2
    # Kernels know where they are: nothing else lies where NCCL works.
    places = code.code.program.placements
    for start, wait in zip((first, second), waits, strict=True):
        own = places[steps[start].kept].offset, places[steps[start].kept].offset + 4 * 9216
        for step in steps[start + 1 : wait]:
            used = [a for a in getattr(step, "arguments", ()) if hasattr(a, "name")]
            for place in (places[a.name] for a in used):
                assert place.kind != "arena" or not own[0] <= place.offset < own[1]


@pytest.mark.parametrize("kind", ["all_reduce", "reduce", "broadcast", "all_gather",
                                  "reduce_scatter"])  # fmt: skip
def test_all_kinds_have_memory_of_their_own(noted, kind):
    """Of an operand that is an input, and a result that takes an input's place."""
    for operand, result in (("%x", "%2"), ("%3", "%2"), ("%3", "%4")):
        check(
            f"""graph @g(%x: f32[48]) -> (f32[48] = %x) {{
  %0: i64[] = constant(value=0, dtype=i64)
  %3: f32[48] = exp(%x)
  %1: i64[] = collective_start(%0, {operand}; kind="{kind}", {HOW})
  %2: f32[48] = collective_wait(%1; shape=(48), dtype=f32)
  %4: f32[48] = add(%2, %x)
  return {result}
}}""",
            noted,
        )
        assert noted.is_in_place() == (kind in WHOLE)


def test_what_does_not_fit_together_is_copied(noted):
    code = check(
        f"""graph @g(%x: f32[3], %y: f32[4]) -> (f32[7]) {{
  %0: f32[3] = exp(%x)
  %1: i64[] = constant(value=0, dtype=i64)
  %2: i64[] = collective_start(%1, %0, %y; kind="all_reduce", {HOW})
  %3: f32[7] = collective_wait(%2; shape=(7), dtype=f32)
  %4: f32[7] = exp(%3)
  return %4
}}""",
        noted,
    )
    (start, _) = [s for s in code.code.program.steps if isinstance(s, CollectiveStep)]
    assert not start.kept


def test_another_program_may_wait(noted):
    start = f"""graph @start(%x: f32[5]) -> (i64[]) {{
  %0: i64[] = constant(value=0, dtype=i64)
  %1: f32[5] = exp(%x)
  %2: i64[] = collective_start(%0, %1; kind="all_reduce", {HOW})
  return %2
}}"""
    wait = """graph @wait(%t: i64[]) -> (f32[5]) {
  %0: f32[5] = collective_wait(%t; shape=(5), dtype=f32)
  return %0
}"""
    x = np.linspace(0, 1, 5, dtype=np.float32)
    (ticket,) = run(*executable(start), [x])
    run(*executable(STEP), sample(ir.parse_graph(STEP)))  # has the arena meanwhile
    (found,) = run(*executable(wait), [ticket])
    np.testing.assert_allclose(found, np.exp(x), rtol=1e-5)
    with pytest.raises(RuntimeError, match="no result for ticket"):
        run(*executable(wait), [ticket])


def test_a_run_that_fails_leaves_nothing_that_is_not_waited_for(noted, monkeypatch):
    graph, code = executable(STEP)
    begun = Noted.enqueue

    def broken(self, *given, **how):
        if len(self.calls) == 1:
            raise ConnectionError("the second one")
        return begun(self, *given, **how)

    monkeypatch.setattr(Noted, "enqueue", broken)
    with pytest.raises(ConnectionError, match="the second one"):
        run(graph, code, sample(graph))
    assert [call[:2] for call in noted.calls] == [("start", 1), ("wait", 1)]


def test_it_is_no_cuda_graph(noted, monkeypatch):
    graph, code = executable(STEP)
    monkeypatch.setattr(config, "cuda_graphs", True)
    arrays = sample(graph)
    for _ in range(4):
        run(graph, code, arrays)
    assert len(noted.calls) == 4 * 4
    refusal = Graphs(code.code.program, 0, code.device).refusal
    assert refusal == "NCCL launches kernels of its own for the collectives in it"


def test_kept_code_is_the_same(noted):
    graph, code = executable(STEP)
    facts = json.loads(json.dumps(code.code.facts()))
    again = CudaExecutable(CudaCode.from_facts(facts, code.code.cubin), code.device)
    arrays = sample(graph)
    for one, other in zip(run(graph, code, arrays), run(graph, again, arrays), strict=True):
        np.testing.assert_array_equal(one, other)
    assert noted.is_in_place(2)
    facts["steps"][next(i for i, s in enumerate(facts["steps"]) if "collective" in s)]["kept"] = "z"
    with pytest.raises(ValueError, match="no buffer z"):
        CudaCode.from_facts(facts, code.code.cubin)


def test_the_inspector_shows_them():
    from braze.runtime.cuda.insides import compile_for_gpu
    from braze.runtime.recorder import Keeper

    graph = ir.parse_graph(STEP)
    *_, described = compile_for_gpu(graph, device_named(GPU).target, Keeper(graph, "x"))
    texts = [code["launches"] for _, code in described.values()]
    assert any("all_reduce of 36864 bytes, where they are" in text for text in texts)
    assert any(text.startswith("what follows waits for the result") for text in texts)


if cuda_device.EMULATED:

    @pytest.mark.parametrize("lazy", [0, 1, 2])
    def test_lazy_streams_give_the_same(noted, lazy):
        from cuda_emulator import control

        with control.options(LAZY=lazy):
            check(STEP, noted)
