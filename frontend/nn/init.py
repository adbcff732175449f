"""Ways to fill parameters before training, in place. Numbers come from the default generator unless
one is given.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable

import numpy as np

from braze import random
from braze.autograd.modes import no_grad
from braze.functions import sampling
from braze.functions.creation import zeros_like
from braze.functions.decompositions import qr
from braze.functions.methods import fill_
from braze.functions.movement import clone, reshape, transpose
from braze.functions.pointwise import SPECIAL_UNARY, UNARY, add, clamp, lt, mul, where
from braze.functions.promotion import cast
from braze.functions.sorting import argsort
from braze.functions.views import diagonal
from braze.ir.dtypes import f32, f64
from braze.placing import array_beside
from braze.random import Generator
from braze.sites import user_stacklevel
from braze.tensors import Tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation.

    Args:
        nonlinearity: "linear", "conv1d" ..., "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the slope of "leaky_relu" (0.01 by default).

    Raises:
        ValueError: an unknown name, or a slope that is no number.
    """
    linear = {"linear", *(f"conv{d}d" for d in (1, 2, 3))}
    linear |= {f"conv_transpose{d}d" for d in (1, 2, 3)}
    if nonlinearity in linear or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def fan_in_and_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs reach an output, and outputs an input: for weights [out, in, taps...].

    Raises:
        ValueError: fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


# Under the name that programs know from PyTorch.
_calculate_fan_in_and_fan_out = fan_in_and_out


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b)."""
    with no_grad():
        return sampling.uniform_(tensor, a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with this mean and standard deviation."""
    with no_grad():
        return sampling.normal_(tensor, mean, std, generator=generator)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    with no_grad():
        return fill_(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """One everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zero everywhere."""
    with no_grad():
        return tensor._replace(zeros_like(tensor))


def _set(tensor: Tensor, array: np.ndarray) -> Tensor:
    """Take over values that were computed on the host."""
    with no_grad():
        shaped = np.ascontiguousarray(array).reshape(tuple(tensor.shape))
        values = array_beside(tensor, shaped)
        return tensor._replace(cast(values, tensor.dtype))


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.

    Raises:
        ValueError: not two dimensions.
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _set(tensor, np.eye(*tensor.shape, dtype=np.float32))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight that passes its input channels on (as many as there are outputs).

    Raises:
        ValueError: not 3 to 5 dimensions, or groups do not divide the outputs.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    each = tensor.shape[0] // groups
    array = np.zeros(tuple(tensor.shape), np.float32)
    middle = tuple(size // 2 for size in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(each, tensor.shape[1])):
            array[(group * each + channel, channel, *middle)] = 1
    return _set(tensor, array)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform with variance gain**2 * 2 / (fan in + fan out) (Glorot and Bengio, 2010)."""
    fan_in, fan_out = fan_in_and_out(tensor)
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain**2 * 2 / (fan in + fan out) (Glorot and Bengio, 2010)."""
    fan_in, fan_out = fan_in_and_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """One of both, by name."""
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return fan_in_and_out(tensor)[mode == "fan_out"]


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    """0 for a tensor without elements."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=user_stacklevel())
        return 0.0
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance gain**2 / fan (He et al., arXiv 1502.01852); `a` is the slope of
    leaky_relu.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance gain**2 / fan (He et al., arXiv 1502.01852); `a` is the slope of
    leaky_relu.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A matrix (of the first dimension by all others) with orthonormal rows or columns.

    Saxe, McClelland, Ganguli, arXiv 1312.6120; the signs make the distribution uniform (Mezzadri,
    2007).

    Raises:
        ValueError: fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    shape = (max(rows, columns), min(rows, columns))
    wide = tensor.dtype if tensor.dtype.bits > 16 else f32
    with no_grad():
        q, r = qr(random.randn(shape, dtype=wide, generator=generator))
        q = mul(mul(q, UNARY["sign"](diagonal(r))), gain)
        q = transpose(q, 0, 1) if rows < columns else q
        return tensor._replace(clone(cast(reshape(q, tensor.shape), tensor.dtype)))


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Normal with this deviation, but in each column a part `sparsity` of the rows, chosen at
    random, is zero (Martens, "Deep learning via Hessian-free optimization", 2010).

    Raises:
        ValueError: not two dimensions.
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    count = math.ceil(sparsity * tensor.shape[0])
    with no_grad():
        order = argsort(random.rand(tensor.shape, generator=generator), 0)
        hidden = lt(argsort(order, 0), count)
        drawn = random.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
        return tensor._replace(where(hidden, 0.0, mul(drawn, std)))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, cut off at [a, b], by inverting the distribution function."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of "
            "values may be incorrect.",
            stacklevel=2,
        )
    # Of the tails the left one has small probabilities, which are exact: all right of the mean is
    # drawn mirrored.
    sign = -1.0 if a > mean else 1.0
    low, high = sorted(sign * (limit - mean) / std for limit in (a, b))
    p, q = (math.erfc(-x / math.sqrt(2)) / 2 for x in (low, high))
    with no_grad():
        drawn = random.rand(tensor.shape, dtype=f64, generator=generator)
        normal = SPECIAL_UNARY["ndtri"](add(mul(drawn, q - p), p))
        values = clamp(add(mul(normal, sign * std), mean), a, b)
        return tensor._replace(cast(values, tensor.dtype))


def _deprecated(new: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function under its old name, which has no underscore at the end."""
    name = new.__name__
    old = name.removesuffix("_")

    @functools.wraps(new)
    def function(*args: object, **kwargs: object) -> Tensor:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return new(*args, **kwargs)

    function.__name__ = old
    function.__doc__ = f"`{name}` under its old name, with a warning."
    return function


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
