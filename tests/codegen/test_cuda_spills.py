"""NVIDIA's compiler finds registers for large products and convolutions: nothing is spilled.

Each thread has as many results as fit beside what the loop needs, so little is enough for a spill,
and architectures differ in which layout is the one too many.
"""

import dataclasses

import pytest
from cuda_emulator import nvrtc

import braze.ir as ir
from braze.codegen.cuda.generate import generate
from braze.ir.target import TF32, named_target
from braze.passes import compile_graph

EQUATIONS = ("mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn")


def products(dtype, size):
    """Square matrices in each layout."""
    b = ir.Builder("products")
    x, y = (b.input(ir.tensor_type(dtype, (size, size))) for _ in "xy")
    return b.finish([b.contract(x, y, equation=equation) for equation in EQUATIONS])


def convolution(dtype, batch, channels, size, out, kernel, stride, pad, innermost=False):
    """One, and its gradients."""
    b = ir.Builder("convolution")

    def images(of, size):
        if not innermost:
            return b.input(ir.tensor_type(dtype, (batch, of, size, size)))
        x = b.input(ir.tensor_type(dtype, (batch, size, size, of)))
        return b.permute(x, dims=(0, 3, 1, 2))

    x = images(channels, size)
    w = b.input(ir.tensor_type(dtype, (out, channels, kernel, kernel)))
    both = {"stride": (stride,) * 2, "padding": (pad,) * 2, "dilation": (1, 1), "groups": 1}
    y = b.conv_no_bias(x, w, **both)
    g = images(out, y.shape[-1])
    of_input = b.conv_input_grad(g, w, input_size=(size, size), **both)
    return b.finish([y, of_input, b.conv_weight_grad(x, g, kernel=(kernel, kernel), **both)])


def check(graph, architecture, tf32=False):
    target = named_target(architecture)
    if tf32:
        target = dataclasses.replace(target, features=(TF32,))
    program, _ = compile_graph(graph, target)
    found = nvrtc.compile(generate(program, target).source, architecture)
    assert found and not {name: taken for name, taken in found.items() if taken.spills}


@pytest.mark.parametrize("size", [1024, 1000])
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
def test_products_of_matrices(architecture, size):
    check(products(ir.f32, size), architecture)


@pytest.mark.parametrize(
    "architecture, size", [("sm_80", 1000), ("sm_86", 1001), ("sm_90", 1000), ("sm_120", 1024)]
)
def test_products_in_tf32(architecture, size):
    check(products(ir.f32, size), architecture, tf32=True)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_convolutions(architecture):
    check(convolution(ir.f32, 64, 128, 56, 128, 3, 2, 1), architecture)
    check(convolution(ir.f32, 32, 256, 14, 256, 3, 1, 1), architecture)


@pytest.mark.parametrize(
    "architecture, dtype, sizes",
    [
        ("sm_75", ir.bf16, (64, 128, 56, 128, 3, 2, 1)),
        ("sm_80", ir.f16, (32, 256, 14, 256, 3, 1, 1)),
        ("sm_100", ir.f16, (32, 256, 14, 256, 3, 1, 1)),
        ("sm_100", ir.f16, (32, 30, 27, 50, 5, 1, 2)),
    ],
)
def test_convolutions_of_16_bits(architecture, dtype, sizes):
    """Their windows begin anywhere, so that each number waits in a register of its own."""
    check(convolution(dtype, *sizes), architecture)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_convolutions_of_16_bits_with_channels_innermost(architecture):
    check(convolution(ir.f16, 32, 256, 14, 256, 3, 1, 1, innermost=True), architecture)
    check(convolution(ir.bf16, 64, 128, 56, 128, 3, 2, 1, innermost=True), architecture)
