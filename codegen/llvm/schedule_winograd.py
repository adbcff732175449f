"""Convolutions by Winograd's algorithm: whether a contraction is one, and how it is cut up.

In: a `Contraction` and a `Target`.  Out: a `WinogradSchedule`, or None where the form does not
apply.

A contraction is such a convolution if it sums over channels and the two dimensions of a window,
which move operand "image" as two of its rows do, or by s where these move it by one. Then the
image's places fall into s phases, of which each meets a smaller window, one of stride 1; those of
both directions are so many times as many channels: 4x4 windows of stride 2 are 2x2 windows. Where
they move it by d times as much as the rows do, tiles have every d-th place.
Tiles of 4x4 results are the rows of 36 or 25 products, columns are the lanes. A chunk of the work
goes through its tiles in blocks, whose factors and products stay in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from braze.codegen.llvm.contraction_shape import contraction_shape
from braze.codegen.llvm.schedule_contraction import ALIGNMENT, round_up
from braze.codegen.llvm.schedule_parts import (
    CHUNK_CYCLES,
    MAX_CHUNKS,
    even_shares,
    fits_registers,
    parallel_cost,
)
from braze.codegen.llvm.schedule_symbolic import has_symbolic_addresses
from braze.codegen.llvm.winograd import FORMS, RESULTS, Form
from braze.codegen.llvm.winograd_patches import Patches
from braze.ir.dtypes import f32
from braze.ir.index import LoopVar
from braze.ir.loops import Access, Contraction
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

# Below so many channels or columns the maps cost more than the products they save.
_FEWEST = 32
_MOST_ROWS = 12
_MOST_PHASES = 3
# Cycles for a vector of a tile's image, of a tile's results, of a filter; and for what has to be
# gathered to begin with. Most of it goes into 36 lines of the second-level cache, or fewer.
IMAGE_CYCLES, RESULT_CYCLES, _FILTER_CYCLES = 450.0, 400.0, 350.0
GATHERED_IMAGE_CYCLES, _GATHERED_FILTER_CYCLES = 900.0, 575.0
_CYCLES_PRODUCTS = 36
TILE_CYCLES = 40.0
L3_BYTES_PER_CYCLE = 16.0
# Part of the second-level cache for a block, since operands pass by.
NEAR = 0.3
# What must be saved, of an estimate.
WORTH = 0.85


@dataclass(frozen=True, slots=True)
class Axis:
    """A direction in which the window moves.

    Attributes:
        var: of the results. tap: of the window.
        stride: of the image's elements, from one window to the next. other: of the other operand's.
        dilation: places from one of a window's to the next.
        bounds: of each phase: the first place (var + dilation * tap / phases) that is in memory,
            and the one after the last.
    """

    var: LoopVar
    tap: LoopVar
    stride: int
    other: int
    dilation: int
    bounds: tuple[tuple[int, int], ...]

    @property
    def phases(self) -> int:
        return len(self.bounds)

    @property
    def phase_stride(self) -> int:
        """Of the image's elements, from one phase to the next."""
        return self.stride // self.phases

    @property
    def form(self) -> Form:
        return FORMS[self.tap.extent // self.phases]

    @property
    def tiles(self) -> int:
        """A row of them for each place that a dilated window may begin with."""
        return self.dilation * -(-self.var.extent // (self.dilation * RESULTS))


@dataclass(frozen=True, slots=True)
class Common:
    """A dimension of both operands, and its strides in them."""

    var: LoopVar
    image: int
    other: int


class WindowSchedule:
    """What the schedules of convolutions and of gradients have in common.

    Attributes:
        axes: down and across, of one form.
        width, vectors: of a register; registers side by side in a tile of a product.
    """

    axes: tuple[Axis, Axis]
    width: int
    vectors: int

    @property
    def form(self) -> Form:
        return self.axes[0].form

    @property
    def phases(self) -> list[int]:
        """Down and across."""
        return [axis.phases for axis in self.axes]

    @property
    def dilations(self) -> tuple[int, int]:
        return self.axes[0].dilation, self.axes[1].dilation

    @property
    def lanes(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.width


@dataclass(frozen=True, eq=False)
class WinogradSchedule(WindowSchedule):
    """The decisions for one contraction in this form.

    Attributes:
        image, weights: the operands.
        loops: dimensions of both operands and the results.
        images: the other rows, and how many of the image's elements one step skips.
        axes: down and across.
        channel, lane: the inner dimension beside the window's, and the columns. Each phase of
            the image has these channels.
        filters: the weights' strides along these two.
        channel_stride: from one channel of the image to the next.
        width, vectors: of a register; registers side by side in a tile of a product.
        most_rows: that such a tile has room for.
        grid: chunks along image tiles and along panels.
        decided: rows of a tile of a product, and image tiles of a block, where they are not chosen
            for this number of images.
    """

    contraction: Contraction
    target: Target
    image: Access
    weights: Access
    loops: tuple[Common, ...]
    images: tuple[tuple[LoopVar, int], ...]
    axes: tuple[Axis, Axis]
    channel: LoopVar
    lane: LoopVar
    filters: tuple[int, int]
    channel_stride: int
    width: int
    vectors: int
    most_rows: int
    grid: tuple[int, int] = (1, 1)
    decided: tuple[int, int] | None = None

    @property
    def depth(self) -> int:
        """What the products sum over: the channels of all phases."""
        return prod(self.phases) * self.channel.extent

    @property
    def loop_count(self) -> int:
        return prod(loop.var.extent for loop in self.loops)

    @property
    def panels(self) -> int:
        return self.lane.extent // self.lanes

    @property
    def chunk_panels(self) -> int:
        return -(-self.panels // self.grid[1])

    @property
    def tile_extents(self) -> list[int]:
        return [*(var.extent for var, _ in self.images), *(axis.tiles for axis in self.axes)]

    @cached_property
    def tiles(self) -> int:
        return prod(self.tile_extents)

    @property
    def chunks(self) -> int:
        return self.loop_count * self.grid[0] * self.grid[1]

    @property
    def patches(self) -> Patches:
        """Of the image."""
        down, across = self.axes
        return Patches(
            self.image.buffer, "image", self.form, (down.stride, across.stride), self.dilations,
            self.channel, self.channel_stride, self.channel.extent, self.image_product,
        )  # fmt: skip

    @property
    def chunk_tiles(self) -> int:
        return -(-self.tiles // self.grid[0])

    @property
    def rows(self) -> int:
        """Image tiles in a tile of a product."""
        if self.decided is not None:
            return self.decided[0]
        return -(-self.chunk_tiles // -(-self.chunk_tiles // self.most_rows))

    @cached_property
    def block(self) -> int:
        """Image tiles of a block, whose factors and products stay in the second-level cache."""
        if self.decided is not None:
            return self.decided[1]
        each = self.form.products * (self.depth + self.lanes) * f32.itemsize
        most = max(2, int(self.target.l2_bytes * NEAR) // (each * self.rows))
        row_tiles = -(-self.chunk_tiles // self.rows)
        blocks = -(-row_tiles // most)
        return -(-row_tiles // blocks) * self.rows

    @property
    def has_one_block(self) -> bool:
        """Whether a chunk's tiles are one block, so that each panel's filters are read once, and
        may be mapped right before."""
        return not is_symbolic(self.chunk_tiles) and self.chunk_tiles <= self.block

    @property
    def kept_panels(self) -> int:
        """Panels whose filters are in memory at a time."""
        return 1 if self.has_one_block else self.chunk_panels

    # A thread's memory: where what is begins, in elements -----------------------------------------

    @property
    def image_product(self) -> int:
        """From one product's rows to the next one's, among the image's factors."""
        return apart(self.block * self.depth)

    @property
    def filter_product(self) -> int:
        return apart(self.depth * self.lanes)

    @property
    def result_product(self) -> int:
        return apart(self.block * self.lanes)

    @property
    def filter_panel(self) -> int:
        return self.form.products * self.filter_product

    @property
    def scratch_offsets(self) -> tuple[int, int, int, int, int]:
        """Bytes: the image's factors, the filters', sums of products, a tile's image with its
        border, and the end of it all."""
        places = [0]
        products = self.form.products
        for elements in (
            products * self.image_product,
            self.kept_panels * self.filter_panel,
            products * self.result_product,
            products * self.channel.extent,
        ):
            places.append(round_up(places[-1] + elements * f32.itemsize, ALIGNMENT))
        image, filters, results, border, end = places
        return image, filters, results, border, end

    # Costs ----------------------------------------------------------------------------------------

    def cost(self) -> float:
        """Cycles of all chunks: those along panels all map the same images, those along tiles the
        same filters."""
        channels, columns = self.depth, self.lane.extent
        step = max(4.0, self.rows * self.vectors / 2)
        product = channels * step * 1.1 + TILE_CYCLES + 1.5 * self.rows * self.vectors
        row_tiles = -(-self.chunk_tiles // self.rows) * self.grid[0]
        products = self.form.products * product * row_tiles * self.panels
        each = IMAGE_CYCLES if self.channel_stride == 1 else GATHERED_IMAGE_CYCLES
        image = self.tiles * channels / self.width * each * self.grid[1]
        results = self.tiles * columns / self.width * RESULT_CYCLES
        maps = image + results + self._filter_cycles() * self.grid[0]
        return self.loop_count * (products + maps * map_share(self.form))

    def _filter_cycles(self) -> float:
        """Of the map, and of reading its results from memory again for each block."""
        elements = self.depth * self.lane.extent
        each = _FILTER_CYCLES if self.filters[1] == 1 else _GATHERED_FILTER_CYCLES
        size = self.form.products * elements * f32.itemsize
        read = size * -(-self.chunk_tiles // self.block) / L3_BYTES_PER_CYCLE
        near = size <= self.target.l2_bytes // 2
        return each * elements / self.width + (0.0 if near else read)

    def is_better_than(self, cycles: float) -> bool:
        """Whether it is worth while, if another form takes so many cycles."""
        return self.cost() < WORTH * cycles

    def __str__(self) -> str:
        return (
            f"Winograd: {self.form.taps}x{self.form.taps} windows, blocks of {self.block} of "
            f"{self.tiles} tiles; {self.rows} of them x {self.vectors}x{self.width} lanes of "
            f"{self.lane.name}; chunks {self.loop_count}x{'x'.join(map(str, self.grid))}"
        )


def map_share(form: Form) -> float:
    """What a form's maps cost, of what those with most products do."""
    return form.products / _CYCLES_PRODUCTS


def apart(elements: int) -> int:
    """An odd number of cache lines: one of each product is written at a time, which should not all
    want the same place in the cache."""
    line = ALIGNMENT // f32.itemsize
    return (-(-elements // line) | 1) * line


def winograd_schedule(contraction: Contraction, target: Target) -> WinogradSchedule | None:
    """The schedule of this form with its chunks, for a contraction without symbolic numbers."""
    for image, weights in (
        (contraction.lhs, contraction.rhs),
        (contraction.rhs, contraction.lhs),
    ):
        found = _recognised(contraction, image, weights, target)
        if found is not None:
            return _in_chunks(found)
    return None


def symbolic_winograd(contraction: Contraction, target: Target) -> WinogradSchedule | None:
    """The schedule for a contraction of which nothing but the number of images is symbolic, with
    the sample's decisions."""
    dims = tuple(LoopVar(var.name, int(var.extent)) for var in contraction.dims)
    plan = winograd_schedule(replace(contraction, dims=dims), target)
    return None if plan is None else for_other_images(plan, contraction)


def for_other_images(plan: WinogradSchedule, contraction: Contraction) -> WinogradSchedule | None:
    """The schedule for another number of images, which may be symbolic: the same decisions. None if
    anything else is symbolic."""
    own = {var.name: var for var in contraction.dims}
    images = tuple((own[var.name], stride) for var, stride in plan.images)
    others = [var.extent for var in contraction.dims if var not in dict(images)]
    if is_symbolic(*others) or has_symbolic_addresses(contraction_shape(contraction)):
        return None
    decided = (plan.rows, plan.block)
    return replace(plan, contraction=contraction, images=images, decided=decided)


def _recognised(
    contraction: Contraction, image: Access, weights: Access, target: Target
) -> WinogradSchedule | None:
    dims = contraction.dims
    if contraction.dtype is not f32 or image.buffer.dtype is not f32:
        return None
    if not f32.holds(weights.buffer.dtype):
        return None
    if weights.guard or any(var.extent == 0 for var in dims):
        return None
    split = len(dims) - contraction.inner
    every = list(zip(dims, image.strides, weights.strides, strict=True))
    outer = [dim for dim in every[:split] if dim[0].extent > 1]
    loops = tuple(Common(*dim) for dim in outer if dim[1] and dim[2])
    rows = [(v, a) for v, a, b in outer if a and not b]
    columns = [(v, b) for v, a, b in outer if b and not a]
    inner = [dim for dim in every[split:] if dim[0].extent > 1]
    if len(columns) != 1 or len(inner) != 3 or len(rows) + 1 + len(loops) != len(outer):
        return None
    axes = down_and_across((axis_of(v, a, rows, image, b) for v, a, b in inner), image)
    if axes is None:
        return None
    taps = {axis.tap for axis in axes}
    (channel, channel_stride, channel_filter), *_ = (dim for dim in inner if dim[0] not in taps)
    lane, lane_filter = columns[0]
    tile = register_tile(channel, lane, target)
    if tile is None:
        return None
    moving = {axis.var for axis in axes}
    return WinogradSchedule(
        contraction, target, image, weights, loops,
        tuple((var, stride) for var, stride in rows if var not in moving), axes,
        channel, lane, (channel_filter, lane_filter), channel_stride, *tile,
    )  # fmt: skip


def axis_of(
    tap: LoopVar, stride: int, places: list[tuple[LoopVar, int]], image: Access, other: int
) -> Axis | None:
    """The dimension along which one of the window moves, and what is in memory there."""
    found = [
        (dilation, phases, number)
        for number, (_, step) in enumerate(places)
        for phases, dilation in _steps(stride, step)
        if tap.extent in (phases * taps for taps in FORMS)
    ]
    if not found:
        return None
    # A row of an image may be many times as far as a place.
    dilation, phases, number = min(found)
    var = places[number][0]
    bounds = [(0, var.extent + dilation * (tap.extent // phases - 1))] * phases
    for bound in image.guard:
        variables = bound.index.variables()
        if not variables & {var, tap}:
            continue
        if variables != {var, tap} or not bound.index.is_affine:
            return None
        if (bound.index.coefficient(var), bound.index.coefficient(tap)) != (phases, dilation):
            return None
        # Of phase p, this is place * phases + p.
        low, high = bound.low - bound.index.constant, bound.high - bound.index.constant
        bounds = [
            (max(first, -(-(low - p) // phases)), min(end, -(-(high - p) // phases)))
            for p, (first, end) in enumerate(bounds)
        ]
    return Axis(var, tap, stride * phases // dilation, other, dilation, tuple(bounds))


def _steps(stride: int, step: int) -> Iterator[tuple[int, int]]:
    """The phases and the dilation with which a window steps so far where its places step so far."""
    if not stride:
        return
    if step % stride == 0 and 1 <= step // stride <= _MOST_PHASES:
        yield int(step // stride), 1
    elif stride % step == 0 and stride // step > 1:
        yield 1, int(stride // step)


def down_and_across(found: Iterable[Axis | None], image: Access) -> tuple[Axis, Axis] | None:
    """The two directions of a window, if there are two, which are alike, and nothing else says what
    is in memory."""
    axes = [axis for axis in found if axis is not None]
    moving = {axis.var for axis in axes}
    if len(axes) != 2 or len(moving) != 2 or axes[0].form != axes[1].form:
        return None
    guarded = {v for bound in image.guard for v in bound.index.variables()}
    if guarded - moving - {axis.tap for axis in axes}:
        return None
    down, across = sorted(axes, key=lambda axis: -abs(axis.stride))
    return down, across


def register_tile(channel: LoopVar, lane: LoopVar, target: Target) -> tuple[int, int, int] | None:
    """Lanes of a vector, vectors and most rows of a tile of a product; None for dimensions that are
    too small or have no whole vectors."""
    width = target.vector_lanes(f32.itemsize)
    if min(channel.extent, lane.extent) < max(_FEWEST, width):
        return None
    if channel.extent % width or lane.extent % width:
        return None
    vectors = 2 if lane.extent % (2 * width) == 0 else 1
    fitting = [r for r in range(1, _MOST_ROWS + 1) if fits_registers(r, vectors, None, target)]
    return width, vectors, max(fitting)


def _in_chunks(plan: WinogradSchedule) -> WinogradSchedule:
    wanted = min(MAX_CHUNKS, max(1.0, plan.cost() / CHUNK_CYCLES)) / plan.loop_count
    choices = [replace(plan, grid=grid) for grid in _grids(plan, wanted)]
    return min(choices, key=lambda choice: parallel_cost(choice.cost(), choice.chunks))


def _grids(plan: WinogradSchedule, wanted: float) -> Iterator[tuple[int, int]]:
    for rows in even_shares(-(-plan.tiles // plan.most_rows), wanted):
        for columns in even_shares(plan.panels, wanted / rows):
            yield rows, columns
