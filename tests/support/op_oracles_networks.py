"""Oracles of convolutions, pooling, normalisation and losses: element by element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.special as special
from op_oracles import ORACLES, oracle

# Windows ------------------------------------------------------------------------------------------


def _pairs(
    size: Any, out: Any, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """(place in the result, tap, place in the input) of all that meet, inside the input."""
    for o in np.ndindex(*out):
        for k in np.ndindex(*kernel):
            i = tuple(
                a * s + b * d - p
                for a, b, s, p, d in zip(o, k, stride, padding, dilation, strict=True)
            )
            if all(0 <= a < n for a, n in zip(i, size, strict=True)):
                yield o, k, i


def _channels(group: int, groups: int, count: int) -> slice:
    return slice(group * count // groups, (group + 1) * count // groups)


def _out_size(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _each(x: Any, weight: Any, out: Any, geometry: Any) -> Iterator[tuple[Any, ...]]:
    """Indices into x, weight and out of each product of a convolution, for blocks of channels."""
    groups = geometry["groups"]
    kinds = [geometry[word] for word in ("stride", "padding", "dilation")]
    for group in range(groups):
        c, o = _channels(group, groups, x.shape[1]), _channels(group, groups, weight.shape[0])
        for to, tap, place in _pairs(x.shape[2:], out.shape[2:], weight.shape[2:], *kinds):
            full = slice(None)
            yield (full, c, *place), (o, full, *tap), (full, o, *to)


@oracle("conv_no_bias")
def _conv(x: np.ndarray, weight: np.ndarray, **geometry: Any) -> np.ndarray:
    kinds = [geometry[word] for word in ("stride", "padding", "dilation")]
    size = _out_size(x.shape[2:], weight.shape[2:], *kinds)
    out = np.zeros((x.shape[0], weight.shape[0], *size))
    for i, k, o in _each(x, weight, out, geometry):
        out[o] += x[i] @ weight[k].T
    return out


@oracle("conv_input_grad")
def _input_grad(
    out: np.ndarray, weight: np.ndarray, *, input_size: Any, **geometry: Any
) -> np.ndarray:
    x = np.zeros((out.shape[0], weight.shape[1] * geometry["groups"], *input_size))
    for i, k, o in _each(x, weight, out, geometry):
        x[i] += out[o] @ weight[k]
    return x


@oracle("conv_weight_grad")
def _weight_grad(x: np.ndarray, out: np.ndarray, *, kernel: Any, **geometry: Any) -> np.ndarray:
    weight = np.zeros((out.shape[1], x.shape[1] // geometry["groups"], *kernel))
    for i, k, o in _each(x, weight, out, geometry):
        weight[k] += out[o].T @ x[i]
    return weight


@oracle("conv_transpose")
def _transpose(
    x: np.ndarray, weight: np.ndarray, *, output_padding: Any, **geometry: Any
) -> np.ndarray:
    kinds = [geometry[word] for word in ("stride", "padding", "dilation")]
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, k, s, p, d, e in zip(
            x.shape[2:], weight.shape[2:], *kinds, output_padding, strict=True
        )
    )
    return _input_grad(x, weight, input_size=size, **geometry)


def _with_bias(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, **geometry: Any) -> np.ndarray:
    out = _conv(x, weight, **geometry)
    return out + bias.reshape(-1, *(1,) * (out.ndim - 2))


ORACLES["conv"] = _with_bias

# Pooling ------------------------------------------------------------------------------------------


def _pooled(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Any:
    """Windows that begin inside the input or its left padding; without ceil they end there too."""
    counts = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        last = n + p - 1 if ceil else n + p - d * (k - 1) - 1
        starts = list(range(-p, last + 1, s))
        if ceil:  # the last window must reach what the one before it did not
            starts = [a for a in starts if a == -p or a - s + d * (k - 1) + 1 < n + p]
        counts.append(len(starts))
    return tuple(counts)


@oracle("max_pool")
def _max_pool(
    x: np.ndarray, *, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[np.ndarray, ...]:
    count = _pooled(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], *count)
    best, indices, taps = np.zeros(shape, x.dtype), np.zeros(shape, int), np.zeros(shape, int)
    seen = np.zeros(count, bool)
    for o, k, i in _pairs(x.shape[2:], count, kernel, stride, padding, dilation):
        at = (slice(None), slice(None), *o)
        here = x[(slice(None), slice(None), *i)]
        better = here > best[at] if seen[o] else np.ones(here.shape, bool)
        seen[o] = True
        best[at] = np.where(better, here, best[at])
        indices[at] = np.where(better, np.ravel_multi_index(i, x.shape[2:]), indices[at])
        taps[at] = np.where(better, np.ravel_multi_index(k, kernel), taps[at])
    return best, indices, taps


@oracle("max_pool_grad")
def _max_pool_grad(
    out: np.ndarray, taps: np.ndarray, *, input_size: Any, kernel: Any, **geometry: Any
) -> np.ndarray:
    x = np.zeros((*out.shape[:2], *input_size), out.dtype)
    kinds = [geometry[word] for word in ("stride", "padding", "dilation")]
    both = (slice(None), slice(None))
    for o, k, i in _pairs(input_size, out.shape[2:], kernel, *kinds):
        mine = taps[(*both, *o)] == np.ravel_multi_index(k, kernel)
        x[(*both, *i)] += np.where(mine, out[(*both, *o)], np.zeros((), out.dtype))
    return x


@oracle("max_pool_pick")
def _max_pool_pick(x: np.ndarray, taps: np.ndarray, *, kernel: Any, **geometry: Any) -> np.ndarray:
    out = np.zeros(taps.shape, x.dtype)
    kinds = [geometry[word] for word in ("stride", "padding", "dilation")]
    both = (slice(None), slice(None))
    for o, k, i in _pairs(x.shape[2:], taps.shape[2:], kernel, *kinds):
        mine = taps[(*both, *o)] == np.ravel_multi_index(k, kernel)
        out[(*both, *o)] += np.where(mine, x[(*both, *i)], np.zeros((), x.dtype))
    return out


def _shares(size: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool) -> Any:
    """(place in the result, place in the input, share of the mean) of average pooling."""
    ones = (1,) * len(kernel)
    count = _pooled(size, kernel, stride, padding, ones, ceil)
    for o, _, i in _pairs(size, count, kernel, stride, padding, ones):
        number = 1
        for a, n, k, s, p in zip(o, size, kernel, stride, padding, strict=True):
            low, high = (-p, n + p) if include else (0, n)
            number *= sum(low <= a * s - p + t < high for t in range(k))
        yield count, o, i, 1.0 / number


@oracle("avg_pool")
def _avg_pool(
    x: np.ndarray, *, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:  # fmt: skip
    size = _pooled(x.shape[2:], kernel, stride, padding, (1,) * len(kernel), ceil_mode)
    out = np.zeros((*x.shape[:2], *size))
    kinds = (kernel, stride, padding, ceil_mode, count_include_pad)
    for _, o, i, part in _shares(x.shape[2:], *kinds):
        out[(slice(None), slice(None), *o)] += part * x[(slice(None), slice(None), *i)]
    return out


@oracle("avg_pool_grad")
def _avg_pool_grad(
    out: np.ndarray, *, input_size: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:  # fmt: skip
    x = np.zeros((*out.shape[:2], *input_size))
    for _, o, i, part in _shares(input_size, kernel, stride, padding, ceil_mode, count_include_pad):
        x[(slice(None), slice(None), *i)] += part * out[(slice(None), slice(None), *o)]
    return x


def _bins(n: int, m: int) -> np.ndarray:
    """[m, n]: each bin's share of each element."""
    out = np.zeros((m, n))
    for o in range(m):
        start, stop = o * n // m, -(-(o + 1) * n // m)
        out[o, start:stop] = 1 / (stop - start)
    return out


