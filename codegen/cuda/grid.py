"""How many threads a kernel is given.

Numbers of threads are chosen by sizes alone, never by the device's, so that results are the same on
every GPU of an architecture.
"""

from __future__ import annotations

import math

from braze.ir.index import Index, LoopVar

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
    return math.prod(int(v.extent) for v in variables)


def spread(flat: Index, variables: list[LoopVar]) -> dict[LoopVar, Index]:
    """The loops' variables at the point of a number, the last one varying fastest."""
    found: dict[LoopVar, Index] = {}
    for place, variable in reversed(list(enumerate(variables))):
        found[variable] = flat % int(variable.extent) if place else flat
        flat = flat // int(variable.extent)
    return found


def each_of_grid(size: int) -> str:
    """The head of a loop in which the grid's threads take turns at `size` points, ``i``."""
    type = int_type(size)
    block = "blockDim.x" if type == "int" else "(long long)blockDim.x"
    return (
        f"for ({type} i = blockIdx.x * {block} + threadIdx.x; i < {size};"
        f" i += gridDim.x * blockDim.x)"
    )


def int_type(size: int) -> str:
    """The type of a loop's variable that counts to `size`, and steps over it by a grid at most."""
    return "int" if size + MOST_BLOCKS * 1024 < 2**31 else "long long"
