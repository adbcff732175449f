"""Special functions that NumPy lacks, on arrays. In and out: arrays of f64."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Rational Chebyshev approximations of W. J. Cody, "Rational Chebyshev approximations for the error
# function", Mathematics of Computation 23 (1969), with the coefficients of his CALERF (SPECFUN).
# erf(x) for |x| <= 0.46875, highest power first, in x**2.
NEAR_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
NEAR_Q = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
# erfc(x) * exp(x**2) for 0.46875 <= x <= 4, in x.
MIDDLE_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
MIDDLE_Q = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
# What is missing from 1/sqrt(pi) in erfc(x) * exp(x**2) * x for x >= 4, in 1/x**2.
FAR_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
FAR_Q = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)
NEAR_LIMIT, MIDDLE_LIMIT = 0.46875, 4.0
INVERSE_SQRT_PI = 5.6418958354775628695e-1


def _ratio(p: tuple[float, ...], q: tuple[float, ...], x: Array) -> Array:
    """The rational function with these coefficients, highest power first, by Horner's rule."""
    above, below = np.full_like(x, p[0]), np.full_like(x, q[0])
    for a, b in zip(p[1:], q[1:], strict=True):
        above = above * x + a
        below = below * x + b
    return above / below


def _gauss(x: Array) -> Array:
    """exp(-x**2); the square's rounding error would be magnified, so x is split as Cody does."""
    coarse = np.trunc(x * 16) / 16
    result: Array = np.exp(-coarse * coarse) * np.exp(-(x - coarse) * (x + coarse))
    return result


def erf(x: Array) -> Array:
    """The error function, within 3e-16 of the exact value; nan for nan."""
    result = np.empty_like(x)
    size = np.abs(x)
    near, far = size <= NEAR_LIMIT, size > MIDDLE_LIMIT
    middle = ~(near | far)  # nan as well
    part = x[near]
    result[near] = part * _ratio(NEAR_P, NEAR_Q, part * part)
    part = size[middle]
    result[middle] = 1.0 - _gauss(part) * _ratio(MIDDLE_P, MIDDLE_Q, part)
    part = np.minimum(size[far], 30.0)  # 1 - erf(6) is below the last bit of 1
    inverse = 1.0 / (part * part)
    tail = (INVERSE_SQRT_PI - inverse * _ratio(FAR_P, FAR_Q, inverse)) / part
    result[far] = 1.0 - _gauss(part) * tail
    return np.where(near, result, np.copysign(result, x))
