"""Sort kernels in the loop IR: verifier and interpreter."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.loops_interpreter import MemoryFault, run_kernel
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_kernel

SORT = """\
sort @top(%x: f32[24] in, %v: f32[12] out, %i: i64[12] out) {
  # two of four
  for a in 2, b in 3 chunks 2 {
    order j in 4 descending {
      by %x[12*a + b + 3*j]
    }
    first k in 2 {
      store %v[6*a + b + 3*k] = key
      store %i[6*a + b + 3*k] = position
    }
  }
}"""


def test_text_and_meaning():
    kernel = parse_kernel(SORT)
    verify_kernel(kernel)
    assert str(kernel) == SORT
    x = np.array([0, 3, np.nan, 5] * 6, np.float32)
    v, i = np.zeros(12, np.float32), np.zeros(12, np.int64)
    run_kernel(kernel, {"x": x, "v": v, "i": i})
    table = x.reshape(2, 4, 3)
    order = np.argsort(-np.where(np.isnan(table), np.inf, table), 1, kind="stable")[:, :2]
    assert np.array_equal(i.reshape(2, 2, 3), order)
    expected = np.take_along_axis(table, order, 1)
    np.testing.assert_array_equal(v.reshape(2, 2, 3), expected)


FAULTS = [
    ("order j in 4", "order j in 5", "%x[0 .. 26] is outside its 24 elements"),
    ("first k in 2", "first k in 5", "5 places are wanted of 4 keys"),
    ("chunks 2", "chunks 7", "the rows cannot be cut into 7 chunks"),
    ("%v: f32[12] out", "%v: f32[12] in", "%v is 'in' and must not be written"),
    ("= key", "= 1", "a value of i64 goes to a buffer of f32"),
    ("%i[6*a + b + 3*k] =", "%i[6*a + b + 6*k] =", "%i[0 .. 14] is outside its 12 elements"),
    ("= position", "+= position", "a sort does not accumulate"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_faults(old, new, message):
    kernel = parse_kernel(SORT.replace(old, new))
    with pytest.raises(ir.VerifyError) as caught:
        verify_kernel(kernel)
    assert message in str(caught.value)


def test_a_sort_needs_a_store():
    kernel = parse_kernel(SORT)
    kernel.stores = []
    with pytest.raises(ir.VerifyError, match="without a store"):
        verify_kernel(kernel)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("store %v[6*a + b + 3*k]", "store %v[6*a + b + j]", "no loop variable is called j"),
        ("by %x[12*a + b + 3*j]", "by key", "key is not defined before this"),
        ("by %x[12*a + b + 3*j]", "by %x[k]", "no loop variable is called k"),
        ("store %v[6*a + b + 3*k] = key", "check 0 <= position < 2 code 1", "holds stores only"),
    ],
)
def test_syntax_errors(old, new, message):
    with pytest.raises(ir.ParseError, match=message):
        parse_kernel(SORT.replace(old, new))


def test_rows_must_not_meet():
    kernel = parse_kernel(SORT.replace("store %v[6*a + b + 3*k]", "store %v[b + 3*k]"))
    arrays = {"x": np.zeros(24, np.float32), "v": np.zeros(12, np.float32)}
    with pytest.raises(MemoryFault, match="row 3 writes what another one writes"):
        run_kernel(kernel, {**arrays, "i": np.zeros(12, np.int64)})
