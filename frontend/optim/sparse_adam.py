"""SparseAdam: Adam for the elements that have a gradient."""

from __future__ import annotations

from typing import Any

from braze.functions.pointwise import add, div, mul, neg, sqrt, sub
from braze.functions.promotion import cast
from braze.optim.numbers import Numbers, check_betas, corrections, in_memory
from braze.optim.optimizer import Group, Optimizer
from braze.sparse.elementwise import add_to_dense
from braze.sparse.entries import coalesced, picked, with_values
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor


class SparseAdam(Optimizer):
    """Adam (Kingma and Ba, arXiv 1412.6980) in PyTorch's form for sparse gradients: only elements
    with an entry in the gradient move, and only their averages do.

    p = p - lr * sqrt(1 - beta2 ** t) / (1 - beta1 ** t) * m / (sqrt(v) + eps)

    A step merges the gradient's entries, so it is a sync point for each parameter.

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
            rate = numbers((place, "lr"), group["lr"])
            size = div(mul(rate, numbers((place, "root", step), second**0.5)), first)
            beta1, beta2 = (
                numbers((place, name), beta)
                for name, beta in zip(("beta1", "beta2"), group["betas"], strict=True)
            )
            entries = coalesced(neg(gradient) if group["maximize"] else gradient)  # type: ignore[arg-type]
            values = entries._handle.values
            m = self._moved(state["exp_avg"], entries, values, beta1)
            v = self._moved(state["exp_avg_sq"], entries, mul(values, values), beta2)
            eps = cast(numbers((place, "eps"), group["eps"]), parameter.dtype)
            change = mul(div(m, add(sqrt(v), eps)), cast(neg(size), parameter.dtype))
            self._write(parameter, add_to_dense(parameter, with_values(entries, change)))

    def _moved(
        self, average: Tensor, entries: SparseTensor, values: Tensor, beta: Tensor
    ) -> Tensor:
        """Move an average, in place, towards values where there are entries; returns it there."""
        before = picked(average, entries._handle.indices, average.shape)
        change = mul(sub(values, before), cast(sub(1.0, beta), average.dtype))
        self._write(average, add_to_dense(average, with_values(entries, change)))
        return add(before, change)
