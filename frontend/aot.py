"""Ahead-of-time compilation: a module becomes one file that runs without the front end, the passes
or a compiler."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from braze import engine
from braze.dynamic_dims import Dim, DynamicDims, resized, sizes_of
from braze.structure import describe
from braze.tensors import Tensor
from braze.tracing import trace_pure

__all__ = ["Dim", "compile", "load"]

_REMEDY = "call module.eval() first"


def compile(
    module: Callable[..., Any],
    example_inputs: Tensor | Sequence[Any],
    path: str | os.PathLike[str],
    target: str | Sequence[str] | None = None,
    *,
    dynamic: DynamicDims | None = None,
) -> None:
    """Compile a module's forward pass, with its weights, into a package.

    Args:
        module: a module or function of tensors. Put a module into `eval()` mode first.
        example_inputs: the arguments (a tensor, or a sequence of them); their dtypes become fixed,
            and their shapes but for dynamic dimensions.
        path: where the package is written, atomically.
        target: CPUs to compile for: "host" (the default) or names such as "x86-64-v3"; see
            `braze.ir.target`.
        dynamic: the dimensions whose size a call may choose, as ``{"x": {0: "batch"}}`` by the
            inputs' names or ``[{0: "batch"}]`` in their order. A name, or a `Dim` for other limits
            than 1 to 1024; dimensions of one name are equal. One name at most.

    Raises:
        RuntimeError: the module is not one graph (it reads values while it runs), or it draws
            random numbers or changes its own state, as in training mode.
        TypeError: it does not return tensors in tuples, lists or dicts; or `dynamic` is of another
            form.
        ValueError: `dynamic` names inputs or dimensions that there are not, or two names.
        ShapeError: the module computes something else for other sizes; the message has its line.
        PackageError: no code serves many sizes; the message says why.

    Example:
        ``braze.aot.compile(model.eval(), braze.zeros(1, 3, 32, 32), "model.brz")`` and then,
        anywhere, ``braze.runtime.load("model.brz")(array)``.
    """
    arguments = [example_inputs] if isinstance(example_inputs, Tensor) else list(example_inputs)
    for i, argument in enumerate(arguments):
        if not isinstance(argument, Tensor):
            raise TypeError(f"example input {i} must be a tensor, given {type(argument).__name__}")
    traced = trace_pure(module, arguments, remedy=_REMEDY)
    weights: dict[str, np.ndarray] = {}
    for value, source in zip(traced.graph.inputs[traced.arguments :], traced.captured, strict=True):
        assert isinstance(source, Tensor) and value.name is not None
        weights[value.name] = source._numpy()
    targets = ["host"] if target is None else [target] if isinstance(target, str) else list(target)
    sizes = None
    if dynamic:
        names = [
            value.name or f"input{i}"
            for i, value in enumerate(traced.graph.inputs[: traced.arguments])
        ]
        found = sizes_of(_renamed(dynamic, module, names), names, arguments)
        axes = [found.axes.get(name, []) for name in names]

        def graph_at(size: int) -> Any:
            resized_arguments = resized(arguments, axes, size)
            return trace_pure(module, resized_arguments, remedy=_REMEDY).graph

        sizes = engine.Sizes(
            found.dim.name, found.dim.min, found.dim.max, found.usual, found.axes, graph_at
        )
    engine.write_package(
        path,
        traced.graph,
        weights,
        structure=describe(traced.result),
        targets=targets,
        sizes=sizes,
    )


def _renamed(dynamic: DynamicDims, module: Callable[..., Any], names: list[str]) -> DynamicDims:
    """With the inputs' names in the package for those of the function's parameters."""
    if not isinstance(dynamic, Mapping):
        return dynamic
    parameters = inspect.signature(getattr(module, "forward", module)).parameters
    own = dict(zip(parameters, names, strict=False))
    return {name if name in names else own.get(name, name): axes for name, axes in dynamic.items()}


load = engine.load
