"""Random programs: made from bytes, printed as Python, run by the library and compared with their
replay in NumPy.

`make(genes)` builds a program from one string of bytes for each step, so that leaving some out or
making them smaller gives a simpler program: hypothesis shrinks them, and so does `simplest`.
"""

from __future__ import annotations

import builtins
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import CodeType
from typing import Any

import numpy as np
import program_gradients
import program_steps
import program_writes
from program_maker import Maker, Step
from replay import Replay, Tensor, Value

import braze

GENES = 9  # bytes of one step
KINDS = program_steps.KINDS
_SUMS = list(accumulate(weight for weight, _ in KINDS))
assert program_writes and program_gradients
Genes = Sequence[bytes]
# Ways to run a program; "short" traces end in the middle of everything.
TIERS: dict[str, dict[str, Any]] = {
    "interpret": {"tier": "interpret"},
    "eager": {"tier": "interpret", "eager": True},
    "short": {"tier": "interpret", "trace_limit": 3},
    "compile": {"tier": "compile"},
}
TOLERANCE = 1e-9
SINGLE_TOLERANCE = 1e-4  # where anything was computed in float32; ten times that for gradients


class Difference(AssertionError):
    """The library does not do what the replay does."""


@dataclass
class Program:
    """Steps, and the arrays that its first tensors are made from."""

    steps: list[Step]
    data: list[np.ndarray]
    codes: list[CodeType] = field(default_factory=list)

    def source(self) -> str:
        """The program as Python that can be run by itself."""
        lines = ["import numpy as np", "import braze", "seen, data = [], {}"]
        lines += program_gradients.WEIGHTS.splitlines()
        for number, array in enumerate(self.data):
            text = f"np.array({array.tolist()}, dtype={array.dtype.name!r})"
            lines.append(f"data[{number}] = {text}")
        r = Replay(self.data)
        for step in self.steps:
            raised = step.replay(r)
            block = [step.source]
            if step.no_grad:
                block = ["with braze.no_grad():", f"    {step.source}"]
            if raised or step.doubtful:
                why = "must" if raised else "may"
                block = ["try:", *(f"    {line}" for line in block)]
                block += [f"except {raised or 'RuntimeError'}:  # it {why} be raised", "    pass"]
            lines += block
        lines += [f"print({name!r}, {name}, {name}.grad)" for name in r.tensors]
        return "\n".join(line for line in lines if line)


def make(genes: Genes) -> Program:
    """The program of these genes; steps that do not apply are left out."""
    maker = Maker()
    for number, gene in enumerate(genes):
        maker.begin(gene[1:])
        where = gene[0] * _SUMS[-1] // 256
        kind = program_steps.create if number < 2 else KINDS[bisect(_SUMS, where)][1]
        maker.no_grad = number >= 2 and maker.integer(0, 99) >= 90
        if len(maker.replay.tensors) or kind is program_steps.create:
            kind(maker)
    return Program(maker.steps, maker.data)


def settings() -> Any:
    """The library's settings for many small programs: one thread, and nothing kept on disk."""
    return braze.config.using(cache_dir="", num_threads=1, recompile_limit=0)


