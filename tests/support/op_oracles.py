"""What every operation means, said again with NumPy and SciPy: `ORACLES`, by the op's name.

An oracle is called as the op's `evaluate` is, with floats in f64 (but for the names in `RAW`), and
gives results that are rounded to the op's dtypes. Where results are not unique (eigenvectors) it is
a `Check`, which is given operands and results. Composites of networks, linear algebra and random
numbers are in `op_oracles_networks` and `op_oracles_matrices`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special as special

ORACLES: dict[str, Any] = {}
# Oracles that need the operands' own dtype: their bits or their spacing.
RAW = {"bitcast", "nextafter", "floor_divide"}


class Check:
    """An oracle that judges results: ``function(operands, results, **attributes)``."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function


def oracle(*names: str) -> Callable[[Any], Any]:
    """Enter a function as the oracle of ops."""

    def register(function: Any) -> Any:
        for name in names:
            assert name not in ORACLES, name
            ORACLES[name] = function
        return function

    return register


def _whole(function: Callable[[int, int, int], int]) -> Callable[..., np.ndarray]:
    """A function of two integers and the width, on Python's integers; wraps around at the end."""

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = np.broadcast_arrays(x, y)
        bits = x.dtype.itemsize * 8
        flat = [
            function(a, b, bits)
            for a, b in zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)
        ]
        words = np.array([v & (2**64 - 1) for v in flat], np.uint64)
        return words.astype(x.dtype).reshape(x.shape)

    return run


def _by_kind(floats: Callable[..., Any], integers: Callable[[int, int, int], int]) -> Any:
    whole = _whole(integers)
    return lambda x, y: (whole if x.dtype.kind in "iu" else floats)(x, y)


def _truncated(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _power(a: int, b: int, bits: int) -> int:
    if b < 0:
        return (1 if a == 1 or b % 2 == 0 else a) if abs(a) == 1 else 0
    return pow(a, b, 2**bits)


def _real_if(wanted: bool, x: np.ndarray) -> np.ndarray:
    return x.real if wanted else x


# Pointwise primitives -----------------------------------------------------------------------------

ORACLES |= {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "floor_divide": _by_kind(lambda x, y: np.floor(x / y), lambda a, b, _: a // b if b else 0),
    "remainder": _by_kind(np.remainder, lambda a, b, _: a % b if b else 0),
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "atan2": np.arctan2,
    "neg": np.negative,
    "abs": np.abs,
    "sign": lambda x: np.where(x != x, np.zeros_like(x), np.sign(x)),  # of nan as in PyTorch
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "atan": np.arctan,
    "erf": special.erf,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.bitwise_not,
    "shift_left": _whole(lambda a, b, bits: a << b % bits),
    "shift_right": _whole(lambda a, b, bits: a >> b % bits),
    "where": np.where,
    "cast": lambda x, *, dtype: _real_if(dtype.is_integer or dtype.is_floating_point, x).astype(
        dtype.numpy
    ),
    "to_device": lambda x, *, device: x,
    "bitcast": lambda x, *, dtype: np.frombuffer(x.tobytes(), dtype.numpy).reshape(x.shape),
}

# Elementwise composites ---------------------------------------------------------------------------


def _gelu(x: np.ndarray, *, approximate: str) -> np.ndarray:
    if approximate == "none":
        return x * special.ndtr(x)
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _softplus(x: np.ndarray, *, beta: float, threshold: float) -> np.ndarray:
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x)) if np.iscomplexobj(x) else special.expit(x)


def _logit(x: np.ndarray, *, eps: float) -> np.ndarray:
    return special.logit(x if eps < 0 else np.clip(x, eps, 1 - eps))


def _isclose(x: np.ndarray, y: np.ndarray, rtol: np.ndarray, atol: np.ndarray) -> np.ndarray:
    gap = np.abs(x - y)
    return (x == y) | (np.isfinite(gap) & (gap <= atol + np.abs(rtol * y)))


def _lerp(x: np.ndarray, end: np.ndarray, weight: np.ndarray) -> np.ndarray:
    near, far = x + weight * (end - x), end - (end - x) * (1 - weight)
    return np.where(np.abs(weight) < 0.5, near, far)


