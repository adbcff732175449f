"""Modules whose input or output is a list of tensors."""

from __future__ import annotations

import functools
import operator
from typing import Any

import braze
from braze.legacy.nn.module import Module, Table
from braze.tensors import Tensor


class CAddTable(Module):
    """The sum of the members."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def _forward(self, input: Table) -> Table:
        return functools.reduce(operator.add, input)


class CSubTable(Module):
    """The first less the second."""

    def _forward(self, input: Table) -> Table:
        return input[0] - input[1]


class CMulTable(Module):
    """The product of the members."""

    def _forward(self, input: Table) -> Table:
        return functools.reduce(operator.mul, input)


class CDivTable(Module):
    """The first divided by the second."""

    def _forward(self, input: Table) -> Table:
        return input[0] / input[1]


class JoinTable(Module):
    """The members joined along a dimension; a negative one counts from the first member's last."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def _forward(self, input: Table) -> Table:
        return braze.cat(list(input), self.dimension)


class SplitTable(Module):
    """The slices along a dimension."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def _forward(self, input: Table) -> Table:
        return list(input.unbind(self.dimension))


class SelectTable(Module):
    """One member."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def _forward(self, input: Table) -> Table:
        return input[self.index]


class NarrowTable(Module):
    """`length` members from `offset` on."""

    def __init__(self, offset: int, length: int = 1) -> None:
        super().__init__()
        self.offset, self.length = offset, length

    def _forward(self, input: Table) -> Table:
        return list(input[self.offset : self.offset + self.length])


class FlattenTable(Module):
    """All tensors of lists in lists, as one list."""

    def _forward(self, input: Table) -> Table:
        return list(_flat(input))


def _flat(table: Table) -> Any:
    if isinstance(table, list):
        for item in table:
            yield from _flat(item)
    else:
        yield table


class MixtureTable(Module):
    """Experts' outputs, weighted by a gate: input is [gate, experts].

    Shape:
        gate: (N, number of experts). experts: a list of tensors, or one tensor whose dimension
        `dim` is that of experts.
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def _forward(self, input: Table) -> Table:
        gate, experts = input
        if isinstance(experts, list):
            if gate.size(1) != len(experts):
                raise RuntimeError(
                    f"[MixtureTable] there must be one gate for each expert, given "
                    f"{gate.size(1)} for {len(experts)}"
                )
            experts = braze.stack(experts, self.dim)
        shape = [1] * experts.dim()
        shape[0], shape[self.dim] = gate.size(0), gate.size(1)
        return (gate.view(shape) * experts).sum(self.dim)


class Index(Module):
    """Slices along a dimension by index: input is [tensor, index]."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def _forward(self, input: Table) -> Table:
        return input[0].index_select(self.dimension, input[1])


class MaskedSelect(Module):
    """Elements under a mask: input is [tensor, mask]."""

    def _forward(self, input: Table) -> Table:
        return input[0].masked_select(input[1].bool())


# Products and distances of two --------------------------------------------------------------------


def _pair(input: Table, name: str) -> tuple[Tensor, Tensor]:
    if len(input) != 2:
        raise RuntimeError(f"[{name}] the input must be a list of two tensors, given {len(input)}")
    return input[0], input[1]


class DotProduct(Module):
    """The dot products of rows."""

    def _forward(self, input: Table) -> Table:
        x, y = _pair(input, "DotProduct")
        return (x * y).sum(1)


class CosineDistance(Module):
    """The cosines of the angles between rows."""

    def _forward(self, input: Table) -> Table:
        x, y = _pair(input, "CosineDistance")
        return cosine(x, y)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """x . y / (|x| |y|) of rows, with 1e-12 under both roots."""
    scale = ((x * x).sum(1) + 1e-12) * ((y * y).sum(1) + 1e-12)
    return (x * y).sum(1) * scale.rsqrt()


class PairwiseDistance(Module):
    """The p-norms of the differences of rows."""

    def __init__(self, p: int) -> None:
        super().__init__()
        if p % 1 != 0:
            raise ValueError(f"[PairwiseDistance] p must be a whole number, given {p}")
        self.norm = p

    def _forward(self, input: Table) -> Table:
        x, y = _pair(input, "PairwiseDistance")
        return (x - y).norm(self.norm, 1)


class MM(Module):
    """Products of matrices, or of batches of them.

    Args:
        transA, transB: transpose the first or the second before.
    """

    def __init__(self, transA: bool = False, transB: bool = False) -> None:
        super().__init__()
        self.transA, self.transB = transA, transB

    def _forward(self, input: Table) -> Table:
        a, b = _pair(input, "MM")
        if a.dim() not in (2, 3) or a.dim() != b.dim():
            raise RuntimeError(f"[MM] both must have 2 or 3 dimensions, given {a.dim()}, {b.dim()}")
        a = a.transpose(-2, -1) if self.transA else a
        b = b.transpose(-2, -1) if self.transB else b
        return a.matmul(b)


class MV(Module):
    """Products of a matrix and a vector, or of batches of them; `trans` transposes the matrix."""

    def __init__(self, trans: bool = False) -> None:
        super().__init__()
        self.trans = trans

    def _forward(self, input: Table) -> Table:
        m, v = _pair(input, "MV")
        if m.dim() not in (2, 3) or m.dim() != v.dim() + 1:
            raise RuntimeError(
                f"[MV] a matrix and a vector, or a batch of each, are needed, given {m.dim()} and "
                f"{v.dim()} dimensions"
            )
        m = m.transpose(-2, -1) if self.trans else m
        return m.matmul(v.unsqueeze(-1)).squeeze(-1)
