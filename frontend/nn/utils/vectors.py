"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from braze.autograd.modes import no_grad
from braze.functions.movement import cat, clone, narrow, reshape
from braze.tensors import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements, one parameter after the other."""
    return cat([reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give the parameters, in place, the elements of a vector.

    Raises:
        TypeError: it is not a tensor. RuntimeError: it is too short.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec).__name__}")
    at = 0
    with no_grad():
        for parameter in parameters:
            part = narrow(vec.detach(), 0, at, parameter.numel())
            parameter._replace(clone(reshape(part, parameter.shape)))
            at += parameter.numel()
