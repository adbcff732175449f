"""Max pooling over windows at random steps (Graham, "Fractional max-pooling", arXiv 1412.6071)."""

from __future__ import annotations

from typing import Any

from braze.capture import call_of
from braze.functions.arguments import require_tensors
from braze.functions.creation import zeros
from braze.functions.indexing import nothing_of
from braze.functions.random_numbers import rand
from braze.ir.dtypes import i64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.nn.functional.pooling import check_filled
from braze.nn.functional.support import Ints, batched
from braze.tensors import Tensor, apply


def _sizes(name: str, word: str, spatial: int, value: Any) -> Ints:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * spatial
    if not all(hasattr(item, "__index__") for item in values):
        raise TypeError(f"{name}(): {word} must be an int or a tuple of ints, given {value!r}")
    if len(values) != spatial:
        raise ShapeError(
            f"{name}: {word} must either be a single Int or tuple of {spatial} Ints, "
            f"given {value!r}"
        )
    return tuple(map(int, values))


def _by_ratio(name: str, spatial: int, input: Tensor, ratio: Any) -> Ints:
    ratios = ratio if isinstance(ratio, (tuple, list)) else (ratio,) * spatial
    if len(ratios) != spatial:
        raise ValueError(f"{name} requires output_ratio to be one number or {spatial}: {ratio!r}")
    return tuple(int(n * r) for n, r in zip(input.shape[-spatial:], ratios, strict=True))


def _check(name: str, spatial: int, input: Tensor, kernel: Ints, output: Ints) -> None:
    check_filled(name, input, input.ndim - spatial - 1)
    for n, k, o in zip(input.shape[-spatial:], kernel, output, strict=True):
        if o + k - 1 > n:
            raise ShapeError(
                f"{name}(): pool size {k} too large relative to input size {n} for {o} windows"
            )
    if min(*kernel, *output) < 0 or 0 in kernel:
        raise ShapeError(
            f"{name}(): kernel_size must be positive and output_size not negative, given {kernel} "
            f"and {output}"
        )


def _samples(name: str, spatial: int, input: Tensor, given: Tensor | None) -> Tensor:
    """What the windows' places are drawn from: [N, C, spatial]."""
    wanted = (
        1 if input.ndim == spatial + 1 else input.shape[0],
        input.shape[-spatial - 1],
        spatial,
    )
    if given is None:
        return rand(wanted, dtype=input.dtype)
    require_tensors(name, _random_samples=given)
    if given.requires_grad:
        raise RuntimeError(
            f"The function '{name}' is not differentiable with respect to argument 'random_samples'"
        )
    if given.dtype is not input.dtype:
        raise DTypeError(
            f"{name}(): Expect _random_samples to have the same dtype as input: {input.dtype!r}, "
            f"given {given.dtype!r}"
        )
    if tuple(given.shape) != wanted:
        raise ShapeError(
            f"{name}(): Expect _random_samples of shape {list(wanted)}, given {list(given.shape)}"
        )
    return given


def _pool(
    spatial: int,
    input: Tensor,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    random_samples: Tensor | None,
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{spatial}d"
    require_tensors(name, input=input)
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if input.ndim <= spatial:
        raise IndexError(f"{name}(): needs {spatial + 1} dimensions, given {list(input.shape)}")
    if input.ndim > spatial + 2:
        raise ShapeError(
            f"{name}(): Expected {spatial + 1}D or {spatial + 2}D tensor, but got: "
            f"{list(input.shape)}"
        )
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" not implemented for {input.dtype!r}')
    if output_size is None:
        output = _by_ratio(name, spatial, input, output_ratio)
    else:
        output = _sizes(name, "output_size", spatial, output_size)
    kernel = _sizes(name, "kernel_size", spatial, kernel_size)
    _check(name, spatial, input, kernel, output)
    samples = _samples(name, spatial, input, random_samples)
    if 0 in output:
        out = nothing_of(input, (*input.shape[:-spatial], *output))
        return out, zeros(out.shape, dtype=i64)
    call = call_of(op_named("fractional_max_pool"), kernel=kernel, output=output)
    return batched(lambda x: apply(call, x, samples), input, spatial + 2)  # type: ignore[no-any-return]


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima over windows at random steps, drawn for each plane.

    Shape: [N, C, H, W] or [C, H, W] to [N, C, *output_size].

    Args:
        kernel_size: of the windows.
        output_size: how many windows; or `output_ratio`, their number relative to the input's size.
        return_indices: also give the maxima's flat positions in each input plane.
        _random_samples: numbers in [0, 1), [N, C, 2], instead of ones that are drawn.

    Raises:
        ValueError: neither size nor ratio. RuntimeError: the windows do not fit.
    """
    results = _pool(2, input, kernel_size, output_size, output_ratio, _random_samples)
    return results if return_indices else results[0]


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima over windows at random steps in three dimensions; see `fractional_max_pool2d`.

    Shape: [N, C, D, H, W] or [C, D, H, W] to [N, C, *output_size].
    """
    results = _pool(3, input, kernel_size, output_size, output_ratio, _random_samples)
    return results if return_indices else results[0]


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool2d`, and the positions of the maxima, whatever is asked for."""
    return _pool(2, input, kernel_size, output_size, output_ratio, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool3d`, and the positions of the maxima, whatever is asked for."""
    return _pool(3, input, kernel_size, output_size, output_ratio, _random_samples)
