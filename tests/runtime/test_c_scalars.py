"""Exported graphs that are not a module's: numbers as inputs and as weights, checks of a range."""

import ctypes
import shutil

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.graph import Location
from braze.runtime.c_export import export_c
from braze.runtime.package import load
from braze.runtime.package_writer import write_package

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


class Error(ctypes.Structure):
    _fields_ = (("code", ctypes.c_int), ("message", ctypes.c_char * 508))


class Library:
    """A model in a shared library."""

    def __init__(self, package, name):
        files = export_c(package, package.parent, name, shared=True)
        self._functions = ctypes.CDLL(str(files.library))
        self._name = name
        self._function("create").restype = ctypes.c_void_p
        self._model = ctypes.c_void_p(self._function("create")(1, None))

    def _function(self, name):
        return getattr(self._functions, f"{self._name}_{name}")

    def __call__(self, inputs, outputs):
        addresses = [
            (ctypes.c_void_p * len(own))(*[array.ctypes.data for array in own])
            for own in (inputs, outputs)
        ]
        error = Error()
        code = self._function("run")(self._model, *addresses, ctypes.byref(error))
        assert code == error.code
        return code, error.message.decode()

    def close(self):
        self._function("destroy")(self._model)


def scaled():
    """(x * w + s) * k"""
    b = Builder("scaled")
    x = b.input(ir.tensor_type(ir.f32, (3,)), name="x")
    k = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="k")
    w = b.input(ir.tensor_type(ir.f32, (3,)), role="param", name="w")
    s = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="s")
    return b.finish([b.mul(b.add(b.mul(x, w), s), k)])


def test_numbers_are_given_by_their_addresses(tmp_path):
    weights = {"w": np.array([1, 2, 3], np.float32), "s": 0.5}
    package = write_package(tmp_path / "scaled.brz", scaled(), weights)
    x, k, made = np.array([10, 20, 30], "f4"), np.array(3, "f4"), np.empty(3, "f4")
    library = Library(package, "scaled")
    for _ in range(2):
        assert library([x, k], [made]) == (0, "")
    library.close()
    np.testing.assert_array_equal(made, [31.5, 121.5, 271.5])
    np.testing.assert_array_equal(made, load(package)(x, 3.0))


def checking():
    b = Builder("checking")
    x = b.input(ir.tensor_type(ir.f32, (2,)), name="x")
    i = b.input(ir.tensor_type(ir.i64, ()), name="i")
    j = b.input(ir.tensor_type(ir.i64, ()), name="j")
    with b.at(Location("model.py", 3, "head")):
        b.check_range(i, low=-10, high=10, message="embedding")
    with b.at(Location("model.py", 4)):
        b.check_range(j, low=0, high=1, message="cat!100 % of {them} differ")
    return b.finish([b.mul(x, x)])


def test_each_check_has_its_own_text(tmp_path):
    package = write_package(tmp_path / "checking.brz", checking(), {})
    library, model = Library(package, "checking"), load(package)
    x, made = np.array([3, 4], "f4"), np.empty(2, "f4")
    for i, j, said in (
        (9, 0, ""),
        (10, 0, "[embedding] index 10 is out of range [-10, 10)\n  at model.py:3\n  in head"),
        (-11, 0, "[embedding] index -11 is out of range [-10, 10)\n  at model.py:3\n  in head"),
        (0, 1, "[cat] 100 % of {them} differ\n  at model.py:4"),
        (-10, 0, ""),
    ):
        numbers = np.array(i), np.array(j)
        assert library([x, *numbers], [made]) == (5 if said else 0, said)
        if said:
            with pytest.raises((IndexError, RuntimeError, ValueError)) as raised:
                model(x, *numbers)
            assert str(raised.value) == said
    library.close()
    np.testing.assert_array_equal(made, [9, 16])
