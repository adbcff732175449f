"""Warnings of PyTorch 0.2 about what changed then: broadcasting, and `keepdim`.

Both may be enabled; no call here has two meanings, so that nothing ever warns.
"""

from __future__ import annotations


class Warning:
    """A warning that can be switched on.

    Attributes:
        enabled: whether it is.
    """

    def __init__(self) -> None:
        self.enabled = False

    def set_enabled(self, value: bool) -> None:
        """Switch it on or off."""
        self.enabled = value

    def get_enabled(self) -> bool:
        """Whether it is on."""
        return self.enabled


broadcast_warning = Warning()
keepdim_warning = Warning()
