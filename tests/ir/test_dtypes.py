"""Dtypes and NumPy's: each way, in whatever order they are asked for."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from braze.ir.dtypes import ALL, bf16, dtype_named, f32, from_numpy

FIRST_ASKED_FOR = """
import sys
from braze.ir.dtypes import bf16, from_numpy
assert "ml_dtypes" not in sys.modules and bf16.itemsize == 2
import ml_dtypes, numpy
assert from_numpy(numpy.dtype(ml_dtypes.bfloat16)) is bf16
assert bf16.numpy == numpy.dtype(ml_dtypes.bfloat16)
"""


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_there_and_back(dtype):
    assert from_numpy(dtype.numpy) is dtype is dtype_named(dtype.name)
    assert from_numpy(dtype.numpy.newbyteorder(">")) is dtype
    assert dtype.itemsize == dtype.numpy.itemsize
    assert pickle.loads(pickle.dumps(dtype)) is dtype


def test_numpys_bfloat16_is_known_whoever_asks_first():
    subprocess.run([sys.executable, "-c", FIRST_ASKED_FOR], check=True, timeout=60)


def test_what_is_none():
    with pytest.raises(TypeError, match=r"no tensor dtype for NumPy's <U3; .*bfloat16"):
        from_numpy(np.dtype("U3"))
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = f32.other
    assert not hasattr(bf16, "other")
