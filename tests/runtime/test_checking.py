"""`config.check`: sound programs pass, and each kind of fault is put down to its kernel."""

import re
from dataclasses import replace

import numpy as np
import pytest
from faults import memory_for, other_text, wrong_code
from graphs import random_graph, sample_inputs
from networks import dense_step, mnist_step, network_inputs, residual_step

from braze import ir
from braze.codegen.llvm.program import generate
from braze.ir.index import LoopVar
from braze.ir.parser import parse_graph
from braze.ir.target import WATCH
from braze.passes import compile_graph
from braze.runtime import cache, checking, kernel_cases
from braze.runtime.cache import clear_memory, prepare
from braze.runtime.checking import KernelDifference, checked_executable
from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.kernel_cases import KernelCase

# A row of sums over 37 columns, then an elementwise kernel that needs all of them.
ROWS = """
graph @rows(%x: f32[5,37], %y: f32[5,37]) -> (f32[5,37], f32[37]) {
  %0: f32[5,37] = maximum(%x, %y)  # train.py:3
  %1: f32[37] = sum(%0; dims=(0), keepdim=false)  # train.py:4
  %2: f32[5,37] = sub(%0, %1)  # train.py:5
  %3: f32[5,37] = exp(%2)  # train.py:6
  %4: f32[5] = sum(%3; dims=(1), keepdim=false)  # train.py:7
  %5: f32[5,1] = reshape(%4; shape=(5,1))
  %6: f32[5,37] = div(%3, %5)  # train.py:8
  return %6, %1
}
"""


def rows():
    rng = np.random.default_rng(0)
    return parse_graph(ROWS), [rng.standard_normal((5, 37), np.float32) for _ in range(2)]


def run(graph, arrays):
    executable = checked_executable(graph)
    executable.run(*memory_for(graph, arrays))
    return executable


# Sound programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [dense_step, mnist_step, residual_step])
def test_training_steps_pass(step, monkeypatch):
    graph = step(4)
    executable = checked_executable(graph)
    looked = []
    right = KernelCase.expected
    monkeypatch.setattr(
        KernelCase, "expected", lambda case, values: looked.append(case.name) or right(case, values)
    )
    for seed in range(3):
        looked.clear()
        executable.run(*memory_for(graph, network_inputs(graph, seed)))
        assert looked == [case.name for case in executable.cases]
        assert len(looked) > 10


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_pass(seed):
    graph = random_graph(seed, nodes=25)
    run(graph, sample_inputs(graph, seed))


def test_the_results_are_those_of_unchecked_code():
    graph, arrays = rows()
    inputs, outputs = memory_for(graph, arrays)
    checked_executable(graph).run(inputs, outputs)
    shapes = [value.shape for value in graph.outputs]
    found = [np.array(o.array(np.float32, s)) for o, s in zip(outputs, shapes, strict=True)]
    inputs, outputs = memory_for(graph, arrays)
    prepare(graph).compile().run(inputs, outputs)
    for one, other, shape in zip(found, outputs, shapes, strict=True):
        np.testing.assert_array_equal(one, other.array(np.float32, shape))


def test_an_index_out_of_range_is_what_it_is_without_checks():
    b = ir.Builder("pick")
    x = b.input(ir.tensor_type(ir.f32, (4,)), name="x")
    index = b.input(ir.tensor_type(ir.i64, (3,)), name="index")
    b.check_range(index, low=0, high=4, message="take")
    graph = b.finish([b.exp(b.take(x, index, dim=0))])
    arrays = [np.ones(4, np.float32), np.array([0, 3, 7])]
    with pytest.raises(IndexError, match=r"\[take\] index 7 is out of range"):
        run(graph, arrays)
    run(graph, [arrays[0], np.array([0, 3, 1])])


