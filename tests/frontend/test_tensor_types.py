"""Devices, layouts, ranges of dtypes, sizes, legacy types and storages."""

import sys

import numpy as np
import pytest

import braze
from braze import nn
from braze.runtime.cuda import devices as cuda_devices
from braze.runtime.cuda import driver as cuda_driver


def test_devices():
    cpu = braze.device("cpu")
    assert (cpu.type, cpu.index, str(cpu), repr(cpu)) == ("cpu", None, "cpu", "device(type='cpu')")
    gpu = braze.device("cuda:1")
    assert (gpu.type, gpu.index, str(gpu)) == ("cuda", 1, "cuda:1")
    assert gpu == braze.device("cuda", 1) == braze.device(1) == "cuda:1" and gpu != cpu
    assert braze.device(gpu) == gpu and {cpu: 1}[braze.device("cpu")] == 1 and "cpu" in {cpu}
    x = braze.ones(2)
    assert x.device == cpu and x.device == "cpu" and x.device.type == "cpu" and not x.is_cuda
    assert x.to(cpu) is x and x.to("cpu:0") is x and x.to(x.device) is x and x.cpu() is x
    assert braze.zeros(2, device=cpu).device == cpu and braze.get_default_device() == cpu
    assert braze.tensor([1], device=braze.device("cpu", 0)).tolist() == [1]
    with cpu:
        assert braze.ones(1).device == cpu
    braze.set_default_device("cpu")
    with pytest.raises(RuntimeError, match="Expected one of cpu"):
        braze.device("gpu")
    with pytest.raises(RuntimeError, match="Invalid device string: 'cuda:x'"):
        braze.device("cuda:x")
    with pytest.raises(RuntimeError, match="must not include an index"):
        braze.device("cuda:1", 1)
    with pytest.raises(TypeError, match="str or int"):
        braze.device(1.5)
    with pytest.raises(AttributeError, match="not writable"):
        cpu.type = "cuda"


@pytest.fixture
def no_gpu(monkeypatch):
    """As where there is no PyCUDA, whether there is or not."""
    monkeypatch.setattr(cuda_driver, "_driver", cuda_driver._Driver())
    monkeypatch.setattr(cuda_devices, "_devices", {})
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)


@pytest.mark.parametrize(
    "use",
    [
        lambda: braze.ones(2).cuda(),
        lambda: braze.ones(2).to("cuda"),
        lambda: braze.zeros(2, device=braze.device("cuda", 0)),
        lambda: nn.Linear(2, 2).to("cuda:0"),
        lambda: nn.Linear(2, 2).cuda(),
        lambda: braze.set_default_device("cuda"),
        lambda: braze.as_tensor([1.0], device="cuda"),
        lambda: braze.Generator("cuda"),
    ],
)
def test_no_gpu_is_said_clearly(use, no_gpu):
    said = r"device 'cuda.*' is not available; this machine has: cpu \(CUDA devices need PyCUDA.*"
    with pytest.raises(RuntimeError, match=rf"{said}pip install 'braze\[cuda\]'"):
        use()


def test_cuda_without_a_gpu(no_gpu):
    cuda = braze.cuda
    assert not cuda.is_available() and cuda.device_count() == 0 and not cuda.is_initialized()
    cuda.manual_seed(1)
    cuda.manual_seed_all(1)
    cuda.seed_all()
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    cuda.set_device(-1)
    assert cuda.memory_allocated() == cuda.max_memory_allocated() == cuda.memory_reserved() == 0
    assert cuda.memory_stats() == {} and "CUDA memory of device 0" in cuda.memory_summary()
    asking = (cuda.current_device, cuda.current_stream, cuda.get_device_name, cuda.synchronize)
    for ask in (*asking, cuda.init, cuda.Stream, lambda: cuda.set_device(0)):
        with pytest.raises(RuntimeError, match=r"need PyCUDA.*pip install 'braze\[cuda\]'"):
            ask()
    assert not cuda.is_bf16_supported() and set(cuda.__all__) <= set(dir(cuda))
    assert braze.ones(1).get_device() == -1 and not braze.ones(1).is_pinned()
    with pytest.raises(RuntimeError, match="need PyCUDA"):
        braze.ones(1).pin_memory()
    with pytest.warns(UserWarning, match="CUDA is not available"), braze.autocast("cuda"):
        assert (braze.ones(2, 2) @ braze.ones(2, 2)).dtype is braze.float32


