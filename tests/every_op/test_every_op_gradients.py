"""Every gradient rule of the table: first and second derivatives against small steps in f64; the
same gradients in narrower floats, and compiled."""

import numpy as np
import pytest
from composites import to_primitives
from gradients import backward, gradcheck_op
from native import Native, runnable_targets
from op_oracles_optimizers import OPTIMIZER_STEPS
from op_samples import accepted
from op_samples_complex import TWINS
from test_every_op_values import BUDGET, OF_REAL_NUMBERS, OPS, assert_near

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.op import Op
from braze.ir.ops.host_rules import adjoint
from braze.passes import compile_graph
from braze.passes.split_complex import split_complex

DIFFERENTIABLE = [op for op in OPS if op.differentiable]
LARGEST = 40  # elements of a sample whose derivatives are checked
# Ops whose gradients are right but cannot be derived again, and why.
NOT_TWICE: dict[str, str] = {}
# Float operands without a gradient; all of an op's where none is named.
NOT_AT_ALL = {
    "nll_loss_weighted.weight": "as in PyTorch",
    "cross_entropy_weighted.weight": "as in PyTorch",
    "cross_entropy_weighted_grad.weight": "as in PyTorch",
    "nan_to_num.nan nan_to_num.above nan_to_num.below": "numbers at the front end",
    "zeta.s": "as in PyTorch: it has no closed form",
    "bernoulli": "a draw",
    "heaviside": "as in PyTorch",
    "nextafter": "as in PyTorch",
    "floor_divide": "a step of div_floor, which has one",
    "bitcast": "bits are no numbers",
    "igamma.a igammac.a": "as in PyTorch",
    "pstrf": "as in PyTorch",
    "geqrf": "as in PyTorch; qr has one",
    " ".join(OPTIMIZER_STEPS): "updates are not recorded",
    "cumsum_ends cumprod_ends cummax_ends cummin_ends": "made after differentiation",
    "resample.weights resample.back_weights": "made of sizes at the front end",
    "fractional_max_pool.samples": "as in PyTorch",
    "cumsum_from cumprod_from cummax_from cummin_from": "made after differentiation",
}


def smooth(op: Op, dtype: ir.DType):
    """The small samples with derivatives, whose float results have the dtype."""
    found = []
    for sample in accepted(op, dtype) or ():
        results = op.result_types(sample.types, sample.attributes)
        kinds = [t.dtype for t in results if t.dtype.is_differentiable]
        numbers = sum(np.asarray(a).size for a in sample.operands) * (1 + dtype.is_complex)
        fits = kinds and kinds[0].to_real() is dtype.to_real()
        if sample.gradients and numbers <= LARGEST and fits:
            found.append(sample)
    return found


def symmetric(b, values):
    """x + x^H in place of x, for gradients that hold for hermitian matrices only."""
    (x,) = values
    return [b.mul(b.add(x, adjoint(b, x)), 0.5)]


def weighted(b, columns):
    """Each of the columns of matrices times another number."""
    size = columns.type.shape[-1]
    factors = b.add(b.iota(shape=(size,), dim=0, dtype=columns.dtype.to_real()), 1.0)
    return b.mul(columns, b.cast(factors, dtype=columns.dtype))


def projections(b, results):
    """Of eigenvectors, what does not depend on their complex factors."""
    values, vectors = results
    return [values, b.matmul(weighted(b, vectors), adjoint(b, vectors))]


def singular_projections(b, results):
    u, s, vh = results
    return [s, b.matmul(weighted(b, u), vh)]


PREPARED = {"cholesky": symmetric, "eigh": symmetric}
# Vectors that are unique up to a complex factor of modulus 1.
FINISHED = {"eigh": projections, "svd": singular_projections, "eig": projections}


def finished(b, op, results):
    """What is derived of a node's results."""
    phased = op.name == "eig" or any(v.dtype.is_complex for v in results)
    return FINISHED[op.name](b, results) if phased and op.name in FINISHED else results


def test_float_operands_without_a_gradient_are_named():
    """Of ops with float or complex results."""
    named = {name for names in NOT_AT_ALL for name in names.split()}
    found = set()
    for op in OPS:
        if op.name in TWINS:  # made after differentiation
            continue
        for sample in [*(accepted(op, ir.f64) or ()), *(accepted(op, ir.c128) or ())]:
            results = op.result_types(sample.types, sample.attributes)
            if any(t.dtype.is_differentiable for t in results):
                found |= {
                    f"{op.name}.{op.operand_name(i)}" if op.differentiable else op.name
                    for i, t in enumerate(sample.types)
                    if t.dtype.is_differentiable and op.gradient(i) is None
                }
    assert found == named


