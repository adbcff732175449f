"""The op table: importing this declares every operation.

`pointwise`, `reduce`, `movement`, `contract`, `creation` and `indexing` hold the primitives, which
code is generated for; `factorizations`, `lu` and `solvers` those that NumPy runs. The other modules
hold composites, which decompose into them.
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
    factorizations,
    fusion,
    group_normalization,
    indexing,
    linear,
    losses,
    lu,
    movement,
    normalization,
    optimizers,
    pointwise,
    pooling,
    reduce,
    reductions,
    shapes,
    solvers,
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
    "factorizations",
    "fusion",
    "group_normalization",
    "indexing",
    "linear",
    "losses",
    "lu",
    "movement",
    "normalization",
    "optimizers",
    "pointwise",
    "pooling",
    "reduce",
    "reductions",
    "shapes",
    "solvers",
]