def test_layouts_and_memory_formats():
    x = braze.ones(1, 2, 3, 4)
    assert x.layout is braze.strided and repr(x.layout) == "braze.strided"
    assert isinstance(braze.channels_last, braze.memory_format)
    for format in (braze.contiguous_format, braze.preserve_format, braze.channels_last):
        assert x.contiguous(memory_format=format) is x
        assert x.clone(memory_format=format).tolist() == x.tolist()
        assert x.to(memory_format=format) is x
    with pytest.raises(RuntimeError, match="required rank 5"):
        x.contiguous(memory_format=braze.channels_last_3d)
    with pytest.raises(TypeError, match="memory_format"):
        x.contiguous(memory_format="channels_last")
    assert x.is_contiguous() and nn.Conv2d(1, 1, 1).to(memory_format=braze.channels_last)


def test_ranges_of_dtypes():
    assert repr(braze.finfo(braze.float32)) == (
        "finfo(resolution=1e-06, min=-3.40282e+38, max=3.40282e+38, eps=1.19209e-07, "
        "smallest_normal=1.17549e-38, tiny=1.17549e-38, dtype=float32)"
    )
    assert repr(braze.iinfo(braze.int8)) == "iinfo(min=-128, max=127, dtype=int8)"
    info = braze.finfo(braze.bfloat16)
    assert (info.bits, info.eps, info.max) == (16, 2.0**-7, (2 - 2.0**-7) * 2.0**127)
    assert braze.finfo() == braze.finfo(braze.float32) != braze.finfo(braze.float64)
    assert braze.iinfo(braze.uint32).max == 2**32 - 1 and braze.iinfo(braze.int64).bits == 64
    with pytest.raises(TypeError, match="floating point"):
        braze.finfo(braze.int8)
    for wrong in (braze.float32, braze.bool):
        with pytest.raises(TypeError, match="integer"):
            braze.iinfo(wrong)


@pytest.mark.parametrize("name", [d.public_name for d in braze.ir.dtypes.ALL])
def test_dtype_facts_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(braze, name), getattr(torch, name)
    for fact in ("is_floating_point", "is_complex", "is_signed", "itemsize"):
        assert getattr(ours, fact) == getattr(theirs, fact), fact
    x, y = braze.zeros(2, 3, dtype=ours), torch.zeros(2, 3, dtype=theirs)
    for method in ("is_floating_point", "is_complex", "is_signed", "element_size", "ndimension"):
        assert getattr(x, method)() == getattr(y, method)(), method
    assert (x.nbytes, x.itemsize) == (y.nbytes, y.itemsize)
    assert x.type() == y.type().replace("torch.", "braze.")
    if ours.is_differentiable:
        assert repr(braze.finfo(ours)) == repr(torch.finfo(theirs))
    elif name != "bool":
        for fact in ("bits", "min", "max", "dtype"):
            assert getattr(braze.iinfo(ours), fact) == getattr(torch.iinfo(theirs), fact)
    for other in braze.ir.dtypes.ALL:
        expected = torch.can_cast(theirs, getattr(torch, other.public_name))
        assert braze.can_cast(ours, other) == expected


def test_sizes():
    size = braze.zeros(2, 3, 4).shape
    for result, expected in (
        (size[1:], (3, 4)),
        (size + (1,), (2, 3, 4, 1)),
        ((1,) + size, (1, 2, 3, 4)),
        (size + braze.Size([5]), (2, 3, 4, 5)),
        (braze.Size([2]) * 2, (2, 2)),
        (braze.Size(np.array([2, 3])), (2, 3)),
    ):
        assert type(result) is braze.Size and result == expected
    assert size.numel() == 24 and size[-1] == 4 and size.index(3) == 1
    assert repr(size) == "braze.Size([2, 3, 4])" and braze.Size().numel() == 1
    with pytest.raises(TypeError, match="item 1 is 'float'"):
        braze.Size([1, 1.5])
    with pytest.raises(TypeError):
        size + [1]


