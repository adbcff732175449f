"""Device functions that generated kernels call; a source holds those that it uses.

In: names.  Out: their text, and that of all that they need. They are written for the reader of a
generated source. Where one stands for instructions that only a GPU has, its twin under
BRAZE_EMULATED is plain C++.
"""

from __future__ import annotations

from collections.abc import Iterable

from braze.codegen.cuda.library_atomics import ATOMICS
from braze.codegen.cuda.library_part import Part
from braze.codegen.cuda.library_scalars import SCALARS
from braze.codegen.cuda.library_sorting import SORTING
from braze.codegen.cuda.library_tensor import TENSOR
from braze.codegen.cuda.library_threads import THREADS

DEVICE = "#define DEVICE __device__ __forceinline__"
PARTS: dict[str, Part] = {**SCALARS, **THREADS, **ATOMICS, **SORTING, **TENSOR}


def needed(names: Iterable[str]) -> list[str]:
    """These functions and all that they need, in the order of the library."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += PARTS[name].needs
    return [name for name in PARTS if name in wanted]


def library(names: Iterable[str]) -> str:
    """Their text."""
    texts = [PARTS[name].text for name in needed(names)]
    return "\n\n".join([DEVICE, *texts]) if texts else ""


def headers(names: Iterable[str]) -> list[str]:
    """The headers of CUDA that they include."""
    return sorted({header for name in needed(names) for header in PARTS[name].headers})
