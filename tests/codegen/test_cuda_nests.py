"""Elementwise kernels, reductions, row programs, scans, scatters and sorts on a CUDA device."""

import cuda_programs as cuda
import numpy as np
import pytest

import braze.ir as ir
from braze.codegen.cuda.generate import generate
from braze.ir.cuda_program import Launch
from braze.passes import compile_graph

RNG = np.random.default_rng(0)
# Rows: of a lane, of a warp, of a block, longer than what registers hold; across and along.
SHAPES = [
    ((64, 100), (1,)),
    ((64, 100), (0,)),
    ((7, 3000), (1,)),
    ((5, 13, 33), (0, 2)),
    ((5, 13, 33), (1,)),
    ((40,), (0,)),
    ((2, 20000), (1,)),
    ((300, 4), (1,)),
    ((70, 200), (0,)),
    ((1, 1), (0, 1)),
]


def drawn(shape, dtype=ir.f32):
    if dtype.is_floating_point:
        return RNG.standard_normal(shape).astype(dtype.numpy)
    return RNG.integers(-5, 5, shape).astype(dtype.numpy)


def launches_of(graph):
    program, _ = compile_graph(graph, cuda.TARGET)
    return [step for step in generate(program, cuda.TARGET).steps if isinstance(step, Launch)]


@pytest.mark.parametrize("shape, dims", SHAPES, ids=str)
def test_reductions_and_what_is_made_of_them(shape, dims):
    b = ir.Builder("g")
    x, k = b.input(ir.tensor_type(ir.f32, shape)), b.input(ir.tensor_type(ir.i32, shape))
    keep = {"dims": dims, "keepdim": False}
    outputs = [b.sum(x, **keep), b.amax(x, **keep), b.amin(k, **keep), b.sum(k, **keep)]
    outputs += [b.any(b.gt(x, 1.0), **keep), b.all(b.lt(x, 1.0), **keep)]
    outputs += [b.softmax(x, dim=dims[0]), b.sub(x, b.mean(x, dims=dims, keepdim=True))]
    if len(dims) == 1:
        outputs += [b.argmax(x, **keep), b.argmin(k, **keep)]
    graph = b.finish(outputs)
    inputs = [drawn(shape), drawn(shape, ir.i32)]
    cuda.check_graph(graph, inputs)
    inputs[0].reshape(-1)[::7] = np.nan
    cuda.check_graph(graph, inputs)


@pytest.mark.parametrize("shape, dim", [((300_001,), 0), ((2, 70_000), 1), ((40_000, 3), 0)])
def test_long_rows_are_cut_into_parts(shape, dim):
    b = ir.Builder("g")
    x, k = b.input(ir.tensor_type(ir.f32, shape)), b.input(ir.tensor_type(ir.i32, shape))
    keep = {"dims": (dim,), "keepdim": False}
    outputs = [b.argmax(x, **keep), b.argmin(k, **keep), b.amax(x, **keep), b.prod(k, **keep)]
    graph = b.finish([*outputs, b.any(b.gt(x, 4.0), **keep)])
    assert any(launch.kernel.endswith("_parts") for launch in launches_of(graph))
    inputs = [drawn(shape), drawn(shape, ir.i32)]
    cuda.check_graph(graph, inputs)
    inputs[0].reshape(-1)[[7777, 9999]] = np.nan
    cuda.check_graph(graph, inputs)


def test_a_layer_norm_and_a_softmax_are_one_launch_each():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (64, 768)))
    w, c = (b.input(ir.tensor_type(ir.f32, (768,))) for _ in "wc")
    graph = b.finish([b.layer_norm(x, w, c, dims=1, epsilon=1e-5)])
    assert len(launches_of(graph)) == 1
    cuda.check_graph(graph, [drawn((64, 768)), drawn(768), drawn(768)])
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (64, 768)))
    graph = b.finish([b.softmax(x, dim=1)])
    assert len(launches_of(graph)) == 1


def test_elements_are_moved_sixteen_bytes_at_a_time():
    b = ir.Builder("g")
    x, y = (b.input(ir.tensor_type(ir.f32, (512, 512))) for _ in "xy")
    row = b.input(ir.tensor_type(ir.f32, (512,)))
    graph = b.finish([b.relu(b.add(b.add(x, y), row))])
    program, _ = compile_graph(graph, cuda.TARGET)
    source = generate(program, cuda.TARGET).source
    assert source.count("load_pack<4>(in") == 3 and "store_pack(out0" in source
    cuda.check_graph(graph, [drawn((512, 512)), drawn((512, 512)), drawn(512)])


@pytest.mark.parametrize(
    "shape, dims", [((70, 50), (1, 0)), ((3, 40, 33), (0, 2, 1)), ((20, 5, 6, 32), (3, 1, 2, 0))]
)
@pytest.mark.parametrize("dtype", [ir.f32, ir.bf16, ir.bool_], ids=str)
def test_what_is_read_across_goes_through_shared_memory(dtype, shape, dims):
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(dtype, shape))
    y = b.input(ir.tensor_type(ir.f32, tuple(shape[d] for d in dims)))
    turned = b.cast(b.permute(x, dims=dims), dtype=ir.f32)
    graph = b.finish([b.add(b.mul(turned, 2.0), y)])
    program, _ = compile_graph(graph, cuda.TARGET)
    assert "tile0[threadIdx.x][line]" in generate(program, cuda.TARGET).source
    inputs = [(drawn(shape) > 0).astype(dtype.numpy), drawn(y.type.shape)]
    cuda.check_graph(graph, inputs)


