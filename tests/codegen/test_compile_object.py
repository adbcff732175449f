"""IR text to objects: results, cross targets, errors that show the IR, and parallel use."""

import ctypes
import threading

import numpy as np
import pytest

from braze.codegen.llvm.compile import CompileError, assembly, compile_object, optimised_ir
from braze.ir.target import TARGET_NAMES, named_target
from braze.runtime.cpu import host_target
from braze.runtime.object_loader import LoadedObject


def axpy(lanes: int, scale: float = 2.0) -> str:
    """y += scale * x over n floats, n a multiple of `lanes`."""
    vector = f"<{lanes} x float>"
    return f"""
define void @axpy(ptr noalias %x, ptr noalias %y, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %px = getelementptr float, ptr %x, i64 %i
  %py = getelementptr float, ptr %y, i64 %i
  %a = load {vector}, ptr %px, align 4
  %b = load {vector}, ptr %py, align 4
  %r = call {vector} @llvm.fma({vector} %a, {vector} splat (float {scale}), {vector} %b)
  store {vector} %r, ptr %py, align 4
  %next = add nuw nsw i64 %i, {lanes}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
""".replace("@llvm.fma(", f"@llvm.fma.v{lanes}f32(") + (
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})\n"
    )


def run_axpy(data: bytes) -> np.ndarray:
    loaded = LoadedObject(data)
    x, y = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    signature(loaded.address("axpy"))(x.ctypes.data, y.ctypes.data, 64)
    return y


@pytest.mark.parametrize("optimise", [True, False])
def test_compiled_code_computes(optimise):
    host = host_target()
    y = run_axpy(compile_object(axpy(host.vector_lanes(4)), host, optimise=optimise))
    assert np.array_equal(y, 2 * np.arange(64, dtype=np.float32) + 1)


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_every_target_uses_its_own_vectors(name):
    target = named_target(name)
    text = assembly(axpy(target.vector_lanes(4)), target)
    widest = {"x86-64-v3": "%ymm", "x86-64-v4": "%zmm", "aarch64": "fmla"}
    if name in widest:
        assert widest[name] in text
    else:
        assert "%ymm" not in text
    data = compile_object(axpy(target.vector_lanes(4)), target)
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == (183 if name == "aarch64" else 62)


def test_optimised_ir_is_optimised():
    ir = "define i64 @f(i64 %x) {\n  %y = add i64 %x, 0\n  %z = mul i64 %y, 1\n  ret i64 %z\n}\n"
    text = optimised_ir(ir, host_target())
    assert "ret i64 %x" in text and "mul" not in text
    assert host_target().triple in text


def test_same_input_gives_the_same_bytes():
    host = host_target()
    assert compile_object(axpy(4), host) == compile_object(axpy(4), host)


def test_loops_are_not_unrolled_or_vectorised():
    scalar = axpy(4).replace("<4 x float>", "float").replace("v4f32", "f32")
    scalar = scalar.replace("splat (float 2.0)", "2.0").replace("%i, 4", "%i, 1")
    text = assembly(scalar, named_target("x86-64-v3"))
    assert text.count("vfmadd") == 1 and "%ymm" not in text


def test_parse_error_shows_the_line():
    broken = axpy(4).replace("%a = load", "%a = laod")
    with pytest.raises(CompileError) as caught:
        compile_object(broken, host_target())
    message = str(caught.value)
    assert "line 9: " in message
    assert ">    9 |   %a = laod <4 x float>" in message
    lines = message.split("\n")
    marked = next(i for i, line in enumerate(lines) if line.startswith(">"))
    assert lines[marked + 1].index("^") == lines[marked].index("laod")


def test_parse_error_in_the_first_line_has_the_right_column():
    with pytest.raises(CompileError, match=r"line 1: .*\n>    1 \| define bad\n {6} \|        \^"):
        compile_object("define bad", host_target())


def test_verifier_error_shows_the_line():
    broken = axpy(4).replace("  br i1 %more", "  %again = add i64 %again, 1\n  br i1 %more")
    with pytest.raises(CompileError, match=r"> +15 \|   %again = add i64 %again, 1"):
        compile_object(broken, host_target())


def test_other_refusals():
    with pytest.raises(CompileError, match="NUL"):
        compile_object("; \0", host_target())
    wrong = 'target triple = "riscv64-unknown-linux-gnu"\n'
    with pytest.raises(CompileError, match="the IR is for riscv64-unknown-linux-gnu"):
        compile_object(wrong, host_target())


def test_threads_compile_at_once():
    """Each thread must get its own module's code, with failures in between."""
    host = host_target()
    results: dict[int, np.ndarray] = {}
    failures: list[BaseException] = []

    def work(scale: int) -> None:
        try:
            for _ in range(5):
                results[scale] = run_axpy(compile_object(axpy(4, float(scale)), host))
                with pytest.raises(CompileError):
                    compile_object("define", host)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(scale,)) for scale in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for scale in range(6):
        assert np.array_equal(results[scale], scale * np.arange(64, dtype=np.float32) + 1)
