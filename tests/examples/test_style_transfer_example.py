"""examples/style_transfer: its losses, that the picture takes on the style, files and weights."""

import numpy as np
import pytest

import braze

Image = pytest.importorskip("PIL.Image")


def pictures(tmp_path):
    """Files of a red and blue ramp, and of green noise."""
    ramp = np.linspace(0, 255, 48 * 32).reshape(32, 48).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    files = [str(tmp_path / "content.png"), str(tmp_path / "style.png")]
    Image.fromarray(np.dstack([ramp, ramp // 2, 255 - ramp])).save(files[0])
    Image.fromarray(np.dstack([noise // 4, noise, noise // 4])).save(files[1])
    return files


def small(example, monkeypatch):
    monkeypatch.setattr(example, "BLOCKS", ((8, 8), (8,), (8, 8), (8,)))


def test_a_picture_takes_on_the_style_and_goes_on_from_a_checkpoint(
    load_example, tmp_path, monkeypatch
):
    example = load_example("style_transfer")
    small(example, monkeypatch)
    content, style = pictures(tmp_path)
    saved, drawn = str(tmp_path / "state.pt"), str(tmp_path / "drawn.png")
    common = ["--content", content, "--style", style, "--size", "48", "--evaluations", "10"]
    first = example.main([*common, "--epochs", "1", "--save", saved])
    more = ["--epochs", "3", "--resume", saved, "--picture", drawn]
    second = example.main([*common, *more])
    start = example.main([*common, "--epochs", "0"])
    assert start[0] < 0.01
    assert first[1] < 0.7 * start[1] and second[1] < first[1]
    pixels = np.asarray(Image.open(drawn), float)
    assert pixels.shape == (32, 48 + 24 + 48, 3)
    green = [
        part[..., 1].mean() - part[..., [0, 2]].mean() for part in (pixels[:, :48], pixels[:, 72:])
    ]
    assert green[1] > green[0] + 30


def test_what_the_statistics_are(load_example):
    example = load_example("style_transfer")
    features = braze.randn(1, 5, 6, 7)
    mean, together = example.statistics(features)
    flat = features.numpy()[0].reshape(5, -1)
    np.testing.assert_allclose(mean.numpy(), flat.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together.numpy(), np.cov(flat, bias=True), rtol=1e-4, atol=1e-5)


def test_it_takes_torchvisions_file(load_example, tmp_path, monkeypatch):
    """Names and shapes of VGG-19's parameters, of which it needs the first ones."""
    example = load_example("style_transfer")
    widths = [64, 64, 0, 128, 128, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0]
    state, place, before = {"classifier.0.bias": braze.zeros(4096)}, 0, 3
    for width in widths:
        if width:
            state[f"features.{place}.weight"] = braze.zeros(width, before, 3, 3)
            state[f"features.{place}.bias"] = braze.zeros(width)
            before = width
        place += 2 if width else 1
    model = example.VGG("4_2")
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    assert list(model.names.values()) == ["1_1", "2_1", "3_1", "4_1", "4_2"]
    assert len(model.state_dict()) == 2 * 10 and not any(
        p.requires_grad for p in model.parameters()
    )