# Running ------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the library did.

    Attributes:
        raised: for each step, the exception or None.
        seen: what the program printed in the middle.
        tensors: name -> what can be seen of it in the end.
        arrays: the NumPy arrays, by name.
    """

    raised: list[Exception | None]
    seen: list[Any]
    tensors: dict[str, Any]
    arrays: dict[str, np.ndarray]


def run(program: Program, data: list[np.ndarray]) -> Seen:
    """Run a program in the library."""
    if not program.codes:
        program.codes = [compile(s.source, "<a random program>", "exec") for s in program.steps]
    names: dict[str, Any] = {"braze": braze, "np": np, "data": data, "seen": []}
    exec(program_gradients.WEIGHTS, names)
    raised: list[Exception | None] = []
    for step, code in zip(program.steps, program.codes, strict=True):
        try:
            if step.no_grad:
                with braze.no_grad():
                    exec(code, names)
            else:
                exec(code, names)
            raised.append(None)
        except Exception as error:
            raised.append(error)
    tensors = {n: t for n, t in names.items() if isinstance(t, braze.Tensor)}
    needs = {name: t.requires_grad for name, t in tensors.items()}  # views are up to date now
    braze.sync()
    found = {name: _look_at(t, needs[name]) for name, t in tensors.items()}
    arrays = {name: a.copy() for name, a in names.items() if isinstance(a, np.ndarray)}
    return Seen(raised, names["seen"], found, arrays)


def _look_at(t: Any, needs: bool) -> dict[str, Any]:
    grad = t.grad
    return {
        "value": np.array(t.tolist(), t.detach().numpy().dtype).reshape(t.shape),
        "memory": np.array(t.detach().numpy()),
        "dtype": str(t.dtype).removeprefix("torch.").removeprefix("braze."),
        "requires_grad": needs,
        "stride": t.stride(),
        "offset": t.storage_offset(),
        "contiguous": t.is_contiguous(),
        "version": t._version,
        "grad": None if grad is None else np.array(grad.detach().numpy()),
    }


# Comparing ----------------------------------------------------------------------------------------


def check(program: Program, data: list[np.ndarray], tier: str) -> list[str]:
    """Run a program and compare it with its replay.

    Args:
        tier: one of `TIERS`.

    Returns:
        What each doubtful step raised.

    Raises:
        Difference: they differ; its text says how.
    """
    with braze.config.using(**TIERS[tier]):
        try:
            found = run(program, [array.copy() for array in data])
        finally:
            _forget_pending()
    replay = Replay([array.copy() for array in data])
    expected = [
        # What may fail, and did, has done nothing.
        "" if step.doubtful and isinstance(error, RuntimeError) else step.replay(replay)
        for step, error in zip(program.steps, found.raised, strict=True)
    ]
    tolerance = SINGLE_TOLERANCE if replay.single else TOLERANCE
    doubts: list[str] = []
    for step, wanted, error in zip(program.steps, expected, found.raised, strict=True):
        if step.doubtful and isinstance(error, RuntimeError):
            doubts.append("RuntimeError")
            for tensor in replay.tensors.values():
                tensor.vague_grad = True  # leaves that were reached before have theirs
            continue
        if bool(wanted) != (error is not None) or not isinstance(
            error, getattr(builtins, wanted or "object")
        ):
            raise Difference(
                f"{step.source!r} raised {error!r}, expected {wanted or 'nothing'}"
            ) from error
    if len(found.seen) != len(replay.seen):
        raise Difference("values were seen another number of times")
    for position, (value, wanted) in enumerate(zip(found.seen, replay.seen, strict=True)):
        _same(f"seen[{position}]", np.asarray(value), wanted, tolerance)
    for name, array in replay.arrays.items():
        _same(name, found.arrays[name], array.read(), tolerance)
    if set(found.tensors) != set(replay.tensors):
        raise Difference(f"names differ: {set(found.tensors) ^ set(replay.tensors)}")
    gradients = [tensor.grad for tensor in replay.tensors.values() if tensor.vague_grad]
    for name, tensor in replay.tensors.items():
        if any(tensor is gradient for gradient in gradients):
            continue
        _same_tensor(name, found.tensors[name], tensor, tolerance)
    return doubts


def _forget_pending() -> None:
    try:
        braze.sync()
    except Exception:  # the program's own error, which was reported by then
        pass


def _same_tensor(name: str, found: dict[str, Any], tensor: Tensor, tolerance: float) -> None:
    value = tensor.read()
    _equal(f"dtype of {name}", found["dtype"], tensor.dtype)
    _same(name, found["value"], value, tolerance)
    _same(f"{name} in memory", found["memory"], value, tolerance)
    _equal(f"requires_grad of {name}", found["requires_grad"], tensor.says_requires_grad)
    if not tensor.memory.vague_version:
        _equal(f"_version of {name}", found["version"], tensor.memory.version)
    wide = [d for d, n in enumerate(tensor.shape) if n > 1]
    if tensor.values.size:
        ours = [found["stride"][d] for d in wide]
        _equal(f"stride of {name}", ours, [tensor.strides[d] for d in wide])
        _equal(f"storage_offset of {name}", found["offset"], tensor.offset)
        row_major = np.ascontiguousarray(tensor.values).strides
        plain = all(row_major[d] == tensor.values.strides[d] for d in wide)
        _equal(f"is_contiguous of {name}", found["contiguous"], plain)
    if tensor.vague_grad:
        return
    if tensor.grad is None:
        if found["grad"] is not None and found["grad"].any():
            raise Difference(f"{name}.grad is {found['grad']}, expected none")
    elif found["grad"] is None:
        if tensor.grad.values.any():  # zeros and nothing are the same
            raise Difference(f"{name}.grad is None, expected {tensor.grad.values}")
    else:
        _same(f"{name}.grad", found["grad"], tensor.grad.read(), 10 * tolerance)


def _equal(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Difference(f"{what} is {found}, expected {expected}")


def _same(what: str, found: np.ndarray, value: Value, tolerance: float) -> None:
    expected = value.values
    if found.shape != expected.shape:
        raise Difference(f"{what} has shape {found.shape}, expected {expected.shape}")
    if value.exact and value.grain < 99:
        same = np.array_equal(found, expected)
    else:
        largest = float(np.abs(expected).max(initial=1.0))
        same = np.allclose(found, expected, tolerance, tolerance * largest, equal_nan=True)
    if not same:
        raise Difference(f"{what} is\n{found}\nexpected\n{expected}")


def other_data(data: list[np.ndarray]) -> list[np.ndarray]:
    """The same numbers in other places."""
    rng = np.random.default_rng(1)
    return [rng.permutation(a.reshape(-1)).reshape(a.shape) for a in data]


def check_all(genes: Genes) -> Program:
    """A program run in every way: interpreted, each operation at once, compiled, and with other
    numbers by the same graphs.

    Raises:
        Difference: with the program's source.
    """
    program = make(genes)
    data = program.data
    try:
        doubts = {
            tier: check(program, data, tier) for tier in ("interpret", "eager", "short", "compile")
        }
        if len({tuple(found) for found in doubts.values()}) > 1:
            raise Difference(f"what raised differs: {doubts}")
        check(program, other_data(data), "compile")
    except Difference as error:
        raise Difference(f"{error}\n\nThe program:\n\n{program.source()}\n") from error
    return program


def simplest(genes: Genes, fails: Callable[[Genes], bool]) -> list[bytes]:
    """Fewer and smaller genes that still fail."""
    found = list(genes)
    shrunk = True
    while shrunk:
        shrunk = False
        for at in range(len(found) - 1, -1, -1):
            shorter = found[:at] + found[at + 1 :]
            if fails(shorter):
                found, shrunk = shorter, True
        for at, gene in enumerate(found):
            for place in range(1, len(gene)):
                if found[at][place]:
                    smaller = found[at][:place] + b"\0" + found[at][place + 1 :]
                    if fails([*found[:at], smaller, *found[at + 1 :]]):
                        found[at], shrunk = smaller, True
    return found
