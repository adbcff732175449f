"""Dropout: elements, or whole channels, set to zero at random and the rest scaled up."""

from __future__ import annotations

import warnings

from braze.functions.arguments import require_tensors
from braze.functions.creation import ones
from braze.functions.pointwise import add, lt, mul
from braze.functions.promotion import cast
from braze.functions.random_numbers import draw, rand
from braze.ir.dtypes import f32
from braze.nn.functional.support import in_place
from braze.tensors import Tensor


def check_probability(p: float) -> None:
    """Raises: ValueError unless 0 <= p <= 1."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _drop(input: Tensor, p: float) -> Tensor:
    if p == 1.0:
        return mul(input, 0.0)
    return draw("dropout", input._handle.type.numel, input, p=float(p))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element is zero with probability p, else divided by 1 - p. The input itself if not
    `training`.

    The numbers come from the default generator (`braze.manual_seed`).

    Raises:
        ValueError: p is not a probability.
    """
    _check("dropout", input, p)
    if _is_off(input, p, training):
        return input
    return in_place(input, _drop(input, p), inplace)


def _is_off(input: Tensor, p: float, training: bool) -> bool:
    """Does nothing happen? Then the result is the input itself."""
    return not training or p == 0.0 or input._handle.type.numel == 0


def _drop_channels(spatial: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """Channels of [N, C, ...] or, where a dimension is missing, of [C, ...]."""
    lead = 2 if input.ndim == spatial + 2 else 1
    if _is_off(input, p, training):
        return input
    mask = ones((*input.shape[:lead], *(1,) * (input.ndim - lead)), dtype=input.dtype)
    return in_place(input, mul(input, _drop(mask, p)), inplace)


def _check(name: str, input: Tensor, p: float) -> None:
    require_tensors(name, input=input)
    check_probability(p)


def _warn_of_rank(name: str, spatial: int, input: Tensor) -> None:
    if input.ndim not in (spatial + 1, spatial + 2):
        warnings.warn(
            f"{name}: Received a {input.ndim}-D input to {name}, which is deprecated and will "
            "result in an error in a future release. To retain the behavior and silence this "
            f"warning, please use dropout instead. Note that {name} exists to provide "
            f"channel-wise dropout on inputs with {spatial} spatial dimensions, a channel "
            "dimension, and an optional batch dimension.",
            stacklevel=3,
        )


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, L] or [C, L] are zero with probability p.

    Raises:
        RuntimeError: the input has another rank. ValueError: p is not a probability.
    """
    _check("dropout1d", input, p)
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that "
            "dropout1d exists to provide channel-wise dropout on inputs with 1 spatial dimension, "
            "a channel dimension, and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return _drop_channels(1, input, p, training, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, H, W] are zero with probability p. Three dimensions count, with a
    warning, as [N, C, L]: PyTorch keeps that for old programs.

    Raises:
        RuntimeError: fewer than two dimensions. ValueError: p is not a probability.
    """
    _check("dropout2d", input, p)
    _warn_of_rank("dropout2d", 2, input)
    if input.ndim == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout "
            "behavior is desired - input is interpreted as shape (N, C, L), where C is the channel "
            "dim. To maintain the 1D channel-wise dropout behavior, please switch to using "
            "dropout1d instead.",
            stacklevel=2,
        )
    return feature_dropout(input, p, training, inplace)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, D, H, W] or [C, D, H, W] are zero with probability p.

    Raises:
        ValueError: p is not a probability.
    """
    _check("dropout3d", input, p)
    _warn_of_rank("dropout3d", 3, input)
    return _drop_channels(3, input, p, training, inplace)


def _channel_shape(input: Tensor) -> tuple[int, ...]:
    """One number for each channel of [N, C, ...].

    Raises:
        RuntimeError: fewer than two dimensions.
    """
    if input.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return (*input.shape[:2], *(1,) * (input.ndim - 2))


def feature_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of [N, C, ...] are zero with probability p, the others divided by 1 - p."""
    _check("feature_dropout", input, p)
    if _is_off(input, p, training):
        return input
    mask = ones(_channel_shape(input), dtype=input.dtype)
    return in_place(input, mul(input, _drop(mask, p)), inplace)


# What selu tends to for a very negative number.
ALPHA = -1.7580993408473766


def _alpha_drop(input: Tensor, shape: tuple[int, ...], p: float, inplace: bool) -> Tensor:
    """Dropped elements become `ALPHA`, and an affine map gives mean and variance back.

    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", arXiv 1706.02515.
    """
    if p == 1.0:
        return in_place(input, mul(input, 0.0), inplace)
    wide = input.dtype if input.dtype.bits > 16 else f32
    kept = cast(lt(rand(shape, dtype=wide), 1 - p), input.dtype)
    a = ((ALPHA * ALPHA * p + 1) * (1 - p)) ** -0.5
    shift = add(mul(add(kept, -1.0), -ALPHA * a), -ALPHA * a * p)
    return in_place(input, add(mul(input, mul(kept, a)), shift), inplace)


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps mean and variance of self-normalising networks: elements are set to the
    limit of selu with probability p."""
    _check("alpha_dropout", input, p)
    if _is_off(input, p, training):
        return input
    return _alpha_drop(input, tuple(input.shape), p, inplace)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels of [N, C, ...]."""
    _check("feature_alpha_dropout", input, p)
    if _is_off(input, p, training):
        return input
    return _alpha_drop(input, _channel_shape(input), p, inplace)
