"""Contractions whose tiles are copied to shared memory asynchronously, and those whose tiles are
not: on each side of sm_80, with as many tiles on their way as the target has room for."""

import dataclasses
import importlib
import re

import cuda_programs as cuda
import numpy as np
import pytest
from cuda_device import emulated_only
from cuda_emulator import control

import braze.ir as ir
from braze.codegen.cuda import contraction_plan
from braze.codegen.cuda.contraction_plan import PLAIN, TENSOR, TENSOR_TF32
from braze.codegen.cuda.generate import generate
from braze.ir.cuda_program import SHARED_BYTES
from braze.ir.target import TF32, named_target
from braze.passes import compile_graph

pytestmark = [emulated_only, pytest.mark.filterwarnings("ignore:trying to compile for a compute")]
LAST = importlib.import_module("braze.passes.sum_channels_last")
RNG = np.random.default_rng(0)


def drawn(value):
    shape, dtype = value.type.shape, value.type.dtype
    if dtype.is_floating_point:
        return RNG.standard_normal(shape).astype(dtype.numpy)
    return RNG.integers(-5, 5, shape).astype(dtype.numpy)


def product(equation, left, right, *dtypes):
    b = ir.Builder("g")
    x, y = (b.input(ir.tensor_type(t, s)) for t, s in zip(dtypes, (left, right), strict=True))
    return b.finish([b.contract(x, y, equation=equation)])


def target_of(name, tf32=False):
    target = named_target(name)
    return dataclasses.replace(target, features=(TF32,)) if tf32 else target


def made(graph, target):
    return generate(compile_graph(graph, target)[0], target)


def check(graph, target, tolerance=1e-4):
    cuda.check_graph(graph, [drawn(value) for value in graph.inputs], tolerance, target)


SIDES = ("mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn")


def sides(equation, m, k, n):
    sizes = {"m": m, "k": k, "n": n}
    return [tuple(sizes[letter] for letter in text) for text in equation.split("->")[0].split(",")]


@pytest.mark.parametrize("equation", SIDES)
@pytest.mark.parametrize("name", ["sm_75", "sm_80", "sm_86"])
def test_products_with_tails_on_both_sides_of_sm_80(monkeypatch, name, equation):
    """The sum is longer than all tiles together. A tile that is kept transposed has pads, so that
    of two such operands sm_86 holds two tiles each, and three else."""
    monkeypatch.setattr(contraction_plan, "PLAIN", (PLAIN[0],))
    graph = product(equation, *sides(equation, 140, 90, 132), ir.f32, ir.f32)
    program = made(graph, named_target(name))
    assert ("copy_async<" in program.source) == (name != "sm_75")
    tiles = {"sm_75": 2, "sm_80": 4, "sm_86": 2 if equation == "mk,nk->mn" else 3}[name]
    assert re.search(rf"a_tile\[{tiles}\]|float \(&\)\[{tiles}\]", program.source)
    (launch,) = program.launches()
    assert ("extern __shared__" in program.source) == (launch.shared_bytes > SHARED_BYTES)
    assert launch.shared_bytes == 0 or tiles > 2
    check(graph, named_target(name))


@pytest.mark.parametrize("name, tile", [("sm_75", 1), ("sm_80", 0), ("sm_90", 1)])
@pytest.mark.parametrize("equation", ["mk,nk->mn", "km,kn->mn"])
@pytest.mark.parametrize("dtype", [ir.f16, ir.bf16], ids=str)
def test_tensor_cores(monkeypatch, dtype, equation, name, tile):
    monkeypatch.setattr(contraction_plan, "TENSOR", (TENSOR[tile],))
    graph = product(equation, *sides(equation, 136, 200, 72), dtype, dtype)
    assert ("copy_async<16>" in made(graph, named_target(name)).source) == (name != "sm_75")
    check(graph, named_target(name), 2e-2)


def test_tensor_cores_in_tf32(monkeypatch):
    monkeypatch.setattr(contraction_plan, "TENSOR_TF32", (TENSOR_TF32[1],))
    graph = product("bmk,bnk->bmn", (2, 70, 90), (2, 65, 90), ir.f32, ir.f32)
    target = target_of("sm_80", tf32=True)
    assert "copy_async<8>" in made(graph, target).source
    check(graph, target, 5e-3)


