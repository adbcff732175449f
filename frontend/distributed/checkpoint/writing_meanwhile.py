"""Write a checkpoint while training goes on.

In: as `writing`.  Out: a future. Who writes what, and the bytes, are settled before the call
returns; a thread writes them, and tells the other ranks' threads, in a group of their own, so that
its messages do not come between those of the program.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from braze.distributed.checkpoint.metadata import Metadata
from braze.distributed.checkpoint.storage import DefaultSavePlanner, FileSystemWriter, Place
from braze.distributed.checkpoint.writing import Writing
from braze.distributed.groups import ProcessGroup, before_leaving, is_initialized, member
from braze.distributed.subgroups import split_group


def async_save(
    state_dict: Mapping[Any, Any],
    *,
    checkpoint_id: Place | None = None,
    storage_writer: FileSystemWriter | None = None,
    planner: DefaultSavePlanner | None = None,
    process_group: Any = None,
    no_dist: bool = False,
) -> Future[Metadata]:
    """As `save`, in a thread: when this returns, tensors may be changed. All ranks of the group
    call it, as they call collectives. Several checkpoints are written one after the other.

    The program's end, and `destroy_process_group`, wait until it is written.

    Args:
        state_dict, checkpoint_id, storage_writer, planner, process_group, no_dist: as in `save`.

    Returns:
        A future of what the checkpoint has; its `result()` waits, and raises what `save` would
        after its first message: a rank could not write, or is gone.

    Raises:
        TypeError: there is something that a checkpoint cannot hold.
        RuntimeError: the same of another rank; a checkpoint may not be replaced; there is no
            folder.
    """
    group = None if no_dist or not is_initialized() else member(process_group)
    writing = Writing(state_dict, checkpoint_id, storage_writer, planner, group)
    beside = None if group is None else _group_beside(group)
    future = _thread(os.getpid()).submit(writing.finish, beside)
    _unfinished.add(future)
    future.add_done_callback(_unfinished.discard)
    return future


_unfinished: set[Future[Metadata]] = set()
before_leaving.append(lambda: wait(set(_unfinished)))

# By group, the same ranks in a group for what happens beside their program.
_beside: weakref.WeakKeyDictionary[ProcessGroup, ProcessGroup] = weakref.WeakKeyDictionary()


def _group_beside(group: ProcessGroup) -> ProcessGroup:
    if group not in _beside:
        ranks = list(range(group.size()))
        made = split_group(group, [ranks], group_desc=f"{group.group_desc}:beside")
        assert made is not None
        _beside[group] = made
    return _beside[group]


@functools.cache
def _thread(process: int) -> ThreadPoolExecutor:
    """That of this process, which a fork of it has not."""
    return ThreadPoolExecutor(1, thread_name_prefix="braze-checkpoint")
