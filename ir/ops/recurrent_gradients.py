"""Gradients of the recurrences: what runs back through time, and the sums over all steps.

`d` is the gradient of the sums inside the gates, [time, gates, batch, state]; with it the gradients
of the inputs and of the weights are single contractions. The recurrences that run back begin with
zeros. Their own gradients are those of their unrolled steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from braze.ir.op import Rule
from braze.ir.ops.composite import as_dtype, cut, widened
from braze.ir.ops.recurrence_rules import (
    columns,
    declare_recurrence,
    first_step,
    gru_gates,
    rows_of,
    sigmoid_slope,
    states_before,
    tanh_slope,
    through,
    turned,
    upstream_of,
    weight_gradient,
    zeros,
)
from braze.ir.unrolled import unrolled_gradient


def _like(b: Any, values: tuple[Any, ...], wide: list[Any]) -> list[Any]:
    """Results in the dtype of the first of the values."""
    return [as_dtype(b, x, values[0].type.dtype) for x in wide]


# RNN ----------------------------------------------------------------------------------------------


def _rnn_step(
    b: Any, g_y: Any, y: Any, w: Any, previous_d: Any, nonlinearity: str
) -> tuple[Any, ...]:
    total = b.add(through(b, previous_d, w), g_y)
    if nonlinearity == "tanh":
        return ([b.mul(total, tanh_slope(b, y))],)
    return ([b.where(b.gt(y, 0.0), total, 0.0)],)


rnn_sequence_grad = declare_recurrence(
    "rnn_sequence_grad",
    {
        "g_y": "time batch state",
        "y": "time batch state",
        "w": "1 state state",
        "start_d": "1 batch state",
    },
    {"d": "time 1 batch state"},
    _rnn_step,
    starts={"d": "start_d"},
    attributes={"nonlinearity": str},
    backwards=True,
    doc="The gradient of x in `rnn_sequence`, from that of y. w is [1, outputs, inputs] here, and "
    "start_d what comes from behind the last step.",
)


def _rnn_d(b: Any, g: Any, w: Any, y: Any, nonlinearity: str, reverse: bool) -> Any:
    _, n, h = y.type.shape
    start = zeros(b, y, (1, n, h))
    return b.rnn_sequence_grad(
        g, y, turned(b, w, 1), start, nonlinearity=nonlinearity, reverse=reverse
    )


def _rnn_x(b: Any, g: Any, w: Any, y: Any, nonlinearity: str, reverse: bool) -> Any:
    return rows_of(b, _rnn_d(b, g, w, y, nonlinearity, reverse))


def _rnn_w(b: Any, g: Any, w: Any, h0: Any, y: Any, nonlinearity: str, reverse: bool) -> Any:
    d = _rnn_d(b, g, w, y, nonlinearity, reverse)
    return weight_gradient(b, y, h0, d, reverse)


def _rnn_h0(b: Any, g: Any, w: Any, y: Any, nonlinearity: str, reverse: bool) -> Any:
    d = _rnn_d(b, g, w, y, nonlinearity, reverse)
    return through(b, first_step(b, d, reverse), turned(b, w, 1))


RNN: Mapping[str, Rule] = {"x": _rnn_x, "w": _rnn_w, "h0": _rnn_h0}

# LSTM ---------------------------------------------------------------------------------------------


def _cell_back(b: Any, dh: Any, g_c: Any, carried: Any, gates: Any, c: Any, before: Any) -> Any:
    """The gradients of the four gates' sums, and what goes to the cell of the step before."""
    i, f, g, o = (widened(b, part) for part in columns(b, gates, 4))
    i, f, g, o = b.sigmoid(i), b.sigmoid(f), b.tanh(g), b.sigmoid(o)
    shown = b.tanh(widened(b, c))
    dh = widened(b, dh)
    dc = b.mul(dh, b.mul(o, tanh_slope(b, shown)))
    dc = b.add(b.add(dc, widened(b, g_c)), widened(b, carried))
    d = [
        b.mul(dc, b.mul(g, sigmoid_slope(b, i))),
        b.mul(dc, b.mul(widened(b, before), sigmoid_slope(b, f))),
        b.mul(dc, b.mul(i, tanh_slope(b, g))),
        b.mul(dh, b.mul(shown, sigmoid_slope(b, o))),
    ]
    return _like(b, (c,), d), as_dtype(b, b.mul(dc, f), c.type.dtype)


def _lstm_step(
    b: Any,
    g_y: Any,
    g_c: Any,
    gates: Any,
    c: Any,
    before_c: Any,
    w: Any,
    previous_d: Any,
    previous_e: Any,
) -> tuple[Any, ...]:
    dh = b.add(through(b, previous_d, w), g_y)
    return _cell_back(b, dh, g_c, previous_e, gates, c, before_c)  # type: ignore[no-any-return]