def test_winograds_algorithm_may_let_an_element_have_its_neighbours_errors(monkeypatch):
    """Zeros beside large values come out as what these were rounded by, and a nan spreads."""
    x, w = (ir.tensor_type(ir.f32, shape) for shape in ((4, 64, 32, 32), (64, 64, 3, 3)))
    b = ir.Builder("conv")
    one, two = b.input(x, name="x"), b.input(w, name="w")
    pair = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    bias = b.full(shape=(64,), value=0.0, dtype=ir.f32)
    graph = b.finish([b.conv(one, two, bias, **pair)])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(t.shape, np.float32) for t in (x, w)]
    arrays[0][:, :, :, :19] = 0.0
    arrays[0][:, :, :, 19:] *= 1000.0
    executable = run(graph, arrays)
    assert [case.name for case in executable.cases if case.mixed]
    nan = [arrays[0].copy(), arrays[1]]
    nan[0][0, 0, 0, 0] = np.nan
    run(graph, nan)
    monkeypatch.setattr(kernel_cases, "is_mixed", lambda kernel: False)
    for given in (arrays, nan):
        found_in(graph, given)


def test_filters_gradients_may_have_their_neighbours_errors(monkeypatch):
    """As results may: a column of large gradients does not reach a tap that meets zeros alone."""
    x, g = (ir.tensor_type(ir.f32, (4, 64, 32, 32)) for _ in range(2))
    b = ir.Builder("gradient")
    one, two = b.input(x, name="x"), b.input(g, name="g")
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    graph = b.finish([b.conv_weight_grad(one, two, kernel=(3, 3), **options)])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(t.shape, np.float32) for t in (x, g)]
    arrays[0][:, :, :, 1:] *= 1e-4
    arrays[1][:, :, :, 1:] *= 1e-4
    executable = run(graph, arrays)
    assert [case.name for case in executable.cases if case.mixed]
    monkeypatch.setattr(kernel_cases, "is_mixed", lambda kernel: False)
    found_in(graph, arrays)


# Faults -------------------------------------------------------------------------------------------


def found_in(graph, arrays):
    with pytest.raises(KernelDifference) as caught:
        run(graph, arrays)
    return caught.value


def test_a_wrong_operation_is_found_in_its_kernel(monkeypatch):
    graph, arrays = rows()
    changed = []
    wrong_code(monkeypatch, other_text("maximum(", "minimum(", changed))
    error = found_in(graph, arrays)
    assert error.case.name == changed[0]
    text = str(error)
    assert text.startswith(f"[check] kernel @{changed[0]} of graph @rows differs from the inter")
    assert re.search(r"\d+ of \d+ elements of %\w+: f32\[", text)
    assert re.search(r"first \[[\d, ]+\]: expected \S+, found \S+, \S+ apart where \S+ is", text)
    assert re.search(r"it computes: .*maximum \(train.py:3\)", text)
    assert "loops are right when they are interpreted: code generation is at fault" in text
    assert re.search(r"at train.py:[3-6]$", text)
    assert error.difference.largest > error.difference.allowed


def test_a_wrong_constant_and_a_missing_tail_are_found(monkeypatch):
    b = ir.Builder("scaled")
    x = b.input(ir.tensor_type(ir.f32, (37,)), name="x")
    graph = b.finish([b.mul(x, 1.5)])
    arrays = [np.arange(1, 38, dtype=np.float32)]
    run(graph, arrays)
    with monkeypatch.context() as patch:
        wrong_code(patch, other_text("1.5", "1.5001"))
        error = found_in(graph, arrays)
        assert error.difference.count == 37 and error.difference.index == (0,)
        assert error.difference.expected == 1.5
    with monkeypatch.context() as patch:
        wrong_code(patch, other_text(" in 37 ", " in 36 "))
        error = found_in(graph, arrays)
        assert error.difference.index == (36,) and error.difference.count == 1


