"""The array API namespace against NumPy's functions of the same names and signatures."""

import inspect

import numpy as np
import pytest

import braze
from braze import array_api as xp

pytestmark = pytest.mark.usefixtures("interpret")


A = np.array([[1.0, -2.5, 3.0, 0.0], [4.0, 5.5, -6.0, 2.0], [-1.0, 2.0, 0.5, 7.0]])
B = np.array([2.0, 1.0, 4.0, 3.0])
I = np.array([[3, -2, 0], [7, 5, -1]])  # noqa: E741
M = np.array([[True, False, True]])

# Name, then arguments and keywords for both sides; arrays become tensors.
CALLS = [
    *[(name, (np.abs(A) / 10,), {}) for name in (
        "abs acos asin atan cos cosh exp expm1 isfinite isinf isnan negative positive "
        "sign sin sinh sqrt square tan tanh trunc ceil floor round").split()],
    *[(name, (np.abs(A) + 1,), {}) for name in "log log10 log1p log2 reciprocal".split()],
    *[(name, (A, B), {}) for name in (
        "add subtract multiply divide floor_divide remainder maximum minimum atan2 pow "
        "equal not_equal less less_equal greater greater_equal").split()],
    *[(name, (I, np.array([4, 2, 3])), {}) for name in (
        "add subtract multiply floor_divide remainder bitwise_and bitwise_or "
        "bitwise_xor").split()],
    *[(name, (I > 0, M), {}) for name in "logical_and logical_or logical_xor".split()],
    *[(name, (I,), {}) for name in "ceil floor trunc bitwise_invert".split()],
    ("logical_not", (M,), {}),
    ("clip", (A, -1, 2), {}),
    ("clip", (A,), {"min": 0}),
    ("where", (A > 0, A, B), {}),
    ("arange", (5,), {}), ("arange", (2, 11, 3), {}), ("arange", (5, 2), {}),
    ("arange", (1.0, 2.0, 0.25), {}),
    ("linspace", (0, 1, 5), {}), ("linspace", (0, 1, 5), {"endpoint": False}),
    ("eye", (3,), {}), ("eye", (3, 4), {"k": 1}), ("eye", (3, 2), {"k": -1}),
    ("tril", (A,), {"k": 1}), ("triu", (A,), {"k": -1}),
    ("zeros", ((2, 3),), {}), ("ones", (3,), {}), ("full", ((2, 2), 7), {}),
    ("full", (3, 1.5), {}),
    ("zeros_like", (I,), {}), ("ones_like", (A,), {}), ("full_like", (I, 3), {}),
    ("meshgrid", (B, np.arange(3.0)), {}), ("meshgrid", (B, np.arange(3.0)), {"indexing": "ij"}),
    ("broadcast_to", (B, (2, 4)), {}), ("broadcast_arrays", (A, B), {}),
    ("concat", ((A, A),), {"axis": 1}), ("concat", ((A, B),), {"axis": None}),
    ("stack", ((A, A * 2),), {"axis": -1}), ("unstack", (A,), {"axis": 1}),
    ("expand_dims", (A,), {"axis": 1}), ("squeeze", (M, 0), {}),
    ("flip", (A,), {}), ("flip", (A,), {"axis": 1}), ("flip", (A,), {"axis": (0, 1)}),
    ("roll", (A, 2), {}), ("roll", (A, 1), {"axis": 0}), ("roll", (A, (1, -3)), {"axis": (0, 1)}),
    ("permute_dims", (A.reshape(3, 2, 2), (2, 0, 1)), {}), ("matrix_transpose", (A,), {}),
    ("moveaxis", (A.reshape(3, 2, 2), 0, -1), {}),
    ("reshape", (A, (2, 6)), {}), ("tile", (A, (2, 1)), {}), ("tile", (B, (2, 2)), {}),
    ("repeat", (A, 2), {"axis": 1}), ("repeat", (B, np.array([0, 1, 2, 1])), {}),
    ("take", (A, np.array([2, 0, -1])), {"axis": 1}), ("take", (B, np.array([3, 1])), {}),
    ("take_along_axis", (A, np.array([[1], [0], [-1]])), {"axis": 1}),
    ("matmul", (A, A.T), {}), ("vecdot", (A, B), {}), ("vecdot", (I, I), {"axis": 0}),
    ("tensordot", (A, A.T), {"axes": 1}),
    ("tensordot", (A.reshape(3, 2, 2), A.reshape(2, 3, 2)), {"axes": ((0, 1), (1, 0))}),
    *[(name, (A,), options) for name in "sum max min mean std var prod".split()
      for options in ({}, {"axis": 0}, {"axis": (0, 1), "keepdims": True}, {"axis": -1})],
    ("sum", (I,), {}), ("sum", (M,), {}), ("prod", (I.astype(np.int32),), {"dtype": "int32"}),
    ("sum", (A,), {"dtype": "float32", "axis": 1}),
    ("std", (A,), {"axis": 1, "correction": 1}), ("var", (A,), {"correction": 1}),
    ("all", (A,), {"axis": 0}), ("any", (M,), {}), ("all", (A,), {"axis": (0, 1)}),
    ("argmax", (A,), {}), ("argmax", (A,), {"axis": 1, "keepdims": True}),
    ("argmin", (A,), {"keepdims": True}),
    ("count_nonzero", (A,), {"axis": 1}),
    ("diff", (A,), {}), ("diff", (B,), {"n": 2}),
    ("diff", (B,), {"prepend": np.zeros(1), "append": np.ones(2)}),
]  # fmt: skip


