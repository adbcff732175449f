"""How recurrent layers are written in ONNX.

The IR's operation starts from the products of the inputs with their weights, which ONNX's operators
compute themselves. Where such a product feeds the operation, its weights are handed on; elsewhere
they are a unit matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braze.onnx.exporting.writer import Operand, Writer
from braze.onnx.rules import exports

# ONNX's order of the gates, as places in PyTorch's.
_ORDER = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


def _gates(w: Writer, x: Operand | str, op: str, size: int, axis: int) -> str:
    """PyTorch's gates along an axis in ONNX's order."""
    if op == "RNN":
        return x if isinstance(x, str) else x.name
    parts = [w.slice(x, [axis], [i * size], [(i + 1) * size]) for i in _ORDER[op]]
    return w.node("Concat", *parts, axis=axis)


def _layer(
    w: Writer,
    op: str,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    starts: list[Operand],
    reverse: bool,
    **attributes: Any,
) -> list[str]:
    """The outputs of all steps, [time, batch, size]."""
    size = int(weight.shape[0])
    count = len(_ORDER[op])
    product = w.product_of(x)
    if product is not None:
        source, inputs, own_bias = product
        w_name = _gates(w, inputs, op, size, 0)
        first = _gates(w, own_bias, op, size, 0) if own_bias is not None else None
    else:
        source = x
        w_name = _gates(w, w.constant(np.eye(count * size), x.dtype), op, size, 0)
        first = None
    zeros = w.constant(np.zeros(count * size), x.dtype)
    second = _gates(w, bias, op, size, 0) if bias is not None else zeros
    both = w.node("Concat", first or zeros, second, axis=0)
    recurrent = _gates(w, w.permute(weight, (1, 0)), op, size, 0)
    found = w.nodes_of(
        op,
        1,
        source,
        w.unsqueeze(w_name, 0),
        w.unsqueeze(recurrent, 0),
        w.unsqueeze(both, 0),
        "",
        *(w.unsqueeze(s, 0) for s in starts),
        hidden_size=size,
        direction="reverse" if reverse else "forward",
        **attributes,
    )
    return found


@exports("rnn_sequence")
def rnn_sequence(
    w: Writer, x: Operand, weight: Operand, h0: Operand, nonlinearity: str, reverse: bool
) -> list[str]:
    names = [nonlinearity.capitalize()]
    (y,) = _layer(w, "RNN", x, weight, None, [h0], reverse, activations=names)
    return [w.squeeze(y, 1)]


@exports("gru_sequence")
def gru_sequence(
    w: Writer, x: Operand, weight: Operand, bias: Operand, h0: Operand, reverse: bool
) -> list[str]:
    if w.wanted[1]:
        raise NotImplementedError("[gru_sequence] ONNX has no gates among a GRU's results")
    (y,) = _layer(w, "GRU", x, weight, bias, [h0], reverse, linear_before_reset=1)
    return [w.squeeze(y, 1), ""]


@exports("lstm_sequence")
def lstm_sequence(
    w: Writer, x: Operand, weight: Operand, h0: Operand, c0: Operand, reverse: bool
) -> list[str]:
    if w.wanted[2] or w.wanted[1] and not w.only_last(1, reverse):
        raise NotImplementedError("[lstm_sequence] ONNX has no gates, and only the last cells")
    (y,) = _layer(w, "LSTM", x, weight, None, [h0, c0], reverse)
    cells = ""
    if w.wanted[1]:
        node = next(n for n in reversed(w.nodes) if n.op_type == "LSTM" and y in n.output)
        cells = w.fresh("lstm_cells")
        node.output.extend(["", cells])
        w.single.add(cells)
    # The only cells that there are stand for those of all steps, of which nothing else is read.
    return [w.squeeze(y, 1), cells, ""]
