"""Ahead-of-time compilation: a module becomes one file that runs without the front end, the passes
or a compiler."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np

from braze import engine
from braze.aot_arguments import array_of, named_alike, narrow_dtype, samples_of, tensors_of
from braze.capture import flush
from braze.dynamic_dims import Dim, DynamicDims, resized, sizes_of
from braze.engine import AccuracyReport
from braze.ir.dtypes import DType
from braze.ir.polynomials import Point
from braze.structure import describe
from braze.tensors import Tensor
from braze.tracing import trace_pure

if TYPE_CHECKING:
    from braze.inspector.packages import PackageReport

__all__ = ["AccuracyReport", "Dim", "compile", "export_c", "inspect", "load"]

_REMEDY = "call module.eval() first"


def compile(
    module: Callable[..., Any],
    example_inputs: Tensor | Sequence[Any],
    path: str | os.PathLike[str],
    target: str | Sequence[str] | None = None,
    *,
    dynamic: DynamicDims | None = None,
    weights: str | DType | None = None,
    calibration: Iterable[Any] = (),
) -> AccuracyReport | None:
    """Compile a module's forward pass, with its weights, into a package.

    Args:
        module: a module or function of tensors. Put a module into `eval()` mode first. The
            package's inputs are called like its parameters.
        example_inputs: the arguments (a tensor, or a sequence of them); their dtypes become fixed,
            and their shapes but for dynamic dimensions.
        path: where the package is written, atomically.
        target: what to compile for, one or several: "host" (the default), this processor; "cuda"
            or "cuda:N", a GPU that is here; or names such as "x86-64-v3" and "sm_80" (see
            `braze.ir.target`). Code for GPUs is compiled by NVIDIA's nvcc, and needs no GPU.
        dynamic: the dimensions whose size a call may choose, as ``{"x": {0: "batch", 1: "time"}}``
            by the inputs' names or ``[{0: "batch"}]`` in their order. A name, or a `Dim` for other
            limits than 1 to 1024; dimensions of one name are equal. Two names at most.
        weights: the dtype to store weights in, "bfloat16" or "int8"; None: their own. It is about
            weights of two dimensions or more that are multiplied with inputs by linear,
            convolutional, attention and recurrent layers, and about embeddings. Batch normalisation
            is folded into them before. "int8" has a scale for each output channel
            (`braze.passes.narrow_weights`). Inputs, results and sums keep their dtypes.
        calibration: further inputs, each like `example_inputs`, to compare results for. They may
            have other sizes of the dynamic dimensions.

    Returns:
        With `weights`, how far results for the example inputs and for `calibration` are from those
        with the module's own weights, and what each weight lost; else None. A loaded package has
        the same as `accuracy`, and ``braze inspect model.brz`` prints it.

    Inputs are named as the function's parameters, those of the module's `forward`, or the inputs
    of a model from `braze.onnx.load`; where it
    takes ``*args``, ``input``, or ``input0``, ``input1`` and so on, which `dynamic` always takes.

    Raises:
        RuntimeError: the module is not one graph (it reads values while it runs), or it draws
            random numbers or changes its own state, as in training mode.
        TypeError: it does not return tensors in tuples, lists or dicts; or `dynamic`, or an input,
            is of another form.
        ValueError: `dynamic` has inputs or dimensions that there are not, or three names; `weights`
            is none of the above; or an input for calibration does not fit the example, or there are
            some without `weights`.
        TargetError: `target` is not known.
        CudaError: nvcc, or the GPU that `target` names, is missing.
        ShapeError: the module computes something else for other sizes; the message has its line.
        PackageError: no code serves many sizes; the message says why. For GPUs none does.

    Example:
        ``braze.aot.compile(model.eval(), braze.zeros(1, 3, 32, 32), "model.brz")`` and then,
        anywhere, ``braze.runtime.load("model.brz")(array)``.
    """
    arguments = tensors_of(example_inputs, "example")
    targets = ["host"] if target is None else [target] if isinstance(target, str) else list(target)
    narrow = None if weights is None else narrow_dtype(weights)
    if narrow is None and calibration != ():
        raise ValueError("[aot] calibration compares narrow weights; give weights=, too")
    traced = trace_pure(module, arguments, remedy=_REMEDY)
    arrays: dict[str, np.ndarray] = {}
    for value, source in zip(traced.graph.inputs[traced.arguments :], traced.captured, strict=True):
        assert isinstance(source, Tensor) and value.name is not None
        arrays[value.name] = array_of(source)
    own = [
        value.name or f"input{i}" for i, value in enumerate(traced.graph.inputs[: traced.arguments])
    ]
    names = _names(module, own)
    sizes = None
    axes: list[dict[int, int]] = [{} for _ in arguments]
    if dynamic:
        found, usual = sizes_of(_renamed(dynamic, names, own), names, arguments)
        for number, dim in enumerate(found.dims):
            for name, places in dim.axes.items():
                axes[names.index(name)].update(dict.fromkeys(places, number))

        more: dict[str, np.ndarray] = {}

        def graph_at(point: Point) -> Any:
            resized_arguments = resized(arguments, axes, point)
            other = trace_pure(module, resized_arguments, remedy=_REMEDY)
            named_alike(traced, other, more)
            graph = other.graph
            del other
            # The inputs are made up: what checks say of them, or of a table that ends before such
            # a size, is of no interest.
            with suppress(Exception):
                flush()
            return graph

        sizes = engine.Sizes(found, usual, graph_at, more)
    narrowing = None
    if narrow is not None:
        narrowing = engine.Narrowing(narrow, samples_of(arguments, calibration, axes, sizes))
    engine.write_package(
        path,
        traced.graph,
        arrays,
        input_names=names,
        structure=describe(traced.result),
        targets=targets,
        sizes=sizes,
        narrowing=narrowing,
    )
    return None if narrowing is None else narrowing.report


def _names(module: Callable[..., Any], own: Sequence[str]) -> list[str]:
    """What to call the arguments: as the inputs of an ONNX model, as the function's parameters, or
    by the graph's names, `own`."""
    found = list(getattr(module, "input_names", ()))
    try:
        parameters = signature(getattr(module, "forward", module)).parameters.values()
    except (TypeError, ValueError):  # some functions of C do not tell
        return list(own)
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    found += [parameter.name for parameter in parameters if parameter.kind in positional]
    found = [*found[: len(own)], *own[len(found) :]]
    return found if len(set(found)) == len(found) else list(own)


