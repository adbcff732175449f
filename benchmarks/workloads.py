"""What is measured: programs written once against PyTorch's names, run with `braze` or `torch` as
`torch`.

Each workload is a function of the library that builds its model and data from a fixed seed and
returns a function that does one unit of work and returns when its result is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], float]


def _network(torch: Any) -> Any:
    nn = torch.nn
    functional = torch.nn.functional

    class Net(nn.Module):
        """The two-convolution network of PyTorch's MNIST example."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, 1)
            self.conv2 = nn.Conv2d(32, 64, 3, 1)
            self.dropout1 = nn.Dropout(0.25)
            self.dropout2 = nn.Dropout(0.5)
            self.fc1 = nn.Linear(9216, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.conv1(x))
            x = functional.relu(self.conv2(x))
            x = self.dropout1(functional.max_pool2d(x, 2))
            x = functional.relu(self.fc1(torch.flatten(x, 1)))
            return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)

    torch.manual_seed(0)
    return Net()


def _digits(batch: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, 1, 28, 28), dtype=np.float32)
    return images, random.integers(0, 10, batch)


def mnist_train(torch: Any, compile: Callable[[Any], Any]) -> Step:
    """One training step of the MNIST network, batch 64: forward, backward, Adam."""
    model = _network(torch)
    forward = compile(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = _digits(64)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(forward(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def mnist_infer(torch: Any, compile: Callable[[Any], Any]) -> Step:
    """The MNIST network's forward pass in evaluation mode, batch 64."""
    return _inference(torch, compile, 64)


def mnist_infer_one(torch: Any, compile: Callable[[Any], Any]) -> Step:
    """The MNIST network's forward pass in evaluation mode, one picture."""
    return _inference(torch, compile, 1)


def _inference(torch: Any, compile: Callable[[Any], Any], batch: int) -> Step:
    model = _network(torch).eval()
    forward = compile(model)
    x = torch.from_numpy(_digits(batch)[0])

    def step() -> float:
        with torch.no_grad():
            return float(forward(x)[0, 0].item())

    return step


WORKLOADS: dict[str, Callable[[Any, Callable[[Any], Any]], Step]] = {
    "mnist_train": mnist_train,
    "mnist_infer": mnist_infer,
    "mnist_infer_one": mnist_infer_one,
}
