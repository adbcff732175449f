"""The public function that records each operation: `call(op, tensors, attributes)`.

Most have the op's name and take its attributes under PyTorch's names; the others are in `CALLS`.
Operations that no function records by itself are in `UNNAMED`, each with what makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from op_oracles_optimizers import OPTIMIZER_STEPS
from op_samples_complex import TWINS

import braze
import braze.nn.functional as F
from braze.ir.op import Op


class NotExpressible(Exception):
    """A sample's attributes have no counterpart in the public function."""


UNNAMED = {
    **{
        f"{name}_{half}": "made by a pass from a long scan"
        for name in ("cumsum", "cumprod", "cummax", "cummin")
        for half in ("ends", "from")
    },
    "lattice_logsum": "a step of ctc_loss",
    "lattice_sum": "the gradient of ctc_loss",
    "linear_recurrence": "the gradient of cumprod",
    "slice": "views",
    "to_device": "a tensor that is moved to another device",
    "standard_gamma": "drawn by distributions",
    "window": "made from convolution and pooling",
    "unwindow": "made from the gradients of convolution and pooling",
    "avg_pool_grad": "the gradient of avg_pool",
    "adaptive_avg_pool_grad": "the gradient of adaptive_avg_pool",
    "resample": "a step of interpolate, which makes its tables",
    "max_pool_grad": "the gradient of max_pool",
    "max_pool_pick": "the gradient's gradient of max_pool",
    "conv_input_grad": "the gradient of conv",
    "conv_weight_grad": "the gradient of conv",
    "cross_entropy_grad": "the gradient of cross_entropy",
    "cross_entropy_weighted_grad": "the gradient of cross_entropy",
    **{
        f"attention{mask}{dropout}{back}": "scaled_dot_product_attention"
        for mask in ("", "_masked")
        for dropout in ("", "_dropout")
        for back in ("", "_grad")
    },
    "rnn_sequence": "one layer and direction of rnn_tanh and rnn_relu",
    "rnn_sequence_grad": "the gradient of rnn_sequence",
    "lstm_sequence": "one layer and direction of lstm",
    "lstm_sequence_grad": "the gradient of lstm_sequence",
    "projected_lstm_sequence": "one layer and direction of lstm with projections",
    "projected_lstm_sequence_grad": "the gradient of projected_lstm_sequence",
    "gru_sequence": "one layer and direction of gru",
    "gru_sequence_grad": "the gradient of gru_sequence",
    "cofactor": "the gradient of det",
    "sum_to_shape": "gradients of what broadcasts",
    "contract": "made from matrix products",
    "check_range": "made by whatever takes indices",
    "wrapped_index": "made by whatever takes indices",
    "random_bits": "made from random numbers",
    "strided_index": "made from views by strides",
    "as_strided": "takes its strides in the memory below a view",
    "cast": "by `to` and promotion",
    "batch_norm_train": "with running statistics as effects",
    **dict.fromkeys(OPTIMIZER_STEPS, "by optimizers"),
    "shift_left": "a step of bitwise_left_shift",
    "shift_right": "a step of bitwise_right_shift",
    "floor_divide": "a step of div_floor",
    "nan_to_num": "takes numbers, not tensors, for what it fills in",
    "isclose": "takes numbers, not tensors, for its tolerances",
    **dict.fromkeys(("constant", "full", "iota"), "no operands"),
    **dict.fromkeys(("uniform", "normal", "exponential", "randint"), "no operands"),
    "lu_permutation": "a step of lu",
    **dict.fromkeys(TWINS, "only compiled graphs hold it"),
    "checked": "made by what checks values",
    **dict.fromkeys(("check_truth", "check_interval", "check_simplex"), "by what checks values"),
    **dict.fromkeys(("proportions", "log_clamped", "pick"), "a step of Categorical"),
    "proportions_grad": "the gradient of proportions",
    "log_clamped_grad": "the gradient of log_clamped",
    "pick_grad": "the gradient of pick",
}
# Their public functions record the steps that they are made of instead.
IN_STEPS = {
    *("mm", "mv", "dot", "outer", "addmm", "masked_fill", "one_hot"),
    *("real", "imag"),  # views of the parts
}
# Attributes of the table under PyTorch's names.
NAMES = {
    "dims": "dim",
    "slope": "negative_slope",
    "low": "min_val",
    "high": "max_val",
    "classes": "num_classes",
    "full": "full_matrices",
    "epsilon": "eps",
    "kernel": "kernel_size",
}


def _pool(name: str) -> Callable[..., Any]:
    def run(x: Any, **attributes: Any) -> Any:
        return getattr(F, f"{name}{x.ndim - 2}d")(x, attributes.pop("kernel"), **attributes)

    return run


def _floating(name: str) -> Callable[..., Any]:
    """Pooling whose public functions take floating-point tensors only."""

    def run(x: Any, *rest: Any, **attributes: Any) -> Any:
        if not x.dtype.is_floating_point:
            raise NotExpressible
        if not rest:
            return getattr(F, f"{name}{x.ndim - 2}d")(x, attributes["output"], True)
        if x.ndim == 3:
            raise NotExpressible
        sizes = (attributes["kernel"], attributes["output"])
        return getattr(F, f"{name}{x.ndim - 2}d_with_indices")(x, *sizes, _random_samples=rest[0])

    return run


