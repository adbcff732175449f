"""Gradients for filters by Winograd's algorithm: whether a contraction is one, and how it is cut
up.

In: a `Contraction` and a `Target`.  Out: a `WinogradGradientSchedule`, or None where the form does
not apply.

A contraction is such a gradient if it sums over the places of two dimensions, and over images, and
if two of its rows move operand "image" as these do, by two or three places each, or in phases of so
many, as `schedule_winograd` says. The third row are the image's channels, columns are the channels
of operand "gradient". A chunk of the work has some of both, for one phase, and goes through all
tiles in blocks, adding to 36 or 25 matrices of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from braze.codegen.llvm.schedule_contraction import ALIGNMENT, round_up
from braze.codegen.llvm.schedule_parts import CHUNK_CYCLES, MAX_CHUNKS, parallel_cost
from braze.codegen.llvm.schedule_winograd import (
    GATHERED_IMAGE_CYCLES,
    IMAGE_CYCLES,
    L3_BYTES_PER_CYCLE,
    NEAR,
    RESULT_CYCLES,
    TILE_CYCLES,
    WORTH,
    Axis,
    Common,
    WindowSchedule,
    apart,
    axis_of,
    down_and_across,
    map_share,
    register_tile,
)
from braze.codegen.llvm.winograd_patches import Patches
from braze.ir.dtypes import f32
from braze.ir.index import LoopVar
from braze.ir.loops import Access, Contraction
from braze.ir.target import Target

_FEWEST_TILES = 32
# What the results' stores cost beyond, where they lie apart.
_SCATTERED_CYCLES = 200.0


@dataclass(frozen=True, eq=False)
class WinogradGradientSchedule(WindowSchedule):
    """The decisions for one contraction in this form.

    Attributes:
        image, gradient: the operands.
        loops, images: outer and inner dimensions of both, but for the places.
        axes: down and across; their variables are those of the places.
        channel, lane: the rows and the columns, and their strides in the operands.
        width, vectors: of a register; registers side by side in a tile of sums.
        most_rows: that such a tile has room for.
        grid: parts of the channels and of the columns.
    """

    contraction: Contraction
    target: Target
    image: Access
    gradient: Access
    loops: tuple[Common, ...]
    images: tuple[Common, ...]
    axes: tuple[Axis, Axis]
    channel: LoopVar
    lane: LoopVar
    channel_stride: int
    lane_stride: int
    width: int
    vectors: int
    most_rows: int
    grid: tuple[int, int] = (1, 1)

    @property
    def channels(self) -> int:
        """Of a chunk."""
        return self.channel.extent // self.grid[0]

    @property
    def columns(self) -> int:
        """Of a chunk."""
        return self.lane.extent // self.grid[1]

    @property
    def panels(self) -> int:
        """Of a chunk."""
        return self.columns // self.lanes

    @property
    def loop_count(self) -> int:
        """Loops around it all, those over phases among them."""
        return prod(loop.var.extent for loop in self.loops) * prod(self.phases)

    @property
    def chunks(self) -> int:
        return self.loop_count * self.grid[0] * self.grid[1]

    @cached_property
    def rows(self) -> int:
        """Channels in a tile of sums."""
        return max(n for n in range(1, self.most_rows + 1) if self.channels % n == 0)

    @property
    def tile_extents(self) -> list[int]:
        return [*(image.var.extent for image in self.images), *(axis.tiles for axis in self.axes)]

    @cached_property
    def tiles(self) -> int:
        return prod(self.tile_extents)

    @property
    def blocks(self) -> int:
        return -(-self.tiles // self.block)

    @cached_property
    def block(self) -> int:
        """Image tiles of a block: as many as fit the second-level cache, and enough of them for
        the sums to be read and written less often than the factors."""
        both = self.channels + self.columns
        near = int(self.target.l2_bytes * NEAR) // (self.form.products * both * f32.itemsize)
        most = max(near, _FEWEST_TILES, self.channels * self.columns // both)
        return -(-self.tiles // -(-self.tiles // most))

    # A thread's memory, in elements ---------------------------------------------------------------

    @property
    def image_row(self) -> int:
        """From one tile's factors to the next one's."""
        return apart(self.channels)

    @property
    def gradient_row(self) -> int:
        return apart(self.columns)

    @property
    def image_product(self) -> int:
        """From one product's factors to the next one's."""
        return apart(self.block * self.image_row)

    @property
    def gradient_product(self) -> int:
        return apart(self.block * self.gradient_row)

    @property
    def sums_product(self) -> int:
        return apart(self.channels * self.columns)

    @property
    def scratch_offsets(self) -> tuple[int, ...]:
        """Bytes: the image's factors, the gradient's, sums of products, a patch of either with its
        border, and the end of it all."""
        places = [0]
        products = self.form.products
        for elements in (
            products * self.image_product,
            products * self.gradient_product,
            products * self.sums_product,
            products * max(self.channels, self.columns),
        ):
            places.append(round_up(places[-1] + elements * f32.itemsize, ALIGNMENT))
        return tuple(places)

    @property
    def image_patches(self) -> Patches:
        down, across = self.axes
        return Patches(
            self.image.buffer, "image", self.form, (down.stride, across.stride), self.dilations,
            self.channel, self.channel_stride, self.channels, self.image_product,
        )  # fmt: skip

    @property
    def gradient_patches(self) -> Patches:
        down, across = self.axes
        return Patches(
            self.gradient.buffer, "gradient", self.form, (down.other, across.other), self.dilations,
            self.lane, self.lane_stride, self.columns, self.gradient_product,
        )  # fmt: skip

    # Costs ----------------------------------------------------------------------------------------

    def cost(self) -> float:
        """Cycles of all chunks: those along columns all map the same images, those along channels
        the same gradients."""
        channels, columns = self.channel.extent, self.lane.extent
        step = max(4.0, self.rows * self.vectors / 2)
        tiles = self.block * self.blocks
        each = tiles * step * 1.1 + self.blocks * (TILE_CYCLES + 2 * self.rows * self.vectors)
        products = self.form.products * each * (channels / self.rows) * (columns / self.lanes)
        images = tiles * channels / self.width * _patch(self.channel_stride) * self.grid[1]
        gradients = tiles * columns / self.width * _patch(self.lane_stride) * self.grid[0]
        result = RESULT_CYCLES
        if any(store.index.coefficient(self.lane) != 1 for store in self.contraction.stores):
            result += _SCATTERED_CYCLES
        results = channels * columns / self.width * result
        sums = self.form.products * channels * columns * f32.itemsize
        near = sums // (self.grid[0] * self.grid[1]) <= self.target.l2_bytes // 2
        carried = 0.0 if near else 2 * sums * self.blocks / L3_BYTES_PER_CYCLE
        maps = map_share(self.form) * (images + gradients + results)
        return self.loop_count * (products + maps + carried)

    def is_better_than(self, cycles: float) -> bool:
        """Whether it is worth while, if another form takes so many cycles."""
        return self.cost() < WORTH * cycles

    def __str__(self) -> str:
        return (
            f"Winograd, for {self.form.taps}x{self.form.taps} filters: {self.blocks} blocks of "
            f"{self.block} tiles; {self.rows} rows of {self.channel.name} x {self.vectors}x"
            f"{self.width} lanes of {self.lane.name}; chunks "
            f"{self.loop_count}x{self.grid[0]}x{self.grid[1]}"
        )


def _patch(stride: int) -> float:
    return IMAGE_CYCLES if stride == 1 else GATHERED_IMAGE_CYCLES


def winograd_gradient_schedule(
    contraction: Contraction, target: Target
) -> WinogradGradientSchedule | None:
    """The schedule of this form with its chunks, for a contraction without symbolic numbers."""
    for image, gradient in (
        (contraction.lhs, contraction.rhs),
        (contraction.rhs, contraction.lhs),
    ):
        found = _recognised(contraction, image, gradient, target)
        if found is not None:
            choices = [replace(found, grid=grid) for grid in _grids(found)]
            return min(choices, key=lambda choice: parallel_cost(choice.cost(), choice.chunks))
    return None


def _recognised(
    contraction: Contraction, image: Access, gradient: Access, target: Target
) -> WinogradGradientSchedule | None:
    dims = contraction.dims
    operands = (contraction.dtype, image.buffer.dtype, gradient.buffer.dtype)
    if any(dtype is not f32 for dtype in operands):
        return None
    if gradient.guard or any(var.extent == 0 for var in dims):
        return None
    split = len(dims) - contraction.inner
    every = list(zip(dims, image.strides, gradient.strides, strict=True))
    outer = [dim for dim in every[:split] if dim[0].extent > 1]
    inner = [dim for dim in every[split:] if dim[0].extent > 1]
    loops = [Common(*dim) for dim in outer if dim[1] and dim[2]]
    rows = [(v, a) for v, a, b in outer if a and not b]
    columns = [(v, b) for v, a, b in outer if b and not a]
    if len(rows) != 3 or len(columns) != 1 or len(loops) + 4 != len(outer):
        return None
    if any(not a or not b for _, a, b in inner):
        return None
    places, strides = [(v, a) for v, a, _ in inner], {v: b for v, _, b in inner}
    found: list[Axis] = []
    for tap, stride in rows:
        axis = axis_of(tap, stride, places, image, 0)
        if axis is not None:
            found.append(replace(axis, other=strides[axis.var]))
    axes = down_and_across(found, image)
    if axes is None:
        return None
    moving, taps = {axis.var for axis in axes}, {axis.tap for axis in axes}
    ((channel, channel_stride),) = ((v, a) for v, a in rows if v not in taps)
    ((lane, lane_stride),) = columns
    tile = register_tile(channel, lane, target)
    if tile is None:
        return None
    return WinogradGradientSchedule(
        contraction, target, image, gradient, tuple(loops),
        tuple(Common(*dim) for dim in inner if dim[0] not in moving), axes,
        channel, lane, channel_stride, lane_stride, *tile,
    )  # fmt: skip


def _grids(plan: WinogradGradientSchedule) -> Iterator[tuple[int, int]]:
    wanted = min(MAX_CHUNKS, max(1.0, plan.cost() / CHUNK_CYCLES)) / plan.loop_count
    channels, panels = plan.channel.extent // plan.width, plan.panels
    for rows in range(1, channels + 1):
        for columns in range(1, panels + 1):
            if channels % rows == panels % columns == 0 and rows * columns <= max(1.0, wanted):
                yield rows, columns