def test_what_is_left_out_is_found_though_the_right_value_lies_there(monkeypatch):
    b = ir.Builder("scaled")
    x = b.input(ir.tensor_type(ir.i32, (37,)), name="x")
    y = b.input(ir.tensor_type(ir.f32, (37,)), name="y")
    graph = b.finish([b.mul(x, 3), b.mul(y, 0.5)])
    arrays = [np.arange(37, dtype=np.int32), np.arange(37, dtype=np.float32)]
    wrong_code(monkeypatch, other_text(" in 37 ", " in 36 "))
    inputs, outputs = memory_for(graph, arrays)
    for storage, type, right in zip(
        outputs, (np.int32, np.float32), (arrays[0] * 3, arrays[1] / 2), strict=True
    ):
        storage.array(type, (37,))[:] = right
    with pytest.raises(KernelDifference) as caught:
        checked_executable(graph).run(inputs, outputs)
    assert caught.value.difference.index == (36,) and caught.value.difference.count == 1


def test_a_product_that_lacks_its_last_term_is_found(monkeypatch):
    from braze.codegen.llvm import contractions

    right = contractions.emit_contraction

    def shorter(kernel, *rest):
        *outer, last = kernel.dims
        dims = (*outer, LoopVar(last.name, last.extent - 1))
        return right(replace(kernel, dims=dims), *rest)

    b = ir.Builder("product")
    x = b.input(ir.tensor_type(ir.f32, (33, 257)), name="x")
    y = b.input(ir.tensor_type(ir.f32, (257, 47)), name="y")
    graph = b.finish([b.contract(x, y, equation="mk,kn->mn")])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape, np.float32) for v in graph.inputs]
    run(graph, arrays)
    monkeypatch.setattr(contractions, "emit_contraction", shorter)
    error = found_in(graph, arrays)
    assert error.case.name.startswith("contract") and error.difference.count > 1500


def test_later_kernels_are_checked_on_what_they_were_given(monkeypatch):
    """A kernel that is right is not blamed for what an earlier one left; here a later one is."""
    graph, arrays = rows()
    changed = []
    wrong_code(monkeypatch, other_text("div(", "mul(", changed))
    error = found_in(graph, arrays)
    assert [error.case.name] == changed and "div" in error.case.name
    assert str(error).endswith("at train.py:8")


def test_wrong_loops_are_told_from_wrong_code(monkeypatch):
    from braze.passes import lower

    right = lower.lower_nest

    def wrong(*args):
        return other_text("maximum(", "minimum(")(right(*args))

    monkeypatch.setattr(lower, "lower_nest", wrong)
    graph, arrays = rows()
    assert "its loops differ, too, when they are interpreted" in str(found_in(graph, arrays))


def test_writing_beyond_a_buffer_is_found(monkeypatch):
    graph = dense_step(4)
    arrays = network_inputs(graph, 0)
    executable = checked_executable(graph)
    program = executable._memory._program
    # A kernel whose result is followed by another value in the arena.
    for case in executable.cases:
        placed = [program.placements[name] for name in case.results if name in case.written]
        text = str(case.kernel)
        if "nest" in text and all(p.kind == "arena" for p in placed) and "store %" in text:
            break
    name = case.results[0]
    far = re.compile(rf"store %{name}\[([^\]]*)\]")

    def change(kernel):
        if kernel.name != case.name:
            return kernel
        return parse_kernel_text(far.sub(rf"store %{name}[\1 + 16]", str(kernel), count=1))

    from braze.ir.loops_parser import parse_kernel as parse_kernel_text

    wrong_code(monkeypatch, change)
    error = found_in(graph, arrays)
    assert error.case.name == case.name


def test_a_changed_input_is_found(monkeypatch):
    """Results are right, but a value that the kernel only reads is not what it was."""
    b = ir.Builder("side")
    x = b.input(ir.tensor_type(ir.f32, (64,)), name="x")
    graph = b.finish([b.exp(x)])
    wrong_code(monkeypatch, _also_writes("x"))
    error = found_in(graph, [np.ones(64, np.float32)])
    assert "changed 64 of 64 elements, first [0], of %x, which it does not write" in str(error)
    assert error.difference is None and not error.is_of_plan