@oracle("adaptive_avg_pool")
def _adaptive(x: np.ndarray, *, output: Any) -> np.ndarray:
    for axis, m in enumerate(output, 2):
        x = np.moveaxis(np.tensordot(x, _bins(x.shape[axis], m), (axis, 1)), -1, axis)
    return x


@oracle("adaptive_avg_pool_grad")
def _adaptive_grad(out: np.ndarray, *, input_size: Any) -> np.ndarray:
    for axis, n in enumerate(input_size, 2):
        out = np.moveaxis(np.tensordot(out, _bins(n, out.shape[axis]), (axis, 0)), -1, axis)
    return out


@oracle("resample")
def _resample(x: np.ndarray, places: Any, weights: Any, *back: Any, dim: int) -> np.ndarray:
    taps, count = weights.shape
    out = np.zeros((*x.shape[:dim], count, *x.shape[dim + 1 :]))
    for t, o in np.ndindex(taps, count):
        place = min(max(places[t, o], 0), x.shape[dim] - 1)
        at = (slice(None),) * dim
        out[(*at, o)] += weights[t, o] * x[(*at, place)]
    return out


# Normalisation ------------------------------------------------------------------------------------


def _channel(v: np.ndarray, rank: int) -> np.ndarray:
    return v.reshape(-1, *(1,) * (rank - 2))


