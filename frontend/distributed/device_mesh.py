"""Ranks arranged in rows and columns, each of which is a group, with PyTorch's names.

In: a grid of ranks.  Out: for each of its dimensions the group of those ranks that differ from this
one in that place only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from braze.distributed.availability import get_default_backend_for_device
from braze.distributed.groups import (
    GroupMember,
    ProcessGroup,
    get_rank,
    init_process_group,
    is_initialized,
    made_group,
    require_world,
)
from braze.ir.dtypes import i32
from braze.tensors import Tensor, from_array

Grid = np.ndarray[Any, np.dtype[np.int64]]


class DeviceMesh:
    """A grid of ranks. All ranks of the world make it, with the same arguments, and each of its
    dimensions is a group of those that differ in that place.

    Args:
        device_type: "cpu" or "cuda"; its backend carries the groups' tensors.
        mesh: ranks of the world, nested lists or an integer tensor. A rank's number in the group of
            a dimension is its place in the grid, also where the ranks are in no order.
        mesh_dim_names: for choosing dimensions.

    Attributes:
        device_type: as given.
        mesh_dim_names: as given, or None.

    Raises:
        RuntimeError: it has more ranks than the world, or names that are alike or too few.
        ValueError: a rank is given twice or not in the world, or there is no such device.
    """

    _active: list[DeviceMesh] = []  # those of `with` statements, the innermost last

    def __init__(
        self, device_type: str, mesh: Any, *, mesh_dim_names: Sequence[str] | None = None
    ) -> None:
        grid = _grid(mesh)
        names = _checked_names(grid.shape, mesh_dim_names)
        backend = get_default_backend_for_device(device_type)
        if not is_initialized():
            init_process_group(backend)
        world = require_world()
        if grid.size > world.size():
            raise RuntimeError(
                f"Mesh should not be bigger than default world size {world.size()}, but found "
                f"{grid.size} ranks!"
            )
        if len(np.unique(grid)) != grid.size or grid.min() < 0 or grid.max() >= world.size():
            raise ValueError(
                f"a mesh consists of different ranks from 0 to {world.size() - 1}, given "
                f"{grid.tolist()}"
            )
        groups = []
        for dim in range(grid.ndim):
            desc = f"mesh_{names[dim]}" if names else f"mesh_dim_{dim}"
            groups.append(_group_along(grid, dim, backend, desc))
        self._fill(device_type, grid, names, groups)

    def _fill(
        self, device_type: str, grid: Grid, names: tuple[str, ...] | None, groups: Sequence[Any]
    ) -> None:
        self.device_type = device_type
        self.mesh_dim_names = names
        self._grid = grid
        self._groups = list(groups)
        place = np.argwhere(grid == get_rank())
        self._place = tuple(int(i) for i in place[0]) if len(place) else None

    @staticmethod
    def from_group(
        group: ProcessGroup | Sequence[ProcessGroup],
        device_type: str,
        mesh: Any = None,
        *,
        mesh_dim_names: Sequence[str] | None = None,
    ) -> DeviceMesh:
        """A mesh of groups that are there already.

        Args:
            group: one, or one for each dimension.
            mesh: the grid; needed for several groups, as the names are.

        Raises:
            ValueError: the grid does not fit the groups, or something is missing.
        """
        if isinstance(group, ProcessGroup):
            ranks = list(group.ranks)
            if mesh is not None and _grid(mesh).tolist() != ranks:
                raise ValueError(f"Invalid mesh {mesh} for ProcessGroup with ranks {ranks}")
            groups, grid = [group], _grid(ranks)
        else:
            groups = list(group)
            if not groups:
                raise ValueError("Expects at least one ProcessGroup to be passed")
            if mesh is None:
                raise ValueError("Must pass mesh if passing multiple ProcessGroups")
            if mesh_dim_names is None:
                raise ValueError("Must pass mesh_dim_names if passing multiple ProcessGroups")
            grid = _grid(mesh)
            if grid.ndim != len(groups):
                raise ValueError(
                    "Expects mesh with ndim equal to number of ProcessGroups but got mesh "
                    f"{grid.tolist()} and {len(groups)} ProcessGroups"
                )
        made = DeviceMesh.__new__(DeviceMesh)
        made._fill(device_type, grid, _checked_names(grid.shape, mesh_dim_names), groups)
        for dim, own in enumerate(groups):
            if made._place is not None and _line(grid, made._place, dim) != list(own.ranks):
                raise ValueError(
                    f"dimension {dim} of the mesh has ranks {_line(grid, made._place, dim)}, its "
                    f"ProcessGroup {list(own.ranks)}"
                )
        return made

    # What it consists of --------------------------------------------------------------------------

    @property
    def mesh(self) -> Tensor:
        """The ranks; int32."""
        return from_array(self._grid.astype(i32.numpy))

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return self._grid.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its dimensions."""
        return self._grid.shape

    def size(self, mesh_dim: int | None = None) -> int:
        """The size of a dimension; None: how many ranks there are."""
        return self._grid.size if mesh_dim is None else self._grid.shape[mesh_dim]

    def __getitem__(self, mesh_dim_names: str | tuple[str, ...]) -> DeviceMesh:
        """The part of the mesh, with this rank in it, that has only the named dimensions, in this
        order. Its groups are the same.

        Raises:
            RuntimeError: there are no names.
            KeyError: there is no such name, or it is given twice.
        """
        if self.mesh_dim_names is None:
            raise RuntimeError("Cannot slice a DeviceMesh without mesh_dim_names!")
        names = (mesh_dim_names,) if isinstance(mesh_dim_names, str) else tuple(mesh_dim_names)
        if not set(names) <= set(self.mesh_dim_names) or len(set(names)) != len(names):
            raise KeyError(
                f"Invalid mesh_dim_names {names} specified. Valid mesh_dim_names are "
                f"{self.mesh_dim_names}."
            )
        if names == self.mesh_dim_names:
            return self
        dims = [self.mesh_dim_names.index(name) for name in names]
        others = [dim for dim in range(self.ndim) if dim not in dims]
        # A rank outside of the mesh is given the first part, of which it is no member either.
        place = self._place or (0,) * self.ndim
        part = self._grid.transpose(*others, *dims)[tuple(place[dim] for dim in others)]
        made = DeviceMesh.__new__(DeviceMesh)
        made._fill(self.device_type, part, names, [self._groups[dim] for dim in dims])
        return made

    def get_group(self, mesh_dim: int | str | None = None) -> Any:
        """The group of a dimension, by its number or name; `GroupMember.NON_GROUP_MEMBER` for ranks
        outside of the mesh.

        Args:
            mesh_dim: None: the only one.

        Raises:
            RuntimeError: there are several, and none is named.
            KeyError: there is no such name. IndexError: there is no such number.
        """
        return self._groups[self._dim(mesh_dim)]

    def get_all_groups(self) -> list[Any]:
        """The groups of all dimensions."""
        return list(self._groups)

    # This rank ------------------------------------------------------------------------------------

    def get_rank(self) -> int:
        """This process's rank in the world."""
        return get_rank()

    def get_local_rank(self, mesh_dim: int | str | None = None) -> int:
        """This process's rank in the group of a dimension; -1 outside of the mesh.

        Raises: as `get_group`.
        """
        dim = self._dim(mesh_dim)
        return -1 if self._place is None else self._place[dim]

    def get_coordinate(self) -> tuple[int, ...] | None:
        """This process's place in the grid; None outside of it."""
        return self._place

    def _dim(self, mesh_dim: int | str | None) -> int:
        if mesh_dim is None:
            if self.ndim > 1:
                raise RuntimeError(
                    f"Found the DeviceMesh have {self.ndim} dimensions. Optional kwarg `mesh_dim` "
                    "needs to be specified when device_mesh.ndim > 1."
                )
            return 0
        if isinstance(mesh_dim, str):
            if mesh_dim not in (self.mesh_dim_names or ()):
                raise KeyError(
                    f"Mesh dimension '{mesh_dim}' does not exist. Available mesh dimensions are: "
                    f"mesh_dim_names={self.mesh_dim_names}"
                )
            return (self.mesh_dim_names or ()).index(mesh_dim)
        return range(self.ndim)[mesh_dim]

    # For `parallelize_module` without a mesh ------------------------------------------------------

    def __enter__(self) -> DeviceMesh:
        DeviceMesh._active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        DeviceMesh._active.pop()

    @staticmethod
    def current() -> DeviceMesh:
        """That of the innermost `with` statement.

        Raises:
            RuntimeError: there is none.
        """
        if not DeviceMesh._active:
            raise RuntimeError("No device mesh is currently active!")
        return DeviceMesh._active[-1]

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, DeviceMesh)
            and self.device_type == other.device_type
            and self.mesh_dim_names == other.mesh_dim_names
            and np.array_equal(self._grid, other._grid)
        )

    def __hash__(self) -> int:
        return hash((self.device_type, self.mesh_dim_names, self._grid.tobytes()))

    def __repr__(self) -> str:
        sizes = [str(size) for size in self.shape]
        if self.mesh_dim_names is not None:
            sizes = [f"{n}={s}" for n, s in zip(self.mesh_dim_names, sizes, strict=True)]
        return f"DeviceMesh(({', '.join(sizes)}), '{self.device_type}', {self._grid.tolist()})"