def convert(value, module):
    if isinstance(value, np.ndarray):
        return braze.tensor(value) if module is xp else value
    if isinstance(value, tuple):
        return tuple(convert(item, module) for item in value)
    return value


def call(module, name, arguments, options):
    function = getattr(module, name)
    options = dict(options)
    if "dtype" in options:
        options["dtype"] = getattr(module, options["dtype"])
    return function(
        *convert(arguments, module), **{k: convert(v, module) for k, v in options.items()}
    )


@pytest.mark.parametrize(("name", "arguments", "options"), CALLS)
def test_functions_agree_with_numpy(name, arguments, options):
    ours, theirs = call(xp, name, arguments, options), call(np, name, arguments, options)
    several = isinstance(ours, (list, tuple))
    for x, y in zip(ours if several else [ours], theirs if several else [theirs], strict=True):
        y = np.asarray(y)
        assert x.shape == y.shape
        np.testing.assert_allclose(x.numpy(), y, rtol=2e-6, atol=1e-6)
        # New floating-point tensors are float32; all else has NumPy's dtype.
        assert x.numpy().dtype == y.dtype or y.dtype == np.float64 and x.dtype is braze.float32


def test_names_are_found_or_said_to_be_missing():
    x = braze.ones(2)
    assert x.__array_namespace__() is xp is x.__array_namespace__(api_version="2023.12")
    with pytest.raises(ValueError, match="2019.12"):
        x.__array_namespace__(api_version="2019.12")
    there, absent = set(dir(xp)), set(xp.missing())
    assert there | absent == set(xp.STANDARD) and not there & absent
    for name in there:
        assert getattr(xp, name) is not NotImplemented
    for name in absent:
        assert not hasattr(xp, name)
    assert not hasattr(xp, "unheard_of")
    assert xp.pi == np.pi and xp.newaxis is None and xp.float32 is braze.float32
    # NumPy's names are the standard's, so that none is forgotten.
    info = np.__array_namespace_info__
    assert info and {name for name in xp.STANDARD if not hasattr(np, name)} == set()


def test_sorting():
    x = braze.tensor(I)
    for options in ({}, {"axis": 0}, {"descending": True}):
        kwargs = {k: v for k, v in options.items() if k == "axis"}
        expected = np.sort(I, **kwargs)
        if options.get("descending"):
            expected = expected[:, ::-1]
        assert xp.sort(x, **options).tolist() == expected.tolist()
    assert xp.argsort(x).tolist() == np.argsort(I, stable=True).tolist()


def test_places():
    ours, theirs = xp.nonzero(braze.tensor(I)), np.nonzero(I)
    assert [x.tolist() for x in ours] == [x.tolist() for x in theirs]


def test_sets():
    data = np.array([[3, 1, 3], [2, 1, 1]])
    ours, theirs = xp.unique_all(braze.tensor(data)), np.unique_all(data)
    for x, y in zip(ours, theirs, strict=True):
        assert x.tolist() == y.tolist()
    assert xp.unique_values(braze.tensor(data)).tolist() == [1, 2, 3]
    assert xp.unique_counts(braze.tensor(data)).counts.tolist() == [3, 1, 2]
    assert xp.unique_inverse(braze.tensor(data)).inverse_indices.tolist() == [[2, 0, 2], [1, 0, 0]]


