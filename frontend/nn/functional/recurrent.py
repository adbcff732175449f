"""Recurrent layers on lists of weights, as PyTorch has them at its top level: `lstm`, `gru`,
`rnn_tanh`, `rnn_relu`, and one step of each, the cells.

A layer's products with its inputs, over all steps, are one contraction; what runs through time is
one operation, `lstm_sequence` and its like (see `braze.ir.ops.recurrent`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from braze.capture import call_of
from braze.functions.creation import zeros
from braze.functions.movement import cat, chunk, reshape, select, stack, transpose
from braze.functions.pointwise import add, mul, sub
from braze.functions.tables import rows_at
from braze.ir.op import op_named
from braze.nn.functional.activations import relu, sigmoid, tanh
from braze.nn.functional.dropout import dropout as drop
from braze.nn.functional.linear import linear
from braze.nn.functional.packing import Packing
from braze.tensors import Tensor, apply

States = tuple[Tensor, ...]

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


@dataclass(slots=True)
class _Weights:
    """Of one layer and direction. Bias and projection are None where there is none."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    projection: Tensor | None


def run_layers(
    mode: str,
    input: Tensor,
    hx: States,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    packing: Packing | None,
) -> States:
    """All layers and directions.

    Args:
        mode: a key of `GATES`.
        input: [time, batch, input], or with a `packing` [elements, input].
        hx: the state before the first step, and an LSTM's cells, [layers * directions, batch,
            size].
        params: for each layer and direction weight_ih, weight_hh, the biases and the projection.

    Returns:
        The last layer's output, and the states after the last step.
    """
    directions = 2 if bidirectional else 1
    count = num_layers * directions
    weights = _grouped(params, count, has_biases)
    if any(state.ndim != 3 or state.shape[0] != count for state in hx):
        shapes = " and ".join(str(list(state.shape)) for state in hx)
        raise RuntimeError(f"Expected hidden states of {count} layers and directions, got {shapes}")
    if packing is not None and packing.is_full:
        shape = (packing.steps, packing.batch, input.shape[-1])
        output, *states = run_layers(
            mode, reshape(input, shape), hx, params, has_biases, num_layers, dropout, train,
            bidirectional, None,
        )  # fmt: skip
        return reshape(output, (-1, output.shape[-1])), *states
    last: list[States] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            start = tuple(select(state, 0, number) for state in hx)
            output, *states = _direction(
                mode, input, start, weights[number], bool(direction), packing
            )
            outputs.append(output)
            last.append(tuple(states))
        input = outputs[0] if directions == 1 else cat(outputs, -1)
        if dropout and train and layer < num_layers - 1:
            input = drop(input, dropout, True)
    return input, *(stack(states) for states in zip(*last, strict=True))


def _grouped(params: Sequence[Tensor], count: int, has_biases: bool) -> list[_Weights]:
    size = len(params) // count if count else 0
    expected = (4, 5) if has_biases else (2, 3)
    if size not in expected or size * count != len(params):
        raise RuntimeError(
            f"got an incorrect number of RNN parameters: {len(params)} for {count} layers and "
            f"directions, {'with' if has_biases else 'without'} biases"
        )
    groups = [list(params[i * size : (i + 1) * size]) for i in range(count)]
    found = []
    for group in groups:
        projection = group.pop() if size > expected[0] else None
        biases = group[2:] if has_biases else [None, None]
        found.append(_Weights(group[0], group[1], biases[0], biases[1], projection))
    return found


def _direction(
    mode: str,
    input: Tensor,
    start: States,
    weights: _Weights,
    reverse: bool,
    packing: Packing | None,
) -> States:
    """One layer in one direction: its outputs, in the form of its inputs, and its last states.

    Packed sequences are laid side by side, the first element of each run
    at step 0, so that what follows a sequence's end is of no consequence.
    """
    bias = weights.bias_ih
    if bias is not None and weights.bias_hh is not None and mode != "GRU":
        bias = add(bias, weights.bias_hh)
    products = linear(input, weights.ih, bias)
    if packing is None:
        results = _sequence(mode, products, start, weights, reverse)
        at = 0 if reverse else input.shape[0] - 1
        return results[0], *(select(x, 0, at) for x in results)
    there, back = packing.backward_rows if reverse else packing.forward_rows
    shape = (packing.steps, packing.batch, products.shape[-1])
    padded = reshape(rows_at(products, there), shape)
    results = _sequence(mode, padded, start, weights, False)
    flat = [reshape(x, (-1, x.shape[-1])) for x in results]
    return rows_at(flat[0], back), *(rows_at(x, packing.last_rows) for x in flat)


def _sequence(
    mode: str, products: Tensor, start: States, weights: _Weights, reverse: bool
) -> States:
    """The states at all steps, and an LSTM's cells."""
    w = transpose(weights.hh, 0, 1)
    if mode == "LSTM":
        if weights.projection is not None:
            call = call_of(op_named("projected_lstm_sequence"), reverse=reverse)
            projection = transpose(weights.projection, 0, 1)
            return tuple(apply(call, products, w, projection, *start)[:2])
        call = call_of(op_named("lstm_sequence"), reverse=reverse)
        return tuple(apply(call, products, w, *start)[:2])
    if mode == "GRU":
        bias = weights.bias_hh
        if bias is None:
            bias = zeros(w.shape[1], dtype=w.dtype, device=w.device)
        call = call_of(op_named("gru_sequence"), reverse=reverse)
        return (apply(call, products, w, bias, *start)[0],)
    nonlinearity = "tanh" if mode == "RNN_TANH" else "relu"
    call = call_of(op_named("rnn_sequence"), nonlinearity=nonlinearity, reverse=reverse)
    return (apply(call, products, w, *start),)