def _also_writes(name):
    def change(kernel):
        text = str(kernel).replace(f"%{name}: f32[64] in", f"%{name}: f32[64] inout")
        match = re.search(r"( *)store (%\w+\[i0\]) = exp\(%x\[i0\]\)", text)
        assert match, text
        extra = f"{match[0]}\n{match[1]}store %{name}[i0] = 7.0"
        from braze.ir.loops_parser import parse_kernel

        return replace(parse_kernel(text.replace(match[0], extra)), comment="")

    return change


def test_what_is_overwritten_in_place_is_as_it_was_after_an_error(monkeypatch):
    text = """
    graph @step(%x: f32[5,37], %p: f32[5,37] param) -> (f32[5,37] = %p, f32[5]) {
      %0: f32[5,37] = sub(%p, %x)
      %1: f32[37] = sum(%0; dims=(0), keepdim=false)
      %2: f32[5,37] = maximum(%0, %1)
      %3: f32[5] = sum(%2; dims=(1), keepdim=false)
      return %0, %3
    }
    """
    graph = parse_graph(text)
    _, arrays = rows()
    executable = checked_executable(graph)
    inputs, outputs = memory_for(graph, arrays)
    executable.run(inputs, outputs)
    parameter = inputs[1].array(np.float32, (5, 37))
    np.testing.assert_array_equal(parameter, arrays[1] - arrays[0])
    wrong_code(monkeypatch, other_text("maximum(", "minimum("))
    executable = checked_executable(graph)
    inputs, outputs = memory_for(graph, arrays)
    with pytest.raises(KernelDifference, match="maximum"):
        executable.run(inputs, outputs)
    parameter = inputs[1].array(np.float32, (5, 37))
    np.testing.assert_array_equal(parameter, arrays[1])


def test_a_plan_that_lets_needed_values_overlap_is_found(monkeypatch):
    import braze.passes as passes

    right = passes.plan_memory

    def wrong(graph, waves):
        plan = right(graph, waves)
        plan.offsets = dict.fromkeys(plan.offsets, 0)
        return plan

    monkeypatch.setattr(passes, "plan_memory", wrong)
    graph = dense_step(4)
    error = found_in(graph, network_inputs(graph, 0))
    assert error.is_of_plan or error.difference is not None
    assert re.search(r"overwrites %\w+ with %\w+, which ", str(error)) or error.difference


# The setting --------------------------------------------------------------------------------------


def test_the_setting_checks_every_run_and_nothing_remains_of_it(monkeypatch):
    graph, arrays = rows()
    clear_memory()
    monkeypatch.setattr(cache, "disk_cache", lambda: None)
    changed = []
    with monkeypatch.context() as patch, config.using(check=True):
        entry = prepare(graph)
        entry.run(*memory_for(graph, arrays))  # compiled and checked at the first run
        clear_memory()
        wrong_code(patch, other_text("maximum(", "minimum(", changed))
        wrong = prepare(graph)
        for _ in range(2):
            with pytest.raises(KernelDifference):
                wrong.run(*memory_for(graph, arrays))
        with config.using(tier="interpret"):
            wrong.run(*memory_for(graph, arrays))
    assert changed
    clear_memory()
    after = prepare(graph, tier="compile")
    after.run(*memory_for(graph, arrays))
    assert after._known.checked is None


def test_only_watched_code_calls_the_watcher():
    graph, _ = rows()
    program, _ = compile_graph(graph, host_target())
    plain = dict(generate(program, host_target()).modules)
    watched = generate(program, host_target(), watched=True)
    for name, text in watched.modules:
        if name == watched.main:
            calls = [t.count(f"i64 {WATCH}\n") for t in (text, plain[name])]
            assert calls[0] - calls[1] == len(program.waves) + 1
        else:
            assert text == plain[name]


def test_a_reproducer_is_written_where_dumps_go(monkeypatch, tmp_path):
    graph, arrays = rows()
    wrong_code(monkeypatch, other_text("maximum(", "minimum("))
    with config.using(dump_dir=str(tmp_path)):
        error = found_in(graph, arrays)
    (file,) = tmp_path.glob("repro-*.py")
    assert f"reproducer: python {file}" in str(error)
    assert error.case.name in file.read_text()
    assert checking.KernelDifference is KernelDifference
