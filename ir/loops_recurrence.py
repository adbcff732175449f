"""The kernel that runs a program of its own once for each step of a recurrence.

Steps depend on each other, so they run in order; within one, kernels are cut into chunks for the
thread pool as anywhere. The inner program knows nothing of time: it is handed other places of the
same buffers at each step. So it is the same for any number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from braze.ir.loops import Buffer, Program

# How the name of a step's program begins; its kernels' begin with the program's.
STEP = "step_"


@dataclass(frozen=True, slots=True)
class StepArray:
    """Where the program of a recurrence finds an input or puts an output, at each step.

    Attributes:
        offset: element of the buffer at step 0.
        stride: elements from one step to the next.
        edge: a step and the buffer that is used, from its beginning, at this one step.
    """

    buffer: Buffer
    offset: int = 0
    stride: int = 0
    edge: tuple[int, Buffer] | None = None


@dataclass(eq=False, slots=True)
class Recurrence:
    """Run a program `count` times, each time at other places of the buffers.

    Text form:

        recurrence @rnn_sequence_1(%x: f32[64] in, %h0: f32[8] in, %y: f32[64] out) {
          steps 8
          at %x from 0 by 8
          at %y from -8 by 8 except 0 %h0
          at %y from 0 by 8
          program @step_5f3a(2 inputs, 1 outputs, arena 0) {
            ...
          }
        }

    Attributes:
        arrays: of the program's inputs and then its outputs.
        arena: bytes for the program's intermediate values; None where it has none.
    """

    name: str
    buffers: tuple[Buffer, ...]
    count: int
    arrays: tuple[StepArray, ...]
    program: Program
    arena: Buffer | None = None
    comment: str = ""

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)


def is_of_step(symbol: str) -> bool:
    """Does a symbol of compiled code belong to a step of a recurrence?"""
    return symbol.removeprefix("braze_").removeprefix("kernel_").startswith(STEP)


def slot_sizes(program: Program) -> dict[int, int]:
    """Elements of each input and output, numbered as `Recurrence.arrays`; none for unused ones."""
    found = {}
    for kernel in program.kernels():
        for buffer in kernel.buffers:
            place = program.placements[buffer.name]
            if place.kind != "arena":
                found[place.slot + program.inputs * (place.kind == "output")] = buffer.numel
    return found
