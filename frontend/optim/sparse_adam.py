"""SparseAdam: Adam for the elements that have a gradient."""

from __future__ import annotations

from typing import Any

from braze.functions.pointwise import add, div, mul, neg, sqrt, sub
from braze.functions.promotion import cast
from braze.optim.numbers import Numbers, check_betas, corrections, in_memory
from braze.optim.optimizer import Group, Optimizer
from braze.sparse.merging import Merged
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor


class SparseAdam(Optimizer):
    """Adam (Kingma and Ba, arXiv 1412.6980) in PyTorch's form for sparse gradients: only elements
    with an entry in the gradient move, and only their averages do.

    p = p - lr * sqrt(1 - beta2 ** t) / (1 - beta1 ** t) * m / (sqrt(v) + eps)

    Args:
        maximize: climb instead.

    Raises:
        ValueError: a setting is out of range, or a parameter is sparse. RuntimeError: in `step`, a
            gradient is dense.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not float(lr) > 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps > 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})
        listed = [
            ([i, j], parameter)
            for i, group in enumerate(self.param_groups)
            for j, parameter in enumerate(group["params"])
        ]
        if sparse := [at for at, parameter in listed if parameter.is_sparse]:
            raise ValueError(
                f"Sparse params at indices {sparse}: SparseAdam requires dense parameter tensors"
            )
        if complex_ := [at for at, parameter in listed if parameter.dtype.is_complex]:
            raise ValueError(
                f"Complex params at indices {complex_}: SparseAdam does not support complex "
                "parameters"
            )

    def _update(self, group: Group, parameters: list[Tensor], numbers: Numbers) -> None:
        place = id(group)
        for parameter in parameters:
            gradient = parameter.grad
            if not isinstance(gradient, SparseTensor):
                raise RuntimeError(
                    "SparseAdam does not support dense gradients, please consider Adam instead"
                )
            state = self.state[parameter]
            if not state:
                state["step"] = 0
                state["exp_avg"] = in_memory(parameter)
                state["exp_avg_sq"] = in_memory(parameter)
            step = state["step"] = state["step"] + 1
            first, second = corrections(group["betas"], step)
            factor = -(second**0.5) / first
            kind = parameter.dtype
            if isinstance(group["lr"], Tensor):
                rate = numbers((place, "lr"), group["lr"])
                size = cast(mul(rate, numbers((place, "factor", step), factor)), kind)
            else:
                size = numbers((place, "size", step), group["lr"] * factor, kind)
            weights = [
                numbers((place, name), 1 - beta, kind)
                for name, beta in zip(("first", "second"), group["betas"], strict=True)
            ]
            entries = Merged(neg(gradient) if group["maximize"] else gradient)  # type: ignore[arg-type]
            values = entries.values
            m = self._moved(state["exp_avg"], entries, values, weights[0])
            v = self._moved(state["exp_avg_sq"], entries, mul(values, values), weights[1])
            change = mul(div(m, add(sqrt(v), numbers((place, "eps"), group["eps"], kind))), size)
            after = add(entries.of(parameter), change)
            self._write(parameter, entries.put_in(parameter, after))

    def _moved(self, average: Tensor, entries: Merged, values: Tensor, weight: Tensor) -> Tensor:
        """Move an average, in place, towards values where there are entries; returns it there."""
        before = entries.of(average)
        after = add(before, mul(sub(values, before), weight))
        self._write(average, entries.put_in(average, after))
        return after
