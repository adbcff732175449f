"""The op table: importing this declares every operation.

`pointwise`, `reduce`, `movement`, `contract`, `creation` and `indexing` hold the primitives, which
code is generated for. The other modules hold composites, which decompose into them.
"""

from braze.ir.ops import (
    activations,
    average_pooling,
    contract,
    convolution,
    convolution_gradients,
    creation,
    elementwise,
    fusion,
    indexing,
    linear,
    movement,
    pointwise,
    pooling,
    reduce,
    reductions,
    shapes,
)

__all__ = [
    "activations",
    "average_pooling",
    "contract",
    "convolution",
    "convolution_gradients",
    "creation",
    "elementwise",
    "fusion",
    "indexing",
    "linear",
    "movement",
    "pointwise",
    "pooling",
    "reduce",
    "reductions",
    "shapes",
]
