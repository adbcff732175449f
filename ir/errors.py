"""Exceptions that Braze raises.

They derive from the built-in types that PyTorch raises in the same place, so a program written for
PyTorch catches them unchanged.
"""


class BrazeError(Exception):
    """Base of every error that Braze defines."""


class ShapeError(BrazeError, RuntimeError):
    """Operand shapes do not fit together, or do not fit the operation."""


class DTypeError(BrazeError, RuntimeError):
    """An operand's dtype is not one that the operation takes."""


class UnsupportedDTypeError(DTypeError, NotImplementedError):
    """An operation has no meaning for complex numbers."""


class DimensionError(BrazeError, IndexError):
    """A dimension number is outside the tensor's rank."""


class AttributeTypeError(BrazeError, TypeError):
    """An argument or a node attribute has the wrong type."""


class DeviceError(BrazeError, RuntimeError):
    """Operands are on different devices."""


class LinAlgError(BrazeError, RuntimeError):
    """A matrix has not the property that an operation needs: it is singular, not positive definite,
    or an iteration does not converge."""


class ValueCheckError(BrazeError, RuntimeError):
    """An element has a value that an operation does not take, for example a negative rate."""


class ConstraintError(BrazeError, ValueError):
    """An element has a value that an argument must not have, for example a negative variance."""


class DivisorError(BrazeError, RuntimeError):
    """Integers were divided by zero. The message begins as PyTorch's: ZeroDivisionError."""


class VerifyError(BrazeError, ValueError):
    """A graph or a kernel breaks a rule of the IR."""


class ParseError(BrazeError, ValueError):
    """The text of a graph or a kernel does not follow the grammar."""


# What a `check_range` names that guards a division: 0 stands for "no zero", 1 for "a zero".
ZERO_DIVISION = "ZeroDivisionError"


def said_by_check(message: str) -> str | None:
    """What the exception of `failed_check` says, if it is the same for all values and ranges."""
    if message == ZERO_DIVISION:
        return f"{ZERO_DIVISION}: an integer divisor is 0"
    name, _, text = message.partition("!")
    text = text.removeprefix("!")
    return f"[{name}] {text}" if text else None


def failed_check(
    message: str, value: int, low: int, high: int
) -> IndexError | DivisorError | ValueCheckError | ConstraintError:
    """The exception of a `check_range` that found a value out of range.

    The message names the operation. "operation!" makes it a RuntimeError (PyTorch raises one in
    places, for an index too), "operation!text" one with this text in place of the range, and
    "operation!!text" a ValueError with it.
    """
    if message == ZERO_DIVISION:
        return DivisorError(said_by_check(message))
    name, other, text = message.partition("!")
    said = said_by_check(message)
    if text.startswith("!"):
        return ConstraintError(said)
    said = said or f"[{name}] index {value} is out of range [{low}, {high})"
    return (ValueCheckError if other else IndexError)(said)
