"""Oracles of the recurrences: one step after the other, as the formulas stand in the papers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from op_oracles import oracle

Array = np.ndarray


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _order(steps: int, reverse: bool) -> Iterator[int]:
    return iter(range(steps - 1, -1, -1) if reverse else range(steps))


@oracle("rnn_sequence")
def _rnn(x: Array, w: Array, h: Array, *, nonlinearity: str, reverse: bool) -> Array:
    y = np.zeros(x.shape)
    for t in _order(len(x), reverse):
        total = x[t] + h @ w
        h = y[t] = np.tanh(total) if nonlinearity == "tanh" else np.maximum(total, 0)
    return y


@oracle("rnn_sequence_grad")
def _rnn_grad(g: Array, y: Array, w: Array, d: Array, *, nonlinearity: str, reverse: bool) -> Array:
    found = np.zeros((len(y), 1, *y.shape[1:]))
    (d,) = d
    for t in _order(len(y), not reverse):
        slope = 1 - y[t] ** 2 if nonlinearity == "tanh" else y[t] > 0
        d = found[t, 0] = (g[t] + d @ w[0]) * slope
    return found


def _lstm_steps(x: Array, w: Array, project: Any, h: Array, c: Array, reverse: bool) -> Any:
    steps, batch, wide = x.shape
    size = wide // 4
    y, cells, shown = (np.zeros((steps, batch, k)) for k in (h.shape[1], size, size))
    gates = np.zeros(x.shape)
    for t in _order(steps, reverse):
        gates[t] = x[t] + h @ w
        i, f, g, o = (gates[t][:, k * size : (k + 1) * size] for k in range(4))
        c = cells[t] = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        shown[t] = _sigmoid(o) * np.tanh(c)
        h = y[t] = project(shown[t])
    return y, cells, gates, shown


@oracle("lstm_sequence")
def _lstm(x: Array, w: Array, h0: Array, c0: Array, *, reverse: bool) -> Any:
    return _lstm_steps(x, w, lambda m: m, h0, c0, reverse)[:3]


@oracle("projected_lstm_sequence")
def _projected(
    x: Array, w: Array, projection: Array, h0: Array, c0: Array, *, reverse: bool
) -> Any:
    return _lstm_steps(x, w, lambda m: m @ projection, h0, c0, reverse)


@oracle("gru_sequence")
def _gru(x: Array, w: Array, bias: Array, h: Array, *, reverse: bool) -> Any:
    size = h.shape[1]
    y, hidden = np.zeros((*x.shape[:2], size)), np.zeros(x.shape)
    for t in _order(len(x), reverse):
        hidden[t] = h @ w + bias
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (
            [part[:, k * size : (k + 1) * size] for k in range(3)] for part in (x[t], hidden[t])
        )
        z = _sigmoid(x_z + h_z)
        n = np.tanh(x_n + _sigmoid(x_r + h_r) * h_n)
        h = y[t] = (1 - z) * n + z * h
    return y, hidden


def _lstm_back(
    g_y: Array, g_c: Array, gates: Array, c: Array, w: Array, c0: Array, d: Array, e: Array,
    projection: Array, reverse: bool,
) -> Any:  # fmt: skip
    steps, batch, size = c.shape
    all_d, all_e, all_p = np.zeros((steps, 4, batch, size)), np.zeros(c.shape), np.zeros(g_y.shape)
    for t in _order(steps, not reverse):
        before = t + 1 if reverse else t - 1
        c_before = c[before] if 0 <= before < steps else c0
        i, f, g, o = (gates[t][:, k * size : (k + 1) * size] for k in range(4))
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        p = all_p[t] = g_y[t] + sum(d[k] @ w[k] for k in range(4))
        dh = p @ projection
        dc = dh * o * (1 - np.tanh(c[t]) ** 2) + g_c[t] + e
        d = all_d[t] = np.stack([
            dc * g * i * (1 - i),
            dc * c_before * f * (1 - f),
            dc * i * (1 - g**2),
            dh * np.tanh(c[t]) * o * (1 - o),
        ])  # fmt: skip
        e = all_e[t] = dc * f
    return all_d, all_e, all_p


@oracle("lstm_sequence_grad")
def _lstm_grad(*operands: Array, reverse: bool) -> Any:
    return _lstm_back(*operands, np.eye(operands[0].shape[2]), reverse)[:2]


@oracle("projected_lstm_sequence_grad")
def _projected_grad(*operands: Array, reverse: bool) -> Any:
    return _lstm_back(*operands, reverse)


@oracle("gru_sequence_grad")
def _gru_grad(
    g_y: Array, x: Array, hidden: Array, y: Array, w: Array, h0: Array, d: Array, e: Array, *,
    reverse: bool,
) -> Any:  # fmt: skip
    steps, batch, size = y.shape
    all_d, all_n, all_e = np.zeros((steps, 3, batch, size)), np.zeros(y.shape), np.zeros(y.shape)
    for t in _order(steps, not reverse):
        before = t + 1 if reverse else t - 1
        h = y[before] if 0 <= before < steps else h0
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (
            [part[:, k * size : (k + 1) * size] for k in range(3)] for part in (x[t], hidden[t])
        )
        r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        dh = g_y[t] + e + sum(d[k] @ w[k] for k in range(3))
        dn = all_n[t] = dh * (1 - z) * (1 - n**2)
        d = all_d[t] = np.stack([dn * h_n * r * (1 - r), dh * (h - n) * z * (1 - z), dn * r])
        e = all_e[t] = dh * z
    return all_d, all_n, all_e
