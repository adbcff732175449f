"""Complex values as pairs of real ones: how an operation on complex operands becomes real ones.

`PartsBuilder` is a builder on which a value may be a `Pair`. An operation that a pair goes into is
not emitted; its declaration says what it means for the parts (`Op.complex`). So decompositions and
rules are written for complex values as for others, and what comes out knows real dtypes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from braze.ir.builder import Builder
from braze.ir.dtypes import DType
from braze.ir.errors import UnsupportedDTypeError
from braze.ir.graph import Value
from braze.ir.op import Op, op_named
from braze.ir.types import Shape, TensorType, broadcast_shapes


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A complex value in the making.

    Attributes:
        re, im: its parts, of one type.
        is_real: the imaginary part is known to be zero, so that a product needs no cross terms.
    """

    re: Value
    im: Value
    is_real: bool = False

    @property
    def type(self) -> TensorType:
        """The complex type that this stands for."""
        return self.re.type.with_dtype(self.dtype)

    @property
    def dtype(self) -> DType:
        return self.re.type.dtype.to_complex()

    @property
    def shape(self) -> Shape:
        return self.re.type.shape


class PartsBuilder(Builder):
    """A builder whose operations take pairs too.

    Composites without a rule for parts are unfolded where a pair goes into them, and kept
    elsewhere.
    """

    def real(self, x: Any) -> Any:
        """The real part."""
        return x.re if isinstance(x, Pair) else super().__getattr__("real")(x)

    def imag(self, x: Any) -> Any:
        """The imaginary part."""
        return x.im if isinstance(x, Pair) else super().__getattr__("imag")(x)

    def complex(self, re: Any, im: Any) -> Pair:
        """A pair of two parts, which broadcast."""
        shape = broadcast_shapes("complex", re.type, im.type)
        parts = [x if x.type.shape == shape else self.expand(x, shape=shape) for x in (re, im)]
        return Pair(*parts)

    def parted(self, x: Value) -> Pair:
        """The parts of a complex value of the graph."""
        return Pair(
            self.emit(op_named("real"), (x,), {}).result,
            self.emit(op_named("imag"), (x,), {}).result,
        )

    def joined(self, x: Pair) -> Value:
        """A pair as one complex value of the graph."""
        return self.emit(op_named("complex"), (x.re, x.im), {}).result

    def paired(self, x: Pair) -> Value:
        """A pair as one real value: real and imaginary part as the last dimension."""
        source = _whole(x)
        if source is not None:
            return source
        result: Value = self.stack(x.re, x.im, dim=x.re.type.rank)
        return result

    def unpaired(self, x: Value) -> Pair:
        """The inverse of `paired`."""
        last = x.type.rank - 1
        return Pair(self.select(x, dim=last, index=0), self.select(x, dim=last, index=1))

    def real_pair(self, re: Value) -> Pair:
        """A real value as a complex one."""
        return Pair(re, self.zeros(re.type), True)

    def zeros(self, type: TensorType) -> Value:
        """Zeros of this type."""
        zero = self.constant(value=0.0, dtype=type.dtype)
        result: Value = self.expand(zero, shape=type.shape) if type.shape else zero
        return result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        emit = super().__getattr__(name)
        op = op_named(name)

        def call(*operands: Any, **attributes: Any) -> Any:
            lifted = self.lift(operands)
            if needs_parts(op, lifted, attributes):
                return self.in_parts(op, lifted, attributes)
            return emit(*lifted, **attributes)

        return call

    def lift(self, operands: Sequence[Any]) -> list[Any]:
        if not any(isinstance(x, Pair) for x in operands):
            return super().lift(operands)
        dtype = next(x.dtype for x in reversed(operands) if isinstance(x, (Value, Pair)))
        return [
            x if isinstance(x, (Value, Pair)) else self.constant(value=x, dtype=dtype)
            for x in operands
        ]

    def in_parts(self, op: Op, operands: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """An operation of which an operand or the result is complex."""
        real = not any(isinstance(x, Pair) for x in operands)
        if real and "dtype" in attributes:  # a creation, or a cast of a real value
            part = attributes | {"dtype": attributes["dtype"].to_real()}
            return self.real_pair(getattr(self, op.name)(*operands, **part))
        rule = op.complex
        if callable(rule):
            return rule(self, *operands, **attributes)
        if not rule:
            given = ", ".join(str(x.type) for x in operands)
            raise UnsupportedDTypeError(
                f"[{op.name}] not implemented for complex operands, given {given}"
            )
        if not op.is_primitive:
            assert op.decompose is not None
            return op.decompose(self, *operands, **attributes)
        re = getattr(self, op.name)(*[_re(x) for x in operands], **attributes)
        im = getattr(self, op.name)(*[_im(x) for x in operands], **attributes)
        return Pair(re, im, all(not isinstance(x, Pair) or x.is_real for x in operands))


def _whole(x: Pair) -> Value | None:
    """The value whose last dimension the two parts were selected from, if there is one."""
    re, im = x.re.node, x.im.node
    if re is None or im is None or not re.op.name == im.op.name == "select":
        return None
    source = re.operands[0]
    last = {"dim": source.type.rank - 1}
    fits = im.operands[0] is source and source.type.shape[-1:] == (2,)
    if fits and re.attributes == last | {"index": 0} and im.attributes == last | {"index": 1}:
        return source
    return None


def _re(x: Any) -> Any:
    return x.re if isinstance(x, Pair) else x


def _im(x: Any) -> Any:
    return x.im if isinstance(x, Pair) else x


def needs_parts(op: Op, operands: Sequence[Any], attributes: dict[str, Any]) -> bool:
    """Does an operation read or make complex numbers?"""
    if any(isinstance(x, Pair) for x in operands):
        return True
    if any(isinstance(value, DType) and value.is_complex for value in attributes.values()):
        return True
    if not op.complex or (op.is_primitive and not op.is_host):
        return False
    types = op.result_types([x.type for x in operands], attributes)
    return any(t.dtype.is_complex for t in types)

