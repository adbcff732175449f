"""Who takes part: joining, leaving, and groups of ranks."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from braze import engine
from braze.capture import flush

# Of a group that is given none.
default_pg_timeout = timedelta(minutes=30)


class Backend(str):
    """The name of what carries the data: "mpi" between processors, "nccl" between GPUs."""

    UNDEFINED = "undefined"
    MPI = "mpi"
    NCCL = "nccl"

    def __new__(cls, name: str) -> Backend:
        if not isinstance(name, str):
            raise ValueError(f"Backend constructor parameter must be string-ish, given {name!r}")
        return super().__new__(cls, name.lower())


class ProcessGroup:
    """Some of the ranks, for collectives among them. Made by `new_group`.

    Attributes:
        ranks: its members, as ranks of the world; a member's rank in the group is its position.
    """

    def __init__(self, communicator: Any, backend: Backend, desc: str | None = None) -> None:
        self._communicator = communicator
        self._backend = backend
        self._desc = "undefined" if desc is None else desc
        self._devices: Any = None  # what carries tensors between GPUs
        if backend == Backend.NCCL:
            self._devices = engine.distributed().DeviceGroup(communicator)
        self.ranks: tuple[int, ...] = communicator.ranks

    def rank(self) -> int:
        """This process's own rank within the group."""
        return int(self._communicator.rank)

    def size(self) -> int:
        """How many ranks it has."""
        return len(self.ranks)

    def name(self) -> str:
        """The name of its backend."""
        return str(self._backend)

    @property
    def group_name(self) -> str:
        """Its number as a text, the same on all of its ranks; "0" is everybody's."""
        return str(self._communicator.number)

    @property
    def group_desc(self) -> str:
        """What `new_group` was given as a description; "default_pg" for everybody's."""
        return self._desc

    def __repr__(self) -> str:
        return f"<ProcessGroup of ranks {list(self.ranks)}>"


# What is still to be waited for in this process before it leaves.
before_leaving: list[Callable[[], Any]] = []


class _Joined:
    """The world, once this process has joined it."""

    world: Any = None
    group: ProcessGroup | None = None


class _Members(type):
    @property
    def WORLD(cls) -> ProcessGroup | None:
        """The group of all ranks; None before `init_process_group`."""
        return _Joined.group


class GroupMember(metaclass=_Members):
    """`WORLD` is the group of all ranks; `NON_GROUP_MEMBER`, what `new_group` gives the others."""

    NON_GROUP_MEMBER = object()


group = GroupMember


