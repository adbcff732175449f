"""Files of Torch7, which a small writer here makes by the format's description."""

import struct

import numpy as np
import pytest

import braze
from braze.legacy import nn
from braze.utils.serialization import load_lua
from braze.utils.serialization.read_lua_file import T7ReaderException, TorchObject

pytestmark = pytest.mark.usefixtures("interpret")


class Object:
    """An object of a class of Lua."""

    def __init__(self, name, version=1, **own):
        self.name, self.version, self.own = name, version, own


class Writer:
    def __init__(self):
        self.out, self.numbers, self.kept = bytearray(), {}, []

    def put(self, layout, *values):
        self.out += struct.pack("<" + layout, *values)

    def string(self, text):
        self.put("i", len(text))
        self.out += text.encode()

    def number_of(self, value):
        """True if the value is new; its number is written."""
        self.kept.append(value)
        new = id(value) not in self.numbers
        number = self.numbers.setdefault(id(value), len(self.numbers) + 1)
        self.put("i", number)
        return new

    def write(self, value):
        if value is None:
            self.put("i", 0)
        elif isinstance(value, bool):
            self.put("ii", 5, value)
        elif isinstance(value, (int, float)):
            self.put("id", 1, value)
        elif isinstance(value, str):
            self.put("i", 2)
            self.string(value)
        elif isinstance(value, (list, dict)):
            self.put("i", 3)
            if self.number_of(value):
                self.table(value)
        elif isinstance(value, np.ndarray):
            self.put("i", 4)
            if self.number_of(value):
                self.tensor(value)
        else:
            self.put("i", 4)
            if self.number_of(value):
                if value.version is not None:
                    self.string(f"V {value.version}")
                self.string(value.name)
                self.write(value.own)
        return bytes(self.out)

    def table(self, value):
        pairs = enumerate(value, 1) if isinstance(value, list) else value.items()
        self.put("i", len(value))
        for key, item in pairs:
            self.write(key)
            self.write(item)

    def tensor(self, array):
        word = {"f8": "Double", "f4": "Float", "i8": "Long", "u1": "Byte"}[array.dtype.str[1:]]
        base = array if array.base is None else array.base
        assert base.base is None
        self.string("V 1")
        self.string(f"torch.{word}Tensor")
        self.put("i", array.ndim)
        self.put(f"{array.ndim}q", *array.shape)
        self.put(f"{array.ndim}q", *(s // array.itemsize for s in array.strides))
        start, first = (a.__array_interface__["data"][0] for a in (array, base))
        self.put("q", (start - first) // array.itemsize + 1)
        self.put("i", 4)
        number = ("storage", id(base))
        new = number not in self.numbers
        self.put("i", self.numbers.setdefault(number, len(self.numbers) + 1))
        if new:
            self.string("V 1")
            self.string(f"torch.{word}Storage")
            self.put("q", base.size)
            self.out += base.tobytes()


def load(tmp_path, value, **options):
    path = tmp_path / "value.t7"
    path.write_bytes(Writer().write(value))
    return load_lua(path, **options)


def test_plain_values(tmp_path):
    value = {"a": 1, "b": [1.5, True, None, "text"], "c": {}, 2: "two"}
    found = load(tmp_path, value)
    assert found == found and not found == load(tmp_path, value)  # each is itself only
    assert dict(found) == {"a": 1, "b": [1.5, True, None, "text"], "c": [], 2: "two"}
    assert found.b[0] == 1.5
    assert found.missing is None
    shared = [1, 2]
    first, second = load(tmp_path, [shared, shared])
    assert first is second
    one, other = load(tmp_path, {"a": 1}), load(tmp_path, {"a": 1})
    assert one == one and one != other and not one != one
    assert load(tmp_path, [1, 2], list_heuristic=False) != [1, 2]
    assert isinstance(load(tmp_path, 3, int_heuristic=False), float)


def test_tensors_share_their_storage(tmp_path):
    whole = np.arange(12.0, dtype=np.float32)
    parts = [np.ndarray((2, 3), np.float32, whole, 8), whole[::3], np.array([[1, 2]])]
    found = load(tmp_path, parts)
    assert [x.dtype for x in found] == [braze.float32, braze.float32, braze.int64]
    for x, array in zip(found, parts, strict=True):
        np.testing.assert_array_equal(x, array)
    found[0].zero_()
    assert found[1].tolist() == [0.0, 0.0, 0.0, 9.0]


def module(name, version=1, **own):
    return Object(f"nn.{name}", version, **own)


def test_a_network(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 5, 5))
    w, b = rng.normal(size=(4, 3 * 3 * 2)), rng.normal(size=4)
    w2, b2 = rng.normal(size=(2, 48)), rng.normal(size=2)
    std = rng.uniform(0.5, 1, 4)
    net = module(
        "Sequential",
        train=False,
        modules=[
            module(
                "SpatialConvolutionMM",
                nInputPlane=3, nOutputPlane=4, kW=2, kH=3, dW=1, dH=1, padW=0, padH=0,
                weight=w, bias=b, gradWeight=w * 0, gradBias=b * 0,
            ),
            module(
                "SpatialBatchNormalization", 1, affine=False, eps=1e-5, momentum=0.1, train=False,
                running_mean=b * 0, running_std=std,
            ),
            module("Threshold", threshold=0, val=0, inplace=True),
            module("View", size=np.array([2, 48], np.int64)),
            module("Linear", weight=w2, bias=b2, gradWeight=w2 * 0, gradBias=b2 * 0),
            module(
                "ConcatTable",
                modules=[module("Select", dimension=2, index=1), module("Sum", dimension=2)],
            ),
        ],
    )  # fmt: skip
    found = load(tmp_path, net)
    assert isinstance(found, nn.Sequential)
    assert isinstance(found.get(0), nn.SpatialConvolution)
    assert found.get(0).weight.shape == (4, 3, 3, 2)
    first, total = found.forward(braze.tensor(image))
    x = np.zeros((2, 4, 3, 4))
    for i, j in np.ndindex(3, 4):
        x[:, :, i, j] = image[:, :, i : i + 3, j : j + 2].reshape(2, -1) @ w.T + b
    variance = std.reshape(-1, 1, 1) ** -2.0
    x = (x / np.sqrt(variance)).clip(0).reshape(2, 48) @ w2.T + b2
    np.testing.assert_allclose(first, x[:, 0], rtol=1e-6)
    np.testing.assert_allclose(total, x.sum(1), rtol=1e-6)
    found.backward(braze.tensor(image), [first, total])
    assert found.get(4).gradWeight.abs().sum().item() > 0


def test_other_modules_and_criterions(tmp_path):
    found = load(
        tmp_path,
        [
            module("JoinTable", dimension=2),
            module("Transpose", permutations=[[1, 2], [2, 3]]),
            module("HardShrink", **{"lambda": 0.25}),
            module("CrossEntropyCriterion", nll=module("ClassNLLCriterion", weights=np.ones(2))),
            module("LookupTable", None, weight=np.eye(3), gradWeight=np.eye(3), paddingValue=0),
            module("Reshape", size=np.array([2, 2], np.int64)),
        ],
    )
    x = braze.arange(4.0).double()
    assert found[0].dimension == 1
    assert found[1].forward(braze.zeros(2, 3, 4)).shape == (3, 4, 2)
    assert found[2].forward(x / 10).tolist() == [0, 0, 0, 0.3]
    assert found[3].weights.tolist() == [1, 1]
    assert found[4].paddingValue == -1
    assert found[4].forward(braze.tensor([2])).tolist() == [[0, 0, 1]]
    assert found[5].forward(x.view(1, 4)).shape == (1, 2, 2)


def test_unknown_classes(tmp_path):
    value = Object("my.Thing", size=3)
    with pytest.raises(T7ReaderException, match=r"Lua class my\.Thing.*unknown_classes=True"):
        load(tmp_path, value)
    found = load(tmp_path, [value, module("NoSuchLayer", a=1)], unknown_classes=True)
    assert isinstance(found[0], TorchObject)
    assert (found[0].torch_typename(), found[0].size, found[1]["a"]) == ("my.Thing", 3, 1)


def test_damaged_files(tmp_path):
    whole = Writer().write([np.arange(6.0).reshape(2, 3), {"a": 1}, "text"])
    path = tmp_path / "cut.t7"
    for count in range(len(whole)):
        path.write_bytes(whole[:count])
        with pytest.raises(T7ReaderException):
            load_lua(path)
    wrong = bytearray(whole)
    start = whole.index(struct.pack("<qq", 2, 3))
    wrong[start : start + 8] = struct.pack("<q", 1 << 40)
    path.write_bytes(wrong)
    with pytest.raises(T7ReaderException, match="is not in its storage"):
        load_lua(path)
    path.write_bytes(struct.pack("<i", 77))
    with pytest.raises(T7ReaderException, match="unknown type id 77"):
        load_lua(path)
    with pytest.raises(ValueError, match="long_size"):
        load_lua(path, long_size=2)
