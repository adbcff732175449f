"""Linear maps and embeddings."""

from __future__ import annotations

import functools

from braze.autograd.modes import no_grad
from braze.capture import Call, call_of
from braze.functions.arguments import require_tensors
from braze.functions.creation import ones
from braze.functions.indexing import check_index
from braze.functions.linalg import matmul
from braze.functions.movement import reshape, unsqueeze
from braze.functions.pointwise import add, bitwise_and, div, eq, gt, mul, sub, where
from braze.functions.reductions import norm, sum
from braze.functions.tables import sums_at
from braze.ir.dtypes import i32, i64
from braze.ir.op import op_named
from braze.nn.functional.support import plain
from braze.tensors import Tensor, apply


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Shape: input [..., in], weight [out, in], bias [out] to [..., out].

    Raises:
        ShapeError: sizes do not fit. DTypeError: dtypes differ.
    """
    require_tensors("linear", input=input)
    if bias is None:
        return apply(plain("linear_no_bias"), input, weight)  # type: ignore[no-any-return]
    return apply(plain("linear"), input, weight, bias)  # type: ignore[no-any-return]


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[..., o] = input1 @ weight[o] @ input2 + bias[o].

    Shape: [..., a], [..., b], weight [out, a, b], bias [out] to [..., out].
    """
    rows = matmul(unsqueeze(unsqueeze(input1, -2), -2), weight)  # [..., out, 1, b]
    result = sum(mul(reshape(rows, (*rows.shape[:-2], rows.shape[-1])), unsqueeze(input2, -2)), -1)
    return result if bias is None else add(result, bias)


@functools.cache
def _take_rows() -> Call:
    return call_of(op_named("take"), dim=0)


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
        RuntimeError: the input is neither int64 nor int32.
    """
    if input.dtype not in (i64, i32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got {input.dtype!r} instead (while checking arguments for embedding)"
        )
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    check_index("embedding", input, rows)
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    result: Tensor
    if sparse:
        from braze.sparse.gradients import rows_with_sparse_gradient

        result = rows_with_sparse_gradient(weight, input)
    else:
        result = apply(_take_rows(), weight, input)
    if scale_grad_by_freq and weight.requires_grad:
        places = reshape(input, (-1,))
        count = sums_at(places, ones(places.shape, dtype=weight.dtype), rows)
        share = unsqueeze(div(1.0, apply(_take_rows(), count, input)), -1)
        # The value is the rows' own; the gradient flows through the second part alone.
        result = add(result.detach(), mul(sub(result, result.detach()), share))
    if padding_idx is not None and weight.requires_grad:
        result = where(unsqueeze(eq(input, padding_idx), -1), result.detach(), result)
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
        used = gt(sums_at(places, ones(places.shape, dtype=i64), rows), 0)
        size = norm(self, norm_type, 1)
        factor = div(max_norm, add(size, 1e-7))
        factor = where(bitwise_and(used, gt(size, max_norm)), factor, 1.0)
        return self._replace(mul(self, unsqueeze(factor, 1)))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A new last dimension with 1 at the index and 0 elsewhere, int64.

    Args:
        num_classes: its size; -1 reads the tensor (a sync point) for the largest index.

    Raises:
        RuntimeError: the dtype is not int64, or a size that is not positive.
        IndexError: at the next sync, if an index is out of range.
    """
    if tensor.dtype is not i64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor, given {tensor.dtype!r}"
        )
    if num_classes == -1:
        num_classes = int(tensor._numpy().max()) + 1
    if num_classes <= 0:
        raise RuntimeError("num_classes should be positive")
    check_index("one_hot", tensor, num_classes)
    call = call_of(op_named("iota"), shape=(num_classes,), dim=0, dtype=i64)
    hits = eq(unsqueeze(tensor, -1), apply(call))
    return apply(call_of(op_named("cast"), dtype=i64), hits)  # type: ignore[no-any-return]
