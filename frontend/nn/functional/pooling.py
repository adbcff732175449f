"""Pooling over windows: maximum, average, and average to a given size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from braze.capture import Call, call_of
from braze.functions.arguments import require_tensors
from braze.functions.pointwise import mul
from braze.ir.errors import ShapeError
from braze.ir.op import op_named
from braze.nn.functional.support import Ints, batched, ints
from braze.tensors import Tensor, apply


def _check(name: str, spatial: int, input: Tensor) -> None:
    require_tensors(name, input=input)
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"[{name}] expected {spatial + 1}D (unbatched) or {spatial + 2}D (batched) input, "
            f"given {input._handle.type}"
        )


def _check_padding(kernel: Ints, padding: Ints) -> None:
    for k, p in zip(kernel, padding, strict=True):
        if p > k // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={k}"
            )


@functools.cache
def _max_call(kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool) -> Call:
    return call_of(
        op_named("max_pool"),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


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
    _check(f"max_pool{spatial}d", spatial, input)
    kernel = ints(kernel_size, spatial, "kernel_size")
    strides = kernel if _unset(stride) else ints(stride, spatial, "stride")
    paddings = ints(padding, spatial, "padding")
    _check_padding(kernel, paddings)
    dilations = ints(dilation, spatial, "dilation")
    call = _max_call(kernel, strides, paddings, dilations, ceil_mode)
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
    _check(f"avg_pool{spatial}d", spatial, input)
    kernel = ints(kernel_size, spatial, "kernel_size")
    strides = kernel if _unset(stride) else ints(stride, spatial, "stride")
    paddings = ints(padding, spatial, "padding")
    _check_padding(kernel, paddings)
    if divisor is not None:
        if divisor == 0:
            raise RuntimeError("divisor must be not zero")
        if ceil_mode:
            raise ValueError("avg_pool with both divisor_override and ceil_mode is not supported")
        # Over the whole window the divisor is the window's size, which the factor replaces.
        count_include_pad = True
    call = _average_call(kernel, strides, paddings, ceil_mode, count_include_pad)
    result: Tensor = batched(lambda x: apply(call, x), input, spatial + 2)
    if divisor is None:
        return result
    size = 1
    for k in kernel:
        size *= k
    return mul(result, size / divisor)


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


@functools.cache
def _adaptive_call(output: Ints) -> Call:
    return call_of(op_named("adaptive_avg_pool"), output=output)


def _adaptive(spatial: int, input: Tensor, output_size: Any) -> Tensor:
    _check(f"adaptive_avg_pool{spatial}d", spatial, input)
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * spatial
    if len(sizes) == 1:
        sizes = tuple(sizes) * spatial
    own = input.shape[-spatial:]
    # None keeps the input's size.
    wanted = tuple(n if size is None else int(size) for size, n in zip(sizes, own, strict=True))
    call = _adaptive_call(wanted)
    return batched(lambda x: apply(call, x), input, spatial + 2)  # type: ignore[no-any-return]


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows chosen so that the last dimension gets the given size."""
    return _adaptive(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows chosen so that the last two dimensions get these sizes (None: keep)."""
    return _adaptive(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows chosen so that the last three dimensions get these sizes (None: keep)."""
    return _adaptive(3, input, output_size)
