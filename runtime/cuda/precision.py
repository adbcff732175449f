"""Whether a graph's products of f32 may be rounded to TF32 on a GPU: what the program has set.

In: a graph, and a GPU's target.  Out: the target, with the feature `TF32` where

- `config.matmul_precision` allows it for products, and
- for a graph with convolutions, `config.convolution_tf32` does as well. Once it is lowered, a
  convolution is a product like others, so they are told apart as far as whole graphs go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from braze.ir.graph import Graph, Node
from braze.ir.target import TF32, TF32_CAPABILITY, Target
from braze.runtime.config import config

Settings = tuple[str, bool]


def settings() -> Settings:
    """What the target depends on besides the graph."""
    return config.matmul_precision, config.convolution_tf32


def target_for(graph: Graph, target: Target) -> Target:
    """What a graph's code is made for, under the present settings.

    Args:
        target: the GPU's, which allows nothing.
    """
    if config.matmul_precision == "highest" or target.capability < TF32_CAPABILITY:
        return target
    if not config.convolution_tf32 and _has_convolutions(graph.nodes):
        return target
    return replace(target, features=(*target.features, TF32))


def _has_convolutions(nodes: Iterable[Node]) -> bool:
    return any(
        node.op.is_convolution or (node.body is not None and _has_convolutions(node.body.nodes))
        for node in nodes
    )