@pytest.mark.parametrize("dtype", [ir.f64, ir.i64, ir.i32, ir.u8], ids=str)
def test_other_dtypes(dtype):
    """Bytes that lie along the sum of a tile that is kept across it are too small to be copied."""
    graph = product("bmk,bnk->bmn", (2, 40, 50), (2, 33, 50), dtype, dtype)
    assert ("copy_async<" in made(graph, cuda.TARGET).source) == (dtype is not ir.u8)
    check(graph, cuda.TARGET)


def test_an_operand_of_each_kind():
    """Numbers of 16 bits in rows of an odd length go through registers, the others do not."""
    graph = product("mk,kn->mn", (70, 200), (200, 45), ir.f16, ir.f16)
    source = made(graph, cuda.TARGET).source
    assert "copy_async<16>(a_tile" in source and "b_next[i]" in source
    assert "copy_async<16>(b_tile" not in source and "a_next" not in source
    check(graph, cuda.TARGET, 2e-2)


def test_a_tile_with_fewer_columns_than_threads_that_copy(monkeypatch):
    """Then the threads share out the sum, too."""
    for tile in (PLAIN[4], PLAIN[14]):
        monkeypatch.setattr(contraction_plan, "PLAIN", (tile,))
        check(product("mk,nk->mn", (260, 70), (30, 70), ir.f32, ir.f32), cuda.TARGET)


@pytest.mark.parametrize("name", ["sm_75", "sm_80"])
@pytest.mark.parametrize("dtype, tolerance", [(ir.f32, 2e-4), (ir.f16, 2e-2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(dtype, tolerance, name, stride):
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(dtype, (2, 5, 13, 13)))
    w = b.input(ir.tensor_type(dtype, (9, 5, 3, 3)))
    both = {"stride": (stride,) * 2, "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    y = b.conv_no_bias(x, w, **both)
    g = b.input(y.type)
    graph = b.finish([
        y,
        b.conv_input_grad(g, w, input_size=(13, 13), **both),
        b.conv_weight_grad(x, g, kernel=(3, 3), **both),
    ])  # fmt: skip
    source = made(graph, named_target(name)).source
    assert ("copy_async<4>" in source) == (name == "sm_80" and dtype is ir.f32)
    check(graph, named_target(name), tolerance)


def with_channels_innermost(dtype, batch, channels, size, out, stride):
    """A convolution and its gradients between others that hand on their channels side by side."""
    b = ir.Builder("g")
    both = {"stride": (stride,) * 2, "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    places = (size - 1) // stride + 1
    x, g = (
        b.permute(b.input(ir.tensor_type(dtype, (batch, n, n, c))), dims=(0, 3, 1, 2))
        for n, c in ((size, channels), (places, out))
    )
    w = b.input(ir.tensor_type(dtype, (out, channels, 3, 3)))
    y = b.conv_no_bias(x, w, **both)
    of_input = b.conv_input_grad(g, w, input_size=(size, size), **both)
    made = [b.permute(value, dims=(0, 2, 3, 1)) for value in (y, of_input)]
    return b.finish([*made, b.conv_weight_grad(x, g, kernel=(3, 3), **both)])


@pytest.mark.parametrize("dtype, stride", [(ir.f16, 1), (ir.bf16, 2)], ids=str)
def test_16_bits_with_channels_innermost_come_16_bytes_at_a_time(monkeypatch, dtype, stride):
    monkeypatch.setattr(contraction_plan, "TENSOR", (TENSOR[1],))
    monkeypatch.setattr(LAST, "FEWEST_PIXELS", 1)
    graph = with_channels_innermost(dtype, 4, 16, 16 * stride, 8, stride)
    source = made(graph, cuda.TARGET).source
    assert set(re.findall(r"copy_async<(\d+)>", source)) == {"16"}
    # With a stride of 2 a quarter of the image meets one tap, whose weight is read in place.
    assert source.count("_next[i] = load_pack<1>") == (1 if stride == 2 else 0)
    check(graph, cuda.TARGET, 5e-2)


def test_results_in_the_order_of_the_image_cost_more_than_a_short_sum_saves(monkeypatch):
    """Neighbours of the weight are taps, so its gradient's results lie apart in this order."""
    monkeypatch.setattr(LAST, "FEWEST_PIXELS", 1)
    graph = with_channels_innermost(ir.f16, 1, 16, 8, 8, 1)
    assert made(graph, cuda.TARGET).source.count("_next[i] = load_pack<1>") == 1


@pytest.mark.parametrize("order", ["reverse", "random:1"])
def test_the_order_of_threads_does_not_matter(order):
    graph = product("mk,nk->mn", (70, 300), (65, 300), ir.f32, ir.f32)
    with control.options(ORDER=order):
        check(graph, cuda.TARGET)
