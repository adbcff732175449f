"""Several groups of ranks at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from braze import cuda
from braze.distributed.groups import (
    Backend,
    GroupMember,
    ProcessGroup,
    _Joined,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    made_group,
    member,
    new_group,
    require_world,
)


def new_subgroups(
    group_size: int | None = None,
    group: Any = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
) -> tuple[Any, list[Any]]:
    """Divide a group into ones of equal size, of ranks that follow each other. All ranks of the
    world call this.

    Args:
        group_size: the ranks of each; None: as many as a host has GPUs.
        group: what is divided; all ranks by default.
        timeout, backend, pg_options, group_desc: of each, as in `new_group`.

    Returns:
        The one that this process is in, or None, and all of them.

    Raises:
        ValueError: the size is not positive or does not divide the group's, or there is none and
            no GPU.
    """
    if group_size is None:
        if not cuda.is_available():
            raise ValueError(
                "Default group size only takes effect when CUDA is available. If your subgroup "
                "uses a backend that does not depend on CUDA, please pass in 'group_size'."
            )
        group_size = cuda.device_count()
    if group_size <= 0:
        raise ValueError(f"The arg 'group_size' ({group_size}) must be positive")
    size = get_world_size(group)
    if size < group_size:
        raise ValueError(
            f"The arg 'group_size' ({group_size}) must not exceed the world size ({size})"
        )
    if size % group_size:
        raise ValueError(f"The world size ({size}) must be divisible by group_size={group_size}")
    ranks = get_process_group_ranks(group)
    parts = [ranks[first : first + group_size] for first in range(0, size, group_size)]
    return new_subgroups_by_enumeration(parts, timeout, backend, pg_options, group_desc)


def new_subgroups_by_enumeration(
    ranks_per_subgroup_list: Sequence[Sequence[int]],
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
) -> tuple[Any, list[Any]]:
    """A group for each list of ranks of the world. All ranks of the world call this.

    Args:
        ranks_per_subgroup_list: no rank is in two of them, and some may be in none.
        timeout, backend, pg_options, group_desc: of each, as in `new_group`.

    Returns:
        The one that this process is in, or None, and all of them.

    Raises:
        ValueError: there is no list, or a rank is in two of them or not in the world.
    """
    if not ranks_per_subgroup_list:
        raise ValueError("The arg 'ranks_per_subgroup_list' cannot be empty")
    _check_apart(ranks_per_subgroup_list)
    own, found = None, []
    for ranks in ranks_per_subgroup_list:
        made = new_group(ranks, timeout, backend, pg_options, group_desc=group_desc)
        found.append(made)
        if get_rank() in ranks:
            own = made
    return own, found


def host_groups() -> tuple[Any, list[Any]]:
    """A group for the ranks of each host. All ranks of the world call this.

    Returns:
        The one that this process is in, and all of them.
    """
    require_world()
    hosts: dict[str, list[int]] = {}
    for rank, process in sorted(_Joined.world.watch.processes.items()):
        hosts.setdefault(process.host, []).append(rank)
    return new_subgroups_by_enumeration(list(hosts.values()))


def split_group(
    parent_pg: ProcessGroup | None = None,
    split_ranks: Sequence[Sequence[int]] | None = None,
    timeout: timedelta | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
    backend: str | None = None,
) -> ProcessGroup | None:
    """Divide a group. All of its ranks call this with the same lists, and no others: unlike
    `new_group`, it needs nobody else.

    Args:
        parent_pg: what is divided; all ranks by default.
        split_ranks: lists of ranks of the parent. No rank is in two of them, and some may be in
            none.
        timeout, pg_options: as in `new_group`.
        group_desc: a text; by default one that names the parent's.
        backend: the parent's, if it is given.

    Returns:
        The group that this process is in, its ranks sorted; None if it is in none.

    Raises:
        ValueError: this process is no member of the parent; a list is empty, or a rank is in two or
            not in the parent; another backend than the parent's.
    """
    if not split_ranks:
        raise ValueError("split_ranks cannot be None or empty")
    parent = member(parent_pg)
    if parent is None:
        raise ValueError(f"Global rank {get_rank()} is not part of the parent group {parent_pg}")
    if backend is not None and Backend(backend) != parent._backend:
        raise ValueError(
            f"Backend mismatch: the parent group has {str(parent._backend)!r}, requested "
            f"{backend!r}. split_group keeps the parent's"
        )
    for ranks in split_ranks:
        if not ranks:
            raise ValueError("the split group cannot be empty")
        if len(set(ranks)) != len(ranks):
            raise ValueError(f"the split group cannot have duplicate ranks, given {list(ranks)}")
        for rank in ranks:
            if not 0 <= rank < parent.size():
                raise ValueError(f"there is no rank {rank} in {parent!r}, of {parent.size()} ranks")
    _check_apart(split_ranks)
    own: list[int] = next((sorted(ranks) for ranks in split_ranks if parent.rank() in ranks), [])
    desc = f"{parent.group_desc}:split" if group_desc is None else group_desc
    made = made_group([parent.ranks[rank] for rank in own], timeout, None, desc, parent)
    return None if made is GroupMember.NON_GROUP_MEMBER else made


def _check_apart(lists: Sequence[Sequence[int]]) -> None:
    """Raises: ValueError if a rank is in two of them."""
    seen: dict[int, Sequence[int]] = {}
    for ranks in lists:
        for rank in ranks:
            if rank in seen and seen[rank] is not ranks:
                raise ValueError(
                    f"Rank {rank} has appeared in both subgroup {list(seen[rank])} and "
                    f"{list(ranks)}"
                )
            seen[rank] = ranks
