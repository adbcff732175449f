"""Samplers of the recurrences of networks, and of what runs back through them."""

from __future__ import annotations

from collections.abc import Iterator

from op_samples import Draw, Sample, sampler

# Steps, batch, state, what an LSTM's projection shows. Derivatives are checked of the first one
# of an operation, which is small.
SIZES = ((2, 1, 2, 1), (3, 2, 1, 1), (1, 2, 2, 1), (4, 3, 17, 9), (2, 0, 2, 1))
SIZES_BACK = ((2, 1, 1, 1), *SIZES)


@sampler("rnn_sequence", "rnn_sequence_grad")
def _rnn(draw: Draw) -> Iterator[Sample]:
    for number, (t, n, h, _) in enumerate(SIZES):
        for nonlinearity in ("tanh", "relu"):
            attributes = {"nonlinearity": nonlinearity, "reverse": not number % 2}
            if draw.op.name == "rnn_sequence":
                operands = [draw(t, n, h), draw(h, h), draw(n, h)]
            else:
                operands = [draw(t, n, h), draw(t, n, h), draw(1, h, h), draw(1, n, h)]
            yield Sample(operands, attributes, gradients=number == 0)


@sampler("lstm_sequence", "projected_lstm_sequence")
def _lstm(draw: Draw) -> Iterator[Sample]:
    for number, (t, n, h, p) in enumerate(SIZES):
        p = p if draw.op.name.startswith("projected") else h
        operands = [draw(t, n, 4 * h), draw(p, 4 * h), draw(n, p), draw(n, h)]
        if draw.op.name.startswith("projected"):
            operands.insert(2, draw(h, p))
        yield Sample(operands, {"reverse": not number % 2}, gradients=number == 0)


@sampler("lstm_sequence_grad", "projected_lstm_sequence_grad")
def _lstm_grad(draw: Draw) -> Iterator[Sample]:
    for number, (t, n, h, p) in enumerate(SIZES_BACK):
        projected = draw.op.name.startswith("projected")
        p = p if projected else h
        operands = [
            draw(t, n, p), draw(t, n, h), draw(t, n, 4 * h), draw(t, n, h), draw(4, h, p),
            draw(n, h), draw(4, n, h), draw(n, h),
        ]  # fmt: skip
        if projected:
            operands.append(draw(p, h))
        yield Sample(operands, {"reverse": not number % 2}, gradients=number == 0)


@sampler("gru_sequence")
def _gru(draw: Draw) -> Iterator[Sample]:
    for number, (t, n, h, _) in enumerate(SIZES):
        operands = [draw(t, n, 3 * h), draw(h, 3 * h), draw(3 * h), draw(n, h)]
        yield Sample(operands, {"reverse": not number % 2}, gradients=number == 0)


@sampler("gru_sequence_grad")
def _gru_grad(draw: Draw) -> Iterator[Sample]:
    for number, (t, n, h, _) in enumerate(SIZES_BACK):
        operands = [
            draw(t, n, h), draw(t, n, 3 * h), draw(t, n, 3 * h), draw(t, n, h), draw(3, h, h),
            draw(n, h), draw(3, n, h), draw(n, h),
        ]  # fmt: skip
        yield Sample(operands, {"reverse": not number % 2}, gradients=number == 0)
