"""LLVM IR as text, written while it is built: modules, functions, blocks, and a builder.

In: calls of an `IRBuilder`'s methods, one for each instruction.  Out: `str(module)`.

The names are llvmlite's, whose classes keep an object for every instruction and print them in the
end; that takes three times as long, most of the time of generating code. Here an instruction is
a line at once, and its `Value` no more than a type and a name. A line without effects that a block
has already is not written again: its value stands for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from braze.codegen.llvm.ir_module import (
    Block,
    Function,
    GlobalVariable,
    Instruction,
    Metadata,
    Module,
    Phi,
)
from braze.codegen.llvm.ir_types import (
    I1,
    I32,
    POINTER,
    ArrayType,
    Constant,
    DoubleType,
    FloatType,
    FunctionType,
    HalfType,
    IntType,
    PointerType,
    StructType,
    Type,
    Value,
    VectorType,
    VoidType,
    vector,
)

__all__ = [
    "ArrayType",
    "Block",
    "Constant",
    "DoubleType",
    "FloatType",
    "Function",
    "FunctionType",
    "GlobalVariable",
    "HalfType",
    "IRBuilder",
    "Instruction",
    "IntType",
    "Metadata",
    "Module",
    "Phi",
    "PointerType",
    "StructType",
    "Type",
    "Value",
    "VectorType",
    "VoidType",
]

_ORDERS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_UNLIKELY, _LIKELY = (1, 99), (99, 1)
_VOID = VoidType()


class IRBuilder:
    """Appends instructions to a block.

    Attributes:
        block: the block. function, module: its own.
    """

    def __init__(self, block: Block) -> None:
        self.function = block.function
        self.module = block.function.module
        self.position_at_end(block)

    def position_at_end(self, block: Block) -> None:
        """Go on in another block of the function."""
        self.block = block
        self._lines = block.lines
        self._known = block.known

    def append_basic_block(self, name: str = "block") -> Block:
        return self.function.append_basic_block(name)

    @contextmanager
    def goto_entry_block(self) -> Iterator[None]:
        """Allocations within it stand in the first block."""
        before = self.block
        self.position_at_end(self.function.blocks[0])
        yield
        self.position_at_end(before)

    @contextmanager
    def if_then(self, condition: Value, likely: bool | None = None) -> Iterator[None]:
        """Code that runs where the condition holds."""
        then, after = self.append_basic_block("then"), self.append_basic_block("after")
        self.cbranch(condition, then, after, likely)
        self.position_at_end(then)
        yield
        self._leave(after)
        self.position_at_end(after)

    @contextmanager
    def if_else(
        self, condition: Value
    ) -> Iterator[tuple[_Branch, _Branch]]:
        """Two contexts, for the code that runs where the condition holds, and the other."""
        then, other = self.append_basic_block("then"), self.append_basic_block("else")
        after = self.append_basic_block("after")
        self.cbranch(condition, then, other)
        yield _Branch(self, then, after), _Branch(self, other, after)
        self.position_at_end(after)

    def _leave(self, after: Block) -> None:
        if not self.block.is_terminated:
            self.branch(after)

    # How lines are written ----------------------------------------------------------------------

    def _pure(self, type: Type, text: str) -> Value:
        """The value of an instruction without effects."""
        found = self._known.get(text)
        if found is None:
            function = self.function
            function.values += 1
            ref = f"%.{function.values}"
            self._lines.append(f"  {ref} = {text}")
            found = self._known[text] = Value(type, ref)
        return found

    def _effect(self, type: Type, text: str) -> Instruction:
        """An instruction that must stay where it is."""
        if type is _VOID or type.text == "void":
            return Instruction(type, "", self._lines, f"  {text}")
        function = self.function
        function.values += 1
        ref = f"%.{function.values}"
        return Instruction(type, ref, self._lines, f"  {ref} = {text}")

    def _binary(self, name: str, x: Value, y: Value, flags: Sequence[str]) -> Value:
        type = x.type
        if flags:
            name = f"{name} {' '.join(flags)}"
        return self._pure(type, f"{name} {type.text} {x.ref}, {y.ref}")

    def _cast(self, name: str, x: Value, type: Type) -> Value:
        if x.type == type:
            return x
        return self._pure(type, f"{name} {x.type.text} {x.ref} to {type.text}")

    def _compare(self, name: str, x: Value, y: Value) -> Value:
        type = x.type
        truth = vector(I1, type.count) if isinstance(type, VectorType) else I1
        return self._pure(truth, f"{name} {type.text} {x.ref}, {y.ref}")

    # Arithmetic ---------------------------------------------------------------------------------

    def add(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("add", x, y, flags)

    def sub(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("sub", x, y, flags)

    def mul(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("mul", x, y, flags)

    def udiv(self, x: Value, y: Value) -> Value:
        return self._binary("udiv", x, y, ())

    def sdiv(self, x: Value, y: Value) -> Value:
        return self._binary("sdiv", x, y, ())

    def urem(self, x: Value, y: Value) -> Value:
        return self._binary("urem", x, y, ())

    def srem(self, x: Value, y: Value) -> Value:
        return self._binary("srem", x, y, ())

    def fadd(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("fadd", x, y, flags)

    def fsub(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("fsub", x, y, flags)

    def fmul(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("fmul", x, y, flags)

    def fdiv(self, x: Value, y: Value, flags: Sequence[str] = ()) -> Value:
        return self._binary("fdiv", x, y, flags)

    def fneg(self, x: Value) -> Value:
        return self._pure(x.type, f"fneg {x.typed}")

    def and_(self, x: Value, y: Value) -> Value:
        return self._binary("and", x, y, ())

    def or_(self, x: Value, y: Value) -> Value:
        return self._binary("or", x, y, ())

    def xor(self, x: Value, y: Value) -> Value:
        return self._binary("xor", x, y, ())

    def not_(self, x: Value) -> Value:
        ones = "-1" if not isinstance(x.type, VectorType) else f"splat ({x.type.element} -1)"
        return self._pure(x.type, f"xor {x.typed}, {ones}")

    def shl(self, x: Value, y: Value) -> Value:
        return self._binary("shl", x, y, ())

    def lshr(self, x: Value, y: Value) -> Value:
        return self._binary("lshr", x, y, ())

    def ashr(self, x: Value, y: Value) -> Value:
        return self._binary("ashr", x, y, ())

    # Comparison and choice ----------------------------------------------------------------------

    def icmp_signed(self, order: str, x: Value, y: Value) -> Value:
        name = _ORDERS[order]
        return self._compare(f"icmp {name if name in ('eq', 'ne') else 's' + name}", x, y)

    def icmp_unsigned(self, order: str, x: Value, y: Value) -> Value:
        name = _ORDERS[order]
        return self._compare(f"icmp {name if name in ('eq', 'ne') else 'u' + name}", x, y)

    def fcmp_ordered(self, order: str, x: Value, y: Value) -> Value:
        """False where an operand is nan; or another order of LLVM's by its name."""
        return self._compare(f"fcmp {'o' + _ORDERS[order] if order in _ORDERS else order}", x, y)

    def fcmp_unordered(self, order: str, x: Value, y: Value) -> Value:
        """True where an operand is nan; or another order of LLVM's by its name."""
        return self._compare(f"fcmp {'u' + _ORDERS[order] if order in _ORDERS else order}", x, y)

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        return self._pure(x.type, f"select {condition.typed}, {x.typed}, {y.typed}")

    # Conversions --------------------------------------------------------------------------------

    def trunc(self, x: Value, type: Type) -> Value:
        return self._cast("trunc", x, type)

    def zext(self, x: Value, type: Type) -> Value:
        return self._cast("zext", x, type)

    def sext(self, x: Value, type: Type) -> Value:
        return self._cast("sext", x, type)

    def fptrunc(self, x: Value, type: Type) -> Value:
        return self._cast("fptrunc", x, type)

    def fpext(self, x: Value, type: Type) -> Value:
        return self._cast("fpext", x, type)

    def sitofp(self, x: Value, type: Type) -> Value:
        return self._cast("sitofp", x, type)

    def uitofp(self, x: Value, type: Type) -> Value:
        return self._cast("uitofp", x, type)

    def fptosi(self, x: Value, type: Type) -> Value:
        return self._cast("fptosi", x, type)

    def fptoui(self, x: Value, type: Type) -> Value:
        return self._cast("fptoui", x, type)

    def bitcast(self, x: Value, type: Type) -> Value:
        return self._cast("bitcast", x, type)

    def ptrtoint(self, x: Value, type: Type) -> Value:
        return self._cast("ptrtoint", x, type)

    def freeze(self, x: Value) -> Value:
        return self._pure(x.type, f"freeze {x.typed}")

    # Vectors and structures ---------------------------------------------------------------------

    def extract_element(self, vector: Value, lane: Value) -> Value:
        return self._pure(vector.type.element, f"extractelement {vector.typed}, {lane.typed}")

    def insert_element(self, vector: Value, item: Value, lane: Value) -> Value:
        text = f"insertelement {vector.typed}, {item.typed}, {lane.typed}"
        return self._pure(vector.type, text)

    def shuffle_vector(self, x: Value, y: Value, lanes: Value) -> Value:
        type = vector(x.type.element, lanes.type.count)
        return self._pure(type, f"shufflevector {x.typed}, {y.typed}, {lanes.typed}")

    def extract_value(self, structure: Value, number: int) -> Value:
        type = structure.type.elements[number]
        return self._pure(type, f"extractvalue {structure.typed}, {number}")

    # Memory -------------------------------------------------------------------------------------

    def alloca(self, type: Type, size: Value | None = None, name: str = "") -> Value:
        """Memory on the stack, for one value or for several side by side."""
        text = f"alloca {type.text}" + (f", {size.typed}" if size is not None else "")
        if not name:
            self.function.values += 1
        ref = f"%{self.function.unique(name)}" if name else f"%.{self.function.values}"
        end = len(self._lines) - self.block.is_terminated
        self._lines.insert(end, f"  {ref} = {text}")
        return Value(POINTER, ref)

    def load(self, pointer: Value, *, typ: Type, align: int = 0) -> Instruction:
        behind = f", align {align}" if align else ""
        return self._effect(typ, f"load {typ.text}, ptr {pointer.ref}{behind}")

    def load_atomic(self, pointer: Value, ordering: str, align: int, typ: Type) -> Instruction:
        text = f"load atomic {typ.text}, ptr {pointer.ref} {ordering}, align {align}"
        return self._effect(typ, text)

    def store(self, value: Value, pointer: Value, align: int = 0) -> Instruction:
        behind = f", align {align}" if align else ""
        return self._effect(_VOID, f"store {value.typed}, ptr {pointer.ref}{behind}")

    def cmpxchg(
        self, pointer: Value, expected: Value, new: Value, success: str, failure: str
    ) -> Instruction:
        text = f"cmpxchg ptr {pointer.ref}, {expected.typed}, {new.typed} {success} {failure}"
        return self._effect(StructType([new.type, I1]), text)

    def gep(
        self, pointer: Value, indices: Sequence[Value], *, source_etype: Type,
        inbounds: bool = False,
    ) -> Value:  # fmt: skip
        """The address of an element, or of one for each lane of the index."""
        (index,) = indices
        within = " inbounds" if inbounds else ""
        type: Type = POINTER
        if isinstance(index.type, VectorType):
            type = vector(POINTER, index.type.count)
        text = f"getelementptr{within} {source_etype.text}, ptr {pointer.ref}, {index.typed}"
        return self._pure(type, text)

    # Control ------------------------------------------------------------------------------------

    def phi(self, type: Type, name: str = "") -> Phi:
        if name:
            return Phi(type, f"%{self.function.unique(name)}", self._lines)
        self.function.values += 1
        return Phi(type, f"%.{self.function.values}", self._lines)

    def call(
        self, function: Value, arguments: Sequence[Value], signature: FunctionType | None = None
    ) -> Instruction:
        """A call; the signature is needed where the function is a pointer."""
        if isinstance(function, Function):
            signature = function.signature
        assert signature is not None
        result = signature.return_type
        given = ", ".join([argument.typed for argument in arguments])
        return self._effect(result, f"call {result.text} {function.ref}({given})")

    def asm(
        self, signature: FunctionType, text: str, constraints: str, arguments: Sequence[Value]
    ) -> Instruction:
        """Inline assembly without effects."""
        result = signature.return_type
        given = ", ".join([argument.typed for argument in arguments])
        return self._effect(result, f'call {result.text} asm "{text}", "{constraints}"({given})')

    def branch(self, block: Block) -> None:
        self._end(f"br label %{block.name}")

    def cbranch(
        self, condition: Value, then: Block, other: Block, likely: bool | None = None
    ) -> None:
        weights = ""
        if likely is not None:
            numbers = [Constant(I32, n) for n in (_LIKELY if likely else _UNLIKELY)]
            weights = f", !prof {self.module.add_metadata(['branch_weights', *numbers]).ref}"
        self._end(f"br i1 {condition.ref}, label %{then.name}, label %{other.name}{weights}")

    def ret(self, value: Value) -> None:
        self._end(f"ret {value.typed}")

    def ret_void(self) -> None:
        self._end("ret void")

    def _end(self, text: str) -> None:
        self._lines.append(f"  {text}")
        self.block.is_terminated = True


class _Branch:
    """One of two ways of `IRBuilder.if_else`."""

    def __init__(self, builder: IRBuilder, block: Block, after: Block) -> None:
        self._builder, self._block, self._after = builder, block, after

    def __enter__(self) -> None:
        self._builder.position_at_end(self._block)

    def __exit__(self, *error: object) -> None:
        self._builder._leave(self._after)
