"""What registering a hook returns, under PyTorch's name."""

from braze.removable import RemovableHandle

__all__ = ["RemovableHandle"]
