"""A model as the tables that `braze.codegen.llvm.c_driver` works from.

In: a `Model`: what calls take and give, and for each processor the code and where its arguments
come from.  Out: the text of one LLVM module, with the driver in it.

    model:    inputs' slots, how many, outputs' slots, how many, variants, how many
    slot:     name, alignment, whether it may be NULL as it has no elements
    variant:  name, how many features, features, how many codes, codes
    code:     lowest and highest sizes, main, plan, how many inputs, sources, failures
    sources:  for each input of the code the number of the caller's, or -1 - offset of a weight
    failure:  its text if it is always the same, the operation's name, the user's line

The names of dimensions, and their least and greatest sizes, stand for themselves.

What depends on sizes is computed by a function for each code, ``plan(size, ..., words, facts)``: it
writes the words that the code is given, the bytes of the arena and of a thread's workspace, and the
range of each check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.c_driver import FACTS, FACTS_FIRST, driver_text
from braze.codegen.llvm.c_processor import features_of
from braze.codegen.llvm.c_reports import constant_text
from braze.codegen.llvm.c_sizes import Dimension
from braze.codegen.llvm.symbolic import enter_function, symbolic_scope
from braze.codegen.llvm.types import I64, POINTER, constant, intrinsic
from braze.ir.arena import ALIGNMENT, ArenaLayout
from braze.ir.polynomials import Point
from braze.ir.target import Target


@dataclass(frozen=True, slots=True)
class Given:
    """What a call takes or gives: `alignment` in bytes; `is_empty`: it has no elements."""

    name: str
    alignment: int
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A check: what it always says, or the operation that an index is out of range for.

    place: the end of the message. low, high: the range, maybe functions of the sizes.
    """

    text: str | None
    operation: str
    place: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Code:
    """Machine code for the sizes from `lowest` to `highest`; empty where there are none.

    Attributes:
        main: the symbol of its entry point.
        sources: see the module's table.
        layout: of the arena, if its places are functions of the sizes.
        arena_bytes, scratch_bytes: see `Artifact`; the first is unused beside a layout.
    """

    lowest: Point
    highest: Point
    main: str
    sources: Sequence[int]
    layout: ArenaLayout | None
    arena_bytes: int
    scratch_bytes: int
    failures: Sequence[Failure]


@dataclass(frozen=True, slots=True)
class Variant:
    """The code for one target."""

    target: Target
    codes: Sequence[Code]


@dataclass(frozen=True, slots=True)
class Model:
    """Everything.

    Attributes:
        name: a C identifier, which public symbols begin with.
        dimensions: whose sizes calls choose.
        variants: the best first.
    """

    name: str
    inputs: Sequence[Given]
    outputs: Sequence[Given]
    dimensions: Sequence[Dimension]
    variants: Sequence[Variant]


def public_symbols(name: str) -> tuple[str, ...]:
    """The functions that `model_text` defines for others."""
    return f"{name}_create", f"{name}_run", f"{name}_destroy"


