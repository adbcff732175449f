"""DLPack in both directions: shared memory, dtypes, lifetimes, refusals."""

import ctypes
import gc

import numpy as np
import pytest

import braze
from braze.utils import dlpack

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


class Old:
    """A producer that knows only the protocol's first version."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_both_ways(dtype):
    array = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    x = braze.from_dlpack(array)
    assert x.dtype is getattr(braze, dtype) and x.shape == (2, 3)
    assert x.data_ptr() == array.ctypes.data
    array[0, 0] = 1
    assert x[0, 0].item() == 1
    x[1, 1] = 1
    assert array[1, 1] == 1
    back = np.from_dlpack(x)
    assert back.ctypes.data == array.ctypes.data and back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    x.zero_()
    assert not back.any()


def test_bfloat16_between_tensors():
    x = braze.tensor([1.5, -2.0, 3.25], dtype=braze.bfloat16)
    y = braze.from_dlpack(x)
    assert y.dtype is braze.bfloat16 and y.tolist() == [1.5, -2, 3.25]
    assert y.data_ptr() == x.data_ptr()
    y.mul_(2)
    assert x.tolist() == [3, -4, 6.5]
    capsule = dlpack.to_dlpack(x)
    assert dlpack.from_dlpack(capsule).tolist() == [3, -4, 6.5]
    with pytest.raises(TypeError, match="nobody has used"):
        dlpack.from_dlpack(capsule)


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_bfloat16_capsule_says_so(version):
    """The struct's fields, read at the places that the protocol gives."""
    capsule = braze.zeros(3, 5, dtype=braze.bfloat16).__dlpack__(max_version=version)
    name = b"dltensor" if version is None else b"dltensor_versioned"
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    start = pointer(capsule, name) + (0 if version is None else 32)
    rank = ctypes.c_int32.from_address(start + 16).value
    code, bits = (ctypes.c_uint8 * 2).from_address(start + 20)
    lanes = ctypes.c_uint16.from_address(start + 22).value
    shape = ctypes.POINTER(ctypes.c_int64).from_address(start + 24)
    assert (rank, code, bits, lanes) == (2, 4, 16, 1) and shape[:2] == [3, 5]


def test_views_go_out_with_their_strides():
    x = braze.arange(6.0).reshape(2, 3).clone()
    part = np.from_dlpack(x.t()[1:])
    assert part.strides == (4, 12) and part.tolist() == [[1, 4], [2, 5]]
    x.fill_(7)
    assert part.tolist() == [[7, 7], [7, 7]]


def test_lifetimes():
    array = np.arange(1000.0)
    x = braze.from_dlpack(array)
    y = np.from_dlpack(x * 2)
    del array, x
    gc.collect()
    junk = [braze.zeros(1000, dtype=braze.float64) for _ in range(8)]
    braze.sync()
    assert y.sum() == 999000 and len(junk) == 8


def test_old_producers_and_read_only_arrays():
    array = np.arange(3)
    x = braze.from_dlpack(Old(array))
    x[0] = 5
    assert array[0] == 5
    array.flags.writeable = False
    copied = braze.from_dlpack(array)
    copied[0] = 9
    assert array[0] == 5 and copied[0].item() == 9
    with pytest.raises(BufferError, match="without a copy"):
        braze.from_dlpack(array, copy=False)
    given = braze.from_dlpack(np.ones(2), copy=True)
    assert given.tolist() == [1, 1]


def test_devices_and_refusals():
    x = braze.ones(2)
    kind, index = x.__dlpack_device__()
    assert (int(kind), index) == (1, 0)
    with pytest.raises(BufferError, match="require gradient"):
        braze.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises((BufferError, RuntimeError)):
        x.__dlpack__(stream=3)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="capsule"):
        braze.from_dlpack([1, 2])
    with pytest.raises(RuntimeError, match="not available"):
        braze.from_dlpack(np.ones(2), device="cuda")

    class Elsewhere(Old):
        def __dlpack_device__(self):
            return 10, 0  # ROCm

    with pytest.raises(BufferError, match="device type 10 is neither the CPU nor CUDA"):
        braze.from_dlpack(Elsewhere(np.ones(2)))


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_torch_both_ways(dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(getattr(torch, dtype))
    ours = braze.from_dlpack(theirs)
    assert ours.dtype is getattr(braze, dtype) and ours.data_ptr() == theirs.data_ptr()
    theirs[0, 0] = 1
    assert ours[0, 0].item() == 1
    ours[1, 1] = 1
    assert theirs[1, 1] == 1
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr() and back.dtype is theirs.dtype
    ours[0, 1] = 0
    assert back[0, 1] == 0
    del ours, theirs
    gc.collect()
    assert back.double().tolist() == [[1, 0, 1], [1, 1, 0]]
    turned = braze.from_dlpack(back.t())
    assert turned.double().tolist() == [[1, 1], [0, 1], [1, 0]]
    turned[0, 1] = 0
    assert back[1, 0] == 0
    assert torch.from_dlpack(turned).data_ptr() == back.data_ptr()
