"""Write a module as an ONNX model."""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import onnx
from onnx import helper

import braze
from braze.engine import replacing
from braze.onnx.exporting.emitting import Emitter
from braze.onnx.exporting.tracing import traced_variants
from braze.onnx.rules import export_rules
from braze.structure import tensors_in
from braze.tensors import Tensor

# Versions that the rules write.
FIRST_OPSET, LAST_OPSET, DEFAULT_OPSET = 16, 23, 18
# A file of Protocol Buffers holds less than this.
_LARGEST = 2**31 - 2**20


class TrainingMode(enum.IntEnum):
    """In which mode a module is exported, as in PyTorch."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


def export(
    model: Callable[..., Any],
    args: Any = (),
    f: str | os.PathLike[str] | IO[bytes] | None = None,
    export_params: bool = True,
    verbose: bool = False,
    training: TrainingMode | int = TrainingMode.EVAL,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    do_constant_folding: bool = True,
    dynamic_axes: Mapping[str, Any] | None = None,
    keep_initializers_as_inputs: bool = False,
    *,
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
    external_data: bool | None = None,
    dynamo: bool = True,
    optimize: bool = True,
) -> onnx.ModelProto:
    """Write what a module computes as an ONNX model.

    The module is called on the example arguments, and what it does is written down operation by
    operation. Weights are initializers under their names in the `state_dict`.

    Dimensions in `dynamic_axes` are open: the model takes any size there. For these the module is
    called at several sizes, and what depends on them is computed in the model.

    Args:
        model: a module or function of tensors.
        args: a tensor, or a tuple of arguments; a dict at its end holds keyword arguments.
        f: a path, which is written atomically, or an open file; None: nothing is written.
        export_params: False leaves the weights out: they become inputs.
        verbose: print the graph.
        training: EVAL puts the module into `eval()` mode meanwhile, PRESERVE leaves it as it is.
        input_names, output_names: in order, of the tensors among arguments and results. The
            defaults are ``input``, ``output``, with numbers if there are several.
        opset_version: 16 to 23; 18 by default.
        do_constant_folding: accepted as in PyTorch; nothing is folded, runtimes do that.
        dynamic_axes: input or output name -> open dimensions: {dimension: name} or [dimension].
        keep_initializers_as_inputs: the initializers are inputs too.
        kwargs: keyword arguments.
        dynamic_shapes: as `dynamic_axes`, by the arguments' names or, as a tuple, in their order:
            {dimension: name} each, or None.
        external_data: True puts the weights into a file ``<f>.data`` beside; None does so if the
            model would be larger than 2 GiB.
        dynamo, optimize: accepted as in PyTorch; there is one way to export.

    Returns:
        The model.

    Raises:
        RuntimeError: the module is not one graph (it reads values while it runs), draws random
            numbers or changes its own state.
        UnsupportedOperatorError: ONNX has nothing for some operations; all of them are named.
        ValueError: with other sizes of the dynamic dimensions the module computes something else,
            or an argument is not valid; or an operator of ONNX's does not take the operands' dtype.

    Example:
        ``braze.onnx.export(model, braze.zeros(1, 3, 224, 224), "model.onnx",
        input_names=["image"], dynamic_axes={"image": {0: "batch"}})``
    """
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    if not FIRST_OPSET <= opset <= LAST_OPSET:
        raise ValueError(
            f"opset_version must be from {FIRST_OPSET} to {LAST_OPSET}, given {opset_version}"
        )
    arguments, keywords = _arguments(args, kwargs)
    tensors = list(tensors_in((arguments, keywords)))
    names = _input_names(input_names, len(tensors))
    opened = _opened(names, tensors, dynamic_axes, dynamic_shapes, output_names)
    mode = TrainingMode(training)
    if mode is TrainingMode.TRAINING:
        raise ValueError(
            "training=TRAINING is not supported: what training adds, dropout and statistics, "
            "changes from call to call; use EVAL, or PRESERVE for a module that does neither"
        )
    with _evaluating(model, mode is TrainingMode.EVAL), braze.no_grad():
        variants = traced_variants(model, arguments, keywords, opened, export_rules())
    emitter = Emitter(variants, names, opened, opset)
    graph = emitter.graph(output_names, export_params, keep_initializers_as_inputs)
    proto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="braze",
        producer_version=braze.__version__,
        ir_version=helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)],
    )
    _check(proto)
    if verbose:
        print(onnx.printer.to_text(proto.graph))
    if f is not None:
        _write(proto, f, external_data)
    return proto


def _check(model: onnx.ModelProto) -> None:
    """Raise ValueError for a model that ONNX's own checker refuses: some of its operators take
    fewer dtypes than Braze's operations."""
    if model.ByteSize() > _LARGEST:
        return
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"ONNX has no such operator for these operands: {error}") from None


