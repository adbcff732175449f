"""Limited-memory BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from braze.autograd.modes import enable_grad, no_grad
from braze.capture import flush
from braze.functions.linalg import dot
from braze.functions.movement import cat, narrow, reshape
from braze.functions.pointwise import div, mul, neg
from braze.functions.reductions import amax, sum
from braze.optim.line_search import Point, StrongWolfe
from braze.optim.numbers import check_lr, in_memory, real
from braze.optim.optimizer import Optimizer
from braze.tensors import Tensor


def _largest(x: Tensor) -> Tensor:
    return amax(abs(x))


def _read(*scalars: Tensor) -> list[float]:
    """The numbers of 0-d tensors, computed together: one sync point."""
    return [float(scalar.item()) for scalar in scalars]


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last `history_size` changes of parameters and gradients, up to
    `max_iter` of them in each `step(closure)`.

    Liu and Nocedal, "On the limited memory BFGS method", 1989, in minFunc's and PyTorch's form. How
    far to go, and when to stop, is decided by values: each iteration has sync points. There is one
    group of parameters.

    Args:
        max_eval: the most evaluations of the closure in a step; 1.25 * max_iter by default.
        tolerance_grad: stop where no element of the gradient is above it.
        tolerance_change: stop where objective or parameters change by no more.
        line_search_fn: None (lr is the step's length) or "strong_wolfe".

    Raises:
        ValueError: a negative learning rate, or several groups. RuntimeError: in `step`, another
            line search.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_lr(lr)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    # Parameters as one vector ---------------------------------------------------------------------

    def _gradient(self) -> Tensor:
        parts = []
        for parameter in self.param_groups[0]["params"]:
            gradient = parameter.grad
            if gradient is None:
                gradient = in_memory(parameter)
            elif gradient.is_sparse:
                gradient = gradient.to_dense()
            parts.append(reshape(real(gradient), (-1,)))
        return cat(parts)

    def _move(self, t: float, direction: Tensor) -> None:
        start = 0
        for parameter in self.param_groups[0]["params"]:
            p = real(parameter)
            part = reshape(narrow(direction, 0, start, p.numel()), tuple(p.shape))
            p._replace(p + mul(part, t))
            start += p.numel()

    # One step -------------------------------------------------------------------------------------

    @no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Go on until a tolerance or a limit is met.

        Args:
            closure: computes the loss and the gradients anew.

        Returns:
            The loss before the step.
        """
        closure = enable_grad()(closure)
        group = self.param_groups[0]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = closure()
        gradient = self._gradient()
        loss, steepest = float(first_loss), float(_largest(gradient))
        evaluations = 1
        state["func_evals"] += 1
        if steepest <= group["tolerance_grad"]:
            return first_loss
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, gradient, group["history_size"])
            state["prev_flat_grad"], state["prev_loss"] = gradient, loss
            t = float(group["lr"])
            total, slope, size = _read(
                sum(abs(gradient)), dot(gradient, direction), _largest(direction)
            )
            if state["n_iter"] == 1:
                t = min(1.0, 1.0 / total) * t
            state["t"] = t
            if slope > -group["tolerance_change"]:
                break
            last = iteration == group["max_iter"]
            if group["line_search_fn"] is not None:
                start = Point(0.0, loss, slope, gradient)
                most = group["max_eval"] - evaluations
                point, used = self._searched(closure, direction, start, t, size, most)
                loss, gradient, t = point.f, point.gradient, point.t
                self._move(t, direction)
                steepest = float(_largest(gradient))
            else:
                self._move(t, direction)
                used = 0
                if not last:
                    value = closure()
                    gradient = self._gradient()
                    loss, steepest = float(value), float(_largest(gradient))
                    used = 1
            state["t"] = t
            evaluations += used
            state["func_evals"] += used
            if last or evaluations >= group["max_eval"] or steepest <= group["tolerance_grad"]:
                break
            if size * t <= group["tolerance_change"]:
                break
            if abs(loss - state["prev_loss"]) < group["tolerance_change"]:
                break
        return first_loss

    def _searched(
        self,
        closure: Callable[[], Any],
        direction: Tensor,
        start: Point,
        t: float,
        size: float,
        most: int,
    ) -> tuple[Point, int]:
        """Search along a direction; the parameters stay where they are.

        Returns:
            The point found, and how often the closure was called.
        """
        if self.param_groups[0]["line_search_fn"] != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        parameters = self.param_groups[0]["params"]
        before = [parameter.detach().clone() for parameter in parameters]

        def evaluate(t: float) -> Point:
            self._move(t, direction)
            value = closure()
            gradient = self._gradient()
            slope = dot(gradient, direction)
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)
            return Point(t, float(value), float(slope), gradient)

        search = StrongWolfe(evaluate, start, size, most)
        return search.search(t), search.evaluations

    def _direction(self, state: dict[str, Any], gradient: Tensor, history_size: int) -> Tensor:
        """The direction of the next step, by the two-loop recursion.

        Each round is a graph of its own, the same for all, so that a longer history is no other
        program.
        """
        if state["n_iter"] == 1:
            state.update(d=neg(gradient), old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return state["d"]  # type: ignore[no-any-return]
        changes, moves, inverses = state["old_dirs"], state["old_stps"], state["ro"]
        change = gradient - state["prev_flat_grad"]
        move = mul(state["d"], float(state["t"]))
        product = dot(change, move)
        scale = div(product, dot(change, change))
        if float(product) > 1e-10:
            if len(changes) == history_size:
                for history in (changes, moves, inverses):
                    history.pop(0)
            changes.append(change)
            moves.append(move)
            inverses.append(div(1.0, product))
            state["H_diag"] = scale
        direction = neg(gradient)
        shares = []
        for y, s, inverse in zip(*map(reversed, (changes, moves, inverses)), strict=True):
            share = dot(s, direction) * inverse
            direction = direction - share * y
            shares.append(share)
            flush()
        direction = mul(direction, state["H_diag"])
        for y, s, inverse in zip(changes, moves, inverses, strict=True):
            direction = direction + s * (shares.pop() - dot(y, direction) * inverse)
            flush()
        state["d"] = direction
        return direction
