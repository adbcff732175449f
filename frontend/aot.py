"""Ahead-of-time compilation: a module becomes one file that runs without the front end, the passes
or a compiler."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze import engine
from braze.structure import describe
from braze.tensors import Tensor
from braze.tracing import bake_numbers, trace


def compile(
    module: Callable[..., Any],
    example_inputs: Tensor | Sequence[Any],
    path: str | os.PathLike[str],
    target: str | Sequence[str] | None = None,
) -> None:
    """Compile a module's forward pass, with its weights, into a package.

    Args:
        module: a module or function of tensors. Put a module into `eval()` mode first.
        example_inputs: the arguments (a tensor, or a sequence of them); their shapes and dtypes
            become fixed.
        path: where the package is written, atomically.
        target: CPUs to compile for: "host" (the default) or names such as "x86-64-v3"; see
            `braze.ir.target`.

    Raises:
        RuntimeError: the module is not one graph (it reads values while it runs), or it draws
            random numbers or changes its own state, as in training mode.
        TypeError: it does not return tensors in tuples, lists or dicts.

    Example:
        ``braze.aot.compile(model.eval(), braze.zeros(1, 3, 32, 32), "model.brz")`` and then,
        anywhere, ``braze.runtime.load("model.brz")(array)``.
    """
    arguments = [example_inputs] if isinstance(example_inputs, Tensor) else list(example_inputs)
    for i, argument in enumerate(arguments):
        if not isinstance(argument, Tensor):
            raise TypeError(f"example input {i} must be a tensor, given {type(argument).__name__}")
    name = type(module).__name__ if hasattr(module, "named_parameters") else "function"
    traced = bake_numbers(trace(module, arguments, name=name))
    if traced.effect:
        raise RuntimeError(
            f"the module {traced.effect} when it is called, as dropout and batch normalisation do "
            "in "
            "training mode; call module.eval() first"
        )
    weights: dict[str, np.ndarray] = {}
    for value, source in zip(traced.graph.inputs[traced.arguments :], traced.captured, strict=True):
        assert isinstance(source, Tensor) and value.name is not None
        weights[value.name] = source._numpy()
    targets = ["host"] if target is None else [target] if isinstance(target, str) else list(target)
    engine.write_package(
        path,
        traced.graph,
        weights,
        structure=describe(traced.result),
        targets=targets,
    )


load = engine.load
