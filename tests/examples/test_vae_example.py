"""examples/vae: its bound, that it learns, its picture, and checkpoints."""

import numpy as np
import pytest

import braze
from braze.distributions import Bernoulli, Normal, kl_divergence


def test_the_bound_is_that_of_the_distributions(load_example):
    example = load_example("vae")
    logits, x = braze.randn(5, 784), braze.rand(5, 784).round()
    mean, logvar = braze.randn(5, 20), braze.randn(5, 20)
    posterior = Normal(mean, (0.5 * logvar).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum()
    expected = expected - Bernoulli(logits=logits).log_prob(x).sum()
    bound = example.negative_elbo(logits, x, mean, logvar)
    np.testing.assert_allclose(bound.item(), expected.item(), rtol=1e-5)


def test_it_learns_draws_and_goes_on_from_a_checkpoint(load_example, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    example = load_example("vae")
    saved, drawn = str(tmp_path / "model.pt"), str(tmp_path / "samples.png")
    first = example.main(["--limit", "3000", "--epochs", "1", "--save", saved])
    assert first < 230  # at the start it is over 540
    second = example.main(
        ["--limit", "3000", "--epochs", "2", "--resume", saved, "--picture", drawn]
    )
    assert second < first - 5
    pixels = image.imread(drawn)
    assert pixels.shape[:2] == (8 * 28, 16 * 28) and pixels[..., 0].std() > 0.1
