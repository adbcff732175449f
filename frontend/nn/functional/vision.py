"""Channels into pixels and back, and channels in another order."""

from __future__ import annotations

from braze.functions.movement import permute, reshape
from braze.tensors import Tensor


def _check_factor(name: str, word: str, input: Tensor, factor: int) -> None:
    if input.ndim < 3:
        raise RuntimeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {input.ndim} "
            "dimension(s)"
        )
    if factor <= 0:
        raise RuntimeError(f"{name} expects a positive {word}, but got {factor}")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Groups of r * r channels become blocks of r x r pixels: [..., C r r, H, W] to
    [..., C, H r, W r] (Shi et al., arXiv 1609.05158).

    Raises:
        RuntimeError: the channels are no multiple of r * r.
    """
    r = upscale_factor
    _check_factor("pixel_shuffle", "upscale_factor", input, r)
    *batch, channels, height, width = input.shape
    if channels % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}"
        )
    n, c = len(batch), channels // (r * r)
    blocks = reshape(input, (*batch, c, r, r, height, width))
    rows = permute(blocks, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(rows, (*batch, c, height * r, width * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: [..., C, H r, W r] to [..., C r r, H, W].

    Raises:
        RuntimeError: height or width is no multiple of r.
    """
    r = downscale_factor
    _check_factor("pixel_unshuffle", "downscale_factor", input, r)
    *batch, channels, height, width = input.shape
    for word, dim, size in (("height", -2, height), ("width", -1, width)):
        if size % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                f"input.size({dim})={size} is not divisible by {r}"
            )
    n = len(batch)
    blocks = reshape(input, (*batch, channels, height // r, r, width // r, r))
    planes = permute(blocks, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(planes, (*batch, channels * r * r, height // r, width // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Take the channels of [N, C, ...] from the groups in turn (Zhang et al., arXiv 1707.01083).

    Raises:
        RuntimeError: fewer than three dimensions, or the groups do not divide the channels.
    """
    if input.ndim <= 2:
        raise RuntimeError(
            "channel_shuffle expects input with > 2 dims, but got input with sizes "
            f"{list(input.shape)}"
        )
    if groups <= 0:
        raise RuntimeError(
            f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        )
    samples, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {channels} channels and {groups} "
            "groups."
        )
    split = reshape(input, (samples, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, split.ndim))
    return reshape(permute(split, order), tuple(input.shape))
