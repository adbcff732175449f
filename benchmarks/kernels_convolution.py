"""Convolutions: forward pass, gradient for the data, gradient for the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.kernels import kernel
from benchmarks.programs import Array, Library, normal
from benchmarks.suite import Cost, Workload


@dataclass(frozen=True)
class Convolution:
    """A convolution's shapes. `x` is [batch, channels, height, width] and `w` is as PyTorch has it:
    [out, in / groups, height, width], or [in, out, height, width] if transposed."""

    name: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    bars: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, int]:
        """Keyword arguments of `conv2d` and its gradients, or of `conv_transpose2d`."""
        names = ("stride", "padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    @property
    def y(self) -> tuple[int, ...]:
        """The result's shape."""
        n, _, *size = self.x
        kernel = self.w[2:]
        reach = [self.dilation * (k - 1) + 1 for k in kernel]
        if self.transposed:
            sizes = [
                (s - 1) * self.stride - 2 * self.padding + r
                for s, r in zip(size, reach, strict=True)
            ]
            return (n, self.w[1] * self.groups, *sizes)
        sizes = [
            (s + 2 * self.padding - r) // self.stride + 1
            for s, r in zip(size, reach, strict=True)
        ]
        return (n, self.w[0], *sizes)

    @property
    def flops(self) -> float:
        """Of the forward pass, and of each of its gradients."""
        outer = self.x if self.transposed else self.y
        inner = np.prod(self.w[1:], dtype=np.int64)
        return 2.0 * float(np.prod(outer, dtype=np.int64)) * float(inner)


_BAR = ("convolution",)
CONVOLUTIONS = [
    Convolution("conv3x3_64", (8, 64, 56, 56), (64, 64, 3, 3), padding=1, bars=_BAR),
    Convolution("conv3x3_128", (8, 128, 28, 28), (128, 128, 3, 3), padding=1, bars=_BAR),
    Convolution("conv3x3_256", (8, 256, 14, 14), (256, 256, 3, 3), padding=1, bars=_BAR),
    Convolution("conv1x1", (8, 64, 56, 56), (256, 64, 1, 1)),
    Convolution("conv7x7_stride2", (8, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3),
    Convolution("conv_depthwise", (8, 128, 56, 56), (128, 1, 3, 3), padding=1, groups=128),
    Convolution("conv_grouped", (8, 128, 28, 28), (128, 32, 3, 3), padding=1, groups=4),
    Convolution("conv_dilated", (8, 64, 28, 28), (64, 64, 3, 3), padding=2, dilation=2),
    Convolution(
        "conv_transposed", (8, 128, 16, 16), (128, 64, 4, 4), stride=2, padding=1, transposed=True
    ),
]
DIRECTIONS = {
    "forward": "forward",
    "data": "gradient for the data",
    "weights": "gradient for the weights",
}


def _function(convolution: Convolution, direction: str) -> Callable[..., Any]:
    options = dict(convolution.options)

    def forward(library: Library, x: Any, w: Any) -> Any:
        functional = library.T.nn.functional
        run = functional.conv_transpose2d if convolution.transposed else functional.conv2d
        return run(x, w, **options)

    def gradient(library: Library, x: Any, w: Any, g: Any) -> Any:
        if convolution.transposed:
            # Its gradient for the data is a convolution; that for the weights is the one of that
            # convolution, with data and result exchanged.
            if direction == "data":
                return library.T.nn.functional.conv2d(g, w, **options)
            return library.conv_gradient("weights", g, w, x, options)
        return library.conv_gradient(direction, x, w, g, options)

    return forward if direction == "forward" else gradient


def _inputs(convolution: Convolution, direction: str) -> Callable[[], list[Array]]:
    shapes: list[tuple[int, ...]] = [convolution.x, convolution.w]
    if direction != "forward":
        shapes.append(convolution.y)
    return lambda: [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def _workload(convolution: Convolution, direction: str) -> Workload:
    sizes = {
        "x": 4.0 * float(np.prod(convolution.x)),
        "w": 4.0 * float(np.prod(convolution.w)),
        "y": 4.0 * float(np.prod(convolution.y)),
    }
    written = {"forward": "y", "data": "x", "weights": "w"}[direction]
    read = sum(size for name, size in sizes.items() if name != written)
    facts = f"{list(convolution.x)} by {list(convolution.w)}".replace(", ", ",")
    for name, usual in (("stride", 1), ("dilation", 1), ("groups", 1)):
        if getattr(convolution, name) != usual:
            facts += f", {name} {getattr(convolution, name)}"
    return kernel(
        f"{convolution.name}.{direction}",
        f"{facts}: {DIRECTIONS[direction]}",
        _function(convolution, direction),
        _inputs(convolution, direction),
        Cost(convolution.flops, "f32", read, sizes[written]),
        convolution.bars,
        images=True,
    )


WORKLOADS = [
    _workload(convolution, direction) for convolution in CONVOLUTIONS for direction in DIRECTIONS
]
