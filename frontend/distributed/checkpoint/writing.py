"""Write a checkpoint: each rank a file of its own, then one of them the manifest.

Files have names that no earlier checkpoint had, and are on the disk before the manifest takes the
place of an older one. So whenever a process is killed, the folder holds the old checkpoint or the
new one.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path as Folder
from typing import Any

from braze import engine
from braze.distributed.checkpoint.metadata import Metadata, metadata_of
from braze.distributed.checkpoint.pieces import (
    FORMAT,
    MANIFEST,
    Ints,
    Path,
    Shard,
    as_json,
    leaves_of,
    named,
    shard_of,
)
from braze.distributed.checkpoint.states import states_of
from braze.distributed.checkpoint.storage import (
    DefaultSavePlanner,
    FileSystemWriter,
    Place,
    checked_planner,
    folder_of,
)
from braze.distributed.groups import ProcessGroup, is_initialized, member
from braze.distributed.objects import all_gather_object
from braze.tensors import Tensor
from braze.utils import safetensors

# Of a piece: where it begins, its shape, and its bytes.
_Piece = tuple[Ints, Ints, int]


def save(
    state_dict: Mapping[Any, Any],
    *,
    checkpoint_id: Place | None = None,
    storage_writer: FileSystemWriter | None = None,
    planner: DefaultSavePlanner | None = None,
    process_group: Any = None,
    no_dist: bool = False,
) -> Metadata:
    """Write a checkpoint. All ranks of the group call it, each with what it has.

    Args:
        state_dict: nested dicts of tensors, `Shard`s of larger tensors, and values; modules,
            optimizers and whatever else has a `state_dict` and a `load_state_dict` may be in it,
            too. A tensor or piece that several ranks have is the same on all of them, and one of
            them writes it.
        checkpoint_id: a folder that all ranks see.
        storage_writer: has the folder, if `checkpoint_id` is None.
        planner: who writes what.
        process_group: the ranks; all by default, and this process alone outside of a world.
        no_dist: this process alone writes.

    Returns:
        What the checkpoint has.

    Raises:
        TypeError: there is something that a checkpoint cannot hold.
        ValueError: ranks have tensors of different types under one name, or other values, or the
            pieces of a tensor overlap or leave something out.
        RuntimeError: a rank could not write its file, or may not replace a checkpoint; or there is
            no folder. All ranks raise it, whichever it was.
    """
    group = None if no_dist or not is_initialized() else member(process_group)
    return Writing(state_dict, checkpoint_id, storage_writer, planner, group).finish(group)


class Writing:
    """One rank's part of a checkpoint that is being written: what it is to write, as bytes that no
    later change of the tensors reaches."""

    def __init__(
        self,
        state_dict: Mapping[Any, Any],
        checkpoint_id: Place | None,
        writer: FileSystemWriter | None,
        planner: DefaultSavePlanner | None,
        group: ProcessGroup | None,
    ) -> None:
        """The ranks agree on who writes what.  Raises: as `save`."""
        self.folder = folder = folder_of(checkpoint_id, writer, FileSystemWriter, "storage_writer")
        to_lowest = checked_planner(planner, DefaultSavePlanner).dedup_save_to_lowest_rank
        self.rank = rank = 0 if group is None else group.rank()
        problem: str | None = None
        tensors: dict[Path, Shard] = {}
        values: dict[Path, Any] = {}
        tag = uuid.uuid4().hex[:12]
        try:
            for path, value in leaves_of(states_of(state_dict)):
                if isinstance(value, (Tensor, Shard)):
                    tensors[path] = shard_of(value)
                else:
                    values[path] = as_json(value, path)
            folder.mkdir(parents=True, exist_ok=True)
            if writer is not None and not writer.overwrite and (folder / MANIFEST).exists():
                problem = f"Checkpoint already exists in {folder} and overwrite=False."
        except (OSError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            if isinstance(error, TypeError) and group is None:
                raise
        types = {
            path: (shard.tensor.dtype.name, shard.shape, _place(shard))
            for path, shard in tensors.items()
        }
        self.everybody = _gathered((tag, types, values, problem), group)
        _check([part[3] for part in self.everybody], group)
        self.tag = self.everybody[0][0]
        self.writers = writers = _writers([part[1] for part in self.everybody], to_lowest)
        own = [p for p, shard in tensors.items() if writers[p, _place(shard)[:2]][0] == rank]
        self.is_empty = not own
        self.problem: str | None = None
        self.data = b""
        try:
            copies = {_name(p): tensors[p].tensor.detach().clone() for p in own}
            self.data = safetensors.save(copies)
        except (ValueError, RuntimeError) as error:
            self.problem = f"{type(error).__name__}: {error}"

    def finish(self, group: ProcessGroup | None) -> Metadata:
        """Write this rank's file, and on the first rank the manifest.  Raises: as `save`."""
        problem = self.problem
        try:
            if not self.is_empty and problem is None:
                file = f"{self.tag}-{self.rank}.safetensors"
                with engine.replacing(self.folder / file) as out:
                    out.write(self.data)
        except OSError as error:
            problem = f"{type(error).__name__}: {error}"
        sizes = _gathered((len(self.data), problem), group)
        problems = [problem for _, problem in sizes]
        manifest: dict[str, Any] = {}
        if not any(problems):
            try:
                manifest = self._manifest([size for size, _ in sizes])
                if self.rank == 0:
                    _finish(self.folder, manifest)
            except (OSError, ValueError) as error:
                problems[0] = f"{type(error).__name__}: {error}"
        problems = [p for part in _gathered(problems, group) for p in part]
        _check(problems[: len(self.everybody)], group)
        return metadata_of(manifest)

    def _manifest(self, sizes: Sequence[int]) -> dict[str, Any]:
        types, values = [p[1] for p in self.everybody], [p[2] for p in self.everybody]
        manifest = _manifest(types, values, self.writers, self.tag)
        named_files = {piece["file"] for e in manifest["tensors"] for piece in e["pieces"]}
        names = (f"{self.tag}-{rank}.safetensors" for rank in range(len(sizes)))
        manifest["files"] = {
            name: n for name, n in zip(names, sizes, strict=True) if name in named_files
        }
        return manifest


