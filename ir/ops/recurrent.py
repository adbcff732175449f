"""The recurrences of RNN, LSTM and GRU layers: one layer, one direction, all steps.

Formulas and the order of the gates are those of torch.nn.RNN, LSTM and GRU; an LSTM's projection is
that of Sak et al. (arXiv 1402.1128). `x` is the product of the inputs and their weights with all
biases that can be added there. What the gradients need is kept as further results.
"""

from __future__ import annotations

from typing import Any

from braze.ir.errors import AttributeTypeError
from braze.ir.ops import recurrent_gradients as back
from braze.ir.ops.composite import as_dtype, widened
from braze.ir.ops.recurrence_rules import columns, declare_recurrence, gru_gates

NONLINEARITIES = ("tanh", "relu")


def _check_nonlinearity(nonlinearity: str, **_: Any) -> None:
    if nonlinearity not in NONLINEARITIES:
        raise AttributeTypeError(
            f"[rnn_sequence] nonlinearity must be 'tanh' or 'relu', given {nonlinearity!r}"
        )


def product(b: Any, state: Any, w: Any) -> Any:
    """[batch, state] @ [state, columns]."""
    return b.contract(state, w, equation="bk,kh->bh")


def _rnn(b: Any, x: Any, w: Any, previous_y: Any, nonlinearity: str) -> tuple[Any, ...]:
    total = b.add(product(b, previous_y, w), x)
    return (b.tanh(total) if nonlinearity == "tanh" else b.relu(total),)


def cell(b: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """The new cell of an LSTM and what it shows of it, from the sums of its gates."""
    i, f, g, o = (widened(b, part) for part in columns(b, gates, 4))
    new = b.add(b.mul(b.sigmoid(f), widened(b, c)), b.mul(b.sigmoid(i), b.tanh(g)))
    shown = b.mul(b.sigmoid(o), b.tanh(new))
    return as_dtype(b, new, c.type.dtype), as_dtype(b, shown, c.type.dtype)


def _lstm(b: Any, x: Any, w: Any, previous_y: Any, previous_c: Any) -> tuple[Any, ...]:
    gates = b.add(product(b, previous_y, w), x)
    c, y = cell(b, gates, previous_c)
    return y, c, gates


def _projected_lstm(
    b: Any, x: Any, w: Any, projection: Any, previous_y: Any, previous_c: Any
) -> tuple[Any, ...]:
    gates = b.add(product(b, previous_y, w), x)
    c, shown = cell(b, gates, previous_c)
    return product(b, shown, projection), c, gates, shown


def _gru(b: Any, x: Any, w: Any, bias: Any, previous_y: Any) -> tuple[Any, ...]:
    hidden = b.add(product(b, previous_y, w), bias)
    _, z, n, _ = gru_gates(b, x, hidden)
    y = b.add(n, b.mul(z, b.sub(widened(b, previous_y), n)))
    return as_dtype(b, y, x.type.dtype), hidden


rnn_sequence = declare_recurrence(
    "rnn_sequence",
    {"x": "time batch state", "w": "state state", "h0": "batch state"},
    {"y": "time batch state"},
    _rnn,
    starts={"y": "h0"},
    gradients=back.RNN,
    attributes={"nonlinearity": str},
    check=_check_nonlinearity,
    doc="y[t] = f(x[t] + y[t - 1] @ w), with f the `nonlinearity`, tanh or relu, and h0 before the "
    "first step.",
)
lstm_sequence = declare_recurrence(
    "lstm_sequence",
    {
        "x": "time batch 4state",
        "w": "state 4state",
        "h0": "batch state",
        "c0": "batch state",
    },
    {"y": "time batch state", "c": "time batch state", "gates": "time batch 4state"},
    _lstm,
    starts={"y": "h0", "c": "c0"},
    gradients=back.LSTM,
    doc="gates[t] = x[t] + y[t - 1] @ w, in four parts i, f, g, o; c[t] = sigmoid(f) c[t - 1] + "
    "sigmoid(i) tanh(g); y[t] = sigmoid(o) tanh(c[t]). h0 and c0 are before the first step.",
)
projected_lstm_sequence = declare_recurrence(
    "projected_lstm_sequence",
    {
        "x": "time batch 4state",
        "w": "shown 4state",
        "projection": "state shown",
        "h0": "batch shown",
        "c0": "batch state",
    },
    {
        "y": "time batch shown",
        "c": "time batch state",
        "gates": "time batch 4state",
        "m": "time batch state",
    },
    _projected_lstm,
    starts={"y": "h0", "c": "c0"},
    gradients=back.PROJECTED_LSTM,
    doc="As `lstm_sequence`, with y[t] = m[t] @ projection, where m[t] = sigmoid(o) tanh(c[t]).",
)
gru_sequence = declare_recurrence(
    "gru_sequence",
    {
        "x": "time batch 3state",
        "w": "state 3state",
        "bias": "3state",
        "h0": "batch state",
    },
    {"y": "time batch state", "hidden": "time batch 3state"},
    _gru,
    starts={"y": "h0"},
    gradients=back.GRU,
    doc="hidden[t] = y[t - 1] @ w + bias; in three parts, r = sigmoid(x_r + hidden_r), "
    "z = sigmoid(x_z + hidden_z), n = tanh(x_n + r hidden_n); y[t] = n + z (y[t - 1] - n).",
)
