"""The distribution of the size of a normal number of mean 0."""

from __future__ import annotations

import math
from typing import Any

from braze.distributions.half import Half
from braze.distributions.normal import Normal
from braze.distributions.utils import Values


class HalfNormal(Half):
    """The distribution of the size of a normal number of mean 0."""

    def __init__(self, scale: Values, validate_args: bool | None = None) -> None:
        super().__init__(Normal(0, scale, validate_args=False), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(HalfNormal, _instance))

    @property
    def mean(self) -> Values:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Values:
        return self.scale**2 * (1 - 2 / math.pi)