@oracle("batch_norm_train")
def _batch_norm(x: np.ndarray, weight: Any, bias: Any, *, epsilon: float) -> tuple[Any, ...]:
    over = (0, *range(2, x.ndim))
    mean, var = x.mean(over), x.var(over)
    return _batch_norm_eval(x, mean, var, weight, bias, epsilon=epsilon), mean, var


@oracle("batch_norm_eval")
def _batch_norm_eval(
    x: np.ndarray, mean: Any, var: Any, weight: Any, bias: Any, *, epsilon: float
) -> np.ndarray:
    mean, var, weight, bias = (_channel(v, x.ndim) for v in (mean, var, weight, bias))
    return (x - mean) / np.sqrt(var + epsilon) * weight + bias


@oracle("layer_norm")
def _layer_norm(x: np.ndarray, weight: Any, bias: Any, *, dims: int, epsilon: float) -> np.ndarray:
    over = tuple(range(x.ndim - dims, x.ndim))
    mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon) * weight + bias


@oracle("group_norm")
def _group_norm(x: Any, weight: Any, bias: Any, *, groups: int, epsilon: float) -> np.ndarray:
    out = np.zeros_like(x)
    for n in range(x.shape[0]):
        for group in range(groups):
            own = _channels(group, groups, x.shape[1])
            part = x[n, own]
            out[n, own] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return out * _channel(weight, x.ndim) + _channel(bias, x.ndim)


# Losses -------------------------------------------------------------------------------------------


def _reduced(rows: np.ndarray, reduction: str) -> Any:
    return {"none": lambda r: r, "sum": np.sum, "mean": np.mean}[reduction](rows)


def _smooth(x: np.ndarray, target: np.ndarray, *, reduction: str, beta: float) -> Any:
    d = np.abs(x - target)
    return _reduced(np.where(d < beta, d**2 / 2 / (beta or 1), d - beta / 2), reduction)


def _bce(x: np.ndarray, target: np.ndarray, *, reduction: str) -> Any:
    one, other = np.maximum(np.log(x), -100), np.maximum(np.log(1 - x), -100)
    return _reduced(-(target * one + (1 - target) * other), reduction)


def _bce_logits(x: np.ndarray, target: np.ndarray, *, reduction: str) -> Any:
    rows = target * special.log_expit(x) + (1 - target) * special.log_expit(-x)
    return _reduced(-rows, reduction)


ORACLES |= {
    "mse_loss": lambda x, target, *, reduction: _reduced((x - target) ** 2, reduction),
    "l1_loss": lambda x, target, *, reduction: _reduced(np.abs(x - target), reduction),
    "smooth_l1_loss": _smooth,
    "binary_cross_entropy": _bce,
    "bce_with_logits": _bce_logits,
}


