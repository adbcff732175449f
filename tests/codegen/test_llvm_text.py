"""LLVM IR as text: LLVM takes it, each name is given once, and no line is written twice in vain."""

import pytest

from braze.codegen.llvm import ir
from braze.codegen.llvm.compile import CompileError, compile_object, optimised_ir
from braze.ir.target import named_target

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
TARGET = named_target("x86-64-v3")


def function(*arguments, gives=None, name="f"):
    module = ir.Module()
    made = ir.Function(module, ir.FunctionType(gives or ir.VoidType(), arguments), name)
    return module, made, ir.IRBuilder(made.append_basic_block("entry"))


def test_a_line_without_effects_is_written_once_in_a_block():
    module, f, builder = function(I64, I64, gives=I64)
    x, y = f.args
    first = builder.add(x, y)
    assert builder.add(x, y) is first
    assert builder.add(y, x) is not first  # as it was asked for
    assert builder.add(x, y, flags=("nsw",)) is not first
    builder.ret(builder.mul(first, first))
    assert str(module).count(" = add ") == 3
    assert compile_object(str(module), TARGET)


def test_another_block_writes_it_again():
    """What one way of a branch computed, the other one has not."""
    module, f, builder = function(I64, I64, gives=I64)
    x, y = f.args
    with builder.if_else(builder.icmp_signed("<", x, y)) as (then, other):
        with then:
            below, came_from = builder.add(x, y), builder.block
        with other:
            above, or_from = builder.add(x, y), builder.block
    chosen = builder.phi(I64)
    chosen.add_incoming(below, came_from)
    chosen.add_incoming(above, or_from)
    builder.ret(chosen)
    assert above is not below
    assert compile_object(str(module), TARGET)


def test_what_has_effects_is_never_left_out():
    module, f, builder = function(ir.PointerType())
    (place,) = f.args
    one = ir.Constant(I32, 1)
    for _ in range(2):
        value = builder.load(place, typ=I32, align=4)
        builder.store(builder.add(value, one), place, align=4)
    builder.ret_void()
    text = str(module)
    assert text.count("load i32") == text.count("store i32") == text.count(" = add ") == 2


def test_allocations_stand_before_the_end_of_the_first_block():
    module, f, builder = function(gives=I32)
    after = builder.append_basic_block("after")
    builder.branch(after)
    builder.position_at_end(after)
    with builder.goto_entry_block():
        place = builder.alloca(I32, name="place")
    builder.store(ir.Constant(I32, 7), place, align=4)
    builder.ret(builder.load(place, typ=I32, align=4))
    assert "ret i32 7" in optimised_ir(str(module), TARGET)


def test_names_are_given_once():
    module, f, builder = function(I64)
    blocks = [builder.append_basic_block(name) for name in ("step", "step", "step")]
    assert [block.name for block in blocks] == ["step", "step.1", "step.2"]
    for block, following in zip([f.blocks[0], *blocks], blocks, strict=False):
        builder.position_at_end(block)
        builder.branch(following)
    builder.position_at_end(blocks[-1])
    phi = builder.phi(I64, name="step")
    phi.add_incoming(f.args[0], blocks[-2])
    assert phi.ref == "%step.3"
    builder.ret_void()
    assert compile_object(str(module), TARGET)


def test_metadata_is_shared_and_attached():
    module, f, builder = function(ir.PointerType(), gives=I32)
    loaded = builder.load(f.args[0], typ=I32, align=4)
    domain = module.add_metadata(["kernel"])
    loaded.set_metadata("noalias", module.add_metadata([module.add_metadata(["x", domain])]))
    builder.ret(loaded)
    assert module.add_metadata(["kernel"]) is domain
    assert "align 4, !noalias !2" in str(module)
    assert compile_object(str(module), TARGET)


@pytest.mark.parametrize(
    "type, number, text",
    [
        (I32, -3, "-3"),
        (F32, 0.1, "0x3fb99999a0000000"),  # rounded to the format
        (F32, float("nan"), "0x7ff8000000000000"),
        (ir.DoubleType(), -0.0, "0x8000000000000000"),
        (ir.VectorType(I32, 2), [1, 2], "<i32 1, i32 2>"),
        (ir.ArrayType(I32, 2), None, "zeroinitializer"),
        (ir.VectorType(I32, 2), "poison", "poison"),
    ],
)
def test_constants(type, number, text):
    assert ir.Constant(type, number).ref == text


def test_llvm_checks_the_types():
    module, f, builder = function(I32, I64, gives=I32)
    builder.ret(builder.add(f.args[0], f.args[1]))
    with pytest.raises(CompileError, match="defined with type 'i64' but expected 'i32'"):
        compile_object(str(module), TARGET)
