"""Tensors on CUDA devices: where they are made, how they move, how they are read."""

import copy
import pickle
import warnings
from typing import NamedTuple

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
from braze import legacy, nn
from braze.devices import device_named
from braze.utils.data import DataLoader

GPU = "cuda:0"
several = pytest.mark.skipif(braze.cuda.device_count() < 2, reason="needs several GPUs")


def placed(tensor, device=GPU):
    assert isinstance(tensor, braze.Tensor)
    assert str(tensor.device) == device and tensor.is_cuda == (device != "cpu")
    return tensor.cpu()


def test_the_snippet_that_every_tutorial_has():
    x = braze.arange(6.0).reshape(2, 3)
    if braze.cuda.is_available():
        device = braze.device("cuda")
        y = braze.ones_like(x, device=device)
        x = x.to(device)
        z = x + y
        np.testing.assert_array_equal(placed(z), [[1, 2, 3], [4, 5, 6]])
        back = z.to("cpu", braze.double)
        assert back.dtype is braze.double and str(back.device) == "cpu"
        np.testing.assert_array_equal(back, [[1, 2, 3], [4, 5, 6]])
    else:
        raise AssertionError("there is a device")


@pytest.mark.parametrize(
    "make",
    [
        lambda d: braze.zeros(2, 3, device=d),
        lambda d: braze.ones((2, 3), device=d),
        lambda d: braze.empty(2, 3, device=d),
        lambda d: braze.full((2, 3), 4.5, device=d),
        lambda d: braze.arange(5, device=d),
        lambda d: braze.arange(1, 9, 2.0, device=d),
        lambda d: braze.linspace(0, 1, 5, device=d),
        lambda d: braze.logspace(0, 1, 5, device=d),
        lambda d: braze.eye(3, device=d),
        lambda d: braze.tensor([1.0, 2.0], device=d),
        lambda d: braze.tensor([[1, 2], [3, 4]], dtype=braze.int8, device=d),
        lambda d: braze.tensor(3, device=d),
        lambda d: braze.as_tensor(np.arange(4.0), device=d),
        lambda d: braze.asarray([1, 2], device=d),
        lambda d: braze.tril_indices(3, 3, device=d),
        lambda d: braze.hann_window(8, device=d),
        lambda d: braze.fft.fftfreq(5, device=d),
        lambda d: braze.scalar_tensor(2.5, device=d),
        lambda d: braze.empty_strided((2, 3), (1, 2), device=d),
        lambda d: braze.zeros_like(braze.zeros(2), device=d),
        lambda d: braze.full_like(braze.zeros(2), 3.0, device=d),
        lambda d: braze.zeros(2).new_ones(3, device=d),
        lambda d: braze.ones(3).to(d),
        lambda d: braze.ones(3, device=d).new_zeros(2),
        lambda d: braze.ones_like(braze.ones(3, device=d)),
        lambda d: braze.nn.Linear(2, 3, device=d).weight * 0,
        lambda d: braze.zeros(2, dtype=braze.complex64, device=d),
    ],
)
def test_what_makes_tensors_makes_them_there(make):
    np.testing.assert_allclose(placed(make(GPU)).detach(), make("cpu").detach(), rtol=1e-6)
    np.testing.assert_allclose(placed(make(braze.device("cuda"))).detach(), make("cpu").detach())


@pytest.mark.parametrize("name", ["rand", "randn"])
def test_random_numbers_are_those_of_the_cpu(name):
    function = getattr(braze, name)
    braze.manual_seed(5)
    there = placed(function(4, 9, device=GPU))
    braze.manual_seed(5)
    np.testing.assert_allclose(there, function(4, 9), rtol=2e-6)
    braze.manual_seed(5)
    there = placed(braze.randint(0, 100, (50,), device=GPU))
    braze.manual_seed(5)
    np.testing.assert_array_equal(there, braze.randint(0, 100, (50,)))