def model_text(model: Model) -> str:
    """The module.

    Raises: FeatureError: no program can ask a processor for what the code needs.
    """
    codes = [code for variant in model.variants for code in variant.codes]
    facts = FACTS_FIRST + 2 * max((len(code.failures) for code in codes), default=0)
    pointers = FACTS + 8 * facts
    most = max(len(c.sources) + len(model.outputs) + 3 + _words(c) for c in codes)
    tables = _Tables()
    tables.model(model)
    plans = ir.Module()
    for code in codes:
        _write_plan(plans, code)
    architecture = model.variants[0].target.architecture
    driver = driver_text(
        model.name,
        architecture,
        sizes=len(model.dimensions),
        pointers=pointers,
        context_bytes=-(-(pointers + 8 * most) // 64) * 64,
    )
    return "\n".join((driver, *tables.lines, str(plans)))


def _words(code: Code) -> int:
    return 0 if code.layout is None else len(code.lowest) + len(code.layout.sizes)


class _Tables:
    """The constants, as lines of LLVM IR."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._texts: dict[str, str] = {}

    def model(self, model: Model) -> None:
        inputs, outputs = self._slots("inputs", model.inputs), self._slots("outputs", model.outputs)
        variants = [self._variant(number, v) for number, v in enumerate(model.variants)]
        for main in dict.fromkeys(c.main for v in model.variants for c in v.codes):
            self.lines.append(f"declare hidden i64 @{main}(ptr, ptr)")
        self.lines.append("@weights = external hidden constant i8, align 64")
        ends = [f"i64 {end}" for dim in model.dimensions for end in (dim.lowest, dim.highest)]
        self._array("sizes", "i64", ends)
        names = [f"ptr {self._text(dim.name)}" for dim in model.dimensions]
        self._array("dimensions", "ptr", names)
        self._array("variants", "%variant", variants)
        self.lines.append(
            f"@model = internal constant %model {{ ptr {inputs}, i64 {len(model.inputs)}, "
            f"ptr {outputs}, i64 {len(model.outputs)}, ptr @variants, i64 {len(variants)} }}"
        )

    def _text(self, text: str) -> str:
        found = self._texts.get(text)
        if found is None:
            symbol = f"string{len(self._texts)}"
            self.lines.append(constant_text(symbol, text).rstrip())
            found = self._texts[text] = f"@{symbol}"
        return found

    def _array(self, name: str, type: str, items: Sequence[str]) -> str:
        held = f"[ {', '.join(items)} ]" if items else "zeroinitializer"
        self.lines.append(f"@{name} = internal constant [{len(items)} x {type}] {held}")
        return f"@{name}"

    def _slots(self, name: str, slots: Sequence[Given]) -> str:
        items = [
            f"%slot {{ ptr {self._text(slot.name)}, i64 {slot.alignment}, "
            f"i64 {int(slot.is_empty)} }}"
            for slot in slots
        ]
        return self._array(name, "%slot", items)

    def _variant(self, number: int, variant: Variant) -> str:
        features = []
        for name, feature in features_of(variant.target):
            mask = 1 << feature.bit
            features.append(
                f"%feature {{ i32 {feature.leaf}, i32 {feature.part}, i32 {feature.register}, "
                f"i32 {mask}, i64 {feature.state}, ptr {self._text(name)} }}"
            )
        listed = self._array(f"features{number}", "%feature", features)
        codes = self._array(f"codes{number}", "%code", [self._code(c) for c in variant.codes])
        return (
            f"%variant {{ ptr {self._text(variant.target.name)}, i64 {len(features)}, "
            f"ptr {listed}, i64 {len(variant.codes)}, ptr {codes} }}"
        )

    def _code(self, code: Code) -> str:
        sources = [f"i64 {source}" for source in code.sources]
        failures = [
            f"%failure {{ ptr {'null' if f.text is None else self._text(f.text)}, "
            f"ptr {self._text(f.operation)}, ptr {self._text(f.place)} }}"
            for f in code.failures
        ]
        return (
            f"%code {{ {_sizes(code.lowest)}, {_sizes(code.highest)}, ptr @{code.main}, "
            f"ptr @{_plan_symbol(code)}, i64 {len(sources)}, "
            f"ptr {self._array(f'{code.main}_sources', 'i64', sources)}, "
            f"ptr {self._array(f'{code.main}_failures', '%failure', failures)} }}"
        )


def _sizes(point: Point) -> str:
    items = ", ".join(f"i64 {size}" for size in point)
    return f"[{len(point)} x i64] {f'[ {items} ]' if items else 'zeroinitializer'}"


def _plan_symbol(code: Code) -> str:
    return f"{code.main}_plan"


def _write_plan(module: ir.Module, code: Code) -> None:
    """The function that computes what depends on the sizes."""
    types = [*([I64] * len(code.lowest)), POINTER, POINTER]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), _plan_symbol(code))
    function.linkage = "internal"
    function.attributes.add("nounwind")
    *sizes, words, facts = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    known = [*sizes]
    with symbolic_scope():
        enter_function(builder, known.__getitem__, len(sizes))
        arena: ir.Value = constant(I64, code.arena_bytes)
        if code.layout is not None:
            arena = _write_layout(builder, code.layout, known)
            for number, word in enumerate(known):
                _put(builder, words, number, word)
        found = [arena, constant(I64, code.scratch_bytes)]
        for failure in code.failures:
            found += [constant(I64, failure.low), constant(I64, failure.high)]
        for number, value in enumerate(found):
            _put(builder, facts, number, value)
    builder.ret_void()


def _write_layout(builder: ir.IRBuilder, layout: ArenaLayout, known: list[ir.Value]) -> ir.Value:
    """`ArenaLayout.offsets`: the bytes of the arena. Appends to `known` where each block begins."""

    def largest(values: Sequence[ir.Value]) -> ir.Value:
        most: ir.Value = constant(I64, 0)
        for value in values:
            most = intrinsic(builder, "smax", I64, [most, value])
        return most

    ends: list[ir.Value] = []
    for sizes, below in zip(layout.sizes, layout.below, strict=True):
        begin = largest([ends[other] for other in below])
        known.append(begin)
        more = builder.add(largest([constant(I64, s) for s in sizes]), constant(I64, ALIGNMENT - 1))
        ends.append(builder.add(begin, builder.and_(more, constant(I64, -ALIGNMENT))))
    return largest(ends)


def _put(builder: ir.IRBuilder, array: ir.Value, place: int, value: ir.Value) -> None:
    at = builder.gep(array, [constant(I64, place)], source_etype=I64)
    builder.store(value, at, align=8)
