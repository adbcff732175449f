"""Forward passes in evaluation mode, as a service runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.programs import Array, Call, Library, normal
from benchmarks.suite import Workload


def _workload(
    name: str,
    about: str,
    network: Callable[[Any], Any],
    inputs: Callable[[], list[Array]],
    bars: tuple[str, ...] = ("inference",),
    images: bool = False,
) -> Workload:
    def make(library: Library) -> Call:
        model = library.model(network(library.T)).eval()
        return Call(model, [library.tensor(array) for array in inputs()])

    return Workload(f"infer.{name}", "inference", about, make, inputs, bars=bars, images=images)


def _pictures(batch: int) -> Callable[[], list[Array]]:
    return lambda: [normal(batch, 3, 224, 224)]


def lstm_cell(T: Any) -> Any:
    """Two layers of 200 for one word: output, hidden states, cell states."""

    class Step(T.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = T.nn.LSTM(200, 200, 2)

        def forward(self, x: Any, h: Any, c: Any) -> Any:
            y, (h, c) = self.rnn(x, (h, c))
            return y, h, c

    return Step()


def _lstm_inputs() -> list[Array]:
    return [normal(1, 1, 200), np.tanh(normal(2, 1, 200, seed=1)), normal(2, 1, 200, seed=2)]


WORKLOADS = [
    _workload("resnet50", "ResNet-50, 224 x 224", models.resnet50, _pictures(1), images=True),
    _workload(
        "resnet50_8", "ResNet-50, 224 x 224, batch 8", models.resnet50, _pictures(8), images=True
    ),
    _workload(
        "mobile", "MobileNetV2, 224 x 224", models.mobile_network, _pictures(1), images=True
    ),
    _workload("lstm_step", "one word through an LSTM of 2 x 200", lstm_cell, _lstm_inputs),
    _workload(
        "encoder",
        "4 encoder layers of 256, 8 heads, 128 positions",
        lambda T: models.encoder(T, 256, 8, 1024, 4),
        lambda: [normal(1, 128, 256)],
    ),
    _workload(
        "mlp_one",
        "784-512-512-10, one row",
        lambda T: models.mlp(T, 784, 512, 512, 10),
        lambda: [normal(1, 784)],
        ("inference", "inference_small"),
    ),
]