def test_a_leaf_made_on_a_gpu_is_one():
    w = braze.ones(3, device=GPU, requires_grad=True)
    assert w.is_leaf and w.requires_grad
    (w * braze.tensor([1.0, 2.0, 3.0], device=GPU)).sum().backward()
    np.testing.assert_array_equal(placed(w.grad), [1, 2, 3])


def test_moves():
    x = braze.arange(4.0)
    assert x.cpu() is x and x.to("cpu") is x
    y = x.cuda()
    assert y.cuda() is y and y.to("cuda") is y and y.to(y) is y and y.cuda(0) is y
    np.testing.assert_array_equal(placed(y), [0, 1, 2, 3])
    assert x.to(y).is_cuda and not y.to(x).is_cuda
    assert x.to("cuda", braze.float16).dtype is braze.float16
    assert x.to(device="cuda", dtype=braze.int32, non_blocking=True).is_cuda
    assert y.type_as(x.int()).dtype is braze.int32 and not y.type_as(x).is_cuda
    assert y.get_device() == 0 and x.get_device() == -1
    with pytest.raises(RuntimeError, match="Invalid device, must be cuda device"):
        x.cuda("cpu")


def test_gradients_find_their_way_back():
    x = braze.arange(3.0, requires_grad=True)
    (x.cuda() ** 2).sum().backward()
    np.testing.assert_array_equal(placed(x.grad, "cpu"), [0, 2, 4])
    (x.cuda() * 3).cpu().sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 5, 7])
    y = braze.arange(3.0, requires_grad=True)
    (g,) = braze.autograd.grad((y.cuda() ** 3).sum(), y, create_graph=True)
    (h,) = braze.autograd.grad(g.sum(), y)
    np.testing.assert_allclose(h, [0, 6, 12])


def test_reading():
    x = braze.tensor([[1.5, -2.0], [0.0, 4.0]], device=GPU)
    assert x[1, 1].item() == 4.0 and x.tolist() == [[1.5, -2.0], [0.0, 4.0]]
    assert repr(x) == ("tensor([[ 1.5000, -2.0000],\n        [ 0.0000,  4.0000]], device='cuda:0')")
    assert bool((x == x).all()) and int(x[1, 1]) == 4 and float(x[0, 0]) == 1.5
    assert repr(braze.zeros(0, device=GPU)) == "tensor([], device='cuda:0')"
    message = (
        r"can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu\(\) to copy the tensor "
        "to host memory first."
    )
    for read in (braze.Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match=message):
            read(x)
    np.testing.assert_array_equal(x.numpy(force=True), [[1.5, -2], [0, 4]])
    assert x.data_ptr() % 16 == 0 and x.__dlpack_device__() == (2, 0)
    assert x.bfloat16()[0, 0].item() == 1.5


def test_devices_do_not_mix_and_the_line_is_named():
    x, y = braze.ones(3, device=GPU), braze.ones(3)
    with pytest.raises(
        RuntimeError, match=r"same device.*cuda:0 and cpu!\n  at .*x \+ y"
    ) as caught:
        x + y
    assert "test_cuda_tensors.py" in str(caught.value)
    with pytest.raises(RuntimeError, match="same device"):
        braze.nn.functional.linear(x, braze.ones(2, 3))
    with pytest.raises(RuntimeError, match="same device"):
        braze.nn.Sequential(braze.nn.Linear(3, 3), braze.nn.Linear(3, 2, device=GPU))(y)
    np.testing.assert_array_equal(placed(x + braze.tensor(2.0)), [3, 3, 3])


@several
def test_gpus_do_not_mix():
    x, y = braze.ones(3, device=GPU), braze.ones(3, device="cuda:1")
    with pytest.raises(RuntimeError, match="same device.*cuda:0 and cuda:1"):
        x * y
    np.testing.assert_array_equal(placed(x + y.to(GPU)), [2, 2, 2])
    np.testing.assert_array_equal(placed((x * 5).to("cuda:1") + y, "cuda:1"), [6, 6, 6])
    assert placed(y.cuda(0)).sum() == 3


