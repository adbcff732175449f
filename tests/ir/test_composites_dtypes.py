"""Every differentiable composite in every float dtype: the types of its results and gradients."""

import numpy as np
import pytest
from composites import to_primitives
from gradients import backward

import braze.ir as ir
from braze.ir.interpreter import interpret

CONV = {"stride": (1, 2), "padding": (1, 0), "dilation": (1, 1), "groups": 2}
POOL = {"kernel": (2, 2), "stride": (1, 2), "padding": (0, 1)}
TAPS = {**POOL, "dilation": (1, 1)}
OVER = {"dims": (1,), "keepdim": False}
PICK = {"reduction": "mean", "ignore_index": -100}
SMOOTH = {**PICK, "label_smoothing": 0.1}
AVERAGE = {**POOL, "ceil_mode": True, "count_include_pad": False}
X, IMAGE, CLASS = (3, 4), (2, 4, 4, 5), ("i64", 3)
TAP = ("u8", 2, 4, 3, 3)

# Shapes of the operands (those not of the float dtype under test begin with a dtype), attributes.
SAMPLES = {
    "relu": ([X], {}),
    "leaky_relu": ([X], {"slope": 0.1}),
    "elu": ([X], {"alpha": 1.0}),
    "hardtanh": ([X], {"low": -1.0, "high": 1.0}),
    "hardshrink": ([X], {"lambd": 0.25}),
    "softshrink": ([X], {"lambd": 0.25}),
    "threshold": ([X], {"limit": 0.25, "value": -1.0}),
    "celu": ([X], {"alpha": 2.0}),
    "sigmoid": ([X], {}),
    "silu": ([X], {}),
    "gelu": ([X], {"approximate": "tanh"}),
    "softplus": ([X], {"beta": 1.0, "threshold": 20.0}),
    "log_sigmoid": ([X], {}),
    "square": ([X], {}),
    "rsqrt": ([X], {}),
    "reciprocal": ([X], {}),
    "exp2": ([X], {}),
    "log2": ([X], {}),
    "log10": ([X], {}),
    "sinh": ([X], {}),
    "cosh": ([X], {}),
    "tan": ([X], {}),
    "asin": ([X], {}),
    "acos": ([X], {}),
    "erfc": ([X], {}),
    "asinh": ([X], {}),
    "acosh": ([("above 1", 3, 4)], {}),
    "atanh": ([X], {}),
    "frac": ([X], {}),
    "sinc": ([X], {}),
    "logit": ([X], {"eps": 0.01}),
    "entr": ([X], {}),
    "fmod": ([X, (4,)], {}),
    "div_floor": ([X, (4,)], {}),
    "div_trunc": ([X, (4,)], {}),
    "copysign": ([X, (4,)], {}),
    "fmax": ([X, (4,)], {}),
    "fmin": ([X, (4,)], {}),
    "hypot": ([X, (4,)], {}),
    "logaddexp": ([X, (4,)], {}),
    "logaddexp2": ([X, (4,)], {}),
    "xlogy": ([X, (4,)], {}),
    "xlog1py": ([X, (4,)], {}),
    "nan_to_num": ([X, (), (), ()], {}),
    "lerp": ([X, X, ()], {}),
    "erfinv": ([X], {}),
    "ndtri": ([X], {}),
    "erfcx": ([X], {}),
    "ndtr": ([X], {}),
    "log_ndtr": ([X], {}),
    "lgamma": ([X], {}),
    "digamma": ([X], {}),
    "polygamma": ([X], {"n": 2}),
    "zeta": ([("above 1", 3, 4), X], {}),
    "i0": ([X], {}),
    "i0e": ([X], {}),
    "i1": ([X], {}),
    "i1e": ([X], {}),
    "igamma": ([X, (4,)], {}),
    "igammac": ([X, (4,)], {}),
    "frexp": ([X], {}),
    "poisson": ([X, ("i64",), ("i64",)], {}),
    "binomial": ([X, (4,), ("i64",), ("i64",)], {}),
    "clamp": ([X, (), (4,)], {}),
    "clamp_min": ([X, ()], {}),
    "clamp_max": ([X, ()], {}),
    "sum_to_shape": ([X], {"shape": (1, 4)}),
    "select": ([X], {"dim": 1, "index": 2}),
    "stack": ([X, X], {"dim": 1}),
    "masked_fill": ([X, ("bool", 3, 4)], {"value": 0.0}),
    "tril": ([X], {"diagonal": 0}),
    "triu": ([X], {"diagonal": 0}),
    "diagonal": ([X], {"offset": 1, "dim1": 0, "dim2": 1}),
    "diag_embed": ([(3,)], {"offset": 1, "dim1": 0, "dim2": 1, "rows": 3, "columns": 4}),
    "matmul": ([X, (2, 4, 3)], {}),
    "mm": ([X, (4, 2)], {}),
    "bmm": ([(2, 3, 4), (2, 4, 2)], {}),
    "mv": ([X, (4,)], {}),
    "dot": ([(4,), (4,)], {}),
    "outer": ([(3,), (4,)], {}),
    "addmm": ([(2,), X, (4, 2)], {}),
    "linear": ([X, (2, 4), (2,)], {}),
    "linear_no_bias": ([X, (2, 4)], {}),
    "conv": ([IMAGE, (6, 2, 3, 2), (6,)], CONV),
    "conv_no_bias": ([IMAGE, (6, 2, 3, 2)], CONV),
    "conv_input_grad": ([(2, 6, 4, 2), (6, 2, 3, 2)], {"input_size": (4, 5), **CONV}),
    "conv_weight_grad": ([IMAGE, (2, 6, 4, 2)], {"kernel": (3, 2), **CONV}),
    "conv_transpose": ([(2, 6, 4, 2), (6, 2, 3, 2)], {"output_padding": (0, 1), **CONV}),
    "max_pool": ([IMAGE], {**TAPS, "ceil_mode": False}),
    "max_pool_grad": ([(2, 4, 3, 3), TAP], {"input_size": (4, 5), **TAPS}),
    "max_pool_pick": ([IMAGE, TAP], TAPS),
    "avg_pool": ([IMAGE], AVERAGE),
    "avg_pool_grad": ([(2, 4, 3, 3)], {"input_size": (4, 5), **AVERAGE}),
    "adaptive_avg_pool": ([IMAGE], {"output": (2, 2)}),
    "adaptive_avg_pool_grad": ([(2, 4, 2, 2)], {"input_size": (4, 5)}),
    "mean": ([X], OVER),
    "var": ([X], {**OVER, "correction": 1}),
    "std": ([X], {**OVER, "correction": 1}),
    "logsumexp": ([X], OVER),
    "logcumsumexp": ([X], {"dim": 1}),
    "softmax": ([X], {"dim": 1}),
    "log_softmax": ([X], {"dim": 1}),
    "norm": ([X], {**OVER, "p": 3.0}),
    "max_with_index": ([X], {"dim": 1, "keepdim": False}),
    "min_with_index": ([X], {"dim": 1, "keepdim": False}),
    "batch_norm_train": ([X, (4,), (4,)], {"epsilon": 1e-3}),
    "batch_norm_eval": ([X, (4,), (4,), (4,), (4,)], {"epsilon": 1e-3}),
    "layer_norm": ([X, (4,), (4,)], {"dims": 1, "epsilon": 1e-3}),
    "group_norm": ([X, (4,), (4,)], {"groups": 2, "epsilon": 1e-3}),
    "nll_loss": ([X, CLASS], PICK),
    "nll_loss_weighted": ([X, CLASS, (4,)], PICK),
    "cross_entropy": ([X, CLASS], SMOOTH),
    "cross_entropy_grad": ([(), X, CLASS], SMOOTH),
    "cross_entropy_weighted": ([X, CLASS, (4,)], SMOOTH),
    "cross_entropy_weighted_grad": ([(), X, CLASS, (4,)], SMOOTH),
    "mse_loss": ([X, X], {"reduction": "mean"}),
    "l1_loss": ([X, X], {"reduction": "mean"}),
    "smooth_l1_loss": ([X, X], {"reduction": "mean", "beta": 1.0}),
    "binary_cross_entropy": ([X, X], {"reduction": "mean"}),
    "bce_with_logits": ([X, X], {"reduction": "mean"}),
    "dropout": ([X, ("i64",), ("i64",)], {"p": 0.3}),
}
COMPOSITES = [op.name for op in ir.all_ops() if not op.is_primitive and op.differentiable]


