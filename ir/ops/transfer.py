"""The way from one device to another."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from braze.ir.errors import DeviceError
from braze.ir.op import declare
from braze.ir.types import TensorType, tensor_type

_NAME = re.compile(r"cpu|cuda:\d+", re.ASCII)


def _moved(x: TensorType, *, device: str) -> tuple[TensorType, ...]:
    if not _NAME.fullmatch(device):
        raise DeviceError(f'[to_device] a device is "cpu" or "cuda:" and a number, not {device!r}')
    return (tensor_type(x.dtype, x.shape, device),)


def _copied(x: np.ndarray, *, device: str) -> np.ndarray:
    return np.array(x)


def _back(b: Any, g: Any, x_type: TensorType) -> Any:
    return b.to_device(g, device=x_type.device)


to_device = declare(
    "to_device",
    "transfer",
    "x",
    infer=_moved,
    evaluate=_copied,
    gradients={"x": _back},
    attributes={"device": str},
    complex=True,
    doc="""The same elements on another device. What comes before and what comes behind are run by
different programs, with a copy between them; what depends on no data is computed at its
destination.""",
)
