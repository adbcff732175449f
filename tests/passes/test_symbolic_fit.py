"""What the texts of a program for a few sizes say of its integers."""

import pytest

from braze.ir.loops_parser import parse_program
from braze.passes.symbolic import sample_for, symbolic_program
from braze.passes.symbolic_fit import NotSymbolic, agree, items_of, symbols_of


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


def functions(sample, others, needed=3):
    items = items_of(text_at(sample))
    found = symbols_of(sample, items, ((n, items_of(t)) for n, t in others), needed)
    return items, found


def test_integers_are_polynomials_of_the_size():
    text = text_at(20)
    items, symbols = functions(20, [(n, text_at(n)) for n in (21, 22, 25)])
    parse_program(text, symbols)  # each is where an integer is read
    assert {s.at([7]) for s in symbols.values()} == {7, 49}
    assert sum(s == 400 for s in symbols.values()) == 2
    assert agree(items, symbols, 90, items_of(text_at(90)))
    assert not agree(items, symbols, 90, items_of(text_at(91)))


def test_order_names_and_chunks_may_differ():
    others = [
        (21, text_at(21, first="two")),
        (22, text_at(22, chunks=7)),
        (25, text_at(25, names=("17", "q"))),
    ]
    items, symbols = functions(20, others)
    assert agree(items, symbols, 40, items_of(text_at(40, first="two", chunks=64)))


def test_other_kernels_are_passed_over():
    other = (19, text_at(19).replace("mul", "add").replace("sum(", "amax("))
    others = [other, *((n, text_at(n)) for n in (21, 22, 25))]
    assert functions(20, others)[1]
    with pytest.raises(NotSymbolic, match="sizes near 20 are compiled to other kernels"):
        functions(20, others[:3])


def test_what_is_no_polynomial_is_refused():
    with pytest.raises(NotSymbolic, match="20 is no simple function of the size 20 in nest @one"):
        functions(20, [(n, text_at(n, factor=1 << n)) for n in (21, 22, 25)])


def test_a_remainder_is_no_name():
    def text(n):
        return text_at(n).replace(f"[{n}*i]", f"[(i)%{n}]")

    symbols = symbols_of(20, items_of(text(20)), ((n, items_of(text(n))) for n in (21, 22, 25)), 3)
    assert any(text(20)[place - 1] == "%" for place in symbols)


def test_the_range_is_where_the_functions_hold():
    """Above 50 and below 8 the passes would make something else of it."""

    def program_of(n):
        text = text_at(n)
        return parse_program(text.replace("sum(", "amax(") if not 8 <= n <= 50 else text)

    found = symbolic_program(program_of, 23, [12, 20, 30])
    assert 8 <= found.lowest <= 12 and 30 <= found.highest <= 50
    assert found.at(40).waves[0][0].body[0].var.extent == 40


def test_sizes_are_compared_where_nothing_divides_them():
    """The passes make something else of sizes that can be divided by 2 or 3."""

    def program_of(n):
        divides = n > 3 and (n % 2 == 0 or n % 3 == 0)
        return parse_program(text_at(n).replace("sum(", "amax(") if divides else text_at(n))

    found = symbolic_program(program_of, sample_for(24), [12, 20, 30])
    assert found.lowest <= 12 and 30 <= found.highest
    assert "sum" in found.text and "amax" not in found.text


def test_a_single_size_is_not_enough():
    def program_of(n):
        text = text_at(n, factor=7)
        return parse_program(text if 19 <= n <= 31 else text.replace("sum(", "amax("))

    with pytest.raises(NotSymbolic, match="sizes near 23 are compiled to other kernels"):
        symbolic_program(lambda n: program_of(n if n > 20 else n + 40), 23, [])
