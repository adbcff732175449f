"""Sliding blocks of images as columns (`unfold`), and columns summed into images (`fold`)."""

from __future__ import annotations

import math
from typing import Any

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.promotion import cast
from braze.ir.dtypes import bool_, i8
from braze.ir.errors import DimensionError, ShapeError
from braze.ir.op import op_named
from braze.nn.functional.support import IntOrInts, Ints, batched
from braze.tensors import Tensor, apply


def _pair(value: Any, name: str) -> Ints:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if not all(hasattr(item, "__index__") for item in values):
        raise TypeError(f"{name} must be an int or a tuple of ints, given {value!r}")
    if len(values) != 2:
        raise ShapeError(f"It is expected {name} equals to 2, but got size {len(values)}")
    return tuple(map(int, values))


def _blocks(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, Ints]:
    blocks = {
        "kernel": _pair(kernel_size, "kernel_size"),
        "dilation": _pair(dilation, "dilation"),
        "padding": _pair(padding, "padding"),
        "stride": _pair(stride, "stride"),
    }
    for name, values in blocks.items():
        if min(values) < (0 if name == "padding" else 1):
            word = "non-negative" if name == "padding" else "greater than zero"
            raise ShapeError(f"{name} should be {word}, but got {values}")
    return blocks


def _block_counts(size: Ints, blocks: dict[str, Ints]) -> Ints:
    """How many blocks fit along each dimension: below 1 where none does."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, *blocks.values(), strict=True)
    )


def unfold(
    input: Tensor,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Tensor:
    """The sliding blocks of images, each as a column.

    Shape: [N, C, H, W] or [C, H, W] to [N, C * kh * kw, blocks].

    Raises:
        IndexError: fewer than three dimensions. RuntimeError: more than four, or no block fits.
    """
    require_tensors("unfold", input=input)
    blocks = _blocks(kernel_size, dilation, padding, stride)
    if input.ndim < 3:
        raise DimensionError(f"[unfold] needs [N, C, H, W] or [C, H, W]: {list(input.shape)}")
    if input.ndim > 4 or 0 in input.shape[-3:]:
        raise ShapeError(
            "[unfold] Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other "
            f"non-zero dimensions for input, but got: {list(input.shape)}"
        )
    size = tuple(input.shape[-2:])
    count = _block_counts(size, blocks)
    if min(count) < 1:
        raise ShapeError(
            f"[unfold] Given input with spatial size {size}, {_told(blocks)}, calculated shape of "
            f"the array of sliding blocks as {count}, but its components must be at least one."
        )
    call = call_of(op_named("im2col"), **blocks)
    return batched(lambda x: apply(call, x), input, 4)  # type: ignore[no-any-return]


def _told(blocks: dict[str, Ints]) -> str:
    words = {**blocks, "kernel_size": blocks["kernel"]}
    return ", ".join(
        f"{name}={words[name]}" for name in ("kernel_size", "dilation", "padding", "stride")
    )


def fold(
    input: Tensor,
    output_size: IntOrInts,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Tensor:
    """Columns as the blocks of images, summed where they overlap: the adjoint of `unfold`.

    Shape: [N, C * kh * kw, blocks] or [C * kh * kw, blocks] to [N, C, *output_size].

    Raises:
        RuntimeError: other dimensions, or the columns are not the blocks of such an image.
    """
    require_tensors("fold", input=input)
    output = _pair(output_size, "output_size")
    blocks = _blocks(kernel_size, dilation, padding, stride)
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise ShapeError(
            "[fold] Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and "
            f"non-zero dimensions for input, but got: {list(input.shape)}"
        )
    rows, columns = input.shape[-2:]
    if rows % math.prod(blocks["kernel"]):
        raise ShapeError(
            "[fold] Expected size of input's dimension 1 to be divisible by the product of "
            f"kernel_size, but got input.size(1)={rows} and kernel_size={blocks['kernel']}."
        )
    count = _block_counts(output, blocks)
    if min(count) < 1 or math.prod(count) != columns:
        raise ShapeError(
            f"[fold] Given output_size={output}, {_told(blocks)}, expected size of input's "
            f"dimension 2 to match the calculated number of sliding blocks {count[0]} * {count[1]} "
            f"= {math.prod(count)}, but got input.size(2)={columns}."
        )
    call = call_of(op_named("col2im"), output=output, **blocks)
    if input.dtype is bool_:  # sums of truth values: whether any is true
        counted = batched(lambda x: apply(call, x), cast(input, i8), 3)
        return cast(counted, bool_)
    return batched(lambda x: apply(call, x), input, 3)  # type: ignore[no-any-return]
