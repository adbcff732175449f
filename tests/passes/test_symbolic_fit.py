"""What the texts of a program for a few sizes say of its integers."""

import pytest

from braze.ir.loops_parser import parse_program
from braze.ir.loops_text import print_program
from braze.ir.polynomials import Interpolation, corners
from braze.passes.symbolic import symbolic_program
from braze.passes.symbolic_fit import NotSymbolic, agree, items_of, symbols_of
from braze.passes.symbolic_sizes import sample_for


def text_at(n, first="one", chunks=2, factor=None, names=("x", "y")):
    """Two kernels, of which either may come first."""
    x, y = names
    kernels = {
        "one": f"""    nest @one_1(%{x}: f32[{n * n}] in, %{y}: f32[{n}] out) {{
      # train.py:3
      for i in {n} chunks {chunks} {{
        store %{y}[i] = %{x}[{factor or n}*i]
      }}
    }}""",
        "two": f"""    nest @two_2(%{x}: f32[{n * n}] in, %z: f32[{n}] out) {{
      for i in {n} {{
        reduce j in {n} unroll {{
          s = sum(%{x}[{n}*i + j])
        }}
        store %z[i] = div(s, {n}.0)
      }}
    }}""",
    }
    order = [first, *(kernels.keys() - {first})]
    waves = "\n  }\n  wave {\n".join(kernels[name] for name in order)
    return f"""program @p(1 inputs, 2 outputs, arena 0) {{
  place %{x} input 0
  place %{y} output 0
  place %z output 1
  site "[take] index" 0 {n}
  wave {{
{waves}
  }}
}}"""


def functions(sample, others):
    texts = {(sample,): text_at(sample), **{(n,): text for n, text in others}}
    known = {sizes: items_of(text) for sizes, text in texts.items()}
    near = Interpolation([[n for (n,) in known][:3]])
    return known[sample,], symbols_of(near, known)


def test_integers_are_polynomials_of_the_size():
    text = text_at(20)
    items, symbols = functions(20, [(n, text_at(n)) for n in (21, 22, 25)])
    parse_program(text, symbols)  # each is where an integer is read
    assert {s.at((7,)) for s in symbols.values()} == {7, 49}
    assert sum(s == 400 for s in symbols.values()) == 2
    assert agree(items, symbols, (90,), items_of(text_at(90)))
    assert not agree(items, symbols, (90,), items_of(text_at(91)))


def test_order_names_and_chunks_may_differ():
    others = [
        (21, text_at(21, first="two")),
        (22, text_at(22, chunks=7)),
        (25, text_at(25, names=("17", "q"))),
    ]
    items, symbols = functions(20, others)
    assert agree(items, symbols, (40,), items_of(text_at(40, first="two", chunks=64)))


def test_other_kernels_are_passed_over():
    def program_of(others):
        def program(sizes):
            (n,) = sizes
            return parse_program(text_at(n).replace("sum(", "amax(" if n in others else "sum("))

        return program

    found = symbolic_program(program_of({29}), (23,), [(20,)])
    assert found.lowest == (2,) and found.highest == (47,)
    near = {29, 31, 37, 41, 43, 17, 13, 7}
    with pytest.raises(NotSymbolic, match="sizes near 23 are compiled to other kernels"):
        symbolic_program(program_of(near | {11}), (23,), [(20,)])
    # Two are enough to find functions from, where these hold at an end of the range.
    found = symbolic_program(program_of(near), (23,), [(20,)])
    assert (found.lowest, found.highest) == ((2,), (47,))
    with pytest.raises(NotSymbolic, match="sizes near 23 are compiled to other kernels"):
        symbolic_program(program_of(near | {2}), (23,), [(20,)])


def test_few_sizes_are_looked_at():
    """The passes run for the sample, two sizes near it and both ends."""
    seen = []

    def program_of(sizes):
        seen.append(*sizes)
        return parse_program(text_at(*sizes))

    symbolic_program(program_of, (23,), [(20,)])
    assert seen == [23, 29, 31, 47, 2]


def test_functions_that_hold_at_no_end_are_tried_near_the_sample():
    """Three points have a polynomial, whatever lies between and beyond them."""

    def program_of(sizes):
        (n,) = sizes
        return parse_program(text_at(n, factor=n if n in (23, 29, 31) else n + 7))

    with pytest.raises(NotSymbolic, match="23 is no simple function of the size 23 in nest @one"):
        symbolic_program(program_of, (23,), [(20,)])


def test_what_is_no_polynomial_is_refused():
    with pytest.raises(NotSymbolic, match="20 is no simple function of the size 20 in nest @one"):
        functions(20, [(n, text_at(n, factor=1 << n)) for n in (21, 22, 25)])


def test_a_remainder_is_no_name():
    def text(n):
        return text_at(n).replace(f"[{n}*i]", f"[(i)%{n}]")

    known = {(n,): items_of(text(n)) for n in (20, 21, 22, 25)}
    symbols = symbols_of(Interpolation([[20, 21, 22]]), known)
    assert any(text(20)[place - 1] == "%" for place in symbols)