def test_places_in_place():
    x = braze.zeros(6, device=GPU)
    address = x.data_ptr()
    x += 1
    x[2] = 7
    x[braze.tensor([0, 1])] = braze.tensor([3.0, 4.0], device=GPU)
    x[4:] = braze.tensor([8.0, 9.0])  # as `copy_`, from anywhere
    view = x[1:3]
    view *= 2
    np.testing.assert_array_equal(placed(x), [3, 8, 14, 1, 8, 9])
    assert x.data_ptr() == address and view.data_ptr() == address + 4
    x.copy_(braze.arange(6))
    x.fill_(x[5])
    np.testing.assert_array_equal(placed(x), [5] * 6)
    x.zero_()
    x.normal_()
    assert placed(x).std() > 0
    y = braze.arange(3.0)
    y.copy_(x[:3])
    assert str(y.device) == "cpu" and y[0] == x[0].item()


def test_indices_may_be_on_the_cpu():
    x = braze.arange(10.0, device=GPU)
    np.testing.assert_array_equal(placed(x[braze.tensor([3, 1])]), [3, 1])
    np.testing.assert_array_equal(placed(x[[2, 4]]), [2, 4])
    np.testing.assert_array_equal(placed(x[x > 7]), [8, 9])
    np.testing.assert_array_equal(placed(x[braze.arange(10) > 7]), [8, 9])
    np.testing.assert_array_equal(placed(braze.nonzero(x > 7)), [[8], [9]])


def test_default_devices():
    braze.set_default_device("cuda")
    try:
        assert braze.zeros(2).is_cuda and braze.tensor([1.0]).is_cuda and braze.rand(2).is_cuda
        assert braze.nn.Linear(2, 2).weight.is_cuda
        assert not braze.zeros(2, device="cpu").is_cuda
        assert str(braze.get_default_device()) == "cuda"
        with braze.device("cpu"):
            assert not braze.ones(2).is_cuda
        assert braze.ones(2).is_cuda
    finally:
        braze.set_default_device(None)
    assert not braze.zeros(2).is_cuda
    with braze.device(GPU):
        assert placed(braze.eye(2)).sum() == 2
    assert not braze.tensor([1.0, 2.0]).is_cuda


def test_copies_and_pickles_stay_there():
    x = braze.arange(3.0, device=GPU)
    np.testing.assert_array_equal(placed(x.clone()), [0, 1, 2])
    np.testing.assert_array_equal(placed(copy.deepcopy(x)), [0, 1, 2])
    np.testing.assert_array_equal(placed(pickle.loads(pickle.dumps(x))), [0, 1, 2])
    net = braze.nn.Linear(3, 2).cuda()
    again = copy.deepcopy(net)
    assert again.weight.is_cuda and again.weight.data_ptr() != net.weight.data_ptr()


def test_files(tmp_path):
    net = braze.nn.Sequential(braze.nn.Linear(3, 2), braze.nn.BatchNorm1d(2)).cuda()
    x = braze.arange(6.0, device=GPU).reshape(2, 3)
    braze.save({"net": net.state_dict(), "x": x, "row": x[1]}, tmp_path / "f.pt")
    found = braze.load(tmp_path / "f.pt")
    np.testing.assert_array_equal(placed(found["x"]), [[0, 1, 2], [3, 4, 5]])
    found["x"][1] = 9
    np.testing.assert_array_equal(placed(found["row"]), [9, 9, 9])
    for where in ("cpu", braze.device("cpu"), {GPU: "cpu"}, lambda storage, place: storage):
        found = braze.load(tmp_path / "f.pt", map_location=where)
        np.testing.assert_array_equal(placed(found["row"], "cpu"), [3, 4, 5])
    for where in ("cuda", {GPU: GPU}, lambda storage, place: storage.cuda(0)):
        found = braze.load(tmp_path / "f.pt", map_location=where)
        np.testing.assert_array_equal(placed(found["row"]), [3, 4, 5])
    ours = braze.nn.Sequential(braze.nn.Linear(3, 2), braze.nn.BatchNorm1d(2))
    ours.load_state_dict(found["net"])
    assert not ours[0].weight.is_cuda
    np.testing.assert_array_equal(ours[0].weight.detach(), net[0].weight.detach().cpu())
    braze.save(ours.state_dict(), tmp_path / "g.pt")
    net.load_state_dict(braze.load(tmp_path / "g.pt"))
    assert net[0].weight.is_cuda and net[1].num_batches_tracked.is_cuda
    assert device_named(GPU) == braze.device("cuda", 0)


