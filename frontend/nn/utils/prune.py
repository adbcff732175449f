"""Pruning: weights of which a part is held at zero by a mask.

A pruned parameter `name` becomes `name_orig`, with a buffer `name_mask` beside it, and a forward
pre-hook computes the product. Pruning again prunes a part of what is left. Which weights to prune
is decided once, when the function is called, and is a sync point where something was pruned before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from braze.autograd.modes import no_grad
from braze.functions.creation import ones_like
from braze.nn.modules.module import Module
from braze.nn.utils.pruning_methods import (
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
    hooks_on,
)
from braze.nn.utils.vectors import parameters_to_vector
from braze.tensors import Tensor

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]

AnyModule = TypeVar("AnyModule", bound=Module)


def identity(module: AnyModule, name: str) -> AnyModule:
    """Prune nothing, but make a parameter's mask."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: AnyModule, name: str, amount: float) -> AnyModule:
    """Prune weights at random: a number of them, or a part if `amount` is a float."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: AnyModule, name: str, amount: float, importance_scores: Tensor | None = None
) -> AnyModule:
    """Prune the weights of least absolute value (or least importance)."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: AnyModule, name: str, amount: float, dim: int) -> AnyModule:
    """Prune whole channels along a dimension at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: AnyModule,
    name: str,
    amount: float,
    n: Any,
    dim: int,
    importance_scores: Tensor | None = None,
) -> AnyModule:
    """Prune the channels along a dimension that have the least norm of order `n`."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: AnyModule, name: str, mask: Tensor) -> AnyModule:
    """Prune what a mask says: 0 to prune, 1 to keep."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune parameters of several modules as if they were one vector.

    Args:
        parameters: modules and names.
        pruning_method: an unstructured one, whose arguments `kwargs` are.
        importance_scores: what to go by for some of them, in place of the weights.

    Raises:
        TypeError: there is no sequence of parameters, the scores are no dict, or the method is
            structured.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    given = list(parameters)
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {method.PRUNING_TYPE}"
        )
    method._tensor_name = "all of them"
    with no_grad():
        tensors = [getattr(module, name) for module, name in given]
        known = [scores.get(key, t) for key, t in zip(given, tensors, strict=True)]
        masks = [getattr(module, name + "_mask", None) for module, name in given]
        before = [ones_like(t) if m is None else m for m, t in zip(masks, tensors, strict=True)]
        mask = PruningContainer(method).compute_mask(
            parameters_to_vector(known), parameters_to_vector(before)
        )
        parts = mask.split([t.numel() for t in tensors])
    for (module, name), part, tensor in zip(given, parts, tensors, strict=True):
        custom_from_mask(module, name, part.reshape(tensor.shape).clone())


def remove(module: AnyModule, name: str) -> AnyModule:
    """Make a pruned tensor, as it is, the parameter.

    Raises:
        ValueError: it is not pruned.
    """
    for key, hook in hooks_on(module, name).items():
        hook.remove(module)
        del module._forward_pre_hooks[key]
        return module
    raise ValueError(
        f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed"
    )


def is_pruned(module: Module) -> bool:
    """Whether something in a module, or below it, is pruned."""
    return any(
        isinstance(hook, BasePruningMethod)
        for child in module.modules()
        for hook in child._forward_pre_hooks.values()
    )