def _renamed(dynamic: DynamicDims, names: Sequence[str], own: Sequence[str]) -> DynamicDims:
    """With the arguments' names for those of the graph."""
    if not isinstance(dynamic, Mapping):
        return dynamic
    known = {**dict(zip(own, names, strict=True)), **{name: name for name in names}}
    return {known.get(name, name): axes for name, axes in dynamic.items()}


def export_c(
    package: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    name: str | None = None,
    target: str | None = None,
    shared: bool = False,
) -> Any:
    """Write a package as a C library: ``NAME.h`` and ``NAME.o``, which need no Python.

    The object holds the package's code, its weights and a thread pool, and needs only the C library
    and threads. A C program computes the same numbers as `load`, to the bit. The header describes
    the functions: ``NAME_create``, ``NAME_run``, ``NAME_destroy``.

    Args:
        package: what `compile` wrote.
        directory: where the files go, each written atomically; it is made if it is missing.
        name: a C identifier that all public names begin with; by default like the package's.
        target: the name of the one target whose code is wanted. By default those of all targets of
            one architecture, this machine's if there are several; the program then uses the widest
            that its processor can run.
        shared: write ``NAME.so`` too, which the system's C compiler links (`cc`, `gcc` or `clang`,
            or what the environment's CC says).

    Returns:
        The paths of the files, as attributes `header`, `object` and `library`.

    Raises:
        PackageError: the package is damaged or has no code for `target`; or it has operations that
            run in NumPy, of which the message names one and its line.
        ValueError: `name` is no C identifier.
        FileNotFoundError: there is no such package, or no C compiler for the shared library.
        RuntimeError: the C compiler failed; the message has its own.

    Example:
        ``braze.aot.export_c("model.brz", "build")``, then in C
        ``model_run(model, &inputs, &outputs, &error)``.
    """
    return engine.c_export().export_c(package, directory, name, target, shared)


def inspect(
    package: str | os.PathLike[str], most: int = 12, code: str | None = None
) -> PackageReport:
    """Look into a package: what its code was compiled from, and all that was made of it.

    Each of its codes is compiled once more when something of it is asked for, and compared with
    the machine code in the package, byte by byte; the report says what came of that. Nothing of the
    package itself is run.

    Args:
        package: what `compile` wrote.
        most: how many codes are looked at, of several targets or ranges of sizes.
        code: the name of the only one that is, as "x86-64-v3", or "x86-64-v3/2-64" of a package
            whose sizes calls choose.

    Returns:
        A report: `contents`, `summary`, `links`, `memory` and `changes` give text, `html` and
        `json` write a file; `graphs` has one item for each code.

    Raises:
        PackageError: it is damaged, or no package.
        ValueError: it has no such code; the message lists those that it has.
        FileNotFoundError: there is no such file.

    Example:
        ``braze.aot.inspect("model.brz").html("model.html")``
    """
    from braze.inspector.packages import package_report

    return package_report(package, most, code)


load = engine.load
