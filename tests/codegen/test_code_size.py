"""How much code a program comes to: modules and instructions cost LLVM time, each of them.

The programs and the target are fixed; the bounds are a twentieth above what was reached.
"""

import re

import pytest
from contractions import Problem, random_array
from networks import dense_step, mnist_step, residual_step

from braze.codegen.llvm import shared_kernels as sharing
from braze.codegen.llvm.contractions import emit_contraction
from braze.codegen.llvm.program import generate
from braze.ir.target import named_target
from braze.passes import compile_graph

TARGET = named_target("x86-64-v3")


def generated(graph):
    program, _ = compile_graph(graph, TARGET)
    return program, [text for _, text in generate(program, TARGET).modules]


def instructions(text):
    return sum(line.startswith("  ") for line in text.splitlines())


@pytest.mark.parametrize(
    "step, modules, lines",
    [(mnist_step, 12, 11_800), (residual_step, 10, 7_450), (dense_step, 10, 8_050)],
)
def test_training_steps(step, modules, lines):
    program, texts = generated(step())
    assert len(texts) <= modules < len(list(program.kernels()))
    assert sum(map(instructions, texts)) <= lines


@pytest.mark.parametrize("step", [mnist_step, residual_step, dense_step])
def test_sums_of_tiles_are_no_memory(step):
    """Accumulators that LLVM would have to turn into values; memory on the stack is an array."""
    for text in generated(step())[1]:
        for line in text.splitlines():
            assert " = alloca " not in line or ", i64 " in line, line


def test_no_line_of_a_block_is_there_twice():
    """What has no effect need not be done again."""
    pure = ("add", "mul", "getelementptr", "shufflevector", "insertelement", "icmp", "fmul")
    for text in generated(mnist_step())[1]:
        seen = set()
        for line in text.splitlines():
            if not line.startswith("  "):
                seen.clear()
            _, _, made = line.partition(" = ")
            if made.split(" ")[0] in pure:
                assert made not in seen, line
                seen.add(made)


def test_a_tile_whose_lanes_are_stored_one_by_one_is_stored_in_a_loop():
    """Neither rows nor lanes are neighbours in the result: 320 stores of a tile written out."""
    left, right = random_array((3, 40, 300)), random_array((3, 300, 700), seed=1)
    case = Problem("bmk,bkn->bmn", left, right, out_order="nmb")
    program, target = case.program(), named_target("x86-64-v4")
    text = emit_contraction(case.contraction, program.placements, program, target).ir_text
    tiles = [tuple(map(int, t)) for t in re.findall(r"_tile_(\d+)x(\d+)_16\b", text)]
    assert max(rows * vectors * 16 for rows, vectors in tiles) >= 320
    assert text.count("store float") < 200


def test_kernels_that_differ_at_a_glance_are_not_written_down(monkeypatch):
    """A step of a small network has no equal kernels; to look for them in texts took long."""
    program, _ = compile_graph(mnist_step(), TARGET)
    written = []

    def counting(kernel, names):
        written.append(kernel.name)
        return print_anywhere(kernel, names)

    print_anywhere = sharing.print_anywhere
    monkeypatch.setattr(sharing, "print_anywhere", counting)
    shared = sharing.shared_kernels(program)
    assert len(shared) <= len(written) < len(list(program.kernels())) / 2
