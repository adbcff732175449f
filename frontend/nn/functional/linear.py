"""Linear maps, one-hot vectors and padding."""

from __future__ import annotations

from typing import Any

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.indexing import check_values
from braze.functions.linalg import matmul
from braze.functions.movement import cat, flip, narrow, reshape, unsqueeze
from braze.functions.pointwise import add, eq, ge, lt, mul
from braze.functions.reductions import sum
from braze.ir.dtypes import i64
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.nn.functional.support import plain
from braze.tensors import Tensor, apply


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Shape: input [..., in], weight [out, in], bias [out] to [..., out]; or, without a bias, weight
        [in] to [...].

    Raises:
        ShapeError: sizes do not fit, or a bias beside a vector of weights. DTypeError: dtypes
            differ.
    """
    require_tensors("linear", input=input)
    if weight.ndim == 1:
        if bias is not None:
            raise ShapeError(
                f"[linear] the weight must be a matrix beside a bias, given {weight._handle.type}"
            )
        return matmul(input, weight)
    if bias is None:
        return apply(plain("linear_no_bias"), input, weight)  # type: ignore[no-any-return]
    return apply(plain("linear"), input, weight, bias)  # type: ignore[no-any-return]


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
    check_values("one_hot", lt(tensor, 0), "Class values must be non-negative.")
    if num_classes == -1:
        if not tensor.numel():
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor._numpy().max()) + 1
    if num_classes <= 0:
        raise RuntimeError("num_classes should be positive")
    wrong = ge(tensor, num_classes)
    check_values("one_hot", wrong, "Class values must be smaller than num_classes.")
    call = call_of(op_named("iota"), shape=(num_classes,), dim=0, dtype=i64)
    hits = eq(unsqueeze(tensor, -1), apply(call))
    return apply(call_of(op_named("cast"), dtype=i64), hits)  # type: ignore[no-any-return]


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad (or, with negative amounts, crop) the last dimensions.

    Args:
        pad: amounts before and after the last dimension, then the one before it, and so on.
        mode: "constant" (with `value`, 0 by default), "reflect", "replicate" or "circular".

    Raises:
        RuntimeError: an odd number of amounts, or more than the tensor has dimensions for.
        NotImplementedError: an unknown mode.
    """
    amounts = tuple(int(amount) for amount in pad)
    if len(amounts) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(amounts) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            "padding "
            f"length {len(amounts)} and input of dimension {input.ndim}"
        )
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    if mode == "constant":
        return _pad_constant(input, pairs, 0.0 if value is None else float(value))
    if mode not in _BORDERS:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    for i, (low, high) in enumerate(pairs):
        input = _pad_border(input, input.ndim - 1 - i, low, high, mode)
    return input


def _pad_constant(input: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    rank = input.ndim
    low, high = [0] * rank, [0] * rank
    for i, (before, after) in enumerate(pairs):
        d = rank - 1 - i
        size = input.shape[d]
        if size + before + after < 0:
            raise RuntimeError(
                f"The input size {size}, plus negative padding {before} and {after}, resulted in a "
                "negative "
                "output size"
            )
        if before < 0 or after < 0:
            start, stop = max(-before, 0), size - max(-after, 0)
            input = narrow(input, d, start, stop - start)
        low[d], high[d] = max(before, 0), max(after, 0)
    call = call_of(
        op_named("pad"), low=tuple(low), high=tuple(high), interior=(0,) * rank, value=value
    )
    return apply(call, input)  # type: ignore[no-any-return]


_BORDERS = ("reflect", "replicate", "circular")


def _pad_border(input: Tensor, dim: int, low: int, high: int, mode: str) -> Tensor:
    size = input.shape[dim]
    limit = {"reflect": size - 1, "circular": size, "replicate": max(low, high)}[mode]
    if max(low, high) > limit or (size == 0 and max(low, high) > 0):
        raise RuntimeError(
            f"Padding size should be at most {limit} for mode {mode!r}, but got ({low}, {high}) at "
            f"dimension {dim} of input {list(input.shape)}"
        )
    if min(low, high) < 0:
        start, stop = max(-low, 0), size - max(-high, 0)
        input, low, high = narrow(input, dim, start, stop - start), max(low, 0), max(high, 0)
        size = input.shape[dim]
    if mode == "reflect":
        before, after = narrow(input, dim, 1, low), narrow(input, dim, size - 1 - high, high)
        before, after = flip(before, dim), flip(after, dim)
    elif mode == "circular":
        before, after = narrow(input, dim, size - low, low), narrow(input, dim, 0, high)
    else:
        first, last = narrow(input, dim, 0, 1), narrow(input, dim, size - 1, 1)
        parts = [*[first] * low, input, *[last] * high]
        return cat(parts, dim) if len(parts) > 1 else input
    parts = [part for part in (before, input, after) if part.shape[dim]]
    return cat(parts, dim) if len(parts) > 1 else input
