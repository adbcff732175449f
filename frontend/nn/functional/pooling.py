"""Pooling over windows: maximum and average."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from braze.capture import Call, call_of
from braze.functions.arguments import require_tensors
from braze.functions.pointwise import mul
from braze.functions.settled import settled
from braze.ir.errors import DimensionError, ShapeError
from braze.ir.op import op_named
from braze.ir.ops.pooling_windows import pooled_size, reach
from braze.nn.functional.padding import pad
from braze.nn.functional.support import Ints, batched, check_spatial, ints
from braze.tensors import Tensor, apply


def check_filled(name: str, input: Tensor, first: int) -> None:
    """Raise ShapeError if a dimension from `first` on is empty."""
    for dim in range(first, input.ndim):
        if input.shape[dim] == 0:
            raise ShapeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but "
                f"input has sizes {list(input.shape)} with dimension {dim} being empty"
            )


def _check_padding(kernel: Ints, padding: Ints) -> None:
    for k, p in zip(kernel, padding, strict=True):
        if p > k // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={k}"
            )


@functools.cache
def max_call(kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool) -> Call:
    """The call of max pooling: maxima, their places, and what gradients need."""
    return call_of(
        op_named("max_pool"),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@settled
def _max_pool(
    spatial: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    check_spatial(f"max_pool{spatial}d", spatial, input)
    if input.shape[-spatial - 1] == 0:
        raise ShapeError(
            f"[max_pool{spatial}d] Expected {spatial + 1}D or {spatial + 2}D (batch mode) tensor "
            f"with optional 0 dim batch size for input, but got: {list(input.shape)}"
        )
    kernel = ints(kernel_size, spatial, "kernel_size")
    strides = kernel if _unset(stride) else ints(stride, spatial, "stride")
    paddings = ints(padding, spatial, "padding")
    _check_padding(kernel, paddings)
    dilations = ints(dilation, spatial, "dilation")
    call = max_call(kernel, strides, paddings, dilations, ceil_mode)
    results = batched(lambda x: apply(call, x), input, spatial + 2)
    return (results[0], results[1]) if return_indices else results[0]


def _unset(stride: Any) -> bool:
    return stride is None or (isinstance(stride, (tuple, list)) and not stride)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window over one dimension.

    Shape: [N, C, L] or [C, L] to [N, C, L'].

    Returns:
        The maxima, and if `return_indices` their positions in the input.
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window over two dimensions.

    Shape: [N, C, H, W] or [C, H, W] to [N, C, H', W'].

    Returns:
        The maxima, and if `return_indices` their flat positions in each input plane.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window over three dimensions.

    Shape: [N, C, D, H, W] or [C, D, H, W] to [N, C, D', H', W'].
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _with_indices(function: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> tuple[Tensor, Tensor]:
        return function(input, kernel_size, stride, padding, dilation, ceil_mode, True)  # type: ignore[no-any-return]

    pool.__name__ = f"{function.__name__}_with_indices"
    pool.__doc__ = f"`{function.__name__}`, and the positions of the maxima, whatever is asked for."
    return pool


max_pool1d_with_indices = _with_indices(max_pool1d)
max_pool2d_with_indices = _with_indices(max_pool2d)
max_pool3d_with_indices = _with_indices(max_pool3d)


@functools.cache
def _average_call(
    kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool
) -> Call:
    return call_of(
        op_named("avg_pool"),
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


@settled
def _average_pool(
    spatial: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    require_tensors(f"avg_pool{spatial}d", input=input)
    if spatial == 2 and input.ndim < 3:  # which PyTorch finds out in another way
        raise DimensionError(f"[avg_pool2d] needs 3 or 4 dimensions, given {input._handle.type}")
    check_spatial(f"avg_pool{spatial}d", spatial, input)
    kernel = ints(kernel_size, spatial, "kernel_size")
    strides = kernel if _unset(stride) else ints(stride, spatial, "stride")
    paddings = ints(padding, spatial, "padding")
    _check_padding(kernel, paddings)
    if divisor is None:
        call = _average_call(kernel, strides, paddings, ceil_mode, count_include_pad)
        return batched(lambda x: apply(call, x), input, spatial + 2)  # type: ignore[no-any-return]
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")

    def divided(x: Tensor) -> Tensor:
        # Zeros as far as the windows reach make all windows whole: the factor replaces their size.
        name, ones = f"avg_pool{spatial}d", (1,) * spatial
        size = tuple(x.shape[2:])
        count = pooled_size(name, x._handle.type, kernel, strides, paddings, ones, ceil_mode)
        after = reach(size, count, kernel, strides, paddings, ones)
        sides = zip(reversed(paddings), reversed(after), strict=True)
        padded = pad(x, [side for low, high in sides for side in (low, max(high, 0))])
        means = apply(_average_call(kernel, strides, (0,) * spatial, False, True), padded)
        return mul(means, math.prod(kernel) / divisor)

    return batched(divided, input, spatial + 2)  # type: ignore[no-any-return]


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window over one dimension.

    Shape: [N, C, L] or [C, L] to [N, C, L'].
    """
    return _average_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window over two dimensions.

    Shape: [N, C, H, W] or [C, H, W] to [N, C, H', W'].

    Args:
        count_include_pad: whether the zeros of the padding count as elements.
        divisor_override: divide the sums by this instead.
    """
    return _average_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window over three dimensions; see `avg_pool2d`.

    Shape: [N, C, D, H, W] or [C, D, H, W] to [N, C, D', H', W'].
    """
    return _average_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
