"""Convolutions and their gradients through the whole pipeline, natively and by the loops' meaning.

Generated sizes, strides, paddings, dilations and groups, in either order of dimensions, against the
defining sums of `op_oracles_networks`.
"""

import random

import numpy as np
import pytest
from native import run_native, runnable_targets
from op_oracles_networks import ORACLES

import braze.ir as ir
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.loops import Contraction
from braze.ir.loops_interpreter import run_program
from braze.ir.target import named_target
from braze.passes import compile_graph

NAMES = ("conv_no_bias", "conv_input_grad", "conv_weight_grad", "conv_transpose")


def geometry_of(choice: random.Random, longest: int):
    """Shapes of x and weight, and a geometry that fits them.

    Args:
        longest: how much larger than it must be a dimension can be.
    """
    spatial = choice.choice([1, 2, 2, 2, 3])
    groups = choice.choice([1, 1, 2, 3, 5, 17])
    each_in = choice.choice([1, 1, 2, 5]) if groups > 1 else choice.choice([1, 3, 18])
    each_out = choice.choice([1, 1, 2, 3, 9]) if groups > 1 else choice.choice([1, 4, 21])
    kernel = tuple(choice.choice([1, 2, 3, 4, 5]) for _ in range(spatial))
    stride = tuple(choice.choice([1, 1, 2, 2, 3, 4]) for _ in range(spatial))
    padding = tuple(choice.choice([0, 1, 2, 4]) for _ in range(spatial))
    dilation = tuple(choice.choice([1, 1, 1, 2, 3]) for _ in range(spatial))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [max(1, s - 2 * p) for s, p in zip(spans, padding, strict=True)]
    longest = longest if spatial < 3 else min(longest, 5)
    size = tuple(n + choice.randrange(longest) for n in least)
    x = (choice.choice([0, 1, 2, 3]), groups * each_in, *size)
    weight = (groups * each_out, each_in, *kernel)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x, weight, geometry


def places(x, weight, geometry):
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            x[2:], weight[2:], geometry["stride"], geometry["padding"], geometry["dilation"],
            strict=True,
        )
    )  # fmt: skip


def problem(name: str, choice: random.Random, longest: int = 24):
    """(shapes of the operands, attributes) of one call."""
    x, weight, geometry = geometry_of(choice, longest)
    out = (x[0], weight[0], *places(x, weight, geometry))
    if name == "conv_no_bias":
        return (x, weight), geometry
    if name == "conv_input_grad":
        return (out, weight), {**geometry, "input_size": x[2:]}
    if name == "conv_weight_grad":
        return (x, out), {**geometry, "kernel": weight[2:]}
    extra = tuple(choice.randrange(s) for s in geometry["stride"])
    attributes = {**geometry, "output_padding": extra}
    grown = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(
            out[2:], weight[2:], *(geometry[w] for w in ("stride", "padding", "dilation")), extra,
            strict=True,
        )
    ]  # fmt: skip
    return ((out, weight), attributes) if min(grown) > 0 else problem(name, choice, longest)


def is_image(name: str, position: int) -> bool:
    return position == 0 or name == "conv_weight_grad"


def graph_of(name, shapes, attributes, dtype, last: bool, around: bool):
    """The call in a graph.

    Args:
        last: images lie in memory with channels innermost. around: elementwise operations before
            and behind it.
    """
    b = ir.Builder("test")
    inputs, operands = [], []
    for position, shape in enumerate(shapes):
        if last and is_image(name, position):
            stored = b.input(ir.tensor_type(dtype, (shape[0], *shape[2:], shape[1])))
            rank = len(shape)
            operand = b.permute(stored, dims=(0, rank - 1, *range(1, rank - 1)))
        else:
            stored = operand = b.input(ir.tensor_type(dtype, shape))
        inputs.append(stored)
        operands.append(b.neg(operand) if around and position == 0 else operand)
    result = getattr(b, name)(*operands, **attributes)
    if around:
        result = b.add(b.abs(result), result)
    if last and name != "conv_weight_grad":
        rank = result.type.rank
        result = b.permute(result, dims=(0, *range(2, rank), 1))
    return b.finish([result])


