"""Embeddings: rows of a table that integers name, one by one or in bags."""

from __future__ import annotations

import warnings

from braze.autograd.modes import is_grad_enabled, no_grad
from braze.capture import call_of
from braze.functions import pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.creation import arange, full, ones, zeros
from braze.functions.indexing import check_index, check_values, gather
from braze.functions.movement import expand, narrow, reshape, unsqueeze
from braze.functions.promotion import cast
from braze.functions.scattering import scatter_reduce
from braze.functions.tables import places_in, rows_at, sums_at
from braze.ir.dtypes import i32, i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.sites import user_stacklevel
from braze.tensors import Tensor, apply

MODES = ("sum", "mean", "max")


def _looked_up(weight: Tensor, index: Tensor, by_frequency: bool, sparse: bool) -> Tensor:
    """The rows that an index, all in range, names; `by_frequency` divides a row's gradient by how
    often it is named.

    Raises:
        RuntimeError: a sparse gradient is to be divided.
    """
    result: Tensor
    if sparse:
        from braze.sparse.gradients import rows_with_sparse_gradient

        result = rows_with_sparse_gradient(weight, index)
    else:
        result = rows_at(weight, index)
    if by_frequency and weight.requires_grad and is_grad_enabled():
        if sparse:
            raise RuntimeError("scale_grad_by_freq is not supported with sparse gradients")
        places = reshape(index, (-1,))
        count = sums_at(places, ones(places.shape, dtype=weight.dtype), weight.shape[0])
        share = unsqueeze(pointwise.div(1.0, rows_at(count, index)), -1)
        # The value is the rows' own; the gradient flows through the second part alone.
        own = result.detach()
        result = pointwise.add(own, pointwise.mul(pointwise.sub(result, own), share))
    return result


def _check_operands(name: str, index: Tensor, weight: Tensor) -> None:
    if index.dtype not in (i64, i32):
        raise DTypeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got {index.dtype!r} instead (while checking arguments for {name})"
        )
    if weight.ndim != 2:
        raise ShapeError(f"[{name}] 'weight' must be 2-D, given {weight._handle.type}")


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that the integers of `input` name.

    Args:
        padding_idx: this row gets no gradient.
        max_norm: rows that are used and whose `norm_type`-norm is above it are first scaled down to
            it, in place.
        scale_grad_by_freq: divide a row's gradient by how often the row is used.
        sparse: the gradient of `weight` is to be a sparse tensor, with an entry for each row that
            was named (zero for `padding_idx`).

    Shape: input [...], weight [rows, width] to [..., width].

    Raises:
        IndexError: at the next sync, if a row does not exist.
        RuntimeError: the input is neither int64 nor int32, the weight no matrix, or a sparse
            gradient is to be divided.
    """
    require_tensors("embedding", input=input, weight=weight)
    _check_operands("embedding", input, weight)
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    check_index("embedding", input, rows)
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    result = _looked_up(weight, input, scale_grad_by_freq, sparse)
    if padding_idx is not None and weight.requires_grad:
        padding = unsqueeze(pointwise.eq(input, padding_idx), -1)
        result = pointwise.where(padding, result.detach(), result)
    return result


def embedding_renorm_(
    self: Tensor, indices: Tensor, max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Scale the rows that the indices name and whose norm is above `max_norm` down to it, in place.

    Raises:
        IndexError: at the next sync, if a row does not exist.
    """
    rows = self.shape[0]
    check_index("embedding_renorm_", indices, rows)
    with no_grad():
        places = reshape(indices, (-1,))
        used = pointwise.gt(sums_at(places, ones(places.shape, dtype=i64), rows), 0)
        size = reductions.norm(self, norm_type, 1)
        factor = pointwise.div(max_norm, pointwise.add(size, 1e-7))
        above = pointwise.bitwise_and(used, pointwise.gt(size, max_norm))
        factor = pointwise.where(above, factor, 1.0)
        return self._replace(pointwise.mul(self, unsqueeze(factor, 1)))


