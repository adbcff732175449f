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


class DimensionError(BrazeError, IndexError):
    """A dimension number is outside the tensor's rank."""


class AttributeTypeError(BrazeError, TypeError):
    """An argument or a node attribute has the wrong type."""


class LinAlgError(BrazeError, RuntimeError):
    """A matrix has not the property that an operation needs: it is singular, not positive definite,
    or an iteration does not converge."""


class VerifyError(BrazeError, ValueError):
    """A graph or a kernel breaks a rule of the IR."""


class ParseError(BrazeError, ValueError):
    """The text of a graph or a kernel does not follow the grammar."""


def range_error(message: str, value: int, low: int, high: int, place: str = "") -> Exception:
    """What a failed check raises.

    Args:
        message: the operation: an IndexError that tells value and range. "operation!" makes it a
            RuntimeError, and "operation!text" one with this text.
        place: the user's line.
    """
    name, other, text = message.partition("!")
    text = text or f"index {value} is out of range [{low}, {high})"
    return (RuntimeError if other else IndexError)(f"[{name}] {text}{place}")
