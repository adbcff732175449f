"""Products of f32 on tensor cores, rounded to TF32, where the program allows it."""

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
from braze.ir.target import TF32_CAPABILITY, named_target
from braze.nn import functional as F
from braze.runtime.cuda.precision import target_for

MATMUL, CUDNN = braze.backends.cuda.matmul, braze.backends.cudnn
TENSOR_CORES = "Tensor<float, "

pytestmark = pytest.mark.skipif(
    braze.cuda.get_device_capability(0)[0] * 10 < TF32_CAPABILITY, reason="needs sm_80"
)


@pytest.fixture(autouse=True)
def settings():
    with braze.config.using(matmul_precision="highest", convolution_tf32=True):
        yield


def source_of(function, *args):
    return str(braze.inspect(function, *args))


def error_of(found, exact):
    return np.abs(np.asarray(found.cpu()) - exact).max() / np.abs(exact).max()


def test_products_are_rounded_while_it_is_allowed():
    braze.manual_seed(0)
    x, y = braze.randn(256, 256), braze.randn(256, 256)
    on_gpu = x.cuda(), y.cuda()
    exact = x.numpy().astype("f8") @ y.numpy().astype("f8")

    def error(given):
        return error_of(braze.matmul(*given), exact)

    assert TENSOR_CORES not in source_of(braze.matmul, *on_gpu)
    assert error(on_gpu) < 1e-6
    MATMUL.allow_tf32 = True
    assert TENSOR_CORES in source_of(braze.matmul, *on_gpu)
    # The same lines again: code that is in memory, and its families, were made for the other.
    assert 1e-5 < error(on_gpu) < 2e-3
    assert error((x, y)) < 1e-6  # of the CPU
    MATMUL.allow_tf32 = False
    assert TENSOR_CORES not in source_of(braze.matmul, *on_gpu)
    assert error(on_gpu) < 1e-6


def test_compiled_code_is_told_apart_by_what_is_allowed(tmp_path):
    x = braze.randn(64, 64, device="cuda")
    x.tolist()

    def compiles():
        before = braze.stats.compiles
        (x @ x).tolist()
        return braze.stats.compiles - before

    with braze.config.using(cache_dir=str(tmp_path)):
        assert compiles() == 1
        assert compiles() == 0
        MATMUL.allow_tf32 = True
        assert compiles() == 1
        assert compiles() == 0
        MATMUL.allow_tf32 = False
        assert compiles() == 0


def test_a_program_with_a_convolution_is_rounded_if_both_are_allowed():
    x, w = braze.randn(2, 32, 16, 16, device="cuda"), braze.randn(32, 32, 3, 3, device="cuda")
    assert TENSOR_CORES not in source_of(F.conv2d, x, w)
    MATMUL.allow_tf32 = True
    assert TENSOR_CORES in source_of(F.conv2d, x, w)
    with CUDNN.flags(allow_tf32=False):
        assert TENSOR_CORES not in source_of(F.conv2d, x, w)
        assert TENSOR_CORES in source_of(braze.matmul, w[..., 0, 0], w[..., 1, 1])
    assert CUDNN.allow_tf32


def test_older_gpus_have_none():
    from braze import ir

    b = ir.Builder("product")
    x = b.input(ir.tensor_type(ir.f32, (64, 64)))
    graph = b.finish([b.contract(x, x, equation="mk,kn->mn")])
    MATMUL.allow_tf32 = True
    assert target_for(graph, named_target("sm_75")) == named_target("sm_75")
    assert target_for(graph, named_target("sm_86")).features == ("tf32",)