def test_legacy_types():
    x = braze.FloatTensor([1, 2])
    assert x.dtype is braze.float32 and x.tolist() == [1, 2]
    assert braze.LongTensor(2, 3).shape == (2, 3) and braze.LongTensor(2).dtype is braze.int64
    assert braze.ByteTensor().shape == (0,) and braze.Tensor(braze.Size([2, 3])).shape == (2, 3)
    assert braze.FloatTensor((2, 3)).tolist() == [2, 3]
    assert braze.LongTensor([1.5]).tolist() == [1]
    assert isinstance(x, braze.FloatTensor) and not isinstance(x, braze.DoubleTensor)
    assert isinstance(x, braze.Tensor) and not isinstance(1.0, braze.FloatTensor)
    assert isinstance(nn.Parameter(x), braze.FloatTensor)
    assert repr(braze.HalfTensor) == "<class 'braze.HalfTensor'>"
    assert braze.BFloat16Tensor.dtype is braze.bfloat16
    assert braze.FloatTensor(x).data_ptr() == x.data_ptr()
    with pytest.raises(TypeError, match="expected a tensor of braze.int64"):
        braze.LongTensor(x)
    with pytest.raises(TypeError, match="must be a sequence"):
        braze.FloatTensor(3.5)
    assert x.type() == "braze.FloatTensor" == braze.typename(x)
    assert x.type(braze.DoubleTensor).dtype is braze.float64
    assert x.type("torch.IntTensor").dtype is braze.int32 and x.type(braze.int8).dtype is braze.int8
    assert x.type(braze.float32) is x
    with pytest.raises(ValueError, match="invalid type"):
        x.type("FooTensor")
    with pytest.raises(TypeError, match="was expected"):
        x.type(3)
    assert x.new(2).shape == (2,) and x.new([3]).tolist() == [3] and x.new().numel() == 0
    assert braze.IntTensor([1]).new([2]).dtype is braze.int32
    try:
        braze.set_default_tensor_type(braze.DoubleTensor)
        assert braze.get_default_dtype() is braze.float64 and braze.ones(1).dtype is braze.float64
        braze.set_default_tensor_type("torch.FloatTensor")
        assert braze.get_default_dtype() is braze.float32
        with pytest.raises(TypeError, match="floating"):
            braze.set_default_tensor_type(braze.LongTensor)
    finally:
        braze.set_default_dtype(braze.float32)


def test_modules_take_tensor_types():
    net = nn.BatchNorm1d(2).type(braze.DoubleTensor)
    assert net.weight.dtype is net.num_batches_tracked.dtype is braze.float64
    assert nn.Linear(1, 1).type("braze.HalfTensor").weight.dtype is braze.float16
    assert nn.Linear(1, 1).type(braze.float64).bias.dtype is braze.float64


def test_questions_about_types():
    x, y = braze.ones(2, 3), braze.ones(2, 3, dtype=braze.uint8)
    assert braze.is_floating_point(x) and not braze.is_floating_point(y)
    assert braze.is_signed(x) and not braze.is_signed(y) and not braze.is_complex(x)
    assert x.is_cpu and not (x.is_sparse or x.is_quantized or x.is_meta)
    assert x.is_same_size(y) and not braze.is_same_size(x, x[0])
    assert braze.typename(nn.Linear(1, 1)).endswith("linear.Linear")
    assert braze.set_flush_denormal(True) is False and braze.get_device(x) == -1


def test_subclasses():
    class Mine(braze.Tensor):
        pass

    made = Mine([1.0, 2.0])
    assert type(made) is Mine and made.tolist() == [1, 2]
    x = braze.ones(2, requires_grad=True)
    seen = x.as_subclass(Mine)
    assert type(seen) is Mine and seen.requires_grad
    y = (x * 2).as_subclass(Mine)
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="subclass of Tensor"):
        x.as_subclass(int)


def test_storages():
    x = braze.arange(6, dtype=braze.int32).reshape(2, 3).clone()
    storage = x[1].storage()
    assert storage.tolist() == [0, 1, 2, 3, 4, 5] and len(storage) == storage.size() == 6
    assert storage == x.storage() and storage.data_ptr() == x.data_ptr()
    assert braze.is_storage(storage) and not braze.is_storage(x)
    assert (storage.nbytes(), storage.element_size(), storage.dtype) == (24, 4, braze.int32)
    storage[0] = 10
    assert x[0, 0].item() == 10 and storage[0] == 10 and storage[1:3] == [1, 2]
    copied = storage.clone()
    assert storage.fill_(3) is storage and x.tolist() == [[3, 3, 3], [3, 3, 3]]
    x.add_(1)
    assert list(storage) == [4] * 6 and copied.tolist() == [10, 1, 2, 3, 4, 5]
    assert storage.copy_(copied).tolist() == x.reshape(-1).tolist() == [10, 1, 2, 3, 4, 5]
    assert len(x.untyped_storage()) == 24 and x.untyped_storage()[0] == 10
    assert repr(braze.ones(1).storage()) == (
        " 1.0\n[braze.TypedStorage(dtype=braze.float32, device=cpu) of size 1]"
    )
    with pytest.raises(RuntimeError, match="differ in size"):
        storage.copy_(braze.ones(2).storage())
