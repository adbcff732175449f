"""The kinds of steps of random programs that look into tensors: views, and views of views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from program_maker import Maker
from program_steps import kind
from replay import Tensor


@kind(16)
def view(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    own = m[x]
    made = movement_of(m, own)
    if made is not None:
        m.view(f"{x}{made[0]}", x, made[1])


def movement_of(m: Maker, own: Tensor) -> tuple[str, Callable[[np.ndarray], np.ndarray]] | None:
    """The text and the meaning of a view of something."""
    shape, rank = own.shape, own.ndim
    form = m.pick(
        ("select", "slice", "permute", "t", "view", "unsqueeze", "squeeze", "expand", "unfold")
        + (
            "diagonal",
            "strided",
            "narrow",
            "chunk",
            "same",
            "split",
            "flatten",
            "movedim",
            "unbind",
        )
    )
    if form == "unsqueeze" or rank == 0:
        d = m.integer(0, rank)
        return f".unsqueeze({d})", lambda a: np.expand_dims(a, d)
    if form == "same":
        return "[...]", lambda a: a[...]
    d = m.integer(0, rank - 1)
    size, lead = shape[d], (slice(None),) * d
    if form == "permute":
        order = [(e + d) % rank for e in range(rank)]
        return f".permute({order})", lambda a: a.transpose(order)
    if form == "t":
        return (".t()" if rank == 2 else ".mT", lambda a: a.swapaxes(-1, -2)) if rank > 1 else None
    if form == "view":
        new = m.pick(((-1,), (own.values.size, 1), (1, -1), (2, -1)))
        if own.values.size == 0 or new == (2, -1) and own.values.size % 2:
            return None
        try:
            np.reshape(own.values, new, copy=False)
        except ValueError:
            return None
        return f".view{new}", lambda a: np.reshape(a, new, copy=False)
    if form == "movedim":
        return f".movedim(0, {d})", lambda a: np.moveaxis(a, 0, d)
    if form == "flatten":
        if rank == 1 or not own.values.flags.c_contiguous:  # of a vector it is the vector itself
            return None
        return ".flatten()", lambda a: a.reshape(-1)
    if form == "squeeze":
        axes = tuple(e for e, n in enumerate(shape) if n == 1)
        return ".squeeze()", lambda a: np.squeeze(a, axes)
    if form == "expand":
        wide = m.pick(((2, *shape), tuple(3 if n == 1 else n for n in shape)))
        return f".expand({wide})", lambda a: _expanded(a, wide)
    if size == 0:
        return None
    if form == "unbind":
        return f".unbind({d})[-1]", lambda a: a[(*lead, -1, ...)]
    if form == "select":
        i = m.integer(-size, size - 1)
        return f".select({d}, {i})", lambda a: a[(*lead, i, ...)]
    if form in ("slice", "narrow", "chunk"):
        start = m.integer(0, size - 1)
        stop, step = m.integer(start + 1, size), m.integer(1, 2)
        if form == "narrow":
            count = stop - start
            return f".narrow({d}, {start}, {count})", lambda a: a[(*lead, slice(start, stop))]
        if form == "chunk":
            half = -(-size // 2)
            return f".chunk(2, {d})[0]", lambda a: a[(*lead, slice(half))]
        text = "[" + ":, " * d + f"{start}:{stop}:{step}]"
        return text, lambda a: a[(*lead, slice(start, stop, step))]
    if form == "split":
        piece = (size - 1) // 2
        return f".split(2, {d})[{piece}]", lambda a: a[(*lead, slice(2 * piece, None))]
    if form == "unfold":
        width = m.integer(1, min(size, 2))
        step = m.integer(1, 2)
        return f".unfold({d}, {width}, {step})", lambda a: _windows(a, d, width, step)
    if form == "diagonal" and rank >= 2:
        shift = m.integer(-1, 1)
        return f".diagonal({shift}, {d}, {(d + 1) % rank})", lambda a: _diagonal(
            a, shift, d, (d + 1) % rank
        )
    if form == "strided" and not own.is_view and own.values.size >= 4:
        sizes, strides, offset = m.pick(
            (((2, 2), (1, 2), 0), ((2,), (2,), 1), ((2, 2), (1, 1), 1), ((3,), (0,), 1))
        )
        return f".as_strided({sizes}, {strides}, {offset})", lambda a: _strided(
            a, sizes, strides, offset
        )
    return None


def _expanded(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    strides = np.broadcast_to(a, shape).strides  # itself it is read-only
    return np.lib.stride_tricks.as_strided(a, shape, strides)


def _diagonal(a: np.ndarray, offset: int, one: int, two: int) -> np.ndarray:
    a = np.moveaxis(a, (one, two), (-2, -1))
    a = a[..., :, offset:] if offset > 0 else a[..., -offset:, :]
    size = max(min(a.shape[-2:]), 0)
    strides = (*a.strides[:-2], a.strides[-2] + a.strides[-1])
    return np.lib.stride_tricks.as_strided(a, (*a.shape[:-2], size), strides)


def _windows(a: np.ndarray, d: int, size: int, step: int) -> np.ndarray:
    shape, strides = list(a.shape), list(a.strides)
    shape[d] = (a.shape[d] - size) // step + 1
    strides[d] *= step
    return np.lib.stride_tricks.as_strided(a, (*shape, size), (*strides, a.strides[d]))


def _strided(a: np.ndarray, sizes: Any, strides: Any, offset: int) -> np.ndarray:
    flat = a.reshape(-1)[offset:]
    return np.lib.stride_tricks.as_strided(flat, sizes, [s * a.itemsize for s in strides])


@kind(3)
def detach(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    form, name = m.pick((".detach()", ".data")), m.name()

    def act(r: Any) -> None:
        r.tensors[name] = r.detached(r[x])
        r[name].family.silent |= form == ".data"

    m.emit(f"{name} = {x}{form}", act)
