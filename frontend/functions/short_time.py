"""Short-time Fourier transforms: those of overlapping, windowed frames of a signal."""

from __future__ import annotations

import warnings

import numpy as np

from braze.capture import call_of
from braze.casting import casting
from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import view_as_real
from braze.functions.matrices import call_host
from braze.functions.movement import narrow, permute, reshape, transpose, unsqueeze
from braze.functions.promotion import cast
from braze.functions.transforms import complex_transform, from_real, to_real
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply, from_array

# Below this the sum of the squared windows that cover a point counts as zero.
LEAST_ENVELOPE = 1e-11


def _padded(x: Tensor, low: int, high: int) -> Tensor:
    """Zeros before and after the last dimension."""
    if not (low or high):
        return x
    none = (0,) * (x.ndim - 1)
    call = call_of(
        op_named("pad"), low=(*none, low), high=(*none, high), interior=(*none, 0), value=0.0
    )
    return apply(call, x)  # type: ignore[no-any-return]


def _check_window(name: str, window: Tensor | None, width: int) -> None:
    if window is None:
        return
    require_tensors(name, window)
    if tuple(window.shape) != (width,):
        raise ShapeError(
            f"[{name}] the window must be [{width}], as long as win_length, given "
            f"{window._handle.type}"
        )


def _sides(width: int, n_fft: int) -> tuple[int, int]:
    """How many zeros a window has before and after it within a frame."""
    before = (n_fft - width) // 2
    return before, n_fft - width - before


def _full_window(window: Tensor | None, width: int, n_fft: int, like: Tensor) -> Tensor:
    """The window (ones by default), in the middle of a frame."""
    if window is not None:
        return _padded(window, *_sides(width, n_fft))
    before, _ = _sides(width, n_fft)
    ones = np.zeros(n_fft, like.dtype.to_real().numpy)
    ones[before : before + width] = 1
    return from_array(ones)


# Forward ------------------------------------------------------------------------------------------


def _source(pad_mode: str, places: np.ndarray, length: int) -> np.ndarray:
    """Which elements of the signal stand where its ends are passed."""
    if pad_mode == "replicate":
        return np.clip(places, 0, length - 1)
    if pad_mode == "circular":
        return places % length
    places = np.abs(places)
    return np.where(places >= length, 2 * (length - 1) - places, places)


# How far each mode can pad a signal of some length.
_LIMITS = {
    "constant": lambda length: None,
    "reflect": lambda length: length - 1,
    "replicate": lambda length: None if length else 0,
    "circular": lambda length: length,
}


def _frames(input: Tensor, n_fft: int, hop: int, pad: int, pad_mode: str) -> Tensor:
    """[..., frames, n_fft] of a signal that is continued at both ends."""
    length = input.shape[-1]
    if pad_mode not in _LIMITS:
        raise NotImplementedError(
            f"stft: Unrecognised padding mode {pad_mode!r}; known are {', '.join(_LIMITS)}"
        )
    limit = _LIMITS[pad_mode](length)
    if length + 2 * pad < n_fft or (limit is not None and pad > limit):
        raise ShapeError(
            f"[stft] {input._handle.type} is too short for frames of {n_fft} with padding of {pad}"
        )
    if pad_mode == "constant":
        input = _padded(input, pad, pad)
    elif pad:
        places = _source(pad_mode, np.arange(length + 2 * pad) - pad, length)
        take = call_of(op_named("take"), dim=input.ndim - 1)
        input = apply(take, input, from_array(places))
    return _cut(input, n_fft, hop)


def _cut(signal: Tensor, n: int, hop: int) -> Tensor:
    """Frames [..., count, n] of a signal: frame t is made of the blocks t, t + 1, ... of `hop`."""
    *batch, length = signal._handle.type.shape
    count, blocks = (length - n) // hop + 1, -(-n // hop)
    whole = (count + blocks - 1) * hop
    if length > whole:
        signal = narrow(signal, -1, 0, whole)
    cut = reshape(_padded(signal, 0, max(whole - length, 0)), (*batch, count + blocks - 1, hop))
    rank = cut.ndim
    call = call_of(op_named("window"), dims=(rank - 2,), size=(blocks,), stride=(1,), dilation=(1,))
    frames: Tensor = transpose(apply(call, cut), -2, -1)
    return narrow(reshape(frames, (*batch, count, blocks * hop)), -1, 0, n)