def check(name, shapes, attributes, dtype=ir.f32, last=False, around=False, targets=None):
    rng = np.random.default_rng(0)
    plain = [rng.uniform(-1, 1, shape).astype(dtype.numpy) for shape in shapes]
    graph = graph_of(name, shapes, attributes, dtype, last, around)
    given = [
        np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last and is_image(name, position) else x
        for position, x in enumerate(plain)
    ]
    wide = [array.astype(np.float64) for array in plain]
    if around:
        wide[0] = -wide[0]
    expected = ORACLES[name](*wide, **attributes)
    if around:
        expected = np.abs(expected) + expected
    if last and name != "conv_weight_grad":
        expected = np.moveaxis(expected, 1, -1)
    terms = max(1, int(np.prod(shapes[0]) * np.prod(shapes[1]) / max(1, expected.size)) ** 0.5)
    tolerance = 8 * np.finfo(dtype.numpy).eps * max(4.0, terms) ** 0.75
    for target in targets if targets is not None else runnable_targets():
        program, _ = compile_graph(graph, target)
        empty = np.full(graph.outputs[0].type.shape, np.nan, dtype.numpy)
        (found,) = run_native(program, given, [empty], target=target)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    return program, given, expected


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", NAMES)
def test_generated_convolutions(name, seed):
    choice = random.Random(f"{name} {seed}")
    shapes, attributes = problem(name, choice)
    around, last = choice.random() < 0.5, choice.random() < 0.5
    check(name, shapes, attributes, last=last, around=around)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", NAMES)
def test_loops_of_generated_convolutions_mean_the_same(name, seed):
    """By the interpreter of loops, which checks every address."""
    choice = random.Random(f"loops {name} {seed}")
    shapes, attributes = problem(name, choice, longest=3)
    target = named_target("x86-64-v3")
    last = seed % 2 == 1
    program, given, expected = check(name, shapes, attributes, ir.f64, last, targets=[target])
    found = np.full(expected.shape, np.nan)
    run_program(program, given, [found])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def products(program) -> int:
    """How many products the contractions of a program sum."""
    total = 0
    for kernel in program.kernels():
        if isinstance(kernel, Contraction):
            total += int(np.prod([dim.extent for dim in kernel.dims]))
    return total


STRIDED = [
    # taps, stride, padding, size, the factor over the products that meet an element of `out`
    ((4, 4), (2, 2), (1, 1), (16, 16), 1.0),
    ((4, 4), (2, 2), (1, 1), (4, 4), 1.0),
    ((8, 8), (4, 4), (2, 2), (16, 16), 1.0),
    ((4, 8), (2, 4), (1, 0), (16, 20), 1.3),
    ((3, 3), (2, 2), (1, 1), (16, 16), 1.1),
    ((1, 1), (2, 2), (0, 0), (16, 16), 1.1),
    ((7, 7), (2, 2), (3, 3), (32, 32), 1.6),
    ((2, 2), (2, 2), (0, 0), (16, 16), 1.1),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "size", "factor"), STRIDED)
def test_inserted_zeros_are_not_multiplied(kernel, stride, padding, size, factor):
    x, weight = (2, 16, *size), (32, 16, *kernel)
    geometry = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    out = (2, 32, *places(x, weight, geometry))
    graph = graph_of(
        "conv_input_grad", (out, weight), {**geometry, "input_size": size}, ir.f32, True, False
    )
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    needed = int(np.prod(out)) * 16 * int(np.prod(kernel))
    assert products(program) <= factor * needed


