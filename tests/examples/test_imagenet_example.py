"""examples/imagenet: its networks, its pictures, that it learns, checkpoints, and evaluation."""

import functools
import random

import numpy as np
import pytest

import braze

Image = pytest.importorskip("PIL.Image")
# What torchvision's networks of these names have, with 1000 classes.
PARAMETERS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_the_networks_are_those_of_the_paper(load_example, name, count):
    example = load_example("imagenet")
    model = example.ResNet(*example.ARCHITECTURES[name], 1000)
    assert sum(p.numel() for p in model.parameters()) == count
    names = model.state_dict()
    last = "bn3" if name == "resnet50" else "bn2"
    for key in ("conv1.weight", f"layer4.1.{last}.running_var", "layer2.0.downsample.1.bias"):
        assert key in names
    assert len(names["fc.bias"]) == 1000


def test_pictures_are_cut_out_and_mirrored(load_example, tmp_path):
    example = load_example("imagenet")
    ramp = np.arange(64, dtype=np.uint8)[None].repeat(48, axis=0)
    for name in ("b/deeper/one.png", "a/two.PNG", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("txt"):
            Image.fromarray(np.dstack([ramp, ramp + 100, ramp])).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    middle = example.Pictures(tmp_path, 42)
    assert middle.classes == ["a", "b"] and [number for _, number in middle.files] == [0, 1]
    pixels, number = middle[1]
    assert number == 1 and pixels.shape == (3, 42, 42) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0, 5], np.arange(11, 53))  # 7/8 of 48 pixels, unscaled
    random.seed(0)
    cut = example.Pictures(tmp_path, 16, crop=0.2, flip=0.5)
    rows = [cut[0][0][1, 3].astype(int) - 100 for _ in range(40)]
    steps = [np.diff(row).mean() for row in rows]
    assert 10 < sum(step < 0 for step in steps) < 30  # mirrored
    widths = np.abs(steps) * 16
    assert 18 < widths.min() < 30 and 45 < widths.max() < 65
    for _ in range(50):
        left, top, right, bottom = cut.random_box(64, 48)
        assert 0 <= left < right <= 64 and 0 <= top < bottom <= 48
        assert (right - left) * (bottom - top) > 0.199 * 64 * 48


def test_rates_rise_and_fall(load_example):
    rates = [load_example("imagenet").rate(100, 10)(step) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11) and rates[10] == 1 and rates[100] == pytest.approx(0)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_it_learns_goes_on_from_a_checkpoint_and_only_tests(
    load_example, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("matplotlib")
    example = load_example("imagenet")
    # Instead of a network that takes seconds to compile.
    monkeypatch.setitem(example.ARCHITECTURES, "resnet18", ((1, 1, 1, 1), False))
    monkeypatch.setattr(example, "ResNet", functools.partial(example.ResNet, width=16))
    folder = tmp_path / "digits"
    example.make_pictures(folder, count=800)
    assert len(list(folder.glob("val/*/*.png"))) == 160 and not list(tmp_path.glob("*unfinished"))
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "plot.png"
    common = ["--data", str(folder), "--size", "24", "--batch-size", "32", "--workers", "0"]
    first = example.main([*common, "--epochs", "1", "--save", saved, "--warmup", "0.5"])
    more = ["--epochs", "3", "--resume", saved, "--save", saved, "--plot", str(drawn)]
    second = example.main([*common, *more])
    assert second > max(0.5, first) and drawn.read_bytes().startswith(b"\x89PNG")
    assert len(braze.load(saved)["history"]) == 3
    capsys.readouterr()
    assert example.main([*common, "--resume", saved, "--evaluate"]) == pytest.approx(second)
    assert capsys.readouterr().out.startswith("test accuracy")
    with pytest.raises(SystemExit):
        example.main([*common, "--resume", saved, "--arch", "resnet34"])
    assert "is of a resnet18" in capsys.readouterr().err
