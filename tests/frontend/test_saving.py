"""`braze.save` and `braze.load`: what comes back, files of PyTorch's, and failed saves."""

import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest

import braze
from braze import nn, serialization
from braze.ir.dtypes import ALL

pytestmark = pytest.mark.usefixtures("interpret")

FILES = Path(__file__).resolve().parent / "files"
ZIP_OR_LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def again(value, zipped=True, **named):
    memory = io.BytesIO()
    braze.save(value, memory, _use_new_zipfile_serialization=zipped)
    memory.seek(0)
    return braze.load(memory, **named)


def assert_same(one, two):
    assert type(one) is type(two) and one.dtype is two.dtype and one.shape == two.shape
    assert one.requires_grad == two.requires_grad
    np.testing.assert_array_equal(one.detach().numpy(), two.detach().numpy())


class Point:
    def __init__(self, x):
        self.x = x


class Slotted:
    __slots__ = ("x",)


class Marked(braze.Tensor):
    pass


@ZIP_OR_LEGACY
def test_values_come_back(zipped):
    value = {
        "plain": [None, True, False, 0, -1, 70000, 1 << 40, -(1 << 70), 2.5, float("inf"), 1 - 2j],
        "text": ["", "text", "ü\ud800", "x" * 300, b"", b"\x00\xff", bytearray(b"ab")],
        "containers": [(), (1,), (1, 2, 3, 4), [], {}, {1: 2, (3, "a"): [4]}, {1, 2}, set()],
        "frozen": frozenset({1, 2}),
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "counter": Counter("aab"),
        "types": [braze.float32, braze.bfloat16, braze.Size([2, 3]), braze.device("cpu")],
        "layouts": [braze.strided, braze.sparse_coo],
    }
    value["itself"] = value["containers"]
    back = again(value, zipped)
    assert back == value
    assert back["itself"] is back["containers"]
    assert type(back["types"][2]) is braze.Size and type(back["ordered"]) is OrderedDict


@ZIP_OR_LEGACY
def test_tensors_of_every_dtype_come_back(zipped):
    value = {dtype.name: braze.arange(3).to(dtype) for dtype in ALL}
    value["scalar"] = braze.tensor(2.5)
    value["empty"] = braze.zeros(0, 3)
    value["leaf"] = braze.ones(2, requires_grad=True)
    value["parameter"] = nn.Parameter(braze.ones(2))
    value["frozen"] = nn.Parameter(braze.ones(2), requires_grad=False)
    back = again(value, zipped)
    assert back.keys() == value.keys()
    for name in value:
        assert_same(back[name], value[name])
    back["leaf"].sum().backward()
    assert back["leaf"].grad.tolist() == [1, 1]


@ZIP_OR_LEGACY
def test_views_share_memory_again(zipped):
    base = braze.arange(12.0).reshape(3, 4).clone()
    value = [
        base.t(),
        base,
        base[:, 1],
        base[1:],
        base.detach(),
        base[::2, ::3],
        base[0].expand(2, 4),
    ]
    back = again(value, zipped)
    for one, two in zip(back, value, strict=True):
        assert_same(one, two)
        assert (one.stride(), one.storage_offset()) == (two.stride(), two.storage_offset())
    back[1][1, 1] = 100.0
    back[0][0, 0] = 50.0
    for one, place in ((back[0], (1, 1)), (back[2], 1), (back[3], (0, 1)), (back[4], (1, 1))):
        assert one[place].item() == 100.0
    assert back[5][0, 0].item() == 50.0 and back[6][1, 0].item() == 50.0


def test_loaded_tensors_in_compiled_code():
    base = braze.arange(12.0).reshape(3, 4).clone()
    turned, whole, part = again([base.t(), base, base[:, 1:3]])
    with braze.config.using(tier="compile"):
        whole.mul_(2)
        found = (whole @ turned).sum(1) + part.prod(1)
        part.zero_()
    array = np.arange(12.0).reshape(3, 4) * 2
    expected = (array @ array.T).sum(1) + array[:, 1:3].prod(1)
    np.testing.assert_allclose(found, expected)
    assert whole[:, 1:3].abs().sum().item() == turned[1:3].abs().sum().item() == 0
    assert whole[2, 3].item() == 22.0


