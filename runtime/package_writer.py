"""Compile a graph ahead of time into one file, for one or several processors.

In: a graph, its weights, and target names.  Out: a package that `braze.runtime.load` runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from braze.ir.builder import Copier
from braze.ir.graph import Graph, Value
from braze.ir.target import Target, named_target
from braze.runtime import compiler
from braze.runtime.artifact import Artifact, layout_facts, slots_of
from braze.runtime.cpu import host_target
from braze.runtime.environment import braze_version
from braze.runtime.package_codes import SizedCode
from braze.runtime.package_facts import require_structure
from braze.runtime.package_family import Sizes, arrays_read
from braze.runtime.package_format import PackageError, write_archive
from braze.runtime.package_narrow import Fold, Narrowing
from braze.runtime.package_recipes import Recipe, Recipes, positions_of
from braze.runtime.package_sizes import codes_for
from braze.runtime.package_targets import device_name
from braze.runtime.provenance import Provenance
from braze.runtime.splitting import without_devices
from braze.runtime.weights import pack_weights

if TYPE_CHECKING:
    from braze.passes import Choices
    from braze.runtime.cuda.code import CudaCode

HOST = "host"
_Code = TypeVar("_Code", Artifact, "CudaCode")


def write_package(
    path: str | os.PathLike[str],
    graph: Graph,
    weights: Mapping[str, np.ndarray | int | float],
    *,
    input_names: Sequence[str] | None = None,
    structure: str | None = None,
    targets: Sequence[str] = (HOST,),
    sizes: Sizes | None = None,
    narrowing: Narrowing | None = None,
) -> Path:
    """Compile `graph` and write it with its weights.

    Args:
        weights: name of a graph input -> its value, for every input of role param, buffer or const
            and any others that are to be fixed. Every other input is an argument of a call.
        input_names: what to call the arguments, in order; by default the graph's names.
        structure: how a call arranges the outputs, as JSON: an output's number, null for None, or
            ``{"tuple": [...]}``, ``{"list": [...]}``, ``{"dict": [[key, ...], ...]}`` of these. By
            default ``0``, or a tuple of all.
        targets: names of `braze.ir.target.TARGET_NAMES`, or "host" for this processor; of
            `GPU_NAMES`, or "cuda" or "cuda:N" for a GPU that is here.
        sizes: those of dimensions that calls may choose; `graph` is that of the usual sizes.
        narrowing: how weights are to be stored in fewer bits; it is given a report.

    Returns:
        The path.

    Raises:
        PackageError: the graph, the weights or the structure do not fit each other.
        TargetError: an unknown target.
        CudaError: nvcc, or the GPU that is named, is missing.
    """
    graph = without_devices(graph)
    arrays = _checked_weights(graph, weights)
    names = _checked_names(graph, arrays, input_names)
    if structure is None:
        every = list(range(len(graph.outputs)))
        structure = json.dumps(0 if len(every) == 1 else {"tuple": every})
    _check_structure(structure, len(graph.outputs))
    if not targets:
        raise PackageError("[package] no target is given")
    whole = partial(_folded, arrays=arrays, more={} if sizes is None else sizes.more)
    fold: Fold = whole if narrowing is None else narrowing.folding(whole)
    origin = Provenance(graph)
    folded, held = fold(origin.graph) if sizes is None else (graph, arrays)
    recipe = Recipe(str(graph), str(folded), positions_of(folded, origin))
    entries = {"graph.ir": str(graph).encode()}
    recipes = Recipes(entries)
    compiled = []
    stored: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(targets):
        target = _target(name)
        if sizes is None and target.is_gpu:
            facts = _for_gpu(graph, folded, held, target, entries, stored)
            compiled.append({**facts, "recipe": recipes.add(recipe)})
        elif sizes is None:
            facts = _compile(graph, folded, held, name, target, entries, stored)
            compiled.append({**facts, "recipe": recipes.add(recipe)})
        else:
            codes = codes_for(sizes, fold, target)
            compiled.append(_sized(codes, name, target, entries, stored, recipes))
    recipes.finish()
    entries["weights.safetensors"] = pack_weights(stored)
    manifest: dict[str, Any] = {
        "name": graph.name,
        "braze": braze_version(),
        "inputs": names,
        "structure": structure,
        "targets": compiled,
    }
    if sizes is not None:
        manifest["dynamic"] = [asdict(dim) for dim in sizes.dynamic.dims]
    if narrowing is not None:
        manifest["accuracy"] = narrowing.compare(graph, sizes, whole, fold).facts()
    write_archive(Path(path), manifest, entries)
    return Path(path)


def _target(name: str) -> Target:
    if name == HOST:
        return host_target()
    if name.partition(":")[0] == "cuda":
        from braze.runtime.cuda.devices import device_named

        return device_named(device_name(name)).target
    return named_target(name)


def _folded(
    graph: Graph,
    choices: Choices | None = None,
    *,
    arrays: Mapping[str, np.ndarray],
    more: Mapping[str, np.ndarray],
    sources: dict[str, str] | None = None,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph in which what depends on weights alone is computed, and its weights.

    Args:
        choices, sources: see `fold_known`.
    """
    from braze.passes import fold_known

    named = Copier(graph)
    for (name, _), value in zip(_named(graph), named.graph.inputs, strict=True):
        value.name = name
    for node in graph.nodes:
        named.keep(node)
    names = {value.name for value in named.graph.inputs}
    known = {name: array for name, array in {**arrays, **more}.items() if name in names}
    return fold_known(named.done(), known, sources=sources, choices=choices)


