"""What a kernel must do at least, counted from its loops: bytes and floating-point operations."""

import pytest

from braze import ir
from braze.ir.loops import Contraction
from braze.ir.loops_cost import Cost, kernel_cost
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import named_target
from braze.passes import compile_graph


def cost(text):
    return kernel_cost(parse_kernel(text))


def test_an_elementwise_kernel_reads_and_writes_each_element_once():
    found = cost(
        """nest @k(%x: f32[64] in, %y: f32[4096] in, %z: f32[4096] out) {
          for i in 64 chunks 4 {
            for j in 64 vector {
              store %z[64*i + j] = maximum(add(%y[64*i + j], %x[j]), exp(%y[64*i + j]))
            }
          }
        }"""
    )
    assert found == Cost(4 * 4096 + 4 * 64, 4 * 4096, 3 * 4096)
    assert found.bytes_moved == 8 * 4096 + 256


def test_what_is_read_in_part_counts_in_part():
    found = cost(
        """nest @k(%x: f32[4096] in, %z: f32[64] out) {
          for i in 64 vector {
            store %z[i] = neg(%x[64*i + 3])
          }
        }"""
    )
    assert found == Cost(4 * 64, 4 * 64, 64)


def test_choices_casts_and_integers_are_no_flops():
    found = cost(
        """nest @k(%x: i32[8] in, %y: f32[8] in, %z: f32[8] out) {
          for i in 8 vector {
            store %z[i] = where(lt(%x[i], 3: i32), %y[i], cast(add(%x[i], 1: i32); f32))
          }
        }"""
    )
    assert found == Cost(4 * 8 + 4 * 8, 4 * 8, 0)


def test_a_reduction_counts_what_it_takes_in():
    found = cost(
        """nest @k(%x: f32[32] in, %z: f32[4] out) {
          for i in 4 {
            reduce r in 8 vector {
              s0 = sum(%x[8*i + r])
            }
            store %z[i] = s0
          }
        }"""
    )
    assert found == Cost(4 * 32, 4 * 4, 32)


def test_the_least_time_is_the_longer_of_arithmetic_and_traffic():
    assert Cost(30, 10, 100).seconds(100.0, 10.0) == 4.0
    assert Cost(30, 10, 1000).seconds(100.0, 10.0) == 10.0
    assert Cost(1, 2, 3) + Cost(4, 5, 6).times(2) == Cost(9, 12, 15)


def convolution(size, pad):
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (16, 64, size, size)))
    w = b.input(ir.tensor_type(ir.f32, (64, 64, 3, 3)))
    geometry = {"stride": (1, 1), "padding": (pad, pad), "dilation": (1, 1), "groups": 1}
    graph = b.finish([b.conv_no_bias(x, w, **geometry)])
    program, _ = compile_graph(graph, named_target("x86-64-v3"))
    return [kernel for kernel in program.kernels() if isinstance(kernel, Contraction)]


def test_a_contraction_counts_two_for_each_product():
    (kernel,) = convolution(8, 0)
    assert kernel_cost(kernel).flops == 2 * 16 * 64 * 64 * 36 * 9


def test_what_guards_leave_out_is_not_counted():
    (kernel,) = convolution(2, 1)
    guards = (*kernel.lhs.guard, *kernel.rhs.guard)
    assert guards  # else this tests nothing
    # Along an axis, 4 of the 6 pairs of pixel and tap lie in the image.
    part = (4 / 6) ** len(guards)
    assert kernel_cost(kernel).flops == pytest.approx(2 * 16 * 64 * 64 * 4 * 9 * part)


def test_gathered_elements_count_once_for_each_look_up():
    found = cost(
        """nest @k(%i: i64[8] in, %x: f32[1000] in, %z: f32[8] out) {
          for i in 8 {
            store %z[i] = %x[[%i[i] < 1000]]
          }
        }"""
    )
    assert found == Cost(8 * 8 + 4 * 8, 4 * 8, 0)


@pytest.mark.parametrize(("causal", "part"), [("false", 1), ("true", 2)])
def test_attention_counts_both_contractions_and_the_softmax(causal, part):
    found = cost(
        f"""attention @a(%q: f32[32] in, %k: f32[48] in, %v: f32[48] in, %0: f32[32] out) {{
          chunks 1
          %0: f32[1,4,8], (f32[1,4]) = attention(%q: f32[1,4,8] from 0 by (32, 8, 1),
          %k: f32[1,6,8] from 0 by (48, 8, 1), %v: f32[1,6,8] from 0 by (48, 8, 1);
          scale=0.5, causal={causal})
        }}"""
    )
    scores = 4 * 6
    assert found == Cost(4 * (32 + 48 + 48), 4 * 32, scores * (2 * (8 + 8) + 5) // part)
