"""A random program in the making: its steps so far, the state they lead to, and picks among it.

A step is a line of Python and what it does to the `Replay`. It is replayed as soon as it is made,
so that the next one can look at shapes, dtypes and who shares memory. What it may do depends on
shapes and bounds, never on values, so the program is right for other data too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from replay import INEXACT, Refused, Replay, Tensor, Value, promoted
from replay_ops import cast, number

MOST_ELEMENTS = 48
LARGEST = 1e5
LARGEST_INEXACT = 1e3
FLOATS = ("float64", "float32")
Compute = Callable[[Replay], Value]


@dataclass
class Step:
    """One line of a program.

    Attributes:
        source: the line. act: what it does.
        no_grad: it stands in a `no_grad` block.
        doubtful: it may raise a RuntimeError, since what its gradient needs was overwritten; it is
            the last of its kind.
    """

    source: str
    act: Callable[[Replay], None]
    no_grad: bool = False
    doubtful: bool = False

    def replay(self, r: Replay) -> str:
        """Do it; returns the name of the exception that the program must raise, or ''."""
        enabled, recording = r.grad_enabled, r.tape.recording
        if self.no_grad:
            r.grad_enabled = r.tape.recording = False
        try:
            self.act(r)
        except Refused as error:
            return str(error)
        finally:
            r.grad_enabled, r.tape.recording = enabled, recording
        return ""


class Operand:
    """Something a step reads: its text and its value."""

    def __init__(self, text: str, read: Compute) -> None:
        self.text, self.read = text, read


class Maker:
    """Builds a program from genes: bytes that each step takes its decisions from.

    Attributes:
        replay: the state after the steps so far.
        finished: gradients may be in doubt from now on, so no more are taken.
    """

    def __init__(self) -> None:
        self.data: list[np.ndarray] = []
        self.replay = Replay(self.data)
        self.steps: list[Step] = []
        self.counter = 0
        self.finished = False
        self.no_grad = False
        self._genes: list[int] = []

    # Decisions ------------------------------------------------------------------------------------

    def begin(self, genes: bytes) -> None:
        """Take decisions from these bytes; once they are used up, the first option each time."""
        self._genes = list(reversed(genes))

    def integer(self, low: int, high: int) -> int:
        """From low to high, inclusive."""
        gene = self._genes.pop() if self._genes else 0
        return low + gene % (high - low + 1)

    def chance(self, percent: int) -> bool:
        return self.integer(0, 99) >= 100 - percent

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def shape(self) -> tuple[int, ...]:
        return self.pick(
            [(3,), (2, 3), (3, 2), (2, 2), (4,), (3, 4), (2, 2, 3), (1, 3), (), (3, 3)]
        )

    # State ----------------------------------------------------------------------------------------

    def tensor(self, test: Callable[[Tensor], bool] = lambda t: True) -> str | None:
        """A tensor's name, mostly of a recent one."""
        names = [name for name, t in self.replay.tensors.items() if test(t)]
        if not names:
            return None
        recent = names[-3:] if self.chance(50) else names
        return self.pick(recent[::-1])

    def __getitem__(self, name: str) -> Tensor:
        return self.replay.tensors[name]

    def name(self) -> str:
        self.counter += 1
        return f"t{self.counter - 1}"

    # Operands -------------------------------------------------------------------------------------

    def read(self, name: str) -> Operand:
        return Operand(name, lambda r: r[name].read())

    def number(self, dtype: str) -> Operand:
        """A Python number that leaves a tensor of this dtype its dtype."""
        choices: tuple[Any, ...] = (2, -1, 3)
        if dtype in FLOATS:
            choices = (2.0, -0.5, 1.5, 3, -1)
        elif dtype == "bool":
            choices = (True, False)
        value = self.pick(choices)
        return Operand(repr(value), lambda r: number(value))

    def constant(self, array: np.ndarray, bound: float, grain: int = 0) -> Operand:
        """A tensor written out in the line."""
        dtype = array.dtype.name
        text = f"braze.tensor({array.tolist()}, dtype=braze.{dtype})"
        return Operand(text, lambda r: Value(array, bound=bound, grain=grain))

    def index(self, shape: tuple[int, ...], size: int, distinct: bool = False) -> Operand:
        """Indices of a dimension: written out, or taken from integers that the program has."""
        if not distinct and self.chance(40):
            name = self.tensor(lambda t: t.dtype in ("int64",) and t.shape == shape)
            if name is not None:
                if self.chance(50):
                    return Operand(f"({name} % {size})", lambda r: _modulo(r[name].read(), size))
                return Operand(f"{name}.remainder({size})", lambda r: _modulo(r[name].read(), size))
        count = math.prod(shape)
        start, step = self.integer(0, size - 1), self.pick((1, 2, 0, 3))
        picks = [(start + step * i + i // size) % size for i in range(count)]
        if distinct:
            picks = [(start + i) % size for i in range(count)]
        return self.constant(np.array(picks, np.int64).reshape(shape), size)

    def partner(self, name: str, into: bool = False, mixed: bool = False) -> Operand:
        """Something that broadcasts with a tensor (`into`: to its shape), or a number; `mixed`: a
        number that may change the dtype."""
        own = self[name]

        def fits(t: Tensor) -> bool:
            try:
                shape = np.broadcast_shapes(own.shape, t.shape)
            except ValueError:
                return False
            if into and (shape != own.shape or t.dtype != own.dtype and own.dtype not in FLOATS):
                return False
            return math.prod(shape) <= MOST_ELEMENTS and (t.dtype == "bool") == (
                own.dtype == "bool"
            )

        if self.chance(70):
            found = self.tensor(fits)
            if found is not None:
                return self.read(found)
        return self.number("float64" if mixed else own.dtype)

    def kept(self) -> list[Any]:
        """The memories that gradients may need as they are."""
        return [memory.facts for saved in self.replay.saved for memory, _ in saved.memories]

    # Steps ----------------------------------------------------------------------------------------

    def emit(self, source: str, act: Callable[[Replay], None], doubtful: bool = False) -> str:
        """Add a step, and replay it; returns what it raises."""
        step = Step(source, act, self.no_grad, doubtful)
        raised = step.replay(self.replay)
        self.steps.append(step)
        return raised

    def fits(self, compute: Compute) -> bool:
        """Are a step's results small enough to go on with?"""
        enabled = self.replay.grad_enabled
        self.replay.grad_enabled = False
        try:
            value = compute(self.replay)
        finally:
            self.replay.grad_enabled = enabled
        most = LARGEST if value.exact else LARGEST_INEXACT
        return value.values.size <= MOST_ELEMENTS and value.bound <= most

    def result(self, text: str, compute: Compute) -> str | None:
        """A step that makes a new tensor; its name."""
        if not self.fits(compute):
            return None
        names = list(self.replay.tensors)
        name = self.pick(names) if len(names) > 4 and self.chance(10) else self.name()
        self.emit(f"{name} = {text}", lambda r: _bind(r, name, compute))
        return name

    def view(self, text: str, of: str, movement: Callable[[np.ndarray], np.ndarray]) -> None:
        """A step that makes a view."""
        if movement(self[of].values).size > MOST_ELEMENTS:
            return
        name = self.name()
        self.emit(f"{name} = {text}", lambda r: r.view(name, r[of], movement))

    def write(
        self,
        text: str,
        target: str,
        compute: Compute,
        part: Callable[[np.ndarray], np.ndarray] | None = None,
        repeats: bool = False,
    ) -> None:
        """A step that overwrites a tensor, or a part of it; `repeats`: also one that shows an
        element twice."""
        own = self[target].memory
        if not self.fits(compute) or (own is not own.facts.owner and own.facts in self.kept()):
            return

        def act(r: Replay) -> None:
            tensor = r[target]
            if part is not None:
                view = Tensor(tensor.memory, tensor.family, part(tensor.values), part(tensor.ids))
                view.is_view = True
                tensor = view
            r.check_write(tensor, repeats)
            r.write(tensor, _settled(cast(compute(r), tensor.dtype)), repeats)

        self.emit(text, act)


def _modulo(value: Value, size: int) -> Value:
    return Value(value.values % size, bound=size)


def _settled(value: Value) -> Value:
    """Numbers with more digits than the dtype has are rounded."""
    if not value.exact:
        value.grain = INEXACT
    return value


def _bind(r: Replay, name: str, compute: Compute) -> None:
    r.bind(name, _settled(compute(r)))


def result_dtype(*names: Tensor) -> str:
    """The dtype of an operation of tensors."""
    return promoted(*(t.read() for t in names))