class _Thread(threading.local):
    exporting = False


_thread = _Thread()


def is_in_onnx_export() -> bool:
    """Whether this thread is calling a module in order to export it."""
    return _thread.exporting


class _evaluating:
    """Exporting, in evaluation mode if wanted; each module gets its own mode back."""

    def __init__(self, model: Any, wanted: bool) -> None:
        self._modules = list(model.modules()) if wanted and hasattr(model, "modules") else []

    def __enter__(self) -> None:
        _thread.exporting = True
        self._modes = [module.training for module in self._modules]
        if self._modules:
            self._modules[0].eval()

    def __exit__(self, *_: Any) -> None:
        _thread.exporting = False
        for module, was in zip(self._modules, self._modes, strict=True):
            module.training = was


def _arguments(args: Any, kwargs: dict[str, Any] | None) -> tuple[list[Any], dict[str, Any]]:
    listed = list(args) if isinstance(args, (tuple, list)) else [args]
    keywords = dict(kwargs or {})
    if kwargs is None and listed and isinstance(listed[-1], dict):
        keywords = listed.pop()
    return listed, keywords


def _input_names(given: Sequence[str] | None, count: int) -> list[str]:
    names = list(given or ())
    if len(names) > count:
        raise ValueError(f"{len(names)} input_names were given for {count} tensors")
    if len(set(names)) != len(names):
        raise ValueError(f"input_names must differ, given {names}")
    own = ["input"] if count == 1 else [f"input{i}" for i in range(count)]
    return names + own[len(names) :]


def _opened(
    names: list[str],
    tensors: list[Tensor],
    axes: Mapping[str, Any] | None,
    shapes: Any,
    outputs: Sequence[str] | None,
) -> list[dict[int, str]]:
    """For each input, the names of its open dimensions."""
    given: dict[str, Any] = dict(axes or {})
    if shapes is not None:
        pairs = shapes.items() if isinstance(shapes, Mapping) else zip(names, shapes, strict=False)
        given |= {name: dims for name, dims in pairs if dims is not None}
    unknown = [n for n in given if n not in names and n not in (outputs or ())]
    if unknown:
        raise ValueError(
            f"dynamic dimensions of {unknown[0]!r}, which is neither an input nor an output; "
            f"there are {', '.join([*names, *(outputs or ())])}"
        )
    found = []
    for name, tensor in zip(names, tensors, strict=True):
        dims = given.get(name, {})
        if not isinstance(dims, Mapping):
            dims = {d: f"{name}_dynamic_axes_{i + 1}" for i, d in enumerate(dims)}
        own: dict[int, str] = {}
        for dim, label in dims.items():
            if label is None:
                continue
            if not -tensor.dim() <= dim < tensor.dim():
                raise ValueError(f"{name!r} has {tensor.dim()} dimensions, but {dim} is dynamic")
            own[dim % tensor.dim()] = label if isinstance(label, str) else label.__name__
        found.append(own)
    return found


def _write(model: onnx.ModelProto, f: Any, external: bool | None) -> None:
    if external is None:
        external = model.ByteSize() > _LARGEST
    if hasattr(f, "write"):
        if external:
            raise ValueError("external data need a path to write beside, given an open file")
        f.write(model.SerializeToString())
        return
    path = Path(os.fspath(f))
    if not external:
        with replacing(path) as file:
            file.write(model.SerializeToString())
        return
    # The data first: whoever finds the model finds its data.
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = path.with_name(path.name + ".data")
    with replacing(data) as file:
        for tensor in copy.graph.initializer:
            raw = tensor.raw_data
            file.write(b"\0" * (-file.tell() % 64))
            entries = {"location": data.name, "offset": str(file.tell()), "length": str(len(raw))}
            file.write(raw)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
    with replacing(path) as file:
        file.write(copy.SerializeToString())
