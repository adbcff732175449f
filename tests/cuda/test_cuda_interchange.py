"""Memory of GPUs shared with other libraries: DLPack and CUDA's array interface."""

import gc

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pycuda.driver as cuda
import pytest
from pycuda import gpuarray

import braze
from braze.runtime.cuda.devices import device_named

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
          "float64", "complex64"]  # fmt: skip


@pytest.fixture
def context():
    """PyCUDA's own arrays are made in the device's context."""
    with device_named("cuda:0").active():
        yield


class Theirs:
    """A producer that hands on a tensor's capsules, of one version of the protocol."""

    def __init__(self, tensor, version=(1, 0)):
        self.tensor, self.version, self.streams = tensor, version, []

    def __dlpack__(self, *, stream=None, max_version=None):
        self.streams.append(stream)
        return self.tensor.__dlpack__(stream=stream, max_version=self.version)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("version", [None, (1, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_shares_memory(dtype, version):
    """Interpreted: compiling for every dtype takes a while."""
    with braze.config.using(tier="interpret"):
        check_shared(dtype, version)


def check_shared(dtype, version):
    x = braze.tensor([[0, 1, 1, 0], [1, 0, 0, 1]], device="cuda").to(getattr(braze, dtype))
    y = braze.from_dlpack(Theirs(x, version))
    assert y.device == x.device and y.dtype is x.dtype and y.shape == (2, 4)
    assert y.data_ptr() == x.data_ptr()
    y[0, 0] = 1
    assert x[0, 0].item() == 1
    x.zero_()
    assert not y.any().item()


def test_what_reads_shared_memory_reads_it_in_its_place():
    """Captured operations run later than their line; those on shared memory do not."""
    x = braze.arange(8.0, device="cuda")
    y = braze.from_dlpack(x)
    before = x * 2
    y.fill_(5)
    after = x + 1
    x.add_(1)
    assert before.tolist() == [2.0 * i for i in range(8)]
    assert after.tolist() == [6.0] * 8 and y.tolist() == [6.0] * 8


def test_views_go_out_and_come_in_with_their_strides():
    x = braze.arange(24.0, device="cuda").reshape(4, 6)
    y = braze.from_dlpack(x.t()[1:3])
    assert y.tolist() == x.t()[1:3].tolist()
    braze.from_dlpack(x[:, ::2]).zero_()
    assert x[:, ::2].sum().item() == 0 and x[:, 1::2].sum().item() == 144
    assert braze.from_dlpack(braze.zeros(0, 3, device="cuda")).shape == (0, 3)
    assert braze.from_dlpack(braze.tensor(2.5, device="cuda")).item() == 2.5


def test_lifetimes():
    """A consumer keeps the memory; when it lets go, operations are captured as ever."""
    x = braze.ones(64, device="cuda")
    y = braze.from_dlpack(x)
    address = x.data_ptr()
    del x
    gc.collect()
    assert y.data_ptr() == address and (y + 1).sum().item() == 128
    held = braze.cuda.memory_allocated()
    x = braze.ones(64, device="cuda")
    x.data_ptr()
    capsule = x.__dlpack__()  # never used
    assert x._current().storage.is_reachable
    del capsule
    gc.collect()
    assert not x._current().storage.is_reachable
    del x, y
    gc.collect()
    assert braze.cuda.memory_allocated() < held


def test_streams():
    x = braze.ones(4, device="cuda")
    theirs = Theirs(x)
    braze.from_dlpack(theirs)
    assert theirs.streams == [1]  # the legacy default stream
    other = braze.cuda.Stream()
    with braze.cuda.stream(other):
        z = x * 3
        braze.from_dlpack(theirs)
        assert theirs.streams[1] > 2
    assert braze.from_dlpack(Theirs(z)).tolist() == [3.0] * 4
    x.__dlpack__(stream=-1)
    with pytest.raises(TypeError, match="a stream is a number, given str"):
        x.__dlpack__(stream="null")


def test_copies_and_refusals():
    x = braze.ones(8, device="cuda")
    y = braze.from_dlpack(x, copy=True)
    y.zero_()
    assert x.sum().item() == 8
    apart = x[1:]  # does not begin where kernels may begin
    copied = braze.from_dlpack(apart)
    copied.zero_()
    assert x.sum().item() == 8 and copied.shape == (7,)
    with pytest.raises(BufferError, match="without a copy"):
        braze.from_dlpack(apart, copy=False)
    with pytest.raises(BufferError, match="on cuda:0, wanted is cpu"):
        braze.from_dlpack(x, device="cpu")
    with pytest.raises(BufferError, match="on the CPU, wanted is cuda"):
        braze.from_dlpack(np.ones(2), device="cuda")
    with pytest.raises(BufferError, match="wanted is"):
        x.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match="require gradient"):
        braze.ones(2, device="cuda", requires_grad=True).__dlpack__()


def test_arrays_of_pycuda(context):
    array = gpuarray.to_gpu(np.arange(12, dtype=np.float32).reshape(3, 4))
    x = braze.as_tensor(array)
    assert str(x.device) == "cuda:0" and x.data_ptr() == array.ptr
    x.mul_(2)
    assert array.get().tolist() == (2 * np.arange(12).reshape(3, 4)).tolist()
    assert braze.as_tensor(array, dtype=braze.float64, device="cpu").dtype is braze.float64
    del array
    gc.collect()
    assert x.sum().item() == 132


def test_the_array_interface(context):
    x = braze.arange(12, device="cuda", dtype=braze.float32).reshape(3, 4)
    facts = x.t().__cuda_array_interface__
    assert facts["shape"] == (4, 3) and facts["strides"] == (4, 16) and facts["typestr"] == "<f4"
    assert facts["stream"] == 1 and facts["version"] == 3
    facts = x.__cuda_array_interface__
    assert facts["data"] == (x.data_ptr(), False) and facts["strides"] is None
    found = np.empty((3, 4), np.float32)
    cuda.memcpy_dtoh(found, facts["data"][0])
    np.testing.assert_array_equal(found, np.arange(12).reshape(3, 4))
    cuda.memset_d32(facts["data"][0], 0, 12)  # seen by the tensor
    assert x.sum().item() == 0
    assert not hasattr(braze.ones(2), "__cuda_array_interface__")
    with pytest.raises(RuntimeError, match="requires grad"):
        _ = braze.ones(2, device="cuda", requires_grad=True).__cuda_array_interface__
    with pytest.raises(TypeError, match="bfloat16"):
        _ = braze.ones(2, device="cuda", dtype=braze.bfloat16).__cuda_array_interface__
