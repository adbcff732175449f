"""One step of a recurrent layer as a module: RNNCell, LSTMCell, GRUCell."""

from __future__ import annotations

import math
from typing import Any

from braze.functions.creation import empty, zeros
from braze.functions.movement import squeeze, unsqueeze
from braze.nn import init
from braze.nn.functional import recurrent
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor


class RNNCellBase(Module):
    """What the cells share.

    Parameters: weight_ih [num_chunks * hidden_size, input_size], weight_hh [num_chunks *
    hidden_size, hidden_size], bias_ih and bias_hh [num_chunks * hidden_size] (None without bias).
    All start uniform in +-1 / sqrt(hidden_size).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows, options = num_chunks * hidden_size, placed(device, dtype)
        self.weight_ih = Parameter(empty(rows, input_size, **options))
        self.weight_hh = Parameter(empty(rows, hidden_size, **options))
        self.bias_ih: Parameter | None
        self.bias_hh: Parameter | None
        if bias:
            self.bias_ih = Parameter(empty(rows, **options))
            self.bias_hh = Parameter(empty(rows, **options))
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            shown += f", bias={self.bias}"
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return shown if nonlinearity == "tanh" else f"{shown}, nonlinearity={nonlinearity}"

    def _weights(self) -> tuple[Tensor | None, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _check_rank(self, what: str, x: Tensor) -> None:
        if x.ndim not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {x.ndim}D instead"
            )

    def _one_state(self, input: Tensor, hx: Tensor | None, function: Any) -> Tensor:
        """A cell whose state is one tensor."""
        self._check_rank("input", input)
        if hx is not None:
            self._check_rank("hidden", hx)
        batched = input.ndim == 2
        if not batched:
            input = unsqueeze(input, 0)
        if hx is None:
            size = input.shape[0], self.hidden_size
            hx = zeros(size, dtype=input.dtype, device=input.device)
        elif not batched:
            hx = unsqueeze(hx, 0)
        state: Tensor = function(input, hx, *self._weights())
        return state if batched else squeeze(state, 0)


class RNNCell(RNNCellBase):
    """tanh(W_ih x + b_ih + W_hh h + b_hh), or with relu.

    Shape: input [batch, input_size] or [input_size], h likewise [batch, hidden_size] (default:
    zeros), to [batch, hidden_size].

    Raises:
        ValueError: another number of dimensions. RuntimeError: sizes, or an unknown nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        functions = {"tanh": recurrent.rnn_tanh_cell, "relu": recurrent.rnn_relu_cell}
        if self.nonlinearity not in functions:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._one_state(input, hx, functions[self.nonlinearity])


class LSTMCell(RNNCellBase):
    """One step of `LSTM`.

    Shape: input [batch, input_size] or [input_size], and a pair of state and cell, each [batch,
    hidden_size] or [hidden_size] (default: zeros), to such a pair.

    Raises:
        ValueError: another number of dimensions. RuntimeError: sizes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        self._check_rank("input", input)
        for number, state in enumerate(hx or ()):
            self._check_rank(f"hx[{number}]", state)
        batched = input.ndim == 2
        if not batched:
            input = unsqueeze(input, 0)
        if hx is None:
            size = input.shape[0], self.hidden_size
            start = zeros(size, dtype=input.dtype, device=input.device)
            hx = start, start
        elif not batched:
            hx = unsqueeze(hx[0], 0), unsqueeze(hx[1], 0)
        state, cell = recurrent.lstm_cell(input, hx, *self._weights())  # type: ignore[arg-type]
        return (state, cell) if batched else (squeeze(state, 0), squeeze(cell, 0))


class GRUCell(RNNCellBase):
    """One step of `GRU`.

    Shape: input [batch, input_size] or [input_size], h likewise [batch, hidden_size] (default:
    zeros), to [batch, hidden_size].

    Raises:
        ValueError: another number of dimensions. RuntimeError: sizes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._one_state(input, hx, recurrent.gru_cell)
