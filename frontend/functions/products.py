"""Products of tensors beside matmul: sums of products, outer products, distances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.casting import casting
from braze.functions import reductions
from braze.functions.arguments import require_tensors
from braze.functions.complex_numbers import conj
from braze.functions.creation import ones_like
from braze.functions.einsum import einsum
from braze.functions.linalg import bmm, dot, matmul, mm, mv, outer
from braze.functions.matrices import (
    call_host,
    identity,
    scaled_sum,
    swapped,
    take_diagonal,
    with_leading_factors,
)
from braze.functions.movement import cat, clone, expand, narrow, reshape, stack
from braze.functions.pointwise import mul, where
from braze.functions.promotion import cast, result_type, scalar
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.ir.ops.rules import normalise_dimension
from braze.tensors import Tensor, apply, from_array

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Sums with products -------------------------------------------------------------------------------


@with_leading_factors
def addmv(
    input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * mat @ vec."""
    return scaled_sum("addmv", input, mv(mat, vec), beta, alpha)


@with_leading_factors
def addr(
    input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    return scaled_sum("addr", input, outer(vec1, vec2), beta, alpha)


@casting("lower")
@with_leading_factors
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    require_tensors("addbmm", batch1, batch2)
    if batch1.ndim != 3 or batch2.ndim != 3:
        types = f"{batch1._handle.type} and {batch2._handle.type}"
        raise ShapeError(f"[addbmm] expects batches of matrices (3 dimensions), given {types}")
    return scaled_sum("addbmm", input, einsum("bmk,bkn->mn", batch1, batch2), beta, alpha)


@casting("lower")
@with_leading_factors
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta * input + alpha * batch1 @ batch2 for batches of matrices."""
    return scaled_sum("baddbmm", input, bmm(batch1, batch2), beta, alpha)


# Products -----------------------------------------------------------------------------------------


def ger(input: Tensor, vec2: Tensor) -> Tensor:
    """The outer product of two vectors."""
    return outer(input, vec2)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors, of which the first is conjugated."""
    return dot(conj(input), other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions; a 0-d operand scales the other one."""
    require_tensors("inner", input, other)
    if input.ndim == 0 or other.ndim == 0:
        return mul(input, other)
    return tensordot(input, other, ([-1], [-1]))


@casting("lower")
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over several dimensions.

    Args:
        dims: how many of the last dimensions of a and the first of b, or a list of dimensions of a
            and one of b.

    Raises:
        ShapeError: the sizes of a pair of dimensions differ.
    """
    require_tensors("tensordot", a, b)
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ShapeError(
                f"[tensordot] {dims} dimensions of {a._handle.type} and {b._handle.type}"
            )
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left = [normalise_dimension("tensordot", d, a.ndim) for d in left]
    right = [normalise_dimension("tensordot", d, b.ndim) for d in right]
    sizes = [a.shape[d] for d in left], [b.shape[d] for d in right]
    if sizes[0] != sizes[1] or len(set(left)) < len(left) or len(set(right)) < len(right):
        raise ShapeError(
            f"[tensordot] dimensions {left} of {a._handle.type} do not fit dimensions {right} of "
            f"{b._handle.type}"
        )
    first, second = list(_LETTERS[: a.ndim]), list(_LETTERS[a.ndim : a.ndim + b.ndim])
    for one, other in zip(left, right, strict=True):
        second[other] = first[one]
    kept = [c for d, c in enumerate(first) if d not in left]
    kept += [c for d, c in enumerate(second) if d not in right]
    return einsum(f"{''.join(first)},{''.join(second)}->{''.join(kept)}", a, b)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, in the order that takes the fewest multiplications."""
    if len(matrices) == 1 and not isinstance(matrices[0], Tensor):
        matrices = tuple(matrices[0])
    require_tensors("chain_matmul", *matrices)
    if not matrices:
        raise RuntimeError("chain_matmul(): expected at least one matrix")
    for matrix in matrices:
        if matrix.ndim != 2:
            raise ShapeError(f"[chain_matmul] expects matrices, given {matrix._handle.type}")
    for one, other in itertools.pairwise(matrices):
        if one.shape[1] != other.shape[0]:
            types = f"{one._handle.type} @ {other._handle.type}"
            raise ShapeError(
                f"[chain_matmul] inner sizes differ: {types} ({one.shape[1]} != {other.shape[0]})"
            )
    sizes = [matrices[0].shape[0], *(m.shape[1] for m in matrices)]
    split = _chain_order(sizes)

    def product(first: int, last: int) -> Tensor:
        if first == last:
            return matrices[first] if len(matrices) > 1 else clone(matrices[first])
        middle = split[first, last]
        return mm(product(first, middle), product(middle + 1, last))

    return product(0, len(matrices) - 1)


def _chain_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split each part of a chain of products (T. H. Cormen et al., "Introduction to
    Algorithms", section 15.2)."""
    count = len(sizes) - 1
    cost: dict[tuple[int, int], int] = {(i, i): 0 for i in range(count)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return split


def matrix_power(input: Tensor, n: int) -> Tensor:
    """The n-th power of square matrices by repeated squaring; of the inverse for negative n.

    Raises:
        ShapeError: the matrices are not square.
        LinAlgError: at the next sync, if n is negative and a matrix is singular.
    """
    require_tensors("matrix_power", input)
    shape = input._handle.type.shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"[matrix_power] needs square matrices, given {input._handle.type}")
    n_given = n = index(n)
    if n < 0:
        input, n = call_host("inverse", input), -n
    if n == 0:
        return clone(expand(identity(shape[-1], shape[-1], input.dtype), shape))
    result: Tensor | None = None
    while n:
        if n & 1:
            result = input if result is None else matmul(result, input)
        n >>= 1
        if n:
            input = matmul(input, input)
    assert result is not None
    return clone(result) if n_given == 1 else result


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product; the operand of lower rank gets leading dimensions of size 1."""
    require_tensors("kron", input, other)
    rank = max(input.ndim, other.ndim)
    a = (1,) * (rank - input.ndim) + input._handle.type.shape
    b = (1,) * (rank - other.ndim) + other._handle.type.shape
    left = reshape(input, [size for n in a for size in (n, 1)])
    right = reshape(other, [size for n in b for size in (1, n)])
    return reshape(mul(left, right), [m * n for m, n in zip(a, b, strict=True)])


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors of three elements along a dimension, by default the first of
    size 3.

    Raises:
        ShapeError: the dimension has another size than 3.
    """
    require_tensors("cross", input, other)
    types = f"{input._handle.type} and {other._handle.type}"
    rank = max(input.ndim, other.ndim)
    try:
        shape = np.broadcast_shapes(input._handle.type.shape, other._handle.type.shape)
    except ValueError:
        raise ShapeError(f"[cross] shapes do not broadcast: {types}") from None
    if dim is None:
        if 3 not in shape:
            raise ShapeError(f"[cross] no dimension of size 3: {types}")
        dim = shape.index(3)
    d = normalise_dimension("cross", dim, rank)
    if not shape or shape[d] != 3:
        raise ShapeError(f"[cross] dimension {dim} has not size 3: {types}")
    x, y = expand(input, shape), expand(other, shape)
    a = [narrow(x, d, i, 1) for i in range(3)]
    b = [narrow(y, d, i, 1) for i in range(3)]
    parts = [a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3] for i in range(3)]
    return cat(parts, d)


@casting("f32")
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix' diagonal.

    Raises:
        ShapeError: it has not two dimensions.
    """
    require_tensors("trace", input)
    if input.ndim != 2:
        raise ShapeError(f"[trace] expected a matrix, given {input._handle.type}")
    return reductions.sum(take_diagonal(input))


# Arrangements -------------------------------------------------------------------------------------


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given ones (or rows, or numbers) along its diagonal."""
    require_tensors("block_diag", *tensors)
    dtype = result_type(*tensors)
    blocks = []
    for x in tensors:
        if x.ndim > 2:
            raise ShapeError(f"[block_diag] expects 2 dimensions at most, given {x._handle.type}")
        shape = (1,) * (2 - x.ndim) + x._handle.type.shape
        blocks.append(reshape(cast(x, dtype), shape))
    width = sum(block.shape[1] for block in blocks)
    rows, at = [], 0
    for block in blocks:
        after = width - at - block.shape[1]
        call = call_of(
            op_named("pad"), low=(0, at), high=(0, after), interior=(0, 0), value=0.0
        )
        rows.append(apply(call, block))
        at += block.shape[1]
    return cat(rows, 0)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of the elements of x [..., n] as columns [..., n, N], descending by default."""
    require_tensors("vander", x)
    if x.ndim == 0:
        raise ShapeError(f"[vander] needs at least 1 dimension, given {x._handle.type}")
    count = x.shape[-1] if N is None else N
    if count < 0:
        raise ValueError(f"vander(): N must not be negative, given {N}")
    columns = [ones_like(x)]
    while len(columns) < count:
        columns.append(columns[-1] * x)
    if count == 0:
        return reshape(narrow(x, -1, 0, 0), (*x.shape, 0))
    return stack(columns if increasing else columns[::-1], -1)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of one element of each vector, one a row."""
    require_tensors("cartesian_prod", *tensors)
    for x in tensors:
        if x.ndim != 1:
            raise ShapeError(f"[cartesian_prod] expects vectors, given {x._handle.type}")
    if len(tensors) == 1:
        return tensors[0]
    dtype = result_type(*tensors)
    grid = tuple(x.shape[0] for x in tensors)
    columns = []
    for d, x in enumerate(tensors):
        own = [grid[d] if axis == d else 1 for axis in range(len(grid))]
        columns.append(reshape(expand(reshape(cast(x, dtype), own), grid), (math.prod(grid),)))
    return stack(columns, 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All combinations of r elements of a vector, one a row, in the order of `itertools`."""
    require_tensors("combinations", input)
    if input.ndim != 1:
        raise ShapeError(f"[combinations] expects a vector, given {input._handle.type}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return narrow(input, 0, 0, 0)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = list(choose(range(input.shape[0]), r))
    index = from_array(np.array(chosen, dtype=np.int64).reshape(-1, r))
    if not chosen:
        return reshape(narrow(input, 0, 0, 0), (0, r))
    return apply(call_of(op_named("take"), dim=0), input, index)  # type: ignore[no-any-return]


# Distances ----------------------------------------------------------------------------------------

# With more points than this on a side, distances come from a matrix product, as in PyTorch.
MOST_DIRECT = 25


@casting("f32")
def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """The p-norm distances of all pairs of rows: [..., P, M] and [..., R, M] give [..., P, R].

    Args:
        compute_mode: whether Euclidean distances come from a matrix product, which is faster and
            less accurate for close points: "use_mm_for_euclid_dist",
            "donot_use_mm_for_euclid_dist", or by default for more than 25 rows.
    """
    require_tensors("cdist", x1, x2)
    a, b = x1._handle.type, x2._handle.type
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"[cdist] needs [..., P, M] and [..., R, M], given {a} and {b}")
    if not a.dtype.is_floating_point or a.dtype is not b.dtype:
        raise RuntimeError(f"cdist only supports floating-point dtypes, and equal ones: {a}, {b}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    many = a.shape[-2] > MOST_DIRECT or b.shape[-2] > MOST_DIRECT
    modes = {
        None: many,
        "use_mm_for_euclid_dist_if_necessary": many,
        "use_mm_for_euclid_dist": True,
        "donot_use_mm_for_euclid_dist": False,
    }
    if compute_mode not in modes:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    if p == 2 and modes[compute_mode]:
        left = reductions.sum(x1 * x1, -1, keepdim=True)
        right = swapped(reductions.sum(x2 * x2, -1, keepdim=True))
        squares = left + right - matmul(x1, swapped(x2)) * 2.0
        positive = squares > 0.0
        root: Tensor = where(positive, squares, scalar(1, squares.dtype)).sqrt()
        return where(positive, root, scalar(0, squares.dtype))
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return reductions.norm(difference, p, -1)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Scale each part along `dim` whose p-norm is above `maxnorm` down to it."""
    require_tensors("renorm", input)
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim}")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    d = normalise_dimension("renorm", dim, input.ndim)
    others = [axis for axis in range(input.ndim) if axis != d]
    norms = reductions.norm(input, p, others, keepdim=True)
    limit = scalar(maxnorm, norms.dtype)
    return mul(input, where(norms > limit, limit / (norms + 1e-7), scalar(1, norms.dtype)))


# Methods of `Tensor`, and those that have an in-place form.
METHODS = (
    "addmv addr addbmm baddbmm ger vdot inner matrix_power kron cross trace renorm"
).split()
INPLACE = "addmv addr addbmm baddbmm renorm".split()
