"""Ways to choose the weights to prune, and the hook that holds them at zero."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from braze.autograd.modes import no_grad
from braze.functions.creation import ones_like
from braze.functions.random_numbers import rand, rand_like
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class BasePruningMethod(ABC):
    """A way to choose weights, and the forward pre-hook that masks them.

    Attributes:
        PRUNING_TYPE: what of an earlier mask's leavings `compute_mask` is given: "unstructured" (a
            vector of all weights left), "structured" (all channels along `dim` that have some
            left) or "global" (everything).
    """

    PRUNING_TYPE: str
    _tensor_name: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """1 for what to keep and 0 elsewhere.

        Args:
            t: how important each weight is.
            default_mask: the mask so far; what it hides stays hidden.
        """

    def apply_mask(self, module: Module) -> Tensor:
        """The masked tensor."""
        mask, original = (getattr(module, f"{self._tensor_name}_{x}") for x in ("mask", "orig"))
        return mask.to(original.dtype) * original  # type: ignore[no-any-return]

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prune a parameter.

        Args:
            args, kwargs: of the class.
            importance_scores: what to go by in place of the weights themselves.
        """
        method = cls._joined(module, name, cls(*args, **kwargs))
        original = getattr(module, name)
        scores = original if importance_scores is None else importance_scores
        if scores.shape != original.shape:
            raise AssertionError(
                "importance_scores should have the same shape as parameter "
                f"{name} of {module}, got {scores.shape} vs {original.shape}"
            )
        again = isinstance(method, PruningContainer)
        with no_grad():
            before = getattr(module, name + "_mask").clone() if again else ones_like(original)
            mask = method.compute_mask(scores.detach(), default_mask=before)
        if not again:
            del module._parameters[name]
            module.register_parameter(name + "_orig", original)
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        for key in hooks_on(module, name):
            del module._forward_pre_hooks[key]
        module.register_forward_pre_hook(method)
        return method

    @staticmethod
    def _joined(module: Module, name: str, method: BasePruningMethod) -> BasePruningMethod:
        """The method, behind those with which the parameter was pruned before."""
        method._tensor_name = name
        found = hooks_on(module, name)
        if not found:
            return method
        (old,) = found.values()
        container = PruningContainer(*(old if isinstance(old, PruningContainer) else [old]))
        container.add_pruning_method(method)
        return container

    def prune(
        self,
        t: Tensor,
        default_mask: Tensor | None = None,
        importance_scores: Tensor | None = None,
    ) -> Tensor:
        """A tensor pruned, without a module."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(
                "importance_scores should have the same shape as tensor t, got "
                f"{scores.shape} vs {t.shape}"
            )
        mask = ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=mask)

    def remove(self, module: Module) -> None:
        """Make the pruned tensor, as it is, the parameter."""
        name = self._tensor_name
        weight = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original = module._parameters[name + "_orig"]
        assert original is not None
        original.data = weight.detach()
        del module._parameters[name + "_orig"]
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


def hooks_on(module: Module, name: str) -> dict[int, BasePruningMethod]:
    """By number, the forward pre-hooks (one at most) that hold a tensor's mask."""
    return {
        key: hook
        for key, hook in module._forward_pre_hooks.items()
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name
    }


class PruningContainer(BasePruningMethod):
    """Several methods for one tensor, each of which prunes what those before left."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if args:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add one at the end.

        Raises:
            TypeError: it is no method. ValueError: it is for another tensor.
        """
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if self._tensor_name != method._tensor_name:
            raise ValueError(
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, index: int) -> BasePruningMethod:
        return self._pruning_methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        method = self._pruning_methods[-1]
        kind = method.PRUNING_TYPE
        left: Any = slice(None)
        if kind == "unstructured":
            left = default_mask == 1
        elif kind == "structured":
            if not hasattr(method, "dim"):
                raise AttributeError(
                    'Pruning methods of PRUNING_TYPE "structured" need to have the attribute `dim` '
                    "defined."
                )
            dim = _dimension(t, method.dim)
            others = [d for d in range(t.ndim) if d != dim]
            left = (*(slice(None),) * dim, default_mask.sum(others) != 0)
        elif kind != "global":
            raise ValueError(f"Unrecognized PRUNING_TYPE {kind}")
        mask = default_mask.to(t.dtype, copy=True)
        part = method.compute_mask(t[left], default_mask=default_mask[left])
        mask[left] = part.to(mask.dtype)  # type: ignore[index]
        return mask


class Identity(BasePruningMethod):
    """Prunes nothing, but has a parameter's mask made."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _Amount(BasePruningMethod):
    """What prunes a number of units, or a part of them."""

    amount: float

    def _count(self, size: int) -> int:
        """How many of `size` units.

        Raises:
            ValueError: there are fewer.
        """
        whole = isinstance(self.amount, numbers.Integral)
        count = int(self.amount) if whole else round(self.amount * size)
        if count > size:
            raise ValueError(
                f"amount={self.amount} should be smaller than the number of parameters to "
                f"prune={size}"
            )
        return count

    def _set_amount(self, amount: Any) -> None:
        """Raises: TypeError unless it is a number, ValueError if it is out of range."""
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        most = float("inf") if isinstance(amount, numbers.Integral) else 1.0
        if not 0 <= float(amount) <= most:
            raise ValueError(
                f"amount={amount} should either be a float in the range [0, 1] or a non-negative "
                "integer"
            )
        self.amount = amount  # type: ignore[assignment]

    def _without_least(self, scores: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
        """The mask, with zeros where the scores (of a dimension's channels, or of all elements)
        are smallest."""
        count = self._count(scores.numel())
        if count == 0:
            return mask.clone()
        least = scores.reshape(-1).topk(count, largest=False).indices
        if dim is None:
            return mask.reshape(-1).index_fill(0, least, 0).reshape(mask.shape)
        return mask.index_fill(dim, least, 0)


class RandomUnstructured(_Amount):
    """Prunes weights at random: a number of them, or a part if `amount` is a float."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float) -> None:
        self._set_amount(amount)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return self._without_least(rand_like(t), default_mask)


class L1Unstructured(_Amount):
    """Prunes the weights of least absolute value."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float) -> None:
        self._set_amount(amount)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return self._without_least(t.abs(), default_mask)


class RandomStructured(_Amount):
    """Prunes whole channels along a dimension at random."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1) -> None:
        self._set_amount(amount)
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        dim = _channels(t, self.dim)
        return self._without_least(rand(t.shape[dim], device=t.device), default_mask, dim)


class LnStructured(_Amount):
    """Prunes the channels along a dimension that have the least norm of order `n`."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        self._set_amount(amount)
        self.n = n
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        dim = _channels(t, self.dim)
        norms = t.norm(self.n, dim=[d for d in range(t.ndim) if d != dim])
        return self._without_least(norms, default_mask, dim)


class CustomFromMask(BasePruningMethod):
    """Prunes what a mask says."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(
                f"default_mask shape {default_mask.shape} must match self.mask shape "
                f"{self.mask.shape}"
            )
        return default_mask * self.mask.to(default_mask.dtype)


def _dimension(t: Tensor, dim: int) -> int:
    if not -t.ndim <= dim < t.ndim:
        raise IndexError(f"Invalid index {dim} for tensor of size {t.shape}")
    return dim % t.ndim


def _channels(t: Tensor, dim: int) -> int:
    """Raises: ValueError for a vector, IndexError if there is no such dimension."""
    if t.ndim <= 1:
        raise ValueError(
            "Structured pruning can only be applied to multidimensional tensors. Found tensor of "
            f"shape {t.shape} with {t.ndim} dims"
        )
    return _dimension(t, dim)