# The functions of the top level -------------------------------------------------------------------

_PLAIN = "input hx params has_biases num_layers dropout train bidirectional batch_first".split()
_PACKED = "data batch_sizes hx params has_biases num_layers dropout train bidirectional".split()


def _arguments(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """By name, for whichever of the two forms was called.

    Raises:
        TypeError: arguments of neither.
    """
    packed = "batch_sizes" in kwargs or "data" in kwargs
    packed = packed or (len(args) > 3 and not isinstance(args[3], (bool, int)))
    names = _PACKED if packed else _PLAIN
    given = dict(zip(names, args, strict=False))
    if len(args) > len(names) or given.keys() & kwargs or {*given, *kwargs} != {*names}:
        raise TypeError(
            f"{name}() received an invalid combination of arguments; expected ({', '.join(_PLAIN)})"
            f" or ({', '.join(_PACKED)})"
        )
    return given | kwargs


def _run(mode: str, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> States:
    given = _arguments(name, args, kwargs)
    hx = given.pop("hx")
    hx = tuple(hx) if mode == "LSTM" else (hx,)
    if mode == "LSTM" and len(hx) != 2:
        raise RuntimeError("lstm expects two hidden states")
    packing = None
    batch_first = given.pop("batch_first", False)
    if "data" in given:
        input = given.pop("data")
        packing = Packing(given.pop("batch_sizes")._numpy().copy(), input._handle.type.device)
    else:
        input = given.pop("input")
        input = transpose(input, 0, 1) if batch_first else input
    if input.shape[0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    output, *states = run_layers(mode, input, hx, packing=packing, **given)
    return transpose(output, 0, 1) if batch_first else output, *states


def _layer(mode: str, name: str, states: str) -> Callable[..., States]:
    def layers(*args: Any, **kwargs: Any) -> States:
        return _run(mode, name, args, kwargs)

    layers.__name__ = layers.__qualname__ = name
    layers.__doc__ = f"""Every layer and direction of `nn.{mode.partition("_")[0]}`.

    Called as ({", ".join(_PLAIN)}), or with packed sequences as
    ({", ".join(_PACKED)}).

    Args:
        hx: {states} before the first step, [layers * directions, batch, size].
        params: for each layer and direction weight_ih, weight_hh, and if `has_biases` bias_ih and
            bias_hh.

    Returns:
        The outputs of the last layer, and {states} after the last step.

    Raises:
        RuntimeError: there are no steps, or a wrong number of parameters.
        TypeError: arguments that fit neither form.
    """
    return layers


lstm = _layer("LSTM", "lstm", "the pair of states and cells")
gru = _layer("GRU", "gru", "the states")
rnn_tanh = _layer("RNN_TANH", "rnn_tanh", "the states")
rnn_relu = _layer("RNN_RELU", "rnn_relu", "the states")

# Cells --------------------------------------------------------------------------------------------


def _check_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, label: int = 0) -> None:
    if input.shape[-1] != w_ih.shape[1]:
        raise RuntimeError(
            f"input has inconsistent input_size: got {input.shape[-1]} expected {w_ih.shape[1]}"
        )
    if input.ndim > 1 and hx.ndim > 1 and input.shape[0] != hx.shape[0]:
        raise RuntimeError(
            f"Input batch size {input.shape[0]} doesn't match hidden{label} batch size "
            f"{hx.shape[0]}"
        )
    if hx.shape[-1] != w_hh.shape[1]:
        raise RuntimeError(
            f"hidden{label} has inconsistent hidden_size: got {hx.shape[-1]}, expected "
            f"{w_hh.shape[1]}"
        )


def _summed(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> Tensor:
    return add(linear(input, w_ih, b_ih), linear(hx, w_hh, b_hh))


def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """tanh(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh), one step of `nn.RNN`.

    Shape: input [batch, input], hx [batch, hidden] to [batch, hidden].
    """
    _check_cell(input, hx, w_ih, w_hh)
    return tanh(_summed(input, hx, w_ih, w_hh, b_ih, b_hh))


def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """As `rnn_tanh_cell`, with relu for tanh."""
    _check_cell(input, hx, w_ih, w_hh)
    return relu(_summed(input, hx, w_ih, w_hh, b_ih, b_hh))


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `nn.LSTM`: the new state and the new cell.

    Shape: input [batch, input], hx a pair of [batch, hidden].

    Raises:
        RuntimeError: sizes do not fit, or not two states.
    """
    if len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    state, cell = hx
    for label, x in enumerate(hx):
        _check_cell(input, x, w_ih, w_hh, label)
    i, f, g, o = chunk(_summed(input, state, w_ih, w_hh, b_ih, b_hh), 4, -1)
    new = add(mul(sigmoid(f), cell), mul(sigmoid(i), tanh(g)))
    return mul(sigmoid(o), tanh(new)), new


def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step of `nn.GRU`.

    Shape: input [batch, input], hx [batch, hidden] to [batch, hidden].
    """
    _check_cell(input, hx, w_ih, w_hh)
    x_r, x_z, x_n = chunk(linear(input, w_ih, b_ih), 3, -1)
    h_r, h_z, h_n = chunk(linear(hx, w_hh, b_hh), 3, -1)
    r, z = sigmoid(add(x_r, h_r)), sigmoid(add(x_z, h_z))
    n = tanh(add(x_n, mul(r, h_n)))
    return add(n, mul(z, sub(hx, n)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        gru, gru_cell, lstm, lstm_cell, rnn_relu, rnn_relu_cell, rnn_tanh, rnn_tanh_cell,
    )
}  # fmt: skip
