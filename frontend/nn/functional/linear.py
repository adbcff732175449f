"""Linear maps and one-hot vectors."""

from __future__ import annotations

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.indexing import check_bounds
from braze.functions.linalg import matmul
from braze.functions.movement import reshape, unsqueeze
from braze.functions.pointwise import add, eq, mul
from braze.functions.promotion import cast
from braze.functions.reductions import sum
from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.nn.functional.support import call_named
from braze.tensors import Tensor, apply

_LINEAR, _LINEAR_NO_BIAS = call_named("linear"), call_named("linear_no_bias")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Shape: input [..., in], weight [out, in], bias [out] to [..., out]; or, without a bias, weight
        [in] to [...].

    Raises:
        ShapeError: sizes do not fit, or a bias beside a vector of weights. DTypeError: dtypes
            differ.
    """
    if not isinstance(input, Tensor):
        require_tensors("linear", input=input)
    if len(weight._handle.type.shape) == 1:
        if bias is not None:
            raise ShapeError(
                f"[linear] the weight must be a matrix beside a bias, given {weight._handle.type}"
            )
        return matmul(input, weight)
    if bias is None:
        return apply(_LINEAR_NO_BIAS, input, weight)  # type: ignore[no-any-return]
    return apply(_LINEAR, input, weight, bias)  # type: ignore[no-any-return]


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[..., o] = input1 @ weight[o] @ input2 + bias[o].

    Shape: [..., a], [..., b], weight [out, a, b], bias [out] to [..., out].

    Raises:
        TypeError: an operand is no tensor. ShapeError: sizes do not fit.
    """
    require_tensors("bilinear", input1=input1, input2=input2, weight=weight)
    rows = matmul(unsqueeze(unsqueeze(input1, -2), -2), weight)  # [..., out, 1, b]
    result = sum(mul(reshape(rows, (*rows.shape[:-2], rows.shape[-1])), unsqueeze(input2, -2)), -1)
    return result if bias is None else add(result, bias)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A new last dimension with 1 at the index and 0 elsewhere, int64.

    Args:
        num_classes: its size; -1 reads the tensor (a sync point) for the largest index.

    Raises:
        RuntimeError: the dtype is not int64, a size that is not positive, or no element to read;
            at the next sync, if an index is out of range.
    """
    if tensor.dtype is not i64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor, given {tensor.dtype!r}"
        )
    check_bounds("one_hot", tensor, "Class values must be non-negative.", low=0)
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor._numpy().max()) + 1
    if num_classes <= 0:
        raise RuntimeError("num_classes should be positive")
    text = "Class values must be smaller than num_classes."
    check_bounds("one_hot", tensor, text, high=num_classes - 1)
    call = call_of(op_named("iota"), shape=(num_classes,), dim=0, dtype=i64)
    hits = eq(unsqueeze(tensor, -1), apply(call))
    return cast(hits, i64)