def test_pinned_memory():
    x = braze.arange(5.0)
    p = x.pin_memory()
    assert p.is_pinned() and not x.is_pinned() and p.pin_memory() is p
    np.testing.assert_array_equal(placed(p.to(GPU, non_blocking=True)), [0, 1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        p.cuda().pin_memory()


@several
def test_types_have_names_that_say_where():
    x = braze.ones(2, device="cuda:1")
    assert x.type() == braze.typename(x) == "braze.cuda.FloatTensor"
    double = x.cpu().type("torch.cuda.DoubleTensor")
    assert double.dtype is braze.float64 and double.device == "cuda:0"
    assert x.type("torch.cuda.IntTensor").device == "cuda:1"
    assert x.type("torch.FloatTensor").device == x.type(braze.FloatTensor).device == "cpu"
    assert x.type(braze.float16).device == "cuda:1"
    assert x.new(2, 3).device == x.new([1.0]).device == "cuda:1"
    layer = nn.Linear(2, 2).type("torch.cuda.HalfTensor")
    assert layer.weight.device == "cuda:0" and layer.weight.dtype is braze.float16
    sparse = braze.eye(2, device="cuda").to_sparse()
    assert sparse.type() == "braze.cuda.sparse.FloatTensor"
    assert sparse.type("torch.sparse.DoubleTensor").device == "cpu"


def test_modules_of_the_old_kind():
    module = legacy.nn.Sequential().add(legacy.nn.Linear(3, 2)).add(legacy.nn.Tanh())
    x = braze.arange(12.0).reshape(4, 3)
    expected = module.forward(x)
    gradient = module.backward(x, expected).clone()
    assert module.cuda() is module and module.type() == "torch.cuda.FloatTensor"
    output = module.forward(x.cuda())
    assert output.is_cuda and module.double().get(0).weight.is_cuda
    module.float()
    np.testing.assert_allclose(output.cpu(), expected, rtol=1e-6)
    found = module.backward(x.cuda(), module.forward(x.cuda()))
    np.testing.assert_allclose(found.cpu(), gradient, rtol=1e-5, atol=1e-6)
    assert not module.type("torch.FloatTensor").get(0).weight.is_cuda


class Pair(NamedTuple):
    left: braze.Tensor
    right: str


class Own:
    """A batch of a class of the user's."""

    def __init__(self, x):
        self.x = x

    def pin_memory(self):
        return Own(self.x.pin_memory())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_pins_its_batches(workers):
    numbers = [(float(i), {"name": str(i), "pair": Pair(braze.ones(2) * i, "x")}) for i in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = DataLoader(numbers, batch_size=2, pin_memory=True, num_workers=workers)
        batches = list(loader)
    for first, (values, rest) in zip((0.0, 2.0), batches, strict=True):
        assert values.is_pinned() and values.tolist() == [first, first + 1]
        assert rest["name"] == [str(int(first)), str(int(first) + 1)]
        assert isinstance(rest["pair"], Pair) and rest["pair"].left.is_pinned()
        assert values.to("cuda", non_blocking=True).tolist() == [first, first + 1]
    (own,) = DataLoader([1.0], collate_fn=lambda x: Own(braze.tensor(x)), pin_memory=True)
    assert own.x.is_pinned()
    assert not next(iter(DataLoader([1.0]))).is_pinned()
