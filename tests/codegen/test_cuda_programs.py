"""Whole programs on a CUDA device: random graphs, training steps, recurrences; and that the real
compiler takes them for every architecture, with no register spilled in products of matrices."""

import re
import shutil
import subprocess

import cuda_device
import cuda_programs as cuda
import pytest
from captured import lstm_step, plausible_inputs, transformer_step
from cuda_emulator import control
from graphs import assert_same, random_graph, random_graphs, sample_inputs
from hypothesis import HealthCheck, given, settings
from networks import dense_step, mnist_step, network_inputs, residual_step

import braze.ir as ir
from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.generate import generate
from braze.ir.cuda_program import Repeat
from braze.ir.interpreter import interpret
from braze.ir.target import named_target
from braze.passes import compile_graph

LEARNED = {"transformer": transformer_step, "lstm": lstm_step}
STEPS = {"dense": dense_step, "residual": residual_step, "mnist": lambda: mnist_step(4)}


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    graph = random_graph(seed, nodes=25)
    inputs = sample_inputs(graph, seed)
    assert_same(cuda.run_graph(graph, inputs), interpret(graph, inputs))


@given(random_graphs(nodes=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_graphs(graph):
    inputs = sample_inputs(graph, 0)
    assert_same(cuda.run_graph(graph, inputs), interpret(graph, inputs))


@pytest.mark.parametrize("name", STEPS)
def test_training_steps(name):
    graph = STEPS[name]()
    cuda.check_graph(graph, network_inputs(graph), 1e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_training_steps_of_the_front_end(name):
    graph = LEARNED[name]()
    cuda.check_graph(graph, plausible_inputs(graph), 1e-4)


@pytest.mark.parametrize("order", ["reverse", "random:1"])
@cuda_device.emulated_only
def test_the_order_of_threads_does_not_matter(order):
    graph = LEARNED["transformer"]()
    with control.options(ORDER=order):
        cuda.check_graph(graph, plausible_inputs(graph), 1e-4)


def test_a_recurrence_is_repeated_steps():
    program, _ = compile_graph(LEARNED["lstm"](), cuda.TARGET)
    made = generate(program, cuda.TARGET)
    repeats = [step for step in made.steps if isinstance(step, Repeat)]
    assert len(repeats) >= 4 and all(repeat.times == 6 for repeat in repeats)
    names = {place.name for repeat in repeats for place in repeat.places}
    used = {
        a.name for r in repeats for launch in r.steps for a in launch.arguments if a != "status"
    }
    assert used <= names


def test_a_program_is_the_same_text_each_time():
    programs = [compile_graph(residual_step(), cuda.TARGET)[0] for _ in range(2)]
    first, second = (generate(program, cuda.TARGET) for program in programs)
    assert first.source == second.source and first.steps == second.steps


def test_equal_kernels_are_one_function():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (64, 64)))
    y = x
    for _ in range(8):
        y = b.tanh(b.contract(y, x, equation="mk,kn->mn"))
    made = generate(compile_graph(b.finish([y]), cuda.TARGET)[0], cuda.TARGET)
    # Those at either end differ in which of their buffers can overlap.
    assert len(list(made.launches())) == 8 and made.source.count("__global__") == 3


def test_a_processor_is_no_target():
    program, _ = compile_graph(dense_step(), named_target("x86-64-v3"))
    with pytest.raises(CodegenError, match="x86-64-v3 is not a GPU"):
        generate(program, named_target("x86-64-v3"))


NVCC = shutil.which("/usr/local/cuda/bin/nvcc") or shutil.which("/usr/local/bin/nvcc")


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", [*STEPS, *LEARNED])
def test_the_real_compiler_spills_no_register(name, architecture, tmp_path):
    compile_for({**STEPS, **LEARNED}[name](), named_target(architecture), tmp_path)


def compile_for(graph, target, tmp_path):
    """Compile a graph's source with NVIDIA's compiler: without warnings, and nothing is spilled."""
    program, _ = compile_graph(graph, target)
    source = tmp_path / "program.cu"
    source.write_text(generate(program, target).source)
    command = [NVCC, "-cubin", f"-arch={target.cpu}", "-Xptxas=-v", "-o", "/dev/null", source]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "warning" not in found.stderr, found.stderr
    spilled = re.findall(r"(\d+) bytes spill stores", found.stderr)
    assert spilled and set(spilled) == {"0"}, found.stderr


def products(dtype, equations=("mk,kn->mn", "mk,nk->mn", "km,nk->mn")):
    """Large products of matrices in several orders."""
    b = ir.Builder("products")
    x, y = (b.input(ir.tensor_type(dtype, (1024, 1024))) for _ in "xy")
    return b.finish([b.contract(x, y, equation=equation) for equation in equations])


def other_kinds():
    """A sort of each form, scans, scatters, attention and its gradient."""
    b = ir.Builder("kinds")
    x = b.input(ir.tensor_type(ir.f32, (4, 5000)))
    i = b.input(ir.tensor_type(ir.i64, (4, 5000)))
    q, k, v = (b.input(ir.tensor_type(ir.f32, (8, 512, 64))) for _ in "qkv")
    settings = {"scale": 0.125, "causal": True}
    out, lse = b.emit(ir.op_named("attention"), [q, k, v], settings).results
    grad = ir.op_named("attention_grad")
    taken = [out, q, k, v, lse, lse]
    outputs = [*b.sort(x, dim=1, descending=True), *b.sort(i, dim=0, descending=False)]
    outputs += [b.cumsum(x, dim=1, reverse=False), *b.cummax(x, dim=0, reverse=False)]
    outputs += [b.scatter(x, i, x, dim=1), b.scatter_add(i, i, i, dim=1)]
    outputs.append(b.argmax(x, dims=(1,), keepdim=False))
    return b.finish([*outputs, out, *b.emit(grad, taken, {**settings, "parts": 2}).results])


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
@pytest.mark.parametrize(
    "architecture, dtype",
    [("sm_75", "f16"), ("sm_80", "f16"), ("sm_80", "bf16"), ("sm_100", "bf16"), ("sm_80", "f64"),
     ("sm_80", "i64")],
)  # fmt: skip
def test_the_real_compiler_takes_large_products(architecture, dtype, tmp_path):
    """Those of f32 are in test_cuda_spills.py."""
    graph = products(ir.dtypes.dtype_named(dtype))
    compile_for(graph, named_target(architecture), tmp_path)


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_120"])
def test_the_real_compiler_takes_other_kinds(architecture, tmp_path):
    compile_for(other_kinds(), named_target(architecture), tmp_path)
