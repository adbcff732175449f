"""The MNIST network's loss follows torch's from the same weights and pictures (where torch is
installed)."""

import numpy as np
import pytest

import braze
from braze.datasets import load_mnist

torch = pytest.importorskip("torch")

STEPS, BATCH = 20, 64


def network(library):
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def losses(library, weights, data, optimizer_name):
    """The losses of the first steps. Dropout, whose masks differ between the libraries, is left
    out."""
    model = network(library)
    with library.no_grad():
        for parameter, array in zip(model.parameters(), weights, strict=True):
            parameter.copy_(library.from_numpy(array.copy()))
    if optimizer_name == "adam":
        optimizer = library.optim.Adam(model.parameters(), lr=1e-3)
    else:
        optimizer = library.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    seen = []
    for images, labels in data:
        optimizer.zero_grad()
        x, y = library.from_numpy(images), library.from_numpy(labels)
        loss = library.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return np.array(seen)


@pytest.mark.parametrize("optimizer_name", ["sgd", "adam"])
def test_the_loss_curve_is_torchs(optimizer_name):
    torch.manual_seed(0)
    weights = [p.detach().numpy().copy() for p in network(torch).parameters()]
    images, labels = load_mnist()
    pixels = ((images[:, None].astype(np.float32) / 255) - 0.1307) / 0.3081
    data = [
        (pixels[at : at + BATCH], labels[at : at + BATCH].astype(np.int64))
        for at in range(0, STEPS * BATCH, BATCH)
    ]
    ours = losses(braze, weights, data, optimizer_name)
    theirs = losses(torch, weights, data, optimizer_name)
    assert theirs[-1] < theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
