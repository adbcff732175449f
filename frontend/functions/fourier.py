"""Fourier transforms in the form of PyTorch 1.0: complex numbers are pairs, the last dimension.

The last `signal_ndim` (1 to 3) dimensions, not counting the pairs, are transformed; any before them
are a batch. With `normalized` the result is divided by the square root of the number of elements;
without, the inverse transforms are divided by this number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from braze.capture import call_of
from braze.functions.matrices import call_host, check_tensors, empty_like_type
from braze.functions.movement import select, stack, transpose
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply, from_array


def _scaled(x: Tensor, count: int, normalized: bool, inverse: bool) -> Tensor:
    if normalized:
        return x * (1 / math.sqrt(count))
    return x * (1 / count) if inverse else x


def fft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """The transform of complex numbers [..., n_1, ..., n_d, 2]."""
    out = call_host("fft", input, ndim=signal_ndim, inverse=False)
    count = math.prod(input.shape[-signal_ndim - 1 : -1])
    return _scaled(out, count, normalized, False)


def ifft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """The inverse of `fft`."""
    out = call_host("fft", input, ndim=signal_ndim, inverse=True)
    count = math.prod(input.shape[-signal_ndim - 1 : -1])
    return _scaled(out, count, normalized, True)


def rfft(
    input: Tensor, signal_ndim: int, normalized: bool = False, onesided: bool = True
) -> Tensor:
    """The transform of real numbers [..., n_1, ..., n_d] as pairs; if `onesided`, without the
    half of the last dimension that follows from symmetry: [..., n_d // 2 + 1, 2]."""
    if onesided:
        out = call_host("rfft", input, ndim=signal_ndim)
    else:
        check_tensors("rfft", input)
        zeros = empty_like_type(input.dtype, input._handle.type.shape)
        out = call_host("fft", stack([input, zeros], -1), ndim=signal_ndim, inverse=False)
    return _scaled(out, math.prod(input.shape[-signal_ndim:]), normalized, False)


def irfft(
    input: Tensor,
    signal_ndim: int,
    normalized: bool = False,
    onesided: bool = True,
    signal_sizes: Sequence[int] | None = None,
) -> Tensor:
    """The inverse of `rfft`, of what is `onesided` or not.

    Args:
        signal_sizes: [n_1, ..., n_d] of the result; by default the last is taken to be even.

    Raises:
        ShapeError: the sizes do not fit the input.
    """
    check_tensors("irfft", input)
    if not onesided:
        return select(ifft(input, signal_ndim, normalized), -1, 0)
    if input.ndim < 2:
        raise ShapeError(f"[irfft] expected pairs of numbers, given {input._handle.type}")
    given = tuple(input.shape[-signal_ndim - 1 : -1])
    sizes = tuple(signal_sizes) if signal_sizes else (*given[:-1], 2 * (given[-1] - 1))
    if len(sizes) != signal_ndim or sizes[:-1] != given[:-1]:
        raise ShapeError(f"[irfft] signal sizes {list(sizes)} do not fit {input._handle.type}")
    out = call_host("irfft", input, ndim=signal_ndim, size=int(sizes[-1]))
    return _scaled(out, math.prod(sizes), normalized, True)


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool = True,
) -> Tensor:
    """The short-time transform of signals [length] or [batch, length]: [..., frequencies, frames,
    2].

    Args:
        hop_length: between frames; n_fft // 4 by default.
        win_length: of the window, which is padded to n_fft; n_fft by default.
        window: a vector of win_length; ones by default.
        center: pad the signal by n_fft // 2 at both ends, so that frame t is centred at
            t * hop_length.
        pad_mode: "reflect" or "constant" (zeros).
    """
    check_tensors("stft", input, *([] if window is None else [window]))
    if input.ndim not in (1, 2):
        raise ShapeError(f"[stft] expected a signal or a batch of them, given {input._handle.type}")
    hop, width = hop_length or n_fft // 4, win_length or n_fft
    length = input.shape[-1]
    if not (0 < n_fft and 0 < hop and 0 < width <= n_fft):
        raise RuntimeError(
            "stft: expected 0 < hop_length and 0 < win_length <= n_fft, "
            f"got {hop}, {width}, {n_fft}"
        )
    if window is not None and tuple(window.shape) != (width,):
        raise ShapeError(f"[stft] the window must be [{width}], given {window._handle.type}")
    pad = n_fft // 2 if center else 0
    if length + 2 * pad < n_fft or (pad >= length and pad_mode == "reflect"):
        raise ShapeError(f"[stft] {input._handle.type} is too short for frames of {n_fft}")
    if pad_mode not in ("reflect", "constant"):
        raise NotImplementedError(f"stft: pad_mode {pad_mode!r}; known are 'reflect', 'constant'")
    count = (length + 2 * pad - n_fft) // hop + 1
    places = np.arange(count)[:, None] * hop + np.arange(n_fft) - pad
    if pad_mode == "reflect":
        places = np.abs(places)
        places = np.where(places >= length, 2 * (length - 1) - places, places)
    elif pad:
        none = (0,) * (input.ndim - 1)
        call = call_of(
            op_named("pad"), low=(*none, pad), high=(*none, pad), interior=(*none, 0), value=0.0
        )
        input, places = apply(call, input), places + pad
    take = call_of(op_named("take"), dim=input.ndim - 1)
    frames: Tensor = apply(take, input, from_array(np.ascontiguousarray(places)))
    if window is not None:
        before = (n_fft - width) // 2
        call = call_of(
            op_named("pad"), low=(before,), high=(n_fft - width - before,), interior=(0,), value=0.0
        )
        frames = frames * (window if width == n_fft else apply(call, window))
    elif width != n_fft:
        ones = np.zeros(n_fft, frames.dtype.numpy)
        ones[(n_fft - width) // 2 :][:width] = 1
        frames = frames * from_array(ones)
    return transpose(rfft(frames, 1, normalized, onesided), -3, -2)


# Methods of `Tensor`.
METHODS = "fft ifft rfft irfft stft".split()
