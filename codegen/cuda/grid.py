"""How many threads a kernel is given.

Numbers of threads are chosen by sizes alone, never by the device's, so that results are the same on
every GPU of an architecture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from braze.ir.index import Index, LoopVar
from braze.ir.symint import is_always, least

if TYPE_CHECKING:
    from braze.codegen.cuda.kernel import KernelWriter

WARP = 32
THREADS = 256
# So many threads keep a large GPU busy; blocks beyond the most go round again.
ENOUGH_THREADS = 132 * 1024
MOST_BLOCKS = 2048


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below the number."""
    return 1 << max(number - 1, 0).bit_length()


def extent(variables: list[LoopVar]) -> int:
    """How many points loops have."""
    return math.prod(v.extent for v in variables)


def spread(flat: Index, variables: list[LoopVar]) -> dict[LoopVar, Index]:
    """The loops' variables at the point of a number, the last one varying fastest."""
    found: dict[LoopVar, Index] = {}
    for place, variable in reversed(list(enumerate(variables))):
        found[variable] = flat % variable.extent if place else flat
        flat = flat // variable.extent
    return found


def quotient(number: int, by: int) -> int:
    """The quotient, rounded up."""
    return number if by == 1 else -(-number // by)


def blocks_for(size: int, threads: int) -> int:
    """Blocks whose threads take turns at points, which are not too many."""
    return least(quotient(size, threads), MOST_BLOCKS)


def is_multiple(number: int, of: int) -> bool:
    """Is a number divisible by another, whatever sizes it depends on?"""
    return is_always(number % of, 0)


def each_of_grid(size: int, made: KernelWriter) -> str:
    """The head of a loop in which the grid's threads take turns at `size` points, ``i``."""
    type = int_type(size)
    block = "blockDim.x" if type == "int" else "(long long)blockDim.x"
    return (
        f"for ({type} i = blockIdx.x * {block} + threadIdx.x; i < {made.number(size)};"
        f" i += gridDim.x * blockDim.x)"
    )


def int_type(size: int) -> str:
    """The type of a loop's variable that counts to `size`, and steps over it by a grid at most."""
    return "int" if size + MOST_BLOCKS * 1024 < 2**31 else "long long"
