"""Every primitive pointwise operation on a CUDA device, in every dtype, against NumPy."""

import cuda_programs as cuda
import numpy as np
import pytest
from native import elementwise
from test_expressions import (
    assert_cast,
    assert_meanings,
    cases_of,
    cast_cases,
    several,
    specials,
)

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.operations import RULES
from braze.ir.dtypes import REAL, f32
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Const, Load, Loop, Nest, Placement, Program, Store
from braze.ir.op import all_ops, op_named


def test_every_pointwise_operation_has_a_rule():
    assert set(RULES) == {op.name for op in all_ops() if op.is_pointwise}


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_every_operation(dtype):
    cases, arrays = cases_of(dtype)
    shapes = [((a[0].size,), r.numpy) for a, (_, _, r) in zip(arrays, cases, strict=True)]
    results = cuda.run_cuda(several(cases), [x for group in arrays for x in group], shapes)
    assert_meanings(cases, arrays, results, dtype)


def cast_on_device(source, cases):
    """Arrays cast to dtypes, each by a kernel of its own.

    Args:
        cases: pairs of the dtype to cast to and the array.
    """
    program, inputs, shapes = Program("casts", 0, 0, [[]], {}, 0), [], []
    for number, (goal, x) in enumerate(cases):
        ends = Buffer(f"x{number}", source, x.size, "in"), Buffer(f"y{number}", goal, x.size, "out")
        i = LoopVar("i", x.size)
        value = Apply(op_named("cast"), (Load(ends[0], Index.of(i)),), goal)
        body = [Loop(i, [Store(ends[1], Index.of(i), value)])]
        program.waves[0].append(Nest(f"cast_{goal.name}", ends, body))
        program.placements |= {
            ends[0].name: Placement("input", number),
            ends[1].name: Placement("output", number),
        }
        inputs.append(x)
        shapes.append(((x.size,), goal.numpy))
    program.inputs = program.outputs = len(cases)
    return cuda.run_cuda(program, inputs, shapes)


@pytest.mark.parametrize("source", REAL, ids=str)
def test_casts(source):
    cases = cast_cases(source)
    for (goal, x), found in zip(cases, cast_on_device(source, cases), strict=True):
        assert_cast(found, x, goal)


@pytest.mark.parametrize("source", [d for d in REAL if d.is_floating_point], ids=str)
def test_casts_of_what_does_not_fit_are_defined(source):
    """C++ leaves them undefined; the emulated driver refuses code that relies on it."""
    x = np.array([np.nan, np.inf, -np.inf, 3.5]).astype(source.numpy)
    cases = [(goal, x) for goal in REAL if goal.is_integer]
    for (goal, _), found in zip(cases, cast_on_device(source, cases), strict=True):
        assert found[3] == 3
        if goal.name in ("i32", "i64"):
            low, high = np.iinfo(goal.numpy).min, np.iinfo(goal.numpy).max
            assert found[1:3].tolist() == [high, low]


@pytest.mark.parametrize("source", [d for d in REAL if d.name != "bool"], ids=str)
def test_bitcasts_keep_every_bit(source):
    x = specials(source)
    for goal in REAL:
        if goal.itemsize != source.itemsize or goal.name == "bool":
            continue
        program = elementwise(op_named("bitcast"), [source], goal, x.size)
        (found,) = cuda.run_cuda(program, [x], [(x.shape, goal.numpy)])
        assert found.tobytes() == x.tobytes(), goal


def test_sixteen_bit_floats_that_are_only_moved_keep_their_bits():
    bits = np.arange(1 << 16, dtype=np.uint16)
    for name in ("f16", "bf16"):
        dtype = next(d for d in REAL if d.name == name)
        x, y = (Buffer(n, dtype, bits.size, a) for n, a in (("x", "in"), ("y", "out")))
        i = LoopVar("i", bits.size)
        body = [Loop(i, [Store(y, Index.of(i), Load(x, Index.of(i)))])]
        places = {"x": Placement("input", 0), "y": Placement("output", 0)}
        program = Program("copy", 1, 1, [[Nest("copy", (x, y), body)]], places, 0)
        (found,) = cuda.run_cuda(program, [bits.view(dtype.numpy)], [((bits.size,), dtype.numpy)])
        assert found.tobytes() == bits.tobytes()


def test_an_operation_without_a_meaning_is_refused():
    program = elementwise(op_named("neg"), [REAL[0]], REAL[0], 4)
    with pytest.raises(CodegenError, match=r"\[neg\] there is no code for bool"):
        cuda.run_cuda(program, [np.zeros(4, bool)], [((4,), np.dtype(bool))])


def test_constants_are_written_exactly():
    values = [0.1, 1e-45, 3.4e38, -2.5, 1.0, float("inf"), float("-inf"), 16777217.0]
    y = Buffer("y", f32, len(values), "out")
    body = [Store(y, Index((), n), Const(value, f32)) for n, value in enumerate(values)]
    program = Program("k", 0, 1, [[Nest("k", (y,), body)]], {"y": Placement("output", 0)}, 0)
    (found,) = cuda.run_cuda(program, [], [((len(values),), np.dtype("f4"))])
    np.testing.assert_array_equal(found, np.array(values, "f4"))
