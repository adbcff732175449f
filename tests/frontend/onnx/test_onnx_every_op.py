"""Every operation of the IR, over the operands that the other tests of operations have: what is
written as ONNX means the same to ONNX Runtime and to Braze, or is refused."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper  # noqa: E402
from op_samples import accepted  # noqa: E402

import braze  # noqa: E402
import braze.ir as ir  # noqa: E402
import braze.onnx  # noqa: E402
from braze.ir.interpreter import interpret  # noqa: E402
from braze.onnx.exporting.emitting import written  # noqa: E402

pytestmark = pytest.mark.usefixtures("interpret")
OPSET = 18

# What has no counterpart in ONNX, for no operands at all or not with all results.
REFUSED = {
    "random numbers": "random_bits uniform normal exponential randint poisson binomial bernoulli "
    "dropout multinomial standard_gamma attention_dropout attention_masked_dropout",
    "gradients of one operation": "attention_grad attention_masked_grad attention_dropout_grad "
    "attention_masked_dropout_grad unwindow rnn_sequence_grad lstm_sequence_grad "
    "projected_lstm_sequence_grad gru_sequence_grad cofactor max_pool_grad col2im "
    "linear_recurrence",
    "complex numbers": "cast complex view_as_complex fft_pairs rfft rfft_pairs irfft_pairs",
    "bits of numbers": "bitcast signbit copysign nextafter frexp",
    "LAPACK": "cholesky qr eigh svd eig lu_factor lu_permutation matrix_exp pstrf geqrf orgqr "
    "ormqr inverse solve triangular_solve pinv slogdet",
    "of complex numbers": "cholesky_pairs qr_pairs eigh_pairs svd_pairs eig_pairs lu_factor_pairs "
    "matrix_exp_pairs geqrf_pairs orgqr_pairs ormqr_pairs inverse_pairs solve_pairs "
    "triangular_solve_pairs pinv_pairs slogdet_pairs det_pairs cofactor_pairs",
    "results that ONNX's operators do not have": "max_pool lstm_sequence gru_sequence "
    "projected_lstm_sequence",
    "scans": "cummax cummin logcumsumexp cumsum_ends cumsum_from cumprod_ends cumprod_from "
    "cummax_ends cummax_from cummin_ends cummin_from lattice_sum lattice_logsum",
    "others": "gcd lcm as_strided checked checked_pairs to_device",
}
NAMES = {name for names in REFUSED.values() for name in names.split()}

# What ONNX Runtime makes of them is not what ONNX says.
RUNTIME = {
    "mean": "of nothing it gives 0, not nan",
    "contract": "operands without elements end the process",
}
# The operation itself says nothing of an index outside, which a check before it refuses.
CHECKED_BEFORE = set(
    "take_along scatter scatter_add scatter_reduce index_add index_put take".split()
)
OPS = [op for op in ir.all_ops() if op.category != "fusion" and not op.is_collective]


def usable(op, sample):
    """Whether the operation says what the result is."""
    operands = [np.asarray(x) for x in sample.operands]
    if sample.edges or not op.results:
        return False
    if op.name in CHECKED_BEFORE:
        inside = operands[0].shape[sample.attributes["dim"]] if operands[0].ndim else 1
        return all(((x >= 0) & (x < inside)).all() for x in operands[1:2]) and operands[0].size > 0
    if op.is_attention and not all(x.size for x in operands[:3]):
        return False  # of no keys, `lse` is infinite, for its gradient
    divides = op.name in ("fmod", "div_floor", "div_trunc", "floor_divide", "remainder")
    return not (divides and operands[1].dtype.kind in "iu" and (operands[1] == 0).any())


def model_of(op, sample):
    b = ir.Builder(op.name)
    operands = [b.input(t) for t in sample.types]
    graph = b.finish(b.emit(op, operands, sample.attributes).results)
    proto = helper.make_model(
        written(graph, OPSET),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=helper.OP_SET_ID_VERSION_MAP[("ai.onnx", OPSET)],
    )
    return graph, proto


def assert_same(found, wanted, what):
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype and f.shape == w.shape, what
        if w.dtype.kind == "f":
            finite = np.abs(w[np.isfinite(w)]).max(initial=1.0)
            np.testing.assert_allclose(f, w, 3e-5, 3e-5 * min(finite, 1e3), err_msg=what)
        else:
            np.testing.assert_array_equal(f, w, err_msg=what)


@pytest.mark.parametrize("dtype", [ir.f32, ir.i64, ir.bool_], ids=str)
@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_means_the_same(op, dtype):
    samples = [s for s in accepted(op, dtype) or () if usable(op, s)]
    if not samples:
        pytest.skip("takes no such operands")
    refused = 0
    for sample in samples:
        what = f"{op.name} {sample}"
        inputs = [np.asarray(x) for x in sample.operands]
        try:
            graph, proto = model_of(op, sample)
        except (braze.onnx.UnsupportedOperatorError, NotImplementedError):
            refused += 1
            continue
        try:
            onnx.checker.check_model(proto, full_check=True)
        except onnx.shape_inference.InferenceError:  # which `export` reports
            assert (
                dtype is ir.bool_
                or any(0 in x.shape for x in inputs)
                or op.name
                in (
                    "isnan",
                    "isinf",
                )
            ), what
            continue
        expected = interpret(graph, inputs)
        results = braze.onnx.load(proto)(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        assert_same([r.detach().numpy() for r in results], expected, what)
        # ONNX Runtime gives no arrays of bf16.
        narrow = sample.attributes.get("dtype") is ir.bf16
        if dtype is ir.f32 and op.name not in RUNTIME and not narrow:
            assert_same(in_runtime(proto, inputs), expected, what)
    if refused:
        assert op.name in NAMES
    elif dtype is ir.f32:
        assert op.name not in NAMES


def in_runtime(proto, inputs):
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(4)
    content = proto.SerializeToString()
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented:
        pytest.skip("ONNX Runtime lacks a kernel")
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))
