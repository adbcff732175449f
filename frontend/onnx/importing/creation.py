"""ONNX's constants, ranges and random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.onnx.protos import dtype_of
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("Constant", since=1, raw=True)
def constant(node: Any) -> np.ndarray:
    kinds = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}  # type: ignore[dict-item]
    value = node.get("value")
    if value is not None:
        return value
    for name, kind in kinds.items():
        if node.get(name) is not None:
            return np.array(node.get(name), dtype=kind)
    raise NotImplementedError(
        f"a Constant must be a tensor or numbers, given {', '.join(node.step.attributes)}"
    )


@imports("ConstantOfShape", since=9, read=(0,))
def constant_of_shape(node: Any, shape: np.ndarray) -> Tensor:
    value = node.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    return node.tensor(value).reshape(()).expand([int(v) for v in shape])


@imports("Range", since=11, read=(0, 1, 2))
def range_(node: Any, start: np.ndarray, stop: np.ndarray, step: np.ndarray) -> Tensor | np.ndarray:
    start, stop, step = (v.reshape(()) for v in (start, stop, step))
    if start.dtype.kind in "iu":
        count = max(-((int(start) - int(stop)) // int(step)), 0)
        like = braze.from_numpy(start.copy())
        end = int(start) + count * int(step)
        return braze.arange(int(start), end, int(step), dtype=like.dtype)
    count = max(int(np.ceil((stop.astype(np.float64) - start) / step)), 0)
    return (start + step * np.arange(count).astype(start.dtype)).astype(start.dtype)


@imports("RandomUniform", "RandomNormal", since=1, raw=True)
def random(node: Any) -> Tensor:
    return _random(node, node.get("shape"), dtype_of(node.get("dtype", 1), "random numbers"))


@imports("RandomUniformLike", "RandomNormalLike", since=1)
def random_like(node: Any, x: Tensor) -> Tensor:
    dtype = node.get("dtype")
    own = x.dtype if dtype is None else dtype_of(dtype, "random numbers")
    return _random(node, list(x.shape), own)


def _random(node: Any, shape: list[int], dtype: Any) -> Tensor:
    """Numbers of Braze's own generator; a seed of the model's is not used."""
    if "Uniform" in node.op:
        low, high = node.get("low", 0.0), node.get("high", 1.0)
        return braze.rand(*shape, dtype=dtype) * (high - low) + low
    return braze.randn(*shape, dtype=dtype) * node.get("scale", 1.0) + node.get("mean", 0.0)


@imports("Multinomial", since=7)
def multinomial(node: Any, x: Tensor) -> Tensor:
    kind = dtype_of(node.get("dtype", 6), "the result of Multinomial")
    count = node.get("sample_size", 1)
    return braze.multinomial(braze.softmax(x, -1), count, replacement=True).to(kind)


@imports("Bernoulli", since=15)
def bernoulli(node: Any, x: Tensor) -> Tensor:
    dtype = node.get("dtype")
    own = x.dtype if dtype is None else dtype_of(dtype, "the result of Bernoulli")
    return braze.bernoulli(x).to(own)
