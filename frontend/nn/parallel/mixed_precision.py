"""A module's passes in fewer bits, from parameters that keep theirs.

In: a module and dtypes.  Out: a block in which the module has casts of its parameters in their
place. The casts are captured with the pass, so gradients come back in the parameters' own dtype.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from braze.functions.promotion import cast
from braze.ir.dtypes import DType
from braze.nn.modules.module import Module
from braze.nn.utils.stateless import replaced
from braze.structure import rebuild
from braze.tensors import Tensor


@dataclass
class _MixedPrecision:
    """The dtypes that `DistributedDataParallel(mixed_precision=...)` computes in. Only what is of
    floating point is cast.

    Attributes:
        param_dtype: of parameters and inputs in the forward and backward passes. The parameters
            themselves and their gradients keep their dtype.
        reduce_dtype: of gradients while they are reduced; None: `param_dtype`.
        buffer_dtype: of buffers, which are cast for good when the module is wrapped.
    """

    param_dtype: DType | None = None
    reduce_dtype: DType | None = None
    buffer_dtype: DType | None = None

    def __post_init__(self) -> None:
        for name in ("param_dtype", "reduce_dtype", "buffer_dtype"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, DType) and given.is_floating_point):
                raise TypeError(
                    f"_MixedPrecision: {name} must be a floating-point dtype or None, given "
                    f"{given!r}"
                )


def cast_buffers(module: Module, dtype: DType | None, ignored: Collection[str]) -> None:
    """Cast a module's buffers of floating point, but for those of some names."""
    for name, buffer in module.named_buffers():
        if dtype is not None and name not in ignored and buffer.dtype.is_floating_point:
            buffer.data = buffer.to(dtype)


def lowered(module: Module, dtype: DType, ignored: Collection[str]) -> AbstractContextManager[None]:
    """A block in which the module's parameters of floating point are casts of them, but for those
    of some names."""
    casts: dict[int, Tensor] = {}
    entries: list[tuple[dict[str, Any], str, Tensor]] = []
    for prefix, child in module.named_modules():
        for name, parameter in child._parameters.items():
            if parameter is None or not parameter.dtype.is_floating_point:
                continue
            if (f"{prefix}.{name}" if prefix else name) in ignored:
                continue
            if id(parameter) not in casts:
                casts[id(parameter)] = cast(parameter, dtype)
            entries.append((child._parameters, name, casts[id(parameter)]))
    return replaced(entries)


def cast_inputs(
    inputs: tuple[Any, ...], kwargs: dict[str, Any], dtype: DType
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A module's arguments with their tensors of floating point cast."""

    def lower(x: Tensor) -> Tensor:
        return cast(x, dtype) if x.dtype.is_floating_point and not x.is_sparse else x

    return rebuild(inputs, lower), rebuild(kwargs, lower)
