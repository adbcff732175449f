"""What an engineer reads: the CUDA C of some small kernels, line by line. Needs no device."""


import braze.ir as ir
from braze.codegen.cuda.generate import generate
from braze.codegen.cuda.library import PARTS, library, needed
from braze.codegen.cuda.text import Writer, bare, identifier
from braze.ir.cuda_program import BufferArgument, Launch, Place
from braze.ir.target import named_target
from braze.passes import compile_graph

TARGET = named_target("sm_80")

BIAS = """\
extern "C" __global__ void __launch_bounds__(256) add_maximum_1(
    const float* in0,
    const float* __restrict__ in1,
    float* out0) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const Pack<float, 4> x0 = load_pack<4>(in0 + 4 * i);
  const int r0 = remainder_of<16>(i);
  const Pack<float, 4> x1 = load_pack<4>(in1 + 4 * r0);
  Pack<float, 4> y0;
  #pragma unroll
  for (int l = 0; l < 4; ++l) {
    y0.at[l] = larger(x0.at[l] + x1.at[l], 0.0f);
  }
  store_pack(out0 + 4 * i, y0);
}
"""

SOFTMAX = """\
extern "C" __global__ void __launch_bounds__(128) amax_sub_exp_sum_div_mul_1(
    const float* in0,
    float* out0) {
  const int lane = threadIdx.x;
  const int row = blockIdx.x;
  float kept0[8];
  float kept1[8];
  float amax0 = -__int_as_float(0x7f800000);
  #pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int p = lane + 128 * s;
    if (p < 1000) {
      const float v0 = in0[1000 * row + p];
      kept0[s] = v0;
      amax0 = larger(amax0, kept0[s]);
    }
  }
  amax0 = block_reduce<4>(amax0, Larger());
  float sum0 = 0.0f;
  #pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int p = lane + 128 * s;
    if (p < 1000) {
      kept1[s] = expf(kept0[s] - amax0);
      sum0 += kept1[s];
    }
  }
  sum0 = block_reduce<4>(sum0, Sum());
  #pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int p = lane + 128 * s;
    if (p < 1000) {
      out0[1000 * row + p] = kept1[s] * (1.0f / sum0);
    }
  }
}
"""


def made(b, outputs):
    return generate(compile_graph(b.finish(outputs), TARGET)[0], TARGET)


def function_of(program):
    """The text of the only kernel."""
    assert program.source.count("__global__") == 1
    return program.source[program.source.index('extern "C"') :]


def test_an_elementwise_kernel():
    b = ir.Builder("g")
    x, y = (b.input(ir.tensor_type(ir.f32, shape)) for shape in ((4096, 64), (64,)))
    program = made(b, [b.relu(b.add(x, y))])
    assert function_of(program) == BIAS
    arguments = tuple(BufferArgument(name) for name in ("0", "1", "2"))
    (launch,) = program.steps
    assert launch == Launch("add_maximum_1", (256, 1, 1), (256, 1, 1), 0, arguments)


def test_a_row_stays_in_registers():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (64, 1000)))
    assert function_of(made(b, [b.softmax(x, dim=1)])) == SOFTMAX


def test_a_source_holds_the_users_line_and_what_it_uses_of_the_library():
    b = ir.Builder("net")
    x = b.input(ir.tensor_type(ir.f32, (8,)))
    with b.at(ir.Location("train.py", 12)):
        y = b.tanh(x)
    source = made(b, [y]).source
    assert source.startswith("// Made by Braze from graph @net, for sm_80.\n")
    graph = (
        "// train.py:12\n"
        "// graph @tanh(%0: f32[8]) -> (f32[8]) {\n"
        "//   %1: f32[8] = tanh(%0)\n"
        "//   return %1\n"
        "// }\n"
        "extern"
    )
    assert graph in source
    assert "block_reduce" not in source and "Pack" not in source and "#include" not in source


def test_headers_are_those_that_are_needed():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.bf16, (8,)))
    source = made(b, [b.add(x, x)]).source
    assert "#include <cuda_bf16.h>" in source and "cuda_fp16.h" not in source


def test_the_library_gives_parts_behind_what_they_need():
    order = list(PARTS)
    for name in PARTS:
        wanted = needed([name])
        assert wanted == sorted(wanted, key=order.index) and wanted[-1] == name
        assert all(PARTS[part].text in library([name]) for part in wanted)


def test_text():
    assert bare("((a + b))") == "a + b" and bare("(a) + (b)") == "(a) + (b)"
    assert identifier("odd name.3") == "odd_name_3" and identifier("7") == "k7"
    w = Writer()
    w.line("const int used = 1;")
    w.line("const int unused = used;")
    w.line("const int also_unused = unused;")
    w.line("out0[0] = used;")
    assert w.text() == "  const int used = 1;\n  out0[0] = used;"


def test_places_of_a_repeat():
    place = Place("x", "xs", 8, -4, (0, "start"))
    assert [place.at(turn) for turn in (0, 1)] == [BufferArgument("start"), BufferArgument("xs", 4)]


def test_what_a_source_comes_from_is_no_part_of_its_code():
    """So that what was compiled is found again when a line of the user's has moved."""
    sources = []
    for name, line in (("net", 12), ("other", 13)):
        b = ir.Builder(name)
        with b.at(ir.Location("train.py", line)):
            y = b.tanh(b.input(ir.tensor_type(ir.f32, (8,))))
        sources.append(made(b, [y]))
    one, other = sources
    assert one.source != other.source and one.code == other.code
    assert "//   %1" in one.source and "%1" not in one.code
