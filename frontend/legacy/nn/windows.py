"""What convolutions and poolings share: a window, whose sizes have names such as `kW`."""

from __future__ import annotations

from braze.legacy.nn.module import Module


class Windowed(Module):
    """A module with a window: `k` is how large it is, `d` how far it moves, `pad` what is put
    around the input; each for T, W and H."""

    def _window(self, **sizes: int) -> None:
        self.__dict__.update(sizes)

    def _named(self, kind: str, letters: str) -> tuple[int, ...]:
        """The sizes of a kind: `_named("k", "HW")` is (kH, kW)."""
        return tuple(getattr(self, kind + letter) for letter in letters)

    def _dimensions(self) -> str:
        """Those that the window has, in the order in which sizes are given."""
        return "".join(d for d in "TWH" if hasattr(self, f"k{d}"))
