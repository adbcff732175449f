"""The time loop of a recurrence: call its program once for each step, at other places.

In: a `Recurrence`, the symbol of its program's `main`, and the builder of the outer program's.
Out: the loop there.  The places of a step are written into an array of pointers, laid out as the
one that the outer program gets: inputs, outputs, arena, scratch, status, and the sizes if the step
depends on them.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.codegen.llvm import ir
from braze.codegen.llvm.places import BYTE, Places
from braze.codegen.llvm.types import I64, POINTER, constant
from braze.ir.loops import Program
from braze.ir.loops_recurrence import Recurrence, StepArray

# Of `main`: the array of pointers, the thread pool; gives the status code.
MAIN_TYPE = ir.FunctionType(I64, [POINTER, POINTER])


def emit_steps(
    builder: ir.IRBuilder, kernel: Recurrence, step: ir.Function, outer: Program
) -> None:
    """Append the loop to a `main`, whose arguments are the array of pointers and the pool."""
    pool = builder.function.args[1]
    places = Places(builder, outer)
    count = len(kernel.arrays)
    array_of_step = places.array(count + 3 + kernel.program.words, "places")
    bases = [places.address(array.buffer) for array in kernel.arrays]
    edges = [places.address(array.edge[1]) if array.edge else None for array in kernel.arrays]
    moving = [n for n, array in enumerate(kernel.arrays) if array.stride or array.edge]
    for number, (array, base) in enumerate(zip(kernel.arrays, bases, strict=True)):
        if number not in moving:
            places.put(array_of_step, number, _moved(builder, array, base, constant(I64, 0)))
    arena = places.address(kernel.arena) if kernel.arena else None
    places.put_rest(array_of_step, count, arena)
    for word in range(kernel.program.words):
        places.put(array_of_step, count + 3 + word, places.word(word))

    def body(number: ir.Value) -> None:
        for place in moving:
            array, edge = kernel.arrays[place], edges[place]
            pointer = _moved(builder, array, bases[place], number)
            if array.edge is not None and edge is not None:
                at_edge = builder.icmp_signed("==", number, constant(I64, array.edge[0]))
                pointer = builder.select(at_edge, edge, pointer)
            places.put(array_of_step, place, pointer)
        builder.call(step, [array_of_step, pool])

    _times(builder, kernel.count, body)


def _moved(builder: ir.IRBuilder, array: StepArray, base: ir.Value, step: ir.Value) -> ir.Value:
    """Where an array begins at a step. It may be outside of the buffer where it is not used."""
    size = array.buffer.dtype.itemsize
    way = builder.mul(step, constant(I64, array.stride * size))
    offset = builder.add(way, constant(I64, array.offset * size))
    return builder.gep(base, [offset], source_etype=BYTE)


def _times(builder: ir.IRBuilder, count: int, body: Callable[[ir.Value], None]) -> None:
    """Emit a loop of at least one iteration."""
    before = builder.block
    loop = builder.append_basic_block("step")
    builder.branch(loop)
    builder.position_at_end(loop)
    number = builder.phi(I64)
    number.add_incoming(constant(I64, 0), before)
    body(number)
    following = builder.add(number, constant(I64, 1))
    number.add_incoming(following, builder.block)
    after = builder.append_basic_block("steps_done")
    builder.cbranch(builder.icmp_signed("<", following, constant(I64, count)), loop, after)
    builder.position_at_end(after)
