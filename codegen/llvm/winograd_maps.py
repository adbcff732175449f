"""Winograd's maps between domains as functions, which the kernels of a program share.

In: a module and which map.  Out: its function in that module, only declared if the module is one of
several of a program; and the module in which they are defined.

    void braze_winograd_image_T_N(ptr from, i64 row, i64 column, ptr to, i64 apart, i64 vectors)
    void braze_winograd_gradient_T_N(...)      likewise, of 4x4 values
    void braze_winograd_filter_T_N(ptr from, ptr to, i64 apart)
    void braze_winograd_results_T_N(ptr from, i64 apart, ptr to)
    void braze_winograd_filter_gradient_T_N(ptr from, i64 apart, ptr to)

T is the taps of a window in either direction, N the lanes of a vector. Values of a patch lie `row`
and `column` elements from each other, the factors or sums `apart`; what a map makes of sums, and
the taps of a filter, lie side by side.
Maps have hundreds of instructions, which would be most of what LLVM compiles of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import (
    Number,
    add,
    as_i64,
    counted_loop,
    element_pointer,
    multiply,
)
from braze.codegen.llvm.types import F32, I64, POINTER, register_type
from braze.codegen.llvm.winograd import FORMS, RESULTS, Form, Transforms
from braze.ir.dtypes import f32

# The name of the module in which they are defined.
MODULE = "braze_winograd"

Values = list[list[ir.Value]]
Map = Callable[[Transforms, Values], Values]


def map_function(module: ir.Module, name: str, form: Form, width: int) -> ir.Function:
    """A map: "image", "gradient", "filter", "results" or "filter_gradient".

    Args:
        width: lanes of a vector.
    """
    symbol = f"{MODULE}_{name}_{form.taps}_{width}"
    found = module.globals.get(symbol)
    if found is not None:
        assert isinstance(found, ir.Function)
        return found
    arguments, define = _MAPS[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), symbol)
    function.attributes |= {"noinline", "nounwind"}
    if not module.is_part:
        function.linkage = "internal"
        define(function, form, width)
    return function


def maps_in(module: ir.Module) -> list[str]:
    """The symbols of the maps that a module only declares."""
    return [
        name
        for name, item in module.globals.items()
        if name.startswith(f"{MODULE}_") and isinstance(item, ir.Function) and not item.blocks
    ]


def maps_module(symbols: Iterable[str]) -> ir.Module:
    """A module that defines maps."""
    module = ir.Module()
    for symbol in sorted(symbols):
        name, taps, width = symbol.removeprefix(f"{MODULE}_").rsplit("_", 2)
        map_function(module, name, FORMS[int(taps)], int(width)).linkage = ""
    return module


# Patches of images and gradients ------------------------------------------------------------------


def _define_image(function: ir.Function, form: Form, width: int) -> None:
    _define_patch(function, form, width, form.points, Transforms.image)


def _define_gradient(function: ir.Function, form: Form, width: int) -> None:
    _define_patch(function, form, width, RESULTS, Transforms.filter)


def _define_patch(function: ir.Function, form: Form, width: int, size: int, apply: Map) -> None:
    source, row, column, to, apart, vectors = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    with counted_loop(builder, 0, vectors, "channels") as number:
        first = multiply(builder, number, width)
        values = []
        for i in range(size):
            start = add(builder, first, builder.mul(row, as_i64(i)))
            steps: list[Number] = [0]
            steps += [builder.mul(column, as_i64(j)) for j in range(1, size)]
            places = [add(builder, start, step) for step in steps]
            values.append([load_vector(builder, source, at, width) for at in places])
        store_all(builder, apply(Transforms(builder, form), values), to, first, apart)
    builder.ret_void()


# Filters ------------------------------------------------------------------------------------------


def _define_filter(function: ir.Function, form: Form, width: int) -> None:
    source, to, apart = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    taps = [
        [load_vector(builder, source, (i * form.taps + j) * width, width) for j in range(form.taps)]
        for i in range(form.taps)
    ]
    store_all(builder, Transforms(builder, form).filter(taps), to, 0, apart)
    builder.ret_void()


# Sums ---------------------------------------------------------------------------------------------


def _define_results(function: ir.Function, form: Form, width: int) -> None:
    _define_sums(function, form, width, Transforms.results)


def _define_filter_gradient(function: ir.Function, form: Form, width: int) -> None:
    _define_sums(function, form, width, Transforms.filter_gradient)


def _define_sums(function: ir.Function, form: Form, width: int, apply: Map) -> None:
    source, apart, to = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    sums = [
        [
            load_vector(builder, source, multiply(builder, apart, i * form.points + j), width)
            for j in range(form.points)
        ]
        for i in range(form.points)
    ]
    store_all(builder, apply(Transforms(builder, form), sums), to, 0, width)
    builder.ret_void()


_PATCH = [POINTER, I64, I64, POINTER, I64, I64]
_SUMS = [POINTER, I64, POINTER]
_MAPS: dict[str, tuple[list[ir.Type], Callable[[ir.Function, Form, int], None]]] = {
    "image": (_PATCH, _define_image),
    "gradient": (_PATCH, _define_gradient),
    "filter": ([POINTER, POINTER, I64], _define_filter),
    "results": (_SUMS, _define_results),
    "filter_gradient": (_SUMS, _define_filter_gradient),
}


# Vectors in memory --------------------------------------------------------------------------------


def load_vector(builder: ir.IRBuilder, pointer: ir.Value, offset: Number, width: int) -> ir.Value:
    """A vector of f32."""
    place = element_pointer(builder, pointer, offset, F32)
    return builder.load(place, typ=register_type(f32, width), align=4)


def store_all(
    builder: ir.IRBuilder, values: Values, pointer: ir.Value, first: Number, apart: Number
) -> None:
    """Store vectors so far apart, row by row."""
    for number, value in enumerate(x for line in values for x in line):
        offset = add(builder, first, multiply(builder, apart, number))
        builder.store(value, element_pointer(builder, pointer, offset, F32), align=4)
