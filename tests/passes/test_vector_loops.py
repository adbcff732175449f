"""Which loop the passes choose to run in lanes."""

from braze.ir.loops import Loop, Reduce
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import named_target
from braze.passes.vectorise import vectorise


def vector_variable(text: str) -> str:
    """The vector loop's variable in a nest."""
    found = []

    def visit(statements):
        for statement in statements:
            if isinstance(statement, Loop):
                found.extend([statement.var.name] if statement.kind == "vector" else [])
                visit(statement.body)
            elif isinstance(statement, Reduce):
                found.extend(v.name for v, kind in statement.loops if kind == "vector")

    visit(vectorise(parse_kernel(text), named_target("x86-64-v4")).body)
    (name,) = found
    return name


def row_of(combine: str, size: int) -> str:
    """A nest that reduces rows of some size; with a place, it stores that."""
    place = " at j" if combine.startswith("arg") else ""
    result = "i64" if place else "f32"
    return f"""nest @rows(%x: f32[{1000 * size}] in, %o: {result}[1000] out) {{
      for i in 1000 {{
        reduce j in {size} {{
          a = {combine}(%x[{size}*i + j]){place}
        }}
        store %o[i] = a
      }}
    }}"""


def test_short_rows_have_a_lane_each():
    assert vector_variable(row_of("sum", 3)) == "i"
    assert vector_variable(row_of("argmax", 9)) == "i"


def test_long_rows_are_combined_from_all_lanes():
    assert vector_variable(row_of("sum", 64)) == "j"
    assert vector_variable(row_of("argmax", 64)) == "j"


def test_windows_along_rows_are_read_every_other_element():
    """Pooling of stride 2, channels first: the lanes are windows, not the elements of one."""
    for combine in ("amax", "argmax"):
        place = " at 3*a + b" if combine == "argmax" else ""
        text = f"""nest @pool(%x: f32[{64 * 57}] in, %o: {"i64" if place else "f32"}[868] out) {{
          for y in 31 {{
            for x in 28 {{
              reduce a in 3, b in 3 {{
                m = {combine}(%x[114*y + 57*a + 2*x + b]){place}
              }}
              store %o[28*y + x] = m
            }}
          }}
        }}"""
        assert vector_variable(text) == "x"
