"""PyTorch reads what Braze saved and Braze what PyTorch saved (where torch is installed)."""

import io
import pickle
import struct
import tarfile
from collections import OrderedDict

import models
import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("interpret")

DTYPES = (
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 "
    "complex64 complex128"
).split()
ZIP_OR_LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
WAYS = pytest.mark.parametrize("writer, reader", [(braze, torch), (torch, braze)])


def carried(value, writer, reader, zipped=True, **named):
    memory = io.BytesIO()
    writer.save(value, memory, _use_new_zipfile_serialization=zipped)
    memory.seek(0)
    return reader.load(memory, weights_only=True, **named)


def numbers(tensor):
    return tensor.detach().double().tolist() if not tensor.is_complex() else tensor.tolist()


def seen(value):
    """What a value is, whichever library it is of."""
    if isinstance(value, (torch.Tensor, braze.Tensor)):
        kind = type(value).__name__.removeprefix("Sparse")
        if value.is_sparse:
            return kind, value.is_coalesced(), seen(value._indices()), seen(value._values())
        place = value.stride(), value.storage_offset(), tuple(value.shape)
        attributes = {key: seen(item) for key, item in value.__dict__.items()}
        dtype = str(value.dtype).partition(".")[2]
        return kind, dtype, place, value.requires_grad, numbers(value), attributes
    if isinstance(value, dict):
        return [(key, seen(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [seen(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value).replace("braze.", "torch.")


def everything(library):
    nn = library.nn
    base = library.arange(24.0).reshape(2, 3, 4).clone()
    noted, parameter = library.ones(2), nn.Parameter(library.ones(2))
    noted.note, parameter.note = "here", [1]
    return {
        "dtypes": {name: library.arange(2).to(getattr(library, name)) for name in DTYPES},
        "views": [
            base.permute(2, 0, 1),
            base,
            base[:, 1],
            base[1, ::2],
            base[0].t(),
        ],
        "expanded": library.tensor([5.0]).expand(3, 1),
        "empty": library.zeros(0, 3),
        "scalar": library.tensor(2.5),
        "leaf": library.ones(2, requires_grad=True),
        "parameters": [nn.Parameter(library.ones(2)), nn.Parameter(library.ones(1), False)],
        "noted": [noted, parameter],
        "sparse": [
            library.eye(3).to_sparse(),
            library.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (2,)),
        ],
        "plain": [
            None,
            True,
            1,
            -(1 << 70),
            2.5,
            1 + 2j,
            "ü",
            b"b",
            bytearray(b"a"),
            (1, (2,)),
            {1},
        ],
        "types": [library.float32, library.device("cpu"), library.Size([2, 3]), library.strided],
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
    }


@WAYS
@ZIP_OR_LEGACY
def test_everything_is_carried(writer, reader, zipped):
    value = everything(writer)
    if reader is torch and not zipped:  # which PyTorch does not read from its own files either
        for bits in (16, 32, 64):
            del value["dtypes"][f"uint{bits}"]
    back = carried(value, writer, reader, zipped)
    assert seen(back) == seen(value)
    base = back["views"][1]
    base[1, 1, 1] = 99.0
    assert back["views"][0][1, 1, 1].item() == back["views"][2][1, 1].item() == 99.0


@WAYS
def test_states_of_training_are_carried(writer, reader):
    model = writer.nn.Sequential(writer.nn.Linear(3, 2), writer.nn.Tanh())
    optimizer = writer.optim.Adam(model.parameters(), lr=0.1)
    scheduler = writer.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(2):
        optimizer.zero_grad()
        model(writer.arange(12.0).reshape(4, 3)).pow(2).sum().backward()
        optimizer.step()
        scheduler.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    back = carried({**state, "scheduler": scheduler.state_dict()}, writer, reader)
    other = reader.nn.Sequential(reader.nn.Linear(3, 2), reader.nn.Tanh())
    other.load_state_dict(back["model"])
    following = reader.optim.Adam(other.parameters(), lr=0.5)
    following.load_state_dict(back["optimizer"])
    for pair in ((model, optimizer, writer), (other, following, reader)):
        pair[1].zero_grad()
        pair[0](pair[2].arange(12.0).reshape(4, 3)).pow(2).sum().backward()
        pair[1].step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(one.detach().numpy(), two.detach().numpy(), rtol=1e-5)


def test_the_files_are_laid_out_alike(tmp_path):
    """PyTorch maps a file of Braze's; both find a place for every storage on a multiple of 64."""
    braze.save({"x": braze.arange(5.0), "y": braze.ones(3)}, tmp_path / "x.pt")
    back = torch.load(tmp_path / "x.pt", mmap=True)
    assert back["x"].tolist() == [0, 1, 2, 3, 4] and back["x"].data_ptr() % 64 == 0
    torch.save(back, tmp_path / "y.pt")
    mapped = braze.load(tmp_path / "y.pt", mmap=True)
    assert mapped["x"].tolist() == [0, 1, 2, 3, 4] and mapped["x"].data_ptr() % 64 == 0


def test_the_oldest_format_is_read_as_pytorch_reads_it(tmp_path):
    """Nothing writes it any more; both libraries are given one file of it."""

    def dumped(*values):
        return b"".join(
            value if type(value) is bytes else pickle.dumps(value, 2) for value in values
        )

    class Writer(pickle._Pickler):
        def persistent_id(self, obj):
            return obj.number if isinstance(obj, Number) else None

        dispatch = pickle._Pickler.dispatch

    class Number:
        def __init__(self, number):
            self.number = number

    def kind(name):
        return b"\x80\x02(K\x07X\x03\x00\x00\x00cpuctorch\n" + name + b"\nt."

    obj = io.BytesIO()
    Writer(obj, 2).dump({"x": Number(1), "y": Number(2)})
    tensor = b"\x80\x02(K%cK\x07ctorch\nFloatTensor\nt."
    files = {
        "storages": dumped(1, kind(b"FloatStorage"), struct.pack("<q4f", 4, 1, 2, 3, 4), []),
        "tensors": dumped(
            2,
            tensor % 1,
            struct.pack("<i4x2q2qq", 2, 2, 2, 2, 1, 0),
            tensor % 2,
            struct.pack("<i4xqqq", 1, 2, 2, 1),
        ),
        "pickle": obj.getvalue(),
    }
    path = tmp_path / "x.tar"
    with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for library, named in ((torch, {"weights_only": False}), (braze, {})):
        back = library.load(path, **named)
        assert back["x"].tolist() == [[1, 2], [3, 4]] and back["y"].tolist() == [2, 4]
        back["x"][0, 1] = 9.0
        assert back["y"][0].item() == 9.0
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(RuntimeError, match="tar file is damaged"):
        braze.load(path)


def test_whole_modules_of_pytorch_load_as_ours():
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    )
    model.append(nn.Flatten()).append(nn.Linear(16, 3)).append(nn.Dropout(0.5))
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    back = braze.load(memory, weights_only=False)
    assert isinstance(back, braze.nn.Sequential)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    found, expected = back.eval()(braze.from_numpy(x)), model.eval()(torch.from_numpy(x))
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-4, atol=1e-5)


SHAPES = {"resnet18": [(2, 3, 40, 40)], "lstm": [(2, 5, 4)], "transformer": [(2, 5, 8), (2, 3, 8)]}


@pytest.mark.parametrize("name", SHAPES)
def test_a_saved_network_gives_the_same_output(name, tmp_path):
    torch.manual_seed(0)
    small = {"classes": 10, "width": 8} if name == "resnet18" else {}
    theirs = getattr(models, name)(torch.nn, **small)
    inputs = [torch.randn(shape) for shape in SHAPES[name]]
    if name == "resnet18":
        theirs(*inputs)  # running statistics that differ from the first ones
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    ours = getattr(models, name)(braze.nn, **small)
    ours.load_state_dict(braze.load(tmp_path / "net.pth"))
    arrays = [x.numpy() for x in inputs]
    with torch.no_grad(), braze.no_grad():
        expected = theirs.eval()(*inputs)
        found = ours.eval()(*map(braze.from_numpy, arrays))
        if name == "lstm":
            expected, found = expected[0], found[0]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        # And back, trained on there.
        braze.save(ours.state_dict(), tmp_path / "back.pth")
        theirs.load_state_dict(torch.load(tmp_path / "back.pth"))
        again = theirs(*inputs)
    assert torch.equal(again[0] if name == "lstm" else again, expected)
