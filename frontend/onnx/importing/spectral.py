"""ONNX's Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.onnx.importing.movement import padded
from braze.onnx.rules import imports
from braze.tensors import Tensor


def _complex(x: Tensor) -> Tensor:
    """ONNX's last dimension, of one or two parts, as complex numbers."""
    if x.shape[-1] == 2:
        return braze.view_as_complex(x.contiguous())
    part = x.select(-1, 0)
    return braze.complex(part, braze.zeros_like(part))


@imports("DFT", since=17, read=(1, 2))
def dft(
    node: Any, x: Tensor, length: np.ndarray | None = None, axis: np.ndarray | None = None
) -> Tensor:
    dim = node.get("axis", 1) if axis is None else int(axis.reshape(()))
    if node.version >= 20 and axis is None:
        dim = -2
    dim %= x.dim()
    inverse, onesided = node.get("inverse", 0), node.get("onesided", 0)
    count = None if length is None else int(length.reshape(()))
    if inverse and onesided:
        found = braze.fft.irfft(_complex(x), count, dim)
        return found.unsqueeze(-1).to(x.dtype)
    y = (braze.fft.ifft if inverse else braze.fft.fft)(_complex(x), count, dim)
    if onesided:
        y = y.narrow(dim, 0, y.shape[dim] // 2 + 1)
    return braze.view_as_real(y).to(x.dtype)


@imports("STFT", since=17, read=(1, 3))
def stft(
    node: Any,
    x: Tensor,
    step: np.ndarray,
    window: Tensor | None = None,
    length: np.ndarray | None = None,
) -> Tensor:
    hop = int(step.reshape(()))
    if length is not None:
        size = int(length.reshape(()))
    else:
        assert window is not None, "STFT needs a window or a frame's length"
        size = window.shape[0]
    real = x.dim() == 2 or x.shape[-1] == 1
    signal = x.reshape(x.shape[0], x.shape[1]) if real else _complex(x)
    frames = signal.unfold(1, size, hop)
    if window is not None:
        if window.shape[0] < size:
            before = (size - window.shape[0]) // 2
            window = padded(window, [before], [size - window.shape[0] - before])
        frames = frames * window
    onesided = node.get("onesided", 1) and real
    y = braze.fft.rfft(frames) if onesided else braze.fft.fft(frames)
    return braze.view_as_real(y).to(x.dtype)


@imports("MelWeightMatrix", since=17, read=(0, 1, 2, 3, 4))
def mel_weight_matrix(
    node: Any,
    bins: np.ndarray,
    length: np.ndarray,
    rate: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    from braze.onnx.protos import dtype_of

    count, rows = int(bins), int(length) // 2 + 1
    mel = 2595 * np.log10(1 + np.array([float(low), float(high)]) / 700)
    edges = np.arange(count + 2) * (mel[1] - mel[0]) / (count + 2) + mel[0]
    hertz = 700 * (10 ** (edges / 2595) - 1)
    places = ((int(length) + 1) * hertz // int(rate)).astype(int)
    result = np.zeros((rows, count))
    for i in range(count):
        first, middle, last = places[i : i + 3]
        if middle == first:
            result[middle, i] = 1
        else:
            for j in range(first, middle + 1):
                result[j, i] = (j - first) / (middle - first)
        for j in range(middle, last):
            result[j, i] = (last - j) / (last - middle)
    return result.astype(dtype_of(node.get("output_datatype", 1), "MelWeightMatrix").numpy)
