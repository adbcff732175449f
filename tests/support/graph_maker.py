"""A random graph in the making: the values so far, their bounds, and picks among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import braze.ir as ir
from braze.ir.graph import Value

LIMIT = 1000.0  # larger values are scaled down before anything else reads them


class Maker:
    """A graph in the making.

    Attributes:
        bound: largest magnitude that each value can have.
        exact: values that every right implementation computes to the last bit.
    """

    def __init__(self, choices: Any, dtypes: tuple[ir.DType, ...], numel: int) -> None:
        self.b = ir.Builder("random")
        self.choices = choices
        self.dtypes = dtypes
        self.numel = numel
        self.pool: list[Value] = []
        self.bound: dict[Value, float] = {}
        self.exact: set[Value] = set()

    # Values ---------------------------------------------------------------------------------------

    def shape(self) -> tuple[int, ...]:
        """A small shape of rank 0 to 4, mostly 1 to 3."""
        rank = self.choices.pick((0, 1, 1, 2, 2, 2, 3, 3, 4))
        while True:
            shape = tuple(self.choices.pick((1, 2, 3, 4, 5, 7)) for _ in range(rank))
            if math.prod(shape) <= self.numel:
                return shape
            rank -= 1

    def new_input(
        self, dtype: ir.DType | None = None, shape: tuple[int, ...] | None = None
    ) -> Value:
        dtype = dtype or self.choices.pick(self.dtypes)
        shape = self.shape() if shape is None else shape
        roles = ("data", "param", "buffer") + (("scalar",) if shape == () else ())
        value = self.b.input(ir.tensor_type(dtype, shape), self.choices.pick(roles))
        return self.add(value, 2.0 if dtype.is_floating_point else 10.0, exact=True)

    def add(self, value: Value, bound: float, exact: bool) -> Value:
        """Enter a value in the pool, scaled down first where it may be large."""
        dtype = value.dtype
        if dtype is ir.bool_:
            bound, exact = 1.0, True
        elif dtype.is_integer:
            exact = True
            bound = min(bound, 2.0 ** (dtype.bits - (dtype.kind == "int")))
            if bound > LIMIT:
                value, bound = self.b.remainder(value, 17), 17.0
        elif bound > LIMIT:
            value, bound = self.b.mul(value, LIMIT / 2 / max(bound, LIMIT)), LIMIT / 2
            exact = False
        self.pool.append(value)
        self.bound[value] = bound
        if exact:
            self.exact.add(value)
        return value

    def pick(self, test: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A value that passes a test, mostly a recent one."""
        fitting = [value for value in self.pool if test(value)]
        if not fitting:
            return None
        recent = fitting[-3:] if self.choices.chance(60) else fitting
        found: Value = self.choices.pick(recent)
        return found

    def number(self) -> Value:
        """Any value but a bool."""
        numeric = [d for d in self.dtypes if d is not ir.bool_] or [ir.f32]
        value = self.pick(lambda v: v.dtype is not ir.bool_)
        return value if value is not None else self.new_input(self.choices.pick(numeric))

    def any_value(self) -> Value:
        value = self.pick()
        return value if value is not None else self.new_input()

    def floating(self) -> Value:
        floats = [d for d in self.dtypes if d.is_floating_point] or [ir.f32]
        value = self.pick(lambda v: v.dtype.is_floating_point)
        return value if value is not None else self.new_input(self.choices.pick(floats))

    def index(self, size: int, shape: tuple[int, ...] | None = None) -> Value:
        """Integers in range for a dimension of `size`."""
        value = None
        if shape is None:
            value = self.pick(lambda v: v.dtype in (ir.i64, ir.i32) and v.type.rank <= 2)
        if value is None:
            small = shape if shape is not None else (self.choices.integer(1, 4),)
            value = self.new_input(self.choices.pick((ir.i64, ir.i32)), small)
        index = self.b.remainder(value, size)
        return self.add(index, size, exact=True)

    def partner(self, x: Value) -> Value:
        """A second operand that broadcasts with x."""

        def fits(y: Value) -> bool:
            if y.dtype is not x.dtype:
                return False
            try:
                shape = ir.broadcast_shapes("partner", x.type, y.type)
            except ir.ShapeError:
                return False
            return math.prod(shape) <= self.numel

        found = self.pick(fits) if self.choices.chance(70) else None
        if found is not None:
            return found
        if self.choices.chance(20):
            return self.add(self.b.constant(value=2, dtype=x.dtype), 2.0, exact=True)
        kept = x.shape[self.choices.integer(0, x.type.rank) :]
        return self.new_input(x.dtype, tuple(1 if self.choices.chance(30) else s for s in kept))

    def exactly(self, value: Value) -> Value:
        """The value if it is exact, else an input of its type."""
        return value if value in self.exact else self.new_input(value.dtype, value.shape)

    def bounds(self, *values: Value) -> list[float]:
        return [self.bound[value] for value in values]
