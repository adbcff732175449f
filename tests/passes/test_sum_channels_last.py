"""Which convolutions sum over their channels innermost, and whose weights are copied for it."""

from __future__ import annotations

import pytest
from graphs import assert_same, sample_inputs

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.target import named_target
from braze.passes.choices import Choices
from braze.passes.sum_channels_last import sum_channels_last

TARGET = named_target("sm_80")


def convolution(dtype=ir.f16, batch=8, channels=64, size=34, taps=3, weight="ockl", groups=0):
    """Of images with their channels innermost, and a weight in this order of dimensions."""
    b = ir.Builder("g")
    sizes = {"o": 8, "c": channels, "k": taps, "l": taps, "g": groups}
    image = (batch, size, size, *((groups,) if groups else ()), channels)
    x = b.input(ir.tensor_type(dtype, image))
    w = b.input(ir.tensor_type(dtype, tuple(sizes[letter] for letter in weight)))
    windows = b.window(x, dims=(1, 2), size=(taps, taps), stride=(1, 1), dilation=(1, 1))
    group = "g" if groups else ""
    return b.finish([b.contract(windows, w, equation=f"nhw{group}ckl,{weight}->nhw{group}o")])


def equation_and_copies(graph, choices=None):
    changed = sum_channels_last(graph, TARGET, choices)
    assert_same(interpret(changed, sample_inputs(graph)), interpret(graph, sample_inputs(graph)))
    (product,) = (node for node in changed.nodes if node.op.is_contract)
    copies = sum(node.op.name == "cast" for node in changed.nodes)
    return product.attributes["equation"], copies


@pytest.mark.parametrize(
    "shape, equation, copies",
    [
        ({}, "oklc,nhwckl->nhwo", 1),
        ({"dtype": ir.bf16, "weight": "lock"}, "lokc,nhwckl->nhwo", 1),
        ({"weight": "oklc"}, "oklc,nhwckl->nhwo", 0),  # it lies so
        ({"groups": 2, "channels": 32, "weight": "gockl"}, "goklc,nhwgckl->nhwgo", 1),
    ],
    ids=str,
)
def test_channels_come_last(shape, equation, copies):
    assert equation_and_copies(convolution(**shape)) == (equation, copies)


@pytest.mark.parametrize(
    "shape",
    [
        {"dtype": ir.f32},
        {"channels": 60, "batch": 9},  # no multiple of 16 bytes
        {"taps": 1, "batch": 60},  # one order only
        {"batch": 7},  # too little to do
        {"size": 4, "channels": 1 << 14},  # too few products for each element of the weight
    ],
    ids=str,
)
def test_others_stay_as_they_are(shape):
    graph = convolution(**shape)
    assert sum_channels_last(graph, TARGET) is graph


@pytest.mark.parametrize("name", ["sm_75", "x86-64-v3"])
def test_other_targets_copy_nothing_asynchronously(name):
    graph = convolution()
    assert sum_channels_last(graph, named_target(name)) is graph


def test_an_image_with_channels_first_is_read_along_its_rows():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f16, (8, 64, 34, 34)))
    w = b.input(ir.tensor_type(ir.f16, (8, 64, 3, 3)))
    windows = b.window(x, dims=(2, 3), size=(3, 3), stride=(1, 1), dilation=(1, 1))
    graph = b.finish([b.contract(windows, w, equation="nchwkl,ockl->nohw")])
    assert sum_channels_last(graph, TARGET) is graph


def test_a_border_in_between_changes_nothing():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f16, (8, 34, 34, 64)))
    w = b.input(ir.tensor_type(ir.f16, (8, 64, 3, 3)))
    inside = (0, 1, 1, 0)
    padded = b.pad(x, low=inside, high=inside, interior=(0,) * 4, value=0.0)
    windows = b.window(padded, dims=(1, 2), size=(3, 3), stride=(1, 1), dilation=(1, 1))
    graph = b.finish([b.contract(windows, w, equation="nhwckl,ockl->nhwo")])
    assert equation_and_copies(graph) == ("oklc,nhwckl->nhwo", 1)


def test_what_was_chosen_for_another_size_is_chosen_again():
    few, many = convolution(batch=2), convolution()
    chosen = {graph: Choices() for graph in (few, many)}
    for graph, choices in chosen.items():
        sum_channels_last(graph, TARGET, choices)
    assert equation_and_copies(few, Choices(chosen[many]))[1] == 1
    assert sum_channels_last(many, TARGET, Choices(chosen[few])) is many
