"""Share arguments out among devices, and join results, whatever containers they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.nn.parallel import comm
from braze.tensors import Tensor


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def scatter(inputs: Any, target_gpus: Sequence[Any], dim: int = 0) -> Any:
    """Cut tensors into parts along a dimension; containers go along, other objects are given to
    all.

    Args:
        target_gpus: the devices.

    Returns:
        What each device gets: a tuple for a tensor, else a list. There may be fewer than devices.
    """
    if isinstance(inputs, Tensor):
        return comm.scatter(inputs, target_gpus, dim=dim)

    def each(items: Any) -> Any:
        return zip(*(scatter(item, target_gpus, dim) for item in items), strict=False)

    if _is_namedtuple(inputs):
        return [type(inputs)(*part) for part in each(inputs)]
    if isinstance(inputs, tuple) and inputs:
        return list(each(inputs))
    if isinstance(inputs, list) and inputs:
        return [list(part) for part in each(inputs)]
    if isinstance(inputs, dict) and inputs:
        make: Callable[..., Any] = type(inputs)
        return [make(part) for part in each(inputs.items())]
    return [inputs for _ in target_gpus]


def scatter_kwargs(
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    target_gpus: Sequence[Any],
    dim: int = 0,
) -> tuple[tuple[Any, ...], tuple[dict[str, Any], ...]]:
    """Scatter positional and keyword arguments; of the shorter list the rest is empty."""
    parts: list[Any] = list(scatter(inputs, target_gpus, dim)) if inputs else []
    named: list[Any] = list(scatter(kwargs, target_gpus, dim)) if kwargs else []
    parts += [()] * (len(named) - len(parts))
    named += [{}] * (len(parts) - len(named))
    return tuple(parts), tuple(named)


def gather(outputs: Any, target_device: Any, dim: int = 0) -> Any:
    """Join what the devices computed: tensors along a dimension, containers member by member.

    Raises:
        ValueError: dicts have different keys.
    """
    first = outputs[0]
    if isinstance(first, Tensor):
        return comm.gather(outputs, dim, target_device)
    if first is None:
        return None
    kind: Callable[..., Any] = type(first)
    if isinstance(first, dict):
        if any(len(output) != len(first) for output in outputs):
            raise ValueError("All dicts must have the same number of keys")
        return kind((k, gather([o[k] for o in outputs], target_device, dim)) for k in first)
    joined = (gather(items, target_device, dim) for items in zip(*outputs, strict=True))
    return kind(*joined) if _is_namedtuple(first) else kind(joined)
