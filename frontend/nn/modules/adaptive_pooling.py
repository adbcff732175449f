"""Pooling layers whose results have a given size: adaptive and fractional."""

from __future__ import annotations

from typing import Any

from braze.nn import functional as F
from braze.nn.modules.module import Module
from braze.tensors import Tensor


class _AdaptiveAvgPool(Module):
    """Means over windows chosen so that the result has a given size."""

    spatial: int

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(F, f"adaptive_avg_pool{self.spatial}d")
        result: Tensor = pool(input, self.output_size)
        return result

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means, so that the last dimension gets the given size."""

    spatial = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means, so that the last two dimensions get the given sizes (None: keep)."""

    spatial = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means, so that the last three dimensions get the given sizes (None: keep)."""

    spatial = 3


class _AdaptiveMaxPool(Module):
    """Maxima over bins chosen so that the result has a given size.

    Args:
        return_indices: also return the flat positions of the maxima.
    """

    spatial: int

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"adaptive_max_pool{self.spatial}d")
        return pool(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima, so that the last dimension gets the given size."""

    spatial = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima, so that the last two dimensions get the given sizes (None: keep)."""

    spatial = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima, so that the last three dimensions get the given sizes (None: keep)."""

    spatial = 3


class _FractionalMaxPool(Module):
    """Maxima over windows at random steps (Graham, arXiv 1412.6071), drawn anew in every call.

    Args:
        kernel_size: of the windows.
        output_size: how many windows; or
        output_ratio: their number relative to the input's size, between 0 and 1.
        return_indices: also return the flat positions of the maxima.
        _random_samples: numbers in [0, 1), [N, C, dimensions], used instead of ones that are drawn.

    Raises:
        ValueError: not exactly one of size and ratio, or a ratio out of range.
    """

    spatial: int

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if any(k <= 0 for k in self._each(kernel_size)):
            raise ValueError(f"kernel_size must be greater than 0, but got {kernel_size}")
        if output_size is None and output_ratio is None:
            raise ValueError(
                f"{name} requires specifying either an output size, or a pooling ratio"
            )
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        self.kernel_size = self._each(kernel_size)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else self._each(output_size)
        self.output_ratio = None if output_ratio is None else self._each(output_ratio)
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def _each(self, value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.spatial

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"fractional_max_pool{self.spatial}d")
        return pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maxima over windows at random steps: [N, C, H, W] or [C, H, W] to [N, C, *output_size]."""

    spatial = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maxima over windows at random steps: [N, C, D, H, W] or [C, D, H, W] to [N, C,
    *output_size].
    """

    spatial = 3
