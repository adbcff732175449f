"""examples/mnist on a GPU: `--device cuda` takes the steps that it takes on the CPU."""

import re

import cuda_device  # noqa: F401  (makes PyCUDA work, or skips the file)
import numpy as np
import pytest

import braze
from braze.datasets import load_mnist

EPOCH = re.compile(r"epoch \d/\d loss ([\d.]+), test loss ([\d.]+), test accuracy ([\d.]+)%")


@pytest.fixture
def example(load_example, monkeypatch):
    """With few digits, and none of the random choices that devices make for themselves."""
    made = load_example("mnist")
    images, labels = load_mnist()
    few = (images[:6], labels[:6]), (images[6:9], labels[6:9])
    monkeypatch.setattr(made, "load_data", lambda directory: few)

    class WithoutDropout(made.Net):
        def __init__(self):
            super().__init__()
            self.dropout1.p = self.dropout2.p = 0.0

    monkeypatch.setattr(made, "Net", WithoutDropout)
    return made


def trained(example, capsys, device, saved):
    """Loss, test loss and accuracy after each epoch of two steps, and the parameters."""
    given = ["--device", device, "--batch-size", "3", "--epochs", "2", "--save", str(saved)]
    example.main(given)
    parameters = braze.load(saved, map_location="cpu")["model"]
    return np.array(EPOCH.findall(capsys.readouterr().out), float), parameters


def test_the_curve_is_the_cpus(example, capsys, tmp_path):
    found, parameters = trained(example, capsys, "cuda", tmp_path / "cuda.pt")
    wanted, others = trained(example, capsys, "cpu", tmp_path / "cpu.pt")
    assert found.shape == (2, 3) and wanted[1, 0] < wanted[0, 0]  # it learns these by heart
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-4)
    assert parameters.keys() == others.keys()
    for name, own in parameters.items():
        assert str(own.device) == "cpu"
        # Adam's steps are of one length where gradients are rounded away, so few may differ more.
        apart = (own - others[name]).abs()
        assert apart.mean() < 1e-5 and apart.max() < 4e-3, name