def _unfold(x: Any, kernel: Any, **blocks: Any) -> Any:
    if len(kernel) != 2:
        raise NotExpressible
    return F.unfold(x, kernel, **blocks)


def _fold(x: Any, output: Any, kernel: Any, **blocks: Any) -> Any:
    if len(kernel) != 2:
        raise NotExpressible
    return F.fold(x, output, kernel, **blocks)


def _conv(name: str) -> Callable[..., Any]:
    def run(x: Any, *rest: Any, **attributes: Any) -> Any:
        return getattr(F, f"{name}{x.ndim - 2}d")(x, *rest, **attributes)

    return run


def _same_shape(name: str) -> Callable[..., Any]:
    """Losses that broadcast nothing."""

    def run(x: Any, target: Any, reduction: str) -> Any:
        if x.shape != target.shape:
            raise NotExpressible
        return getattr(F, name)(x, target, reduction=reduction)

    return run


def _scan(name: str) -> Callable[..., Any]:
    def run(x: Any, dim: int, reverse: bool) -> Any:
        if reverse:
            raise NotExpressible
        return getattr(braze, name)(x, dim)

    return run


def _norm(x: Any, dims: Any, keepdim: bool, p: float) -> Any:
    if not dims:
        raise NotExpressible
    return braze.linalg.vector_norm(x, p, dims, keepdim)


def _one_dim(name: str) -> Callable[..., Any]:
    """Functions of one dimension."""

    def run(x: Any, dims: Any, keepdim: bool) -> Any:
        if len(dims) != 1:
            raise NotExpressible
        return getattr(braze, name)(x, dims[0], keepdim)

    return run


def _some(name: str) -> Callable[..., Any]:
    """Functions whose empty tuple of dimensions means all of them."""

    def run(x: Any, dims: Any, **rest: Any) -> Any:
        if not dims and x.ndim:
            raise NotExpressible
        return getattr(braze, name)(x, dim=dims, **rest)

    return run


def _index_put(x: Any, index: Any, updates: Any, dim: int) -> Any:
    if index.ndim != 1:
        raise NotExpressible
    return braze.index_copy(x, dim, index, updates)


def _index_add(x: Any, index: Any, updates: Any, dim: int) -> Any:
    if index.ndim != 1:
        raise NotExpressible
    return braze.index_add(x, dim, index, updates)


def _take(x: Any, index: Any, dim: int) -> Any:
    if index.ndim != 1:
        raise NotExpressible
    return braze.index_select(x, dim, index)


def _pad(x: Any, low: Any, high: Any, interior: Any, value: float) -> Any:
    if any(interior) or not x.ndim:
        raise NotExpressible
    pairs = [n for two in zip(reversed(low), reversed(high), strict=True) for n in two]
    return F.pad(x, pairs, value=value)


def _diag_embed(x: Any, offset: int, dim1: int, dim2: int, rows: int, columns: int) -> Any:
    if rows != columns or rows != x.shape[-1] + abs(offset):
        raise NotExpressible
    return braze.diag_embed(x, offset, dim1, dim2)


def _layer_norm(x: Any, weight: Any, bias: Any, dims: int, epsilon: float) -> Any:
    return F.layer_norm(x, tuple(x.shape[x.ndim - dims :]), weight, bias, epsilon)


def _batch_norm_eval(x: Any, mean: Any, var: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    return F.batch_norm(x, mean, var, weight, bias, False, 0.1, epsilon)


def _weighted(name: str) -> Callable[..., Any]:
    return lambda x, target, weight, **rest: getattr(F, name)(x, target, weight, **rest)


def _solve_triangular(a: Any, b: Any, upper: bool, unitriangular: bool) -> Any:
    return braze.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular)


def _fft(x: Any, dims: Any, inverse: bool) -> Any:
    if inverse:
        return braze.fft.ifftn(x, dim=dims, norm="forward")
    return braze.fft.fftn(x, dim=dims)


def _irfft(x: Any, dims: Any, size: int) -> Any:
    sizes = (*(x.shape[d] for d in dims[:-1]), size)
    return braze.fft.irfftn(x, sizes, dims, "forward")


