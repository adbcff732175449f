"""Weight normalisation: a weight as a length for each row times a direction.

Salimans, Kingma, "Weight normalization", arXiv 1602.07868.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from braze.functions.pointwise import div, mul
from braze.functions.statistics import norm_except_dim
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor

AnyModule = TypeVar("AnyModule", bound=Module)


def weight_of(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g * v / ||v||, with a norm for each index of a dimension, or one for all (dim = -1)."""
    return mul(v, div(g, norm_except_dim(v, 2, dim)))


class WeightNorm:
    """A forward pre-hook that computes the weight `name` from `name_g` and `name_v`."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        """The weight."""
        v, g = (getattr(module, f"{self.name}_{part}") for part in "vg")
        return weight_of(v, g, self.dim)

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"]
        del module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """Replace a module's parameter by its length `name_g` and its direction `name_v`.

    Before each call the weight is computed from them. Deprecated:
    `braze.nn.utils.parametrizations.weight_norm` does the same.

    Args:
        dim: the dimension each index of which has a length of its own; None for one length.

    Raises:
        RuntimeError: the parameter is normalised already.
    """
    warnings.warn(
        "`braze.nn.utils.weight_norm` is deprecated in favor of "
        "`braze.nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == name:
            raise RuntimeError(
                f"Cannot register two weight_norm hooks on the same parameter {name}"
            )
    hook = WeightNorm(name, dim)
    weight = getattr(module, name)
    del module._parameters[name]
    length = norm_except_dim(weight, 2, hook.dim).detach()
    module.register_parameter(name + "_g", Parameter(length))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again.

    Raises:
        ValueError: it is not normalised.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(f"weight_norm of '{name}' not found in {module}")