def test_running_sums():
    x = braze.tensor(B)
    assert xp.cumulative_sum(x).tolist() == [2, 3, 7, 10]
    assert xp.cumulative_sum(x, include_initial=True).tolist() == [0, 2, 3, 7, 10]
    assert xp.cumulative_sum(braze.tensor([True, True])).dtype is braze.int64
    with pytest.raises(ValueError, match="axis"):
        xp.cumulative_sum(braze.ones(2, 2))


def test_running_products():
    assert xp.cumulative_prod(braze.tensor(B), include_initial=True).tolist() == [1, 2, 2, 8, 24]


def test_places_in_sorted_vectors():
    ours = xp.searchsorted(braze.tensor([1.0, 2.0, 3.0]), braze.tensor([2.0, 9.0]), side="right")
    assert ours.tolist() == [2, 3]


def test_asarray_and_astype():
    array = np.arange(3.0)
    x = xp.asarray(array)
    array[0] = 9
    assert x.tolist() == [9, 1, 2] and xp.asarray(x) is x
    copied = xp.asarray(x, copy=True)
    assert copied.data_ptr() != x.data_ptr() and copied.tolist() == x.tolist()
    assert xp.asarray(array, copy=False).data_ptr() == array.ctypes.data
    assert xp.asarray([1, 2], dtype=xp.float32).dtype is braze.float32
    assert xp.asarray(x, dtype=xp.int32).dtype is braze.int32
    for wrong in (lambda: xp.asarray([1], copy=False),
                  lambda: xp.asarray(x, dtype=xp.int32, copy=False)):  # fmt: skip
        with pytest.raises(ValueError, match="avoid a copy"):
            wrong()
    assert xp.astype(x, x.dtype, copy=False) is x and xp.astype(x, x.dtype) is not x
    assert xp.astype(x, xp.int64).dtype is braze.int64
    assert x.to_device("cpu") is x


def test_dtypes():
    assert xp.isdtype(xp.float32, "real floating") and xp.isdtype(xp.uint8, "integral")
    assert xp.isdtype(xp.int8, ("bool", "signed integer")) and xp.isdtype(xp.bool, xp.bool)
    assert not xp.isdtype(xp.bool, "numeric") and not xp.isdtype(xp.int8, "unsigned integer")
    with pytest.raises(ValueError, match="unknown kind"):
        xp.isdtype(xp.int8, "whole")
    assert xp.result_type(xp.int8, xp.uint8) is xp.int16
    assert xp.result_type(braze.ones(2), xp.float64) is xp.float64
    assert xp.result_type(xp.int32, 1.5) is xp.float32 and xp.result_type(xp.int32, 2) is xp.int32
    assert xp.can_cast(xp.int8, xp.int32) and not xp.can_cast(braze.ones(1), xp.int32)
    info = xp.__array_namespace_info__()
    assert info.default_device() == "cpu" and info.devices() == ["cpu"]
    assert set(info.dtypes(kind="integral")) == set(
        "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
    )
    assert not xp.can_cast(xp.uint64, xp.int64) and xp.can_cast(xp.uint32, xp.uint64)
    assert xp.finfo(braze.ones(1)).dtype is xp.float32 and xp.iinfo(xp.uint16).max == 65535
    assert xp.iinfo(xp.uint64).dtype is xp.uint64
    assert info.default_dtypes()["indexing"] is braze.int64
    assert info.capabilities()["boolean indexing"]


def test_errors():
    with pytest.raises(ValueError, match="size 1"):
        xp.squeeze(braze.ones(2, 3), 0)
    with pytest.raises(ValueError, match="indexing"):
        xp.meshgrid(braze.ones(2), indexing="yx")
    with pytest.raises(ValueError, match="axis"):
        xp.take(braze.ones(2, 2), braze.tensor([0]))
    with pytest.raises(ValueError, match="at least one"):
        xp.result_type()


def test_gradients_flow_through():
    x = braze.tensor(B, requires_grad=True)
    xp.sum(xp.roll(xp.clip(x, 0, 3), 1) * xp.asarray([1.0, 2.0, 3.0, 4.0])).backward()
    assert x.grad.tolist() == [2, 3, 0, 1]


def test_signatures_have_the_standards_keywords():
    for name in dir(xp):
        function = getattr(xp, name)
        if inspect.isfunction(function) and function.__module__.startswith("braze.array_api"):
            keywords = set(inspect.signature(function).parameters)
            assert not keywords & {"dim", "keepdim", "input"}, name
