"""What is chosen for one size is chosen for another, where it can be."""

from braze.ir.loops_parser import parse_kernel
from braze.passes.choices import Choices
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
