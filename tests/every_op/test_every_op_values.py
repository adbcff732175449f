"""Every operation of the table, over generated operands: what NumPy and SciPy say, what the
interpreter computes and what compiled code computes are one."""

import numpy as np
import op_oracles_attention  # noqa: F401
import op_oracles_complex  # noqa: F401  (fills the table of oracles)
import op_oracles_distributions  # noqa: F401
import op_oracles_networks  # noqa: F401
import op_oracles_optimizers  # noqa: F401
import op_oracles_random  # noqa: F401
import op_oracles_recurrent  # noqa: F401
import op_oracles_windows  # noqa: F401
import pytest
from composites import to_primitives
from native import Native, runnable_targets
from op_oracles import ORACLES, RAW, Check
from op_samples import Sample, accepted

import braze.ir as ir
from braze.ir.errors import UnsupportedDTypeError, ValueCheckError
from braze.ir.interpreter import interpret
from braze.ir.ops.host_rules import as_complex, as_pairs
from braze.ir.verifier import verify
from braze.passes import compile_graph
from braze.passes.split_complex import split_complex

# A fusion is what passes make of others; it has no meaning of its own.
OPS = [op for op in ir.all_ops() if op.category != "fusion" and not op.is_collective]
# Relative to the largest result of a sample. Composites of 16-bit floats round at each step.
TOLERANCE = {"f64": 1e-12, "f32": 1e-5, "f16": 8e-3, "bf16": 6e-2, "c64": 1e-5, "c128": 1e-12}


def calls(op):
    """(dtype, sample) for every dtype that the op takes."""
    return [(dtype, s) for dtype in ir.dtypes.ALL for s in accepted(op, dtype) or ()]


def graph_of(op, samples):
    """All samples in one graph; its inputs; and how many outputs each sample has."""
    b = ir.Builder(op.name)
    inputs, outputs = [], []
    for sample in samples:
        operands = [b.input(t) for t in sample.types]
        inputs += [np.asarray(a) for a in sample.operands]
        outputs += b.emit(op, operands, sample.attributes).results
    graph = b.finish(outputs)
    verify(graph)
    return graph, inputs


def widened(op, operand):
    operand = np.asarray(operand)
    dtype = ir.from_numpy(operand.dtype)
    if op.name in RAW or not dtype.is_differentiable:
        return operand
    return operand.astype(np.complex128 if dtype.is_complex else np.float64)