@pytest.mark.parametrize("dtype", [ir.f16, ir.bf16, ir.f64, ir.u8], ids=str)
def test_packs_of_every_width(dtype):
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(dtype, (256, 1024)))
    graph = b.finish([b.mul(x, x), b.cast(b.add(x, x), dtype=ir.f32)])
    cuda.check_graph(graph, [np.abs(drawn((256, 1024), ir.f32) * 3).astype(dtype.numpy)], 2e-2)


def test_an_index_beyond_32_bits_is_long():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (1,)))
    graph = b.finish([b.expand(b.add(x, 1.0), shape=(5 << 31,))])
    program, _ = compile_graph(graph, cuda.TARGET)
    assert "long long i = " in generate(program, cuda.TARGET).source


@pytest.mark.parametrize("shape, dim", [((6, 40), 1), ((6, 2000), 1), ((40, 70), 0), ((900,), 0)])
def test_scans(shape, dim):
    b = ir.Builder("g")
    x, k = b.input(ir.tensor_type(ir.f32, shape)), b.input(ir.tensor_type(ir.i64, shape))
    outputs = [
        b.cumsum(x, dim=dim, reverse=False),
        b.cumprod(b.add(b.mul(x, 0.01), 1.0), dim=dim, reverse=False),
    ]
    outputs += [*b.cummax(x, dim=dim, reverse=False), *b.cummin(k, dim=dim, reverse=True)]
    outputs.append(b.logcumsumexp(x, dim=dim))
    graph = b.finish(outputs)
    inputs = [drawn(shape), drawn(shape, ir.i64)]
    cuda.check_graph(graph, inputs, 1e-4)
    inputs[0].reshape(-1)[5::97] = np.nan
    inputs[0].reshape(-1)[:3] = -np.inf
    cuda.check_graph(graph, inputs, 1e-4)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape, dim", [((5, 7), 1), ((3, 2500), 1), ((40, 6), 0), ((1, 9000), 1)])
def test_sorts_are_stable_and_nan_is_largest(shape, dim, descending):
    b = ir.Builder("g")
    x, k = b.input(ir.tensor_type(ir.f32, shape)), b.input(ir.tensor_type(ir.i64, shape))
    graph = b.finish([*b.sort(x, dim=dim, descending=descending),
                      *b.sort(k, dim=dim, descending=descending)])  # fmt: skip
    inputs = [drawn(shape), drawn(shape, ir.i64)]
    inputs[0].reshape(-1)[::11] = np.nan
    inputs[0].reshape(-1)[1::13] = -0.0
    cuda.check_graph(graph, inputs)


@pytest.mark.parametrize("dtype", [ir.f32, ir.f64, ir.i32, ir.i64, ir.u8, ir.f16], ids=str)
def test_scatters(dtype):
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(dtype, (13, 5)))
    u = b.input(ir.tensor_type(dtype, (60, 5)))
    i = b.input(ir.tensor_type(ir.i64, (60, 5)))
    outputs = [b.scatter(x, i, u, dim=0), b.scatter_add(x, i, u, dim=0)]
    graph = b.finish(outputs)
    index = RNG.integers(0, 13, (60, 5))
    inputs = [drawn((13, 5), ir.f32), drawn((60, 5), ir.f32)]
    inputs = [np.abs(np.rint(a * 2)).astype(dtype.numpy) for a in inputs]
    cuda.check_graph(graph, [*inputs, index])


@pytest.mark.parametrize("combine", ["prod", "amax", "amin"])
def test_scatters_that_combine(combine):
    b = ir.Builder("g")
    x, u = (b.input(ir.tensor_type(ir.f32, (n, 5))) for n in (13, 60))
    i = b.input(ir.tensor_type(ir.i64, (60, 5)))
    graph = b.finish([b.scatter_reduce(x, i, u, dim=0, combine=combine)])
    inputs = [drawn((13, 5)), drawn((60, 5)), RNG.integers(0, 13, (60, 5))]
    cuda.check_graph(graph, inputs, 1e-4)


def test_checks_note_a_failure_and_stop_later_launches():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (10,)))
    i = b.input(ir.tensor_type(ir.i64, (4,)))
    b.check_range(i, low=0, high=10, message="index_select")
    graph = b.finish([b.take(x, i, dim=0)])
    program, _ = compile_graph(graph, cuda.TARGET)
    made = generate(program, cuda.TARGET)
    device = cuda.Device(made)
    values, fine = drawn(10), np.array([1, 9, 0, 3])
    (found,) = device.run([values, fine], [((4,), np.dtype("f4"))])
    np.testing.assert_array_equal(found, values[fine])
    assert device.status[0] == 0
    device.run([values, np.array([1, 12, 0, 3])], [((4,), np.dtype("f4"))])
    assert device.status[:2].tolist() == [1, 12]


def test_what_overwrites_an_input_stops_after_a_failed_check():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (10,)), role="param")
    i = b.input(ir.tensor_type(ir.i64, (4,)))
    b.check_range(i, low=0, high=10, message="index_select")
    graph = b.finish([b.mul(x, 2.0), b.take(x, i, dim=0)])
    graph.aliases[0] = 0
    program, _ = compile_graph(graph, cuda.TARGET)
    made = generate(program, cuda.TARGET)
    assert "if (has_failed(status)) return;" in made.source
    device = cuda.Device(made)
    values = drawn(10)
    types = [((10,), np.dtype("f4")), ((4,), np.dtype("f4"))]
    for index, factor in (([1, 12, 0, 3], 1), ([1, 2, 0, 3], 2)):
        found, _ = device.run([values, np.array(index)], types, {0: 0})
        np.testing.assert_array_equal(found, factor * values)