# Bags ---------------------------------------------------------------------------------------------


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of `weight` in each bag; zeros for an empty bag.

    Args:
        input: the rows' numbers, int64 or int32: [bags, length], or [n] for bags that start at
            `offsets`.
        offsets: [bags], ascending from 0; with `include_last_offset` one more, where the last ends.
        max_norm, norm_type, scale_grad_by_freq, sparse: as of `embedding`.
        mode: "sum", "mean" or "max".
        per_sample_weights: factors of the rows, of the input's shape; for sums only.
        padding_idx: rows of this number are left out.

    Shape: [bags, width].

    Raises:
        ValueError: shapes or the mode do not fit. NotImplementedError: factors for another mode.
        RuntimeError: dtypes do not fit; at the next sync, if a row does not exist or the offsets
            are none.
    """
    require_tensors("embedding_bag", input=input, weight=weight)
    if weight.dtype is i64 and input.dtype.is_floating_point:
        warnings.warn(
            "Argument order of nn.functional.embedding_bag was changed. Usage "
            "`embedding_bag(weight, input, ...)` is deprecated, and should now be "
            "`embedding_bag(input, weight, ...)`.",
            stacklevel=user_stacklevel(),
        )
        weight, input = input, weight
    _check_bags(input, weight, offsets, mode, per_sample_weights)
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if max_norm is not None:
        _check_operands("embedding_bag", input, weight)
        embedding_renorm_(weight, input, max_norm, norm_type)
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        )
    rows = _Bags(
        weight, input, offsets, scale_grad_by_freq, sparse, include_last_offset, padding_idx
    )
    return rows.combined(mode, per_sample_weights)


def _check_bags(
    input: Tensor, weight: Tensor, offsets: Tensor | None, mode: str, factors: Tensor | None
) -> None:
    if factors is not None and input.shape != factors.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({factors.shape}) is not None, then it must "
            f"have the same shape as the input ({input.shape})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim not in (1, 2):
        raise ValueError(
            f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}"
        )
    if input.ndim == 2 and offsets is not None:
        raise ValueError(
            "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of "
            f"fixed length sequences. However, found offsets of type {type(offsets)}"
        )
    if input.ndim == 2 and not input.shape[1]:
        raise RuntimeError("step must be nonzero")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        given = " but got None" if offsets is None else ""
        raise ValueError(f"offsets has to be a 1D Tensor{given}")
    if mode not in MODES:
        raise ValueError("mode has to be one of sum, mean or max")


class _Bags:
    """The rows of a table in bags.

    Bags of one length are a dimension of their own, which reductions run over; others are summed by
    the number of the bag that each row is in.
    """

    def __init__(
        self,
        weight: Tensor,
        input: Tensor,
        offsets: Tensor | None,
        by_frequency: bool,
        sparse: bool,
        include_last: bool,
        padding_idx: int | None,
    ) -> None:
        _check_operands("embedding_bag", input, weight)
        if not weight.dtype.is_floating_point:
            raise DTypeError(f"[embedding_bag] the weight must be floats, given {weight.dtype!r}")
        count = weight.shape[0]
        if padding_idx is not None and not -count <= padding_idx < count:
            raise RuntimeError(
                f"padding_idx must be within the number of embeddings, -{count} through "
                f"{count - 1}, but got {padding_idx}"
            )
        check_index("embedding_bag!", input, count)
        self.input = input
        self.bags = input.shape[0]
        self.bag: Tensor | None = None
        self.outside: Tensor | None = None
        if offsets is not None:
            self._number(offsets, include_last)
        self.rows = _looked_up(weight, input, by_frequency, sparse)
        self.padding: Tensor | None = None
        if padding_idx is not None:
            self.padding = pointwise.eq(input, padding_idx % count)

    def _number(self, offsets: Tensor, include_last: bool) -> None:
        """Find the number of the bag that each row is in."""
        name, size = "embedding_bag", self.input.shape[0]
        if offsets.dtype not in (i64, i32):
            raise DTypeError(f"[{name}] offsets must be integers, given {offsets.dtype!r}")
        if include_last and not offsets.shape[0]:
            raise ShapeError("include_last_offset: number of offset should be at least 1")
        offsets = cast(offsets, i64)
        count = offsets.shape[0]
        if count:
            first, last = narrow(offsets, 0, 0, 1), narrow(offsets, 0, count - 1, 1)
            check_values(name, pointwise.ne(first, 0), "offsets[0] has to be 0, i.e., the first "
                         "sequence in the mini-batch has to start from position 0")  # fmt: skip
            text = f"offsets[-1] can not be greater than input's length {size}"
            check_values(name, pointwise.gt(last, size), text)
        if count > 1:
            falls = pointwise.gt(narrow(offsets, 0, 0, count - 1), narrow(offsets, 0, 1, count - 1))
            check_values(name, falls, "offsets must not descend")
        self.bags = count - include_last
        starts = narrow(offsets, 0, 0, self.bags)
        self.bag = pointwise.sub(places_in(starts, arange(size), True), 1)
        if include_last:
            self.outside = pointwise.ge(arange(size), narrow(offsets, 0, count - 1, 1))

    def numbers(self) -> Tensor:
        """The bag of each row."""
        if self.bag is not None:
            return self.bag
        own = unsqueeze(arange(self.bags), 1)
        return reshape(expand(own, self.input.shape), (-1,))

    def _counted(self) -> Tensor | None:
        """False where a row is padding, or behind the last bag; None if all count."""
        left_out, outside = self.padding, self.outside
        if outside is not None:
            left_out = outside if left_out is None else pointwise.bitwise_or(outside, left_out)
        return None if left_out is None else pointwise.logical_not(left_out)

    def _sum(self, values: Tensor) -> Tensor:
        """The sum in each bag of what is there for each row."""
        if self.bag is None:
            return reductions.sum(values, 1)
        if not self.bags:
            return zeros(0, *values.shape[1:], dtype=values.dtype)
        empty = zeros(self.bags, *values.shape[1:], dtype=values.dtype)
        add: Tensor = apply(call_of(op_named("index_add"), dim=0), empty, self.bag, values)
        return add

    def sizes(self) -> Tensor:
        """How many rows of each bag count."""
        counted = self._counted()
        if counted is None:
            counted = ones(self.input.shape, dtype=i64)
        return self._sum(cast(counted, i64))

    def combined(self, mode: str, factors: Tensor | None) -> Tensor:
        """[bags, width]."""
        if mode == "max":
            return self.largest()[0]
        rows, counted = self.rows, self._counted()
        if factors is not None:
            if factors.dtype is not rows.dtype:
                raise DTypeError(
                    "[embedding_bag] expected per_sample_weights of the weight's dtype "
                    f"{rows.dtype!r}, given {factors.dtype!r}"
                )
            rows = pointwise.mul(rows, unsqueeze(factors, -1))
        if counted is not None:
            rows = pointwise.where(unsqueeze(counted, -1), rows, 0.0)
        total = self._sum(rows)
        if mode == "sum":
            return total
        sizes = cast(pointwise.clamp(self.sizes(), min=1), rows.dtype)
        return pointwise.div(total, unsqueeze(sizes, -1))

    def largest(self) -> tuple[Tensor, Tensor]:
        """The maxima, and the numbers of the rows that they are of (the first of equal ones)."""
        width, count = self.rows.shape[-1], self.input.numel()
        rows = reshape(self.rows, (-1, width))
        if not count or not self.bags:
            return (
                zeros(self.bags, width, dtype=rows.dtype),
                zeros(self.bags, width, dtype=i64),
            )
        counted = self._counted()
        values = rows.detach()
        if counted is not None:
            flat = reshape(counted, (-1, 1))
            values = pointwise.where(flat, values, float("-inf"))
        bag = expand(unsqueeze(self.numbers(), 1), (count, width))
        lowest = full((self.bags, width), float("-inf"), dtype=rows.dtype)
        top = scatter_reduce(lowest, 0, bag, values, "amax")
        found = pointwise.eq(values, gather(top, 0, bag))
        if counted is not None:
            found = pointwise.bitwise_and(found, flat)
        place = pointwise.where(found, unsqueeze(arange(count), 1), count)
        first = scatter_reduce(full((self.bags, width), count, dtype=i64), 0, bag, place, "amin")
        some = pointwise.lt(first, count)
        first = pointwise.clamp(first, max=count - 1)
        numbers = cast(reshape(self.input, (-1, 1)), i64)
        numbers = gather(expand(numbers, (count, width)), 0, first)
        return (
            pointwise.where(some, gather(rows, 0, first), 0.0),
            pointwise.where(some, numbers, 0),
        )


def bags_of_top_level(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows of `weight` in bags: their sum (mode 0), mean (1) or maximum (2); the bag of each
    row, the sizes of the bags, and where the maxima are from (0 where that is not known).

    Raises:
        RuntimeError: as `nn.functional.embedding_bag`.
    """
    name = "embedding_bag"
    if mode not in (0, 1, 2):
        raise RuntimeError("`mode` must be sum, mean, or max.")
    if per_sample_weights is not None:
        if mode:
            raise RuntimeError("embedding_bag: per_sample_weights only supported with mode='sum'")
        if per_sample_weights.shape != indices.shape:
            raise ShapeError(
                f"[{name}] per_sample_weights must have the shape {list(indices.shape)}, given "
                f"{list(per_sample_weights.shape)}"
            )
    if indices.ndim != 1 or offsets.ndim != 1:
        raise ShapeError(
            f"[{name}] indices and offsets must be vectors, given {indices._handle.type} and "
            f"{offsets._handle.type}"
        )
    bags = _Bags(
        weight, indices, offsets, scale_grad_by_freq, sparse, include_last_offset, padding_idx
    )
    if mode == 2:
        result, found = bags.largest()
        return result, bags.numbers(), bags.sizes(), found
    result = bags.combined(MODES[mode], per_sample_weights)
    if mode == 1:
        sizes = bags.sizes()
        return result, bags.numbers(), sizes, sizes
    return result, zeros(0, dtype=i64), zeros(bags.bags, dtype=i64), zeros(bags.bags, dtype=i64)
