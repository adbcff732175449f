"""Where checkpoints are, and what is done about what they lack, with PyTorch's names."""

from __future__ import annotations

import os
from pathlib import Path as Folder
from typing import Any

from braze.distributed.checkpoint.metadata import Metadata, metadata_of
from braze.distributed.checkpoint.pieces import read_manifest

Place = str | os.PathLike[str]


class FileSystemWriter:
    """A folder that a checkpoint is written to.

    Args:
        path: a folder that all ranks see.
        single_file_per_rank, sync_files, thread_count, per_thread_copy_ahead,
            cache_staged_state_dict: have no effect. Each rank writes one file, in one piece, which
            is on the disk before the checkpoint counts as written.
        overwrite: a checkpoint that is there may be replaced.
    """

    def __init__(
        self,
        path: Place,
        single_file_per_rank: bool = True,
        sync_files: bool = True,
        thread_count: int = 1,
        per_thread_copy_ahead: int = 10_000_000,
        cache_staged_state_dict: bool = False,
        overwrite: bool = True,
    ) -> None:
        self.path = Folder(path)
        self.overwrite = overwrite

    @property
    def checkpoint_id(self) -> Folder:
        """The folder."""
        return self.path


class FileSystemReader:
    """A folder that a checkpoint is read from.

    Args:
        path: the folder that it was written to.
    """

    def __init__(self, path: Place) -> None:
        self.path = Folder(path)

    @property
    def checkpoint_id(self) -> Folder:
        """The folder."""
        return self.path

    def read_metadata(self) -> Metadata:
        """What the checkpoint has.

        Raises:
            FileNotFoundError: there is no complete checkpoint.
            RuntimeError: it is damaged.
        """
        return metadata_of(read_manifest(self.path))


class DefaultSavePlanner:
    """How it is shared out who writes what.

    Args:
        flatten_state_dict, flatten_sharded_tensors, dedup_replicated_tensors,
            enable_plan_caching: have no effect. What several ranks have is written once.
        dedup_save_to_lowest_rank: by the first of them; else by the one that has least to write.
    """

    def __init__(
        self,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        dedup_replicated_tensors: bool | None = None,
        dedup_save_to_lowest_rank: bool = False,
        enable_plan_caching: bool = False,
    ) -> None:
        self.dedup_save_to_lowest_rank = dedup_save_to_lowest_rank


class DefaultLoadPlanner:
    """What is done about what a checkpoint lacks.

    Args:
        flatten_state_dict, flatten_sharded_tensors: have no effect.
        allow_partial_load: leave it as it is; else it is an error.
    """

    def __init__(
        self,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        allow_partial_load: bool = False,
    ) -> None:
        self.allow_partial_load = allow_partial_load


def folder_of(
    checkpoint_id: Place | None,
    storage: Any,
    kind: type[FileSystemReader] | type[FileSystemWriter],
    name: str,
) -> Folder:
    """The folder that arguments mean; `checkpoint_id` takes the place of the storage's.

    Raises:
        RuntimeError: there is neither. TypeError: the storage is something else.
    """
    if storage is not None and not isinstance(storage, kind):
        raise TypeError(f"{name}: expected a {kind.__name__}, given {type(storage).__name__}")
    if checkpoint_id is not None:
        return Folder(checkpoint_id)
    if storage is None:
        raise RuntimeError(f"`checkpoint_id` must be specified if {name} is None.")
    return storage.path


def checked_planner(planner: Any, kind: type) -> Any:
    """Raises: TypeError if a planner is of another kind."""
    if planner is not None and not isinstance(planner, kind):
        raise TypeError(f"planner: expected a {kind.__name__}, given {type(planner).__name__}")
    return kind() if planner is None else planner
