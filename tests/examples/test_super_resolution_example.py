"""examples/super_resolution: it beats interpolation, what it measures, and checkpoints."""

import numpy as np
import pytest

import braze

pytest.importorskip("skimage")
pytest.importorskip("PIL")


def test_it_beats_interpolation_and_goes_on_from_a_checkpoint(load_example, tmp_path, monkeypatch):
    from PIL import Image

    example = load_example("super_resolution")
    monkeypatch.setattr(example, "TESTING", ["coffee.png"])
    monkeypatch.setattr(example, "TRAINING", ["rocket.jpg", "camera.png"])
    saved, drawn, large = (str(tmp_path / name) for name in ("model.pt", "sheet.png", "large.png"))
    common = ["--steps", "50", "--batch-size", "8", "--patch", "16", "--save", saved]
    ((bicubic, first),) = example.main([*common, "--epochs", "1"])
    assert first > bicubic + 0.05
    more = ["--epochs", "2", "--resume", saved, "--picture", drawn, "--seed", "2"]
    ((_, second),) = example.main([*common, *more])
    assert second > first and braze.load(saved)["epoch"] == 2
    assert Image.open(drawn).size == (600, 150)
    small = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12))
    small.save(tmp_path / "small.png")
    assert (
        example.main(["--resume", saved, "--enlarge", str(tmp_path / "small.png"), large]) is None
    )
    assert Image.open(large).size == (36, 30)


def test_the_ratio_is_scikit_images(load_example):
    from skimage.metrics import peak_signal_noise_ratio

    example = load_example("super_resolution")
    ours, original = np.random.default_rng(0).integers(0, 256, (2, 20, 30), np.uint8)
    expected = peak_signal_noise_ratio(original[2:-2, 2:-2], ours[2:-2, 2:-2])
    assert example.psnr(ours, original, 2) == pytest.approx(expected)


def test_a_patch_and_its_small_one_show_the_same(load_example):
    example = load_example("super_resolution")
    small = np.random.default_rng(0).integers(0, 256, (20, 31), np.uint8)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    random = np.random.default_rng(1)
    smalls, larges = example.patches([(large, small)], 16, 8, 2, random)
    assert smalls.shape == (16, 1, 8, 8) and larges.shape == (16, 1, 16, 16)
    np.testing.assert_array_equal(larges, smalls.repeat(2, axis=2).repeat(2, axis=3))
    assert len({patch.tobytes() for patch in smalls}) == 16
