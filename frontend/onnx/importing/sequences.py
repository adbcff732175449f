"""ONNX's sequences, which are lists of tensors, and optional values, which may be None."""

from __future__ import annotations

from typing import Any

import numpy as np

import braze
from braze.onnx.rules import imports
from braze.tensors import Tensor


@imports("SequenceConstruct", since=11, raw=True)
def construct(node: Any, *xs: Any) -> tuple[Any]:
    return ([node.tensor(x) for x in xs],)


@imports("SequenceEmpty", since=11, raw=True)
def empty(node: Any) -> tuple[Any]:
    return ([],)


@imports("SequenceAt", since=11, read=(1,))
def at(node: Any, xs: list[Tensor], position: np.ndarray) -> Tensor:
    return xs[int(position.reshape(()))]


@imports("SequenceLength", since=11, raw=True)
def length(node: Any, xs: list[Tensor]) -> np.ndarray:
    return np.array(len(xs), dtype=np.int64)


@imports("SequenceInsert", since=11, read=(2,))
def insert(
    node: Any, xs: list[Tensor], x: Tensor, position: np.ndarray | None = None
) -> tuple[Any]:
    copy = list(xs)
    copy.insert(len(xs) if position is None else int(position.reshape(())), x)
    return (copy,)


@imports("SequenceErase", since=11, read=(1,))
def erase(node: Any, xs: list[Tensor], position: np.ndarray | None = None) -> tuple[Any]:
    copy = list(xs)
    del copy[-1 if position is None else int(position.reshape(()))]
    return (copy,)


@imports("ConcatFromSequence", since=11)
def concatenated(node: Any, xs: list[Tensor]) -> Tensor:
    join = braze.stack if node.get("new_axis", 0) else braze.cat
    return join(xs, node.get("axis"))


@imports("SplitToSequence", since=11, read=(1,))
def split(node: Any, x: Tensor, given: np.ndarray | None = None) -> tuple[Any]:
    axis = node.get("axis", 0) % x.dim()
    if given is None:
        keep = node.get("keepdims", 1)
        return ([p if keep else p.squeeze(axis) for p in braze.split(x, 1, axis)],)
    sizes = int(given) if not given.ndim else [int(v) for v in given]
    return (list(braze.split(x, sizes, axis)),)


@imports("Optional", since=15, raw=True)
def optional(node: Any, x: Any = None) -> Any:
    return (x,)


@imports("OptionalHasElement", since=15, raw=True)
def has_element(node: Any, x: Any = None) -> np.ndarray:
    return np.array(x is not None)


@imports("OptionalGetElement", since=15, raw=True)
def get_element(node: Any, x: Any) -> Any:
    if x is None:
        raise ValueError("OptionalGetElement of a value that is not there")
    return (x,)
