"""ONNX's recurrent layers.

Those that PyTorch has too become one operation for all steps; what only ONNX has (other activation
functions, peepholes, clipping, lengths of sequences, input_forget, a GRU whose reset comes first)
is written out step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import braze
from braze import nn
from braze.nn.functional.recurrent import run_layers
from braze.onnx.rules import imports
from braze.tensors import Tensor

_F = nn.functional
_DEFAULTS = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}
# The order of the gates in PyTorch's weights, as places in ONNX's (RNN: one; GRU: zrh -> rzn;
# LSTM: iofc -> ifgo).
_ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}


@dataclass
class _Direction:
    """The weights of one direction, in ONNX's order of gates."""

    w: Tensor
    r: Tensor
    bias_w: Tensor | None
    bias_r: Tensor | None
    peephole: Tensor | None
    functions: list[Callable[[Tensor], Tensor]]


@imports("RNN", "GRU", "LSTM")
def recurrent(
    node: Any,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    op, batch_first = node.op, node.get("layout", 0)
    if batch_first:
        x = x.permute(1, 0, 2)
        h0, c0 = (v if v is None else v.permute(1, 0, 2) for v in (h0, c0))
    directions, size = w.shape[0], r.shape[-1]
    reverse = node.get("direction", "forward") == "reverse"
    shape = (directions, x.shape[1], size)
    start = [braze.zeros(shape, dtype=x.dtype) if v is None else v for v in (h0, c0)]
    functions = _functions(node, directions)
    simple = (
        functions is None
        and lengths is None
        and peepholes is None
        and node.get("clip") is None
        and not node.get("input_forget", 0)
        and (op != "GRU" or node.get("linear_before_reset", 0))
    )
    if simple:
        y, *last = _whole(op, x, w, r, bias, start, reverse, _plain_mode(node))
    else:
        functions = functions or [_named(name, node, i) for i, name in _all_names(node, directions)]
        y, *last = _by_steps(node, x, w, r, bias, lengths, start, peepholes, functions, reverse)
    if batch_first:
        y = y.permute(2, 0, 1, 3)
        last = [v.permute(1, 0, 2) for v in last]
    return y, *last


# In one operation ---------------------------------------------------------------------------------


def _plain_mode(node: Any) -> str:
    if node.op != "RNN":
        return str(node.op)
    names = node.get("activations") or ["Tanh"]
    return f"RNN_{names[0].upper()}"


def _whole(
    op: str,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    start: list[Tensor],
    reverse: bool,
    mode: str,
) -> tuple[Tensor, ...]:
    """All steps at once: [time, directions, batch, size] and the last states."""

    def ordered(v: Tensor) -> Tensor:
        parts = braze.chunk(v, len(_ORDER[op]), 0)
        return v if len(parts) == 1 else braze.cat([parts[i] for i in _ORDER[op]], 0)

    params = []
    for d in range(w.shape[0]):
        params += [ordered(w[d]), ordered(r[d])]
        if bias is not None:
            params += [ordered(b) for b in braze.chunk(bias[d], 2, 0)]
    states = tuple(start[:2] if op == "LSTM" else start[:1])
    if reverse:
        x = braze.flip(x, (0,))
    y, *last = run_layers(
        mode, x, states, params, bias is not None, 1, 0.0, False, w.shape[0] == 2, None
    )
    y = braze.flip(y, (0,)) if reverse else y
    y = y.reshape(x.shape[0], x.shape[1], w.shape[0], r.shape[-1]).permute(0, 2, 1, 3)
    return y, *last


# Step by step -------------------------------------------------------------------------------------


def _by_steps(
    node: Any,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    start: list[Tensor],
    peepholes: Tensor | None,
    functions: list[Callable[[Tensor], Tensor]],
    reverse: bool,
) -> tuple[Tensor, ...]:
    each = len(_DEFAULTS[node.op])
    outputs, hidden, cells = [], [], []
    for d in range(w.shape[0]):
        halves = (None, None) if bias is None else braze.chunk(bias[d], 2, 0)
        one = _Direction(
            w[d],
            r[d],
            halves[0],
            halves[1],
            None if peepholes is None else peepholes[d],
            functions[d * each : (d + 1) * each],
        )
        backwards = reverse or d == 1
        y, h, c = _run_direction(node, x, one, lengths, start[0][d], start[1][d], backwards)
        outputs.append(y)
        hidden.append(h)
        cells.append(c)
    result = braze.stack(outputs, 1), braze.stack(hidden)
    return (*result, braze.stack(cells)) if node.op == "LSTM" else result


def _run_direction(
    node: Any,
    x: Tensor,
    one: _Direction,
    lengths: Tensor | None,
    h: Tensor,
    c: Tensor,
    backwards: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    step = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[node.op]
    products = _F.linear(x, one.w, one.bias_w)
    turns = range(x.shape[0])
    found: list[Tensor] = [h] * x.shape[0]
    for t in reversed(turns) if backwards else turns:
        new_h, new_c = step(node, products[t], h, c, one)
        y = new_h
        if lengths is not None:  # behind the end of a sequence its state stays, its output is 0
            going = (lengths > t).reshape(-1, 1)
            y = braze.where(going, new_h, braze.zeros_like(new_h))
            new_h, new_c = braze.where(going, new_h, h), braze.where(going, new_c, c)
        h, c = new_h, new_c
        found[t] = y
    return braze.stack(found), h, c


def _clipped(node: Any, x: Tensor) -> Tensor:
    limit = node.get("clip")
    return x if limit is None else braze.clamp(x, -limit, limit)


def _rnn(node: Any, x: Tensor, h: Tensor, c: Tensor, one: _Direction) -> tuple[Tensor, Tensor]:
    total = x + _F.linear(h, one.r, one.bias_r)
    return one.functions[0](_clipped(node, total)), c


def _gru(node: Any, x: Tensor, h: Tensor, c: Tensor, one: _Direction) -> tuple[Tensor, Tensor]:
    f, g = one.functions
    xz, xr, xh = braze.chunk(x, 3, -1)
    rz, rr, rh = braze.chunk(one.r, 3, 0)
    bz, br, bh = (None,) * 3 if one.bias_r is None else braze.chunk(one.bias_r, 3, 0)
    z = f(_clipped(node, xz + _F.linear(h, rz, bz)))
    reset = f(_clipped(node, xr + _F.linear(h, rr, br)))
    if node.get("linear_before_reset", 0):
        inner = xh + reset * _F.linear(h, rh, bh)
    else:
        inner = xh + _F.linear(reset * h, rh, bh)
    new = g(_clipped(node, inner))
    return (1 - z) * new + z * h, c


def _lstm(node: Any, x: Tensor, h: Tensor, c: Tensor, one: _Direction) -> tuple[Tensor, Tensor]:
    f, g, out = one.functions
    i, o, forget, inner = braze.chunk(x + _F.linear(h, one.r, one.bias_r), 4, -1)
    pi, po, pf = (0.0,) * 3 if one.peephole is None else braze.chunk(one.peephole, 3, 0)
    i = f(_clipped(node, i + pi * c))
    forget = 1 - i if node.get("input_forget", 0) else f(_clipped(node, forget + pf * c))
    new = forget * c + i * g(_clipped(node, inner))
    return f(_clipped(node, o + po * new)) * out(new), new


# Activation functions -----------------------------------------------------------------------------

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": _F.relu,
    "tanh": braze.tanh,
    "sigmoid": braze.sigmoid,
    "softsign": _F.softsign,
    "softplus": _F.softplus,
}
# With their usual alpha and beta.
_SHAPED: dict[str, tuple[float, float, Callable[[Tensor, float, float], Tensor]]] = {
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b),
    "leakyrelu": (0.01, 0.0, lambda x, a, b: _F.leaky_relu(x, a)),
    "thresholdedrelu": (1.0, 0.0, lambda x, a, b: _F.threshold(x, a, 0.0)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: a * braze.tanh(b * x)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: braze.clamp(a * x + b, 0, 1)),
    "elu": (1.0, 0.0, lambda x, a, b: _F.elu(x, a)),
}


