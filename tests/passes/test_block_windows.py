"""Neighbouring windows are computed at once and load what they share once."""

import re

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.codegen.llvm.program import generate
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_program
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.passes.block_windows import block_windows

V4 = named_target("x86-64-v4")


def blur(places, taps=3, stride=1, channels=16, access="out", kind="unroll"):
    """A depthwise convolution without padding, with its vector loop marked."""
    size = stride * (places - 1) + taps
    return parse_kernel(f"""nest @blur(%x: f32[{size * channels}] in, %w: f32[{taps * channels}] in,
        %y: f32[{places * channels}] {access}) {{
      for i in {places} {{
        for c in {channels} vector {{
          reduce r in {taps} {kind} {{
            s = sum(mul(%x[{stride * channels}*i + {channels}*r + c], %w[{channels}*r + c]))
          }}
          store %y[{channels}*i + c] = s
        }}
      }}
    }}""")


def blocks(nest):
    """The sizes of the blocks, in order."""
    return [int(n) for n in re.findall(r"for i_1 in (\d+) unroll", str(block_windows(nest)))]


@pytest.mark.parametrize(
    ("places", "expected"),
    [(56, [4]), (14, [7]), (7, [7]), (6, [6]), (5, [5]), (13, [4, 1]), (23, [4, 3]), (3, [])],
)
def test_blocks_fill_the_places(places, expected):
    assert blocks(blur(places)) == expected


def test_what_shares_little_is_left():
    assert not blocks(blur(56, kind="serial"))
    assert not blocks(blur(56, access="inout"))  # another place may read what one stores
    assert not blocks(blur(56, taps=13))
    weighted = str(blur(56)).replace("%w[16*r + c]", "%w[48*i + 16*r + c]")
    weighted = weighted.replace("%w: f32[48]", "%w: f32[2688]")
    apart = weighted.replace("%x[16*i + 16*r + c]", "%x[48*i + 16*r + c]")
    apart = apart.replace("%x: f32[928]", "%x: f32[2688]")
    assert not blocks(parse_kernel(apart))


def depthwise(b, x, channels, taps, stride):
    """[n, h, w, c] with 1 around, weighted for each channel."""
    around = {"low": (0, 1, 1, 0), "high": (0, 1, 1, 0), "interior": (0, 0, 0, 0)}
    padded = b.pad(x, value=0.0, **around)
    windows = b.window(padded, dims=(1, 2), size=taps, stride=stride, dilation=(1, 1))
    weight = b.permute(b.input(ir.tensor_type(ir.f32, (*taps, channels))), dims=(2, 0, 1))
    return b.sum(b.mul(windows, weight), dims=(4, 5), keepdim=False)


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "channels", "taps"),
    [((8, 8), 32, (3, 3)), ((5, 19), 20, (3, 3)), ((7, 7), 40, (1, 3)), ((17, 3), 33, (3, 2))],
)
def test_depthwise_windows(size, channels, taps, stride, target):
    """Blocks, what is left over, edges, and channels that fill no vector."""
    b = ir.Builder("depthwise")
    x = b.input(ir.tensor_type(ir.f32, (2, *size, channels)))
    result = depthwise(b, x, channels, taps, (stride, stride))
    graph = b.finish([b.maximum(result, 0.0)])
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(i.type.shape).astype("f4") for i in graph.inputs]
    expected = interpret(graph, given)
    program, _ = compile_graph(graph, target)
    assert size == (17, 3) or re.search(r"for \w+_1 in \d unroll", str(program))
    verify_program(program)
    loops = [np.zeros_like(e) for e in expected]
    run_program(program, given, loops)
    for found in (Native(program, target).run(given, expected), loops):
        for one, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-5, atol=1e-5)


def test_each_vector_is_loaded_once():
    """Before LLVM has seen it: places stand side by side, with all stores behind all loads."""
    b = ir.Builder("depthwise")
    x = b.input(ir.tensor_type(ir.f32, (1, 16, 16, 16)))
    graph = b.finish([depthwise(b, x, 16, (3, 3), (1, 1))])
    program, _ = compile_graph(graph, V4)
    (text,) = [str(m) for m in generate(program, V4).modules if "<16 x float>" in str(m)]
    accesses = re.findall(r"(load|store) <16 x float>", text)
    stores = [n for n, name in enumerate(accesses) if name == "store"]
    assert len(stores) == 4 and stores == list(range(len(accesses) - 4, len(accesses)))
