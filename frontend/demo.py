"""`braze demo`: train a network on digits, show what was compiled, package it and run it elsewhere.

This is a program as users write them; its lines are those that the explanations name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import braze
from braze import nn, optim, sites
from braze.datasets import load_mnist
from braze.nn import functional as F
from braze.tensors import Tensor
from braze.utils.data import DataLoader, TensorDataset

sites.treat_as_user_code(__file__)

EPOCHS = 4
BATCH = 64
LEARNING_RATE = 2e-3
TRAINING = 8000  # of the 10,000 digits; the rest tests
MEAN, STD = 0.1307, 0.3081
QUICK_STEPS = 3

# Runs with nothing but the runtime. It checks that neither compiler nor front end is loaded.
FRESH = """
import sys, time
import numpy as np
from braze.runtime import load
model = load(sys.argv[1])
digits = np.load(sys.argv[2])
model(digits)
start = time.perf_counter()
np.save(sys.argv[3], model(digits))
seconds = time.perf_counter() - start
heavy = ("llvmlite", "braze.passes", "braze.codegen", "braze.tensors")
heavy = [name for name in heavy if name in sys.modules]
print(f"{seconds * 1e3:.2f} {','.join(heavy)}")
"""


class Net(nn.Module):
    """The network of PyTorch's MNIST example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [N, 1, 28, 28] to log-probabilities [N, 10]."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = self.dropout2(F.relu(self.fc1(braze.flatten(x, 1))))
        return F.log_softmax(self.fc2(x), dim=1)


def digits() -> tuple[TensorDataset, TensorDataset]:
    """The packaged digits, normalised: training and test set."""
    images, labels = load_mnist()
    pixels = ((images[:, None].astype(np.float32) / 255) - MEAN) / STD
    classes = labels.astype(np.int64)
    parts = [slice(None, TRAINING), slice(TRAINING, None)]
    first, second = (
        TensorDataset(braze.from_numpy(pixels[part]), braze.from_numpy(classes[part]))
        for part in parts
    )
    return first, second


def training_step(model: nn.Module, optimizer: optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """One step; returns the loss."""
    optimizer.zero_grad()
    loss = F.nll_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """The part of the data that the model classifies rightly."""
    model.eval()
    right = braze.tensor(0)
    with braze.no_grad():
        for x, y in DataLoader(data, batch_size=500):
            right = right + (model(x).argmax(1) == y).sum()
    model.train()
    return int(right.item()) / len(data)


def train(model: nn.Module, epochs: int, quick: bool) -> None:
    """Train on the digits, printing progress."""
    training, testing = digits()
    loader = DataLoader(training, batch_size=BATCH, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * len(loader), cycle_momentum=False
    )
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        for step, (x, y) in enumerate(loader, 1):
            loss = training_step(model, optimizer, x, y)
            schedule.step()
            if step % 5 == 0:
                _show(f"epoch {epoch}/{epochs}", step, len(loader), loss.item())
            if quick and step == QUICK_STEPS:
                break
        seconds = time.perf_counter() - start
        _clear()
        print(
            f"epoch {epoch}/{epochs}: loss {loss.item():.4f}, test accuracy "
            f"{accuracy(model, testing):.2%}, {seconds:.1f} s",
            flush=True,
        )


def _show(label: str, done: int, total: int, loss: float) -> None:
    if sys.stdout.isatty():
        filled = 40 * done // total
        bar = "█" * filled + "·" * (40 - filled)
        print(f"\r{label} {bar} {done}/{total} loss {loss:.4f}", end="\033[K", flush=True)


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="")


def run_in_a_new_process(model: nn.Module, package: Path, folder: Path) -> float:
    """Package the model, run the package in a process without a compiler, compare.

    Returns:
        The largest difference of the results.

    Raises:
        RuntimeError: the new process failed, or loaded more than the runtime.
    """
    model.eval()
    _, testing = digits()
    x = testing.take_batch(range(100))[0]  # type: ignore[index]
    with braze.no_grad():
        expected = model(x).numpy()
    braze.aot.compile(model, x, package)
    size = package.stat().st_size / 1e6
    print(f"\nPackaged as {package.name}: {size:.1f} MB, code and weights.")
    inputs, outputs = folder / "digits.npy", folder / "results.npy"
    np.save(inputs, x.numpy())
    command = [sys.executable, "-c", FRESH, str(package), str(inputs), str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode != 0:
        raise RuntimeError(f"the package failed in a new process:\n{done.stderr}")
    milliseconds, _, heavy = done.stdout.strip().partition(" ")
    if heavy:
        raise RuntimeError(f"running a package loaded {heavy}")
    difference = float(np.abs(np.load(outputs) - expected).max())
    print(
        f"A new process loaded it, without compiler or front end, and classified 100 digits in "
        f"{milliseconds} ms; largest difference to the model here: {difference:.1e}."
    )
    return difference


def run(
    epochs: int | None = None, seed: int = 1, package: str | None = None, quick: bool = False
) -> None:
    """The demo.

    Args:
        epochs: times over the training set.
        seed: of the weights, the order and dropout.
        package: where to keep the package; it is made in a temporary folder otherwise.
        quick: a few steps of each epoch only.

    Raises:
        ValueError: fewer than one epoch.
        RuntimeError: the package's results differ from the model's.
    """
    epochs = (1 if quick else EPOCHS) if epochs is None else epochs
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, given {epochs}")
    braze.manual_seed(seed)
    print(f"Training on {TRAINING:,} digits, with {braze.get_num_threads()} threads.")
    model = Net()
    train(model, epochs, quick)
    print(f"\nWhat was compiled, and why (braze.explain()):\n{braze.explain()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "digits.brz" if package is None else Path(package)
        difference = run_in_a_new_process(model, path, folder)
    if not difference < 1e-3:
        raise RuntimeError(f"the package's results differ by {difference} from the model's")


def inspect_step(batch: int) -> braze.inspection.Inspection:
    """Every stage of the compiler for forward and backward pass of the demo's network."""
    braze.manual_seed(0)
    model = Net()
    training, _ = digits()
    x, y = training.take_batch(range(batch))  # type: ignore[misc]

    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        loss = F.nll_loss(model(x), y)
        gradients = braze.autograd.grad(loss, list(model.parameters()))
        return [loss, *(gradient for gradient in gradients if gradient is not None)]

    return braze.inspect(step, x, y)