HALVES = [
    # channels in and out, groups, taps, stride, padding, spatial size of the result
    (16, 5, 1, (4, 4), (2, 2), (1, 1), (9, 10)),  # the last phases have a position less
    (16, 5, 1, (3, 8), (2, 4), (1, 2), (8, 13)),  # a phase lacks a tap
    (8, 3, 1, (5, 4), (3, 2), (1, 3), (10, 6)),  # halves along one dimension alone
    (27, 6, 3, (4, 2), (2, 2), (1, 1), (7, 5)),
    (9, 2, 1, (8,), (4,), (6,), (14,)),
    (8, 2, 1, (2, 4, 4), (2, 2, 1), (1, 1, 1), (4, 5, 3)),
    (7, 9, 1, (4, 4), (2, 2), (1, 1), (9, 10)),  # few channels: phases beside them
    (3, 5, 1, (7, 7), (2, 2), (3, 3), (11, 12)),  # the last ones lack a tap
    (1, 4, 1, (5, 4), (3, 2), (1, 3), (10, 6)),
    (9, 6, 3, (4, 3), (2, 2), (0, 1), (8, 9)),
    (2, 3, 1, (4,), (3,), (2,), (14,)),
    (3, 2, 1, (2, 4, 3), (2, 2, 1), (1, 1, 1), (4, 5, 3)),
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("case", HALVES, ids=str)
def test_phases_in_halves(case, last):
    channels, out, groups, kernel, stride, padding, size = case
    x, weight = (2, channels, *size), (out, channels // groups, *kernel)
    ones = (1,) * len(kernel)
    geometry = {"stride": stride, "padding": padding, "dilation": ones, "groups": groups}
    shapes = ((2, out, *places(x, weight, geometry)), weight)
    check("conv_input_grad", shapes, {**geometry, "input_size": size}, last=last)


@pytest.mark.parametrize(
    ("weight", "stride", "columns"),
    [
        ((64, 3, 7, 7), (2, 2), 12),
        ((64, 3, 4, 4), (2, 2), 12),
        ((64, 1, 5, 5), (3, 3), 9),
        ((64, 7, 4, 4), (2, 2), 28),
    ],
)
def test_phases_of_few_channels_fill_vectors(weight, stride, columns):
    """So the weight is stored by phase first, where no strides could find them side by side."""
    size = (40, 48)
    geometry = {"stride": stride, "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    out = (2, 64, *places((2, weight[1], *size), weight, geometry))
    graph = graph_of(
        "conv_input_grad", (out, weight), {**geometry, "input_size": size}, ir.f32, False, False
    )
    target = named_target("x86-64-v4")
    program, _ = compile_graph(graph, target)
    (kernel,) = (k for k in program.kernels() if isinstance(k, Contraction))
    assert schedule(kernel, target).lane.extent == columns


def test_phases_that_fill_vectors_themselves_stay_where_they_are():
    """Patches are a product with the weight as it is."""
    geometry = {"stride": (16, 16), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    attributes = {**geometry, "input_size": (64, 64)}
    shapes = ((2, 32, 4, 4), (32, 3, 16, 16))
    graph = graph_of("conv_input_grad", shapes, attributes, ir.f32, False, False)
    program, _ = compile_graph(graph, named_target("x86-64-v4"))
    (kernel,) = (k for k in program.kernels() if isinstance(k, Contraction))
    assert {buffer.name for buffer in kernel.buffers} >= {name for name in program.placements
        if program.placements[name].kind == "input"}  # fmt: skip


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["conv_no_bias", "conv_input_grad"])
def test_a_depthwise_convolution_is_one_kernel_in_the_order_of_its_input(name, last):
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 32}
    attributes = {**geometry, "input_size": (20, 20)} if name == "conv_input_grad" else geometry
    graph = graph_of(name, ((2, 32, 20, 20), (32, 1, 3, 3)), attributes, ir.f32, last, True)
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    kernels = [k for k in program.kernels() if k.buffers[-1].numel > 32 * 9]
    assert len(kernels) == 1
    text = str(kernels[0])
    assert f" in {32 if last else 20} vector {{" in text


def test_narrow_groups_have_positions_in_vectors():
    """Of an input that is stored channels first."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 8}
    shapes = ((2, 32, 20, 20), (32, 4, 3, 3))
    graph = graph_of("conv_no_bias", shapes, geometry, ir.f32, False, False)
    target = named_target("x86-64-v3")
    program, _ = compile_graph(graph, target)
    (kernel,) = [k for k in program.kernels() if isinstance(k, Contraction)]
    assert schedule(kernel, target).lane.extent == 20
    check("conv_no_bias", shapes, geometry)


@pytest.mark.parametrize(("size", "last"), [((20, 12), False), ((20, 20), True)])
def test_operands_of_depthwise_gradients_have_their_channels_innermost(size, last):
    """Both are read as vectors of channels, where rows of the caller's arrays are short, or lie
    apart."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 32}
    shapes = ((2, 32, *size), (2, 32, *size))
    attributes = {**geometry, "kernel": (3, 3)}
    graph = graph_of("conv_weight_grad", shapes, attributes, ir.f32, last, False)
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    (kernel,) = [k for k in program.kernels() if isinstance(k, Contraction)]
    channel = next(i for i, dim in enumerate(kernel.dims) if dim.extent == 32)
    assert kernel.lhs.strides[channel] == kernel.rhs.strides[channel] == 1
    check("conv_weight_grad", shapes, attributes, last=last)


def test_depthwise_gradients_are_summed_along_long_rows():
    """Where rows are innermost, nothing is rearranged; vectors run along them."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 32}
    shapes = ((2, 32, 56, 56), (2, 32, 56, 56))
    attributes = {**geometry, "kernel": (3, 3)}
    graph = graph_of("conv_weight_grad", shapes, attributes, ir.f32, False, False)
    target = named_target("x86-64-v4")
    program, _ = compile_graph(graph, target)
    (kernel,) = [k for k in program.kernels() if isinstance(k, Contraction)]
    plan = schedule(kernel, target)
    assert isinstance(plan, DotSchedule)
    assert plan.rows.size == 3  # the taps of a row overlap, so that the cache holds them
    check("conv_weight_grad", shapes, attributes)


def test_long_sums_with_small_results_are_shared_out():
    """A weight's gradient over many positions: parts of the sum run beside each other."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    shapes = ((8, 32, 40, 40), (8, 32, 40, 40))
    attributes = {**geometry, "kernel": (3, 3)}
    graph = graph_of("conv_weight_grad", shapes, attributes, ir.f32, True, False)
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    (kernel,) = [k for k in program.kernels() if isinstance(k, Contraction)]
    inner = int(np.prod([dim.extent for dim in kernel.dims[-kernel.inner :]]))
    assert 2048 <= inner < 8 * 40 * 40
    check("conv_weight_grad", shapes, attributes, last=True)


UPDATED = [
    # channels out and in, taps, whether the update is part of the gradient's kernel
    (96, 64, (3, 3), False),  # three neighbours at most are in one vector, whichever way it runs
    (96, 64, (5, 2), False),
    (48, 24, (3, 16), True),
    (12, 8, (3, 3), True),  # few elements, which the cache holds
]


@pytest.mark.parametrize(("out", "inside", "kernel", "together"), UPDATED)
def test_a_weights_update_is_made_where_its_operands_are_read_in_order(
    out, inside, kernel, together
):
    geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    rng = np.random.default_rng(0)
    x, weight = (2, inside, 9, 20), (out, inside, *kernel)
    shapes = (x, (2, out, *places(x, weight, geometry)), weight)
    b = ir.Builder("test")
    x, g, w = (b.input(ir.tensor_type(ir.f32, shape)) for shape in shapes)
    gradient = b.conv_weight_grad(x, g, kernel=kernel, **geometry)
    graph = b.finish([b.sub(w, b.abs(gradient))])
    given = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    wide = [array.astype(np.float64) for array in given]
    change = ORACLES["conv_weight_grad"](*wide[:2], kernel=kernel, **geometry)
    expected = wide[2] - np.abs(change)
    for target in runnable_targets():
        program, report = compile_graph(graph, target)
        (contraction,) = (k for k in program.kernels() if isinstance(k, Contraction))
        assert (len(contraction.buffers) == 4) == together
        if not together:
            assert any("neighbouring elements" in line for line in report.refusals)
        empty = np.full(expected.shape, np.nan, np.float32)
        (found,) = run_native(program, given, [empty], target=target)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


STORED = [
    # channels out and in, taps, size and padding, whether vectors along the taps would be short
    (48, 80, (3, 3), (8, 28), 0, True),
    (43, 101, (4, 2), (8, 28), 0, True),
    (16, 40, (3, 24), (8, 28), 0, False),
    (16, 16, (3, 3), (8, 28), 0, False),  # a result of few elements is stored as it is wanted
    (48, 80, (3, 3), (1, 1), 1, True),  # nine taps at one stride, all of one pixel
]


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize(("out", "inside", "kernel", "size", "padding", "turned"), STORED)
def test_a_contraction_stores_along_its_vectors(out, inside, kernel, size, padding, turned, update):
    """Of pictures with channels innermost. Who reads the weight's gradient turns it over."""
    geometry = {"stride": (1, 1), "padding": (padding,) * 2, "dilation": (1, 1), "groups": 1}
    x, weight = (2, inside, *size), (out, inside, *kernel)
    g = (2, out, *places(x, weight, geometry))
    rng = np.random.default_rng(0)
    shapes = [(n, h, w, c) for n, c, h, w in (x, g)] + [weight] * update
    given = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    b = ir.Builder("test")
    inputs = [b.input(ir.tensor_type(ir.f32, shape)) for shape in shapes]
    images = [b.permute(image, dims=(0, 3, 1, 2)) for image in inputs[:2]]
    gradient = b.conv_weight_grad(*images, kernel=kernel, **geometry)
    graph = b.finish([b.sub(inputs[2], gradient) if update else gradient])
    wide = [np.moveaxis(array.astype(np.float64), 3, 1) for array in given[:2]]
    expected = ORACLES["conv_weight_grad"](*wide, kernel=kernel, **geometry)
    if update:
        expected = given[2] - expected
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        (contraction,) = (k for k in program.kernels() if isinstance(k, Contraction))
        (store,) = contraction.stores
        last = [v for v in contraction.dims if store.index.coefficient(v) == 1]
        assert (last[0].extent >= 37) == turned
        empty = np.full(expected.shape, np.nan, np.float32)
        (found,) = run_native(program, given, [empty], target=target)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("around", [False, True])
def test_phases_are_put_between_each_other_by_another_kernel(around):
    """Of a result that is wanted channels first, where neighbours belong to different phases."""
    size, weight = (22, 26), (20, 40, 4, 4)
    geometry = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    shapes = ((2, 20, *places((2, 40, *size), weight, geometry)), weight)
    attributes = {**geometry, "input_size": size}
    program, _, _ = check("conv_input_grad", shapes, attributes, around=around)
    (contraction,) = (k for k in program.kernels() if isinstance(k, Contraction))
    for store in contraction.stores:
        (lane,) = (v for v in contraction.dims if store.index.coefficient(v) == 1)
        assert lane.extent == 40


def test_features_that_are_padded_and_multiplied_by_themselves():
    """A convolution has its operand stored with a border; the sum of products over all pixels, cut
    into parts that end within rows, cannot step over that."""
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    rng = np.random.default_rng(0)
    shapes = ((1, 64, 64, 96), (4, 64, 3, 3))
    given = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    b = ir.Builder("test")
    x, w = (b.input(ir.tensor_type(ir.f32, shape)) for shape in shapes)
    features = b.exp(x)
    flat = b.reshape(features, shape=(64, 64 * 96))
    gram = b.contract(flat, flat, equation="mk,nk->mn")
    graph = b.finish([gram, b.conv_no_bias(features, w, **geometry)])
    wide = [array.astype(np.float64) for array in given]
    rows = np.exp(wide[0]).reshape(64, -1)
    expected = [rows @ rows.T, ORACLES["conv_no_bias"](np.exp(wide[0]), wide[1], **geometry)]
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        empty = [np.full(array.shape, np.nan, np.float32) for array in expected]
        for found, wanted in zip(
            run_native(program, given, empty, target=target), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