@casting("f32")
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """The short-time transform of signals [length] or [batch, length]: [..., frequencies, frames],
    complex.

    Args:
        hop_length: between frames; n_fft // 4 by default.
        win_length: of the window, which is padded to n_fft; n_fft by default.
        window: a vector of win_length, real or complex; ones by default.
        center: pad the signal by n_fft // 2 at both ends, so that frame t is centred at
            t * hop_length.
        pad_mode: "reflect", "replicate", "circular" or "constant" (zeros).
        normalized: divide by the square root of n_fft.
        onesided: leave out the frequencies above n_fft // 2; by default where signal and window
            are real.
        return_complex: False gives pairs [..., frequencies, frames, 2]. By default a real signal
            and window give these, as in PyTorch 1.0, others complex numbers.
        align_to_window: frames start where their windows do, so that the first window starts at
            the signal's first element; only without `center`.

    Raises:
        RuntimeError: lengths or the window do not fit, the signal is too short, is not
            floating-point or complex, or is complex and the result `onesided`.
        NotImplementedError: an unknown `pad_mode`.
    """
    require_tensors("stft", input, *([] if window is None else [window]))
    if not input.dtype.is_differentiable:
        raise DTypeError(
            f"[stft] expected a tensor of floating point or complex values, given "
            f"{input._handle.type}"
        )
    if input.ndim not in (1, 2):
        raise ShapeError(f"[stft] expected a signal or a batch of them, given {input._handle.type}")
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    if not (0 < n_fft and 0 < hop and 0 < width <= n_fft):
        raise RuntimeError(
            "stft: expected 0 < hop_length and 0 < win_length <= n_fft, "
            f"got {hop}, {width}, {n_fft}"
        )
    if center and align_to_window is not None:
        raise RuntimeError("stft: align_to_window should only be set when center=False")
    _check_window("stft", window, width)
    is_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if is_complex and onesided:
        raise RuntimeError("stft: cannot have onesided output if window or input is complex")
    if align_to_window:
        input = _padded(input, *_sides(width, n_fft))
    frames = _frames(input, n_fft, hop, n_fft // 2 if center else 0, pad_mode)
    if window is not None or width != n_fft:
        frames = frames * _full_window(window, width, n_fft, frames)
    half = not is_complex if onesided is None else onesided
    transform = from_real if half else complex_transform
    norm = "ortho" if normalized else "backward"
    spectra = transform("stft", frames, (frames.ndim - 1,), (-1,), norm, False)
    result = transpose(spectra, -2, -1)
    pairs = not is_complex if return_complex is None else not return_complex
    return view_as_real(result) if pairs else result


# Inverse ------------------------------------------------------------------------------------------


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """The sum of frames [batch, count, n], each `hop` elements after the one before it:
    [batch, n + hop * (count - 1)].

    A frame is cut into blocks of `hop`; block i of frame t adds to block t + i of the signal.
    """
    batch, count, n = frames._handle.type.shape
    blocks = -(-n // hop)
    cut = reshape(_padded(frames, 0, blocks * hop - n), (batch, count, blocks, hop))
    call = call_of(
        op_named("unwindow"), dims=(1,), extent=(count + blocks - 1,), stride=(1,), dilation=(1,)
    )
    placed: Tensor = apply(call, permute(cut, (0, 1, 3, 2)))
    signal = reshape(reductions.sum(placed, -1), (batch, (count + blocks - 1) * hop))
    return narrow(signal, 1, 0, n + hop * (count - 1))


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signals [..., length] whose short-time transform comes closest to the given
    [..., frequencies, frames], in the sense of least squares: the inverse of `stft` (D. W. Griffin
    and J. S. Lim, "Signal estimation from modified short-time Fourier transform", 1984).

    Args:
        n_fft, hop_length, win_length, window, center, normalized: as they were for `stft`.
        onesided: whether the frequencies above n_fft // 2 are left out; by default if there are
            not n_fft.
        length: of the result, which is cut at its end or filled up with zeros.
        return_complex: the signal was complex.

    Warns:
        UserWarning: `length` is beyond the last frame.

    Raises:
        RuntimeError: the input is not complex, sizes do not fit, or a complex signal has a
            `onesided` transform; at the next sync, if no window covers some element.
    """
    require_tensors("istft", input)
    given = input._handle.type
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    if not given.dtype.is_complex:
        raise DTypeError(
            "[istft] requires a complex-valued input tensor matching the output from stft with "
            f"return_complex=True, given {given}"
        )
    if given.rank not in (2, 3):
        raise ShapeError(f"[istft] expected [frequencies, frames], or a batch of them: {given}")
    if given.numel == 0:
        raise ShapeError(f"[istft] input tensor cannot be empty: {given}")
    half = given.shape[-2] != n_fft if onesided is None else onesided
    wanted = n_fft // 2 + 1 if half else n_fft
    if given.shape[-2] != wanted:
        raise ShapeError(
            f"[istft] expected {wanted} frequencies for n_fft={n_fft} and onesided={half}: {given}"
        )
    if not (0 < hop <= width <= n_fft):
        raise RuntimeError(
            "istft: expected 0 < hop_length <= win_length <= n_fft, "
            f"got {hop}, {width}, {n_fft}"
        )
    _check_window("istft", window, width)
    if return_complex and half:
        raise RuntimeError("istft: cannot have onesided output if window or input is complex")
    if not return_complex and window is not None and window.dtype.is_complex:
        raise RuntimeError("istft: complex windows are incompatible with return_complex=False")
    start, stop, missing = _extent(given.shape[-1], n_fft, hop, center, length)
    single = given.rank == 2
    spectra = transpose(unsqueeze(input, 0) if single else input, 1, 2)
    norm = "ortho" if normalized else "backward"
    if return_complex:
        frames = complex_transform("istft", spectra, (2,), (-1,), norm, True)
    else:
        frames = to_real("istft", narrow(spectra, 2, 0, n_fft // 2 + 1), (2,), (n_fft,), norm, True)
    shape = _full_window(window, width, n_fft, frames)
    squares = (shape * shape).expand(1, given.shape[-1], n_fft)
    signal = narrow(_overlapped(frames * shape, hop), 1, start, stop - start)
    envelope = narrow(_overlapped(squares, hop), 1, start, stop - start)
    bare = reductions.any(pointwise.le(envelope.abs(), LEAST_ENVELOPE))
    message = "[istft] window overlap add: no window covers some element of the signal"
    envelope = call_host("checked", envelope, ~bare, message=message)
    result = _padded(signal / cast(envelope, signal.dtype), 0, missing)
    return reshape(result, result._handle.type.shape[1:]) if single else result


def _extent(
    count: int, n_fft: int, hop: int, center: bool, length: int | None
) -> tuple[int, int, int]:
    """Where the result starts and stops in the sum of the frames, and how many zeros follow."""
    whole = n_fft + hop * (count - 1)
    start = n_fft // 2 if center else 0
    if length is None:
        stop = whole - start
    else:
        stop = start + length
    if stop <= start:
        raise ShapeError(f"[istft] {count} frames of {n_fft} leave no signal of length {length}")
    if stop > whole:
        warnings.warn(
            "The length of signal is shorter than the length parameter. Result is being padded "
            "with zeros in the tail. Please check your center and hop_length settings",
            stacklevel=3,
        )
    return start, min(stop, whole), max(stop - whole, 0)


# Methods of `Tensor`.
METHODS = "stft istft".split()
