"""Hand-written modules called through `Executable`: buffers, numbers, memory, failures, threads."""

import gc
import json
import threading
import time
import weakref

import numpy as np
import pytest

from braze.codegen.llvm.compile import compile_object
from braze.ir.dtypes import dtype_named
from braze.ir.graph import Location
from braze.runtime.artifact import Artifact, FailureSite, Figures, Slot
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable, place
from braze.runtime.object_loader import ObjectError
from braze.runtime.pool import get_num_threads, set_num_threads
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
from braze.runtime.workspace import Workspace

# buffers: x f32[4], s f32, out f32[4], arena, scratch, status. Doubles x into the arena, adds s.
# The sum is made by another module.
MAIN = """
declare void @add_number(ptr, ptr, ptr)
define i64 @main(ptr %buffers, ptr %pool) {
  %x = load ptr, ptr %buffers
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %s = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %buffers, i64 2
  %out = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %buffers, i64 3
  %arena = load ptr, ptr %p3
  %v = load <4 x float>, ptr %x, align 4
  %d = fadd <4 x float> %v, %v
  store <4 x float> %d, ptr %arena, align 4
  call void @add_number(ptr %arena, ptr %s, ptr %out)
  ret i64 0
}
"""
KERNEL = """
define void @add_number(ptr %x, ptr %s, ptr %out) {
  %v = load <4 x float>, ptr %x, align 4
  %n = load float, ptr %s
  %e = insertelement <4 x float> poison, float %n, i64 0
  %b = shufflevector <4 x float> %e, <4 x float> poison, <4 x i32> zeroinitializer
  %r = fadd <4 x float> %v, %b
  store <4 x float> %r, ptr %out, align 4
  ret void
}
"""
# buffers: i i64, arena, scratch, status. Fails as check 2 unless 0 <= i < 10.
CHECK = """
define i64 @main(ptr %buffers, ptr %pool) {
  %p = load ptr, ptr %buffers
  %i = load i64, ptr %p
  %ok = icmp ult i64 %i, 10
  br i1 %ok, label %end, label %fail
fail:
  %p3 = getelementptr ptr, ptr %buffers, i64 3
  %status = load ptr, ptr %p3
  store i64 2, ptr %status
  %p1 = getelementptr i64, ptr %status, i64 1
  store i64 %i, ptr %p1
  br label %end
end:
  ret i64 0
}
"""
# Copies the one scalar's word to the output.
COPY_WORD = """
define i64 @main(ptr %buffers, ptr %pool) {
  %s = load ptr, ptr %buffers
  %w = load i64, ptr %s
  %p = getelementptr ptr, ptr %buffers, i64 1
  %o = load ptr, ptr %p
  store i64 %w, ptr %o
  ret i64 0
}
"""
NOTHING = "define i64 @main(ptr %buffers, ptr %pool) {\n  ret i64 0\n}\n"


def artifact(sources, inputs=(), outputs=(), **facts):
    target = host_target()
    objects = tuple(compile_object(source, target) for source in sources)
    facts = {"arena_bytes": 64, "scratch_bytes": 0, **facts}
    return Artifact(
        "test", target.to_text(), "main", objects, tuple(inputs), tuple(outputs), **facts
    )


F4 = Slot("x", "f32", (4,))
NUMBER = Slot("s", "f32", (), "scalar")


@pytest.fixture(scope="module")
def twice_plus():
    return Executable(artifact([MAIN, KERNEL], [F4, NUMBER], [F4]))


def run_twice_plus(executable, values, number):
    x, out = Storage.from_numpy(np.array(values, np.float32)), Storage(16)
    executable.run([x, number], [out])
    return out.array(np.float32, (4,)).tolist()


def test_modules_are_linked_and_numbers_passed(twice_plus):
    before = stats.native_calls
    assert run_twice_plus(twice_plus, [1, 2, 3, 4], 0.5) == [2.5, 4.5, 6.5, 8.5]
    assert run_twice_plus(twice_plus, [1, 2, 3, 4], True) == [3, 5, 7, 9]
    assert run_twice_plus(twice_plus, [1, 2, 3, 4], -1) == [1, 3, 5, 7]
    assert stats.native_calls == before + 3


def test_a_number_too_large_is_infinite(twice_plus):
    assert run_twice_plus(twice_plus, [1, 2, 3, 4], 1e300) == [np.inf] * 4


def test_wrong_counts(twice_plus):
    with pytest.raises(ValueError, match="@test takes 2 inputs and 1 outputs, given 1 and 0"):
        twice_plus.run([Storage(16)], [])


def test_a_scalar_must_be_a_number(twice_plus):
    with pytest.raises(TypeError, match="must be a Python number, given str"):
        run_twice_plus(twice_plus, [1, 2, 3, 4], "1")


def test_the_order_of_objects_does_not_matter():
    swapped = Executable(artifact([KERNEL, MAIN], [F4, NUMBER], [F4]))
    assert run_twice_plus(swapped, [1, 1, 1, 1], 1.0) == [3] * 4


def test_missing_symbols():
    with pytest.raises(ObjectError, match="add_number"):
        Executable(artifact([MAIN]))
    with pytest.raises(ObjectError, match="no symbol 'main'"):
        Executable(artifact([KERNEL]))


NUMBERS = [
    ("bool", True), ("u8", 200), ("u8", 300), ("u32", 2**32 - 1), ("i8", -3), ("i16", -300),
    ("i32", -(2**31)), ("i32", 2**31), ("i64", -(2**63)), ("i64", 2.7), ("f16", 1e9), ("f16", 0.1),
    ("bf16", 3.14159), ("f32", 0.1), ("f32", float("nan")), ("f64", 1e300), ("f32", np.float64(2)),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "number"), NUMBERS)
