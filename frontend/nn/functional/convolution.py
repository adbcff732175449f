"""Convolutions over one, two and three spatial dimensions."""

from __future__ import annotations

import functools
from typing import Any

from braze.capture import Call, call_of
from braze.functions.movement import permute, reshape
from braze.functions.pointwise import add
from braze.functions.settled import settled
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.nn.functional.padding import pad
from braze.nn.functional.support import IntOrInts, Ints, batched, check_spatial, ints
from braze.tensors import Tensor, apply


@functools.cache
def _call(biased: bool, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Call:
    op = op_named("conv" if biased else "conv_no_bias")
    return call_of(op, stride=stride, padding=padding, dilation=dilation, groups=groups)


def same_padding(kernel: Ints, stride: Ints, dilation: Ints) -> list[tuple[int, int]]:
    """Amounts before and after each dimension that keep the size; the odd one goes after.

    Raises:
        RuntimeError: the stride is not 1.
    """
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


@settled
def convolve(
    name: str,
    spatial: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    """A convolution over the last `spatial` dimensions, with PyTorch's argument forms.

    Raises:
        ShapeError: the input is neither [N, C, ...] nor [C, ...], or channels do not fit.
    """
    check_spatial(name, spatial, input)
    strides, dilations = ints(stride, spatial, "stride"), ints(dilation, spatial, "dilation")
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise RuntimeError(
                f"Invalid padding string {padding!r}, should be one of 'valid', 'same'"
            )
        amounts = [(0, 0)] * spatial
        if padding == "same":
            amounts = same_padding(tuple(weight.shape[2:]), strides, dilations)
        if any(low != high for low, high in amounts):
            input = pad(input, [side for pair in reversed(amounts) for side in pair])
            amounts = [(0, 0)] * spatial
        paddings = tuple(low for low, _ in amounts)
    else:
        paddings = ints(padding, spatial, "padding")
    call = _call(bias is not None, strides, paddings, dilations, groups)
    rest = (weight,) if bias is None else (weight, bias)
    if input.ndim == spatial + 2:
        return apply(call, input, *rest)  # type: ignore[no-any-return]
    return batched(lambda x: apply(call, x, *rest), input, spatial + 2)  # type: ignore[no-any-return]


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over one dimension.

    Shape: input [N, C, L] or [C, L], weight [out, C / groups, k], bias [out] to [N, out, L'].
    """
    return convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over two dimensions.

    Shape: input [N, C, H, W] or [C, H, W], weight [out, C / groups, kh, kw], bias [out] to [N, out,
        H', W'].
    """
    return convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over three dimensions.

    Shape: input [N, C, D, H, W] or [C, D, H, W], weight [out, C / groups, kd, kh, kw] to [N, out,
        D', H', W'].
    """
    return convolve("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def convolve_transposed(
    name: str,
    spatial: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """The gradient of a convolution for its input, as a function of its result.

    Raises:
        ShapeError: the input is neither [N, C, ...] nor [C, ...], or channels do not fit.
    """
    check_spatial(name, spatial, input)
    strides, dilations = ints(stride, spatial, "stride"), ints(dilation, spatial, "dilation")
    paddings = ints(padding, spatial, "padding")
    extra = ints(output_padding, spatial, "output_padding")
    border: list[int] = []
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
            raise ShapeError(
                f"[{name}] output padding must be smaller than either stride or dilation, but got "
                f"output_padding {extra}, stride {strides}, dilation {dilations}"
            )
        # So much is no padding of any convolution's result: crop and pad the whole result.
        pairs = [(-p, e - p) for p, e in zip(reversed(paddings), reversed(extra), strict=True)]
        border = [side for pair in pairs for side in pair]
        paddings = extra = (0,) * spatial
    call = call_of(
        op_named("conv_transpose"),
        output_padding=extra,
        stride=strides,
        padding=paddings,
        dilation=dilations,
        groups=groups,
    )

    def apply_to(x: Tensor) -> Tensor:
        result: Tensor = apply(call, x, weight)
        if border:
            result = pad(result, border)
        if bias is None:
            return result
        if tuple(bias.shape) != (result.shape[1],):
            raise ShapeError(
                f"[{name}] the bias must be [{result.shape[1]}] for weight {weight._handle.type}, "
                f"given {bias._handle.type}"
            )
        return add(result, reshape(bias, (-1, *(1,) * spatial)))

    return batched(apply_to, input, spatial + 2)  # type: ignore[no-any-return]


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """The transposed convolution over one dimension.

    Shape: input [N, C, L] or [C, L], weight [C, out / groups, k], bias [out] to [N, out, L'] with
    L' = (L - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1.
    """
    rest = (stride, padding, output_padding, groups, dilation)
    return convolve_transposed("conv_transpose1d", 1, input, weight, bias, *rest)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """The transposed convolution over two dimensions; see `conv_transpose1d`."""
    rest = (stride, padding, output_padding, groups, dilation)
    return convolve_transposed("conv_transpose2d", 2, input, weight, bias, *rest)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """The transposed convolution over three dimensions; see `conv_transpose1d`."""
    rest = (stride, padding, output_padding, groups, dilation)
    return convolve_transposed("conv_transpose3d", 3, input, weight, bias, *rest)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Cross-correlation over time.

    Shape: input [T, N, C], weight [k, C, out], bias [out] to [T', N, out].

    Raises:
        ShapeError: the input or the weight has not three dimensions.
    """
    if input.ndim != 3 or weight.ndim != 3:
        raise ShapeError(
            f"[conv_tbc] needs 3-dimensional tensors, given {input._handle.type} and "
            f"{weight._handle.type}"
        )
    result = conv1d(permute(input, 1, 2, 0), permute(weight, 2, 1, 0), bias, padding=pad)
    return permute(result, 2, 0, 1)