def _rows(
    x: np.ndarray, target: np.ndarray, weight: Any, smoothing: float, ignore: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's distribution over the classes that is wanted (times weights), and its divisor."""
    dim = 0 if x.ndim == 1 else 1
    classes = x.shape[dim]
    weight = np.ones(classes) if weight is None else weight
    wanted, divisor = np.zeros(x.shape), np.zeros(target.shape)
    last = np.moveaxis(wanted, dim, -1)
    for place in np.ndindex(*target.shape):
        t = int(target[place])
        if t != ignore:
            last[place] = weight * (smoothing / classes + (1 - smoothing) * np.eye(classes)[t])
            divisor[place] = weight[t]
    return wanted, divisor


def _classes(x: np.ndarray, wanted: np.ndarray, divisor: np.ndarray, reduction: str) -> Any:
    """The loss for log-probabilities."""
    rows = -(x * wanted).sum(0 if x.ndim == 1 else 1)
    if reduction == "mean":
        return rows.sum() / divisor.sum()
    return rows.sum() if reduction == "sum" else rows


@oracle("nll_loss", "nll_loss_weighted")
def _nll(
    x: np.ndarray, target: np.ndarray, weight: Any = None, *, reduction: str, ignore_index: int
) -> Any:
    return _classes(x, *_rows(x, target, weight, 0.0, ignore_index), reduction)


@oracle("cross_entropy", "cross_entropy_weighted")
def _cross_entropy(
    logits: np.ndarray, target: np.ndarray, weight: Any = None, *, reduction: str,
    ignore_index: int, label_smoothing: float,
) -> Any:  # fmt: skip
    log = special.log_softmax(logits, 0 if logits.ndim == 1 else 1) if logits.size else logits
    return _classes(log, *_rows(log, target, weight, label_smoothing, ignore_index), reduction)


@oracle("cross_entropy_grad", "cross_entropy_weighted_grad")
def _cross_entropy_grad(
    out: np.ndarray, logits: np.ndarray, target: np.ndarray, weight: Any = None, *,
    reduction: str, ignore_index: int, label_smoothing: float,
) -> Any:  # fmt: skip
    dim = 0 if logits.ndim == 1 else 1
    wanted, divisor = _rows(logits, target, weight, label_smoothing, ignore_index)
    p = special.softmax(logits, dim) if logits.size else logits
    rows = p * wanted.sum(dim, keepdims=True) - wanted
    if reduction == "none":
        return rows * np.expand_dims(out, dim)
    return rows * out / (divisor.sum() if reduction == "mean" else 1.0)


def _band(stay: Any, step: Any, skip: Any) -> Any:
    """The matrix [.., S, S] with these diagonals: the main one and the two below it."""
    states = np.shape(stay)[-1]
    rows = np.arange(states)
    out = np.zeros((*np.shape(stay), states))
    for by, factor in enumerate((stay, step, skip)):
        out[..., rows[by:], rows[: states - by]] = factor[..., by:]
    return out


@oracle("lattice_sum")
def _lattice_sum(x: Any, stay: Any, step: Any, skip: Any) -> Any:
    out = np.array(x)
    for t in range(1, len(x)):
        out[t] += (_band(stay[t], step[t], skip[t]) @ out[t - 1][..., None])[..., 0]
    return out


@oracle("lattice_logsum")
def _lattice_logsum(x: Any, skips: Any) -> Any:
    ones = np.ones(skips.shape)
    with np.errstate(divide="ignore"):
        band = np.log(_band(ones, ones, skips.astype(float)))
        start = np.log((np.arange(x.shape[2]) < 2).astype(float))
    out = np.array(x)
    for t in range(len(x)):
        before = special.logsumexp(band + out[t - 1][:, None, :], axis=-1) if t else start
        out[t] = x[t] + before
    return out
