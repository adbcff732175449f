"""Every name of the package's top level; `braze/__init__.py` loads this on first use."""

from __future__ import annotations

from typing import Any

import braze.functions  # noqa: F401  (attaches the tensor methods)
from braze import engine, fft
from braze.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from braze.autograd.anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from braze.autograd.modes import is_inference_mode_enabled
from braze.capture import flush as sync
from braze.compiled import compile
from braze.functions import (
    comparison,
    complex_numbers,
    creation,
    decompositions,
    distinct,
    einsum,
    elementwise,
    fourier,
    indexing,
    linalg,
    movement,
    pointwise,
    products,
    random_numbers,
    rearrangement,
    reductions,
    sampling,
    scans,
    scattering,
    searching,
    series,
    short_time,
    sorting,
    statistics,
    views,
    windows,
)
from braze.functions.out import add_out
from braze.functions.promotion import get_default_dtype, result_type, set_default_dtype
from braze.inspection import inspect
from braze.ir import dtypes
from braze.ir.dtypes import DType as dtype
from braze.ir.dtypes import promote as promote_types
from braze.public_types import NAMES as _TYPE_NAMES
from braze.tensors import Size, Tensor

_FUNCTIONS: dict[str, Any] = {}
_MODULES: tuple[Any, ...] = (
    *(comparison, creation, indexing, linalg, movement, pointwise, random_numbers, reductions),
    *(decompositions, distinct, einsum, fourier, products, rearrangement, sampling, scans),
    *(complex_numbers, scattering, searching, series, short_time, sorting, statistics, views),
    windows,
)
for _module in _MODULES:
    for _name, _value in vars(_module).items():
        if callable(_value) and not _name.startswith("_") and not _name.endswith("_"):
            if getattr(_value, "__module__", "") == _module.__name__:
                _FUNCTIONS[_name] = _value
_FUNCTIONS |= pointwise.UNARY | elementwise.functions()
_FUNCTIONS |= {f"{name}_": getattr(Tensor, f"{name}_") for name in pointwise.IN_PLACE}
_FUNCTIONS = add_out(_FUNCTIONS)
_FUNCTIONS["fft"] = fft  # the module, which is also this function
_FUNCTIONS |= _TYPE_NAMES
globals().update(_FUNCTIONS)

default_generator = random_numbers.default_generator

config = engine.config
stats = engine.stats
explain = engine.explain
get_num_threads = engine.get_num_threads
set_num_threads = engine.set_num_threads

for _dtype in dtypes.ALL:
    globals()[_dtype.public_name] = _dtype
float = dtypes.f32
double = dtypes.f64
half = dtypes.f16
int = dtypes.i32
long = dtypes.i64
short = dtypes.i16
cfloat = dtypes.c64
cdouble = dtypes.c128

__all__ = [
    "Size",
    "Tensor",
    "compile",
    "config",
    "dtype",
    "enable_grad",
    "explain",
    "get_default_dtype",
    "get_num_threads",
    "inference_mode",
    "inspect",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "is_tensor",
    "no_grad",
    "numel",
    "promote_types",
    "result_type",
    "set_default_dtype",
    "set_grad_enabled",
    "set_num_threads",
    "stats",
    "sync",
    *sorted(_FUNCTIONS),
    *sorted(d.public_name for d in dtypes.ALL),
]


def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> Any:
    """The number of elements."""
    return input.numel()