def is_initialized() -> bool:
    """Whether this process has joined the others."""
    return _Joined.group is not None


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Join the processes that the launcher has started.

    Args:
        backend: "mpi", for tensors on the CPU, which is the default, or "nccl", for tensors on
            GPUs, of which each rank has one. Ranks find each other by MPI in both cases.
        init_method: None or "env://"; the launcher says who there is.
        timeout: how long an operation may take, and the others to come here; 30 minutes.
        world_size, rank: if given, what they should be.
        store, group_name, pg_options: there is nothing that they could say to MPI.
        device_id: this rank's GPU, for "nccl", which then connects the ranks at once; else their
            first operation does.

    Raises:
        ValueError: there is no such backend, this process has joined already, or `world_size` or
            `rank` are not the launcher's.
        ImportError: mpi4py or an MPI library is missing, or nccl4py or NCCL.
        DistBackendError: some ranks have not come in time.
    """
    name = Backend(Backend.MPI if backend is None else backend)
    _check_backend(name)
    if init_method not in (None, "env://"):
        raise ValueError(
            f"init_method={init_method!r}: ranks find each other by MPI's launcher (mpiexec, srun)"
        )
    if store is not None:
        raise ValueError("store: ranks find each other by MPI's launcher, which needs none")
    if is_initialized():
        raise ValueError("trying to initialize the default process group twice!")
    if name == Backend.NCCL:
        engine.distributed().nccl()
    seconds = _seconds(timeout, default_pg_timeout)
    world = engine.distributed().World(seconds)
    for given, real, what in ((world_size, world.size, "world_size"), (rank, world.rank, "rank")):
        if given not in (-1, real):
            world.leave()
            raise ValueError(f"{what}={given}, but MPI's launcher says {real}")
    atexit.register(_run_what_is_pending)  # before the world leaves, which is registered earlier
    _Joined.world = world
    _Joined.group = ProcessGroup(world.groups[0], name, "default_pg")
    _connect(_Joined.group, device_id)


def _check_backend(name: Backend) -> None:
    if name not in (Backend.MPI, Backend.NCCL):
        raise ValueError(
            f"Invalid backend: {str(name)!r}. Braze has no transport of its own; the backend is "
            "mpi, with any MPI library, or nccl, for GPUs"
        )


def _run_what_is_pending() -> None:
    """Others may wait for collectives that this rank has captured and not run, as nobody has asked
    for the result here."""
    if is_initialized() and getattr(sys, "last_value", None) is None:
        flush()


def destroy_process_group(group: ProcessGroup | None = None) -> None:
    """Leave: wait until all ranks do, and let go of the groups. A program that ends does this by
    itself.

    Args:
        group: if it is not the world, only this group is let go of.
    """
    if group is not None and group is not _Joined.group:
        return
    require_world()
    flush()
    for wait in before_leaving:
        wait()
    world, _Joined.world, _Joined.group = _Joined.world, None, None
    world.leave()


def require_world() -> ProcessGroup:
    """The group of all ranks.

    Raises: ValueError before `init_process_group`, and in a fork of the process that called it.
    """
    if _Joined.group is None:
        raise ValueError(
            "Default process group has not been initialized, please make sure to call "
            "init_process_group."
        )
    if not _Joined.world.is_own:
        raise ValueError(
            f"process {os.getpid()} is a fork of a rank, and none itself: MPI knows only processes "
            "that its launcher has started"
        )
    return _Joined.group


def member(group: Any) -> ProcessGroup | None:
    """The group meant by an argument; None where this process is no member.

    Raises: ValueError before `init_process_group`. TypeError if it is no group.
    """
    world = require_world()
    if group is None:
        return world
    if group is GroupMember.NON_GROUP_MEMBER:
        return None
    if not isinstance(group, ProcessGroup):
        raise TypeError(f"expected a ProcessGroup, given {type(group).__name__}")
    return group


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
    sort_ranks: bool = True,
) -> Any:
    """A group of some ranks. All ranks must call this, in the same order, members or not.

    Args:
        ranks: the members; None: all.
        timeout: how long its operations may take; the world's by default.
        backend: as in `init_process_group`; the world's by default.
        pg_options: there is nothing that they could say to MPI.
        use_local_synchronization: is refused, as PyTorch does for MPI; see `split_group`.
        group_desc: a text about it.
        device_id: as in `init_process_group`.
        sort_ranks: number the members in the order of their ranks in the world; else in that of
            `ranks`.

    Returns:
        The group; `GroupMember.NON_GROUP_MEMBER` for ranks that are not in it.

    Raises:
        ValueError: a rank is not in the world, or given twice; `use_local_synchronization`.
    """
    world = require_world()
    if use_local_synchronization:
        raise ValueError(
            "MPI backend doesn't support use_local_synchronization=True: all ranks call new_group; "
            "split_group is called by the ranks of one group only"
        )
    members = list(range(world.size()) if ranks is None else ranks)
    if sort_ranks:
        members.sort()
    if len(set(members)) != len(members):
        raise ValueError(f"ranks list must not contain duplicate entries, got {members}")
    for rank in members:
        if not 0 <= rank < world.size():
            raise ValueError(
                f"Rank {rank} is out of range. Valid ranks are 0 to {world.size() - 1} "
                f"(world_size={world.size()})"
            )
    return made_group(members, timeout, backend, group_desc, None, device_id)


def made_group(
    members: Sequence[int],
    timeout: timedelta | None,
    backend: str | None,
    desc: str | None,
    parent: ProcessGroup | None,
    device_id: Any = None,
) -> Any:
    """A group of ranks of the world, which all ranks of a parent make, or all of the world."""
    world = require_world()
    name = (parent or world)._backend if backend is None else Backend(backend)
    _check_backend(name)
    flush()
    seconds = _seconds(timeout, timedelta(seconds=world._communicator.timeout))
    callers = None if parent is None else parent._communicator
    made = _Joined.world.new_group(members, seconds, callers)
    if made is None:
        return GroupMember.NON_GROUP_MEMBER
    group = ProcessGroup(made, name, desc)
    _connect(group, device_id)
    return group


def _connect(group: ProcessGroup, device_id: Any) -> None:
    """Connect GPUs at once, if this rank's is named."""
    if group._devices is not None and device_id is not None:
        from braze.cuda.devices import index_of

        group._devices.connect(engine.cuda().cuda_device(index_of(device_id)))


def get_rank(group: Any = None) -> int:
    """This process's rank, from 0; in a group that it is no member of, -1."""
    found = member(group)
    return -1 if found is None else found.rank()


def get_world_size(group: Any = None) -> int:
    """How many ranks there are; in a group that this process is no member of, -1."""
    found = member(group)
    return -1 if found is None else found.size()


def get_backend(group: Any = None) -> Backend:
    """What carries the data.

    Raises:
        ValueError: this process is no member of the group.
    """
    found = member(group)
    if found is None:
        raise ValueError("Invalid process group specified")
    return found._backend


def get_process_group_ranks(group: Any = None) -> list[int]:
    """A group's members, as ranks of the world."""
    found = member(group)
    return [] if found is None else list(found.ranks)


def get_group_rank(group: ProcessGroup, global_rank: int) -> int:
    """The rank in a group of a rank of the world.

    Raises:
        ValueError: it is no member.
    """
    _check_group(group)
    if global_rank not in group.ranks:
        raise ValueError(f"Global rank {global_rank} is not part of group {group!r}")
    return group.ranks.index(global_rank)


def get_global_rank(group: ProcessGroup, group_rank: int) -> int:
    """The rank in the world of a rank of a group.

    Raises:
        ValueError: the group has no such rank.
    """
    _check_group(group)
    if not 0 <= group_rank < group.size():
        raise ValueError(f"Group rank {group_rank} is not part of group {group!r}")
    return group.ranks[group_rank]


def _check_group(group: Any) -> None:
    if not isinstance(group, ProcessGroup):
        raise ValueError(
            f"Group {group} is not registered, please create group with braze.distributed.new_group"
        )


def _seconds(timeout: timedelta | None, default: timedelta) -> float:
    if timeout is None:
        return default.total_seconds()
    if not isinstance(timeout, timedelta):
        raise TypeError(f"timeout: expected a timedelta, given {type(timeout).__name__}")
    return timeout.total_seconds()
