"""Whole programs: waves, chunks on the pool, the arena, status, and the form of what is generated.
"""

import ctypes

import numpy as np
import pytest
from kernels import check, program_of
from native import Native, defined

from braze.codegen.llvm.compile import compile_object
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.program import generate
from braze.ir.loops import Program
from braze.ir.loops_parser import parse_program
from braze.ir.target import TARGET_NAMES, named_target
from braze.runtime.cpu import host_target
from braze.runtime.object_loader import LoadedObject


def scale(name: str, source: str, result: str, factor: float, chunks: int, n: int = 96) -> str:
    return f"""nest @{name}(%{source}: f32[{n}] in, %{result}: f32[{n}] out) {{
      for i in {n} vector chunks {chunks} {{
        store %{result}[i] = mul(%{source}[i], {factor})
      }}
    }}"""


def test_waves_run_in_order_through_the_arena():
    program = program_of(
        scale("first", "x", "t", 2.0, 1),
        scale("second", "t", "u", 3.0, 4),
        [scale("third", "u", "o", 5.0, 3), scale("fourth", "t", "p", 7.0, 1)],
        arena={"t": 0, "u": 448},
    )
    check(program)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_a_wave_of_many_kernels(count):
    """Every chunk number reaches the right kernel with its own chunk number."""
    wave = [scale(f"k{n}", "x", f"o{n}", float(n + 1), 1 + n % 4) for n in range(count)]
    check(program_of(wave))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    text = """nest @sums(%x: f32[100000] in, %o: f32[40] out) {
      for i in 40 chunks 13 {
        reduce j in 2500 vector {
          s = sum(exp(%x[2500*i + j]))
        }
        store %o[i] = s
      }
    }"""
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    (alone,) = Native(program_of(text), threads=1).run([x], [np.zeros(40, np.float32)])
    (shared,) = Native(program_of(text), threads=threads).run([x], [np.zeros(40, np.float32)])
    assert np.array_equal(alone, shared)
    assert np.allclose(alone, np.exp(x.reshape(40, -1)).sum(1), rtol=1e-5)


def test_softmax_program_with_materialised_steps():
    """Row maxima, exponentials and sums as kernels of their own, in an arena, then divided."""
    program = program_of(
        """nest @maxima(%x: f32[2100] in, %m: f32[30] out) {
          for i in 30 chunks 5 {
            reduce j in 70 vector {
              m = amax(%x[70*i + j])
            }
            store %m[i] = m
          }
        }""",
        """nest @exponentials(%x: f32[2100] in, %m: f32[30] in, %e: f32[2100] out,
          %s: f32[30] out) {
          for i in 30 chunks 5 {
            for j in 70 vector {
              store %e[70*i + j] = exp(sub(%x[70*i + j], %m[i]))
            }
            reduce j in 70 vector {
              s = sum(%e[70*i + j])
            }
            store %s[i] = s
          }
        }""".replace("%e: f32[2100] out", "%e: f32[2100] inout"),
        """nest @quotients(%e: f32[2100] in, %s: f32[30] in, %o: f32[2100] out) {
          for i in 2100 vector chunks 3 {
            store %o[i] = div(%e[i], %s[(i)//70])
          }
        }""",
        arena={"m": 0, "e": 128, "s": 8576},
    )
    check(program)


def test_an_arena_buffer_over_its_operand():
    """The planner lets a map write over what it reads at the same place."""
    program = program_of(
        scale("first", "x", "t", 2.0, 1),
        scale("second", "t", "u", 3.0, 2),
        scale("third", "u", "o", 1.0, 1),
        arena={"t": 64, "u": 64},
    )
    check(program)


CHECKED = """program @checked(1 inputs, 1 outputs, arena 0) {
  place %k input 0
  place %o output 0
  site "take" 0 5
  site "gather" 0 9
  wave {
    nest @first(%k: i64[64] in, %o: i64[64] out) {
      for i in 64 vector {
        check 0 <= %k[i] < 9 code 2
        store %o[i] = %k[i]
      }
    }
  }
  wave {
    nest @second(%k: i64[64] in) {
      for i in 64 vector chunks 4 {
        check 0 <= %k[i] < 5 code 1
      }
    }
  }
}"""


def test_main_returns_the_first_failure():
    native = Native(parse_program(CHECKED))
    good = np.zeros(64, np.int64)
    assert native.call([good.ctypes.data, good.copy().ctypes.data]) == 0
    good[17] = 6
    assert native.call([good.ctypes.data, good.copy().ctypes.data]) == 1
    assert native.status[:4].tolist() == [1, 6, 5, 0]
    good[40] = 12
    assert native.call([good.ctypes.data, good.copy().ctypes.data]) == 2
    assert native.status[:4].tolist() == [2, 12, 9, 0]


def test_one_chunk_needs_no_pool():
    """A wave with one chunk is a plain call: the pool is not even looked at."""
    generated = generate(program_of(scale("only", "x", "o", 2.0, 1)), host_target())
    ((_, module),) = generated.modules
    loaded = LoadedObject(compile_object(module, host_target()))
    x, o, status = np.ones(96, np.float32), np.zeros(96, np.float32), np.zeros(8, np.int64)
    table = (ctypes.c_void_p * 5)(x.ctypes.data, o.ctypes.data, 0, 0, status.ctypes.data)
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    assert run(loaded.address(generated.main))(ctypes.addressof(table), None) == 0
    assert (o == 2).all()


def test_an_empty_program_runs():
    native = Native(Program("nothing", 0, 0, [], {}, 0))
    assert native.call([]) == 0


def test_what_is_generated():
    program = program_of(scale("a_b", "x", "o", 2.0, 4), scale("c.d", "x", "p", 3.0, 4))
    generated = generate(program, host_target())
    ((name, text),) = generated.modules
    assert name == "braze_program_test"
    assert defined(text) == ["braze_kernel_a_b", "braze_kernel_c_d", name]
    assert generated.main == "braze_program_test"
    assert generated.pointers == 1 + 2 + 3
    assert generated.scratch_bytes == 0
    again = generate(program, host_target())
    assert again.modules == generated.modules


def test_a_module_is_full_at_some_length():
    """Others are compiled beside it; each kernel is in one of them."""
    kernels = [scale(f"k{n}", "x", f"o{n}", float(n), 1) for n in range(200)]
    generated = generate(program_of(*kernels), host_target())
    assert 2 < len(generated.modules) < 20
    found = [name for _, text in generated.modules for name in defined(text) if "kernel" in name]
    assert found == [f"braze_kernel_k{number}" for number in range(200)]
    native = Native(program_of(*kernels[:100]))
    x, results = np.ones(96, np.float32), [np.zeros(96, np.float32) for _ in range(100)]
    assert native.call([a.ctypes.data for a in (x, *results)]) == 0
    assert all((o == number).all() for number, o in enumerate(results))


def test_kernels_of_one_name_are_refused():
    program = program_of(scale("same", "x", "o", 2.0, 1), scale("same", "x", "p", 3.0, 1))
    with pytest.raises(CodegenError, match="share the symbol braze_kernel_same"):
        generate(program, host_target())


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_modules_compile_for(target):
    generated = generate(program_of(scale("k", "x", "o", 2.0, 4)), named_target(target))
    for _, text in generated.modules:
        assert compile_object(text, named_target(target))[:4] == b"\x7fELF"