def _projected_step(
    b: Any,
    g_y: Any,
    g_c: Any,
    gates: Any,
    c: Any,
    before_c: Any,
    w: Any,
    projection: Any,
    previous_d: Any,
    previous_e: Any,
) -> tuple[Any, ...]:
    dy = b.add(through(b, previous_d, w), g_y)
    dh = b.contract(dy, projection, equation="bp,ph->bh")
    return (*_cell_back(b, dh, g_c, previous_e, gates, c, before_c), dy)


_LSTM_OPERANDS = {
    "g_y": "time batch shown",
    "g_c": "time batch state",
    "gates": "time batch 4state",
    "c": "time batch state",
    "w": "4 state shown",
    "c0": "batch state",
    "start_d": "4 batch state",
    "start_e": "batch state",
}
_LSTM_RESULTS = {"d": "time 4 batch state", "e": "time batch state"}

lstm_sequence_grad = declare_recurrence(
    "lstm_sequence_grad",
    _LSTM_OPERANDS,
    _LSTM_RESULTS,
    _lstm_step,
    starts={"d": "start_d", "e": "start_e", "c": "c0"},
    backwards=True,
    doc="The gradients d of the gates in `lstm_sequence`, [time, gate, batch, state], and e of the "
    "cell before each step, from those of y and c. w is [gate, state, inputs] here; start_d and "
    "start_e are what comes from behind the last step.",
)
projected_lstm_sequence_grad = declare_recurrence(
    "projected_lstm_sequence_grad",
    {**_LSTM_OPERANDS, "projection": "shown state"},
    {**_LSTM_RESULTS, "p": "time batch shown"},
    _projected_step,
    starts={"d": "start_d", "e": "start_e", "c": "c0"},
    backwards=True,
    doc="As `lstm_sequence_grad`, for `projected_lstm_sequence`; p is the gradient of y with all "
    "that comes from later steps. `projection` is [shown, state] here.",
)


def _lstm_back(
    b: Any, g_y: Any, g_c: Any, w: Any, c0: Any, y: Any, c: Any, gates: Any
) -> list[Any]:
    """The operands of `lstm_sequence_grad`."""
    _, n, h = c.type.shape
    starts = zeros(b, c, (4, n, h)), zeros(b, c, (n, h))
    upstream = upstream_of(b, g_y, y), upstream_of(b, g_c, c)
    return [*upstream, gates, c, turned(b, w, 4), c0, *starts]


def _inputs(b: Any, gates: Any, w: Any, h0: Any, y: Any, reverse: bool) -> Any:
    """What `x` was: the tape need not keep it, since the gates' sums are kept."""
    return b.sub(gates, b.contract(states_before(b, y, h0, reverse), w, equation="tbk,kh->tbh"))


