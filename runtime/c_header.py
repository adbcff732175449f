"""The C header of an exported model.

In: what a call takes and gives.  Out: names that C and C++ accept, and the header's text, which
says how the functions are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from braze.codegen.llvm.c_sizes import Dimension
from braze.ir.dtypes import dtype_named
from braze.ir.symint import SymInt, evaluate

# C99's keywords, C++'s beside them, and what the header's includes define.
_TAKEN = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while
    alignas alignof and asm bitand bitor bool catch char16_t char32_t char8_t class co_await
    co_return co_yield compl concept consteval constexpr constinit const_cast decltype delete
    dynamic_cast explicit export false friend mutable namespace new noexcept not nullptr operator or
    private protected public reinterpret_cast requires static_assert static_cast template this
    thread_local throw true try typeid typename using virtual wchar_t xor
    linux unix NULL
    """.split()
)
# Names of a function's own parameters, which the dimensions' stand beside.
PARAMETERS = frozenset({"model", "inputs", "outputs", "error"})
_C_TYPES = {
    "bool": "bool", "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
    "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double",
    "c64": "float", "c128": "double",
}  # fmt: skip
# What a C type does not say of the elements.
_REMARKS = {
    "f16": ", the bits of IEEE half precision",
    "bf16": ", the bits of bfloat16",
    "c64": ", a real and an imaginary part each",
    "c128": ", a real and an imaginary part each",
}


@dataclass(frozen=True, slots=True)
class Array:
    """What a call takes or gives: `name` is C's, extents may be functions of the sizes."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def alignment(self) -> int:
        """Of its address, in bytes."""
        return dtype_named(self.dtype).numpy.alignment

    @property
    def is_empty(self) -> bool:
        """Whether it never has elements."""
        return any(extent == 0 and not isinstance(extent, SymInt) for extent in self.shape)


def is_identifier(name: str) -> bool:
    """Whether C and C++ take it as a name."""
    taken = name in _TAKEN or name in _C_TYPES.values()
    return bool(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)) and not taken


def identifier(text: str) -> str:
    """A C identifier like some text."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "model"
    if name[0].isdigit():
        name = f"m{name}"
    return name if is_identifier(name) else f"{name}_"


def distinct(names: Iterable[str], taken: set[str]) -> list[str]:
    """C identifiers like the names, none of them there twice or among `taken`, to which they are
    added; case makes no difference, as there are macros of them."""
    found = []
    for wanted in map(identifier, names):
        name, number = wanted, 2
        while name.lower() in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name.lower())
        found.append(name)
    return found


def output_names(structure: str, count: int) -> list[str]:
    """What to call the outputs: by the keys of the dicts that they are returned in, otherwise by
    their numbers."""
    names: dict[int, str] = {}

    def visit(item: Any, path: str) -> None:
        match item:
            case {"dict": pairs}:
                for key, part in pairs:
                    visit(part, f"{path}_{key}" if path else str(key))
            case {"tuple": items} | {"list": items}:
                for number, part in enumerate(items):
                    visit(part, f"{path or 'output'}{'_' if path else ''}{number}")
            case int(number):
                names.setdefault(number, path or "output")

    visit(json.loads(structure), "")
    return [names.get(number, f"output{number}") for number in range(count)]