# Random numbers whose derivative keeps their quantile and not their bits; see test_distributions.
AT_A_QUANTILE = {"standard_gamma"}


@pytest.mark.parametrize(
    "op", [op for op in DIFFERENTIABLE if op.name not in AT_A_QUANTILE], ids=str
)
def test_derivatives(op):
    found = [(ir.f64, s) for s in smooth(op, ir.f64)]
    if op.complex:
        found += [(ir.c128, s) for s in smooth(op, ir.c128)]
        assert op.name in OF_REAL_NUMBERS or found[-1][0] is ir.c128
    assert found
    for _, sample in found:
        gradcheck_op(
            op,
            sample.operands,
            sample.attributes,
            second=op.name not in NOT_TWICE,
            tolerance=2e-6,
            prepare=PREPARED.get(op.name),
            finish=lambda b, results: finished(b, op, results),
        )


def derived(op, samples, dtype=None):
    """A graph of the samples' gradients, its inputs, and what each output is.

    Args:
        dtype: instead of the float operands' own.
    """
    generator = np.random.default_rng(3)
    b = ir.Builder(f"{op.name}_gradients")
    inputs, outputs, what = [], [], []

    def given(array):
        array = np.asarray(array)
        own = ir.from_numpy(array.dtype)
        if dtype is not None and own.is_differentiable:
            array = array.astype((dtype.to_complex() if own.is_complex else dtype).numpy)
        inputs.append(array)
        return b.input(ir.tensor_type(ir.from_numpy(array.dtype), array.shape))

    for sample in samples:
        values = [given(a) for a in sample.operands]
        node = b.emit(op, values, sample.attributes)
        flowing = {}
        types = op.result_types(sample.types, sample.attributes)
        part = next(t.dtype.to_real() for t in types if t.dtype.is_differentiable)
        for result in finished(b, op, node.results):
            if result.dtype.is_differentiable:
                # Of the narrow dtype's precision, in the wide graph too.
                kind = part.to_complex() if result.dtype.is_complex else part
                weights = generator.uniform(0.5, 1.5, result.shape).astype(kind.numpy)
                flowing[result] = given(np.asarray(weights))
        wanted = [
            (i, v)
            for i, v in enumerate(values)
            if op.gradient(i) is not None and v.dtype.is_differentiable
        ]
        for (i, value), gradient in zip(
            wanted, backward(b, flowing, [v for _, v in wanted]), strict=True
        ):
            assert gradient is not None
            assert gradient.type == value.type, f"{op.name} {sample}: operand {i}"
            outputs.append(gradient)
            what.append(f"{op.name} {sample}: operand {i}")
    return b.finish(outputs), inputs, what


LOOSE = {"f32": 3e-5, "f16": 2e-2, "bf16": 0.15, "c64": 3e-5}


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=str)
def test_gradients_in_every_dtype(op):
    """They have the operand's dtype, and are those of f64 or c128 up to rounding."""
    for dtype in (ir.f32, ir.f16, ir.bf16, ir.c64):
        for sample in smooth(op, dtype):
            graph, inputs, what = derived(op, [sample])
            wide, arrays, _ = derived(op, [sample], ir.f64)
            expected = interpret(wide, arrays)
            for name, one, other in zip(what, interpret(graph, inputs), expected, strict=True):
                assert_near(one, other.astype(one.dtype), LOOSE[dtype.name], name)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=str)
def test_compiled_gradients(op):
    dtypes = [d for d in ir.dtypes.FLOATS if accepted(op, d)]
    complexes = ir.dtypes.COMPLEX if op.complex and accepted(op, ir.c64) else ()
    chosen = {ir.f32, *dtypes[len(op.name) % max(len(dtypes), 1) :][:1]}
    for dtype in [*chosen, *complexes[len(op.name) % 2 :][:1]]:
        samples = smooth(op, dtype)
        if not samples:
            continue
        size = len(to_primitives(split_complex(derived(op, samples[:1])[0])).nodes)
        step = max(-(-size * len(samples) // (BUDGET // 3)), 1)
        graph, inputs, what = derived(op, samples[::step])
        expected = interpret(graph, inputs)
        targets = runnable_targets()
        target = targets[(len(op.name) + 1) % len(targets)]
        found = Native(compile_graph(graph, target)[0], target).run(inputs, expected)
        tolerance = {"f64": 1e-12, "f32": 2e-5, "f16": 1e-2, "bf16": 6e-2}[dtype.to_real().name]
        for name, one, other in zip(what, found, expected, strict=True):
            assert_near(one, other, tolerance, name)
