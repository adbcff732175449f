"""What a workload hands to a peer: programs against PyTorch's names, and what they are written
with.

A workload is written once, as a function of a `Library`, and runs with Braze or PyTorch. What the
other peers run is written for them (`benchmarks/peers/`), from the same data and weights, which
depend on names, shapes and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass
class Call:
    """A function or module of tensors, called again and again on the same arguments.

    wrt: places of the arguments whose gradients belong to the result; the cotangent is then
        `cotangent`, and the function's own result is not kept.
    """

    function: Callable[..., Any]
    arguments: list[Any]
    wrt: tuple[int, ...] = ()
    cotangent: Any = None


@dataclass
class Loop:
    """A program with a state: each call of `step` does one unit of work and returns tensors, of
    which none has been read."""

    step: Callable[[], Any]


@dataclass
class Library:
    """A library with PyTorch's names, as the programs see it.

    T: its namespace.
    compile: what its users wrap a model or function in; the identity for eager execution.
    place: puts a tensor or module into the layout under test.
    random: off when results are compared: no dropout, no noise, the likeliest action.
    """

    T: Any
    compile: Callable[[Any], Any] = field(default=lambda function: function)
    place: Callable[[Any], Any] = field(default=lambda thing: thing)
    random: bool = True

    def tensor(self, array: Array) -> Any:
        """The array as a tensor in the layout under test."""
        return self.place(self.T.from_numpy(array))

    def dropout(self, probability: float) -> float:
        """The probability, or 0 where results are compared."""
        return probability if self.random else 0.0

    def model(self, module: Any) -> Any:
        """The module with the weights of `weight`, in the layout under test."""
        with self.T.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.T.from_numpy(weight(name, tuple(parameter.shape))))
        return self.place(module)

    def conv_gradient(self, which: str, x: Any, w: Any, g: Any, options: dict[str, Any]) -> Any:
        """The gradient of a convolution for its "data" or "weights", without its forward pass.

        PyTorch has functions for it; where a library captures programs, what nobody reads of the
        forward pass is not run.
        """
        functions = getattr(self.T.nn, "grad", None)
        if functions is not None:
            if which == "data":
                return functions.conv2d_input(tuple(x.shape), w, g, **options)
            return functions.conv2d_weight(x, tuple(w.shape), g, **options)
        with self.T.enable_grad():
            wanted = (x if which == "data" else w).detach().requires_grad_(True)
            operands = (wanted, w) if which == "data" else (x, wanted)
            y = self.T.nn.functional.conv2d(*operands, **options)
            return self.T.autograd.grad(y, wanted, g)[0]


def weight(name: str, shape: tuple[int, ...]) -> Array:
    """A parameter's first value: scaled by its fan-in; ones for norms' weights; zeros for biases.

    >>> weight("norm.weight", (2,)), weight("fc.bias", (2,))
    (array([1., 1.], dtype=float32), array([0., 0.], dtype=float32))
    """
    if len(shape) < 2:
        value = 1.0 if name.endswith("weight") else 0.0
        return np.full(shape, value, np.float32)
    scale = float(np.prod(shape[1:])) ** -0.5
    random = np.random.default_rng(zlib.crc32(f"{name} {shape}".encode()))
    return random.standard_normal(shape, np.float32) * np.float32(scale)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Normally distributed data."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype)


def integers(below: int, *shape: int, seed: int = 0) -> Array:
    """Indices from 0 to `below`, 64 bits."""
    return np.random.default_rng([seed, below, *shape]).integers(0, below, shape)


def distinct(*shape: int) -> Array:
    """Different whole numbers in mixed order: sorting them has one answer."""
    count = int(np.prod(shape))
    return np.random.default_rng(count).permutation(count).astype(np.float32).reshape(shape)
