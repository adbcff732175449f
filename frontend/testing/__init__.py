"""`braze.testing`: compare tensors, and make some to compare, in tests."""

from braze.testing.comparison import assert_close, default_tolerances
from braze.testing.making import make_tensor

__all__ = ["assert_close", "default_tolerances", "make_tensor"]
