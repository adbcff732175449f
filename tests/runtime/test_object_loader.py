"""The object loader: every kind of reference works, W^X holds, hostile bytes raise ObjectError."""

import ctypes
import platform
import re
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braze.codegen.llvm.compile import compile_object
from braze.ir.target import named_target
from braze.runtime.cpu import host_target
from braze.runtime.object_loader import LoadedObject, ObjectError
from braze.runtime.relocations import AARCH64, X86_64, RelocationError

# Constants, a jump table, pointers in data, zeroed data, libc calls and a caller-supplied symbol.
MODULE = """
@weights = internal constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0]
@table = internal global [2 x ptr] [ptr @twice, ptr @thrice]
@counter = internal global i64 0
@shared = external global i64

declare ptr @memcpy(ptr, ptr, i64)
declare ptr @memset(ptr, i32, i64)
declare i64 @host_add(i64, i64)

define internal i64 @twice(i64 %x) noinline {
  %y = mul i64 %x, 2
  ret i64 %y
}
define internal i64 @thrice(i64 %x) noinline {
  %y = mul i64 %x, 3
  ret i64 %y
}
define i64 @dispatch(i64 %which, i64 %x) {
  %slot = getelementptr ptr, ptr @table, i64 %which
  %f = load ptr, ptr %slot
  %y = call i64 %f(i64 %x)
  ret i64 %y
}
define float @weight(i64 %i) {
  %p = getelementptr float, ptr @weights, i64 %i
  %w = load float, ptr %p
  ret float %w
}
define i64 @count() {
  %old = load i64, ptr @counter
  %new = add i64 %old, 1
  store i64 %new, ptr @counter
  ret i64 %new
}
define i64 @read_shared() {
  %v = load i64, ptr @shared
  ret i64 %v
}
define i64 @copy(ptr %to, ptr %from, i64 %n) {
  %r = call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  %s = getelementptr i8, ptr %to, i64 1
  %q = call ptr @memset(ptr %s, i32 7, i64 2)
  ret i64 %n
}
define i64 @call_host(i64 %a, i64 %b) {
  %r = call i64 @host_add(i64 %a, i64 %b)
  %t = add i64 %r, 1
  ret i64 %t
}
define i64 @jump(i64 %x) {
  switch i64 %x, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d
                                i64 4, label %e i64 5, label %f ]
a:
  %ra = call i64 @twice(i64 11)
  ret i64 %ra
b:
  %rb = call i64 @count()
  %rb0 = mul i64 %rb, 0
  %rb1 = add i64 %rb0, 5
  ret i64 %rb1
c:
  %rc = call i64 @thrice(i64 11)
  ret i64 %rc
d:
  %rd = call i64 @dispatch(i64 0, i64 50)
  ret i64 %rd
e:
  %re = call i64 @dispatch(i64 1, i64 50)
  ret i64 %re
f:
  %rf = call i64 @twice(i64 9)
  ret i64 %rf
other:
  ret i64 -1
}
"""

I64 = ctypes.c_int64
HOST_ADD = ctypes.CFUNCTYPE(I64, I64, I64)(lambda a, b: a + b)
SHARED = I64(1234)
SYMBOLS = {
    "host_add": ctypes.cast(HOST_ADD, ctypes.c_void_p).value or 0,
    "shared": ctypes.addressof(SHARED),
}


@cache
def object_for(target_name: str) -> bytes:
    target = host_target() if target_name == "host" else named_target(target_name)
    return compile_object(MODULE, target)


@pytest.fixture(scope="module")
def loaded() -> LoadedObject:
    return LoadedObject(object_for("host"), SYMBOLS)


def function(loaded: LoadedObject, name: str, *arguments: type, result: type = I64):
    return ctypes.CFUNCTYPE(result, *arguments)(loaded.address(name))


def test_calls_through_pointers_in_data(loaded):
    dispatch = function(loaded, "dispatch", I64, I64)
    assert [dispatch(0, 21), dispatch(1, 21)] == [42, 63]


def test_constants_and_zeroed_data(loaded):
    weight = function(loaded, "weight", I64, result=ctypes.c_float)
    assert [weight(i) for i in range(4)] == [1.0, 2.0, 3.0, 4.0]
    count = function(loaded, "count")
    first = count()
    assert [count(), count()] == [first + 1, first + 2]


def test_jump_table(loaded):
    jump = function(loaded, "jump", I64)
    assert [jump(i) for i in range(7)] == [22, 5, 33, 100, 150, 18, -1]


def test_libc_and_supplied_symbols(loaded):
    source, target = ctypes.create_string_buffer(b"abcdef"), ctypes.create_string_buffer(7)
    copy = function(loaded, "copy", ctypes.c_void_p, ctypes.c_void_p, I64)
    assert copy(ctypes.addressof(target), ctypes.addressof(source), 7) == 7
    assert target.raw == b"a\x07\x07def\0"
    assert function(loaded, "call_host", I64, I64)(40, 1) == 42
    assert function(loaded, "read_shared")() == 1234