@dataclass(frozen=True, slots=True)
class Header:
    """What the header tells.

    Attributes:
        name: what its names begin with.
        model, version, targets: for people.
        codes: names of what functions give, from 0 on. message_bytes: of an error's text.
        dimensions: whose sizes calls choose.
    """

    name: str
    model: str
    version: str
    targets: Sequence[str]
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    codes: Sequence[str]
    message_bytes: int
    most_threads: int
    dimensions: Sequence[Dimension] = ()

    def text(self) -> str:
        """The header."""
        name, upper = self.name, self.name.upper()
        values = {
            "NAME": name,
            "UPPER": upper,
            "SUMMARY": self._summary(),
            "MACROS": self._macros(upper),
            "INPUTS": self._fields(self.inputs, "const "),
            "OUTPUTS": self._fields(self.outputs, ""),
            "CODES": ",\n".join(
                f"  {upper}_{code} = {number} /* {_MEANINGS[code]} */"
                for number, code in enumerate(self.codes)
            ),
            "BYTES": str(self.message_bytes),
            "MOST": str(self.most_threads),
            "SIZES": "".join(f"int64_t {dim.name}, " for dim in self.dimensions),
            "SIZE_TOLD": self._size_told(upper),
        }
        return re.sub(r"@(\w+)@", lambda found: values[found[1]], _TEXT)

    def _summary(self) -> str:
        lines = [f"{self.name}.h: the model {_safe(self.model)}, by Braze {self.version}.", ""]
        for label, arrays in (("Takes", self.inputs), ("Gives", self.outputs)):
            for number, array in enumerate(arrays):
                lines.append(f"{label if number == 0 else '':7}{array.name}: {self._type(array)}")
        for number, dim in enumerate(self.dimensions):
            label = "" if number else "Size"
            lines.append(f"{label:7}{dim.name}: {dim.lowest} to {dim.highest}")
        lines.append(f"Code   {', '.join(map(_safe, self.targets))}")
        return "\n".join(f"   {line}" if line else "" for line in lines).strip()

    def _type(self, array: Array) -> str:
        shape = ", ".join(self._extent(extent) for extent in array.shape)
        return f"{_C_TYPES[array.dtype]} [{shape}]{_REMARKS.get(array.dtype, '')}"

    def _extent(self, extent: int, sizes: Sequence[str] = ()) -> str:
        """As C has it.

        Args:
            sizes: what stands for them; by default their names.
        """
        if not isinstance(extent, SymInt):
            return str(extent)
        words = sizes or [dim.name for dim in self.dimensions]

        def apply(op: str, left: str, right: str) -> str:
            return f"({left} {op} {right})"

        text = evaluate(extent.form, words.__getitem__, str, apply)
        return text[1:-1] if not sizes and text.startswith("(") else text

    def _macros(self, upper: str) -> str:
        lines = []
        for dim in self.dimensions:
            size = f"{upper}_{dim.name.upper()}"
            lines += [f"#define {size}_LOWEST {dim.lowest}",
                      f"#define {size}_HIGHEST {dim.highest}"]  # fmt: skip
        several = [dim.name for dim in self.dimensions] if len(self.dimensions) > 1 else ["size"]
        sizes = [f"(int64_t)({name})" for name in several]
        for array in (*self.inputs, *self.outputs):
            start = f"#define {upper}_{array.name.upper()}"
            varies = any(isinstance(extent, SymInt) for extent in array.shape)
            given = f"({', '.join(several)})" if varies else ""
            extents = [self._extent(extent, sizes) for extent in array.shape]
            parts = ["2"] if dtype_named(array.dtype).is_complex else []
            count = " * ".join(parts + extents) or "1"
            lines.append(f"{start}_COUNT{given} {f'({count})' if ' ' in count else count}")
            if array.shape:
                lines.append(f"{start}_SHAPE{given} {{ {', '.join(extents)} }}")
        return "\n".join(lines)

    def _fields(self, arrays: Sequence[Array], const: str) -> str:
        lines = [
            f"  {const}{_C_TYPES[array.dtype]} *{array.name}; /* {self._type(array)} */"
            for array in arrays
        ]
        return "\n".join(lines) or f"  {const}void *unused;"

    def _size_told(self, upper: str) -> str:
        lines = []
        for dim in self.dimensions:
            size = f"{upper}_{dim.name.upper()}"
            lines.append(
                f"\n   {dim.name}: the size of this call, {size}_LOWEST to {size}_HIGHEST."
            )
        return "".join(lines)


def _safe(text: str) -> str:
    """Text that ends no comment."""
    return text.replace("*/", "* /").replace("/*", "/ *")


_MEANINGS = {
    "OK": "there was no error",
    "BAD_ARGUMENT": "an argument is NULL, misaligned or out of range",
    "OUT_OF_MEMORY": "the system grants no memory",
    "NO_THREAD": "the system starts no thread",
    "WRONG_PROCESSOR": "the processor lacks instructions that the code has",
    "FAILED_CHECK": "a value in an input is impossible, such as an index out of range",
}

_TEXT = """\
/* @SUMMARY@

   Link @NAME@.o, or @NAME@.so, and threads: cc program.c @NAME@.o -pthread

   Arrays are dense, the last index fastest, and lie on multiples of their elements' size. No output
   may overlap an input or another output. One without elements may be NULL. */

#ifndef BRAZE_@UPPER@_H
#define BRAZE_@UPPER@_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of each array the count of its elements (of floats, where a number has two parts), and its shape
   as an initializer. */
@MACROS@

/* What functions give. */
enum {
@CODES@
};

/* Why something failed. It is written only then, by functions that are given one; NULL will do. */
typedef struct @NAME@_error {
  int code;
  char message[@BYTES@];
} @NAME@_error;

typedef struct @NAME@_inputs {
@INPUTS@
} @NAME@_inputs;

typedef struct @NAME@_outputs {
@OUTPUTS@
} @NAME@_outputs;

typedef struct @NAME@_model @NAME@_model;

/* Make a model ready to run.

   threads: how many work on a call, the caller among them: 1 to @MOST@, or 0 for as many as there
   are processors. All but the caller are started here, and sleep between calls. Results do not
   depend on their number.

   Returns NULL after an error. */
@NAME@_model *@NAME@_create(int threads, @NAME@_error *error);

/* Run it: read the inputs, write the outputs, which may be partly written after an error.
@SIZE_TOLD@
   Several threads may call one model at the same time. Each of such calls needs working memory of
   its own, which is kept for later ones.

   Returns @UPPER@_OK or the error's code. */
int @NAME@_run(@NAME@_model *model, @SIZES@const @NAME@_inputs *inputs,
    const @NAME@_outputs *outputs, @NAME@_error *error);

/* End its threads and give back its memory. No call may be running. NULL is ignored.

   After fork() a child may go on with its copy of a model, on the calling thread alone, and has to
   destroy it for itself. */
void @NAME@_destroy(@NAME@_model *model);

#ifdef __cplusplus
}
#endif

#endif
"""