def _far_below(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Where SciPy's functions give nan at the largest numbers."""
    return (a > 1e300) & np.isfinite(a) & (x >= 0) & (x < a / 2)


def _lcm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x / gcd * y| as it wraps; narrow integers are multiplied as C's int is."""
    wide = 64 if x.dtype.itemsize == 8 else 32

    def one(a: int, b: int, _: int) -> int:
        product = (a // math.gcd(a, b) if a or b else 0) * b
        wrapped = (product + 2 ** (wide - 1)) % 2**wide - 2 ** (wide - 1)
        return abs(wrapped if x.dtype.kind == "i" else product)

    return _whole(one)(x, y)


def _nan_to_num(x: np.ndarray, nan: Any, above: Any, below: Any) -> np.ndarray:
    return np.select([np.isnan(x), x == np.inf, x == -np.inf], [nan, above, below], x)


ORACLES |= {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, *, slope: np.where(x > 0, x, slope * x),
    "elu": lambda x, *, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
    "hardtanh": lambda x, *, low, high: np.clip(x, low, high),
    "sigmoid": _expit,
    "silu": lambda x: x * _expit(x),
    "gelu": _gelu,
    "softplus": _softplus,
    "log_sigmoid": special.log_expit,
    "square": np.square,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp2": np.exp2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erfc": special.erfc,
    "erfcx": special.erfcx,
    "erfinv": special.erfinv,
    "ndtri": special.ndtri,
    "ndtr": special.ndtr,
    "log_ndtr": special.log_ndtr,
    "i0": lambda x: np.where(np.isinf(x), np.inf, special.i0(x)),
    "i0e": special.i0e,
    "i1": lambda x: np.where(np.isinf(x), x, special.i1(x)),
    "i1e": special.i1e,
    "lgamma": lambda x: np.where(x == -np.inf, np.inf, special.gammaln(x)),
    "digamma": special.psi,
    "polygamma": lambda x, *, n: special.polygamma(n, x),
    "zeta": special.zeta,
    "log2": np.log2,
    "log10": np.log10,
    "frac": lambda x: x - np.trunc(x),
    "sinc": lambda x: np.where(np.isfinite(x) & (np.abs(x) > 1e300), 0.0, np.sinc(x)),
    "logit": _logit,
    "entr": special.entr,
    "logical_not": np.logical_not,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "isposinf": lambda x: x == np.inf,
    "isneginf": lambda x: x == -np.inf,
    "signbit": lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "clamp_min": np.maximum,
    "clamp_max": np.minimum,
    "fmod": _by_kind(np.fmod, lambda a, b, _: a - b * _truncated(a, b) if b else 0),
    "div_floor": _by_kind(np.floor_divide, lambda a, b, _: a // b if b else 0),
    "div_trunc": _by_kind(lambda x, y: np.trunc(x / y), lambda a, b, _: _truncated(a, b)),
    "copysign": np.copysign,
    "heaviside": lambda x, values: np.where(x == 0, values, (x > 0).astype(x.dtype)),
    "fmax": np.fmax,
    "fmin": np.fmin,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "xlogy": special.xlogy,
    "xlog1py": special.xlog1py,
    "nan_to_num": _nan_to_num,
    "isclose": _isclose,
    "lerp": _lerp,
    "bitwise_left_shift": _whole(lambda a, b, bits: a << b if 0 <= b < bits else 0),
    "bitwise_right_shift": _whole(lambda a, b, bits: a >> (b if 0 <= b < bits else bits)),
    "integer_pow": _whole(_power),
    "nextafter": np.nextafter,
    "gcd": _whole(lambda a, b, _: math.gcd(a, b)),
    "lcm": _lcm,
    "frexp": lambda x: tuple(
        np.where(np.isfinite(x), a, b) for a, b in zip(np.frexp(x), (x, 0), strict=True)
    ),
    "igamma": lambda a, x: np.where(_far_below(a, x), 0.0, special.gammainc(a, x)),
    "igammac": lambda a, x: np.where(_far_below(a, x), 1.0, special.gammaincc(a, x)),
    "hardshrink": lambda x, *, lambd: np.where(np.abs(x) <= lambd, 0.0, x),
    "softshrink": lambda x, *, lambd: x - np.clip(x, -lambd, lambd),
    "threshold": lambda x, *, limit, value: np.where(
        x <= np.asarray(limit).astype(x.dtype), np.asarray(value).astype(x.dtype), x
    ),
    "celu": lambda x, *, alpha: np.where(x > 0, x, alpha * np.expm1(x / alpha)),
    "masked_fill": lambda x, mask, *, value: np.where(mask, np.asarray(value, x.dtype), x),
}

# Reductions ---------------------------------------------------------------------------------------


def _reduced(function: Callable[..., Any]) -> Any:
    return lambda x, *, dims, keepdim, **rest: function(x, axis=dims, keepdims=keepdim, **rest)


def _same_dtype(function: Callable[..., Any]) -> Any:
    return _reduced(lambda x, **over: function(x, dtype=x.dtype, **over))


def _place(function: Callable[..., Any]) -> Any:
    return lambda x, *, dims, keepdim: function(x, axis=dims[0], keepdims=keepdim)


def _var(x: np.ndarray, axis: Any, keepdims: bool, correction: int) -> np.ndarray:
    count = int(np.prod([x.shape[d] for d in axis], dtype=int))
    squares = (x - np.mean(x, axis=axis, keepdims=True)) ** 2
    return np.sum(squares, axis=axis, keepdims=keepdims) / max(count - correction, 0)


def _logsumexp(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    if not axis:
        return x
    if 0 in [x.shape[d] for d in axis]:
        return np.full(np.sum(x, axis=axis, keepdims=keepdims).shape, -np.inf)
    return special.logsumexp(x, axis=axis, keepdims=keepdims)


def _norm(x: np.ndarray, axis: Any, keepdims: bool, p: float) -> np.ndarray:
    over = {"axis": axis, "keepdims": keepdims}
    if np.isinf(p):
        return (np.max if p > 0 else np.min)(np.abs(x), **over)
    if p == 0:
        return np.sum(x != 0, **over)
    return np.sum(np.abs(x) ** p, **over) ** (1 / p)


def _with_index(function: Any, place: Any) -> Any:
    def run(x: np.ndarray, *, dim: int, keepdim: bool) -> tuple[np.ndarray, np.ndarray]:
        over = {"axis": dim, "keepdims": keepdim}
        return function(x, **over), place(x, **over)

    return run


ORACLES |= {
    "sum": _same_dtype(np.sum),
    "prod": _same_dtype(np.prod),
    "amax": _reduced(np.max),
    "amin": _reduced(np.min),
    "any": _reduced(np.any),
    "all": _reduced(np.all),
    "argmax": _place(np.argmax),
    "argmin": _place(np.argmin),
    "mean": _reduced(np.mean),
    "var": _reduced(_var),
    "std": _reduced(lambda x, **rest: np.sqrt(_var(x, **rest))),
    "logsumexp": _reduced(_logsumexp),
    "norm": _reduced(_norm),
    "softmax": lambda x, *, dim: special.softmax(x, axis=dim) if x.size else x,
    "log_softmax": lambda x, *, dim: special.log_softmax(x, axis=dim) if x.size else x,
    "max_with_index": _with_index(np.max, np.argmax),
    "min_with_index": _with_index(np.min, np.argmin),
}

# Scans and sorts ----------------------------------------------------------------------------------


def _along(function: Callable[..., Any], results: int = 1) -> Any:
    """A function of columns (from the first element in the scan's order), for all columns."""

    def run(*operands: np.ndarray, dim: int, reverse: bool) -> Any:
        x = operands[0]
        outs = [np.empty(x.shape, x.dtype), np.empty(x.shape, np.int64)][:results]
        for place in np.ndindex(*x.shape[:dim], *x.shape[dim + 1 :]):
            at = (*place[:dim], slice(None), *place[dim:])
            columns = [a[at][::-1] if reverse else a[at] for a in operands]
            for number, (out, made) in enumerate(zip(outs, function(*columns), strict=True)):
                made = np.asarray(made)
                made = len(columns[0]) - 1 - made if reverse and number else made
                out[at] = made[::-1] if reverse else made
        return tuple(outs) if results > 1 else outs[0]

    return run


def _running_extremum(largest: bool) -> Any:
    def run(column: np.ndarray) -> tuple[list[Any], list[int]]:
        values, places = [], []
        best: Any = None
        at = 0
        for number, value in enumerate(column):
            beats = best is None or value != value
            if best is not None and best == best:
                beats = beats or (value >= best if largest else value <= best)
            if beats:
                best, at = value, number
            values.append(best)
            places.append(at)
        return values, places

    return run


def _recurrence(a: np.ndarray, x: np.ndarray) -> tuple[list[Any]]:
    made: list[Any] = []
    for factor, term in zip(a, x, strict=True):
        made.append(term.item() + (factor.item() * made[-1] if made else 0.0))
    return (made,)


SCANS = {
    "cumsum": _along(lambda x: (np.cumsum(x, dtype=x.dtype),)),
    "cumprod": _along(lambda x: (np.cumprod(x, dtype=x.dtype),)),
    "cummax": _along(_running_extremum(True), 2),
    "cummin": _along(_running_extremum(False), 2),
}
ORACLES |= SCANS
ORACLES["linear_recurrence"] = _along(_recurrence)
ORACLES["logcumsumexp"] = lambda x, *, dim: np.logaddexp.accumulate(x, axis=dim)


def _cut(size: int, length: int, reverse: bool) -> list[range]:
    """The places of each block, in the order of the scan."""
    order = range(size - 1, -1, -1) if reverse else range(size)
    return [order[start : start + length] for start in range(0, size, length)]


def _blocks(name: str) -> None:
    """The two halves of a scan in blocks, by a scan of each block with its start put before it."""
    scan, several = SCANS[name], name in ("cummax", "cummin")

    def ends(x: np.ndarray, *, dim: int, reverse: bool, length: int) -> Any:
        found: list[list[np.ndarray]] = [[], []]
        x = x.astype(np.uint8) if x.dtype == bool and name in ("cummax", "cummin") else x
        for places in _cut(x.shape[dim], length, reverse)[:-1]:
            own = np.take(x, places, axis=dim)
            made = scan(own, dim=dim, reverse=False)
            last = [np.take(m, [-1], axis=dim) for m in (made if several else (made,))]
            if several:
                last[1] = np.take(np.array(places), last[1])
            for out, value in zip(found, last, strict=False):
                out.append(value)
        joined = [np.concatenate(parts, axis=dim) for parts in found if parts]
        return tuple(joined) if several else joined[0]

    def continued(
        x: np.ndarray,
        starts: np.ndarray,
        *indices: np.ndarray,
        dim: int,
        reverse: bool,
        length: int,
    ) -> Any:
        outs = [np.empty(x.shape, x.dtype), np.empty(x.shape, np.int64)]
        for number, places in enumerate(_cut(x.shape[dim], length, reverse)):
            own = np.take(x, places, axis=dim)
            at = (slice(None),) * dim + (list(places),)
            if number:
                start = np.take(starts, [number - 1], axis=dim).astype(own.dtype)
                own = np.concatenate([start, own], axis=dim)
            made = scan(own, dim=dim, reverse=False)
            made = made if several else (made,)
            cut = [np.delete(m, 0, axis=dim) if number else m for m in made]
            outs[0][at] = cut[0]
            if several:
                inside = np.take(np.array(places), np.maximum(cut[1] - bool(number), 0))
                if number:
                    before = np.take(indices[0], [number - 1], axis=dim)
                    inside = np.where(cut[1] == 0, before, inside)
                outs[1][at] = inside
        return tuple(outs) if several else outs[0]

    ORACLES[f"{name}_ends"] = ends
    ORACLES[f"{name}_from"] = continued


for _name in SCANS:
    _blocks(_name)


def _order(column: np.ndarray, descending: bool) -> list[int]:
    """By Python's sort, which is stable; nan is the largest."""

    def key(place: int) -> tuple[bool, Any]:
        value = column[place]
        return (bool(value != value), 0 if value != value else value)

    keys = [key(place) for place in range(len(column))]
    return sorted(range(len(column)), key=keys.__getitem__, reverse=descending)


def _sort(x: np.ndarray, *, dim: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    order = np.zeros(x.shape, np.int64)
    if x.size:
        order = np.apply_along_axis(lambda c: np.array(_order(c, descending)), dim, x)
    return np.take_along_axis(x, order, dim), order


def _topk(x: np.ndarray, *, dim: int, k: int, largest: bool) -> tuple[np.ndarray, ...]:
    if x.size == 0:
        shape = (*x.shape[:dim], k, *x.shape[dim + 1 :])
        return np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    return tuple(np.take(r, range(k), axis=dim) for r in _sort(x, dim=dim, descending=largest))


def _searchsorted(sequence: np.ndarray, values: np.ndarray, *, right: bool) -> np.ndarray:
    rows = sequence[..., None, :] if sequence.ndim > 1 else sequence
    below = rows <= values[..., None] if right else rows < values[..., None]
    return below.sum(-1)


ORACLES |= {"sort": _sort, "topk": _topk, "searchsorted": _searchsorted}
