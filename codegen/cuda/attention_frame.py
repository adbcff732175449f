"""What the kernels of attention and of its gradients have in common.

In: an `Attention`.  Out: C that says which row a thread works at, loads the row into registers, and
brings rows of the other operands into shared memory, some at a time. A row (of a query, or of a
key) is shared out among a few neighbouring lanes, each with every so-manieth group of four
elements.

The rows that a block goes through are called steps. Scores are made for `CHUNK` of them at a time,
in the order in which words of dropout belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from braze.codegen.cuda.expressions import Expressions
from braze.codegen.cuda.grid import power_of_two, quotient
from braze.codegen.cuda.kernel import KernelWriter
from braze.codegen.cuda.types import literal, register_type
from braze.ir.dtypes import DType
from braze.ir.index import Index, LoopVar, unflatten
from braze.ir.loops import HostArray
from braze.ir.loops_attention import Attention, StridedArray
from braze.ir.ops.attention import row_for, threshold
from braze.ir.symint import is_always

THREADS = 128
# Steps that lie in shared memory at a time: as many as the words of a block of random bits.
STEPS = 32
GROUP = 4
CHUNK = 8
SHARED = 40 << 10


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a call, and how a row is shared out.

    Attributes:
        lead: heads of all batches.
        width: of queries and keys; values have rows of `depth`.
        lanes: that share a row.
    """

    lead: int
    queries: int
    keys: int
    width: int
    depth: int
    lanes: int

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return THREADS // self.lanes

    def groups(self, width: int) -> int:
        """Groups of a lane's share of a row; one, of zeros, of a row without elements."""
        return max(-(-width // (GROUP * self.lanes)), 1)

    def padded(self, width: int) -> int:
        return self.groups(width) * GROUP * self.lanes


def sizes_of(kernel: Attention, share: int) -> Sizes:
    """The sizes of a call.

    Args:
        share: elements of a row that a lane may have in registers.
    """
    query, key, value = (kernel.operand(name) for name in ("query", "key", "value"))
    assert query is not None and key is not None and value is not None
    lead = 1
    for size in query.type.shape[:-2]:
        lead *= size
    queries, width = query.type.shape[-2:]
    keys, depth = value.type.shape[-2:]
    lanes = min(power_of_two(-(-max(width, depth) // share)), 32)
    return Sizes(lead, queries, keys, width, depth, lanes)


class Frame:
    """Writes the parts of one launch.

    Args:
        rows_are_keys: whether a thread works at a key and goes through queries, or the reverse.
    """

    def __init__(
        self, made: KernelWriter, kernel: Attention, sizes: Sizes, *, rows_are_keys: bool
    ) -> None:
        self.made = made
        self.w = made.writer
        self.kernel = kernel
        self.sizes = sizes
        self.rows_are_keys = rows_are_keys
        self.count = sizes.keys if rows_are_keys else sizes.queries
        query = kernel.operand("query")
        assert query is not None
        self.dtype: DType = query.type.dtype
        self.type = register_type(self.dtype)
        self.lead_shape = query.type.shape[:-2]
        self.head = LoopVar("head", sizes.lead)
        self.emitter: Expressions = made.expressions({self.head: "head"})
        self.function = "exp" if self.type == "double" else "expf"
        self.logarithm = "log" if self.type == "double" else "logf"
        self.is_causal = bool(kernel.attributes["causal"])
        self.bases: dict[str, str] = {}
        made.use("Pack")
        made.use("lanes_reduce")
        made.use("Sum")
        made.has_barriers = True
        if sizes.width == 0:
            made.blocks = 1  # of itself, a compiler spills a little to fit more

    def number(self, value: float) -> str:
        return literal(value, self.dtype)

    @property
    def tiles(self) -> int:
        """Blocks of rows."""
        return quotient(self.count, self.sizes.rows)

    def open(self, parts: int = 1) -> None:
        """Which row this thread works at."""
        w, lanes, number = self.w, self.sizes.lanes, self.made.number
        tiles = number(self.tiles)
        w.line(f"const int first_row = blockIdx.x % {tiles} * {self.sizes.rows};")
        if parts > 1:
            w.line(f"const int head = blockIdx.x / {tiles} % {number(self.sizes.lead)};")
            w.line(f"const int part = blockIdx.x / {number(self.tiles * self.sizes.lead)};")
        else:
            w.line(f"const int head = blockIdx.x / {tiles};")
        w.line(f"const int lane = threadIdx.x % {lanes};")
        w.line(f"const int own = first_row + threadIdx.x / {lanes};")
        w.line(f"const bool is_inside = own < {number(self.count)};")
        w.line(f"const int row = is_inside ? own : {number(self.count - 1)};")
        self._bases()
        self._declare_dropout()

    def _bases(self) -> None:
        """Where this block's head begins in each operand."""
        rank = len(self.lead_shape)
        lead = unflatten(Index.of(self.head), self.lead_shape) if rank else ()
        for name in self.kernel.op.operands:
            array = self.kernel.operand(name)
            if array is None or array.type.rank == 0:
                continue
            index = Index((), array.offset)
            for part, stride in zip(lead, array.strides, strict=False):
                index = index + part * stride
            text = self.emitter.indices.text(index, is_long=True)
            self.bases[name] = f"{name}_base"
            self.w.line(f"const long long {name}_base = {text};")

    def place(self, name: str, row: str, column: str = "") -> str:
        """The element number of an operand's [head, row, column], or [head, row]."""
        array = self.array(name)
        strides = array.strides[len(self.lead_shape) :]
        pairs = zip(strides, (row, column) if column else (row,), strict=True)
        terms = [
            index if is_always(stride, 1) else f"{self.made.wide(stride)} * {index}"
            for stride, index in pairs
        ]
        return " + ".join([self.bases[name], *terms])

    def array(self, name: str) -> StridedArray:
        array = self.kernel.operand(name)
        assert array is not None, name
        return array

    def item(self, name: str, row: str, column: str = "") -> str:
        """An element of an operand."""
        return f"{self.made.pointer(self.array(name).buffer)}[{self.place(name, row, column)}]"

    # Rows in registers ----------------------------------------------------------------------------

    def load_row(self, name: str, operand: str, factor: str = "") -> None:
        """A lane's share of the thread's row of an operand."""
        width = self.array(operand).type.shape[-1]
        groups = self.sizes.groups(width)
        self.zeros(name, groups)
        with self.w.unrolled("g", groups), self.w.unrolled("l", GROUP):
            self.w.line(f"const int column = {self._column('g', 'l')};")
            item = self.item(operand, "row", "column")
            text = f"{item} * {factor}" if factor else item
            condition = "" if self.sizes.padded(width) == width else f"if (column < {width}) "
            self.w.line(f"{condition}{name}[g].at[l] = {text};")

    def zeros(self, name: str, groups: int) -> None:
        """A lane's share of a row of zeros."""
        self.w.line(f"Pack<{self.type}, {GROUP}> {name}[{groups}];")
        with self.w.unrolled("g", groups), self.w.unrolled("l", GROUP):
            self.w.line(f"{name}[g].at[l] = {self.number(0.0)};")

    def _column(self, group: str, item: str) -> str:
        lanes = self.sizes.lanes
        return f"{GROUP} * (lane + {lanes} * {group}) + {item}"

    def store_row(
        self, name: str, result: HostArray, width: int, row_length: int, factor: str, lead: str
    ) -> None:
        """Write a lane's share of a row of a result.

        Args:
            width: of the row as far as it is known; behind it come zeros.
            row_length: of a row in memory.
            lead: the number of the row in the result.
        """
        assert result.buffer is not None
        pointer = self.made.pointer(result.buffer)
        with self.w.block("if (is_inside)"):
            with self.w.unrolled("g", self.sizes.groups(width)), self.w.unrolled("l", GROUP):
                self.w.line(f"const int column = {self._column('g', 'l')};")
                value = f"{name}[g].at[l]{factor}"
                place = f"{pointer}[({lead}) * {row_length}LL + column]"
                condition = "" if self.sizes.padded(width) == width else f"if (column < {width}) "
                self.w.line(f"{condition}{place} = {value};")
            if row_length > width:
                first = f"{width} + lane"
                step = f"column += {self.sizes.lanes}"
                with self.w.block(f"for (int column = {first}; column < {row_length}; {step})"):
                    self.w.line(f"{pointer}[({lead}) * {row_length}LL + column] = "
                                f"{self.number(0.0)};")  # fmt: skip

    # Rows in shared memory ------------------------------------------------------------------------

    def steps_for(self, widths: list[int]) -> int:
        """How many steps fit into shared memory."""
        size = sum(self.sizes.padded(width) for width in widths) * self.dtype.itemsize
        steps = STEPS
        while steps > CHUNK and steps * size > SHARED:
            steps //= 2
        return steps

    def declare_tile(self, name: str, width: int, steps: int) -> None:
        padded = self.sizes.padded(width)
        self.w.line(f"__shared__ __align__(32) {self.type} {name}[{steps}][{padded}];")

    def load_tile(self, name: str, operand: str, steps: int, limit: str) -> None:
        """Rows `first` and on of an operand; what is beyond `limit` is zero."""
        width = self.array(operand).type.shape[-1]
        padded = self.sizes.padded(width)
        count = steps * padded
        with self.w.block(f"for (int t = threadIdx.x; t < {count}; t += {THREADS})"):
            self.w.line(f"const int step = first + t / {padded}, column = t % {padded};")
            item = self.item(operand, "step", "column")
            inside = f"step < {limit}"
            if padded != width:
                inside += f" && column < {width}"
            value = f"{inside} ? {item} : {self.number(0.0)}"
            self.w.line(f"{name}[t / {padded}][t % {padded}] = {value};")

    @contextmanager
    def keys_and_values(self) -> Iterator[tuple[int, str]]:
        """Bring some keys and values after the other into shared memory; the `with` block writes
        what is done with these `steps` of them, and those below `limit` take part."""
        sizes, steps = self.sizes, self.steps_for([self.sizes.width, self.sizes.depth])
        self.declare_tile("keys", sizes.width, steps)
        self.declare_tile("values", sizes.depth, steps)
        limit = self.made.number(sizes.keys)
        if self.is_causal:
            self.w.line(f"const int limit = min({limit}, first_row + {sizes.rows});")
            limit = "limit"
        with self.w.block(f"for (int first = 0; first < {limit}; first += {steps})"):
            self.w.line("__syncthreads();")
            self.load_tile("keys", "key", steps, limit)
            self.load_tile("values", "value", steps, limit)
            self.w.line("__syncthreads();")
            yield steps, limit

    def dot(self, name: str, row: str, tile: str, step: str, width: int) -> None:
        """Add the thread's row times a step's to a number, over all lanes."""
        groups = self.sizes.groups(width)
        with self.w.unrolled("g", groups):
            self.w.line(f"const Pack<{self.type}, {GROUP}> y = {self._group(tile, step)};")
            with self.w.unrolled("l", GROUP):
                self.w.line(f"{name} += {row}[g].at[l] * y.at[l];")
        if self.sizes.lanes > 1:
            self.w.line(f"{name} = lanes_reduce<{self.sizes.lanes}>({name}, Sum());")

    def add(self, row: str, factor: str, tile: str, step: str, width: int) -> None:
        """Add a step's row, times a factor, to one in registers."""
        with self.w.unrolled("g", self.sizes.groups(width)):
            self.w.line(f"const Pack<{self.type}, {GROUP}> y = {self._group(tile, step)};")
            with self.w.unrolled("l", GROUP):
                self.w.line(f"{row}[g].at[l] += {factor} * y.at[l];")

    def _group(self, tile: str, step: str) -> str:
        return f"load_pack<{GROUP}>({tile}[{step}] + {self._column('g', '0')})"

    # Scores ---------------------------------------------------------------------------------------

    @property
    def query(self) -> str:
        return "step" if self.rows_are_keys else "row"

    @property
    def key(self) -> str:
        return "row" if self.rows_are_keys else "step"

    def mask(self, limit: str) -> None:
        """Add the mask to `score`; what does not take part gives no weight."""
        w, infinity = self.w, self.number(float("inf"))
        if self.kernel.operand("mask") is not None:
            item = self.item("mask", self.query, self.key)
            w.line(f"if (step < {limit}) score += {item};")
        if self.is_causal:
            w.line(f"if ({self.key} > {self.query}) score = -{infinity};")
        w.line(f"if (step >= {limit}) score = -{infinity};")

    @property
    def drops(self) -> bool:
        return self.kernel.operand("seed") is not None

    def _declare_dropout(self) -> None:
        """The generator's state, and where the words of this head begin."""
        if not self.drops:
            return
        self.made.use("philox")
        for name in ("seed", "offset"):
            array = self.array(name)
            pointer = self.made.pointer(array.buffer)
            self.w.line(f"const long long {name} = {pointer}[{self.made.number(array.offset)}];")
        words = self.sizes.queries * row_for(self.sizes.keys)
        self.w.line(f"const long long first_word = {self.made.wide(words)} * head;")

    def kept(self, weight: str) -> str:
        """A weight after dropout: the word of a query and a key decides."""
        if not self.drops:
            return weight
        p = self.kernel.attributes["p"]
        assert isinstance(p, float)
        row = self.made.wide(row_for(self.sizes.keys))
        number = self.w.fresh("word")
        self.w.line(f"const long long {number} = first_word + {row} * {self.query} + {self.key};")
        bits = self.w.fresh("bits")
        counter = f"offset + {number} / 32 * 8 + {number} % 8"
        self.w.line(f"const uint4 {bits} = philox({counter}, seed);")
        which = self.w.fresh("bits")
        lane = f"{number} % 32 / 8"
        self.w.line(
            f"const unsigned {which} = {lane} == 0 ? {bits}.x : {lane} == 1 ? {bits}.y : "
            f"{lane} == 2 ? {bits}.z : {bits}.w;"
        )
        factor = self.number(1.0 / (1.0 - p))
        return f"({which} >= {threshold(p)}u ? {weight} * {factor} : {self.number(0.0)})"
