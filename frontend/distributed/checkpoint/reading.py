"""Read a checkpoint: each rank what it needs, from whichever files have it."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path as Folder
from typing import Any

import numpy as np

from braze.autograd.modes import no_grad
from braze.capture import flush
from braze.distributed.checkpoint.pieces import (
    Path,
    Shard,
    from_json,
    leaves_of,
    named,
    read_manifest,
    shard_of,
)
from braze.distributed.checkpoint.states import give_state, is_stateful, parts_of, states_of
from braze.distributed.checkpoint.storage import (
    DefaultLoadPlanner,
    FileSystemReader,
    Place,
    checked_planner,
    folder_of,
)
from braze.ir.dtypes import dtype_named
from braze.tensors import Tensor, from_array


def load(
    state_dict: MutableMapping[Any, Any],
    *,
    checkpoint_id: Place | None = None,
    storage_reader: FileSystemReader | None = None,
    planner: DefaultLoadPlanner | None = None,
    process_group: Any = None,
    no_dist: bool = False,
) -> None:
    """Read what a state dict has from a checkpoint, of any number of ranks.

    Tensors, and the tensors of `Shard`s, are written in place; other values are replaced. A dict
    without entries takes all that the checkpoint has there, whole: an optimizer's state, for
    example, which is not there before the first step. What has a `load_state_dict` itself, as
    modules and optimizers have, is given what its `state_dict` has become.

    Args:
        state_dict: nested dicts.
        checkpoint_id: the folder that `save` was given.
        storage_reader: has the folder, if `checkpoint_id` is None.
        planner: what is done about what the checkpoint lacks.
        process_group, no_dist: make no difference; a rank that reads needs no other.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        RuntimeError: the checkpoint lacks something, or has it in another shape, or a file of it
            is missing or damaged; or there is no folder.
    """
    flush()
    folder = folder_of(checkpoint_id, storage_reader, FileSystemReader, "storage_reader")
    is_partial = checked_planner(planner, DefaultLoadPlanner).allow_partial_load
    source = _Checkpoint(folder)
    states = states_of(state_dict)
    for path, value in list(leaves_of(states)):
        if is_partial and not source.has(path):
            continue
        if isinstance(value, (Tensor, Shard)):
            _fill(source, path, shard_of(value))
        elif isinstance(value, Mapping):
            _place(states, path, source.everything_below(path))
        else:
            _place(states, path, source.value(path))
    for key, value in list(state_dict.items()):
        if is_stateful(value):
            give_state(value, states[key], parts_of(state_dict))
        else:
            state_dict[key] = states[key]


class _Checkpoint:
    """An open checkpoint."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        self.tensors = {tuple(entry["path"]): entry for entry in manifest["tensors"]}
        self.values = {tuple(e["path"]): from_json(e["value"]) for e in manifest["values"]}
        self._files = manifest["files"]
        self._open: dict[str, Any] = {}

    def has(self, path: Path) -> bool:
        """Whether there is something at a path, or below it."""
        every = (*self.tensors, *self.values)
        return any(own[: len(path)] == path for own in every)

    def value(self, path: Path) -> Any:
        """Raises: RuntimeError if there is none."""
        if path not in self.values:
            raise RuntimeError(f"Missing key in checkpoint state_dict: {named(path)}.")
        return self.values[path]

    def everything_below(self, path: Path) -> dict[Any, Any]:
        """Nested dicts of all that begins with a path."""
        found: dict[Any, Any] = {}
        for own in (*self.tensors, *self.values):
            if own[: len(path)] == path and len(own) > len(path):
                value = self.values[own] if own in self.values else self._tensor(own)
                _place(found, own[len(path) :], value, make=True)
        return found

    def _tensor(self, path: Path) -> Tensor:
        entry = self.tensors[path]
        whole = np.zeros(entry["shape"], dtype_named(entry["dtype"]).numpy)
        self.read(path, whole, (0,) * whole.ndim)
        return from_array(whole)

    def read(self, path: Path, into: np.ndarray, offsets: tuple[int, ...]) -> None:
        """Fill an array with the elements from some place on.  Raises: RuntimeError."""
        for piece in self.tensors[path]["pieces"]:
            spans = [
                (max(a, b), min(a + n, b + m))
                for a, n, b, m in zip(
                    offsets, into.shape, piece["offsets"], piece["shape"], strict=True
                )
            ]
            if any(start >= end for start, end in spans):
                continue
            there = tuple(
                slice(s - b, e - b) for (s, e), b in zip(spans, piece["offsets"], strict=True)
            )
            here = tuple(slice(s - a, e - a) for (s, e), a in zip(spans, offsets, strict=True))
            into[here] = self._slice(piece, there)

    def _slice(self, piece: dict[str, Any], where: tuple[slice, ...]) -> Any:
        from safetensors import SafetensorError, safe_open

        name = piece["file"]
        path = self.folder / name
        try:
            if name not in self._open:
                if path.stat().st_size != self._files[name]:
                    raise OSError(f"it has {path.stat().st_size} bytes, not {self._files[name]}")
                self._open[name] = safe_open(os.fspath(path), framework="np")
            if not where:
                return self._open[name].get_tensor(piece["name"])
            return self._open[name].get_slice(piece["name"])[where]
        except (OSError, SafetensorError, KeyError) as error:
            raise RuntimeError(f"{path}, of a checkpoint, cannot be read: {error}") from None


def _fill(source: _Checkpoint, path: Path, shard: Shard) -> None:
    entry = source.tensors.get(path)
    if entry is None:
        raise RuntimeError(f"Missing key in checkpoint state_dict: {named(path)}.")
    dtype = dtype_named(entry["dtype"])
    if tuple(entry["shape"]) != shard.shape:
        raise RuntimeError(
            f"Size mismatch between saved {tuple(entry['shape'])} and current {shard.shape} for "
            f"{named(path)}"
        )
    array = np.zeros(tuple(shard.tensor.shape), dtype.numpy)
    source.read(path, array, shard.offsets)
    with no_grad():
        shard.tensor.copy_(from_array(array))


def _place(state: Any, path: Path, value: Any, make: bool = False) -> None:
    """Set a leaf of nested dicts; `make`: and the dicts around it."""
    for key in path[:-1]:
        state = state.setdefault(key, {}) if make else state[key]
    state[path[-1]] = value
