"""Oracles of attention and its gradient, by the formulas, with the matrix of scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from op_oracles import oracle
from op_oracles_random import words

Array = np.ndarray


def _scores(q: Array, k: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    scores = np.einsum("...le,...se->...ls", q, k) * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        rows, columns = np.indices(scores.shape[-2:])
        scores = np.where(rows >= columns, scores, -np.inf)
    return scores


def _kept(scores: Array, state: list[Array], p: float) -> Array:
    """What dropout multiplies weights by: words are drawn for rows of whole blocks of 32."""
    if not state:
        return np.ones(scores.shape)
    *lead, keys = scores.shape
    shape = (*lead, (keys + 31) // 32 * 32)
    drawn = np.array(words(*state, math.prod(shape))).reshape(shape)[..., :keys]
    return np.where(drawn / 2**32 >= p, 1 / (1 - p), 0)


def _split(masked: bool, extra: tuple[Array, ...]) -> tuple[Array | None, list[Array]]:
    return (extra[0] if masked else None), list(extra[masked:])


def _attention(masked: bool) -> Any:
    def run(
        q: Array, k: Array, v: Array, *extra: Array, scale: float, causal: bool, p: float = 0
    ) -> Any:
        mask, state = _split(masked, extra)
        scores = _scores(q, k, mask, scale, causal)
        kept = _kept(scores, state, p)
        powers = np.exp(scores)
        total = powers.sum(-1, keepdims=True)
        weights = powers / np.where(total == 0, 1, total) * kept
        with np.errstate(divide="ignore"):
            lse = np.where(total == 0, np.inf, np.log(total))[..., 0]
        return np.einsum("...ls,...sv->...lv", weights, v), lse

    return run


def _gradient(masked: bool) -> Any:
    def run(
        g: Array, q: Array, k: Array, v: Array, lse: Array, delta: Array, *extra: Array,
        scale: float, causal: bool, parts: int, p: float = 0,
    ) -> Any:  # fmt: skip
        mask, state = _split(masked, extra)
        scores = _scores(q, k, mask, scale, causal)
        kept = _kept(scores, state, p)
        weights = np.exp(scores - lse[..., None])
        arriving = np.einsum("...lv,...sv->...ls", g, v) * kept
        down = weights * (arriving - delta[..., None])
        of_query = np.einsum("...ls,...se->...le", down, k) * scale
        of_key, of_value = [], []
        for part in range(parts):
            mine = (np.arange(q.shape[-2]) // 64 % parts == part)[:, None]
            of_key.append(np.einsum("...ls,...le->...se", down * mine, q) * scale)
            of_value.append(np.einsum("...ls,...lv->...sv", weights * kept * mine, g))
        return of_query, _wide(np.stack(of_key)), _wide(np.stack(of_value))

    return run


def _wide(x: Array) -> Array:
    """With zeros up to a multiple of 16 columns."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 16)])


for _masked in (False, True):
    for _random in ("", "_dropout"):
        _name = "attention" + "_masked" * _masked + _random
        oracle(_name)(_attention(_masked))
        oracle(f"{_name}_grad")(_gradient(_masked))
