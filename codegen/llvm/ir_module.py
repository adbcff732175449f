"""Modules, functions and blocks of LLVM IR as text, for `braze.codegen.llvm.ir`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.codegen.llvm.ir_types import POINTER, Constant, FunctionType, Type, Value


class Metadata:
    """A node of metadata: ``!7``."""

    __slots__ = ("ref",)

    def __init__(self, ref: str) -> None:
        self.ref = ref


class Module:
    """Functions and variables.

    Attributes:
        globals: all of them by name.
        is_part: of a program of several modules, of which one defines what others use too.
    """

    def __init__(self, *, is_part: bool = False) -> None:
        self.is_part = is_part
        self.globals: dict[str, Any] = {}
        self._metadata: dict[str, Metadata] = {}

    def add_metadata(self, operands: Sequence[str | Value | Metadata]) -> Metadata:
        """The node of these operands, made on first use."""
        text = ", ".join(
            f'!"{operand}"'
            if isinstance(operand, str)
            else operand.ref if isinstance(operand, Metadata) else operand.typed
            for operand in operands
        )
        return self._metadata.setdefault(text, Metadata(f"!{len(self._metadata)}"))

    @property
    def lines(self) -> int:
        """How many instructions there are."""
        return sum(g.lines for g in self.globals.values() if isinstance(g, Function))

    def __str__(self) -> str:
        parts = [str(item) for item in self.globals.values()]
        parts += [f"{node.ref} = !{{ {text} }}" for text, node in self._metadata.items()]
        return "\n".join(parts) + "\n"


class GlobalVariable(Value):
    """Memory of a module; its value is its address. What is internal needs an initial value."""

    __slots__ = ("align", "global_constant", "initializer", "linkage", "value_type")

    def __init__(self, module: Module, type: Type, name: str) -> None:
        super().__init__(POINTER, f"@{name}")
        self.value_type = type
        self.initializer: Constant | None = None
        self.linkage = ""
        self.global_constant = False
        self.align = 0
        module.globals[name] = self

    def __str__(self) -> str:
        kind = "constant" if self.global_constant else "global"
        initial = "" if self.initializer is None else f" {self.initializer.ref}"
        align = f", align {self.align}" if self.align else ""
        return f"{self.ref} = {self.linkage} {kind} {self.value_type}{initial}{align}"


class Function(Value):
    """A function, which is only declared as long as it has no block; its value is its address.

    Attributes:
        args: the arguments' values.
        values: how many names have been given in it.
    """

    __slots__ = (
        "args", "attributes", "blocks", "labels", "linkage", "module", "signature", "values",
    )  # fmt: skip

    def __init__(
        self, module: Module, signature: FunctionType, name: str, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__(POINTER, f"@{name}")
        self.module = module
        self.signature = signature
        self.linkage = ""
        self.attributes: set[str] = set()
        self.blocks: list[Block] = []
        self.labels = dict.fromkeys(arguments, 1)
        self.values = len(signature.arguments)
        self.args = tuple(
            Value(type, f"%{arguments[i]}" if arguments else f"%.{i + 1}")
            for i, type in enumerate(signature.arguments)
        )
        module.globals[name] = self

    @property
    def lines(self) -> int:
        """How many instructions there are."""
        return sum(len(block.lines) for block in self.blocks)

    @property
    def entry_basic_block(self) -> Block:
        return self.blocks[0]

    def append_basic_block(self, name: str = "block") -> Block:
        """A new block behind those that are there."""
        found = Block(self, self.unique(name))
        self.blocks.append(found)
        return found

    def unique(self, name: str) -> str:
        """A name that nothing in the function has, made of this one."""
        count = self.labels.get(name, 0)
        self.labels[name] = count + 1
        return f"{name}.{count}" if count else name

    def __str__(self) -> str:
        arguments = ", ".join(
            arg.typed if self.blocks else arg.type.text for arg in self.args
        )
        attributes = "".join(f" {name}" for name in sorted(self.attributes))
        head = f"{self.signature.return_type} {self.ref}({arguments}){attributes}"
        if not self.blocks:
            return f"declare {head}"
        linkage = f"{self.linkage} " if self.linkage else ""
        lines = [f"define {linkage}{head} {{"]
        for block in self.blocks:
            lines.append(f"{block.name}:")
            lines += block.lines
        lines.append("}")
        return "\n".join(lines)


class Block:
    """Instructions in a row.

    Attributes:
        is_terminated: it has got its last one.
        known: the values of lines without effects.
    """

    __slots__ = ("function", "is_terminated", "known", "lines", "name")

    def __init__(self, function: Function, name: str) -> None:
        self.function = function
        self.name = name
        self.lines: list[str] = []
        self.is_terminated = False
        self.known: dict[str, Value] = {}


class Instruction(Value):
    """An instruction to which something may be added: metadata."""

    __slots__ = ("_at", "_lines")

    def __init__(self, type: Type, ref: str, lines: list[str], text: str) -> None:
        super().__init__(type, ref)
        self._lines, self._at = lines, len(lines)
        lines.append(text)

    def set_metadata(self, kind: str, node: Metadata) -> None:
        """Attach a node."""
        self._lines[self._at] += f", !{kind} {node.ref}"


class Phi(Instruction):
    """The value that belongs to the block from which this one was reached."""

    __slots__ = ("_separator",)

    def __init__(self, type: Type, ref: str, lines: list[str]) -> None:
        super().__init__(type, ref, lines, f"  {ref} = phi {type.text}")
        self._separator = " "

    def add_incoming(self, value: Value, block: Block) -> None:
        """The value if that block was before."""
        self._lines[self._at] += f"{self._separator}[{value.ref}, %{block.name}]"
        self._separator = ", "
