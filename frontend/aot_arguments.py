"""What `aot.compile` is given, checked: inputs, samples to compare, targets and weights' dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from braze import engine
from braze.ir.dtypes import DType
from braze.ir.polynomials import Point
from braze.tensors import Tensor
from braze.tracing import Traced


def tensors_of(inputs: Any, what: str) -> list[Tensor]:
    """The arguments of one call.  Raises: TypeError if one is no tensor."""
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, argument in enumerate(arguments):
        if not isinstance(argument, Tensor):
            raise TypeError(f"{what} input {i} must be a tensor, given {type(argument).__name__}")
    return arguments


def array_of(x: Tensor) -> np.ndarray:
    """A tensor's elements in the host's memory."""
    found: np.ndarray = x.detach().cpu()._numpy()
    return found


def named_alike(traced: Traced, other: Traced, more: dict[str, np.ndarray]) -> None:
    """Call what a module reads, beside its arguments, as it is called at the first choice of sizes.

    Args:
        other: its graph at another choice.
        more: takes up the arrays of what is read at other sizes only.
    """
    known = list(zip(traced.graph.inputs[traced.arguments :], traced.captured, strict=True))
    inputs = other.graph.inputs[other.arguments :]
    for value, its in zip(inputs, other.captured, strict=True):
        assert isinstance(its, Tensor)
        same = next((pair for pair in known if _is_same(pair[1], its)), None)
        if same is not None:
            known.remove(same)
            value.name = same[0].name
        else:
            array = array_of(its)
            value.name = f"other{sha256(array.tobytes() + str(value.type).encode()).hexdigest()}"
            more[value.name] = array


def _is_same(mine: Any, its: Tensor) -> bool:
    if mine is its or mine._current() is its._current():
        return True
    return (
        mine.dtype is its.dtype
        and mine.shape == its.shape
        and np.array_equal(array_of(mine), array_of(its))
    )


_SHORT = {"bf16": "bfloat16", "i8": "int8"}


def narrow_dtype(given: str | DType) -> str:
    """The name of a dtype for weights.  Raises: ValueError."""
    name = given.public_name if isinstance(given, DType) else _SHORT.get(given, given)
    if name not in engine.DTYPES:
        raise ValueError(
            f"[aot] weights must be {' or '.join(map(repr, engine.DTYPES))}, or None for their own "
            f"dtypes, given {given!r}"
        )
    return name


def samples_of(
    example: Sequence[Tensor],
    calibration: Iterable[Any],
    axes: Sequence[Mapping[int, int]],
    sizes: engine.Sizes | None,
) -> list[engine.Sample]:
    """The calls to compare: the example, then those for calibration.

    Args:
        axes: of each input those whose size a call may choose, and the numbers of the dimensions.

    Raises:
        TypeError: an input is no tensor.
        ValueError: inputs are not of the example's dtypes and shapes, but for these axes.
    """
    samples: list[engine.Sample] = [(_sizes(example, axes), [array_of(x) for x in example])]
    for number, inputs in enumerate(calibration):
        given = tensors_of(inputs, f"calibration[{number}]:")
        point = _sizes(given, axes)
        for dim, size in zip(sizes.dynamic.dims, point or (), strict=True) if sizes else ():
            if not dim.lowest <= size <= dim.highest:
                raise ValueError(
                    f"[aot] calibration[{number}]: {dim.name} must be {dim.lowest} to "
                    f"{dim.highest}, given {size}"
                )
        if [(x.dtype, list(x.shape)) for x in given] != _resized(example, axes, point):
            raise ValueError(
                f"[aot] calibration[{number}] must be like the example inputs "
                f"{_described(example)}, given {_described(given)}"
            )
        samples.append((point, [array_of(x) for x in given]))
    return samples


def _sizes(inputs: Sequence[Tensor], axes: Sequence[Mapping[int, int]]) -> Point | None:
    """The sizes that the inputs choose; None if there are none to choose."""
    found: dict[int, int] = {}
    for x, own in zip(inputs, axes, strict=False):
        for axis, dim in own.items():
            if axis < x.dim():
                found.setdefault(dim, int(x.shape[axis]))
    # What an input does not have is found to be missing when its shape is compared.
    count = len({dim for own in axes for dim in own.values()})
    return tuple(found.get(dim, 1) for dim in range(count)) or None


def _resized(
    example: Sequence[Tensor], axes: Sequence[Mapping[int, int]], sizes: Point | None
) -> list[tuple[Any, list[int]]]:
    """The dtypes and shapes that inputs of these sizes have."""
    given = sizes or ()
    return [
        (x.dtype, [given[own[axis]] if axis in own else n for axis, n in enumerate(x.shape)])
        for x, own in zip(example, axes, strict=True)
    ]


def _described(inputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs)
