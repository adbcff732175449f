"""Functions at the top level that are methods elsewhere, and early names of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.functions.creation import refuse_sparse
from braze.functions.indexing import getitem
from braze.functions.movement import clone, expand
from braze.functions.promotion import single
from braze.tensors import Tensor


def fill(input: Tensor, value: float | Tensor) -> Tensor:
    """A number in the shape and dtype of a tensor.

    Raises:
        RuntimeError: the value is a tensor with dimensions.
    """
    refuse_sparse("fill", input)
    return clone(expand(single("fill", value, input.dtype), input.shape))


def is_distributed(input: Tensor) -> bool:
    """Whether the elements are spread over several processes: False."""
    return False


def _index(self: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """The elements that index tensors, one for each of the first dimensions, name together; None
    stands for all of a dimension."""
    return getitem(self, tuple(slice(None) if index is None else index for index in indices))


def _reinforce(self: Tensor, reward: Any) -> None:
    """An early name.

    Raises:
        RuntimeError: always; it was removed.
    """
    raise RuntimeError(
        "reinforce() was removed.\nMultiply the logarithm of the action's probability by the "
        "reward, and call backward() on minus that:\n\n"
        "action = torch.multinomial(probabilities, 1)\n"
        "loss = -probabilities.gather(-1, action).log() * reward\n"
        "loss.backward()\n"
    )


def _storage_type(self: Tensor) -> type:
    """The class of the tensor's storage."""
    return type(self.storage())


def detach(input: Tensor) -> Tensor:
    """A view of the same elements that is not on the tape."""
    return input.detach()


def detach_(input: Tensor) -> Tensor:
    """Take a tensor off the tape, in place."""
    return input.detach_()


def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """Give a tensor the shape of another one, in place."""
    result: Tensor = input.resize_as_(the_template, memory_format=memory_format)
    return result


METHODS: dict[str, Any] = {
    "index": _index,
    "is_distributed": is_distributed,
    "reinforce": _reinforce,
    "storage_type": _storage_type,
}

# In-place methods that PyTorch has as functions, beside those of `pointwise.IN_PLACE`.
IN_PLACE = (
    "acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asinh_ atanh_ "
    "clamp_ clamp_max_ clamp_min_ clip_ deg2rad_ fill_ fix_ gcd_ i0_ index_put_ lcm_ "
    "ldexp_ logit_ nan_to_num_ negative_ rad2deg_ sinc_ xlogy_ zero_"
).split()


def functions() -> dict[str, Callable[..., Any]]:
    """The functions by name; the methods must be attached."""
    found = {name: getattr(Tensor, name) for name in IN_PLACE}
    found |= {"detach": detach, "detach_": detach_, "resize_as_": resize_as_}
    return found | {"fill": fill, "is_distributed": is_distributed}
