"""Types and values of LLVM IR as text, for `braze.codegen.llvm.ir`.

A type is equal to any other of the same text, a value is a type and a name or a constant's text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np


class Type:
    """A type of LLVM's."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Type) and self.text == other.text)

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text


class VoidType(Type):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("void")


class PointerType(Type):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("ptr")


class IntType(Type):
    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        super().__init__(f"i{width}")
        self.width = width


class HalfType(Type):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("half")


class FloatType(Type):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("float")


class DoubleType(Type):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("double")


class VectorType(Type):
    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"<{count} x {element.text}>")
        self.element, self.count = element, count


@cache
def vector(element: Type, lanes: int) -> Type:
    """`lanes` elements side by side; the element itself for one lane."""
    return element if lanes == 1 else VectorType(element, lanes)


class ArrayType(Type):
    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"[{count} x {element.text}]")
        self.element, self.count = element, count


class StructType(Type):
    __slots__ = ("elements",)

    def __init__(self, elements: Sequence[Type]) -> None:
        super().__init__(f"{{ {', '.join(element.text for element in elements)} }}")
        self.elements = tuple(elements)


class FunctionType:
    """What a function gives and takes."""

    __slots__ = ("arguments", "return_type")

    def __init__(self, return_type: Type, arguments: Sequence[Type]) -> None:
        self.return_type, self.arguments = return_type, tuple(arguments)


I1, I32 = IntType(1), IntType(32)
POINTER = PointerType()


class Value:
    """Something that instructions take.

    Attributes:
        ref: its name, or a constant's text.
        typed: that behind its type.
    """

    __slots__ = ("ref", "type", "typed")

    def __init__(self, type: Type, ref: str) -> None:
        # Which type it is, is known to whoever asks for a vector's element or a number's width.
        self.type: Any = type
        self.ref = ref
        self.typed = f"{type.text} {ref}"


class Constant(Value):
    """A number; numbers or constants side by side; None for zero bits; or text as LLVM writes it.
    """

    __slots__ = ("constant",)

    def __init__(self, type: Type, constant: float | str | Sequence[Any] | None) -> None:
        super().__init__(type, _text_of(type, constant))
        self.constant: Any = constant


def _text_of(type: Type, value: float | str | Sequence[Any] | None) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "zeroinitializer"
    if isinstance(type, (VectorType, ArrayType)):
        assert isinstance(value, Sequence)
        items = [
            item.typed if isinstance(item, Value) else f"{type.element.text} {item}"
            for item in value
        ]
        text = ", ".join(items)
        return f"<{text}>" if isinstance(type, VectorType) else f"[{text}]"
    assert isinstance(value, (int, float))
    if isinstance(type, IntType):
        return str(int(value))
    number = float(np.float32(value)) if isinstance(type, FloatType) else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016x}"
