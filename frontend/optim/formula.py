"""Optimizers whose step is a formula for one parameter.

Each says which state it starts from (`_start`), which numbers a step needs (`_numbers`, on the host
and so never part of the graph's structure), and the formula: an operation of the table (`_call`),
or a pure function of tensors (`_rule`). Everything else is here. All parameters' formulas end up in
one graph, and the compiler fuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from braze.capture import Call
from braze.functions.pointwise import neg
from braze.optim.numbers import Numbers, as_setting, real
from braze.optim.optimizer import Group, Optimizer
from braze.sparse.tensor import SparseTensor
from braze.tensors import Tensor, apply

Changes = dict[str, Tensor]


class FormulaOptimizer(Optimizer):
    """The base. Complex parameters, and what is kept for them, are pairs of real numbers to
    `_rule`.

    Raises (in a step):
        RuntimeError: a gradient is sparse, or a parameter complex and the optimizer for real ones.
    """

    _counted: Mapping[str, type] = {"step": int}
    _takes_complex = True
    _lr_on_host = False  # whether `_numbers` needs the value of a learning rate that is a tensor

    def _start(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        """The state before the first step: tensors, and those numbers of `_counted` that do not
        begin with 0."""
        raise NotImplementedError

    def _numbers(self, group: Group, state: dict[str, Any]) -> dict[str, Any]:
        """What the rule calls by name, each a number or a 0-d tensor (if a setting is one).

        Args:
            group: the settings; tensors among them are 0-d f64.
            state: with `step` counted up; other numbers of `_counted` may be changed here.
        """
        raise NotImplementedError

    def _call(self, group: Group) -> Call:
        """The operation: of the parameter, the gradient, states and numbers, by their names."""
        raise NotImplementedError

    def _rule(
        self, group: Group, n: dict[str, Tensor], p: Tensor, g: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, Changes]:
        """The new parameter and what changes of the state.

        Args:
            group: read for what decides the formula, such as `centered`.
            n: the numbers, 0-d tensors of the parameter's dtype.
        """
        call = self._call(group)
        names, count = call.op.operands[2:], len(call.op.results) - 1
        operands = [state[name] for name in names[:count]] + [n[name] for name in names[count:]]
        new, *changed = apply(call, p, g, *operands)
        return new, dict(zip(names, changed, strict=False))

    def _update_sparse(self, group: Group, parameter: Tensor, gradient: SparseTensor) -> None:
        """A step with a sparse gradient."""
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    def _state_of(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state.update({name: kind(0) for name, kind in self._counted.items()})
            state.update(self._start(parameter, group))
        return state

    def _update(self, group: Group, parameters: list[Tensor], numbers: Numbers) -> None:
        settings = {key: as_setting(v) for key, v in group.items() if key != "params"}
        if self._lr_on_host:
            settings["lr"] = float(group["lr"])
        made: dict[Any, tuple[dict[str, Tensor], dict[str, Any]]] = {}
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            if not self._takes_complex and parameter._handle.type.dtype.is_complex:
                name = type(self).__name__
                raise RuntimeError(f"{name} does not support complex parameters")
            if isinstance(gradient, SparseTensor):
                self._update_sparse(group, parameter, gradient)
                continue
            state = self._state_of(parameter, group)
            p, g = real(parameter), real(gradient)
            dtype = p._handle.type.dtype
            # Parameters that joined later have counted fewer steps.
            alike = (dtype, *[state[name] for name in self._counted])
            if alike not in made:
                counts = {name: state[name] for name in self._counted}
                if "step" in counts:
                    counts["step"] += 1
                values = self._numbers(settings, counts)
                place = (id(group), alike)
                n = {name: numbers((place, name), v, dtype) for name, v in values.items()}
                made[alike] = n, counts
            n, counts = made[alike]
            state.update(counts)
            kept = {name: real(t) for name, t in state.items() if isinstance(t, Tensor)}
            new, changes = self._rule(group, n, p, neg(g) if group.get("maximize") else g, kept)
            self._write(p, new)
            for name, value in changes.items():
                self._write(kept[name], value)
