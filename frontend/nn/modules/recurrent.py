"""Recurrent layers: RNN, LSTM and GRU, and their cells."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable
from typing import Any

from braze.functions.creation import empty, zeros
from braze.functions.indexing import index_select
from braze.functions.movement import squeeze, transpose, unsqueeze
from braze.nn import init
from braze.nn.functional import recurrent
from braze.nn.functional.packing import Packing
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.nn.utils.rnn import PackedSequence, packing_of
from braze.sites import user_stacklevel
from braze.tensors import Tensor

Size3 = tuple[int, int, int]


def _check_arguments(
    input_size: Any, hidden_size: Any, num_layers: int, bias: Any, batch_first: Any,
    dropout: Any, proj_size: int,
) -> None:  # fmt: skip
    is_number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not (is_number and 0 <= dropout <= 1):
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element "
            "being zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and "
            f"num_layers={num_layers}",
            stacklevel=user_stacklevel(),
        )
    for name, value, kind in (
        ("bias", bias, bool), ("batch_first", batch_first, bool),
        ("input_size", input_size, int), ("hidden_size", hidden_size, int),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} should be of type {kind.__name__}, got: {type(value).__name__}"
            )
    for name, value in (
        ("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)
    ):  # fmt: skip
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


class RNNBase(Module):
    """What RNN, LSTM and GRU share.

    Parameters, for layer k, with `_reverse` at the end for the second direction: weight_ih_l{k}
    [gates * hidden_size, input], weight_hh_l{k} [gates * hidden_size, hidden_size], bias_ih_l{k}
    and bias_hh_l{k} [gates * hidden_size], and with a projection weight_hr_l{k} [proj_size,
    hidden_size]. All start uniform in +-1 / sqrt(hidden_size).

    Args:
        mode: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".
        dropout: the share of elements that is dropped behind each layer but the last.
        proj_size: if not 0, an LSTM's states are projected to this size.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_arguments(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if mode not in recurrent.GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        rows = recurrent.GATES[mode] * hidden_size
        state = proj_size or hidden_size
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: self._directions]:
                width = input_size if layer == 0 else state * self._directions
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, width),
                    "weight_hh": (rows, state),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                self._all_weights.append([])
                for name, shape in shapes.items():
                    full = f"{name}_l{layer}{suffix}"
                    setattr(self, full, Parameter(empty(shape, **placed(device, dtype))))
                    self._all_weights[-1].append(full)
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """For each layer and direction its parameters."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Nothing: it puts weights into one block for cuDNN, and no compiled code needs that."""

    def reset_parameters(self) -> None:
        """Draw new values."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    # Arguments of `forward` -----------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Does the input fit this layer?

        Raises:
            ValueError: it has another dtype than the weights. RuntimeError: a size is wrong.
        """
        wanted = self.weight_ih_l0.dtype
        if input.dtype is not wanted:
            raise ValueError(
                f"RNN input dtype ({input.dtype!r}) does not match weight dtype ({wanted!r}). "
                f"Convert input: input.to({wanted!r}), or convert model: model.to({input.dtype!r})"
            )
        expected = 2 if batch_sizes is not None else 3
        if input.ndim != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.ndim}")
        if self.input_size != input.shape[-1]:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {input.shape[-1]}"
            )

    def _batch(self, input: Tensor, batch_sizes: Tensor | None) -> int:
        if batch_sizes is not None:
            return int(batch_sizes._numpy()[0])
        return input.shape[0] if self.batch_first else input.shape[1]

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> Size3:
        """The size of the states for an input."""
        batch = self._batch(input, batch_sizes)
        return self.num_layers * self._directions, batch, self.proj_size or self.hidden_size

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> Size3:
        """The size of an LSTM's cells for an input."""
        batch = self._batch(input, batch_sizes)
        return self.num_layers * self._directions, batch, self.hidden_size

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: Size3,
        msg: str = "Expected hidden size {}, got {}",
    ) -> None:
        """Raises RuntimeError if states have another size."""
        if tuple(hx.shape) != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.shape)))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Do input and states fit each other and this layer?"""
        self.check_input(input, batch_sizes)
        expected = self.get_expected_hidden_size(input, batch_sizes)
        if self.mode != "LSTM":
            self.check_hidden_size(hidden, expected)
            return
        self.check_hidden_size(hidden[0], expected, "Expected hidden[0] size {}, got {}")
        cells = self.get_expected_cell_size(input, batch_sizes)
        self.check_hidden_size(hidden[1], cells, "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states with their batch in another order."""
        if permutation is None:
            return hx
        if isinstance(hx, Tensor):
            return index_select(hx, 1, permutation)
        return tuple(index_select(state, 1, permutation) for state in hx)

    # Forward --------------------------------------------------------------------------------------

    def _forward(self, input: Tensor | PackedSequence, hx: Any) -> tuple[Any, Any]:
        """Run all layers.

        Args:
            input: [time, batch, input_size] ([batch, time, input_size] if `batch_first`),
                [time, input_size], or packed sequences.
            hx: the states before the first step, [layers * directions, batch, hidden_size] (without
                batch for an input without); an LSTM's is a pair of states and cells. Default:
                zeros.

        Returns:
            The outputs, in the form of the input, and the states after the last step.

        Raises:
            ValueError, RuntimeError: dimensions or sizes that do not fit.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        name = self.mode.partition("_")[0]
        if input.ndim not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched = input.ndim == 3
        self._check_rank(hx, batched)
        if not batched:
            input = unsqueeze(input, 0 if self.batch_first else 1)
            hx = _each(hx, lambda state: unsqueeze(state, 1))
        hx = self._states(input, hx, None)
        if self.batch_first:
            input = transpose(input, 0, 1)
        output, states = self._run(input, hx, None)
        if not batched:
            return squeeze(output, 1), _each(states, lambda state: squeeze(state, 1))
        return transpose(output, 0, 1) if self.batch_first else output, states

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[Any, Any]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        if hx is not None:
            hx = self.permute_hidden(hx, sorted_indices)
        hx = self._states(data, hx, batch_sizes)
        output, states = self._run(data, hx, packing_of(input))
        packed = PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices)
        return packed, self.permute_hidden(states, unsorted_indices)

    def _check_rank(self, hx: Any, batched: bool) -> None:
        """Have the given states a batch exactly if the input has?"""
        if hx is None:
            return
        rank, kind = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
        if self.mode == "LSTM":
            ranks = tuple(state.ndim for state in hx)
            if any(given != rank for given in ranks[:2]):
                raise RuntimeError(
                    f"For {kind} input, hx and cx should also be {rank}-D but got "
                    f"({ranks[0]}-D, {ranks[1]}-D) tensors"
                )
        elif hx.ndim != rank:
            raise RuntimeError(
                f"For {kind} input, hx should also be {rank}-D but got {hx.ndim}-D tensor"
            )

    def _states(self, input: Tensor, hx: Any, batch_sizes: Tensor | None) -> Any:
        """The given states, checked, or zeros."""
        if hx is None:
            self.check_input(input, batch_sizes)
            place, sizes = input.device, self.get_expected_hidden_size(input, batch_sizes)
            hx = zeros(sizes, dtype=input.dtype, device=place)
            if self.mode == "LSTM":
                cells = self.get_expected_cell_size(input, batch_sizes)
                hx = hx, zeros(cells, dtype=input.dtype, device=place)
        self.check_forward_args(input, hx, batch_sizes)
        return hx

    def _run(self, input: Tensor, hx: Any, packing: Packing | None) -> tuple[Tensor, Any]:
        if input.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        output, *states = recurrent.run_layers(
            self.mode, input, tuple(hx) if self.mode == "LSTM" else (hx,), self._flat_weights,
            self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, packing,
        )  # fmt: skip
        return output, tuple(states) if self.mode == "LSTM" else states[0]

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (
            ("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
            ("dropout", 0), ("bidirectional", False),
        ):  # fmt: skip
            value = getattr(self, name)
            if value != usual:
                shown += f", {name}={value}"
        return shown


def _each(states: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A change of states, of a pair of states and cells, or of None."""
    if states is None or isinstance(states, Tensor):
        return None if states is None else change(states)
    return tuple(change(state) for state in states)


