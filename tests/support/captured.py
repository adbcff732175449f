"""Graphs of training steps, as the front end captures them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import braze
import braze.nn as nn
from braze import engine
from braze.ir.graph import Graph


def captured(step: Callable[[], object], times: int = 2) -> Graph:
    """The graph of the last time that a step is run; what it shows at the end is computed by the
    interpreter."""
    graphs: list[Graph] = []
    prepare = engine.prepare

    def watch(graph: Graph, **options: Any) -> Any:
        graphs.append(graph)
        return prepare(graph, **options)

    engine.prepare = watch  # type: ignore[assignment]
    try:
        for _ in range(times):
            step()
            braze.sync()
    finally:
        engine.prepare = prepare
    return max(graphs, key=lambda graph: len(graph.nodes))


class Block(nn.Module):
    """A transformer's block: attention with a causal mask, and a network of two layers."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        parts = self.qkv(self.first(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(batch, length, width)))
        return x + self.dropout(self.down(nn.functional.gelu(self.up(self.second(x)))))


@cache  # a graph that is known already is not prepared again
def transformer_step(batch: int = 2, length: int = 16, width: int = 32, heads: int = 4) -> Graph:
    """A training step of a block, with Adam."""
    braze.manual_seed(0)
    model = Block(width, heads)
    optimizer = braze.optim.AdamW(model.parameters(), lr=1e-3)
    x = braze.randn(batch, length, width)

    def step() -> None:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()

    return captured(step)


@cache
def lstm_step(batch: int = 3, length: int = 6, width: int = 8) -> Graph:
    """A training step of a layer in both directions and its classifier, with gradient descent."""
    braze.manual_seed(0)
    model = nn.LSTM(width, width, batch_first=True, bidirectional=True)
    head = nn.Linear(2 * width, 5)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = braze.optim.SGD(parameters, lr=0.1, momentum=0.9)
    x = braze.randn(batch, length, width)
    y = braze.randint(0, 5, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(model(x)[0][:, -1]), y)
        loss.backward()
        optimizer.step()

    return captured(step)


def plausible_inputs(graph: Graph) -> list[np.ndarray[Any, np.dtype[Any]]]:
    """Small positive numbers, of which none makes a step meaningless; classes below 5."""
    rng = np.random.default_rng(0)
    found = []
    for value in graph.inputs:
        if value.dtype.is_floating_point:
            array = np.abs(rng.standard_normal(value.shape)) * 0.1 + 0.01
        else:
            array = rng.integers(0, 5, value.shape)
        found.append(np.asarray(array).astype(value.dtype.numpy))
    return found