def assert_near(found, wanted, tolerance, what):
    """Equal, or for floats nan and infinite in the same places and close at the result's scale.

    For complex numbers, not finite in the same places: which part is infinite is not told.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), what
    dtype = ir.from_numpy(found.dtype)
    if dtype.is_complex:
        x, y = found.astype(np.complex128), wanted.astype(np.complex128)
        finite = np.isfinite(y)
        np.testing.assert_array_equal(np.isfinite(x), finite, err_msg=what)
        x, y = x[finite], y[finite]
        scale = min(max(1.0, np.abs(y).max(initial=0.0)), 1e3)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale, err_msg=what)
        return
    if not dtype.is_floating_point:
        np.testing.assert_array_equal(found, wanted, err_msg=what)
        return
    x, y = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.abs(y[np.isfinite(y)])
    scale = min(max(1.0, finite.max(initial=0.0)), 1e3)
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_takes_a_dtype_or_refuses_it(op):
    taken = [dtype for dtype in ir.dtypes.ALL if accepted(op, dtype) is not None]
    assert taken
    for sample in (s for dtype in taken for s in accepted(op, dtype)):
        results = op.result_types(sample.types, sample.attributes)
        assert len(results) == len(op.results)


# Their operands are the parts of complex numbers, or the numbers before a transform.
OF_REAL_NUMBERS = {"view_as_complex", "rfft"}


@pytest.mark.parametrize("op", [op for op in OPS if op.operands], ids=str)
def test_it_takes_complex_numbers_if_it_says_so(op):
    if op.complex and op.name not in OF_REAL_NUMBERS:
        assert all(accepted(op, dtype) for dtype in ir.dtypes.COMPLEX)
        return
    base = next(d for d in (ir.f32, *ir.dtypes.ALL) if accepted(op, d))
    sample = next(s for s in accepted(op, base) if not s.edges)
    for dtype in ir.dtypes.COMPLEX:
        for number, operand in enumerate(map(np.asarray, sample.operands)):
            operands = list(sample.operands)
            operands[number] = operand.astype(dtype.numpy)
            with pytest.raises(ir.DTypeError, match=rf"^\[{op.name}\].*{dtype.name}") as caught:
                op.result_types(Sample(operands, sample.attributes).types, sample.attributes)
            assert op.complex or isinstance(caught.value, UnsupportedDTypeError)


@pytest.mark.parametrize("op", [op for op in OPS if len(op.operands) > 1 or op.variadic], ids=str)
def test_operands_of_two_dtypes_are_refused_or_computed_with(op):
    base = next(d for d in (ir.f32, *ir.dtypes.ALL) if accepted(op, d))
    other = {ir.f32: ir.f64, ir.i32: ir.i64}.get(base, ir.i32)
    sample = next(s for s in accepted(op, base) if not s.edges)
    for number, operand in enumerate(map(np.asarray, sample.operands)):
        if operand.dtype != base.numpy:
            continue
        operands = list(sample.operands)
        operands[number] = operand.astype(other.numpy)
        mixed = Sample(operands, sample.attributes)
        try:
            op.result_types(mixed.types, mixed.attributes)
        except (ir.DTypeError, ir.ShapeError) as error:
            # A twin names its operands' complex dtype.
            assert other.name in str(error) or other.to_complex().name in str(error)
            continue
        graph, inputs = graph_of(op, [mixed])
        interpret(graph, inputs)  # which compares the results with their declared types


@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_means_what_numpy_says(op):
    assert op.name in ORACLES, f"say in op_oracles what {op.name} means"
    oracle = ORACLES[op.name]
    for dtype, sample in calls(op):
        what = f"{op.name} {sample}"
        graph, inputs = graph_of(op, [sample])
        found = interpret(graph, inputs)
        with np.errstate(all="ignore"):
            if isinstance(oracle, Check):
                oracle.function(inputs, found, **sample.attributes)
                continue
            wanted = oracle(*(widened(op, a) for a in inputs), **sample.attributes)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype.kind == "c" or not np.iscomplexobj(other), what
                rounded = np.asarray(other).astype(one.dtype)
                tolerance = TOLERANCE.get(ir.from_numpy(one.dtype).name, 0.0)
                assert_near(one, rounded, max(tolerance, TOLERANCE.get(dtype.name, 0.0)), what)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_compiled_code_computes_what_the_interpreter_does(op):
    taken = thinned(op, calls(op))
    graph, inputs = graph_of(op, [sample for _, sample in taken])
    expected = interpret(graph, inputs)
    if not op.is_primitive or op.complex:
        assert_all_near(op, taken, in_primitives(graph, inputs), expected)
    targets = runnable_targets()
    target = targets[len(op.name) % len(targets)]
    program, _ = compile_graph(graph, target)
    found = Native(program, target).run(inputs, expected)
    assert_all_near(op, taken, found, expected)


def in_primitives(graph, inputs):
    """The results, computed without composites and, as compiled code does, without complex numbers.
    """
    apart = to_primitives(split_complex(graph))
    assert not any(value.dtype.is_complex for value in apart.values())
    found = interpret(apart, [as_pairs(a) if np.iscomplexobj(a) else a for a in inputs])
    return [
        as_complex(a) if v.dtype.is_complex else a
        for v, a in zip(graph.outputs, found, strict=True)
    ]


# Primitives that are compiled for one op: what a sample of more is left to the other tests.
BUDGET = 700


def thinned(op, taken):
    """Every n-th sample, so that all of them together are no more than the budget."""
    total = len(taken)
    if not op.is_primitive or op.complex:
        first = {dtype.is_complex: sample for dtype, sample in reversed(taken)}
        sizes = {
            kind: len(to_primitives(split_complex(graph_of(op, [sample])[0])).nodes)
            for kind, sample in first.items()
        }
        total = sum(sizes[dtype.is_complex] for dtype, _ in taken)
    step = max(-(-total // BUDGET), 1)
    return taken[::step]


@pytest.mark.parametrize("op", [op for op in OPS if op.effect], ids=str)
def test_bad_indices_are_reported(op):
    """By the interpreter as an error, by compiled code as the number of the failed check."""
    for dtype, sample in calls(op):
        operands = [np.array(a) for a in sample.operands]
        named = zip(op.operands, operands, strict=True)
        indices = [a for n, a in named if n in ("index", "target") and a.size]
        if dtype not in (ir.i64, ir.f32) or not indices:
            continue
        indices[-1].flat[-1] = 99
        sample.operands = operands
        graph, inputs = graph_of(op, [sample])
        with pytest.raises((IndexError, ValueCheckError), match="99 is out of range"):
            interpret(graph, inputs)
        program, _ = compile_graph(graph, runnable_targets()[-1])
        native = Native(program)
        native.run(inputs, [np.zeros(v.type.shape, v.dtype.numpy) for v in graph.outputs])
        assert native.status[0] == 1


def assert_all_near(op, taken, found, expected):
    count = len(op.results)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        what = f"{op.name} {taken[number // count][1]}: result {number % count}"
        tolerance = {"f64": 1e-13, "f32": 4e-6, "f16": 3e-3, "bf16": 2e-2}
        kind = ir.from_numpy(one.dtype).to_real().name
        assert_near(one, other, tolerance.get(kind, 0.0), what)