def _without_projection(kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """h[t] = tanh(W_ih x[t] + b_ih + W_hh h[t - 1] + b_hh), or with relu (Elman).

    Args: as of `RNNBase`, without `mode`, and behind `num_layers` or by keyword
        nonlinearity: "tanh" or "relu".
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _without_projection(kwargs)
        if len(args) > 3:
            nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        return self._forward(input, hx)


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber), with an optional projection of its states
    (Sak et al., arXiv 1402.1128).

    i, f, o = sigmoid(W_ih x[t] + b_ih + W_hh h[t - 1] + b_hh), g = tanh(the like);
    c[t] = f c[t - 1] + i g; h[t] = o tanh(c[t]). The weights hold i, f, g and o in this order.

    Args: as of `RNNBase`, without `mode`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        return self._forward(input, hx)


class GRU(RNNBase):
    """Gated recurrent units (Cho et al., arXiv 1406.1078).

    r, z = sigmoid(W_ih x[t] + b_ih + W_hh h[t - 1] + b_hh);
    n = tanh(W_in x[t] + b_in + r (W_hn h[t - 1] + b_hn)); h[t] = (1 - z) n + z h[t - 1].
    The weights hold r, z and n in this order.

    Args: as of `RNNBase`, without `mode` and `proj_size`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _without_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        return self._forward(input, hx)