def _compile(
    graph: Graph,
    folded: Graph,
    arrays: Mapping[str, np.ndarray],
    name: str,
    target: Target,
    entries: dict[str, bytes],
    stored: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Compile for one target; adds the objects to `entries`, and to `stored` the weights in the
    order that its code reads them in."""
    from braze.codegen.llvm.panels import Packer

    pack = Packer(arrays, target)
    artifact = _as_given(compiler.compile_artifact(folded, target, change=pack), graph, arrays)
    described = _described(artifact, pack.given, name, f"code/{name}", entries, stored)
    return {**described, "pool": _pool(name, target, entries)}


def _for_gpu(
    graph: Graph,
    folded: Graph,
    arrays: Mapping[str, np.ndarray],
    target: Target,
    entries: dict[str, bytes],
    stored: dict[str, np.ndarray],
) -> dict[str, Any]:
    """As `_compile`, for a GPU."""
    from braze.runtime.cuda.compiling import compile_cuda
    from braze.runtime.kept_objects import disk_cache

    code = _as_given(compile_cuda(folded, target, disk_cache()), graph, arrays)
    given = arrays_read(code, arrays)
    return _described(code, given, target.name, f"code/{target.name}", entries, stored)


def _as_given(code: _Code, graph: Graph, arrays: Mapping[str, np.ndarray]) -> _Code:
    """With its arguments and results, complex ones too, as the caller gives and gets them."""
    inputs, outputs = slots_of(graph)
    slots = {slot.name: slot for slot in inputs if slot.name not in arrays}
    own = tuple(slots.get(slot.name, slot) for slot in code.inputs)
    return replace(code, inputs=own, outputs=outputs)


def _sized(
    codes: Sequence[SizedCode[Any]],
    name: str,
    target: Target,
    entries: dict[str, bytes],
    stored: dict[str, np.ndarray],
    recipes: Recipes,
) -> dict[str, Any]:
    """What the manifest says of a target's code for many sizes; adds to `entries`, `stored` and
    `recipes`."""
    described = []
    for code in codes:
        folder = f"code/{name}/{_range(code)}"
        assert not any(entry.startswith(f"{folder}/") for entry in entries)
        layout = None if code.layout is None else layout_facts(code.layout)
        own = _described(code.artifact, code.weights, name, folder, entries, stored)
        assert code.recipe is not None
        own["recipe"] = recipes.add(code.recipe)
        described.append({"lowest": code.lowest, "highest": code.highest, "layout": layout, **own})
    if target.is_gpu:
        return {"target": target.to_text(), "codes": described}
    pool = _pool(name, target, entries)
    return {"target": target.to_text(), "pool": pool, "codes": described}


def _range(code: SizedCode[Any]) -> str:
    """The sizes of a code, as the name of a folder: ``1-1``, ``2-64x2-512``."""
    return "x".join(f"{a}-{b}" for a, b in zip(code.lowest, code.highest, strict=True))


def _described(
    code: _Code,
    given: Mapping[str, np.ndarray],
    name: str,
    folder: str,
    entries: dict[str, bytes],
    stored: dict[str, np.ndarray],
) -> dict[str, Any]:
    """What the manifest says of code and the weights that it reads, whose machine code and arrays
    are added to `entries` and `stored`."""
    # Equal graphs and weights make equal files.
    code = replace(code, figures=replace(code.figures, seconds=0.0))
    weights = {label: _store(stored, label, name, array) for label, array in given.items()}
    described = {"facts": code.facts(), "weights": weights}
    if isinstance(code, Artifact):
        objects = {f"{folder}/{i}.o": data for i, data in enumerate(code.objects)}
        entries.update(objects)
        return {**described, "objects": list(objects)}
    cubin = f"{folder}/kernels.cubin"
    entries[cubin] = code.cubin
    return {**described, "cubin": cubin}


def _pool(name: str, target: Target, entries: dict[str, bytes]) -> str:
    """Add the thread pool's code; its entry's name."""
    from braze.codegen.llvm.pool import pool_object

    pool = f"code/{name}/pool.o"
    entries[pool] = pool_object(target)
    return pool


def _store(stored: dict[str, np.ndarray], label: str, target: str, array: np.ndarray) -> str:
    """Have an array stored, once for all targets that want it so; its name."""
    for name in (label, *(n for n in stored if n.startswith(f"{label}@"))):
        if name not in stored or np.array_equal(stored[name], array):
            break
    else:
        name = f"{label}@{target}"
        while name in stored:
            name += "+"
    stored[name] = array
    return name


def _checked_weights(
    graph: Graph, weights: Mapping[str, np.ndarray | int | float]
) -> dict[str, np.ndarray]:
    if graph.aliases:
        output, input = next(iter(graph.aliases.items()))
        name = graph.inputs[input].name or f"input{input}"
        raise PackageError(
            f"[package] output {output} of graph @{graph.name} overwrites its input {name}; "
            "a package holds a function without state"
        )
    inputs = dict(_named(graph))
    if len(inputs) != len(graph.inputs):
        raise PackageError(f"[package] two inputs of graph @{graph.name} have one name")
    unknown = sorted(weights.keys() - inputs.keys())
    if unknown:
        raise PackageError(f"[package] graph @{graph.name} has no inputs {', '.join(unknown)}")
    arrays: dict[str, np.ndarray] = {}
    for (name, value), role in zip(inputs.items(), graph.roles, strict=True):
        if name in weights:
            given = weights[name]
            is_number = role == "scalar" and isinstance(given, (int, float))
            dtype = value.dtype.numpy
            array = np.asarray(given).astype(dtype) if is_number else np.asarray(given)
            if array.dtype != dtype or array.shape != value.shape:
                raise PackageError(
                    f"[package] weight {name} must be {value.type}, given {array.dtype}"
                    f"{list(array.shape)}"
                )
            arrays[name] = array
        elif role in ("param", "buffer", "const"):
            raise PackageError(f"[package] no value is given for {role} {name}")
    return arrays


def _named(graph: Graph) -> Iterator[tuple[str, Value]]:
    """The inputs under the names that `slots_of` gives them."""
    for i, value in enumerate(graph.inputs):
        yield value.name or f"input{i}", value


def _checked_names(
    graph: Graph, arrays: Mapping[str, np.ndarray], given: Sequence[str] | None
) -> list[str]:
    arguments = [name for name, _ in _named(graph) if name not in arrays]
    names = arguments if given is None else list(given)
    if len(names) != len(arguments) or len(set(names)) != len(names):
        raise PackageError(
            f"[package] graph @{graph.name} has {len(arguments)} arguments ({', '.join(arguments)})"
            f", given the names {', '.join(names)}"
        )
    return names


def _check_structure(structure: str, outputs: int) -> None:
    try:
        described = json.loads(structure)
    except ValueError as error:
        raise PackageError(f"[package] structure {structure!r} is not JSON: {error}") from None
    try:
        require_structure(described, outputs)
    except ValueError as error:
        raise PackageError(f"[package] {error}") from None