def test_no_page_is_writable_and_executable(loaded):
    code = loaded.address("dispatch")
    rights = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end, protection = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
        rights[int(start, 16), int(end, 16)] = protection
    page = next(p for (start, end), p in rights.items() if start <= code < end)
    assert page.startswith("r-x")
    inside = [p for (start, _), p in rights.items() if code // 4096 * 4096 <= start < code + 65536]
    assert not any("w" in p and "x" in p for p in inside)


def test_symbols_close_and_unknown_names():
    loaded = LoadedObject(object_for("host"), SYMBOLS)
    assert {"dispatch", "copy", "jump"} <= set(loaded.symbols)
    assert loaded.nbytes % 4096 == 0 and loaded.nbytes > 0
    with pytest.raises(ObjectError, match="no symbol 'nothing'; defined: "):
        loaded.address("nothing")
    loaded.close()
    loaded.close()
    assert loaded.nbytes == 0
    with pytest.raises(ObjectError, match="closed object"):
        loaded.address("dispatch")


def test_refusals():
    good = object_for("host")
    with pytest.raises(ObjectError, match="no address for external symbol 'host_add'"):
        LoadedObject(good, {"shared": 8})
    with pytest.raises(ObjectError, match="truncated"):
        LoadedObject(good[:40])
    with pytest.raises(ObjectError, match="truncated"):
        LoadedObject(good[: len(good) // 2])
    with pytest.raises(ObjectError, match="not an ELF file"):
        LoadedObject(b"MZ" + good[2:])
    with pytest.raises(ObjectError, match="not a 64-bit little-endian"):
        LoadedObject(good[:5] + b"\x02" + good[6:])
    with pytest.raises(ObjectError, match="not a relocatable object"):
        LoadedObject(good[:16] + struct.pack("<H", 3) + good[18:])
    with pytest.raises(ObjectError, match="machine 40 is not supported"):
        LoadedObject(good[:18] + struct.pack("<H", 40) + good[20:])
    foreign = "aarch64" if platform.machine() == "x86_64" else "x86-64-v2"
    with pytest.raises(ObjectError, match="made for "):
        LoadedObject(object_for(foreign), SYMBOLS)


def test_objects_that_need_each_other():
    """Calls in a circle, a constant of another object, and equal local names."""
    texts = (
        """
@seven = constant i64 7
declare i64 @odd(i64)
define internal i64 @own(i64 %n) noinline {
  %less = sub i64 %n, 1
  %found = call i64 @odd(i64 %less)
  ret i64 %found
}
define i64 @even(i64 %n) {
  %done = icmp eq i64 %n, 0
  br i1 %done, label %yes, label %more
yes:
  ret i64 1
more:
  %found = call i64 @own(i64 %n)
  ret i64 %found
}
""",
        """
@seven = external global i64
declare i64 @even(i64)
declare i64 @host_add(i64, i64)
define internal i64 @own() noinline {
  %seven = load i64, ptr @seven
  %sum = call i64 @host_add(i64 %seven, i64 1)
  ret i64 %sum
}
define i64 @eight() {
  %found = call i64 @own()
  ret i64 %found
}
define i64 @odd(i64 %n) {
  %done = icmp eq i64 %n, 0
  br i1 %done, label %no, label %more
no:
  ret i64 0
more:
  %less = sub i64 %n, 1
  %found = call i64 @even(i64 %less)
  ret i64 %found
}
""",
    )
    objects = [compile_object(text, host_target()) for text in texts]
    for order in (objects, objects[::-1]):
        loaded = LoadedObject(order, SYMBOLS)
        even, odd = (function(loaded, name, I64) for name in ("even", "odd"))
        assert [even(n) for n in range(4)] == [1, 0, 1, 0]
        assert [odd(n) for n in range(4)] == [0, 1, 0, 1]
        assert function(loaded, "eight")() == 8
    with pytest.raises(ObjectError, match="no address for external symbol 'even'"):
        LoadedObject(objects[1:], SYMBOLS)


def test_objects_must_be_for_one_machine():
    with pytest.raises(ObjectError, match="one machine, given none"):
        LoadedObject([])
    mixed = [object_for("aarch64"), object_for("x86-64-v2")]
    with pytest.raises(ObjectError, match="one machine, given aarch64, x86_64"):
        LoadedObject(mixed, SYMBOLS, allow_foreign=True)


def test_unsupported_contents():
    thread_local = "@t = thread_local global i64 5\ndefine ptr @f() {\n  ret ptr @t\n}\n"
    with pytest.raises(ObjectError, match="thread-local"):
        LoadedObject(compile_object(thread_local, host_target()))
    constructor = """
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }]
    [{ i32, ptr, ptr } { i32 65535, ptr @start, ptr null }]
@started = global i64 0
define void @start() {
  store volatile i64 1, ptr @started
  ret void
}
"""
    with pytest.raises(ObjectError, match="constructors"):
        LoadedObject(compile_object(constructor, host_target()))


def words(address: int, count: int) -> list[int]:
    return list((ctypes.c_uint32 * count).from_address(address))


def test_aarch64_references_are_encoded():
    """Decodes the patched instructions: nothing here can run them."""
    loaded = LoadedObject(object_for("aarch64"), SYMBOLS, allow_foreign=True)
    assert loaded.machine == "aarch64"
    place = loaded.address("read_shared")
    page, load = words(place, 2)
    assert page & 0x9F000000 == 0x90000000, "adrp"
    assert load & 0xFFC00000 == 0xF9400000, "ldr x, [x, #imm]"
    distance = (page >> 29 & 3) | (page >> 5 & 0x7FFFF) << 2
    distance -= (distance & 1 << 20) << 1
    entry = ((place >> 12) + distance << 12) + (load >> 10 & 0xFFF) * 8
    assert ctypes.c_uint64.from_address(entry).value == SYMBOLS["shared"]

    place = loaded.address("call_host")
    at, call = next(
        (place + 4 * i, w) for i, w in enumerate(words(place, 8)) if w >> 26 == 0b100101
    )
    distance = call & 0x3FFFFFF
    distance -= (distance & 1 << 25) << 1
    stub = at + 4 * distance
    assert words(stub, 2) == [0x58000050, 0xD61F0200], "ldr x16, #8; br x16"
    assert ctypes.c_uint64.from_address(stub + 8).value == SYMBOLS["host_add"]


def test_relocation_arithmetic():
    by_name = {r.name: r for m in (X86_64, AARCH64) for r in m.relocations.values()}

    def patch(name: str, word: int, value: int, place: int) -> int:
        return by_name[name].patch(word, value, place)

    assert patch("R_X86_64_PC32", 0, 0x1000, 0x1010) == 0xFFFFFFF0
    assert patch("R_X86_64_32S", 0, -1, 0) == 0xFFFFFFFF
    assert patch("R_AARCH64_CALL26", 0x94000000, 0x2000, 0x3000) == 0x97FFFC00
    assert patch("R_AARCH64_ADR_PREL_PG_HI21", 0x90000000, 0x5123, 0x2FFF) == 0xF0000000
    assert patch("R_AARCH64_LDST128_ABS_LO12_NC", 0x3DC00000, 0x10FF0, 0) == 0x3DC3FC00
    assert patch("R_AARCH64_MOVW_UABS_G1_NC", 0xF2A00000, 0x123456789, 0) == 0xF2A468A0
    for name, word, value, place in (
        ("R_X86_64_PC32", 0, 1 << 40, 0),
        ("R_X86_64_32", 0, -1, 0),
        ("R_AARCH64_CALL26", 0, 1 << 28, 0),
        ("R_AARCH64_CALL26", 0, 2, 0),
        ("R_AARCH64_LDST64_ABS_LO12_NC", 0, 4, 0),
        ("R_AARCH64_MOVW_UABS_G0", 0, 1 << 16, 0),
    ):
        with pytest.raises(RelocationError):
            patch(name, word, value, place)


@cache
def header_offsets(name: str) -> tuple[int, ...]:
    """Bytes worth mutating: the headers, symbols and relocations, which most of the file is not."""
    data = object_for(name)
    table, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    offsets = list(range(64)) + list(range(table, table + 64 * count))
    for index in range(count):
        header = table + 64 * index
        kind = struct.unpack_from("<I", data, header + 4)[0]
        start, size = struct.unpack_from("<QQ", data, header + 24)
        if kind in (2, 3, 4):
            offsets += range(start, start + size)
    return tuple(offsets)


edits = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from([0, 1, 2, 4, 8, 127, 128, 254, 255])),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", ["host", "aarch64", "x86-64-v2"])
@settings(max_examples=250, deadline=None)
@given(edits=edits, cut=st.none() | st.floats(0, 1))
def test_hostile_bytes_load_or_raise_object_error(name, edits, cut):
    data = bytearray(object_for(name))
    offsets = header_offsets(name)
    for where, value in edits:
        data[offsets[where % len(offsets)]] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    try:
        LoadedObject(bytes(data), SYMBOLS, allow_foreign=True).close()
    except ObjectError:
        pass


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    with pytest.raises(ObjectError):
        LoadedObject(data)
    with pytest.raises(ObjectError):
        LoadedObject(b"\x7fELF\x02\x01" + data, allow_foreign=True)


def test_the_loader_needs_no_llvm():
    """Loading and running take no part of the compiler: a fresh interpreter proves it."""
    program = (
        "import sys; import braze.runtime.object_loader, braze.runtime.cpu;"
        "bad = [m for m in sys.modules if m.startswith(('llvmlite', 'braze.codegen'))];"
        "sys.exit(str(bad) if bad else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
