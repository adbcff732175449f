"""How a block of threads brings a contraction's operand into shared memory.

In: an access and a plan.  Out: C that fetches a stretch of a tile, and C that keeps it in shared
memory, where it lies as ``tile[k][outer]``. Elements that lie side by side are fetched up to 16
bytes at a time, along the sum or across it. What a guard excludes is zero. Tensor cores also take
``tile[outer][k]``, which is how an operand is kept that is fetched along the sum.

From sm_80 on, what is fetched goes to shared memory by itself (`Operand.is_async`), and nothing is
left to keep. Else, and for elements that are converted or are smaller than 4 bytes and not side by
side, it waits in registers until it is kept.

An operand that is fetched along the sum, and is kept across it, has elements of a pack in different
rows of the tile. Copies by themselves therefore take one element each; those in registers
are spread over the banks by `Operand.swizzle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from braze.codegen.cuda.contraction_plan import Plan
from braze.codegen.cuda.contraction_rows import index_of
from braze.codegen.cuda.conversions import cast
from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.grid import is_multiple, spread
from braze.codegen.cuda.indices import fits_int
from braze.codegen.cuda.interning import Interner
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.packs import is_aligned
from braze.codegen.cuda.text import bare
from braze.codegen.cuda.types import from_memory, memory_type, register_type
from braze.ir.cuda_program import ALIGNMENT
from braze.ir.gpu_limits import ASYNC_CAPABILITY
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Access, Bound, Buffer, Contraction

Direction = Literal["along", "across"]
# Bytes of a copy that goes on by itself.
ASYNC_BYTES = (4, 8, 16)
# Elements along the sum that threads side by side copy, if they go to different rows.
TURNED = 8
# Copies of which the addresses are computed at a time.
SOME_COPIES = 4


@dataclass(frozen=True, slots=True)
class _Place:
    """An operand's address over packs of `width` elements.

    Attributes:
        outer, k: variables over its rows (or columns) and the sum, in packs in one direction.
        lane: tells the elements of a pack apart.
    """

    direction: Direction
    width: int
    index: Index
    guard: tuple[Bound, ...]
    outer: LoopVar
    k: LoopVar
    lane: LoopVar


class Operand:
    """Writes the way of one operand.

    Args:
        letter: "a" or "b", with which its names begin.
        outer: the dimensions that it has besides those of the sum and the batch, in order.
        size: of a tile along these; `limit` is how many elements there are.
    """

    def __init__(
        self,
        made: KernelWriter,
        kernel: Contraction,
        plan: Plan,
        letter: str,
        *,
        is_left: bool,
    ) -> None:
        self.made = made
        self.plan = plan
        self.letter = letter
        self.access: Access = kernel.lhs if is_left else kernel.rhs
        self.dims = kernel.dims
        self.outer_dims = plan.roles.rows if is_left else plan.roles.columns
        self.limit = plan.rows if is_left else plan.columns
        self.size = plan.tile.rows if is_left else plan.tile.columns
        self.depth = plan.tile.depth
        self.batch = LoopVar("batch", plan.batch)
        self.dtype = self.access.buffer.dtype
        self.place = self._choose()
        self.threads = plan.tile.threads
        width = 1 if self.is_turned else self.place.width
        nbytes = width * self.dtype.itemsize
        self.is_async = (
            made.target.capability >= ASYNC_CAPABILITY
            and memory_type(self.dtype) == tile_type(plan)
            and nbytes in ASYNC_BYTES
        )
        if self.is_async and self.place.width > width:
            alone = self._place("along", 1)
            assert alone is not None
            self.place = alone
        packs = self.size * self.depth // self.place.width
        self.count = -(-packs // self.threads)
        self.is_partial = packs < self.threads
        self.packs = packs
        self.row_length = self.depth if self.place.direction == "along" else self.size
        self.row_length //= self.place.width
        # From one of a thread's elements along the sum to the next; 0 if it has one.
        self.k_step = 0
        if self.is_async and self.is_turned:
            self._spread()

    @property
    def k_is_last(self) -> bool:
        """Does it lie as ``tile[outer][k]``?"""
        is_tensor = self.plan.tile.method == "tensor"
        return is_tensor and self.place.direction == "along" and self.dtype is self.plan.element

    @property
    def is_turned(self) -> bool:
        """Do elements that lie side by side in memory lie in different rows of the tile?"""
        return self.place.direction == "along" and not self.k_is_last

    @property
    def waiting(self) -> int:
        """Registers in which elements wait that each need an address worked out from numbers of
        several dimensions, or a condition."""
        place = self.place
        is_simple = all(isinstance(atom, LoopVar) for atom, _ in place.index.terms)
        if self.is_async or (is_simple and not place.guard):
            return 0
        return self.count * -(-place.width * self.dtype.itemsize // 4)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows of a tile in shared memory, and how long they are: with a pad against conflicts,
        which rows that are stored and read along do not have."""
        pad = ALIGNMENT // self.plan.element.itemsize
        if self.k_is_last:
            return self.size, self.depth + pad
        if self.plan.tile.method == "plain" and not self.is_turned:
            pad = 0
        return self.depth, self.size + pad

    @property
    def tile_bytes(self) -> int:
        rows, length = self.tile_shape
        return rows * length * self.plan.element.itemsize

    def _spread(self) -> None:
        """Give each warp elements of 4 neighbours in 8 rows of the tile.

        In memory these are 4 times 8 neighbours, which fill sectors; in the tile the pad puts each
        row into banks of its own. (Of numbers of 8 bytes half a warp does the same with 2.)
        """
        self.row_length = TURNED
        groups = max(self.threads // (TURNED * self.size), 1)
        turns = self.depth // (TURNED * groups)
        assert turns * groups * TURNED == self.depth
        self.count //= turns
        self.k_step = TURNED * groups if turns > 1 else 0

    def swizzle(self, eighth: str) -> str:
        """C for what the place in row `k` of the tile is XORed with, given ``k / 8``; "" for
        nothing.

        A warp keeps packs of 4 numbers side by side along the sum, P of them to a row of the
        operand, so that what it stores at once lies in P rows of the tile, 4 apart, and in 32 / P
        places of each. The pad moves every second of these rows by 16 banks, and this the pairs
        apart. It is a multiple of 4, so packs of 4 places stay together.

        Of numbers of 8 bytes a half of the warp keeps 8 packs of 2, which lie in 2 places of 8
        rows, 2 apart. The pad moves these by 8 banks, and this the second four of them by 4.
        """
        if not self.is_turned or self.is_async or self.size % 16:
            return ""
        shape = self.plan.element.itemsize, self.place.width, self.depth
        turns = {(4, 4, 16): 8, (4, 4, 32): 4, (8, 2, 16): 2}
        return f"{eighth} * {turns[shape]}" if shape in turns else ""

    @property
    def buffer(self) -> Buffer:
        return self.access.buffer

    # Choice ---------------------------------------------------------------------------------------

    def _choose(self) -> _Place:
        widest = ALIGNMENT // self.dtype.itemsize
        aligned = self.made.alignment(self.buffer)
        width = widest
        while width > 1:
            for direction in ("along", "across"):
                if width * self.dtype.itemsize <= aligned:
                    place = self._place(direction, width)  # type: ignore[arg-type]
                    if place is not None:
                        return place
            width //= 2
        along = self._place("along", 1)
        across = self._place("across", 1)
        assert along is not None and across is not None
        step = across.index.coefficient(across.outer)
        return across if abs(step) == 1 or along.index.coefficient(along.k) != 1 else along

    def _place(self, direction: Direction, width: int) -> _Place | None:
        """The address in packs along a direction; None if elements do not lie side by side."""
        inner, limit = self.plan.inner, self.limit
        size = self.depth if direction == "along" else self.size
        extent = inner if direction == "along" else limit
        if not is_multiple(extent, width) or size % width:
            return None
        lane = LoopVar("l", width)
        k = LoopVar("k", inner // width if direction == "along" else inner)
        outer = LoopVar("outer", limit // width if direction == "across" else limit)
        wide = Index.of(k) * width + Index.of(lane)
        k_index = wide if direction == "along" else Index.of(k)
        wide = Index.of(outer) * width + Index.of(lane)
        outer_index = wide if direction == "across" else Index.of(outer)
        replacements = {
            **spread(k_index, list(self.plan.roles.inner)),
            **spread(outer_index, list(self.outer_dims)),
            **spread(Index.of(self.batch), list(self.plan.roles.batch)),
        }
        rewriting = Interner().rewriting(replacements)
        index = rewriting.index(index_of(self.access, self.dims))
        guard = rewriting.bounds(self.access.guard)
        if width > 1:
            hidden = {v for atom, _ in index.terms if atom != lane for v in _variables(atom)}
            hidden |= {v for bound in guard for v in bound.index.variables()}
            if index.coefficient(lane) != 1 or lane in hidden:
                return None
            if not is_aligned(index, lane, width):
                return None
        return _Place(direction, width, index, guard, outer, k, lane)

    # Code -----------------------------------------------------------------------------------------

    @property
    def pack(self) -> str:
        self.made.use("Pack")
        return f"Pack<{memory_type(self.dtype)}, {self.place.width}>"

    def declare(self, emitter: Expressions, first: str) -> None:
        """Which elements this thread fetches, and where its rows begin.

        Args:
            emitter: knows the batch's number.
            first: the number of the tile's first row or column.
        """
        w, x, place = self.made.writer, self.letter, self.place
        fast, slow = f"threadIdx.x % {self.row_length}", f"threadIdx.x / {self.row_length}"
        step = self.threads // self.row_length
        self.step = max(step, 1)
        is_along = place.direction == "along"
        if self.k_is_last and self.row_length == 4:
            # Eight threads store 16 bytes each at once, of two rows: with the pad, rows that are 4
            # apart have no bank in common.
            slow = "threadIdx.x / 32 * 8 + threadIdx.x / 4 % 2 * 4 + threadIdx.x / 8 % 4"
        elif self.threads > self.row_length * self.size and self.is_async and self.is_turned:
            fast += f" + threadIdx.x / {self.row_length * self.size} * {self.row_length}"
            slow += f" % {self.size}"
        w.line(f"const int {x}_k = {fast if is_along else slow};")
        w.line(f"const int {x}_outer = {slow if is_along else fast};")
        if not self.is_async:
            w.line(f"{self.pack} {x}_next[{self.count}];")
        index_type = "int"
        self.parts = self._split(place.index)
        self.bounds = [(bound, self._split(bound.index)) for bound in place.guard]
        names = [f"{x}_start", *(f"{x}_bound{n}" for n in range(len(self.bounds)))]
        sums = [self.parts[0], *(outer for _, (outer, _) in self.bounds)]
        if not fits_int(place.index):
            index_type = "long long"
        many = f"[{self.count}]" if is_along else ""
        types = [index_type, *("int" for _ in self.bounds)]
        for name, type in zip(names, types, strict=True):
            w.line(f"{type} {name}{many};")
        limit = self.limit // place.width if not is_along else self.limit
        tile = f"{first} / {place.width}" if not is_along and place.width > 1 else first

        def starts(at: str, shift: str) -> None:
            number = f"{tile} + {x}_outer{shift}"
            if not is_multiple(self.limit, self.size):
                number = f"min({number}, {self.made.number(limit - 1)})"
            w.line(f"const int outer = {number};")
            inner = emitter.fork({place.outer: "outer"})
            for name, index, type in zip(names, sums, types, strict=True):
                text = inner.indices.text(index, is_long=True if type != "int" else None)
                w.line(f"{name}{at} = {text};")

        if is_along:
            with w.unrolled("i", self.count):
                starts("[i]", f" + {self.step} * i" if self.count > 1 else "")
        else:
            with w.block():
                starts("", "")

    def _split(self, index: Index) -> tuple[Index, Index]:
        """What of an index does not depend on the sum's variable, without the lane, and the
        rest."""
        k, lane = self.place.k, self.place.lane
        inner = tuple(t for t in index.terms if k in _variables(t[0]))
        outer = tuple(t for t in index.terms if t not in inner and t[0] != lane)
        return Index(outer, index.constant), Index(inner, 0)

    def fetch(self, emitter: Expressions, end: str | None) -> None:
        """Load what this thread brings of the stretch that begins at `k0`, or have it copied to
        ``tile[to]``.

        Args:
            end: where the sum's part ends, if a stretch may go beyond.
        """
        w, x, place = self.made.writer, self.letter, self.place
        is_along = place.direction == "along"
        start = f"k0 / {place.width}" if is_along and place.width > 1 else "k0"
        limit = f"{end} / {place.width}" if end and is_along and place.width > 1 else end
        shift = f" + {self.step} * i" if self.count > 1 else ""

        def load(k: str, at: str) -> None:
            """Those of which `k` is the number along the sum, with the `i` of the loop around."""
            conditions = [f"k < {limit}"] if limit else []
            conditions += checks
            if self.is_async:
                self._copy(k, f"{x}_start{at}{offset}", conditions)
            else:
                self._load(f"{x}_start{at}{offset}", conditions)

        if not is_along:
            # Copies keep nothing in registers, so they need not be written out, which takes some.
            some = SOME_COPIES if self.is_async else None
            with w.unrolled("i", self.count, some):
                w.line(f"const int k = {start} + {x}_k{shift};")
                offset, checks = self._inner(emitter.fork({place.k: "k"}), "")
                load(f"{x}_k{shift}", "")
            return
        with ExitStack() as around:
            number = f"{x}_k"
            if self.k_step:
                turns = self.depth // self.k_step
                around.enter_context(w.unrolled("h", turns))
                number += f" + {self.k_step} * h"
            else:
                around.enter_context(w.block())
            w.line(f"const int k = {start} + {number};")
            offset, checks = self._inner(emitter.fork({place.k: "k"}), "[i]")
            with w.unrolled("i", self.count):
                load(number, "[i]")

    def _inner(self, emitter: Expressions, at: str) -> tuple[str, list[str]]:
        """What the sum's variable adds to the address, and the conditions of the guards."""
        w, x = self.made.writer, self.letter
        checks: list[str] = []
        inner = self.parts[1]
        offset = ""
        if inner.terms:
            offset = f" + {emitter.index(inner)}"
        for place, (bound, (_, rest)) in enumerate(self.bounds):
            value = f"{x}_bound{place}{at}"
            if rest.terms:
                name = w.fresh("g")
                w.line(f"const int {name} = {emitter.index(rest)};")
                value = f"{value} + {name}"
            low, high = bound.index.span
            number = self.made.number
            checks += [f"{number(bound.low)} <= {value}"] if bound.low > low else []
            checks += [f"{value} < {number(bound.high)}"] if bound.high <= high else []
        return offset, checks

    def _copy(self, k: str, place: str, conditions: Sequence[str]) -> None:
        w, x = self.made.writer, self.letter
        self.made.use("copy_async")
        width = self.place.width
        shift = f" + {self.step} * i" if self.count > 1 and self.place.direction == "along" else ""
        outer = f"{x}_outer{shift}"
        if self.k_is_last:
            to = f"{x}_tile[to][{outer}] + {_times(width, k)}"
        else:
            to = f"{x}_tile[to][{k}] + {_times(width, outer)}"
        wanted = f", {' && '.join(conditions)}" if conditions else ""
        nbytes = width * self.dtype.itemsize
        pointer = self.made.pointer(self.buffer)
        w.line(f"{self._partial}copy_async<{nbytes}>({to}, {pointer} + {place}{wanted});")

    def _load(self, place: str, conditions: Sequence[str]) -> None:
        w, x = self.made.writer, self.letter
        wanted = [f"threadIdx.x < {self.packs}"] if self.is_partial else []
        wanted += conditions
        load = f"load_pack<{self.place.width}>({self.made.pointer(self.buffer)} + {place})"
        if wanted:
            w.line(f"{x}_next[i] = {self.pack}{{}};")
            w.line(f"if ({' && '.join(wanted)}) {x}_next[i] = {load};")
        else:
            w.line(f"{x}_next[i] = {load};")

    @property
    def _partial(self) -> str:
        return f"if (threadIdx.x < {self.packs}) " if self.is_partial else ""

    def keep(self) -> None:
        """Put what was fetched into ``tile[to]`` in shared memory."""
        if self.is_async:
            return
        w, x, place = self.made.writer, self.letter, self.place
        element = self.plan.element
        partial = self._partial
        is_along = place.direction == "along"
        tile = f"{x}_tile[to]"
        shift = f" + {self.step} * i" if self.count > 1 else ""
        with w.unrolled("i", self.count):
            if self.k_is_last:
                at = f"{tile}[{x}_outer{shift}] + {place.width} * {x}_k"
                w.line(f"{partial}store_pack({at}, {x}_next[i]);")
                return
            if not is_along and self.dtype is element and place.width > 1:
                at = f"{tile}[{x}_k{shift}] + {place.width} * {x}_outer"
                w.line(f"{partial}store_pack({at}, {x}_next[i]);")
                return
            with w.unrolled("l", place.width):
                value = f"{x}_next[i].at[l]"
                if self.dtype is not element:
                    value = cast(from_memory(value, self.dtype), self.dtype, element, self.made.use)
                factor = f"{place.width} * " if place.width > 1 else ""
                if is_along:
                    turn = self.swizzle(f"{x}_k / {max(8 // place.width, 1)}")
                    outer = f"({x}_outer{shift}) ^ ({turn})" if turn else f"{x}_outer{shift}"
                    at = f"[{factor}{x}_k + l][{outer}]"
                else:
                    at = f"[{x}_k{shift}][{factor}{x}_outer + l]"
                w.line(f"{partial}{tile}{at} = {bare(value)};")


def _times(width: int, number: str) -> str:
    if width == 1:
        return number
    return f"{width} * ({number})" if "+" in number else f"{width} * {number}"


def _variables(atom: object) -> set[LoopVar]:
    return Index.of(atom).variables()  # type: ignore[arg-type]


def tile_type(plan: Plan) -> str:
    """Of elements in shared memory: as they lie in memory for tensor cores, else as registers."""
    if plan.tile.method == "tensor":
        return memory_type(plan.element)
    return register_type(plan.element)
