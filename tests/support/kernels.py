"""Kernels given as loop IR text: made into programs, run natively and by the loops interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from native import Native, runnable_targets

from braze.ir.loops import Buffer, Kernel, Placement, Program
from braze.ir.loops_interpreter import run_kernel, run_program
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import Target


def program_of(*waves: str | Sequence[str], arena: dict[str, int] | None = None) -> Program:
    """A program of kernels. Buffers that a kernel writes become outputs, others inputs, in order of
    appearance.

    Args:
        waves: each a kernel's text, or the texts of several that are dispatched together.
        arena: byte offsets of the buffers that lie in the arena.
    """
    parsed: list[list[Kernel]] = [
        [parse_kernel(text) for text in ([wave] if isinstance(wave, str) else wave)]
        for wave in waves
    ]
    buffers: dict[str, Buffer] = {}
    written: set[str] = set()
    for wave in parsed:
        for kernel in wave:
            for buffer in kernel.buffers:
                buffers.setdefault(buffer.name, buffer)
                if buffer.access != "in":
                    written.add(buffer.name)
    arena = arena or {}
    inputs = [n for n in buffers if n not in written and n not in arena]
    outputs = [n for n in buffers if n in written and n not in arena]
    placements = {n: Placement("input", slot) for slot, n in enumerate(inputs)}
    placements |= {n: Placement("output", k) for k, n in enumerate(outputs)}
    placements |= {n: Placement("arena", offset=offset) for n, offset in arena.items()}
    ends = [o + buffers[n].numel * buffers[n].dtype.itemsize for n, o in arena.items()]
    size = -(-max(ends, default=0) // 64) * 64
    return Program("test", len(inputs), len(outputs), parsed, placements, size)


def buffers_of(program: Program) -> tuple[list[Buffer], list[Buffer]]:
    """The program's inputs and outputs in slot order."""
    found = {b.name: b for kernel in program.kernels() for b in kernel.buffers}
    places = [(p, found[n]) for n, p in program.placements.items() if n in found]
    ins = sorted((p.slot, n) for n, (p, _) in enumerate(places) if p.kind == "input")
    outs = sorted((p.slot, n) for n, (p, _) in enumerate(places) if p.kind == "output")
    return [places[n][1] for _, n in ins], [places[n][1] for _, n in outs]


def sample(buffer: Buffer, rng: np.random.Generator) -> np.ndarray:
    """Values for an input: standard normal floats, small integers, random truth values."""
    if buffer.dtype.is_floating_point:
        return rng.standard_normal(buffer.numel).astype(buffer.dtype.numpy)
    if buffer.dtype.kind == "bool":
        return rng.random(buffer.numel) < 0.5
    low = -9 if buffer.dtype.kind == "int" else 0
    return rng.integers(low, 10, buffer.numel).astype(buffer.dtype.numpy)


def check(
    program: Program,
    inputs: dict[str, np.ndarray] | None = None,
    *,
    targets: Sequence[Target] | None = None,
    tolerance: float = 1e-5,
    initial: dict[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Compare native code for every target that can run with the loops interpreter.

    Args:
        inputs: values of some inputs by buffer name; the others are drawn at random.
        tolerance: relative to the largest result, for floats; integers must be equal.
        initial: outputs' contents before the call (default: bytes of no meaning).

    Returns:
        The interpreter's outputs.
    """
    rng = np.random.default_rng(7)
    ins, outs = buffers_of(program)
    given = inputs or {}
    arrays = [given[b.name] if b.name in given else sample(b, rng) for b in ins]
    arrays = [np.ascontiguousarray(a, b.dtype.numpy) for a, b in zip(arrays, ins, strict=True)]
    start = initial or {}
    before = [start.get(b.name, np.ones(b.numel, b.dtype.numpy)) for b in outs]
    expected = [a.copy() for a in before]
    if initial is None:
        run_program(program, arrays, expected)
    else:
        # The interpreter of programs takes every output for unwritten at first.
        memory = {b.name: a for b, a in zip([*ins, *outs], [*arrays, *expected], strict=True)}
        for kernel in program.kernels():
            run_kernel(kernel, memory)
    for target in targets or runnable_targets():
        results = Native(program, target).run(arrays, before)
        for buffer, result, right in zip(outs, results, expected, strict=True):
            assert_close(result, right, tolerance, f"{buffer.name} on {target.name}")
    return expected


def assert_close(result: np.ndarray, right: np.ndarray, tolerance: float, what: str) -> None:
    """Equal, or for floats nan in the same places and close relative to the largest value."""
    if right.dtype.kind in "iub":
        assert np.array_equal(result, right), (what, result, right)
        return
    x, y = result.astype(np.float64), right.astype(np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y)), (what, x, y)
    assert np.array_equal(np.where(np.isinf(x), x, 0), np.where(np.isinf(y), y, 0)), (what, x, y)
    finite = np.isfinite(y)
    scale = np.abs(y[finite]).max(initial=0)
    off = np.abs(x[finite] - y[finite]).max(initial=0)
    assert off <= tolerance * max(scale, 1e-30), (what, off, scale)