def test_a_view_alone_keeps_its_strides_and_the_memory_around_it():
    back = again(braze.arange(10.0)[2:8:2])
    assert back.tolist() == [2, 4, 6] and back.stride() == (2,) and back.storage_offset() == 2
    assert len(back.storage()) == 10
    assert again(braze.tensor(3.0).expand(2, 2)).tolist() == [[3, 3], [3, 3]]


def test_objects_that_are_the_same_stay_so():
    weight = nn.Parameter(braze.ones(2))
    back = again([weight, weight, weight.detach()])
    assert back[0] is back[1]
    with braze.no_grad():
        back[0].mul_(3)
    assert back[2].tolist() == [3, 3]


def test_storages_come_back():
    x = braze.arange(3.0)
    tensor, storage = again([x, x.storage()])
    assert storage.tolist() == [0, 1, 2] and storage.dtype is braze.float32
    tensor[0] = 7.0
    assert storage[0] == 7.0
    assert bytes(again(x.untyped_storage()).tolist()) == np.arange(3, dtype=np.float32).tobytes()
    with pytest.raises(RuntimeError, match="view the same data as different types"):
        again([x, x.view(braze.int32)])


@ZIP_OR_LEGACY
def test_sparse_tensors_come_back(zipped):
    sparse = braze.sparse_coo_tensor([[0, 1, 1], [2, 0, 0]], [3.0, 4.0, 5.0], (2, 3))
    one, two = again([sparse, sparse.coalesce()], zipped)
    assert not one.is_coalesced() and two.is_coalesced()
    assert one.to_dense().tolist() == two.to_dense().tolist() == [[0, 0, 3], [9, 0, 0]]


def test_attributes_and_subclasses_come_back():
    tensor, parameter = braze.ones(2), nn.Parameter(braze.ones(2))
    tensor.note, parameter.note = "one", {"two": 2}
    one, two = again([tensor, parameter])
    assert (one.note, two.note, type(two)) == ("one", {"two": 2}, nn.Parameter)
    marked = Marked([1.0, 2.0])
    with pytest.raises(pickle.UnpicklingError, match="Marked"):
        again(marked)
    with serialization.safe_globals([Marked]):
        assert type(again(marked)) is Marked


def test_a_parameter_in_another_order_gets_memory_of_its_own():
    weight = nn.Parameter(braze.ones(2))
    weight.data = braze.arange(6.0).reshape(2, 3).t()
    back = again(weight)
    assert_same(back, weight)
    assert back.is_contiguous() and back._base is None


