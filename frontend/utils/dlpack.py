"""`braze.utils.dlpack`: the older names for `braze.from_dlpack` and `Tensor.__dlpack__`."""

from braze.dlpack import from_dlpack, to_dlpack

__all__ = ["from_dlpack", "to_dlpack"]
