"""Index expressions as LLVM integers, classified by how they vary from lane to lane.

In: an `Index`, the values of the loop variables and which of them runs over the lanes. Out: a
`Place`: a scalar for lane 0 and a constant step to the next lane where there is one (consecutive
memory: step 1), else a vector with an offset for each lane. Divisions have constant divisors and
become multiplications in LLVM; a division whose lanes provably all fall into one block stays
scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TypeGuard

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import (
    I1,
    I32,
    I64,
    bits_of,
    constant,
    intrinsic,
    lane_numbers,
    splat,
    vector,
)
from braze.ir.index import Atom, DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import Bound, Expr
from braze.ir.symint import SymInt, is_always, is_symbolic

_INT32_END = 1 << 31


@dataclass(frozen=True, slots=True)
class Place:
    """An index in every lane: base + shift + step * lane, or, where that does not hold, `offsets`
    (all else is unused then).

    What differs by a number only has one base, so that all its addresses are displacements from
    one pointer.
    """

    base: ir.Value
    step: int
    offsets: ir.Value | None = None
    shift: int = 0

    @property
    def is_uniform(self) -> bool:
        return self.offsets is None and is_always(self.step, 0)

    @property
    def is_contiguous(self) -> bool:
        return self.offsets is None and is_always(self.step, 1)


def known_factor(number: int) -> int:
    """A number that divides it, whatever the words are (0: it is 0)."""
    return number.factor if isinstance(number, SymInt) else abs(number)


def fits_int32(index: Index) -> bool:
    """True if the value, and everything it is computed from, fits 32 bits."""
    low, high = index.span
    if low < -_INT32_END or high >= _INT32_END:
        return False
    total = abs(index.constant)
    for atom, c in index.terms:
        if isinstance(atom, (FloorDiv, Mod)):
            # Negative dividends are shifted up by less than one divisor more.
            if not fits_int32(atom.inner) or atom.divisor >= _INT32_END:
                return False
            low, high = atom.inner.span
            if high - min(0, low) + atom.divisor >= _INT32_END:
                return False
        total += abs(c) * max(abs(bound) for bound in atom.span)
    return total < _INT32_END


class IndexEmitter:
    """Emits index arithmetic at the builder's position.

    Args:
        width: number of lanes.
        lane_var: the loop variable that differs from lane to lane; lane l stands for its value + l.
        variables: the loop variables' i64 values (lane 0's for `lane_var`).
        shifts: numbers that are to be added to some of them.
        alignment: a number that divides lane 0's value of `lane_var`.
        data: evaluates an integer expression (for `DataIndex`): a scalar or one value a lane.
        varies: tells whether an expression differs between lanes.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        width: int,
        lane_var: LoopVar | None,
        variables: Mapping[LoopVar, ir.Value],
        alignment: int,
        data: Callable[[Expr], ir.Value],
        varies: Callable[[Expr], bool],
        shifts: Mapping[LoopVar, int],
    ) -> None:
        self.builder = builder
        self.width = width
        self.lane_var = lane_var if width > 1 else None
        self.variables = variables
        self.alignment = alignment
        self._data = data
        self._expression_varies = varies
        self._shifts = shifts

    # Which indices differ between lanes -----------------------------------------------------------

    def varies(self, index: Index) -> bool:
        """True if the index differs (or may differ) from lane to lane."""
        return self.width > 1 and any(self._atom_varies(atom) for atom, _ in index.terms)

    def _atom_varies(self, atom: Atom) -> bool:
        if isinstance(atom, LoopVar):
            return atom == self.lane_var
        if isinstance(atom, DataIndex):
            return self._expression_varies(atom.value)
        return self.varies(atom.inner)

    def _lane_step(self, index: Index) -> int | None:
        """The constant step between lanes, None if there is none."""
        step = 0
        for atom, c in index.terms:
            if self._atom_varies(atom):
                atom_step = self._atom_step(atom)
                if atom_step is None:
                    return None
                step += c * atom_step
        return step

    def _atom_step(self, atom: Atom) -> int | None:
        if isinstance(atom, LoopVar):
            return 1
        if isinstance(atom, DataIndex):
            return None
        step = self._lane_step(atom.inner)
        if step is None or not self._in_one_block(atom.inner, step, atom.divisor):
            return None
        return 0 if isinstance(atom, FloorDiv) else step

    def _in_one_block(self, index: Index, step: int, divisor: int) -> bool:
        """True if no multiple of the divisor lies between two lanes' values."""
        if is_symbolic(step):
            return False
        reach = step * self.width
        return step > 0 and known_factor(divisor) % reach == 0 == self._known_factor(index) % reach

    def _known_factor(self, index: Index) -> int:
        """A number that divides lane 0's value (0: the value is 0)."""
        factor = known_factor(index.constant)
        for atom, c in index.terms:
            known = self.alignment if atom == self.lane_var else 1
            factor = gcd(factor, known_factor(c) * known)
        return factor

    # Values ---------------------------------------------------------------------------------------

    def place(self, index: Index) -> Place:
        """How the index varies, with its scalar or vector value emitted."""
        step = self._lane_step(index) if self.varies(index) else 0
        if step is not None:
            base, shift = self._apart(index)
            return Place(base, step, None, shift)
        element = I32 if fits_int32(index) else I64
        return Place(constant(I64, 0), 0, self.vector(index, element))

    def scalar(self, index: Index) -> ir.Value:
        """Lane 0's value as i64."""
        base, shift = self._apart(index)
        return self._add(base, constant(I64, shift))

    def _apart(self, index: Index) -> tuple[ir.Value, int]:
        """Lane 0's value as a sum of an i64 and a number."""
        total: ir.Value = constant(I64, 0)
        shift = index.constant
        for atom, c in index.terms:
            if isinstance(atom, LoopVar):
                shift += c * self._shifts.get(atom, 0)
            value = self._scale(self._scalar_atom(atom), c)
            if _is_number(value):
                shift += value.constant
            else:
                total = self._add(total, value)
        return total, shift

    def _scalar_atom(self, atom: Atom) -> ir.Value:
        if isinstance(atom, LoopVar):
            return self.variables[atom]  # without its shift
        if isinstance(atom, DataIndex):
            return self._clamp(self._data(atom.value), atom.extent, I64)
        return self._divide(self.scalar(atom.inner), atom)

    def vector(self, index: Index, element: ir.IntType) -> ir.Value:
        """The value in every lane, as integers of the given width."""
        uniform = Index(
            tuple((a, c) for a, c in index.terms if not self._atom_varies(a)), index.constant
        )
        step = 0
        total: ir.Value | None = None
        for atom, c in index.terms:
            if not self._atom_varies(atom):
                continue
            atom_step = self._atom_step(atom)
            if atom_step is not None:
                uniform = uniform + Index(((atom, c),))
                step += c * atom_step
            else:
                part = self._scale(self._vector_atom(atom, element), c)
                total = part if total is None else self.builder.add(total, part)
        scalar = self.scalar(uniform)
        if not _is_number(scalar, 0) or total is None or step:
            ramp = splat(self.builder, self._resize(scalar, element), self.width)
            if step:
                ramp = self.builder.add(ramp, lane_numbers(element, self.width, step))
            total = ramp if total is None else self.builder.add(total, ramp)
        return total

    def _vector_atom(self, atom: Atom, element: ir.IntType) -> ir.Value:
        if isinstance(atom, DataIndex):
            return self._clamp(self._data(atom.value), atom.extent, element)
        assert not isinstance(atom, LoopVar), "the lanes' variable has a constant step"
        return self._divide(self.vector(atom.inner, element), atom)

    def _divide(self, value: ir.Value, atom: FloorDiv | Mod) -> ir.Value:
        """Floor division or remainder, as unsigned operations on a value shifted to be nonnegative.
        """
        divisor = atom.divisor
        low = atom.inner.span[0]
        shift = -(low // divisor) if low < 0 else 0
        type = value.type
        if isinstance(value, ir.Constant) and isinstance(value.constant, int):
            pair = divmod(value.constant, divisor)
            return constant(type, pair[0] if isinstance(atom, FloorDiv) else pair[1])
        if shift:
            value = self.builder.add(value, constant(type, shift * divisor))
        if isinstance(atom, Mod):
            return self.builder.urem(value, constant(type, divisor))
        quotient = self.builder.udiv(value, constant(type, divisor))
        return self.builder.sub(quotient, constant(type, shift)) if shift else quotient

    def _clamp(self, value: ir.Value, extent: int, element: ir.IntType) -> ir.Value:
        """0 <= value < extent, then resized (in the other order, large values would wrap into
        range).
        """
        type = value.type
        if bits_of(type) < 32:
            value = self._resize(value, I32)
            type = value.type
        value = intrinsic(self.builder, "smax", type, [value, constant(type, 0)])
        value = intrinsic(self.builder, "smin", type, [value, constant(type, max(extent - 1, 0))])
        return self._resize(value, element)

    def _resize(self, value: ir.Value, element: ir.IntType) -> ir.Value:
        have = bits_of(value.type)
        if have == element.width:
            return value
        if isinstance(value, ir.Constant) and isinstance(value.constant, int):
            return constant(element, value.constant)
        type = (
            vector(element, value.type.count) if isinstance(value.type, ir.VectorType) else element
        )
        return (
            self.builder.sext(value, type)
            if have < element.width
            else self.builder.trunc(value, type)
        )

    def _add(self, left: ir.Value, right: ir.Value) -> ir.Value:
        if _is_number(left) and _is_number(right):
            return constant(I64, left.constant + right.constant)
        if _is_number(left, 0):
            return right
        if _is_number(right, 0):
            return left
        return self.builder.add(left, right, flags=("nsw",))

    def _scale(self, value: ir.Value, factor: int) -> ir.Value:
        if is_always(factor, 1):
            return value
        if _is_number(value):
            return constant(value.type, value.constant * factor)
        scalar = not isinstance(value.type, ir.VectorType)
        flags = ("nsw",) if scalar else ()
        return self.builder.mul(value, constant(value.type, factor), flags=flags)

    # Conditions -----------------------------------------------------------------------------------

    def conditions(self, bounds: tuple[Bound, ...]) -> tuple[ir.Value | None, ir.Value | None]:
        """The conjunction of the bounds: a part common to all lanes (i1) and one by lane; None is
        true.
        """
        common: ir.Value | None = None
        by_lane: ir.Value | None = None
        for bound in bounds:
            if bound.is_always_true:
                continue
            if self.varies(bound.index):
                by_lane = self.both(by_lane, self._condition(bound, in_lanes=True))
            else:
                common = self.both(common, self._condition(bound, in_lanes=False))
        return common, by_lane

    def both(self, left: ir.Value | None, right: ir.Value | None) -> ir.Value | None:
        """Conjunction of two conditions of one type, where None is true."""
        if left is None or right is None:
            return right if left is None else left
        return self.builder.and_(left, right)

    def _condition(self, bound: Bound, in_lanes: bool) -> ir.Value:
        low, high = bound.index.span
        if high < bound.low or low >= bound.high:
            return constant(vector(I1, self.width) if in_lanes else I1, 0)
        shifted = bound.index - bound.low
        if in_lanes:
            value = self.vector(shifted, I32 if fits_int32(shifted) else I64)
        else:
            value = self.scalar(shifted)
        type = value.type
        size = bound.high - bound.low
        if low >= bound.low:
            return self.builder.icmp_signed("<", value, constant(type, size))
        if high < bound.high:
            return self.builder.icmp_signed(">=", value, constant(type, 0))
        return self.builder.icmp_unsigned("<", value, constant(type, size))


def _is_number(value: ir.Value, number: int | None = None) -> TypeGuard[ir.Constant]:
    """True for a scalar integer constant (of this value)."""
    if not isinstance(value, ir.Constant) or not isinstance(value.constant, int):
        return False
    return number is None or value.constant == number
