"""Contractions and attention on a CUDA device."""

import dataclasses

import cuda_programs as cuda
import numpy as np
import pytest

import braze.ir as ir
from braze.codegen.cuda.contraction_plan import plan_of
from braze.codegen.cuda.generate import Decisions, generate
from braze.ir.loops import Contraction
from braze.ir.target import TF32, named_target
from braze.passes import compile_graph

RNG = np.random.default_rng(0)


def drawn(shape, dtype=ir.f32):
    if dtype.is_floating_point:
        return RNG.standard_normal(shape).astype(dtype.numpy)
    return RNG.integers(-5, 5, shape).astype(dtype.numpy)


def product(equation, left, right, dtype=ir.f32, epilogue=False):
    b = ir.Builder("g")
    x, y = (b.input(ir.tensor_type(dtype, shape)) for shape in (left, right))
    z = b.contract(x, y, equation=equation)
    graph = b.finish([b.relu(b.add(z, 1.0))] if epilogue else [z])
    return graph, [drawn(left, dtype), drawn(right, dtype)]


CASES = [
    ("mk,kn->mn", (200, 70), (70, 150)),
    ("mk,kn->mn", (256, 64), (64, 256)),  # packs in both operands and the result
    ("mk,nk->mn", (100, 64), (96, 64)),
    ("km,kn->mn", (64, 100), (64, 96)),
    ("km,nk->mn", (33, 50), (41, 33)),
    ("bmk,bkn->bmn", (3, 50, 40), (3, 40, 60)),
    ("mk,kn->mn", (40, 3000), (3000, 33)),  # the sum in parts
    ("mk,kn->mn", (130, 37), (37, 9)),
    ("mk,kn->mn", (3, 100), (100, 50)),  # a row of products for each result
    ("mk,kn->mn", (20, 2), (2, 30)),
]


@pytest.mark.parametrize("equation, left, right", CASES)
def test_products_of_matrices(equation, left, right):
    graph, inputs = product(equation, left, right, epilogue=True)
    cuda.check_graph(graph, inputs, 1e-4)


@pytest.mark.parametrize("dtype", [ir.f64, ir.i32, ir.i64, ir.u8], ids=str)
def test_other_dtypes(dtype):
    graph, inputs = product("mk,kn->mn", (60, 70), (70, 50), dtype)
    cuda.check_graph(graph, inputs)


TENSOR_CASES = [
    ("mk,kn->mn", (200, 72), (72, 152)),
    ("mk,nk->mn", (200, 72), (152, 72)),  # as a linear layer has them
    ("km,nk->mn", (72, 200), (152, 72)),
    ("mk,kn->mn", (30, 45), (45, 30)),
    ("mk,nk->mn", (30, 2000), (30, 2000)),
]


@pytest.mark.parametrize("equation, left, right", TENSOR_CASES)
@pytest.mark.parametrize("dtype", [ir.f16, ir.bf16], ids=str)
def test_tensor_cores(dtype, equation, left, right):
    graph, inputs = product(equation, left, right, dtype, epilogue=True)
    program, _ = compile_graph(graph, cuda.TARGET)
    assert "Tensors::multiply" in generate(program, cuda.TARGET).source
    cuda.check_graph(graph, inputs, 2e-2)


def test_tensor_cores_round_f32_only_if_that_is_allowed():
    graph, inputs = product("mk,kn->mn", (64, 64), (64, 64))
    allowed = dataclasses.replace(cuda.TARGET, features=(TF32,))
    program, _ = compile_graph(graph, allowed)
    assert "Tensor<float, " in generate(program, allowed).source
    assert "Tensors::" not in generate(program, cuda.TARGET).source
    (found,) = cuda.run_graph(graph, inputs, allowed)
    exact = inputs[0].astype("f8") @ inputs[1]
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert 1e-6 < error < 2e-3


def test_older_gpus_have_no_tensor_cores_for_bf16():
    graph, _ = product("mk,kn->mn", (64, 64), (64, 64), ir.bf16)
    program, _ = compile_graph(graph, named_target("sm_75"))
    assert "Tensors::" not in generate(program, named_target("sm_75")).source


@pytest.mark.parametrize(
    "channels, size, out, kernel, stride, pad",
    [(8, 12, 16, 3, 1, 1), (3, 13, 16, 3, 2, 1), (8, 9, 16, 1, 1, 0), (4, 11, 8, 5, 1, 2)],
)
def test_convolutions(channels, size, out, kernel, stride, pad):
    """Without a copy with borders; gradients are tested in training steps."""
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (2, channels, size, size)))
    w = b.input(ir.tensor_type(ir.f32, (out, channels, kernel, kernel)))
    both = {n: (v, v) for n, v in (("stride", stride), ("padding", pad), ("dilation", 1))}
    graph = b.finish([b.relu(b.conv_no_bias(x, w, **both, groups=1))])
    program, _ = compile_graph(graph, cuda.TARGET)
    assert len(generate(program, cuda.TARGET).steps) == 1
    cuda.check_graph(graph, [drawn(x.type.shape), drawn(w.type.shape)], 1e-4)


def test_a_plan_leaves_no_processor_without_work_where_the_sum_is_long():
    graph, _ = product("mk,kn->mn", (64, 20000), (20000, 64))
    program, _ = compile_graph(graph, cuda.TARGET)
    (kernel,) = (k for k in program.kernels() if isinstance(k, Contraction))
    plan = plan_of(kernel, cuda.TARGET, Decisions().decide)
    assert plan.blocks >= 64


HEADS = [
    ((2, 3), 70, 45, 8, 8, False, False, 0.0),
    ((2,), 100, 100, 64, 64, True, False, 0.0),
    ((1, 2), 65, 130, 21, 21, False, True, 0.0),
    ((2,), 70, 70, 40, 33, True, False, 0.3),
    ((1,), 9, 130, 300, 130, False, False, 0.0),
]


@pytest.mark.parametrize("lead, queries, keys, width, depth, causal, masked, p", HEADS)
def test_attention_and_its_gradient(lead, queries, keys, width, depth, causal, masked, p):
    b = ir.Builder("g")
    shapes = [(*lead, queries, width), (*lead, keys, width), (*lead, keys, depth)]
    q, k, v = operands = [b.input(ir.tensor_type(ir.f32, shape)) for shape in shapes]
    inputs, extra = [drawn(shape) for shape in shapes], []
    if masked:
        extra.append(b.input(ir.tensor_type(ir.f32, (*lead, queries, keys))))
        dead = RNG.random((*lead, queries, keys)) < 0.3
        dead[..., 0, :] = True  # a query that attends to nothing
        inputs.append(np.where(dead, -np.inf, 0).astype("f4"))
    settings = {"scale": width**-0.5, "causal": causal}
    name = "attention" + "_masked" * masked
    if p:
        extra += [b.input(ir.tensor_type(ir.i64, ())) for _ in range(2)]
        inputs += [np.array(5), np.array(1000)]
        settings["p"], name = p, name + "_dropout"
    out, lse = b.emit(ir.op_named(name), [*operands, *extra], settings).results
    back = b.input(out.type)
    inputs.append(drawn(out.type.shape))
    delta = b.sum(b.mul(back, out), dims=(len(lead) + 1,), keepdim=False)
    taken = [back, q, k, v, lse, delta, *extra]
    gradients = b.emit(ir.op_named(f"{name}_grad"), taken, {**settings, "parts": 2}).results
    cuda.check_graph(b.finish([out, lse, *gradients]), inputs, 2e-4)