def test_a_training_state_comes_back():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = braze.optim.Adam(model.parameters())
    model(braze.randn(4, 3)).sum().backward()
    optimizer.step()
    back = again({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert type(back["model"]) is OrderedDict and back["model"]._metadata["0"] == {"version": 1}
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    other.load_state_dict(back["model"])
    for one, two in zip(other.parameters(), model.parameters(), strict=True):
        assert_same(one, two)
    assert back["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]


def test_whole_modules_need_trust():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    with pytest.raises(pickle.UnpicklingError) as caught:
        again(model)
    for part in (
        "braze.nn.modules.containers.Sequential",
        "add_safe_globals",
        "weights_only=False",
    ):
        assert part in str(caught.value)
    back = again(model, weights_only=False)
    assert repr(back) == repr(model)
    x = braze.ones(2, 3)
    np.testing.assert_array_equal(back.eval()(x).detach(), model.eval()(x).detach())


def test_what_is_allowed_can_be_changed():
    value = [Point(braze.ones(2)), defaultdict(list)]
    with pytest.raises(pickle.UnpicklingError, match="Point"):
        again(value)
    assert serialization.get_safe_globals() == []
    with serialization.safe_globals([Point, defaultdict, list]):
        point, table = again(value)
        assert point.x.tolist() == [1, 1] and table["a"] == []
        assert Point in serialization.get_safe_globals()
    assert serialization.get_safe_globals() == []
    serialization.add_safe_globals([(Point, f"{Point.__module__}.Point"), Slotted])
    slotted = Slotted()
    slotted.x = 3
    assert again([Point(1), slotted])[1].x == 3
    serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        again(Point(1))
    with pytest.raises(ValueError, match="tuple of two"):
        serialization.add_safe_globals([(Point,)])
    with pytest.raises(TypeError, match="full name"):
        serialization.add_safe_globals([(Point, 3)])


def test_what_a_file_names_is_told_without_loading_it(tmp_path):
    braze.save([Point(1), braze.ones(2), OrderedDict(a=1)], tmp_path / "x.pt")
    names = serialization.get_unsafe_globals_in_checkpoint(tmp_path / "x.pt")
    assert f"{Point.__module__}.Point" in names
    assert not {"torch._utils._rebuild_tensor_v2", "collections.OrderedDict"} & set(names)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_pickle_protocol(protocol):
    value = {
        "x": braze.arange(3.0),
        "rest": [1, -5, 2.5, "ü\n", b"b", (1, 2), {3}, None, True, 10**30],
    }
    value["long"] = list(range(2000))
    memory = io.BytesIO()
    if protocol == 0:
        with pytest.raises(ValueError, match="protocol 0"):
            braze.save(value, memory, pickle_protocol=protocol)
        return
    braze.save(value, memory, pickle_protocol=protocol)
    memory.seek(0)
    back = braze.load(memory)
    assert back["rest"] == value["rest"] and back["long"] == value["long"]
    assert_same(back["x"], value["x"])


def test_map_location():
    value = [braze.arange(3.0), braze.ones(2)]
    seen = []

    def keep(storage, location):
        seen.append((len(storage), location))
        return storage if len(seen) == 1 else None

    for where in ("cpu", braze.device("cpu"), {"cpu": "cpu"}, {"cuda:0": "cpu"}, keep):
        back = again(value, map_location=where)
        assert [x.tolist() for x in back] == [[0, 1, 2], [1, 1]]
    assert seen == [(3, "cpu"), (2, "cpu")]
    with pytest.raises(RuntimeError, match="not available"):
        again(value, map_location="cuda")
    with pytest.raises(RuntimeError, match="map_location='cpu'"):
        again(value, map_location={"cpu": "cuda:0"})
    with pytest.raises(TypeError, match="map_location"):
        again(value, map_location=3)


def test_a_mapped_file_is_not_copied_and_not_changed(tmp_path):
    path = tmp_path / "x.pt"
    braze.save({"x": braze.arange(1000.0), "y": braze.ones(3, dtype=braze.bfloat16)}, path)
    before = path.read_bytes()
    back = braze.load(path, mmap=True)
    assert back["x"]._handle.storage.is_shared
    assert back["x"].data_ptr() % 64 == back["y"].data_ptr() % 64 == 0
    assert_same(back["x"] + 1, braze.arange(1000.0) + 1)
    back["x"].mul_(2)
    assert back["x"][7].item() == 14.0 and path.read_bytes() == before
    with pytest.raises(ValueError, match="path"):
        braze.load(io.BytesIO(before), mmap=True)
    braze.save(3, path, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="mmap can only be used"):
        braze.load(path, mmap=True)


def test_files_and_what_is_none(tmp_path):
    path = tmp_path / "x.pt"
    braze.save(1, str(path))
    with open(path, "rb") as file:
        assert braze.load(file) == 1
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "x/data.pkl"
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    braze.save(2, link)
    assert link.is_symlink() and braze.load(path) == 2
    with pytest.raises(AttributeError, match="'write' attribute"):
        braze.save(1, 3)
    with pytest.raises(AttributeError, match="seekable"):
        braze.load(3)
    with pytest.raises(FileNotFoundError):
        braze.load(tmp_path / "none")
    with pytest.raises(RuntimeError, match="Parent directory"):
        braze.save(1, tmp_path / "none" / "x.pt")
    with pytest.raises(EOFError, match="Ran out of input"):
        braze.load(io.BytesIO())
    with pytest.raises(RuntimeError, match="pickle_module"):
        braze.load(path, pickle_module=pickle)


def test_files_only_need_to_write_and_several_objects_follow_each_other():
    class Pipe:
        data = b""

        def write(self, data):
            self.data += bytes(data)

    pipe = Pipe()
    braze.save(braze.ones(3), pipe)
    assert braze.load(io.BytesIO(pipe.data)).tolist() == [1, 1, 1]
    memory = io.BytesIO()
    for value in (1, braze.ones(2)):
        braze.save(value, memory, _use_new_zipfile_serialization=False)
    memory.seek(0)
    assert braze.load(memory) == 1 and braze.load(memory).tolist() == [1, 1]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    braze.save("old", path)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        braze.save([braze.ones(3), lambda: 0], path)

    class Full(Exception):
        pass

    class Unwritable:
        def __reduce__(self):
            raise Full

    with pytest.raises(Full):
        braze.save(Unwritable(), path)
    assert os.listdir(tmp_path) == ["x.pt"] and braze.load(path) == "old"


def test_another_pickle_module_must_be_built_on_pythons():
    class Module:
        Pickler = pickle._Pickler

    class Other:
        class Pickler:
            pass

    memory = io.BytesIO()
    braze.save(braze.ones(2), memory, pickle_module=Module)
    memory.seek(0)
    assert braze.load(memory).tolist() == [1, 1]
    with pytest.raises(ValueError, match="pickle_module"):
        braze.save(1, memory, pickle_module=Other)


# Files of PyTorch's -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_files_of_pytorch(name):
    back = braze.load(FILES / name)
    for kind, tensor in back["dtypes"].items():
        assert_same(tensor, braze.arange(2).to(getattr(braze, kind)))
    assert_same(back["base"], braze.arange(12.0).reshape(3, 4))
    assert back["turned"].stride() == (1, 4) and back["column"].tolist() == [1, 5, 9]
    back["base"][2, 1] = -1.0
    assert back["turned"][1, 2].item() == back["column"][2].item() == -1.0
    assert back["expanded"].stride() == (0,) and back["expanded"].tolist() == [5, 5, 5]
    assert back["empty"].shape == (0, 3) and back["scalar"].item() == 2.5
    assert back["conjugate"].tolist() == [1 - 2j]
    assert_same(back["parameter"], nn.Parameter(braze.tensor([1.0, 2.0])))
    assert_same(back["frozen"], nn.Parameter(braze.tensor([3]), requires_grad=False))
    assert back["noted"].note == "an attribute"
    assert back["sparse"].to_dense().tolist() == [[0, 2], [3, 0]]
    assert list(back["ordered"]) == ["b", "a"]
    expected = [None, True, 1, -(10**30), 2.5, 1 + 2j, "text", b"bytes", (1,), {1, 2}]
    assert back["plain"] == expected
    assert back["types"] == [braze.float32, "cpu", braze.Size([2, 3]), braze.strided]


def test_layers_of_pytorch_give_the_recorded_output():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    saved = braze.load(FILES / "layers.pth")
    model.load_state_dict(saved["state"])
    model.eval()
    np.testing.assert_allclose(model(*saved["inputs"]).detach(), saved["output"], atol=1e-6)
    # The whole module, which names classes of PyTorch's.
    with pytest.raises(pickle.UnpicklingError, match="torch.nn.modules.container.Sequential"):
        braze.load(FILES / "module.pth")
    whole = braze.load(FILES / "module.pth", weights_only=False)
    assert repr(whole) == repr(model)
    np.testing.assert_allclose(whole.eval()(*saved["inputs"]).detach(), saved["output"], atol=1e-6)
