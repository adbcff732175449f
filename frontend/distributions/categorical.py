"""The categorical distribution."""

from __future__ import annotations

import functools
from typing import Any

import braze
from braze.capture import Call, call_of
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.utils import (
    Values,
    lazy_property,
    logits_to_probs,
    one_given,
    probs_to_logits,
    size,
)
from braze.functions.promotion import cast
from braze.functions.sampling import multinomial
from braze.ir.dtypes import i64
from braze.ir.op import op_named
from braze.tensors import apply

_PICK = call_of(op_named("pick"))


@functools.cache
def _proportions(dim: int) -> Call:
    return call_of(op_named("proportions"), dim=dim)


@functools.lru_cache(maxsize=256)
def _reshape(shape: tuple[int, ...]) -> Call:
    return call_of(op_named("reshape"), shape=shape)


class Categorical(Distribution):
    """The number of a class, with probabilities or logits in the last dimension, which need not be
    normalised.

    Raises:
        ValueError: both or none of `probs` and `logits` are given, or one without dimensions.
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(
        self,
        probs: Values = None,
        logits: Values = None,
        validate_args: bool | None = None,
    ) -> None:
        name, given = one_given(probs, logits)
        if given.dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if name == "probs":
            if not given.is_floating_point():
                given = given.to(braze.get_default_dtype())
            self._param = self.probs = apply(_proportions(given.ndim - 1), given)
        else:
            self._param = self.logits = given - given.logsumexp(-1, keepdim=True)
        super().__init__(self._param.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(Categorical, batch_shape, _instance, "probs logits _param")

    @property
    def _num_events(self) -> int:
        return self._param._handle.type.shape[-1]

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:  # type: ignore[override]
        return constraints.integer_interval(0, self._num_events - 1)

    @lazy_property
    def logits(self) -> Values:
        """The logarithms of the probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Values:
        """The probabilities."""
        return logits_to_probs(self.logits)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._param.shape

    @property
    def mean(self) -> Values:
        return braze.full(tuple(self._batch_shape), float("nan"), dtype=self.probs.dtype)

    @property
    def mode(self) -> Values:
        return self.probs.argmax(-1)

    @property
    def variance(self) -> Values:
        return self.mean

    def sample(self, sample_shape: Any = ()) -> Values:
        rows = self.probs
        if isinstance(sample_shape, tuple) and not sample_shape and not self._batch_shape:
            return apply(_reshape(()), multinomial(rows, 1, True))
        sample_shape = size(sample_shape)
        count = sample_shape.numel()
        shape = self._extended_shape(sample_shape)
        with braze.no_grad():
            if not count or not self._batch_shape.numel():
                return braze.zeros(shape, dtype=braze.int64)
            rows = rows if rows.ndim < 3 else rows.flatten(0, -2)
            drawn = multinomial(rows, count, True)
            drawn = drawn.t() if drawn.ndim == 2 and count > 1 else drawn
            return apply(_reshape(tuple(shape)), drawn)

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        return apply(_PICK, self.logits, cast(value, i64))

    def entropy(self) -> Values:
        lowest = braze.finfo(self.logits.dtype).min
        return -(self.logits.clamp(min=lowest) * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Values:
        values = braze.arange(self._num_events, dtype=braze.int64)
        values = values.reshape((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values


class OverClasses(Distribution):
    """A distribution of vectors with a number for each class of a `Categorical`."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _categorical: Categorical

    def _expanded(self, cls: Any, batch_shape: Any, _instance: Any, names: str = "") -> Any:
        new = super()._expanded(cls, batch_shape, _instance, names)
        new._categorical = self._categorical.expand(batch_shape)
        return new

    @property
    def probs(self) -> Values:
        """The probabilities."""
        return self._categorical.probs

    @property
    def logits(self) -> Values:
        """The logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        """The shape of the parameter."""
        return self._categorical.param_shape
