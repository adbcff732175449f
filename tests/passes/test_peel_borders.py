"""Windows that reach over an edge: the loops inside have no conditions for each lane."""

import numpy as np
import pytest
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.index import Index, LoopVar
from braze.ir.interpreter import interpret
from braze.ir.loops import Bound, Loop
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_program
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.passes.peel_borders import interior, peel_borders
from braze.passes.vectorise import vectorise

V4 = named_target("x86-64-v4")


@pytest.mark.parametrize("seed", range(20))
def test_the_interior_is_where_conditions_hold(seed):
    rng = np.random.default_rng(seed)
    v, r = LoopVar("v", int(rng.integers(1, 12))), LoopVar("r", int(rng.integers(1, 5)))
    bounds = []
    for _ in range(int(rng.integers(1, 3))):
        step, other, shift = (int(n) for n in rng.integers(-3, 4, 3))
        low = int(rng.integers(-4, 4))
        index = Index.of(v) * step + Index.of(r) * other + shift
        bounds.append(Bound(index, low, low + int(rng.integers(1, 15))))
    mine = [b for b in bounds if b.index.coefficient(v)]

    def holds(value):
        at = {v: value}
        spans = [b.index.substitute({v: Index.of(at[v])}.get).span for b in mine]
        return all(
            b.low <= low and high < b.high for b, (low, high) in zip(mine, spans, strict=True)
        )

    begin, end = interior(v, bounds)
    expected = [value for value in range(v.extent) if holds(value)]
    assert list(range(begin, end)) == expected


def pool(size, kernel, stride, padding, combine="amax"):
    out = (size + 2 * padding - kernel) // stride + 1
    return f"""nest @pool(%x: f32[{4 * size}] in, %o: f32[{4 * out}] out) {{
      for y in 4 {{
        for x in {out} {{
          reduce a in {kernel} {{
            m = {combine}(%x[{size}*y + {stride}*x + a - {padding} if 0 <= {stride}*x + a - {padding} < {size}])
          }}
          store %o[{out}*y + x] = m
        }}
      }}
    }}"""  # noqa: E501


def pieces(text):
    """Sizes of the loops that a nest's loop over x is cut into, the vector loop's negative."""
    (outer,) = vectorise(parse_kernel(text), V4).body
    loops = [s for s in outer.body if isinstance(s, Loop)]
    return [-s.var.extent if s.kind == "vector" else s.var.extent for s in loops]


def test_borders_are_cut_off_where_lanes_skip_elements():
    assert pieces(pool(112, 3, 2, 1)) == [1, -55]
    assert pieces(pool(113, 3, 2, 1)) == [1, -55, 1]
    assert pieces(pool(112, 5, 2, 2)) == [1, -54, 1]


def test_other_loops_stay_whole():
    assert pieces(pool(112, 2, 2, 0)) == [-56]  # nothing over the edge
    assert pieces(pool(112, 3, 1, 1)) == [-112]  # masks cost nothing there


def test_a_wide_border_stays():
    text = pool(12, 7, 2, 3)
    assert str(peel_borders(parse_kernel(text))).count("for x") == 1


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("width", [20, 31, 33, 67, 70, 112])
def test_pooling_over_edges(width, target):
    """Whole vectors, tails under masks, and the rows above and below."""
    b = ir.Builder("pool")
    x = b.input(ir.tensor_type(ir.f32, (2, 9, width)))
    around = {"low": (0, 1, 1), "high": (0, 1, 1), "interior": (0, 0, 0)}
    low, zeros = (b.pad(x, value=value, **around) for value in (-np.inf, 0.0))
    graph = b.finish([
        b.amax(_windows(b, low), dims=(3, 4), keepdim=False),
        b.sum(_windows(b, zeros), dims=(3, 4), keepdim=False),
    ])
    (given,) = (np.random.default_rng(0).standard_normal((2, 9, width)).astype("f4"),)
    expected = interpret(graph, [given])
    program, _ = compile_graph(graph, target)
    verify_program(program)
    native = Native(program, target).run([given], expected)
    loops = [np.zeros_like(e) for e in expected]
    run_program(program, [given], loops)
    for found in (native, loops):
        for one, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-5, atol=1e-5)


def _windows(b, x):
    return b.window(x, dims=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