CALLS: dict[str, Callable[..., Any]] = {
    "log_sigmoid": lambda x: F.logsigmoid(x),
    "binary_cross_entropy": _same_shape("binary_cross_entropy"),
    "bce_with_logits": _same_shape("binary_cross_entropy_with_logits"),
    "nll_loss_weighted": _weighted("nll_loss"),
    "cross_entropy_weighted": _weighted("cross_entropy"),
    "conv": _conv("conv"),
    "conv_no_bias": _conv("conv"),
    "conv_transpose": _conv("conv_transpose"),
    "modulus": lambda x: braze.abs(x),
    "phase": lambda x: braze.sgn(x),
    "fft": _fft,
    "rfft": lambda x, dims: braze.fft.rfftn(x, dim=dims),
    "irfft": _irfft,
    "pstrf": lambda x, tolerance: braze.pstrf(x, tol=tolerance),
    "threshold": lambda x, limit, value: F.threshold(x, limit, value),
    "avg_pool": _pool("avg_pool"),
    "max_pool": lambda x, **rest: _pool("max_pool")(x, return_indices=True, **rest),
    "adaptive_avg_pool": lambda x, output: getattr(F, f"adaptive_avg_pool{x.ndim - 2}d")(x, output),
    "adaptive_max_pool": _floating("adaptive_max_pool"),
    "fractional_max_pool": _floating("fractional_max_pool"),
    "im2col": _unfold,
    "col2im": _fold,
    "layer_norm": _layer_norm,
    "group_norm": lambda x, weight, bias, groups, epsilon: F.group_norm(
        x, groups, weight, bias, epsilon
    ),
    "batch_norm_eval": _batch_norm_eval,
    "dropout": lambda x, p: F.dropout(x, p),
    "multinomial": lambda x, count, replacement: braze.multinomial(x, count, replacement),
    "div_floor": lambda x, y: braze.floor_divide(x, y),
    "div_trunc": lambda x, y: braze.div(x, y, rounding_mode="trunc"),
    "integer_pow": lambda x, y: braze.pow(x, y),
    "linear_no_bias": lambda x, weight: F.linear(x, weight),
    "outer": lambda x, y: braze.outer(x, y),
    "polygamma": lambda x, n: braze.polygamma(n, x),
    "max_with_index": lambda x, dim, keepdim: braze.max(x, dim, keepdim),
    "min_with_index": lambda x, dim, keepdim: braze.min(x, dim, keepdim),
    "argmax": _one_dim("argmax"),
    "argmin": _one_dim("argmin"),
    "sum": _some("sum"),
    "mean": _some("mean"),
    "var": _some("var"),
    "std": _some("std"),
    "amax": _some("amax"),
    "amin": _some("amin"),
    "any": _some("any"),
    "all": _some("all"),
    "prod": _one_dim("prod"),
    "logsumexp": _some("logsumexp"),
    "norm": _norm,
    "cumsum": _scan("cumsum"),
    "cumprod": _scan("cumprod"),
    "cummax": _scan("cummax"),
    "cummin": _scan("cummin"),
    "take": _take,
    "take_along": lambda x, index, dim: braze.gather(x, dim, index),
    "index_add": _index_add,
    "index_put": _index_put,
    "scatter_add": lambda x, index, updates, dim: braze.scatter_add(x, dim, index, updates),
    "scatter": lambda x, index, updates, dim: braze.scatter(x, dim, index, updates),
    "scatter_reduce": lambda x, index, updates, dim, combine: braze.scatter_reduce(
        x, dim, index, updates, combine
    ),
    "pad": _pad,
    "reshape": lambda x, shape: braze.reshape(x, shape),
    "permute": lambda x, dims: braze.permute(x, dims),
    "flip": lambda x, dims: braze.flip(x, dims),
    "concat": lambda *xs, dim: braze.cat(xs, dim),
    "stack": lambda *xs, dim: braze.stack(xs, dim),
    "expand": lambda x, shape: x.expand(shape),
    "bitcast": lambda x, dtype: x.view(dtype),
    "select": lambda x, dim, index: braze.select(x, dim, index),
    "diag_embed": _diag_embed,
    "qr": lambda x, complete: braze.linalg.qr(x, "complete" if complete else "reduced"),
    "svd": lambda x, full: braze.linalg.svd(x, full_matrices=full),
    "eig": lambda x: braze.linalg.eig(x),
    "eigh": lambda x: braze.linalg.eigh(x),
    "lu_factor": lambda x: braze.linalg.lu_factor(x),
    "orgqr": lambda a, tau: braze.linalg.householder_product(a, tau),
    "ormqr": lambda a, tau, x, left, transpose: braze.ormqr(a, tau, x, left, transpose),
    "solve": lambda a, b: braze.linalg.solve(a, b),
    "triangular_solve": _solve_triangular,
    "pinv": lambda x, rtol: braze.linalg.pinv(x, rtol=rtol),
    "zeta": lambda s, q: braze.special.zeta(s, q),
}


def call(op: Op, tensors: Sequence[Any], attributes: dict[str, Any]) -> tuple[Any, ...]:
    """The results of an op's public function.

    Raises:
        NotExpressible: it has no such settings.
        KeyError: no public function is known for the op.
    """
    function = CALLS.get(op.name)
    if function is None:
        function = _by_name(op.name)
        attributes = {NAMES.get(k, k): v for k, v in attributes.items()}
    found = function(*tensors, **attributes)
    return tuple(found) if isinstance(found, tuple) else (found,)


def _by_name(name: str) -> Any:
    for module in (F, braze, braze.special, braze.linalg):
        if hasattr(module, name):
            return getattr(module, name)
    raise KeyError(f"[{name}] add its public function to CALLS, or the op to UNNAMED")
