"""Read and write ONNX models: `load` and `export`. Needs the package `onnx`
(``pip install 'braze[onnx]'``)."""

from __future__ import annotations

try:
    from onnx import defs as _defs  # noqa: F401
except ImportError as error:
    raise ImportError(
        "braze.onnx needs the package onnx; pip install 'braze[onnx]' installs it"
    ) from error

from braze.onnx.export import TrainingMode, export, is_in_onnx_export
from braze.onnx.network import Network, load, summary
from braze.onnx.protos import Port
from braze.onnx.running import UnsupportedOperatorError

__all__ = [
    "Network",
    "Port",
    "TrainingMode",
    "UnsupportedOperatorError",
    "export",
    "is_in_onnx_export",
    "load",
    "summary",
]
