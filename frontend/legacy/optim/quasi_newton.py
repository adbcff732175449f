"""L-BFGS."""

from __future__ import annotations

from typing import Any

from braze.legacy.optim.first_order import Function, Settings, state_of
from braze.tensors import Tensor

_LEAST_CURVATURE = 1e-10  # y . s below which a pair says nothing of the curvature


def lbfgs(
    opfunc: Function, x: Tensor, config: Settings | None, state: Settings | None = None
) -> tuple[Tensor, list[Any], int]:
    """Minimise by limited-memory BFGS (Liu and Nocedal, Mathematical Programming 45, 1989).

    Steps have a fixed length unless a line search is given: `lineSearch(opfunc, x, t, d, f, g, gtd,
    options)` returns (f, g, x, t, evaluations).

    Settings: maxIter (20), maxEval (1.25 * maxIter), tolFun (1e-5, on the sum of |gradient|), tolX
    (1e-9, on the step and the loss), nCorrection (100 pairs are kept), learningRate (1),
    lineSearch, lineSearchOptions.

    Returns:
        x, the list of losses, and how often `opfunc` was called. Losses are read at once.
    """
    config, state = state_of("lbfgs", config, state)
    most = config.get("maxIter", 20)
    evaluations = config.get("maxEval", most * 1.25)
    small_gradient, small_step = config.get("tolFun", 1e-5), config.get("tolX", 1e-9)
    rate, search = config.get("learningRate", 1), config.get("lineSearch")
    loss, gradient = opfunc(x)
    losses, count = [loss], 1
    state["funcEval"] = state.get("funcEval", 0) + 1
    iteration = 0
    while iteration < most and float(gradient.abs().sum()) > small_gradient:
        iteration += 1
        state["nIter"] = state.get("nIter", 0) + 1
        direction = _direction(gradient, state, config.get("nCorrection", 100))
        slope = float(gradient.dot(direction))
        first = state["nIter"] == 1
        length = rate * (min(1.0, 1 / float(gradient.abs().sum())) if first else 1)
        before = loss
        state["g_old"], state["d"] = gradient.clone(), direction
        used = 0
        if search is not None:
            options = config.get("lineSearchOptions")
            found = search(opfunc, x, length, direction, loss, gradient, slope, options)
            loss, gradient, x, length, used = found
            losses.append(loss)
        else:
            x.add_(direction, alpha=length)
            if iteration < most:
                loss, gradient = opfunc(x)
                used = 1
                losses.append(loss)
        state["t"] = length
        count += used
        state["funcEval"] += used
        if (
            count >= evaluations
            or slope > -small_step
            or float(direction.abs().sum()) * abs(length) <= small_step
            or abs(float(loss) - float(before)) < small_step
        ):
            break
    return x, losses, count


def _direction(gradient: Tensor, state: Settings, kept: int) -> Tensor:
    """Minus the gradient, times the inverse Hessian that past steps tell of (two-loop recursion;
    Nocedal and Wright, Numerical Optimization, algorithm 7.4)."""
    pairs = state.setdefault("pairs", [])  # (s, y, 1 / y . s)
    if state["nIter"] == 1:
        pairs.clear()
        state["Hdiag"] = 1.0
        return -gradient
    change, step = gradient - state["g_old"], state["d"] * state["t"]
    curvature = float(change.dot(step))
    if curvature > _LEAST_CURVATURE:
        del pairs[: max(0, len(pairs) - kept + 1)]
        pairs.append((step, change, 1 / curvature))
        state["Hdiag"] = curvature / float(change.dot(change))
    found = -gradient
    shares = []
    for s, y, scale in reversed(pairs):
        share = s.dot(found) * scale
        shares.append(share)
        found = found - share * y
    found = found * state["Hdiag"]
    for (s, y, scale), share in zip(pairs, reversed(shares), strict=True):
        found = found + (share - y.dot(found) * scale) * s
    return found
