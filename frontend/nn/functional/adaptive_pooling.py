"""Pooling to a given size: average and maximum over bins that cover the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.functions.arguments import require_tensors
from braze.functions.creation import zeros
from braze.functions.indexing import nothing_of
from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.nn.functional.pooling import check_filled, max_call
from braze.nn.functional.support import Ints, batched, call_named
from braze.tensors import Tensor, apply


def output_sizes(name: str, spatial: int, input: Tensor, output_size: Any) -> Ints:
    """The sizes that are asked for, one for each dimension; None keeps the input's.

    Raises:
        RuntimeError: the input has other dimensions, or a size is negative.
        ValueError: more sizes than dimensions. TypeError: something else than ints.
    """
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * spatial
    is_sequence = given is output_size
    if spatial > 1 and is_sequence and input.ndim <= len(given):
        raise ValueError(f"Input dimension should be at least {len(given) + 1}")
    if input.ndim not in (spatial + 1, spatial + 2):
        raise ShapeError(
            f"{name}(): Expected {spatial + 1}D or {spatial + 2}D tensor, but got: "
            f"{list(input.shape)}"
        )
    if len(given) != spatial:
        raise ShapeError(f"{name}(): output_size must be {spatial} numbers, given {output_size!r}")
    sizes = []
    for size, own in zip(given, input.shape[-spatial:], strict=True):
        if size is None and is_sequence and spatial > 1:
            size = own
        if not hasattr(size, "__index__"):
            raise TypeError(
                f"{name}(): argument 'output_size' (position 2) must be int or tuple of ints, "
                f"given {output_size!r}"
            )
        sizes.append(int(size))
    if min(sizes) < 0:
        raise ShapeError(
            f"{name}(): elements of output_size must be greater than or equal to 0 but received "
            f"{sizes}"
        )
    return tuple(sizes)


def _average(spatial: int, input: Tensor, output_size: Any) -> Tensor:
    name = f"adaptive_avg_pool{spatial}d"
    require_tensors(name, input=input)
    sizes = output_sizes(name, spatial, input, output_size)
    check_filled(name, input, input.ndim - spatial - (spatial == 3))
    if 0 in sizes:
        return nothing_of(input, (*input.shape[:-spatial], *sizes))
    call = call_named("adaptive_avg_pool", output=sizes)
    return batched(lambda x: apply(call, x), input, spatial + 2)  # type: ignore[no-any-return]


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means over bins, so that the last dimension gets the given size: [N, C, L] or [C, L]."""
    return _average(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means over bins, so that the last two dimensions get these sizes (None in a tuple: keep)."""
    return _average(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means over bins, so that the last three dimensions get these sizes; None in a tuple: keep."""
    return _average(3, input, output_size)


def _maximum(spatial: int, input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    name = f"adaptive_max_pool{spatial}d"
    require_tensors(name, input=input)
    sizes = output_sizes(name, spatial, input, output_size)
    check_filled(name, input, input.ndim - spatial - 1)
    if not input.dtype.is_floating_point:
        raise DTypeError(f"[{name}] needs a floating-point input, given {input._handle.type}")
    if 0 in sizes:
        out = nothing_of(input, (*input.shape[:-spatial], *sizes))
        return out, zeros(out.shape, dtype=i64)
    size = input.shape[-spatial:]
    if all(n % m == 0 for n, m in zip(size, sizes, strict=True)):
        # Bins of one size lie side by side: each element asks one of them for its gradient.
        kernel = tuple(n // m for n, m in zip(size, sizes, strict=True))
        call = max_call(kernel, kernel, (0,) * spatial, (1,) * spatial, False)
    else:
        call = call_named("adaptive_max_pool", output=sizes)
    results = batched(lambda x: apply(call, x), input, spatial + 2)
    return results[0], results[1]


def _functions(spatial: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    name = f"adaptive_max_pool{spatial}d"

    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        results = _maximum(spatial, input, output_size)
        return results if return_indices else results[0]

    def with_indices(
        input: Tensor, output_size: Any, return_indices: bool = False
    ) -> tuple[Tensor, Tensor]:
        return _maximum(spatial, input, output_size)

    sizes = "size" if spatial == 1 else f"{('two', 'three')[spatial - 2]} sizes (None: keep)"
    pool.__name__ = pool.__qualname__ = name
    pool.__doc__ = f"""Maxima over bins that give the last dimensions the given {sizes}.

    Returns:
        The maxima, and if `return_indices` their flat positions in each input plane.
    """
    with_indices.__name__ = with_indices.__qualname__ = f"{name}_with_indices"
    with_indices.__doc__ = f"`{name}`, and the positions of the maxima, whatever is asked for."
    return pool, with_indices


adaptive_max_pool1d, adaptive_max_pool1d_with_indices = _functions(1)
adaptive_max_pool2d, adaptive_max_pool2d_with_indices = _functions(2)
adaptive_max_pool3d, adaptive_max_pool3d_with_indices = _functions(3)
