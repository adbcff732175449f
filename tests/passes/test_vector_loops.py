"""Which loop the passes choose to run in lanes."""

from braze.ir.loops import Loop, Reduce
from braze.ir.loops_parser import parse_kernel
from braze.ir.target import named_target
from braze.passes.tune_loops import tune_loops
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


def loop_names(text):
    nest = tune_loops(parse_kernel(text), named_target("x86-64-v3"))
    names, statements = [], nest.body
    while isinstance(statements[0], Loop):
        names.append(statements[0].var.name)
        statements = statements[0].body
    return names


def moved(order, columns=40, height=30, width=34):
    """Channels `c` of 8 pictures go last, in rows with a gap; the loops in the given order."""
    extents = {"n": 8, "h": height, "w": width, "c": columns}
    area, wide = height * (width + 1), width + 1
    heads = [f"for {v} in {extents[v]} {{" for v in order]
    x = f"{columns * area}*n + {area}*c + {wide}*h + w"
    y = f"{columns * height * width}*n + {columns * width}*h + {columns}*w + c"
    return f"""nest @last(%x: f32[{8 * columns * area}] in, %o: f32[{8 * columns * area}] out) {{
      {" ".join(heads)}
        store %o[{y}] = %x[{x}]
      {"}" * len(order)}
    }}"""


def test_a_loop_that_loads_are_turned_along_is_around_the_vector_loop():
    """And stays apart from those outside, which are joined to be shared out."""
    assert loop_names(moved("nhwc")) == ["nh", "w", "c"]
    assert loop_names(moved("wnhc")) == ["nh", "w", "c"]


def test_a_long_loop_that_loads_are_turned_along_is_cut():
    assert loop_names(moved("nhwc", height=1, width=1020)) == ["nhw_0", "w_1", "c"]
    assert loop_names(moved("nhwc", height=1, width=1021)) == ["nh", "w", "c"]


def test_loads_that_are_turned_cost_less_than_stores_that_lie_apart():
    assert loop_names(moved("nhcw"))[-1] == "c"
    assert loop_names(moved("nhcw", columns=3))[-1] == "w"
    # Two columns are stored in turns, inside of the vector loop.
    assert loop_names(moved("nhcw", columns=2))[-2:] == ["w", "c"]
