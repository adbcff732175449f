"""How a contraction is cut into tiles: one for each block of threads, and a piece of it for each
thread.

In: a `Contraction` and a target.  Out: a `Plan`, chosen by an estimate of the time that depends on
sizes alone; None where sums without tiles do better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from braze.codegen.cuda.grid import extent, is_multiple, quotient
from braze.ir.cuda_program import ALIGNMENT
from braze.ir.dtypes import DType, bf16, f16, f32
from braze.ir.gpu_limits import ASYNC_CAPABILITY, limits_of
from braze.ir.index import LoopVar
from braze.ir.loops import Access, Contraction, Load
from braze.ir.symint import is_symbolic
from braze.ir.target import TF32, TF32_CAPABILITY, Target

# Multiprocessors of a large GPU, and what each does in a cycle: multiplications, bytes moved to and
# from memory, and bytes fetched from the second-level cache.
PROCESSORS = 132
PRODUCTS = 128.0
TENSOR_PRODUCTS = 1024.0
BYTES = 15.0
CACHE_BYTES = 24.0
LAUNCH_CYCLES = 5000.0
# What it costs to fetch an element alone, with an address and conditions of its own, and the bytes
# that a single number moves.
ALONE_CYCLES = 0.1
SECTOR = 32
# A sum is cut into parts of no less than this.
SHORTEST_PART = 128
PARTS = (*range(2, 17), 20, 24, 32, 48, 64)
# With fewer results in a row or column than this, tiles are mostly empty.
FEWEST = 8
SHORTEST_SUM = 4

Method = Literal["plain", "tensor"]
Orders = tuple[bool, bool]
T = TypeVar("T")


class Decide(Protocol):
    """Decides something by sizes, once for all sizes that the code is for."""

    def __call__(self, make: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Tile:
    """What a block computes.

    Attributes:
        rows, columns: of the results of a block.
        depth: products of each sum that lie in shared memory at a time.
        thread_rows, thread_columns: results of a thread; of a warp for tensor cores.
        efficiency: share of the multiplications that are possible, about.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    efficiency: float
    method: Method = "plain"

    @property
    def threads(self) -> int:
        pieces = (self.rows // self.thread_rows) * (self.columns // self.thread_columns)
        return pieces * (32 if self.method == "tensor" else 1)


PLAIN = (
    Tile(128, 128, 16, 8, 8, 0.85),
    Tile(128, 64, 16, 8, 4, 0.7),
    Tile(64, 128, 16, 4, 8, 0.7),
    Tile(64, 64, 16, 4, 4, 0.5),
    Tile(256, 16, 16, 4, 4, 0.45),
    Tile(16, 256, 16, 4, 4, 0.45),
    Tile(128, 32, 16, 4, 4, 0.5),
    Tile(32, 128, 16, 4, 4, 0.5),
    Tile(64, 32, 16, 4, 4, 0.45),
    Tile(32, 64, 16, 4, 4, 0.45),
    Tile(64, 16, 32, 4, 2, 0.3),
    Tile(16, 64, 32, 2, 4, 0.3),
    Tile(32, 32, 32, 2, 2, 0.25),
    Tile(128, 8, 16, 4, 2, 0.3),
    Tile(8, 128, 16, 2, 4, 0.3),
)
WIDE = (Tile(64, 64, 16, 4, 4, 0.5), Tile(32, 32, 16, 2, 2, 0.25))  # elements of 8 bytes
TENSOR = (
    Tile(128, 128, 32, 64, 32, 0.55, "tensor"),
    Tile(64, 64, 32, 32, 32, 0.4, "tensor"),
    Tile(128, 32, 32, 32, 32, 0.3, "tensor"),
    Tile(32, 128, 32, 32, 32, 0.3, "tensor"),
)
TENSOR_TF32 = tuple(replace(tile, depth=16, efficiency=tile.efficiency / 2) for tile in TENSOR)


@dataclass(frozen=True, slots=True)
class Roles:
    """A contraction's dimensions by what reads them; see `Contraction`."""

    batch: tuple[LoopVar, ...]
    rows: tuple[LoopVar, ...]
    columns: tuple[LoopVar, ...]
    inner: tuple[LoopVar, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a contraction is shared out among blocks.

    Attributes:
        batch, rows, columns, inner: how many points the dimensions of each role have together.
        parts: into how many each sum is cut.
        part: products of each sum that one block adds up; a multiple of the tile's depth.
        element: what lies in shared memory.
    """

    roles: Roles
    tile: Tile
    batch: int
    rows: int
    columns: int
    inner: int
    parts: int
    part: int
    element: DType

    @property
    def row_tiles(self) -> int:
        return quotient(self.rows, self.tile.rows)

    @property
    def column_tiles(self) -> int:
        return quotient(self.columns, self.tile.columns)

    @property
    def blocks(self) -> int:
        return self.row_tiles * self.column_tiles * self.batch * self.parts


def roles_of(kernel: Contraction) -> Roles:
    """Which dimensions are read by both operands, by one, or summed over."""
    outer = len(kernel.dims) - kernel.inner
    groups: dict[str, list[LoopVar]] = {"batch": [], "rows": [], "columns": []}
    guarded = [
        {v for bound in access.guard for v in bound.index.variables()}
        for access in (kernel.lhs, kernel.rhs)
    ]
    for number, variable in enumerate(kernel.dims[:outer]):
        of_left = kernel.lhs.strides[number] != 0 or variable in guarded[0]
        of_right = kernel.rhs.strides[number] != 0 or variable in guarded[1]
        role = "batch" if of_left and of_right else "columns" if of_right else "rows"
        groups[role].append(variable)
    batch, rows, columns = (tuple(groups[role]) for role in ("batch", "rows", "columns"))
    return Roles(batch, rows, columns, tuple(kernel.dims[outer:]))


def neighbours_last(
    own: tuple[LoopVar, ...], access: Access, dims: Sequence[LoopVar]
) -> tuple[LoopVar, ...]:
    """The dimensions that one operand alone has, with the one last along which packs of its
    elements lie side by side, if there is one.

    So it is with the gradient for a convolution's weight, which has its taps last: of the image,
    neighbours are channels.
    """
    pack = ALIGNMENT // access.buffer.dtype.itemsize
    strides = dict(zip(dims, access.strides, strict=True))
    side_by_side = [v for v in own if strides[v] == 1 and is_multiple(v.extent, pack)]
    if len(side_by_side) != 1:
        return own
    (last,) = side_by_side
    others = [stride for v, stride in strides.items() if v is not last]
    if not all(is_multiple(number, pack) for number in (access.offset, *others)):
        return own
    return (*(v for v in own if v is not last), last)


def _orders(kernel: Contraction, target: Target, tile: Tile, inner: int) -> Orders:
    """Whether it pays to have rows, and columns, in the order in which their operand lies.

    It is fetched in packs then. But neighbouring columns may be no neighbours in memory any more,
    so that each result, and what the epilogue reads beside it, is in a sector of its own.
    """
    if tile.method != "tensor" or target.capability < ASYNC_CAPABILITY:
        return False, False
    roles = roles_of(kernel)
    loads = {e for store in kernel.stores for e in store.value.walk() if isinstance(e, Load)}
    places = [store.index for store in kernel.stores] + [load.index for load in loads]

    def pays(own: tuple[LoopVar, ...], access: Access, others: int) -> bool:
        new = neighbours_last(own, access, kernel.dims)
        if new == own:
            return False
        before, after = (
            sum(place.coefficient(order[-1]) == 1 for place in places) for order in (own, new)
        )
        return inner * ALONE_CYCLES > others * max(before - after, 0) * SECTOR / CACHE_BYTES

    return (
        pays(roles.rows, kernel.lhs, tile.columns),
        pays(roles.columns, kernel.rhs, tile.rows),
    )


def turned(kernel: Contraction) -> Contraction:
    """The same sum with its operands exchanged, if so neighbouring results are columns."""
    roles = roles_of(kernel)
    votes = 0
    for store in kernel.stores:
        for variable in kernel.dims:
            if store.index.coefficient(variable) == 1:
                votes += (variable in roles.rows) - (variable in roles.columns)
    return replace(kernel, lhs=kernel.rhs, rhs=kernel.lhs) if votes > 0 else kernel


def plan_of(kernel: Contraction, target: Target, decide: Decide) -> Plan | None:
    """The plan of a contraction; None for one that does better without tiles.

    Args:
        decide: keeps what is decided by sizes.
    """
    found = decide(lambda: _best(kernel, target))
    return None if found is None else _plan(kernel, target, *found)


def _best(kernel: Contraction, target: Target) -> tuple[Tile, int, Orders] | None:
    """The tile, into how many parts a sum is cut, and whether rows and columns come in the order
    of what is read."""
    roles = roles_of(kernel)
    rows, columns, inner = (extent(list(r)) for r in (roles.rows, roles.columns, roles.inner))
    if min(rows, columns) < FEWEST or inner < SHORTEST_SUM:
        return None
    tiles, _ = tiles_for(kernel, target)
    choices = [(tile, parts) for tile in tiles for parts in _parts(inner, tile)]
    tile, parts = min(choices, key=lambda choice: _cycles(_plan(kernel, target, *choice)))
    return tile, parts, _orders(kernel, target, tile, inner)


def _plan(
    kernel: Contraction, target: Target, tile: Tile, parts: int, orders: Orders = (False, False)
) -> Plan:
    roles = roles_of(kernel)
    if orders[0]:
        roles = replace(roles, rows=neighbours_last(roles.rows, kernel.lhs, kernel.dims))
    if orders[1]:
        roles = replace(roles, columns=neighbours_last(roles.columns, kernel.rhs, kernel.dims))
    batch, rows, columns, inner = (
        extent(list(r)) for r in (roles.batch, roles.rows, roles.columns, roles.inner)
    )
    part = quotient(inner, parts * tile.depth) * tile.depth
    if not is_symbolic(inner):
        parts = quotient(inner, part)  # of other sums the last parts may be empty
    _, element = tiles_for(kernel, target)
    return Plan(roles, tile, batch, rows, columns, inner, parts, part, element)


def tiles_for(kernel: Contraction, target: Target) -> tuple[Sequence[Tile], DType]:
    """The tiles to choose from, and the dtype of what they multiply."""
    left, right = kernel.lhs.buffer.dtype, kernel.rhs.buffer.dtype
    tensor_dtypes = (f16, bf16) if target.capability >= 80 else (f16,)
    if kernel.dtype is f32 and left is right and left in tensor_dtypes:
        return TENSOR, left
    if kernel.dtype is f32 and left is right is f32 and TF32 in target.features:
        if target.capability >= TF32_CAPABILITY:
            return TENSOR_TF32, f32
    if kernel.dtype.itemsize == 8:
        return WIDE, kernel.dtype
    return PLAIN, kernel.dtype


# Stretches of a sum that lie in shared memory at a time, or are on their way there.
MOST_STAGES = 4
# So many threads of a multiprocessor should find room in its shared memory. Those with many results
# each are fewer, for want of registers.
RESIDENT, RESIDENT_LARGE = 1024, 512
MANY_RESULTS = 64


def stages(plan: Plan, target: Target, nbytes: int) -> int:
    """How many tiles there are for each operand.

    Args:
        nbytes: of one for each, together.
    """
    tile, limits = plan.tile, limits_of(target.capability)
    is_large = tile.rows * tile.columns >= MANY_RESULTS * tile.threads or tile.method == "tensor"
    blocks = (RESIDENT_LARGE if is_large else RESIDENT) // tile.threads
    room = limits.shared_bytes // blocks - limits.reserved_bytes
    return max(2, min(MOST_STAGES, room // nbytes))


def _parts(inner: int, tile: Tile) -> Iterator[int]:
    yield 1
    for parts in PARTS:
        if inner // parts >= max(SHORTEST_PART, 2 * tile.depth):
            yield parts


def _cycles(plan: Plan) -> float:
    """About how long it takes."""
    tile = plan.tile
    rate = TENSOR_PRODUCTS if tile.method == "tensor" else PRODUCTS
    rounds = -(-plan.blocks // PROCESSORS)
    products = tile.rows * tile.columns * plan.part / (rate * tile.efficiency)
    fetched = (tile.rows + tile.columns) * plan.part * plan.element.itemsize / CACHE_BYTES
    time = rounds * max(products, fetched)
    if plan.parts > 1:
        moved = 8.0 * plan.parts * plan.batch * plan.rows * plan.columns
        time += moved / (PROCESSORS * BYTES) + LAUNCH_CYCLES
    return time
