"""Padding of the last dimensions: with a number, or with the tensor's own elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.movement import cat, clone, expand, flip, narrow
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

Pairs = list[tuple[int, int]]


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pad (or, with negative amounts, crop) the last dimensions.

    Args:
        pad: amounts before and after the last dimension, then the one before it, and so on.
        mode: "constant" (with `value`, 0 by default), "reflect", "replicate" or "circular". All
            but "constant" pad every dimension of an input behind [N, C] or [C].

    Raises:
        RuntimeError: an odd number of amounts, or more than the tensor has dimensions for, or
            larger ones than the tensor has elements for.
        NotImplementedError: an unknown mode, or dimensions that it does not pad.
        TypeError: the amounts are no sequence of ints.
    """
    require_tensors("pad", input=input)
    amounts = _amounts(pad)
    rank = input.ndim
    if len(amounts) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(amounts) > 2 * rank:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(amounts)} and input of dimension {rank}"
        )
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    if mode == "constant":
        return _pad_constant(input, pairs, 0.0 if value is None else float(value))
    if mode not in _BORDERS:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= len(pairs) <= 3 or rank - len(pairs) not in (1, 2):
        raise NotImplementedError(
            f"Padding size {len(amounts)} is not supported for {rank}D input tensor.\n"
            "Supported combinations for non-constant padding:\n"
            "  - 2D or 3D input: padding size = 2 (pads last dimension)\n"
            "  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)\n"
            "  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"
        )
    if mode != "circular" and 0 in input.shape[rank - len(pairs) - 1 :]:
        raise RuntimeError(
            f"Expected {len(pairs) + 1}D or {len(pairs) + 2}D (batch mode) tensor with possibly 0 "
            f"batch size and other non-zero dimensions for input, but got: {list(input.shape)}"
        )
    result = input
    for i, (low, high) in enumerate(pairs):
        result = _pad_border(result, rank - 1 - i, low, high, mode)
    return clone(input) if result is input else result


def _amounts(given: Any) -> tuple[int, ...]:
    if not isinstance(given, (tuple, list)):
        raise TypeError(
            f"pad(): argument 'pad' (position 2) must be tuple of ints, not {type(given).__name__}"
        )
    for position, amount in enumerate(given):
        if not hasattr(amount, "__index__"):
            raise TypeError(
                "pad(): argument 'pad' (position 2) must be tuple of ints, but found element of "
                f"type {type(amount).__name__} at pos {position}"
            )
    return tuple(map(int, given))


def _pad_constant(input: Tensor, pairs: Pairs, value: float) -> Tensor:
    rank = input.ndim
    low, high = [0] * rank, [0] * rank
    for i, (before, after) in enumerate(pairs):
        d = rank - 1 - i
        size = input.shape[d]
        if size + before + after < 0:
            raise RuntimeError(
                f"The input size {size}, plus negative padding {before} and {after}, resulted in a "
                "negative output size"
            )
        input = _cropped(input, d, before, after)
        low[d], high[d] = max(before, 0), max(after, 0)
    call = call_of(
        op_named("pad"), low=tuple(low), high=tuple(high), interior=(0,) * rank, value=value
    )
    return apply(call, input)  # type: ignore[no-any-return]


def _cropped(input: Tensor, dim: int, low: int, high: int) -> Tensor:
    """Without what negative amounts take away."""
    if low >= 0 and high >= 0:
        return input
    start, stop = max(-low, 0), input.shape[dim] - max(-high, 0)
    return narrow(input, dim, start, stop - start)


def _reflected(input: Tensor, dim: int, low: int, high: int) -> tuple[Tensor, Tensor]:
    size = input.shape[dim]
    before, after = narrow(input, dim, 1, low), narrow(input, dim, size - 1 - high, high)
    return flip(before, dim), flip(after, dim)


def _wrapped(input: Tensor, dim: int, low: int, high: int) -> tuple[Tensor, Tensor]:
    return narrow(input, dim, input.shape[dim] - low, low), narrow(input, dim, 0, high)


def _repeated(input: Tensor, dim: int, low: int, high: int) -> tuple[Tensor, Tensor]:
    def edge(place: int, count: int) -> Tensor:
        shape = [count if d == dim else size for d, size in enumerate(input.shape)]
        return expand(narrow(input, dim, place, 1), shape)

    return edge(0, low), edge(input.shape[dim] - 1, high)


# What stands before and after the elements along a dimension.
_BORDERS: dict[str, Callable[[Tensor, int, int, int], tuple[Tensor, Tensor]]] = {
    "reflect": _reflected,
    "replicate": _repeated,
    "circular": _wrapped,
}


def _pad_border(input: Tensor, dim: int, low: int, high: int, mode: str) -> Tensor:
    size = input.shape[dim]
    if size + low + high < 1:
        raise RuntimeError(
            f"padding ({low}, {high}) leaves nothing of dimension {dim} of input "
            f"{list(input.shape)}"
        )
    if mode == "reflect" and max(low, high) >= size:
        raise RuntimeError(
            "Padding size should be less than the corresponding input dimension, but got: padding "
            f"({low}, {high}) at dimension {dim} of input {list(input.shape)}"
        )
    # As in PyTorch: what is cropped does not wrap around, but is reflected and repeated.
    if mode == "circular":
        if max(low, high) > size + min(low, 0) + min(high, 0):
            raise RuntimeError(
                f"Padding value causes wrapping around more than once: padding ({low}, {high}) at "
                f"dimension {dim} of input {list(input.shape)}"
            )
        input = _cropped(input, dim, low, high)
    before, after = _BORDERS[mode](input, dim, max(low, 0), max(high, 0))
    joined = [part for part in (before, input, after) if part.shape[dim]]
    result = cat(joined, dim) if len(joined) > 1 else input
    return result if mode == "circular" else _cropped(result, dim, low, high)
