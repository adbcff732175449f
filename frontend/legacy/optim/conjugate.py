"""Conjugate gradients with a line search.

After Rasmussen's `minimize`: directions by Polak and Ribière; along each, points are interpolated
and extrapolated by cubics until the Wolfe-Powell conditions hold (C. E. Rasmussen, Evaluation of
Gaussian Processes and other Methods for Non-linear Regression, 1996, appendix B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from braze.legacy.optim.first_order import Function, Settings, state_of
from braze.tensors import Tensor


@dataclass
class _Point:
    """A point on the line: the loss there, the slope, and where it is from the newest one."""

    loss: float
    slope: float
    at: float


@dataclass
class _Limits:
    rho: float  # how much of the slope a step must gain
    sigma: float  # how much of the slope may be left
    inner: float  # interpolation stays so far from the ends, of the interval
    outer: float  # extrapolation goes at most so many times as far
    ratio: float  # from one line to the next the step grows at most so much


class _Line:
    """The loss along a direction from x, which moves with the newest point."""

    def __init__(self, opfunc: Function, x: Tensor, budget: float) -> None:
        self.opfunc, self.x, self.budget = opfunc, x, budget
        self.count = 0
        self.gradient = x

    def evaluate(self) -> float:
        loss, gradient = self.opfunc(self.x)
        self.gradient = gradient.clone()
        self.count += 1
        return float(loss)

    def move(self, by: float, direction: Tensor) -> tuple[float, float]:
        """Loss and slope at a distance from where x was."""
        self.x.add_(direction, alpha=by)
        loss = self.evaluate()
        return loss, float(self.gradient.dot(direction))


def cg(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, list[float], int]:
    """Minimise by conjugate gradients.

    Settings: maxIter (20 evaluations on one line), maxEval (1.25 * maxIter in all), rho (0.01), sig
    (0.5), int (0.1), ext (3), ratio (100).

    Returns:
        x, the losses at the start and after each line, and how often `opfunc` was called. Losses
        are read at once.
    """
    config, state = state_of("cg", config, state)
    most = config.get("maxIter", 20)
    budget = abs(config.get("maxEval", most * 1.25))
    limits = _Limits(
        *(config.get(k, v) for k, v in (("rho", 0.01), ("sig", 0.5), ("int", 0.1))),
        *(config.get(k, v) for k, v in (("ext", 3.0), ("ratio", 100))),
    )
    line = _Line(opfunc, x, budget)
    loss = line.evaluate()
    losses, gradient = [loss], line.gradient
    direction = -gradient
    slope = -float(direction.dot(direction))
    length, failed = 1 / (1 - slope), False
    while line.count < budget:
        start, start_gradient = x.clone(), gradient
        tries = min(most, budget - line.count)
        end, length, success = _search(line, direction, loss, slope, length, limits, tries)
        if success:
            loss, gradient = end, line.gradient
            losses.append(loss)
            change = float(gradient.dot(gradient)) - float(start_gradient.dot(gradient))
            direction = direction * (change / float(start_gradient.dot(start_gradient))) - gradient
            new = float(gradient.dot(direction))
            if new > 0:
                direction = -gradient
                new = -float(direction.dot(direction))
            length *= min(limits.ratio, slope / (new - 1e-300))
            slope, failed = new, False
            continue
        x.copy_(start)
        if failed or line.count > budget:
            break
        direction = -gradient
        slope = -float(direction.dot(direction))
        length, failed = 1 / (1 - slope), True
    state["s"], state["df0"] = direction, gradient
    return x, losses, line.count


def _search(
    line: _Line,
    direction: Tensor,
    loss: float,
    slope: float,
    length: float,
    limits: _Limits,
    tries: float,
) -> tuple[float, float, bool]:
    """Go along the direction until the Wolfe-Powell conditions hold.

    Returns:
        The loss there, how far it is from the start, and whether the conditions hold.
    """
    last = _Point(loss, slope, -length)
    here, here_slope = line.move(length, direction)
    limit = math.inf

    def too_far() -> bool:
        return here > loss + length * limits.rho * slope or here_slope > -limits.sigma * slope

    while True:
        while too_far() and tries > 0:
            limit = length
            step = _between(last, here, here_slope, here > loss)
            step = max(min(step, limits.inner * last.at), (1 - limits.inner) * last.at)
            length += step
            here, here_slope = line.move(step, direction)
            tries -= 1
            last.at -= step
        if too_far() or tries <= 0:
            return here, length, False
        if here_slope > limits.sigma * slope:
            return here, length, True
        step = _beyond(last, here, here_slope, length, limit, limits)
        last = _Point(here, here_slope, -step)
        length += step
        here, here_slope = line.move(step, direction)
        tries -= 1


def _between(last: _Point, loss: float, slope: float, rose: bool) -> float:
    """The minimum of a parabola, if the loss rose, or of a cubic; half way if it has none."""
    z = last.at
    if rose:
        step = z - _ratio(0.5 * last.slope * z * z, last.slope * z + loss - last.loss)
    else:
        a = 6 * (loss - last.loss) / z + 3 * (slope + last.slope)
        b = 3 * (last.loss - loss) - z * (last.slope + 2 * slope)
        step = _ratio(_root(b * b - a * slope * z * z) - b, a)
    return step if math.isfinite(step) else z / 2


def _beyond(
    last: _Point, loss: float, slope: float, length: float, limit: float, limits: _Limits
) -> float:
    """The minimum of a cubic, not too near and not too far."""
    z = last.at
    a = 6 * (loss - last.loss) / z + 3 * (slope + last.slope)
    b = 3 * (last.loss - loss) - z * (last.slope + 2 * slope)
    step = _ratio(-slope * z * z, b + _root(b * b - a * slope * z * z))
    bounded = math.isfinite(limit)
    if not math.isfinite(step) or step < 0:
        return (limit - length) / 2 if bounded else length * (limits.outer - 1)
    if bounded and step + length > limit:
        return (limit - length) / 2
    if not bounded and step + length > length * limits.outer:
        return length * (limits.outer - 1)
    if step < -z * limits.inner:
        return -z * limits.inner
    if bounded and step < (limit - length) * (1 - limits.inner):
        return (limit - length) * (1 - limits.inner)
    return step


def _root(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def _ratio(a: float, b: float) -> Any:
    return a / b if b else math.nan
