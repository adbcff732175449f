"""Distributions of what transforms make of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.distribution import Distribution
from braze.distributions.independent import Independent
from braze.distributions.transforms import ComposeTransform, Transform
from braze.distributions.utils import Values, sum_rightmost


class TransformedDistribution(Distribution):
    """The distribution of the images of a distribution's samples under a transform, or several one
    after the other.

    Raises:
        ValueError: these are no transforms, or the base has too few dimensions for them.
    """

    arg_constraints: Any = {}

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(transforms, Transform):
            self.transforms = [transforms]
        elif not isinstance(transforms, list):
            raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        elif not all(isinstance(t, Transform) for t in transforms):
            raise ValueError("transforms must be a Transform or a list of Transforms")
        else:
            self.transforms = transforms
        base = base_distribution
        base_shape, base_dim = base.batch_shape + base.event_shape, len(base.event_shape)
        whole = ComposeTransform(self.transforms)
        domain, codomain = whole.domain.event_dim, whole.codomain.event_dim
        if len(base_shape) < domain:
            raise ValueError(
                f"base_distribution needs to have shape with size at least {domain}, but got "
                f"{base_shape}."
            )
        shape = whole.forward_shape(base_shape)
        expanded = whole.inverse_shape(shape)
        if tuple(base_shape) != tuple(expanded):
            base = base.expand(expanded[: len(expanded) - base_dim])
        if domain > base_dim:
            base = Independent(base, domain - base_dim)
        self.base_dist: Any = base
        cut = len(shape) - max(codomain, base_dim + codomain - domain)
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._expanded(TransformedDistribution, batch_shape, _instance)
        shape = new.batch_shape + self.event_shape
        for transform in reversed(self.transforms):
            shape = transform.inverse_shape(shape)
        new.base_dist = self.base_dist.expand(shape[: len(shape) - len(self.base_dist.event_shape)])
        new.transforms = self.transforms
        return new

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:  # type: ignore[override]
        if not self.transforms:
            return self.base_dist.support
        support = self.transforms[-1].codomain
        extra = len(self.event_shape) - support.event_dim
        return constraints.independent(support, extra) if extra > 0 else support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    def _image(self, x: Values) -> Values:
        for transform in self.transforms:
            x = transform(x)
        return x

    def sample(self, sample_shape: Any = ()) -> Values:
        with braze.no_grad():
            return self._image(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Values:
        return self._image(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Values) -> Values:
        if self._validate_args:
            self._validate_sample(value)
        dims, total, y = len(self.event_shape), 0.0, value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            dims += transform.domain.event_dim - transform.codomain.event_dim
            own = transform.log_abs_det_jacobian(x, y)
            total = total - sum_rightmost(own, dims - transform.domain.event_dim)
            y = x
        own = self.base_dist.log_prob(y)
        return total + sum_rightmost(own, dims - len(self.base_dist.event_shape))

    def _turned(self, value: Values) -> Values:
        """A probability, from the other side where the transforms fall."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        return value if isinstance(sign, int) and sign == 1 else sign * (value - 0.5) + 0.5

    def cdf(self, value: Values) -> Values:
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        if self._validate_args:
            self.base_dist._validate_sample(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Values) -> Values:
        return self._image(self.base_dist.icdf(self._turned(value)))