def test_numbers_of_every_dtype(dtype, number):
    numpy = dtype_named(dtype).numpy
    executable = Executable(artifact([COPY_WORD], [Slot("s", dtype, (), "scalar")], [F4]))
    out = Storage(8)
    executable.run([number], [out])
    wide = np.float64 if isinstance(number, float) else np.int64
    with np.errstate(all="ignore"):
        expected = np.asarray(number, wide).astype(numpy)
    got = out.array(numpy, (1,))[0]
    assert got.tobytes() == expected.tobytes()


SITES = (
    FailureSite("take", 0, 4, 3, Location("model.py", 7)),
    FailureSite("nll_loss", 0, 10, 5, Location("model.py", 9, "net.head")),
)


def checker():
    return Executable(artifact([CHECK], [Slot("i", "i64", ())], [], failures=SITES))


def index(value):
    return Storage.from_numpy(np.array(value, np.int64))


def test_failures_raise_with_the_users_line():
    executable = checker()
    executable.run([index(9)], [])
    with pytest.raises(IndexError) as caught:
        executable.run([index(12)], [])
    assert str(caught.value) == (
        "[nll_loss] index 12 is out of range [0, 10)\n  at model.py:9\n  in net.head"
    )
    # The next call is fine, also if an interrupt kept this one's report from being looked at.
    executable.run([index(3)], [])
    executable._call.workspace.status[0] = 2
    executable.run([index(3)], [])


def test_failures_raise_with_the_line_of_this_call():
    executable = checker()
    with pytest.raises(IndexError, match=r"index -1 is out of range \[0, 10\)\n  at eval.py:5$"):
        executable.run([index(-1)], [], lambda node: Location("eval.py", node))
    lines = [None] * 5 + [Location("list.py", 50)]
    with pytest.raises(IndexError, match=r"\n  at list.py:50$"):
        executable.run([index(-1)], [], lines)
    with pytest.raises(IndexError, match=r"\n  at model.py:9"):
        executable.run([index(-1)], [], [None] * 6)


def test_an_unknown_failure_code_is_reported():
    executable = Executable(artifact([CHECK], [Slot("i", "i64", ())], []))
    with pytest.raises(RuntimeError, match="@test reported unknown failure 2"):
        executable.run([index(12)], [])


def test_the_users_text_is_shown():
    first_line = f'"""{__doc__.splitlines()[0]}"""'
    assert place(Location(__file__, 1)) == f"\n  at {__file__}:1: {first_line}"
    assert place(None) == ""


def test_the_arena_grows_and_is_shared():
    workspace = Workspace()
    small = Executable(artifact([MAIN, KERNEL], [F4, NUMBER], [F4]), workspace)
    large = Executable(artifact([NOTHING], arena_bytes=1 << 20), workspace)
    assert run_twice_plus(small, [1, 1, 1, 1], 1.0) == [3] * 4
    before = workspace.addresses
    large.run([], [])
    assert workspace.arena_bytes >= 1 << 20
    assert workspace.addresses[0] != before[0]
    assert stats.arena_bytes == workspace.arena_bytes
    # The small graph's pointers follow.
    assert run_twice_plus(small, [1, 1, 1, 1], 2.0) == [4] * 4
    assert small._call.pointers[3] == workspace.addresses[0]
    workspace.release()
    assert run_twice_plus(small, [1, 1, 1, 1], 2.0) == [4] * 4


def test_scratch_is_for_every_thread():
    workspace = Workspace()
    executable = Executable(artifact([NOTHING], scratch_bytes=1 << 16), workspace)
    before = get_num_threads()
    try:
        set_num_threads(2)
        executable.run([], [])
        assert workspace._scratch.nbytes >= 2 << 16
        set_num_threads(3)
        executable.run([], [])
        assert workspace._scratch.nbytes >= 3 << 16
    finally:
        set_num_threads(before)


def test_threads_share_an_executable(twice_plus):
    wrong = []

    def work(number):
        for i in range(200):
            got = run_twice_plus(twice_plus, [i] * 4, number)
            if got != [2.0 * i + number] * 4:
                wrong.append((i, number, got))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_dropped_executables_free_their_code():
    executable = Executable(artifact([NOTHING]))
    code = executable._code.loaded
    assert code.nbytes > 0
    finalised = []
    weakref.finalize(code, finalised.append, True)
    del executable, code
    gc.collect()
    assert finalised


def test_a_call_with_many_buffers_is_quick():
    """Forty pointers and four numbers: far below what a kernel launch may cost."""
    slots = [Slot(f"x{i}", "f32", (4,)) for i in range(36)] + [NUMBER] * 4
    executable = Executable(artifact([NOTHING], slots, [F4] * 20))
    inputs = [Storage(16) for _ in range(36)] + [0.1, 0.2, 0.3, 0.4]
    outputs = [Storage(16) for _ in range(20)]
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            executable.run(inputs, outputs)
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 50e-6


def test_facts_round_trip_through_json():
    whole = artifact(
        [NOTHING], [F4, NUMBER], [F4], failures=(*SITES, FailureSite("x", 0, 1)),
        figures=Figures(9, 3, 1000, 500, ("a, since b",), 0.25),
    )  # fmt: skip
    facts = json.loads(json.dumps(whole.facts()))
    assert Artifact.from_facts(facts, whole.objects) == whole
    del facts["main"]
    with pytest.raises(ValueError, match="facts of another form"):
        Artifact.from_facts(facts, whole.objects)
