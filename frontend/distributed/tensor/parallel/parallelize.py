"""Share out the layers of a model by a plan."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from fnmatch import fnmatchcase

from braze.distributed.device_mesh import DeviceMesh
from braze.distributed.tensor.parallel.styles import ParallelStyle
from braze.nn.modules.module import Module

Plan = ParallelStyle | Mapping[str, ParallelStyle] | None


def parallelize_module(
    module: Module,
    device_mesh: DeviceMesh | None = None,
    parallelize_plan: Plan = None,
    *,
    src_data_rank: int | None = 0,
) -> Module:
    """Share out a model, or one layer, among the ranks of a mesh, all of which call this. They must
    be given the same batches then.

    Layers of the plan are replaced by ones with this rank's part of the weights, so make the
    optimizer afterwards.

    Args:
        module: the same on all ranks.
        device_mesh: with one dimension; None: that of the `with` statement around.
        parallelize_plan: how the module is shared out, or how its parts are by their names, in
            which each part may be a pattern: "layers.*.first".
        src_data_rank: the rank of the mesh whose parameters count; None: all have the same.

    Returns:
        The module; if it is itself one of the layers, the one in its place.

    Raises:
        TypeError: the plan is something else.
        NotImplementedError: the plan has a style that does not know the layer.
        ValueError: a layer does not divide by the number of ranks, or this process is no member of
            the mesh.
        RuntimeError: there is no mesh, or it has several dimensions.
    """
    mesh = DeviceMesh.current() if device_mesh is None else device_mesh
    if parallelize_plan is None:
        warnings.warn(
            "No parallelize_plan is provided and auto-parallel is not supported at the moment, so "
            "this parallelize_module call will do nothing.",
            stacklevel=2,
        )
        return module
    if isinstance(parallelize_plan, ParallelStyle):
        parallelize_plan.src_data_rank = src_data_rank
        return parallelize_plan._apply(module, mesh)
    if not isinstance(parallelize_plan, Mapping):
        raise TypeError(
            "Expect Union[ParallelStyle, Dict[str, ParallelStyle]] for parallelize_plan, "
            f"{type(parallelize_plan)} found!"
        )
    for path, style in parallelize_plan.items():
        if not isinstance(style, ParallelStyle):
            raise TypeError(
                f"parallelize_plan[{path!r}]: expected a ParallelStyle, given {type(style)}"
            )
        style.src_data_rank = src_data_rank
        module = _shared_out(module, mesh, path, path, style)
    return module


def _shared_out(
    module: Module, mesh: DeviceMesh, whole: str, path: str, style: ParallelStyle
) -> Module:
    """A module whose parts of a path are shared out."""
    if not path:
        return style._apply(module, mesh)
    token, _, rest = path.partition(".")
    matched = [name for name, _ in module.named_children() if fnmatchcase(name, token)]
    if not matched:
        warnings.warn(
            f"Parallelize plan key '{whole}' could not be resolved: no submodule matching token "
            f"'{token}' in module {module}, skipping this plan entry.",
            stacklevel=3,
        )
    for name in matched:
        child = getattr(module, name)
        made = _shared_out(child, mesh, whole, rest, style)
        if made is not child:
            setattr(module, name, made)
    return module