def array(spec, dtype, generator):
    if spec and spec[0] == "above 1":
        return (array(spec[1:], dtype, generator) + 1).astype(dtype.numpy)
    if spec and isinstance(spec[0], str):
        other, *shape = spec
        return generator.integers(0, 2, shape).astype(ir.dtypes.dtype_named(other).numpy)
    # Values that all dtypes hold exactly, inside every domain.
    values = generator.permutation(np.arange(1, 1 + int(np.prod(spec)))) % 97 / 128 + 0.125
    return values.reshape(spec).astype(dtype.numpy)


def results_and_gradients(name, dtype):
    specs, attributes = SAMPLES[name]
    op, generator = ir.op_named(name), np.random.default_rng(0)
    arrays = [np.asarray(array(spec, dtype, generator)) for spec in specs]
    b = ir.Builder(name)
    values = [b.input(ir.tensor_type(ir.from_numpy(a.dtype), a.shape)) for a in arrays]
    node = b.emit(op, values, attributes)
    flowing = {
        r: b.full(shape=r.shape, value=1.0, dtype=r.dtype)
        for r in node.results
        if r.dtype.is_floating_point
    }
    wanted = [
        value
        for position, value in enumerate(values)
        if op.gradient(position) is not None and value.dtype.is_floating_point
    ]
    gradients = backward(b, flowing, wanted)
    for value, gradient in zip(wanted, gradients, strict=True):
        assert gradient.type == value.type
    outputs = [*flowing, *gradients]
    return interpret(to_primitives(b.finish(outputs)), arrays), node.results


@pytest.mark.parametrize("name", COMPOSITES)
def test_results_and_gradients_keep_their_dtypes(name):
    exact, _ = results_and_gradients(name, ir.f64)
    for dtype, tolerance in ((ir.f32, 1e-4), (ir.f16, 0.06), (ir.bf16, 0.4)):
        found, results = results_and_gradients(name, dtype)
        assert results[0].dtype is dtype or not results[0].dtype.is_floating_point
        for a, e in zip(found, exact, strict=True):
            scale = np.abs(e).max(initial=1.0)
            error = np.abs(a.astype(np.float64) - e).max(initial=0.0)
            assert error <= tolerance * scale, f"{dtype}: {error} of {scale}"


def test_every_differentiable_composite_has_a_sample():
    assert set(COMPOSITES) == set(SAMPLES)
