"""Updates of one form are one launch on a GPU, whose blocks are shared out among them."""

import cuda_programs as cuda
import numpy as np
import pytest
from cuda_emulator import nvrtc

import braze.ir as ir
from braze.codegen.cuda import sweeps
from braze.codegen.cuda.generate import generate
from braze.ir.target import named_target
from braze.passes import compile_graph

# Whole packs, a rest of each length, several blocks.
SIZES = ((8,), (3, 3), (7,), (64, 3, 3, 3), (2500,), (5,), (16, 16), (2,), (1024,), (130,))


def steps(kind, sizes, dtype=ir.f32):
    """An optimizer's steps of some parameters, in place."""
    b = ir.Builder("steps")
    scalars = [b.input(ir.tensor_type(ir.f64, ()), "scalar") for _ in range(SCALARS[kind])]
    outputs, aliases = [], {}
    for size in sizes:
        x, g, *state = (b.input(ir.tensor_type(dtype, size)) for _ in range(STATES[kind] + 2))
        own = [b.graph.inputs.index(value) for value in (x, *state)]
        aliases |= {len(outputs) + number: place for number, place in enumerate(own)}
        outputs += CALLS[kind](b, x, g, *state, *scalars)
    return b.finish(outputs, aliases=aliases)


SCALARS, STATES = {"sgd": 4, "adam": 7}, {"sgd": 1, "adam": 2}
CALLS = {
    "sgd": lambda b, *given: b.sgd_momentum_step(*given, nesterov=False),
    "adam": lambda b, *given: b.adam_step(*given, decoupled=True, maximize=False),
}


def drawn(graph):
    random = np.random.default_rng(0)
    return [random.uniform(0.1, 0.9, v.shape).astype(v.dtype.numpy) for v in graph.inputs]


def launches_of(graph, **options):
    program, _ = compile_graph(graph, cuda.TARGET)
    return list(generate(program, cuda.TARGET, **options).launches())


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", [ir.f32, ir.f64, ir.bf16], ids=str)
def test_an_optimizers_steps_are_one_launch(kind, dtype):
    graph = steps(kind, SIZES, dtype)
    assert len(launches_of(graph, one_by_one=True)) == len(SIZES)
    (launch,) = launches_of(graph)
    assert launch.kernel.endswith("_sweep")
    cuda.check_graph(graph, drawn(graph), 2e-2 if dtype is ir.bf16 else 1e-5)


def test_elements_are_moved_sixteen_bytes_at_a_time_whatever_the_sizes():
    program, _ = compile_graph(steps("sgd", SIZES), cuda.TARGET)
    source = generate(program, cuda.TARGET).source
    assert source.count("load_pack<4>(in") == 3 and source.count("store_pack(") == 3


def test_a_launch_is_given_no_more_than_every_driver_takes():
    graph = steps("adam", [(3 + n % 5,) for n in range(100)])
    launches = launches_of(graph)
    assert len(launches) == 2
    assert all(len(launch.arguments) <= sweeps.MOST_WORDS for launch in launches)
    assert launches[0].kernel == launches[1].kernel  # of as many parameters each
    cuda.check_graph(graph, drawn(graph))


def test_updates_of_several_forms_have_a_launch_each():
    """What is computed differs, a type, or which operands are elements."""
    b = ir.Builder("updates")
    outputs = []
    for size in (40, 50):
        x, y = (b.input(ir.tensor_type(ir.f32, (size,))) for _ in "xy")
        n, k = b.input(ir.tensor_type(ir.i64, (size,))), b.input(ir.tensor_type(ir.f32, ()))
        outputs += [b.add(x, y), b.mul(x, y), b.add(n, n), b.add(y, k), b.add(x, 1.0)]
        outputs += [b.add(x, 2.0), b.neg(b.iota(shape=(size,), dim=0, dtype=ir.i64))]
    graph = b.finish(outputs)
    program, _ = compile_graph(graph, cuda.TARGET)
    forms = {sweeps.member_of(k).form for k in program.kernels() if sweeps.member_of(k)}
    assert len(forms) > 1
    cuda.check_graph(graph, drawn(graph))


def test_counters_are_one_launch():
    """Of one element each, as the batches that layers have seen; and a constant for all sizes."""
    b = ir.Builder("counters")
    counts = [b.input(ir.tensor_type(ir.i64, ())) for _ in range(7)]
    one = b.input(ir.tensor_type(ir.i64, ()), "scalar")
    graph = b.finish([b.add(n, one) for n in counts], aliases={n: n for n in range(7)})
    assert len(launches_of(graph)) == 1
    cuda.check_graph(graph, [np.int64(n) for n in range(8)])
    b = ir.Builder("filled")
    value = b.input(ir.tensor_type(ir.f32, ()))
    shapes = [(1,), (6,), (1, 1), (300,)]
    graph = b.finish([b.expand(b.neg(value), shape=shape) for shape in shapes])
    cuda.check_graph(graph, [np.float32(3)])


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_120"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_real_compiler_needs_few_registers(kind, architecture):
    target = named_target(architecture)
    program, _ = compile_graph(steps(kind, SIZES), target)
    ((name, taken),) = nvrtc.compile(generate(program, target).source, architecture).items()
    assert name.endswith("_sweep") and taken.spills == taken.stack == 0 and taken.registers <= 64
