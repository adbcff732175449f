"""Models that others trained and published as ONNX files, which their packages ship.

Nothing of the packages is imported; a peer has no version of a model that is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.programs import Array, integers, normal
from benchmarks.suite import Workload


@dataclass(frozen=True)
class Published:
    """A model's file and what it is run on.

    package, file: the Python package that ships it, and where in its folder.
    inputs: name -> array.
    fixed: inputs that never change, as the settings of a program are.
    """

    package: str
    file: str
    inputs: Callable[[], dict[str, Array]]
    fixed: dict[str, Array] = field(default_factory=dict)

    def path(self) -> Path | None:
        """The file; None where the package is not installed."""
        found = importlib.util.find_spec(self.package)
        if found is None or found.origin is None:
            return None
        return Path(found.origin).parent / self.file


def _workload(name: str, about: str, model: Published) -> Workload:
    return Workload(
        f"infer.{name}",
        "inference",
        about,
        published=model,
        peers=("braze.aot", "onnxruntime"),
        bars=("inference",),
    )


WORKLOADS = [
    _workload(
        "magika",
        "the kind of a file, from its first and last 1,024 bytes (magika 1.0)",
        Published(
            "magika",
            "models/standard_v3_3/model.onnx",
            lambda: {"bytes": integers(256, 1, 2048).astype(np.int32)},
        ),
    ),
    _workload(
        "silero",
        "32 ms of sound: is it speech? (silero-vad 6.2)",
        Published(
            "silero_vad",
            "data/silero_vad_16k_op15.onnx",
            lambda: {
                "input": np.float32(0.1) * normal(1, 576),
                "state": np.zeros((2, 1, 128), np.float32),
            },
            {"sr": np.array(16000)},
        ),
    ),
    _workload(
        "basic_pitch",
        "the notes in two seconds of sound (basic-pitch 0.4)",
        Published(
            "basic_pitch",
            "saved_models/icassp_2022/nmp.onnx",
            lambda: {"serving_default_input_2:0": np.float32(0.1) * normal(1, 43844, 1)},
        ),
    ),
]
