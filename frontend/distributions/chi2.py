"""The chi-squared distribution."""

from __future__ import annotations

from typing import Any

from braze.distributions import constraints
from braze.distributions.gamma import Gamma
from braze.distributions.utils import Values, broadcast_all


class Chi2(Gamma):
    """The distribution of the sum of `df` squared standard normal numbers."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Values, validate_args: bool | None = None) -> None:
        (df,) = broadcast_all(df)
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(Chi2, _instance))

    @property
    def df(self) -> Values:
        """The degrees of freedom."""
        return self.concentration * 2