def test_the_range_is_where_the_functions_hold():
    """Above 50 and below 8 the passes would make something else of it."""

    def program_of(sizes):
        (n,) = sizes
        text = text_at(n)
        return parse_program(text.replace("sum(", "amax(") if not 8 <= n <= 50 else text)

    found = symbolic_program(program_of, (23,), [(12,), (20,), (30,)])
    assert (8,) <= found.lowest <= (12,) and (30,) <= found.highest <= (50,)
    assert found.at((40,)).waves[0][0].body[0].var.extent == 40


def test_what_was_seen_may_be_the_middle():
    """Half of the smallest and twice the largest are too far, but not some more of both sides."""

    def program_of(sizes):
        text = text_at(*sizes)
        return parse_program(text if 160 <= sizes[0] <= 290 else text.replace("sum(", "amax("))

    found = symbolic_program(program_of, sample_for((230,), [0]), [(210,), (230,), (225,)])
    assert (160,) <= found.lowest <= (167,) and (269,) <= found.highest <= (290,)


def test_sizes_are_compared_where_nothing_divides_them():
    """The passes make something else of sizes that can be divided by 2 or 3."""

    def program_of(sizes):
        (n,) = sizes
        divides = n > 3 and (n % 2 == 0 or n % 3 == 0)
        return parse_program(text_at(n).replace("sum(", "amax(") if divides else text_at(n))

    found = symbolic_program(program_of, sample_for((24,), [0]), [(12,), (20,), (30,)])
    assert found.lowest <= (12,) and (30,) <= found.highest
    assert "sum" in found.text and "amax" not in found.text


def test_a_single_size_is_not_enough():
    def program_of(sizes):
        n = sizes[0] if sizes[0] > 20 else sizes[0] + 40
        text = text_at(n, factor=7)
        return parse_program(text if 19 <= n <= 31 else text.replace("sum(", "amax("))

    with pytest.raises(NotSymbolic, match="sizes near 23 are compiled to other kernels"):
        symbolic_program(program_of, (23,), [])


# Two sizes ----------------------------------------------------------------------------------------


def rows_at(batch, time, kind="sum", chunks=2):
    """The squares of each sequence's elements, weighted by all others."""
    return f"""program @p(1 inputs, 1 outputs, arena 0) {{
  place %x input 0
  place %y output 0
  wave {{
    nest @rows_1(%x: f32[{batch * time * time}] in, %y: f32[{batch * time}] out) {{
      for b in {batch} chunks {chunks} {{
        for i in {time} {{
          reduce j in {time} {{
            s = {kind}(%x[{time * time}*b + {time}*i + j])
          }}
          store %y[{time}*b + i] = s
        }}
      }}
    }}
  }}
}}"""


def test_integers_are_polynomials_of_two_sizes():
    found = symbolic_program(
        lambda sizes: parse_program(rows_at(*sizes)), sample_for((8, 8), [0, 1]), [], [0, 1]
    )
    assert found.lowest == (2, 2) and found.highest == (23, 29)
    assert "f32[{n*(m*m)}]" in found.text or "f32[{n*m*m}]" in found.text, found.text
    assert print_program(found.at((3, 5))) == rows_at(3, 5)
    assert corners(found.lowest, found.highest) == [(2, 2), (2, 29), (23, 2), (23, 29)]


def test_the_range_is_narrowed_where_a_corner_is_another_program():
    """Many long ones, and where a batch is as large as a length, are something else."""

    def program_of(sizes):
        batch, time = sizes
        other = batch * time > 2000 or batch == time
        return parse_program(rows_at(batch, time, "amax" if other else "sum"))

    found = symbolic_program(program_of, (11, 13), [], [0, 1])
    assert found.highest[0] * found.highest[1] <= 2000 and found.lowest == (2, 2)
    assert all(high > own for high, own in zip(found.highest, (11, 13), strict=True))


def test_one_size_may_stay():
    found = symbolic_program(lambda sizes: parse_program(rows_at(*sizes)), (1, 13), [], [1])
    assert found.lowest == (1, 2) and found.highest[0] == 1 and found.highest[1] > 13
    assert found.program.sizes == 2
    assert print_program(found.at((1, 6))) == rows_at(1, 6)


def test_the_range_is_narrowed_where_the_code_is_another():
    def checking(program):
        def require(other):
            if other.waves[0][0].body[0].var.extent < 5:
                raise NotSymbolic("too few")

        return require

    def program_of(sizes):
        return parse_program(text_at(*sizes, first="one"))

    found = symbolic_program(program_of, (23,), [(23,)], [0], checking)
    assert found.lowest == (11,)


def test_samples_are_different_primes():
    assert sample_for((8, 8), [0, 1]) == (11, 13) and sample_for((1, 8), [1]) == (1, 11)
