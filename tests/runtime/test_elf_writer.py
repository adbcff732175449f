"""Several objects as one: what calls what, what can be seen from outside, and what is refused."""

import ctypes

import pytest

from braze.codegen.llvm.compile import compile_object
from braze.ir.target import named_target
from braze.runtime.cpu import host_target
from braze.runtime.elf import ObjectFile
from braze.runtime.elf_writer import Block, Unit, merge
from braze.runtime.object_loader import LoadedObject, ObjectError


def helper(factor):
    """An object that defines `helper`, with constants, a table of pointers, and a counter."""
    return f"""
@numbers = internal constant [4 x i64] [i64 {factor}, i64 10, i64 20, i64 30]
@table = internal constant [2 x ptr] [ptr @times, ptr @plus]
@calls = internal global i64 0
define internal i64 @times(i64 %x) noinline {{
  %f = load i64, ptr @numbers
  %y = mul i64 %x, %f
  ret i64 %y
}}
define internal i64 @plus(i64 %x) noinline {{
  %at = getelementptr i64, ptr @numbers, i64 %x
  %y = load i64, ptr %at
  ret i64 %y
}}
define i64 @helper(i64 %which, i64 %x) {{
  %old = load i64, ptr @calls
  %new = add i64 %old, 1000
  store i64 %new, ptr @calls
  %at = getelementptr ptr, ptr @table, i64 %which
  %f = load ptr, ptr %at
  %y = call i64 %f(i64 %x)
  %z = add i64 %y, %old
  ret i64 %z
}}"""


MAIN = """
declare i64 @helper(i64, i64)
define i64 @main_function(i64 %which, i64 %x) {
  %y = call i64 @helper(i64 %which, i64 %x)
  ret i64 %y
}"""

DRIVER = """
declare hidden i64 @first(i64, i64)
declare hidden i64 @second(i64, i64)
@bytes = external hidden constant i8
@both = internal constant [2 x ptr] [ptr @first, ptr @second]
define i64 @model_run(i64 %unit, i64 %which, i64 %x) {
  %at = getelementptr ptr, ptr @both, i64 %unit
  %f = load ptr, ptr %at
  %y = call i64 %f(i64 %which, i64 %x)
  ret i64 %y
}
define i64 @model_byte(i64 %i) {
  %at = getelementptr i8, ptr @bytes, i64 %i
  %b = load i8, ptr %at
  %w = zext i8 %b to i64
  ret i64 %w
}
define ptr @model_copy(ptr %to, i64 %n) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr @bytes, i64 %n, i1 false)
  ret ptr %to
}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"""

PUBLIC = ("model_run", "model_byte", "model_copy")


def made(text, target=None):
    return compile_object(text, target or host_target())


def units(target=None):
    return [
        Unit([made(helper(2), target), made(MAIN, target)], {"main_function": "first"}),
        Unit([made(helper(3), target), made(MAIN, target)], {"main_function": "second"}),
        Unit([made(DRIVER, target)], {name: name for name in PUBLIC}),
    ]


BLOCK = Block("bytes", [b"abc", memoryview(bytes(range(100)))], 64)


def merged(target=None, allowed=("memcpy",)):
    return merge(units(target), [BLOCK], PUBLIC, allowed)


def test_units_with_the_same_names_become_one_object():
    loaded = LoadedObject(merged())
    three = (ctypes.c_int64,) * 3
    run = ctypes.CFUNCTYPE(ctypes.c_int64, *three)(loaded.address("model_run"))
    # Each unit has a helper, numbers and a counter of its own.
    assert [run(0, 0, 7), run(1, 0, 7), run(0, 1, 2), run(1, 1, 3)] == [14, 21, 1020, 1030]
    byte = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address("model_byte"))
    assert [byte(0), byte(2), byte(3), byte(102)] == [97, 99, 0, 99]
    copy = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    memory = ctypes.create_string_buffer(103)
    copy(loaded.address("model_copy"))(ctypes.addressof(memory), 103)
    assert memory.raw == b"abc" + bytes(range(100))


def test_only_what_is_exported_is_global():
    file = ObjectFile(merged())
    shown = {s.name for s in file.symbols if s.name and not (s.is_local or s.is_external)}
    assert shown == set(PUBLIC)
    assert {s.name for s in file.symbols if s.is_external and s.name} == {"memcpy"}
    assert len(file.sections) > 20


def test_the_result_can_be_merged_again():
    again = merge([Unit([merged()], {"model_run": "run"})], [], ["run"], ["memcpy"])
    loaded = LoadedObject(again)
    run = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * 3)(loaded.address("run"))
    assert run(1, 0, 5) == 15


def test_equal_parts_make_equal_bytes():
    assert merged() == merged()


def test_a_block_lies_on_its_boundary():
    file = ObjectFile(merged())
    (block,) = [s for s in file.sections if file.section_name(s) == b".rodata.bytes"]
    assert block.alignment == 64 and block.offset % 64 == 0 and not block.is_writable
    assert file.content(block) == b"abc" + bytes(range(100))


def test_another_machines_objects_too():
    target = named_target("aarch64")
    file = ObjectFile(merged(target))
    assert file.machine.name == "aarch64"
    loaded = LoadedObject(merged(target), {"memcpy": 4096}, allow_foreign=True)
    assert set(PUBLIC) <= set(loaded.symbols)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ObjectError, match="nothing defines memcpy"):
        merged(allowed=())
    with pytest.raises(ObjectError, match="nothing defines helper"):
        merge([Unit([made(MAIN)], {"main_function": "f"})], [], ["f"], [])
    with pytest.raises(ObjectError, match="no object defines 'absent'"):
        merge([Unit([made(MAIN)], {"absent": "f"})], [], [], ["helper"])
    with pytest.raises(ObjectError, match="two objects define 'main_function'"):
        merge([Unit([made(MAIN), made(MAIN)])], [], [], ["helper"])
    with pytest.raises(ObjectError, match="'f' is published twice"):
        unit = Unit([made(MAIN)], {"main_function": "f"})
        merge([unit, unit], [], [], ["helper"])
    with pytest.raises(ObjectError, match="'g' is to be exported and not published"):
        merge([Unit([made(MAIN)], {"main_function": "f"})], [], ["g"], ["helper"])
    with pytest.raises(ObjectError, match="objects for aarch64, x86_64 cannot be one"):
        both = [Unit([made(MAIN, named_target(name))]) for name in ("x86-64-v2", "aarch64")]
        merge(both, [], [], ["helper"])
    with pytest.raises(ObjectError, match="not an ELF file"):
        merge([Unit([bytes(64)])], [], [], [])