def init_device_mesh(
    device_type: str,
    mesh_shape: Sequence[int],
    *,
    mesh_dim_names: Sequence[str] | None = None,
) -> DeviceMesh:
    """A mesh of the first ranks of the world, in their order. All ranks call this; it joins them,
    if nobody has.

    Args:
        device_type: "cpu" or "cuda".
        mesh_shape: its size in each dimension.
        mesh_dim_names: for choosing dimensions.

    Raises:
        RuntimeError: the device has a number, the names are alike or not as many as the dimensions,
            or there are fewer ranks.
        ValueError: there is no such device.
    """
    if not device_type.isalpha():
        raise RuntimeError(
            f"Device type with index is not supported but got {device_type}. If you maintained a "
            "'braze.device' object, it's recommended to pass in 'device.type'."
        )
    shape = tuple(mesh_shape)
    _checked_names(shape, mesh_dim_names)
    ranks = np.arange(math.prod(shape)).reshape(shape)
    return DeviceMesh(device_type, ranks, mesh_dim_names=mesh_dim_names)


def _grid(mesh: Any) -> Grid:
    """Raises: ValueError if it is no grid of ranks."""
    given = mesh.detach().cpu().numpy() if isinstance(mesh, Tensor) else np.asarray(mesh)
    if given.dtype.kind not in "iu" or not given.size or not given.ndim:
        raise ValueError(f"a mesh is a grid of ranks, given {mesh!r}")
    return given.astype(np.int64)


def _checked_names(shape: Sequence[int], names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    found = tuple(names)
    if len(set(found)) != len(found):
        raise RuntimeError(
            "Each mesh_dim_name must be unique. Found repeated mesh_dim_name in mesh_dim_names "
            f"{found}"
        )
    if len(found) != len(shape):
        raise RuntimeError(
            "mesh_shape and mesh_dim_names should have same length! Found len(mesh_dim_names): "
            f"{len(found)} and len(mesh_shape): {len(shape)}."
        )
    return found


def _line(grid: Grid, place: Sequence[int], dim: int) -> list[int]:
    """The ranks that differ from one in a dimension only."""
    where = tuple(slice(None) if d == dim else i for d, i in enumerate(place))
    return [int(rank) for rank in grid[where]]


def _group_along(grid: Grid, dim: int, backend: str, desc: str) -> Any:
    """This rank's group of a dimension; all ranks of the world make theirs at the same time."""
    world = require_world()
    place = np.argwhere(grid == world.rank())
    own = _line(grid, place[0], dim) if len(place) else []
    if own == list(world.ranks) and world._backend == backend:
        return world
    made = made_group(own, None, backend, desc, None)
    assert own or made is GroupMember.NON_GROUP_MEMBER
    return made
