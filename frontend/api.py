"""Every name of the package's top level; `braze/__init__.py` loads this on first use."""

from __future__ import annotations

import importlib
from typing import Any

import braze.functions  # noqa: F401  (attaches the tensor methods)
from braze import engine, fft, settings
from braze.amp.autocast import FUNCTIONS as _AUTOCAST
from braze.array_api.top_level import CONSTANTS, constants, standard_names
from braze.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from braze.autograd.anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from braze.autograd.modes import is_inference_mode_enabled
from braze.bisection import bisect
from braze.capture import flush as sync
from braze.compiled import compile
from braze.functions import (
    comparison,
    complex_numbers,
    creation,
    decompositions,
    differences,
    distinct,
    einsum,
    elementwise,
    fourier,
    indexing,
    interchange_creation,
    linalg,
    low_rank,
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
    segments,
    series,
    short_time,
    signatures,
    sorting,
    splitting,
    statistics,
    symbolic,
    top_level,
    view_copies,
    views,
    windows,
)
from braze.functions.arguments import require_tensors
from braze.functions.out import add_out
from braze.functions.promotion import get_default_dtype, result_type, set_default_dtype
from braze.functions.spellings import with_spellings
from braze.functions.tensor_questions import is_inference
from braze.inspection import inspect
from braze.ir import dtypes
from braze.ir.dtypes import DType as dtype
from braze.ir.dtypes import promote as promote_types
from braze.public_types import NAMES as _TYPE_NAMES
from braze.sizes import Size
from braze.sparse.construction import sparse_coo_tensor
from braze.sparse.products import FUNCTIONS as _SPARSE_PRODUCTS
from braze.tensors import Tensor

# What the function modules share with each other: no names of the package.
_INTERNAL = frozenset(
    """
as_value bin_edges bins_of check_dtype check_index check_bounds check_values
checked_rows draw draws_for expand expand_as Extremum getitem indexed legacy_tensor log_sigmoid
normalise_dims nothing_of OfGpus refuse_sparse repeat reshape_as resolve_sizes setitem shape_of silu
sizes_of slice_dimension wrapped_index write_slice written
""".split()
)

_FUNCTIONS: dict[str, Any] = {}
_MODULES: tuple[Any, ...] = (
    *(comparison, creation, indexing, linalg, movement, pointwise, random_numbers, reductions),
    *(decompositions, distinct, einsum, fourier, products, rearrangement, sampling, scans),
    *(complex_numbers, scattering, searching, series, short_time, sorting, statistics, views),
    *(differences, interchange_creation, low_rank, segments, splitting, symbolic, windows),
)
for _module in _MODULES:
    for _name, _value in vars(_module).items():
        if callable(_value) and not _name.startswith("_") and not _name.endswith("_"):
            if getattr(_value, "__module__", "") == _module.__name__:
                _FUNCTIONS[_name] = _value
_FUNCTIONS |= pointwise.UNARY | elementwise.functions()
_FUNCTIONS |= top_level.functions() | view_copies.FUNCTIONS | settings.FUNCTIONS
_FUNCTIONS |= {f"{name}_": getattr(Tensor, f"{name}_") for name in pointwise.IN_PLACE}
_FUNCTIONS = {name: _FUNCTIONS[name] for name in _FUNCTIONS.keys() - _INTERNAL}
_FUNCTIONS |= signatures.FUNCTIONS
_FUNCTIONS = add_out(standard_names(_FUNCTIONS))
_FUNCTIONS["fft"] = fft  # the module, which is also this function
_FUNCTIONS |= _TYPE_NAMES | _SPARSE_PRODUCTS | {"sparse_coo_tensor": sparse_coo_tensor}
_FUNCTIONS |= _AUTOCAST
globals().update(_FUNCTIONS)
globals().update(constants())

default_generator = random_numbers.default_generator

config = engine.config
stats = engine.stats
explain = engine.explain
KernelDifference = engine.KernelDifference
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

# Loaded when they are first used: saving, and the functions of layers, which need all of `nn`.
_LATER = {"load": "braze.serialization", "save": "braze.serialization"}
_OF_LAYERS = frozenset(
    """
adaptive_avg_pool1d adaptive_max_pool1d affine_grid_generator alpha_dropout alpha_dropout_
avg_pool1d batch_norm bilinear binary_cross_entropy_with_logits celu celu_ channel_shuffle
constant_pad_nd conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d
convolution cosine_embedding_loss cosine_similarity ctc_loss dropout dropout_ embedding
embedding_bag embedding_renorm_ feature_alpha_dropout feature_alpha_dropout_ feature_dropout
feature_dropout_ grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell hardshrink
hinge_embedding_loss instance_norm kl_div layer_norm lstm lstm_cell margin_ranking_loss
max_pool1d max_pool1d_with_indices max_pool2d max_pool3d native_batch_norm
native_channel_shuffle native_dropout native_group_norm native_layer_norm pairwise_distance
pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu rms_norm rnn_relu rnn_relu_cell
rnn_tanh rnn_tanh_cell rrelu rrelu_ selu selu_ threshold threshold_ triplet_margin_loss
""".split()
)

__all__ = [
    "KernelDifference",
    "Size",
    "Tensor",
    "cdouble",
    "cfloat",
    "compile",
    "config",
    "default_generator",
    "double",
    "dtype",
    "enable_grad",
    "bisect",
    "explain",
    "float",
    "get_default_dtype",
    "get_num_threads",
    "half",
    "inference_mode",
    "inspect",
    "int",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "is_inference",
    "is_inference_mode_enabled",
    "is_tensor",
    "long",
    "no_grad",
    "numel",
    "promote_types",
    "result_type",
    "set_default_dtype",
    "set_grad_enabled",
    "set_num_threads",
    "short",
    "stats",
    "sync",
    *CONSTANTS,
    *_LATER,
    *sorted(_FUNCTIONS.keys() | _OF_LAYERS),
    *sorted(d.public_name for d in dtypes.ALL),
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    if name in _OF_LAYERS:
        layers = importlib.import_module("braze.functions.layers")
        spoken = {key: with_spellings(function) for key, function in layers.FUNCTIONS.items()}
        globals().update(add_out(spoken))
        return globals()[name]
    raise AttributeError(f"module 'braze.api' has no attribute {name!r}")


def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> Any:
    """The number of elements.

    Raises:
        TypeError: no tensor is given.
    """
    require_tensors("numel", input=input)
    return input.numel()
