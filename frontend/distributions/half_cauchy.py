"""The distribution of the size of a Cauchy number around 0."""

from __future__ import annotations

import math
from typing import Any

import braze
from braze.distributions.cauchy import Cauchy
from braze.distributions.half import Half
from braze.distributions.utils import Values


class HalfCauchy(Half):
    """The distribution of the size of a Cauchy number around 0."""

    def __init__(self, scale: Values, validate_args: bool | None = None) -> None:
        super().__init__(Cauchy(0, scale, validate_args=False), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(HalfCauchy, _instance))

    @property
    def mean(self) -> Values:
        return braze.full_like(self.scale, math.inf)

    @property
    def variance(self) -> Values:
        return self.base_dist.variance
