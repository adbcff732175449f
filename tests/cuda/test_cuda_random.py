"""The random streams of GPUs: taken back where a program asks for the same numbers again."""

import cuda_device  # noqa: F401  (comes before PyCUDA)
import numpy as np
import pytest

import braze
from braze import nn
from braze.functions.random_numbers import OfGpus
from braze.utils.checkpoint import checkpoint


@pytest.mark.parametrize("is_new", [False, True])
def test_a_checkpoint_draws_the_same_mask_again(monkeypatch, is_new):
    """Also where the part is the first that draws on this GPU."""
    if is_new:
        monkeypatch.setattr(OfGpus, "streams", {})
    x = braze.ones(200, device="cuda", requires_grad=True)
    if not is_new:
        braze.rand(3, device="cuda")
    y = checkpoint(lambda x: nn.functional.dropout(x * x, 0.5), x)
    mask = y.detach().cpu().numpy() != 0
    later = braze.cuda.get_rng_state()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.cpu().numpy() != 0, mask)
    assert 60 < mask.sum() < 140
    assert braze.cuda.get_rng_state().tolist() == later.tolist()


def test_forked_streams_go_back():
    states = braze.cuda.get_rng_state_all()
    with braze.random.fork_rng():
        for place in ("cpu", "cuda:0", "cuda:1"):
            braze.rand(5, device=place)
    assert [s.tolist() for s in braze.cuda.get_rng_state_all()] == [s.tolist() for s in states]
    with braze.random.fork_rng(devices=["cuda:1"]):
        for place in ("cuda:0", "cuda:1"):
            braze.rand(5, device=place)
    first, second, *_ = braze.cuda.get_rng_state_all()
    assert first.tolist() != states[0].tolist() and second.tolist() == states[1].tolist()


def test_a_module_without_first_values_draws_no_numbers():
    before = braze.cuda.get_rng_state().tolist()
    with braze.device("cuda"):
        nn.utils.skip_init(nn.Linear, 5, 2)
    assert braze.cuda.get_rng_state().tolist() == before
