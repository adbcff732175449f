"""What needs more than one call of a function: values that Braze keeps between calls, and programs
that run without Python, are on the device of the tensors."""

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
import braze.distributions as D
import braze.nn.functional as F
from braze import func, nn
from braze.autograd import functional, gradcheck, gradgradcheck
from braze.nn.utils import prune

GPU = "cuda:0"


@pytest.fixture(params=["interpret", "compile"], autouse=True)
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield
        braze.sync()


def placed(result, expected):
    assert str(result.device) == GPU
    np.testing.assert_allclose(result.detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-6)


def ramp(*shape, dtype=braze.float32):
    return braze.arange(int(np.prod(shape)), dtype=dtype).reshape(*shape) / 7 - 1


def test_a_compiled_module_gives_results_on_the_device():
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).eval()
    x = ramp(1, 3)
    expected = module(x)
    compiled = braze.compile(module.to(GPU))
    with braze.no_grad():
        for _ in range(3):
            placed(compiled(x.to(GPU)), expected)


def test_tables_that_were_made_for_the_cpu():
    x, grid = ramp(1, 1, 4, 4), ramp(1, 2, 3, 2) / 2
    wide = F.interpolate(x, scale_factor=1.5, mode="bilinear")
    found = F.grid_sample(x, grid, align_corners=False)
    for _ in range(2):
        placed(F.interpolate(x.to(GPU), scale_factor=1.5, mode="bilinear"), wide)
        placed(F.grid_sample(x.to(GPU), grid.to(GPU), align_corners=False), found)


def test_packed_sequences():
    layer = nn.GRU(2, 3)
    sequences = [ramp(n, 2) for n in (2, 4, 1)]

    def run(layer, sequences):
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
        output, state = layer(packed)
        return *nn.utils.rnn.pad_packed_sequence(output, padding_value=-1.0), state

    padded, lengths, state = run(layer, sequences)
    there = run(layer.to(GPU), [x.to(GPU) for x in sequences])
    placed(there[0], padded)
    placed(there[2], state)
    assert there[1].tolist() == lengths.tolist() and not there[1].is_cuda


def test_numbers_of_distributions():
    scale, value = ramp(3).exp(), ramp(3)
    expected = D.Normal(0.0, scale).log_prob(value)
    there = D.Normal(0.0, scale.to(GPU))
    placed(there.log_prob(value.to(GPU)), expected)
    assert there.rsample().is_cuda and D.HalfCauchy(scale.to(GPU)).sample().is_cuda


def test_gradients_against_differences():
    x = ramp(2, 3, dtype=braze.float64).to(GPU).requires_grad_()
    before = x.tolist()
    assert gradcheck(lambda x: x.exp().sum(1), [x])
    assert x.tolist() == before
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(lambda x: x.detach() * x, [x])
    assert gradgradcheck(lambda x: x.sin() * x, [x], fast_mode=True)


def test_products_with_jacobians():
    x, v = ramp(3), ramp(3) * 2
    expected = 3 * x**2 * v
    for product in (functional.jvp, func.jvp):
        args = [x.to(GPU), v.to(GPU)] if product is functional.jvp else [(x.to(GPU),), (v.to(GPU),)]
        placed(product(lambda x: x**3, *args)[1], expected)


def test_gradients_of_transforms_after_numbers_of_other_lines():
    x = ramp(16, dtype=braze.float64)

    def derived(x):
        x = x.clone().requires_grad_()
        (x * 1.0 + 0.5).sum().backward(retain_graph=True)  # numbers that the rule below shares
        z = braze.stft(x * 2.0, 8, return_complex=True)
        (z.real**2 + z.imag**2).sum().backward()
        return x.grad

    placed(derived(x.to(GPU)), derived(x))


def test_norms_and_masks_are_beside_the_weight():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3, device=GPU))
    assert layer(ramp(2, 4).to(GPU)).is_cuda
    pruned = prune.random_structured(nn.Linear(4, 3, device=GPU), "weight", 1, dim=1)
    assert int((pruned.weight == 0).all(0).sum()) == 1


def test_lazy_modules_of_a_gpu_change_their_dtype():
    layer = nn.LazyBatchNorm1d(device=GPU).double()
    result = layer(braze.ones(4, 3, dtype=braze.float64, device=GPU))
    assert (result.dtype, str(result.device)) == (braze.float64, GPU)
