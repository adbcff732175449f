"""The methods and operators of the elementwise, random and reduction functions beyond the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.functions import (
    activations,
    elementwise,
    pointwise,
    random_numbers,
    sampling,
    statistics,
)
from braze.functions.creation import empty
from braze.ir.dtypes import DType
from braze.tensors import Tensor

Function = Callable[..., Any]

BOTH = (
    "hypot logaddexp logaddexp2 copysign nextafter xlogy fmax fmin bitwise_left_shift "
    "bitwise_right_shift logical_and logical_or logical_xor float_power ldexp heaviside clamp_min "
    "clamp_max round frac deg2rad rad2deg logit mvlgamma nan_to_num true_divide gcd lcm igamma "
    "igammac"
).split()
PLAIN = "positive isclose frexp".split()
STATISTICS = "aminmax count_nonzero nansum nanmean dist std_mean var_mean cov corrcoef".split()
IN_PLACE = "atan2 bitwise_and bitwise_or bitwise_xor maximum minimum".split()
FILLS = "uniform_ normal_ log_normal_ exponential_ cauchy_ geometric_ bernoulli_ random_".split()


def _polygamma(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return elementwise.polygamma(n, self)


def _new_empty(self: Tensor, *size: Any, dtype: DType | None = None, **kwargs: Any) -> Tensor:
    """An uninitialised tensor, unless given of this tensor's dtype."""
    return empty(*size, dtype=dtype or self.dtype, **kwargs)


def methods(inplace: Callable[[Function], Function]) -> dict[str, Any]:
    """Methods by name; `inplace` derives the in-place form of a function."""
    forms: dict[str, Function] = {name: getattr(elementwise, name) for name in BOTH}
    forms |= elementwise.ALIASES
    forms |= {name: getattr(pointwise, name) for name in IN_PLACE}
    forms["polygamma"] = _polygamma
    found: dict[str, Any] = dict(forms)
    found |= {f"{name}_": inplace(function) for name, function in forms.items()}
    found |= {name: getattr(elementwise, name) for name in PLAIN}
    found |= {name: getattr(statistics, name) for name in STATISTICS}
    found |= {name: getattr(sampling, name) for name in FILLS}
    found |= activations.METHODS
    found["multinomial"] = sampling.multinomial
    found["bernoulli"] = random_numbers.bernoulli
    found["new_empty"] = _new_empty
    return found


SHIFTS = {"lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}


def operators(
    operator: Callable[[Function], Function],
    reflected: Callable[[Function], Function],
    inplace: Callable[[Function], Function],
) -> dict[str, Any]:
    """Operators by the name of their method."""
    found: dict[str, Any] = {"__pos__": elementwise.positive}
    for symbol, name in SHIFTS.items():
        function = getattr(elementwise, name)
        found[f"__{symbol}__"] = operator(function)
        found[f"__r{symbol}__"] = operator(reflected(function))
        found[f"__i{symbol}__"] = operator(inplace(function))
    return found
