"""What is chosen for one size is chosen for another, where it can be."""

import pytest

from braze.ir.loops_parser import parse_kernel
from braze.ir.parser import parse_graph
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.passes.choices import Choices
from braze.passes.fuse import fuse
from braze.passes.parallelise import parallelise


def test_earlier_choices_are_taken_where_they_are_possible():
    first = Choices()
    assert [first.choose("sum", parts, lambda n: True) for parts in (4, 8, 2)] == [4, 8, 2]
    assert first.choose("contract", ("k", 2), lambda n: True) == ("k", 2)

    second = Choices(first)
    assert second.choose("sum", 16, lambda n: True) == 4
    assert second.choose("sum", 5, lambda n: n % 5 == 0) == 5  # 8 parts are not possible
    assert second.choose("amax", 3, lambda n: True) == 3  # another operation
    assert second.choose("contract", ("k", 1), lambda c: c[0] == "k") == ("k", 2)
    assert second.choose("sum", 7, lambda n: True) == 2  # whatever came in between
    assert second.choose("sum", 7, lambda n: True) == 7  # nothing was chosen here

    assert Choices(second).choose("sum", 1, lambda n: True) == 4


def rows(n):
    return parse_kernel(f"""nest @rows(%x: f32[{n * 40000}] in, %y: f32[{n * 80000}] out) {{
      for i in {n} {{
        for j in 8 {{
          for k in 10000 vector {{
            store %y[80000*i + 10000*j + k] = %x[40000*i + 10000*(j)//2 + k]
          }}
        }}
      }}
    }}""")


def test_loops_are_joined_as_for_the_size_before():
    """Of a few rows two loops are cut into chunks together, of many the outer one alone."""

    def loops(nest):
        return str(nest).count("for ")

    few = Choices()
    assert loops(parallelise(rows(3), few)) == 2
    assert loops(parallelise(rows(200))) == 3
    assert loops(parallelise(rows(200), Choices(few))) == 2
    many = Choices()
    parallelise(rows(200), many)
    assert loops(parallelise(rows(3), Choices(many))) == 3


def test_settled_questions_are_not_asked_anew():
    first = Choices()
    assert first.settle(("slow", 1), True) and not first.settle(("slow", 2), False)
    assert first.settle(("slow", 1), False)  # of the same graph
    second = Choices(first)
    assert not second.settle(("slow", 2), True)
    assert second.settle(("slow", 1), False)
    assert not second.settle(("slow", 3), False)  # new here
    assert not Choices(second).settle(("slow", 3), True)


def repeated(n):
    """A sum of two rows, which n rows read."""
    return f"""graph @g(%a: f32[1,40], %b: f32[1,40], %x: f32[{n},40]) -> (f32[{n},40]) {{
      %0: f32[1,40] = add(%a, %b)
      %1: f32[{n},40] = mul(%x, %0)
      return %1
    }}"""


def long_rows(n):
    """A softmax, whose rows stay in a cache or do not."""
    return f"""graph @g(%x: f32[64,{n}]) -> (f32[64,{n}]) {{
      %0: f32[64,{n}] = softmax(%x; dim=1)
      return %0
    }}"""


def neighbours(n):
    """Two kernels that read the same values."""
    return f"""graph @g(%x: f32[{n}]) -> (f32[{n}], f32[{n}]) {{
      %0: f32[{n}] = exp(%x)
      %1: f32[{n}] = sin(%x)
      return %0, %1
    }}"""


@pytest.mark.parametrize(
    ("text_at", "small", "large"),
    [(repeated, 5, 67), (long_rows, 61, 1_000_003), (neighbours, 61, 100_003)],
)
def test_what_is_fused_is_as_for_the_size_before(text_at, small, large):
    target = named_target("x86-64-v3")

    def kernels(size, earlier=None, **settings):
        choices = Choices(earlier, **settings)
        program, _ = compile_graph(parse_graph(text_at(size)), target, choices=choices)
        return len([*program.kernels()]), choices

    for_small, small_choices = kernels(small, many_sizes=True)
    for_large, large_choices = kernels(large, many_sizes=True)
    assert for_small != for_large
    assert kernels(large, small_choices)[0] == for_small
    assert kernels(small, large_choices)[0] == for_large


def test_kernels_for_one_size_settle_nothing():
    choices = Choices()
    fuse(parse_graph(repeated(5)), named_target("x86-64-v3"), choices=choices)
    assert not choices._settled


def test_parts_of_a_sum_are_none_of_the_size():
    """Of 2018 times 7 rows, 14 parts would be another number of them for each size."""

    def parts(n, choices):
        text = f"""graph @g(%x: f32[{2018 * n},64]) -> (f32[64]) {{
          %0: f32[64] = sum(%x; dims=(0), keepdim=false)
          return %0
        }}"""
        found, _ = compile_graph(parse_graph(text), named_target("x86-64-v3"), choices=choices)
        return [kernel.buffers[-1].numel // 64 for kernel in found.kernels()]

    assert parts(7, None) == [14, 1]
    sampled = Choices(many_sizes=True, sizes=(7,))
    assert parts(7, sampled) == parts(11, Choices(sampled)) == [2, 1]


def test_what_is_left_without_the_sizes():
    choices = Choices(sizes=(7, 11))
    assert [choices.fixed_part(n) for n in (7 * 7 * 11 * 20, 13, 11, 0, 1)] == [20, 13, 1, 0, 1]
    assert Choices().fixed_part(77) == 77


def test_loops_are_joined_as_in_the_kernel_of_the_same_name():
    """Kernels come in another order for other sizes."""

    def named(n, name):
        nest = rows(n)
        nest.name = name
        return nest

    first = Choices()
    parallelise(named(3, "few_1"), first)
    parallelise(named(200, "many_2"), first)
    second = Choices(first)
    loops = [
        str(parallelise(named(n, name), second)).count("for ")
        for n, name in ((3, "many_1"), (200, "few_2"))
    ]
    assert loops == [3, 2]
