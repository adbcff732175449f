"""The kernel of attention and of its gradient, with blocks of the scores in a thread's workspace.

Its operands may lie anywhere as long as their places are sums of strides, as a layer has its heads
side by side in one row. Its meaning is that of the operation (`braze.ir.ops.attention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.index import Index, LoopVar
from braze.ir.op import AttributeValue, Op
from braze.ir.types import TensorType

if TYPE_CHECKING:
    from braze.ir.loops import Buffer, HostArray


@dataclass(frozen=True, slots=True)
class StridedArray:
    """An operand: element (i, j, ...) is element offset + i * strides[0] + ... of the buffer."""

    buffer: Buffer
    type: TensorType
    strides: tuple[int, ...]
    offset: int = 0

    def places(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The number of each element in the buffer."""
        found = np.full(self.type.shape, self.offset, np.int64)
        for axis, stride in enumerate(self.strides):
            size = self.type.shape[axis]
            found += stride * np.arange(size).reshape(size, *(1,) * (self.type.rank - axis - 1))
        return found

    @property
    def index(self) -> Index:
        """The number of an element in the buffer, over a variable for each dimension."""
        variables = (LoopVar(f"i{axis}", size) for axis, size in enumerate(self.type.shape))
        return Index(tuple(zip(variables, self.strides, strict=True)), self.offset)


@dataclass(eq=False, slots=True)
class Attention:
    """An operation of category "attention".

    Text form; a result in parentheses has no buffer:

        attention @attention_1(%q: f32[32] in, %k: f32[48] in, %v: f32[48] in, %0: f32[32] out) {
          chunks 1
          %0: f32[1,4,8], (f32[1,4]) = attention(%q: f32[1,4,8] from 0 by (32, 8, 1),
          %k: f32[1,6,8] from 0 by (48, 8, 1), %v: f32[1,6,8] from 0 by (48, 8, 1);
          scale=0.5, causal=false)
        }

    Attributes:
        chunks: into how many pieces the heads and blocks of queries are cut for the thread pool.
    """

    name: str
    buffers: tuple[Buffer, ...]
    op: Op
    attributes: Mapping[str, AttributeValue]
    operands: tuple[StridedArray, ...]
    results: tuple[HostArray, ...]
    chunks: int = 1
    comment: str = ""

    def operand(self, name: str) -> StridedArray | None:
        """The operand that the operation calls so, if it has one."""
        if name not in self.op.operands:
            return None
        return self.operands[self.op.operands.index(name)]

    def result(self, name: str) -> Buffer | None:
        """Where the result of that name goes, if it is wanted."""
        return self.results[self.op.results.index(name)].buffer

    @property
    def is_gradient(self) -> bool:
        return "back" in self.op.operands

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)
