"""examples/mnist: the program as it stands, its data, its progress line, and that it learns."""

import gzip
import importlib.util
import random
import struct
from pathlib import Path

import numpy as np
import pytest

import braze
from braze import demo
from braze.datasets import load_mnist
from braze.utils.data import DataLoader, TensorDataset

PATH = Path(__file__).parents[2] / "examples" / "mnist" / "main.py"
spec = importlib.util.spec_from_file_location("mnist_example", PATH)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


def test_the_demos_network_is_the_examples():
    ours, theirs = demo.Net().state_dict(), example.Net().state_dict()
    assert list(ours) == list(theirs)
    other = demo.Net().eval()
    other.load_state_dict(theirs)
    x = braze.randn(3, 1, 28, 28)
    net = example.Net().eval()
    net.load_state_dict(theirs)
    np.testing.assert_allclose(net(x).detach().numpy(), other(x).detach().numpy(), rtol=1e-6)


def test_digits_are_normalised_and_shifted():
    images, labels = load_mnist()
    plain = example.Digits(images[:50], labels[:50])
    picture, label = plain[3]
    expected = (images[3].astype(np.float32) / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(picture[0], expected, rtol=1e-6)
    assert label == labels[3] and picture.shape == (1, 28, 28) and picture.dtype == np.float32
    padded = np.pad(picture[0], 2, constant_values=picture.min())
    windows = {padded[y : y + 28, x : x + 28].tobytes() for y in range(5) for x in range(5)}
    random.seed(0)
    shifted = example.Digits(images[:50], labels[:50], shift=2)
    seen = {shifted[3][0].tobytes() for _ in range(60)}
    assert len(windows) == 25 and seen <= windows and len(seen) > 15
    assert len(DataLoader(shifted, 20)) == 3


def test_one_step_of_the_whole_program(capsys):
    accuracy = example.main(["--dry-run", "--seed", "3"])
    assert 0.02 < accuracy < 0.6
    printed = capsys.readouterr().out
    assert printed.startswith("epoch 1/") and "test accuracy" in printed and "\r" not in printed


def test_it_goes_on_from_a_checkpoint(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "error.png"
    common = ["--limit", "640", "--save", saved]
    first = example.main([*common, "--epochs", "1"])
    second = example.main([*common, "--epochs", "2", "--resume", saved, "--plot", str(drawn)])
    assert second > max(first, 0.5)
    checkpoint = braze.load(saved)
    assert checkpoint["epoch"] == 2 and checkpoint["accuracies"][0] == first
    assert drawn.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert printed.count("epoch 1/1") == 1 and "epoch 2/2" in printed and "epoch 1/2" not in printed


def write_idx(path, array, packed):
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


def test_data_from_a_folder(tmp_path):
    images, labels = load_mnist()
    for i, part in enumerate(("train", "t10k")):
        names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        for name, array in zip(names, (images, labels), strict=True):
            rows = array[100 * i : 100 * i + 70]
            write_idx(tmp_path / (name + ".gz" * i), rows, packed=bool(i))
    accuracy = example.main(["--dry-run", "--data", str(tmp_path), "--batch-size", "35"])
    assert 0.0 <= accuracy <= 1.0
    with pytest.raises(FileNotFoundError, match="train-images"):
        example.main(["--data", str(tmp_path / "nothing")])


def test_progress_shows_on_terminals_only(capsys, monkeypatch):
    progress = example.Progress("epoch 1/1", 10)
    progress.show(5, "loss 1")
    progress.done("done")
    assert capsys.readouterr().out.startswith("epoch 1/1 done, ")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = example.Progress("epoch 1/1", 10)
    progress.show(5, "loss 1")
    progress.done("done")
    shown = capsys.readouterr().out
    assert shown.startswith("\repoch 1/1 █████") and "·" in shown and "5/10 loss 1" in shown
    assert "\r\033[Kepoch 1/1 done" in shown


def test_it_learns_digits_as_one_graph_a_step():
    random.seed(0)
    braze.manual_seed(0)
    images, labels = load_mnist()
    pixels = ((images[:3000, None].astype(np.float32) / 255) - 0.1307) / 0.3081
    pixels, classes = braze.from_numpy(pixels), braze.from_numpy(labels[:3000].astype(np.int64))
    training = TensorDataset(pixels[:2500].clone(), classes[:2500].clone())
    testing = TensorDataset(pixels[2500:].clone(), classes[2500:].clone())
    model = example.Net()
    optimizer = braze.optim.Adam(model.parameters(), lr=1e-3)
    braze.stats.reset()
    with braze.config.using(tier="compile"):
        losses = []
        for x, y in DataLoader(training, 50, shuffle=True):
            losses.append(demo.training_step(model, optimizer, x, y).item())
        assert braze.stats.native_calls == len(losses) == 50 and braze.stats.graphs <= 2
        assert np.mean(losses[-10:]) < 0.6 * losses[0]
        assert demo.accuracy(model, testing) > 0.75


def test_it_reaches_98_percent_with_little_memory():
    """The whole program, as its README has it: seven epochs over 8,000 digits."""
    assert example.main([]) >= 0.98
    own = [e for e in braze.explain().events if f"{PATH.parent.name}/{PATH.name}:" in e.last]
    steps = [e for e in own if e.arena_bytes and e.operations > 10]
    assert steps
    for event in steps:
        assert event.figures.lower_bound <= event.arena_bytes <= 1.15 * event.figures.lower_bound