def _gathered(value: Any, group: ProcessGroup | None) -> list[Any]:
    """What all ranks have."""
    if group is None:
        return [value]
    found: list[Any] = [None] * group.size()
    all_gather_object(found, value, group=group)
    return found


def _check(problems: list[str | None], group: ProcessGroup | None) -> None:
    ranks = [0] if group is None else group.ranks
    found = [f"rank {r}: {p}" for r, p in zip(ranks, problems, strict=True) if p is not None]
    if found:
        raise RuntimeError(f"the checkpoint could not be written: {'; '.join(found)}")


def _place(shard: Shard) -> _Piece:
    shape = tuple(shard.tensor.shape)
    return shard.offsets, shape, shard.tensor.numel() * shard.tensor.dtype.itemsize


def _name(path: Path) -> str:
    return json.dumps(path)


def _writers(
    types: list[dict[Path, Any]], to_lowest: bool
) -> dict[tuple[Path, tuple[Ints, Ints]], tuple[int, int]]:
    """For each piece the rank that writes it, the first or the one that has least to write by then,
    and its bytes."""
    holders: dict[tuple[Path, tuple[Ints, Ints]], tuple[list[int], int]] = {}
    for rank, own in enumerate(types):
        for path, (_, _, (offsets, shape, nbytes)) in own.items():
            holders.setdefault((path, (offsets, shape)), ([], nbytes))[0].append(rank)
    load = [0] * len(types)
    found = {}
    for piece, (ranks, nbytes) in sorted(holders.items(), key=lambda item: -item[1][1]):
        writer = min(ranks, key=lambda rank: (0 if to_lowest else load[rank], rank))
        load[writer] += nbytes
        found[piece] = writer, nbytes
    return found


def _manifest(
    types: list[dict[Path, Any]], values: list[dict[Path, Any]], writers: Any, tag: str
) -> dict[str, Any]:
    tensors: dict[Path, dict[str, Any]] = {}
    for (path, (offsets, shape)), (writer, _) in writers.items():
        stated = {own[path][:2] for own in types if path in own}
        if len(stated) > 1:
            raise ValueError(f"ranks have different types of {named(path)}: {sorted(stated)}")
        ((dtype, whole),) = stated
        entry = tensors.setdefault(
            path, {"path": path, "dtype": dtype, "shape": whole, "pieces": []}
        )
        file = f"{tag}-{writer}.safetensors"
        piece = {"file": file, "name": _name(path), "offsets": offsets, "shape": shape}
        entry["pieces"].append(piece)
    for path, entry in tensors.items():
        _check_cover(path, entry)
    stored: dict[Path, Any] = {}
    for own in values:
        for path, value in own.items():
            if path in tensors or stored.setdefault(path, value) != value:
                raise ValueError(f"ranks have different values of {named(path)}")
    return {
        "format": FORMAT,
        "tensors": list(tensors.values()),
        "values": [{"path": path, "value": value} for path, value in stored.items()],
    }


def _check_cover(path: Path, entry: dict[str, Any]) -> None:
    """Raises: ValueError unless the pieces of a tensor are all of it, each element once."""
    pieces = entry["pieces"]
    total = sum(math.prod(piece["shape"]) for piece in pieces)
    spans = [[(o, o + n) for o, n in zip(p["offsets"], p["shape"], strict=True)] for p in pieces]
    overlap = any(
        all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in zip(one, other, strict=True))
        for i, one in enumerate(spans)
        for other in spans[:i]
    )
    if overlap or total != math.prod(entry["shape"]):
        raise ValueError(
            f"the pieces of {named(path)} are not all of it, each element once: {spans} of "
            f"{list(entry['shape'])}"
        )


def _finish(folder: Folder, manifest: dict[str, Any]) -> None:
    """Put the manifest in its place, then remove what only an older one names, and what a rank that
    was killed had begun to write."""
    _sync(folder)
    with engine.replacing(folder / MANIFEST) as out:
        out.write(json.dumps(manifest).encode())
    _sync(folder)
    for file in [*folder.glob("*-*.safetensors"), *folder.glob(".*-*.safetensors.*")]:
        if file.name not in manifest["files"]:
            file.unlink(missing_ok=True)


def _sync(folder: Folder) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