def _all_names(node: Any, directions: int) -> list[tuple[int, str]]:
    names = node.get("activations") or _DEFAULTS[node.op] * directions
    return list(enumerate(names))


def _functions(node: Any, directions: int) -> list[Callable[[Tensor], Tensor]] | None:
    """The activation functions; None for those that PyTorch's layers have."""
    given = node.get("activations")
    if given is None:
        return None
    usual = _DEFAULTS[node.op] * directions
    if [n.lower() for n in given] == [n.lower() for n in usual]:
        return None
    if node.op == "RNN" and {n.lower() for n in given} == {"relu"}:
        return None
    return [_named(name, node, i) for i, name in enumerate(given)]


def _named(name: str, node: Any, position: int) -> Callable[[Tensor], Tensor]:
    found = _PLAIN.get(name.lower())
    if found is not None:
        return found
    if name.lower() not in _SHAPED:
        raise NotImplementedError(f"activation function {name!r}")
    alpha, beta, function = _SHAPED[name.lower()]
    # The lists hold values for those functions that have any, in order.
    alphas, betas = node.get("activation_alpha") or [], node.get("activation_beta") or []
    names = [n.lower() for n in node.get("activations")]
    at = sum(n in _SHAPED for n in names[:position])
    a = alphas[at] if at < len(alphas) else alpha
    b = betas[at] if at < len(betas) else beta
    return lambda x: function(x, a, b)
