"""The op table: importing this declares every operation.

`pointwise`, `reduce`, `movement`, `contract`, `creation` and `indexing` hold the primitives, which
code is generated for. The other modules hold composites, which decompose into them.
"""

from braze.ir.ops import (
    activations,
    average_pooling,
    classification,
    contract,
    convolution,
    convolution_gradients,
    creation,
    cross_entropy,
    dropout,
    elementwise,
    fusion,
    group_normalization,
    indexing,
    linear,
    losses,
    movement,
    normalization,
    optimizers,
    pointwise,
    pooling,
    reduce,
    reductions,
    scattering,
    shapes,
)

__all__ = [
    "activations",
    "average_pooling",
    "classification",
    "contract",
    "convolution",
    "convolution_gradients",
    "creation",
    "cross_entropy",
    "dropout",
    "elementwise",
    "fusion",
    "group_normalization",
    "indexing",
    "linear",
    "losses",
    "movement",
    "normalization",
    "optimizers",
    "pointwise",
    "pooling",
    "reduce",
    "reductions",
    "scattering",
    "shapes",
]
