"""examples/dcgan: its measure of quality, that the play improves the pictures, and checkpoints."""

import numpy as np
import pytest

import braze


def test_the_distance_is_that_of_the_distributions(load_example):
    linalg = pytest.importorskip("scipy.linalg")
    example = load_example("dcgan")
    random = np.random.default_rng(0)
    ours = random.normal(size=(300, 5)) @ random.normal(size=(5, 5)) + 1
    theirs = random.normal(size=(400, 5)) @ random.normal(size=(5, 5))
    c1, c2 = np.cov(ours.T), np.cov(theirs.T)
    means = ((ours.mean(0) - theirs.mean(0)) ** 2).sum()
    expected = means + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert example.frechet_distance(ours, theirs) == pytest.approx(expected)
    assert example.frechet_distance(ours, ours) == pytest.approx(0, abs=1e-9)


def test_each_network_learns_from_its_own_loss(load_example):
    """The discriminator's step leaves the generator alone, and the other way round."""
    example = load_example("dcgan")
    models = [example.generator(8, 4), example.discriminator(4)]
    optimizers = [
        braze.optim.SGD(model.parameters(), lr=rate)
        for model, rate in zip(models, (0, 1), strict=True)
    ]
    before = [[p.detach().numpy().copy() for p in model.parameters()] for model in models]
    real, noise = braze.rand(6, 1, 32, 32), braze.randn(6, 8, 1, 1)
    losses = example.step(models, optimizers, real, noise)
    new = models[0](noise)
    assert new.shape == (6, 1, 32, 32) and new.abs().max().item() <= 1
    made, judged = (
        [
            not np.array_equal(x, y.detach().numpy())
            for x, y in zip(old, m.parameters(), strict=True)
        ]
        for old, m in zip(before, models, strict=True)
    )
    assert not any(made) and all(judged)
    assert all(p.requires_grad for p in models[1].parameters())
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in models[0].parameters())
    assert np.isfinite(losses.numpy()).all()


def test_the_pictures_improve_and_it_goes_on_from_a_checkpoint(load_example, tmp_path, monkeypatch):
    image = pytest.importorskip("matplotlib.image")
    example = load_example("dcgan")
    monkeypatch.setattr(example, "CLASSIFIER_PICTURES", 4000)
    saved, drawn = str(tmp_path / "models.pt"), tmp_path / "drawn"
    common = ["--limit", "640", "--width", "16", "--batch-size", "32", "--lr", "1e-3"]
    first = example.main([*common, "--epochs", "2", "--save", saved])
    more = ["--epochs", "8", "--resume", saved, "--pictures", str(drawn), "--seed", "2"]
    last = example.main([*common, *more])
    assert last < 0.5 * first
    assert [path.name for path in sorted(drawn.iterdir())] == [
        f"epoch-{n:02}.png" for n in range(3, 9)
    ]
    pixels = image.imread(drawn / "epoch-08.png")[..., 0]
    assert pixels.shape == (256, 512) and pixels.std() > 0.1
