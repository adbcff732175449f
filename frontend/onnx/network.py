"""A model read from an ONNX file, as a module."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import IO, Any

import numpy as np
import onnx

import braze
from braze import nn
from braze.nn.parameter import Parameter
from braze.onnx.protos import FLOATS, Port, array_of, port
from braze.onnx.running import Names, Runner, UnsupportedOperatorError
from braze.tensors import Tensor

# Inputs of operators that are state rather than weights: statistics that training gathers.
_STATISTICS = {"BatchNormalization": (3, 4)}


def load(
    f: str | os.PathLike[str] | bytes | IO[bytes] | onnx.ModelProto,
    fixed: Mapping[str, Any] | None = None,
) -> Network:
    """Read an ONNX model.

    Args:
        f: a file's path, its contents, an open file, or the model itself. External data are looked
            for beside the file; a model without a path must not have any.
        fixed: values for inputs that never change, by name. They are no arguments any more, and
            what depends on them alone is known when the model is compiled.

    Returns:
        A module in `eval()` mode. Its initializers are parameters (floating-point numbers) or
        buffers (others, and statistics of normalizations), under their ONNX names.

    Raises:
        UnsupportedOperatorError: some operators have no rule; the message names all of them.
        ValueError: this is no ONNX model.
        TypeError: it has elements of a type that Braze does not have.
        OSError: the file, or one with its external data, cannot be read.

    Example:
        ``model = braze.onnx.load("model.onnx")``, ``model(x)``, and for a package
        ``braze.aot.compile(model, x, "model.brz")``.
    """
    model, directory = _read(f)
    runner = Runner(model, directory)
    missing = runner.missing(model.graph)
    if missing:
        count = f"{len(missing)} operators" if len(missing) > 1 else "an operator"
        raise UnsupportedOperatorError(
            f"the model has {count} without a rule:\n  " + "\n  ".join(missing)
        )
    return Network(model, directory, fixed or {})


def summary(f: str | os.PathLike[str] | bytes | IO[bytes] | onnx.ModelProto) -> str:
    """What an ONNX model takes, gives and consists of, and which operators have no rule."""
    model, directory = _read(f)
    graph = model.graph
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    weights = {t.name for t in graph.initializer}
    ports = {
        "input": [str(port(i)) for i in graph.input if i.name not in weights],
        "output": [str(port(o)) for o in graph.output],
    }
    kinds = Counter(node.op_type for node in graph.node)
    lines = [f"opset versions: {opsets}"]
    lines += [f"{kind}: {text}" for kind, texts in ports.items() for text in texts]
    lines.append(f"weights: {len(weights)}, {sum(prod(t.dims) for t in graph.initializer)} numbers")
    listed = ", ".join(f"{name} {count}" for name, count in kinds.most_common())
    lines.append(f"nodes: {len(graph.node)} ({listed})")
    missing = Runner(model, directory).missing(graph)
    lines.append("all operators are supported" if not missing else "without a rule:")
    return "\n".join([*lines, *(f"  {line}" for line in missing)])


def _read(f: Any) -> tuple[onnx.ModelProto, str]:
    if isinstance(f, onnx.ModelProto):
        return f, ""
    directory = ""
    if isinstance(f, bytes):
        data = f
    elif hasattr(f, "read"):
        data = f.read()
    else:
        path = os.fspath(f)
        directory = os.path.dirname(os.path.abspath(path))
        with open(path, "rb") as file:
            data = file.read()
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:
        raise ValueError(f"this is no ONNX model: {error}") from error
    if not model.opset_import or not model.graph.output:
        raise ValueError("this is no ONNX model: it has no operator versions or no outputs")
    return model, directory


class Network(nn.Module):
    """An ONNX model; see `load`.

    Call it with its inputs in order, or by name: tensors (or arrays, which are converted). The
    result is a tensor, or a tuple of them where there are several outputs. A sequence is a list of
    tensors.

    Attributes:
        inputs, outputs: a `Port` for each: name, dtype and shape, whose open dimensions are names.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __init__(self, model: onnx.ModelProto, directory: str, fixed: Mapping[str, Any]) -> None:
        super().__init__()
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._directory = directory
        graph = self._model.graph
        statistics = _statistics(graph)
        for name, array in _taken_weights(graph, directory).items():
            self._enter(name, array, name in statistics)
        weights = {*self._parameters, *self._buffers}
        every = tuple(port(info) for info in graph.input)
        self.inputs = tuple(p for p in every if p.name not in weights and p.name not in fixed)
        self.outputs = tuple(port(info) for info in graph.output)
        kinds = {p.name: p.dtype for p in every}
        unknown = [name for name in fixed if name not in kinds]
        if unknown:
            known = ", ".join(kinds)
            raise ValueError(f"fixed names {unknown[0]!r}, which is no input; there are {known}")
        self._fixed = {}
        for name, value in fixed.items():
            kind = kinds[name]
            array = value.numpy() if isinstance(value, Tensor) else value
            self._fixed[name] = np.asarray(array, kind.numpy if kind is not None else None)
        self._runner = Runner(self._model, directory)
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the inputs are called, in order."""
        return tuple(port.name for port in self.inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_runner"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._runner = Runner(self._model, self._directory)

    def _enter(self, name: str, array: np.ndarray, state: bool) -> None:
        """Make an initializer a parameter or buffer. Names may hold dots, so that they are entered
        as they are."""
        tensor = braze.from_numpy(np.array(array))
        if tensor.dtype.is_floating_point and not state:
            self._parameters[name] = Parameter(tensor)
        else:
            self._buffers[name] = tensor

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        # A name with a dot is taken for a child's, but here it may be an own one.
        own = {prefix + name for name in (*self._parameters, *self._buffers)}
        unexpected = rest[3]
        unexpected[:] = [name for name in unexpected if name not in own]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        names, runner = Names(), self._runner
        runner.sized.clear()
        weights = {**self._parameters, **self._buffers}
        runner.use(t for t in weights.values() if t is not None)
        for name, tensor in weights.items():
            assert tensor is not None
            # Integers and what has one element are rather sizes, axes and limits than weights.
            small = tensor.dtype.is_integer or tensor.numel() == 1
            known = runner.known(tensor) if small else None
            names[name] = tensor if known is None else known
        for name, array in self._fixed.items():
            names[name] = array
        for declared, value in zip(self.inputs, self._arguments(args, kwargs), strict=True):
            names[declared.name] = value
        results = tuple(self._result(v) for v in runner.run(self._model.graph, names))
        return results[0] if len(results) == 1 else results

    def _result(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):  # known without the inputs; the caller gets its own
            return self._runner.tensor(value).clone()
        return value

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        expected = ", ".join(map(str, self.inputs))
        names = [p.name for p in self.inputs]
        given = dict(zip(names, args, strict=False))
        twice = given.keys() & kwargs.keys()
        absent = [n for n in names if n not in given and n not in kwargs]
        optional = [p.name for p in self.inputs if p.dtype is None]
        absent = [n for n in absent if n not in optional]
        if len(args) > len(names) or twice or absent or kwargs.keys() - set(names):
            got = [f"{len(args)} in order", *sorted(kwargs)]
            raise TypeError(f"the model's inputs are ({expected}), given {', '.join(got)}")
        given |= kwargs
        return [_checked(p, given.get(p.name)) for p in self.inputs]

    def extra_repr(self) -> str:
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"({inputs}) -> ({outputs})"


def _checked(declared: Port, value: Any) -> Any:
    """An argument as a tensor of the declared dtype and rank.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if declared.dtype is None:
        return [_as_tensor(v) for v in value] if isinstance(value, (list, tuple)) else value
    tensor = _as_tensor(value)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"input {declared} must be a tensor, given {type(value).__name__}")
    if tensor.dtype is not declared.dtype:
        raise TypeError(f"input {declared} was given {tensor._handle.type}")
    shape = declared.shape
    fits = (
        shape is None
        or len(shape) == tensor.dim()
        and all(d == s or isinstance(d, str) for d, s in zip(shape, tensor.shape, strict=True))
    )
    if not fits:
        raise ValueError(f"input {declared} was given {tensor._handle.type}")
    return tensor


def _as_tensor(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return braze.from_numpy(np.array(value))
    return value


def _taken_weights(graph: onnx.GraphProto, directory: str) -> dict[str, np.ndarray]:
    """The initializers, and the weights that exporters write as constants, by name; they are taken
    out of the graph."""
    for sparse in graph.sparse_initializer:
        raise NotImplementedError(f"initializer {sparse.values.name!r} is sparse")
    found = {t.name: array_of(t, directory) for t in graph.initializer}
    del graph.initializer[:]
    for node in list(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            if len(tensor.dims) and tensor.data_type in FLOATS:
                found[node.output[0]] = array_of(tensor, directory)
                graph.node.remove(node)
    return found


def _statistics(graph: onnx.GraphProto) -> set[str]:
    return {
        node.input[i]
        for node in graph.node
        for i in _STATISTICS.get(node.op_type, ())
        if i < len(node.input)
    }
