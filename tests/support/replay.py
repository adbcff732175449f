"""A second, small implementation of tensors in NumPy, for random programs to be compared with.

Memory is a NumPy buffer and a view is a NumPy view of it, so that they share what is written. The
gradients come from `replay_tape`. Nothing here knows the library under test, but its dtypes' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from replay_tape import Numbers, Tape, constants

Movement = Callable[[np.ndarray], np.ndarray]

INEXACT = 99  # the grain of numbers that different implementations round differently
# PyTorch's promotion goes by kind first, and then by place in this list.
ORDER = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")
_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2}


class Refused(Exception):
    """The program must raise an exception here, of the kind that is named."""


class Value:
    """Numbers that an operation has computed, in no memory yet.

    Attributes:
        values: as the program's dtype has them. ids: on the tape, zeros where nothing flows.
        requires_grad: whether the operation is recorded.
        past: the recorded operations that it came from, and below zero the leaves.
        bound: the largest magnitude that the numbers can have, whatever the inputs.
        grain: they are multiples of 2**-grain, which all right implementations compute alike.
        weak: a Python number, which takes on the dtype of what it meets.
        memory: where it was read from. kept: the operation that made it keeps it for its gradient.
    """

    def __init__(
        self,
        values: Any,
        ids: np.ndarray | None = None,
        past: frozenset[int] = frozenset(),
        requires_grad: bool = False,
        bound: float = 1.0,
        grain: int = 0,
        weak: bool = False,
    ) -> None:
        self.values = np.asarray(values)
        if not requires_grad or self.values.dtype.kind != "f":
            ids, past, requires_grad = None, frozenset(), False
        self.ids = np.zeros(self.values.shape, np.int64) if ids is None else ids
        self.past = past
        self.requires_grad = requires_grad
        self.bound, self.grain, self.weak = float(bound), grain, weak
        self.memory: Memory | None = None
        self.kept = False

    @property
    def numbers(self) -> Numbers:
        """What the tape needs."""
        return Numbers(self.values.astype(np.float64), self.ids)

    @property
    def exact(self) -> bool:
        """Do all right implementations have the same bits?"""
        digits = {"float32": 24, "float64": 53}.get(self.values.dtype.name, 64)
        return self.grain < INEXACT and self.bound * 2.0**self.grain <= 2.0**digits


class Facts:
    """What numbers a buffer can hold, see `Value`, and the memory that it was made as."""

    def __init__(self, bound: float, grain: int) -> None:
        self.bound, self.grain = bound, grain
        self.owner: Memory | None = None


class Memory:
    """A buffer and how often it was written to.

    Attributes:
        start, size: its address, and how many elements it has.
        facts: shared by all that look into the buffer in a way of their own, as through an array.
    """

    def __init__(self, facts: Facts, start: int, size: int) -> None:
        self.version = 0
        self.vague_version = False  # not to be compared
        self.facts, self.start, self.size = facts, start, size

    @property
    def bound(self) -> float:
        return self.facts.bound

    @property
    def grain(self) -> int:
        return self.facts.grain


class Family:
    """A tensor and its views as the tape sees them: one history, another than that of `detach`ed
    ones in the same memory."""

    def __init__(self, requires_grad: bool = False, leaf: bool = False) -> None:
        self.requires_grad = requires_grad
        self.leaf = leaf
        self.between = False  # views made in `no_grad`, of something that is on the tape
        self.silent = False  # what is written does not count, as through `data`
        self.past: frozenset[int] = frozenset()


class Tensor:
    """A name's meaning: a view of a buffer, and of the ids of its family."""

    def __init__(self, memory: Memory, family: Family, values: np.ndarray, ids: np.ndarray) -> None:
        self.memory, self.family = memory, family
        self.values, self.ids = values, ids
        self.is_view = False
        self.grad: Tensor | None = None
        self.factors: list[float] = []  # of a leaf's hooks
        self.retained: np.ndarray | None = None
        self.vague_grad = False  # not to be compared
        self.vague_place = False  # a gradient that may be on the tape as a constant, or be missing
        self.token = 0  # a leaf's place in the past of what is made from it

    @property
    def requires_grad(self) -> bool:
        return self.family.requires_grad

    @property
    def says_requires_grad(self) -> bool:
        """What it answers: also True where nothing is recorded."""
        return self.family.requires_grad or self.family.between

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    @property
    def dtype(self) -> str:
        return self.values.dtype.name

    def read(self) -> Value:
        """What it holds now."""
        memory, family = self.memory, self.family
        value = Value(
            self.values.copy(),
            self.ids.copy(),
            family.past,
            family.requires_grad,
            memory.bound,
            memory.grain,
        )
        value.memory = memory
        return value

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements."""
        return tuple(s // self.values.itemsize for s in self.values.strides)

    @property
    def offset(self) -> int:
        """Of the first element in the memory."""
        address = self.values.__array_interface__["data"][0]
        return int(address - self.memory.start) // self.values.itemsize

    def shows_twice(self) -> bool:
        """Do two elements lie in one place?"""
        places = np.zeros(self.shape, np.int64)
        for d, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            index = np.arange(size).reshape([-1 if e == d else 1 for e in range(self.ndim)])
            places = places + index * stride
        return np.unique(places).size < places.size


class Saved:
    """What a recorded operation keeps for its gradient, and whether that is still there."""

    def __init__(self, memories: Iterable[Memory]) -> None:
        self.memories = [(memory, memory.version) for memory in memories]
        self.freed = False

    @property
    def gone(self) -> bool:
        return self.freed or any(memory.version != then for memory, then in self.memories)


class Replay:
    """The state of a program that is being replayed.

    Attributes:
        data: what the creating steps start from, by number.
        grad_enabled: as inside and outside `no_grad`.
        seen: what the program has printed: values it read in the middle.
        single: whether anything was computed in float32.
        disturbed: something that a gradient needs was overwritten through `data`, which the tape
            does not see: gradients are of the old values or of the new ones from now on.
    """

    def __init__(self, data: list[np.ndarray]) -> None:
        self.tape = Tape()
        self.data = data
        self.tensors: dict[str, Tensor] = {}
        self.arrays: dict[str, Tensor] = {}
        self.saved: list[Saved] = []
        self.grad_enabled = True
        self.seen: list[Any] = []
        self.single = False
        self.disturbed = False
        self._leaves: list[Tensor] = []

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    # Making and writing ---------------------------------------------------------------------------

    def bind(self, name: str, value: Value) -> Tensor:
        """Give a value memory and a name."""
        if not self.grad_enabled:
            value = Value(value.values, bound=value.bound, grain=value.grain)
        values = np.array(value.values, order="C")
        self.single |= values.dtype == np.float32
        start = values.__array_interface__["data"][0]
        memory = Memory(Facts(value.bound, value.grain), start, values.size)
        memory.facts.owner = memory
        family = Family(value.requires_grad)
        family.past = value.past
        tensor = self.tensors[name] = Tensor(memory, family, values, np.array(value.ids, order="C"))
        self._keep(value, memory)
        return tensor

    def leaf(self, name: str, value: Value) -> None:
        """A tensor that gradients are wanted for."""
        tensor = self.bind(name, value)
        self.make_leaf(tensor)

    def make_leaf(self, tensor: Tensor) -> None:
        tensor.ids[...] = self.tape.fresh(tensor.shape)
        tensor.token = -1 - len(self._leaves)
        tensor.family.past = frozenset({tensor.token})
        self._leaves.append(tensor)
        tensor.family.requires_grad = tensor.family.leaf = True

    def view(self, name: str, of: Tensor, movement: Movement) -> None:
        """A view, made by moving values and ids alike. Made without gradients it has a history of
        its own."""
        if of.requires_grad and not self.grad_enabled:
            of = self.detached(of)
            of.family.between = True
        view = Tensor(of.memory, of.family, movement(of.values), movement(of.ids))
        view.is_view = True
        self.tensors[name] = view

    def detached(self, of: Tensor) -> Tensor:
        """The same memory without the history."""
        ids = np.zeros(of.memory.size, np.int64)[of.offset :]
        ids = np.lib.stride_tricks.as_strided(ids, of.shape, [s * 8 for s in of.strides])
        twin = Tensor(of.memory, Family(), of.values, ids)
        twin.family.silent = of.family.silent
        twin.is_view = True
        return twin

    def from_array(self, name: str, array: Tensor) -> None:
        """A tensor on an array's memory, with versions and places of its own."""
        start = array.values.__array_interface__["data"][0]
        memory = Memory(array.memory.facts, start, array.values.size)
        ids = np.zeros(array.shape, np.int64)
        self.tensors[name] = Tensor(memory, Family(), array.values, ids)

    def check_write(self, tensor: Tensor, repeats: bool = False) -> None:
        """Raise Refused where writing in place is an error; `repeats`: not for showing an element
        twice."""
        family = tensor.family
        if self.grad_enabled and (family.between or family.leaf and family.requires_grad):
            raise Refused("RuntimeError")
        if tensor.is_view and not repeats and tensor.shows_twice():
            raise Refused("RuntimeError")

    def write(self, tensor: Tensor, value: Value, repeats: bool = False) -> None:
        """Overwrite what a tensor shows, in the tensor's dtype and shape."""
        self.check_write(tensor, repeats)
        self._store(tensor, value)
        family = tensor.family
        if self.grad_enabled and tensor.values.dtype.kind == "f":
            if value.requires_grad or family.requires_grad:
                tensor.ids[...] = value.ids
                family.past |= value.past  # also of what was overwritten: its gradient is zero
                # Writing may keep where it wrote, until a backward pass frees it.
                family.past |= {len(self.saved)}
                self.saved.append(Saved([]))
                family.requires_grad = True
                self._keep(value, tensor.memory)
        for other in self.tensors.values():
            if other.retained is not None and other.family is family:
                other.retained, other.vague_grad = None, True

    def _store(self, tensor: Tensor, value: Value) -> None:
        with np.errstate(invalid="ignore"):
            tensor.values[...] = value.values
        memory = tensor.memory
        memory.version += not tensor.family.silent
        if tensor.family.silent:
            self.disturb(memory)
        memory.facts.bound = max(memory.bound, value.bound)
        memory.facts.grain = max(memory.grain, value.grain)

    def disturb(self, memory: Memory) -> None:
        """Something was written that the tape does not see."""
        for saved in self.saved:
            reads = any(m.facts is memory.facts for m, _ in saved.memories)
            self.disturbed |= reads and not saved.freed

    # Recorded operations --------------------------------------------------------------------------

    def result(
        self,
        values: Any,
        numbers: Callable[[], Numbers],
        operands: Iterable[Value],
        keeps: Iterable[Value] = (),
        bound: float = 1.0,
        grain: int = 0,
    ) -> Value:
        """An operation's result.

        Args:
            values: in the program's dtype. numbers: computes their ids, where they are wanted.
            keeps: the operands that the operation may keep to compute its gradient.
        """
        operands = list(operands)
        values = np.asarray(values)
        self.single |= values.dtype == np.float32
        if not (
            self.grad_enabled
            and values.dtype.kind == "f"
            and any(operand.requires_grad for operand in operands)
        ):
            return Value(values, bound=bound, grain=grain)
        past = frozenset({len(self.saved)}).union(*(operand.past for operand in operands))
        self.saved.append(Saved([k.memory for k in keeps if k.memory is not None]))
        return Value(values, numbers().ids, past, True, bound, grain)

    def _keep(self, value: Value, memory: Memory) -> None:
        """Note in which memory the result lies that an operation keeps."""
        if value.requires_grad and value.kept:
            saved = self.saved[max(value.past)]
            saved.memories.append((memory, memory.version))

    # Gradients ------------------------------------------------------------------------------------

    def may_fail(self, tensor: Tensor) -> bool:
        """Has something been overwritten or freed that a backward pass may need?"""
        return any(self.saved[number].gone for number in tensor.family.past if number >= 0)

    def flow(self, root: Tensor, weights: np.ndarray, record: bool, retain: bool) -> Numbers:
        """The gradient of sum(root * weights) with respect to every id."""
        numbers = root.read().numbers
        found = self.tape.gradients(numbers, constants(weights), record)
        if not retain:
            for number in root.family.past:
                if number >= 0:
                    self.saved[number].freed = True
        return found

    def leaves(self) -> list[Tensor]:
        """The tensors that gradients are wanted for, also without a name, and those that retain
        theirs."""
        return [*self._leaves, *(t for t in self._others() if t.retained is not None)]

    def _others(self) -> list[Tensor]:
        return list({id(t): t for t in self.tensors.values() if t not in self._leaves}.values())

    def gradient_of(
        self, leaf: Tensor, found: Numbers, past: frozenset[int], record: bool
    ) -> Value | None:
        """What has flowed to a leaf, after its hooks; None if it is not among the past."""
        ids = leaf.ids if leaf.retained is None else leaf.retained
        gradient = found.moved(lambda a: a[ids])
        if leaf.token not in past:
            return None
        for factor in leaf.factors:
            self.tape.recording, before = record, self.tape.recording
            gradient = self.tape.mul(gradient, constants(factor))
            self.tape.recording = before
        values = gradient.values.astype(leaf.values.dtype)
        tracked = record and bool(gradient.ids.any())
        bound = 4 * max(1.0, float(np.abs(values).max(initial=0)))
        return Value(values, gradient.ids, past, tracked, bound, INEXACT)

    def backward(self, root: Tensor, weights: np.ndarray, record: bool, retain: bool) -> None:
        """Accumulate gradients into `grad`."""
        found = self.flow(root, weights, record, retain)
        for leaf in self.leaves():
            value = self.gradient_of(leaf, found, root.family.past, record)
            if value is None:
                continue
            old = None if leaf.grad is None else leaf.grad.read()
            if old is None:
                leaf.grad = self.unnamed(value)
                # Zeros may also be known to be zeros, and then there is no gradient.
                leaf.grad.vague_place = (
                    record and not value.requires_grad or not value.values.any()
                )
                continue
            bound = old.bound + value.bound
            assert leaf.grad is not None
            if not record:
                total = Value(old.values + value.values, bound=bound, grain=INEXACT)
                self._store(leaf.grad, total)
                # Zeros may also be known to be zeros, and then nothing is written.
                leaf.grad.memory.vague_version |= not value.values.any()
                continue
            self.tape.recording, before = True, self.tape.recording
            ids = self.tape.add(old.numbers, value.numbers).ids
            self.tape.recording = before
            past = old.past | value.past
            values = old.values + value.values
            leaf.grad = self.unnamed(Value(values, ids, past, bool(ids.any()), bound, INEXACT))
            leaf.grad.vague_place = not ids.any()

    def unnamed(self, value: Value) -> Tensor:
        """A value in memory that no name refers to."""
        tensor = self.bind("_", value)
        del self.tensors["_"]
        return tensor


def promoted(*values: Value) -> str:
    """The dtype that PyTorch computes in, for tensors, tensors of no dimensions, and Python
    numbers."""
    ranks = [[], [], []]  # type: list[list[str]]
    for value in values:
        rank = 2 if value.weak else 1 if value.values.ndim == 0 else 0
        ranks[rank].append(value.values.dtype.name)
    best = ""
    for names in ranks:
        name = max(names, key=ORDER.index, default="")
        if name and (not best or _kind(name) > _kind(best)):
            best = name
            if names is ranks[2] and name == "float64":
                best = "float32"
    if "uint8" in sum(ranks[:2], []) and best in ("int8",):
        best = "int16"
    return best


def _kind(name: str) -> int:
    return _KINDS[np.dtype(name).kind]
