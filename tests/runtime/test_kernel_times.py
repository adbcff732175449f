"""Timed code: what it computes, what it writes down, and that other code is as it was."""

import time

import numpy as np
import pytest
from networks import dense_step, mnist_step, network_inputs

from braze import ir
from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.pool import pool_module
from braze.codegen.llvm.program import generate
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.runtime.cpu import host_target
from braze.runtime.insides import look_inside
from braze.runtime.limits import machine_limits
from braze.runtime.pool import pool_code
from braze.runtime.storage import Storage
from braze.runtime.timing import clock, measure, timed_executable


def stored(graph):
    """Storages and numbers for a graph's inputs."""
    arrays = network_inputs(graph)
    return [
        item if role == "scalar" else Storage.from_numpy(np.array(item))
        for item, role in zip(arrays, graph.roles, strict=True)
    ]


def outputs_of(graph, inputs):
    made = []
    for position, value in enumerate(graph.outputs):
        source = graph.aliases.get(position)
        made.append(Storage(value.type.nbytes) if source is None else inputs[source])
    return made


@pytest.fixture(params=[dense_step, mnist_step], ids=["dense", "mnist"])
def graph(request):
    return request.param(4)


def run(executable, graph):
    inputs = stored(graph)
    outputs = outputs_of(graph, inputs)
    executable.run(inputs, outputs)
    types = [value.type for value in graph.outputs]
    return [o.array(t.dtype.numpy, t.shape).copy() for o, t in zip(outputs, types, strict=True)]


def test_timed_code_computes_the_same_bits(graph):
    from braze.runtime.cache import prepare

    timed = run(timed_executable(graph), graph)
    plain = run(prepare(graph).compile(), graph)
    for a, b in zip(timed, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_chunk_is_written_down_inside_of_the_call(graph):
    executable = timed_executable(graph)
    run(executable, graph)  # the pages of the arena are there
    inputs = stored(graph)
    outputs = outputs_of(graph, inputs)
    before = time.perf_counter()
    executable.run(inputs, outputs)
    after = time.perf_counter()
    found = executable.times()
    program, _ = compile_graph(graph, host_target())
    assert [t.kernel.name for t in found] == [k.name for k in program.kernels()]
    slack = 1e-3  # of comparing two clocks
    for kernel in found:
        for chunk in kernel.chunks:
            assert before - slack <= chunk.start <= chunk.end <= after + slack
            assert chunk.thread >= 0
        assert kernel.busy == pytest.approx(sum(c.end - c.start for c in kernel.chunks))
        assert kernel.seconds > 0.0
    for earlier, later in zip(found, found[1:], strict=False):
        if earlier.kernel.wave < later.kernel.wave:
            assert earlier.end <= later.start
    # The shares of a wave are the wave: nothing is counted twice.
    assert sum(kernel.seconds for kernel in found) <= after - before + slack


def test_times_are_those_of_the_latest_run(graph):
    executable = timed_executable(graph)
    assert executable.times() == []
    run(executable, graph)
    first = executable.times()
    run(executable, graph)
    second = executable.times()
    assert second[0].start > first[-1].end


def test_larger_work_takes_longer():
    """Of two products in one graph, one with 64 times the arithmetic."""
    b = ir.Builder("two")
    small, large = (b.input(ir.tensor_type(ir.f32, (n, n))) for n in (160, 640))
    outputs = [b.contract(x, x, equation="mk,kn->mn") for x in (small, large)]
    graph = b.finish(outputs)
    inputs = [Storage.from_numpy(np.ones(v.shape, np.float32)) for v in graph.inputs]
    times = measure(timed_executable(graph), graph, inputs, 3)
    by_flops = {t.kernel.cost.flops: t for t in times}
    assert set(by_flops) == {2 * 160**3, 2 * 640**3}
    assert by_flops[2 * 640**3].busy > 8 * by_flops[2 * 160**3].busy


def test_measuring_leaves_the_inputs_alone():
    graph = dense_step(4)
    inputs = stored(graph)
    before = [bytes(i.array(np.uint8, (i.nbytes,))) for i in inputs if isinstance(i, Storage)]
    assert measure(timed_executable(graph), graph, inputs, 2)
    after = [bytes(i.array(np.uint8, (i.nbytes,))) for i in inputs if isinstance(i, Storage)]
    assert graph.aliases and before == after


def test_a_recurrence_is_timed_as_a_whole():
    import braze
    from braze.tracing import trace

    layer = braze.nn.LSTM(4, 8)
    traced = trace(lambda x: layer(x)[0], (braze.randn(6, 2, 4),))
    times = measure(timed_executable(traced.graph), traced.graph, traced.storages, 1)
    (found,) = [t for t in times if t.kernel.kind == "recurrence"]
    assert len(found.chunks) == 1
    assert found.seconds > 0.0


def test_code_without_times_has_no_clock(graph):
    target = host_target()
    program, _ = compile_graph(graph, target)
    plain, timed = generate(program, target), generate(program, target, timed=True)
    assert plain.slots == []
    assert not any("counter" in text for _, text in plain.modules)
    assert any("counter" in text for _, text in timed.modules)
    chunks = len(timed.slots)
    assert chunks >= sum(1 for _ in program.kernels())
    # Kernels are the same functions; only what calls them differs.
    kernels = [dict(g.modules[:-1]) for g in (plain, timed)]
    assert kernels[0] == kernels[1]


def test_the_clock_of_each_architecture():
    target = named_target("x86-64-v3")
    assert "rdtsc" in assembly(pool_module(target), target)
    target = named_target("aarch64")
    text = assembly(pool_module(target), target).upper()
    assert "CNTVCT_EL0" in text
    assert "PMCCNTR" not in text  # which programs may not read
    graph = dense_step(4)
    timed = generate(compile_graph(graph, target)[0], target, timed=True)
    assert assembly(timed.modules[-1][1], target).upper().count("CNTVCT_EL0") >= 2


def test_the_clock_keeps_pythons_time():
    found = clock()
    assert found.rate > 1e-3
    assert found.seconds(found.ticks) == pytest.approx(found.at / 1e9)
    assert found.seconds(found.ticks + int(1e9 * found.rate)) == pytest.approx(found.at / 1e9 + 1.0)
    before = time.perf_counter()
    at = found.seconds(pool_code().ticks())
    assert before - 1e-3 < at < time.perf_counter() + 1e-3


def test_insides_have_every_kernels_code(graph):
    insides = look_inside(graph)
    assert [k.name for k in insides.kernels] == [k.name for k in insides.program.kernels()]
    for kernel in insides.kernels:
        assert f"@{kernel.function}(" in kernel.code["llvm"].splitlines()[0]
        assert kernel.code["assembly"].startswith(f"{kernel.function}:")
        assert kernel.node.body is not None
    assert [s.name for s in insides.graphs][:3] == ["captured", "split_complex", "match_attention"]
    arena = insides.program.arena_bytes
    for block in insides.blocks:
        assert 0 <= block.offset and block.offset + block.bytes <= arena
        assert block.first <= block.last


def test_limits_are_those_of_all_threads():
    found = machine_limits()
    assert found is machine_limits()  # measured once
    assert found.flops > 1e9 and found.bytes > 1e8
