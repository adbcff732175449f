"""The op table: importing this declares every operation.

`pointwise`, `reduce`, `movement`, `contract`, `creation` and `indexing` hold the primitives, which code is
generated for. The other modules hold composites, which decompose into them.
"""

from braze.ir.ops import contract, creation, fusion, indexing, movement, pointwise, reduce

__all__ = ["contract", "creation", "fusion", "indexing", "movement", "pointwise", "reduce"]