def _lstm_rule(position: int, finish: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of an operand of `lstm_sequence`.

    To the gates, which no user sees, something flows back only from gradients of gradients.
    """

    def rule(
        b: Any, g_y: Any, g_c: Any, g_gates: Any, w: Any, h0: Any, c0: Any,
        y: Any, c: Any, gates: Any, reverse: bool,
    ) -> Any:  # fmt: skip
        if g_gates is not None:
            operands = [_inputs(b, gates, w, h0, y, reverse), w, h0, c0]
            upstream, settings = (g_y, g_c, g_gates), {"reverse": reverse}
            return unrolled_gradient(b, "lstm_sequence", operands, settings, upstream, position)
        operands = _lstm_back(b, g_y, g_c, w, c0, y, c, gates)
        d, e = b.lstm_sequence_grad(*operands, reverse=reverse)
        return finish(b, d, e, w, h0, y, reverse)

    return rule


def _of_h0(b: Any, d: Any, e: Any, w: Any, h0: Any, y: Any, reverse: bool) -> Any:
    return through(b, first_step(b, d, reverse), turned(b, w, 4))


LSTM = {
    "x": _lstm_rule(0, lambda b, d, e, w, h0, y, reverse: rows_of(b, d)),
    "w": _lstm_rule(1, lambda b, d, e, w, h0, y, reverse: weight_gradient(b, y, h0, d, reverse)),
    "h0": _lstm_rule(2, _of_h0),
    "c0": _lstm_rule(3, lambda b, d, e, w, h0, y, reverse: first_step(b, e, reverse)),
}


def _projected_rule(position: int, finish: Callable[..., Any] | None) -> Callable[..., Any]:
    """As `_lstm_rule`; `m` is a result that no user sees, too."""

    def rule(
        b: Any, g_y: Any, g_c: Any, g_gates: Any, g_m: Any, w: Any, projection: Any, h0: Any,
        c0: Any, y: Any, c: Any, gates: Any, m: Any, reverse: bool,
    ) -> Any:  # fmt: skip
        if g_gates is not None or g_m is not None:
            operands = [_inputs(b, gates, w, h0, y, reverse), w, projection, h0, c0]
            upstream, settings = (g_y, g_c, g_gates, g_m), {"reverse": reverse}
            name = "projected_lstm_sequence"
            return unrolled_gradient(b, name, operands, settings, upstream, position)
        operands = _lstm_back(b, g_y, g_c, w, c0, y, c, gates)
        operands.append(b.permute(projection, dims=(1, 0)))
        d, e, p = b.projected_lstm_sequence_grad(*operands, reverse=reverse)
        if finish is None:
            return b.contract(m, p, equation="tbk,tbp->kp")
        return finish(b, d, e, w, h0, y, reverse)

    return rule


PROJECTED_LSTM = {
    "x": _projected_rule(0, lambda b, d, e, w, h0, y, reverse: rows_of(b, d)),
    "w": _projected_rule(
        1, lambda b, d, e, w, h0, y, reverse: weight_gradient(b, y, h0, d, reverse)
    ),
    "projection": _projected_rule(2, None),
    "h0": _projected_rule(3, _of_h0),
    "c0": _projected_rule(4, lambda b, d, e, w, h0, y, reverse: first_step(b, e, reverse)),
}

# GRU ----------------------------------------------------------------------------------------------


def _gru_step(
    b: Any, g_y: Any, x: Any, hidden: Any, y: Any, before_y: Any, w: Any, previous_d: Any,
    previous_e: Any,
) -> tuple[Any, ...]:  # fmt: skip
    r, z, n, h_n = gru_gates(b, x, hidden)
    dh = widened(b, b.add(b.add(through(b, previous_d, w), g_y), previous_e))
    dn = b.mul(dh, b.mul(b.sub(1.0, z), tanh_slope(b, n)))
    d = [
        b.mul(b.mul(dn, h_n), sigmoid_slope(b, r)),
        b.mul(b.mul(dh, b.sub(widened(b, before_y), n)), sigmoid_slope(b, z)),
        b.mul(dn, r),
    ]
    last, e = _like(b, (y,), [dn, b.mul(dh, z)])
    return _like(b, (y,), d), last, e


gru_sequence_grad = declare_recurrence(
    "gru_sequence_grad",
    {
        "g_y": "time batch state",
        "x": "time batch 3state",
        "hidden": "time batch 3state",
        "y": "time batch state",
        "w": "3 state state",
        "h0": "batch state",
        "start_d": "3 batch state",
        "start_e": "batch state",
    },
    {"d": "time 3 batch state", "n": "time batch state", "e": "time batch state"},
    _gru_step,
    starts={"d": "start_d", "e": "start_e", "y": "h0"},
    backwards=True,
    doc="The gradients in `gru_sequence`, from that of y: d of `hidden`, [time, gate, batch, "
    "state], n of the third part of x (the others are those of `hidden`), and e of the state "
    "before each step, as far as it is not through d. w is [gate, outputs, inputs] here; "
    "start_d and start_e are what comes from behind the last step.",
)


def _gru_rule(position: int, finish: Callable[..., Any]) -> Callable[..., Any]:
    """As `_lstm_rule`; `hidden` is a result that no user sees."""

    def rule(
        b: Any, g_y: Any, g_hidden: Any, x: Any, w: Any, bias: Any, h0: Any, y: Any, hidden: Any,
        reverse: bool,
    ) -> Any:  # fmt: skip
        if g_hidden is not None:
            upstream, settings = (g_y, g_hidden), {"reverse": reverse}
            operands = [x, w, bias, h0]
            return unrolled_gradient(b, "gru_sequence", operands, settings, upstream, position)
        _, size, h = y.type.shape
        starts = zeros(b, y, (3, size, h)), zeros(b, y, (size, h))
        operands = [g_y, x, hidden, y, turned(b, w, 3), h0, *starts]
        d, n, e = b.gru_sequence_grad(*operands, reverse=reverse)
        return finish(b, d, n, e, w, h0, y, reverse)

    return rule


def _gru_x(b: Any, d: Any, n: Any, e: Any, w: Any, h0: Any, y: Any, reverse: bool) -> Any:
    t, size, h = n.type.shape
    return rows_of(b, b.concat(cut(b, d, 1, 0, 2), b.reshape(n, shape=(t, 1, size, h)), dim=1))


def _gru_h0(b: Any, d: Any, n: Any, e: Any, w: Any, h0: Any, y: Any, reverse: bool) -> Any:
    back = through(b, first_step(b, d, reverse), turned(b, w, 3))
    return b.add(back, first_step(b, e, reverse))


def _gru_bias(b: Any, d: Any, n: Any, e: Any, w: Any, h0: Any, y: Any, reverse: bool) -> Any:
    total = b.sum(d, dims=(0, 2), keepdim=False)
    return b.reshape(total, shape=(3 * y.type.shape[2],))


GRU = {
    "x": _gru_rule(0, _gru_x),
    "w": _gru_rule(1, lambda b, d, n, e, w, h0, y, reverse: weight_gradient(b, y, h0, d, reverse)),
    "bias": _gru_rule(2, _gru_bias),
    "h0": _gru_rule(3, _gru_h0),
}
