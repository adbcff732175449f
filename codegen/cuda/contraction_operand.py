"""How a block of threads brings a contraction's operand into shared memory.

In: an access and a plan.  Out: C that fetches the next stretch of a tile into registers, and C that
keeps it in shared memory, where it lies as ``tile[k][outer]``. Elements that lie side by side are
fetched up to 16 bytes at a time, along the sum or across it. What a guard excludes is zero. Tensor
cores also take ``tile[outer][k]``, which is how an operand is kept that is fetched along the sum.
Else such an operand's elements are spread over the banks by `Operand.swizzle`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Access, Bound, Buffer, Contraction

Direction = Literal["along", "across"]


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
        packs = self.size * self.depth // self.place.width
        self.threads = plan.tile.threads
        self.count = -(-packs // self.threads)
        self.is_partial = packs < self.threads
        self.packs = packs
        self.row_length = self.depth if self.place.direction == "along" else self.size
        self.row_length //= self.place.width

    @property
    def k_is_last(self) -> bool:
        """Does it lie as ``tile[outer][k]``?"""
        is_tensor = self.plan.tile.method == "tensor"
        return is_tensor and self.place.direction == "along" and self.dtype is self.plan.element

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows of a tile in shared memory, and how long they are: with a pad against conflicts."""
        pad = ALIGNMENT // self.plan.element.itemsize
        if self.k_is_last:
            return self.size, self.depth + pad
        return self.depth, self.size + pad

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
        if self.k_is_last or self.place.direction == "across" or self.size % 16:
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
        w.line(f"const int {x}_k = {fast if is_along else slow};")
        w.line(f"const int {x}_outer = {slow if is_along else fast};")
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
        """Load what this thread brings of the stretch that begins at `k0`.

        Args:
            end: where the sum's part ends, if a stretch may go beyond.
        """
        w, x, place = self.made.writer, self.letter, self.place
        is_along = place.direction == "along"
        start = f"k0 / {place.width}" if is_along and place.width > 1 else "k0"
        limit = f"{end} / {place.width}" if end and is_along and place.width > 1 else end
        partial = f"threadIdx.x < {self.packs}" if self.is_partial else ""
        if is_along:
            with w.block():
                w.line(f"const int k = {start} + {x}_k;")
                inner = emitter.fork({place.k: "k"})
                offset, checks = self._inner(inner, "[i]")
                with w.unrolled("i", self.count):
                    conditions = [partial, f"k < {limit}" if limit else "", *checks]
                    self._load(f"{x}_start[i]{offset}", conditions)
            return
        with w.unrolled("i", self.count):
            shift = f" + {self.step} * i" if self.count > 1 else ""
            w.line(f"const int k = {start} + {x}_k{shift};")
            inner = emitter.fork({place.k: "k"})
            offset, checks = self._inner(inner, "")
            conditions = [partial, f"k < {limit}" if limit else "", *checks]
            self._load(f"{x}_start{offset}", conditions)

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

    def _load(self, place: str, conditions: Sequence[str]) -> None:
        w, x = self.made.writer, self.letter
        wanted = [c for c in conditions if c]
        load = f"load_pack<{self.place.width}>({self.made.pointer(self.buffer)} + {place})"
        if wanted:
            w.line(f"{x}_next[i] = {self.pack}{{}};")
            w.line(f"if ({' && '.join(wanted)}) {x}_next[i] = {load};")
        else:
            w.line(f"{x}_next[i] = {load};")

    def keep(self) -> None:
        """Put what was fetched into the tile in shared memory."""
        w, x, place = self.made.writer, self.letter, self.place
        element = self.plan.element
        partial = f"if (threadIdx.x < {self.packs}) " if self.is_partial else ""
        is_along = place.direction == "along"
        tile = f"{x}_tile[at]"
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


def _variables(atom: object) -> set[LoopVar]:
    return Index.of(atom).variables()  # type: ignore[arg-type]


def tile_type(plan: Plan) -> str:
    """Of elements in shared memory: as they lie in memory for tensor cores, else as registers."""
    if plan.tile.method == "tensor":
        return memory_type(plan.element)
    return register_type(plan.element)
