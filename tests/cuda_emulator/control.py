"""Ask and set the emulated driver while a program runs on it.

- `with counted() as counts`: counts["launches"], counts["copies to the host"] and others
- `with options(ORDER="reverse")`: what BRAZE_EMULATED_ORDER=reverse sets for a whole process
- `with profiled() as lines`: sectors and bank conflicts of each line that uses memory
- `allocations()`: the device memory that is allocated now
"""

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Allocation(NamedTuple):
    """Device memory: the how-manieth allocation of the process it is, where, and its size."""

    number: int
    device: int
    bytes: int


class Line(NamedTuple):
    """How the warps' requests of one line of a kernel fell on memory.

    A transfer is a sector of 32 bytes in global memory, and a pass over the banks in shared memory.
    `fewest` is the number that requests of the same bytes, well arranged, would have taken.
    """

    kernel: str
    place: str  # as "kernel.cu:7"
    space: str  # "global" or "shared"
    access: str  # "read" or "write"
    requests: int
    transfers: int
    fewest: int


def driver() -> ctypes.CDLL:
    library = ctypes.CDLL("libcuda.so.1")
    if not hasattr(library, "braze_emulator_set"):
        raise RuntimeError("this process runs on a real CUDA driver")
    return library


def text_of(function: Callable[..., int], *arguments: object) -> str:
    """What a function writes that returns how many bytes it needs."""
    function.restype = ctypes.c_size_t  # type: ignore[attr-defined]
    size = ctypes.c_size_t(function(*arguments, None, ctypes.c_size_t(0)))
    buffer = ctypes.create_string_buffer(size.value)
    function(*arguments, buffer, size)
    return buffer.value.decode()


def rows_of(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def counts() -> Counter[str]:
    """How often each thing was done since the process started."""
    found = text_of(driver().braze_emulator_counts)
    return Counter({name: int(number) for name, number in rows_of(found)})


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Gives a counter that holds, at the end, what the block did."""
    before, result = counts(), Counter[str]()
    yield result
    result.update(counts() - before)


def allocations() -> list[Allocation]:
    rows = rows_of(text_of(driver().braze_emulator_allocations))
    return [Allocation(*map(int, row)) for row in rows]


def option(name: str) -> str:
    return text_of(driver().braze_emulator_option, name.encode())


def set_option(name: str, value: object) -> None:
    if not driver().braze_emulator_set(name.encode(), str(value).encode()):
        raise ValueError(f"the emulated driver has no option {name}={value}")


@contextmanager
def options(**values: object) -> Iterator[None]:
    """Sets options for a block of code."""
    before = {name: option(name) for name in values}
    try:
        for name, value in values.items():
            set_option(name, value)
        yield
    finally:
        for name, text in before.items():
            set_option(name, text)


@contextmanager
def profiled() -> Iterator[list[Line]]:
    """Gives a list that holds, at the end, the lines of the kernels that the block ran."""
    result: list[Line] = []
    with options(PROFILE=1):
        text_of(driver().braze_emulator_profile)
        yield result
    for row in rows_of(text_of(driver().braze_emulator_profile)):
        kernel, place, space, access, *numbers = row
        result.append(Line(kernel, place, space, access, *map(int, numbers)))
