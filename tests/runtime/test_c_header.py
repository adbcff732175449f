"""Names that C and C++ accept, and what the header says of arrays."""

import json
import shutil
import subprocess

import pytest

from braze.codegen.llvm.c_sizes import Dimension
from braze.ir.symint import SymInt
from braze.runtime.c_header import (
    Array,
    Header,
    distinct,
    identifier,
    is_identifier,
    output_names,
)

CODES = ("OK", "BAD_ARGUMENT", "OUT_OF_MEMORY", "NO_THREAD", "WRONG_PROCESSOR", "FAILED_CHECK")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x", "x"),
        ("input.1", "input_1"),
        ("ResNet-18 (best)", "ResNet_18_best"),
        ("3d", "m3d"),
        ("double", "double_"),
        ("class", "class_"),
        ("bool", "bool_"),
        ("int64_t", "int64_t_"),
        ("größe", "gr_e"),
        ("", "model"),
        ("__x__", "x"),
    ],
)
def test_any_text_has_an_identifier(text, name):
    assert identifier(text) == name and is_identifier(name)


def test_names_are_distinct_in_any_case():
    taken = {"batch"}
    assert distinct(["x", "X", "x", "Batch", "y"], taken) == ["x", "X_2", "x_3", "Batch_2", "y"]
    assert taken == {"batch", "x", "x_2", "x_3", "batch_2", "y"}


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (0, ["output"]),
        ({"tuple": [1, 0]}, ["output1", "output0"]),
        ({"dict": [["p", 0], ["hidden", {"list": [1, 2]}]]}, ["p", "hidden_0", "hidden_1"]),
        ({"tuple": [0, {"dict": [["a", 1]]}, None]}, ["output0", "output1_a"]),
        ({"dict": [["first", 0], ["again", 0]]}, ["first"]),
        ({"list": [0]}, ["output0", "output1"]),
    ],
)
def test_outputs_are_named_by_their_places(structure, names):
    assert output_names(json.dumps(structure), len(names)) == names


def header(**changes):
    n = SymInt.word(0, 5)
    pairs = Array("z", "c64", (n * n + 1, 2))
    inputs = [Array("x", "f32", (n, 3)), pairs, Array("e", "i8", (0, 4))]
    outputs = [Array("y", "bf16", ()), Array("t", "bool", (n * 2,))]
    given = {"dimensions": [Dimension("batch", 1, 9)], **changes}
    return Header("net", "a */ b", "0.1", ["host"], inputs, outputs, CODES, 508, 4096, **given)


def test_arrays_are_described():
    text = header().text()
    for line in (
        "/* net.h: the model a * / b, by Braze 0.1.",
        "   Takes  x: float [batch, 3]",
        "          z: float [(batch * batch) + 1, 2], a real and an imaginary part each",
        "   Gives  y: uint16_t [], the bits of bfloat16",
        "          t: bool [batch * 2]",
        "   Size   batch: 1 to 9",
        "#define NET_BATCH_LOWEST 1",
        "#define NET_X_COUNT(size) ((int64_t)(size) * 3)",
        "#define NET_X_SHAPE(size) { (int64_t)(size), 3 }",
        "#define NET_E_SHAPE { 0, 4 }",
        "#define NET_Y_COUNT 1",
        "  const int8_t *e; /* int8_t [0, 4] */",
        "  uint16_t *y; /* uint16_t [], the bits of bfloat16 */",
        "int net_run(net_model *model, int64_t batch, const net_inputs *inputs,",
    ):
        assert line in text.splitlines(), line
    assert "@" not in text and "NET_Y_SHAPE" not in text


def test_the_macros_count(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "net.h").write_text(header().text())
    (tmp_path / "program.c").write_text("""
#include "net.h"
#include <stdio.h>
int main(void) {
  int64_t shape[] = NET_Z_SHAPE(2 + 1);
  printf("%d %d %d ", (int)NET_X_COUNT(2 + 2), (int)NET_Z_COUNT(2 + 1), (int)NET_E_COUNT);
  printf("%d %d %d\\n", (int)NET_T_COUNT(4) / 2, (int)shape[0], (int)sizeof(net_error));
  return 0;
}
""")
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "program.c"]
    subprocess.run([*command, "-o", "program"], cwd=tmp_path, check=True)
    done = subprocess.run(["./program"], cwd=tmp_path, capture_output=True, text=True, check=True)
    # Of a complex number both parts are counted.
    assert done.stdout == "12 40 0 4 10 512\n"
