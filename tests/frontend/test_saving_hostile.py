"""Files that are damaged or meant to do harm: a clear error, and never more memory than the file
could fill."""

import io
import pickle
import resource
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import braze
from braze.serialization.archive import ArchiveWriter

FILES = Path(__file__).resolve().parent / "files"
CLEAR = (RuntimeError, pickle.UnpicklingError, EOFError)


def archive(pickled, storages=(), extra=()):
    memory = io.BytesIO()
    writer = ArchiveWriter(memory, "archive")
    writer.record("data.pkl", pickled)
    for i, data in enumerate(storages):
        writer.record(f"data/{i}", data)
    for name, data in extra:
        writer.record(name, data)
    writer.finish()
    return memory.getvalue()


def load(data, **named):
    return braze.load(io.BytesIO(data), **named)


class Name:
    """Written as a global by `pickled`."""

    def __init__(self, module, name):
        self.text = module, name


class Storage:
    def __init__(self, kind="FloatStorage", key="0", location="cpu", numel=4):
        self.description = ("storage", Name("torch", kind), key, location, numel)


class _Writer(pickle._Pickler):
    def persistent_id(self, obj):
        return getattr(obj, "description", None) if isinstance(obj, Storage) else None

    def reducer_override(self, obj):
        if isinstance(obj, Name):
            return "name"
        if isinstance(obj, Call):
            return obj.function, obj.args
        return NotImplemented

    def save_global(self, obj, name=None):
        if isinstance(obj, Name):
            self.write(b"c" + "\n".join(obj.text).encode() + b"\n")
        else:
            super().save_global(obj, name)


class Call:
    def __init__(self, module, name, *args):
        self.function = Name(module, name)
        self.function.__class__ = _CallableName
        self.args = args


class _CallableName(Name):
    def __call__(self):
        pass


def pickled(obj):
    memory = io.BytesIO()
    _Writer(memory, 2).dump(obj)
    return memory.getvalue()


def tensor(offset=0, size=(4,), stride=(1,), storage=None, **rest):
    storage = Storage() if storage is None else storage
    args = (storage, offset, size, stride, False, OrderedDict())
    return Call("torch._utils", "_rebuild_tensor_v2", *args, *rest.values())


DATA = struct.pack("<4f", 1, 2, 3, 4)


def test_the_writer_here_writes_what_can_be_loaded():
    assert load(archive(pickled([tensor()]), [DATA]))[0].tolist() == [1, 2, 3, 4]
    assert load(archive(pickled(tensor(1, (2, 2), (2, 0))), [DATA])).tolist() == [[2, 2], [4, 4]]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (tensor(size=(5,)), "out of bounds"),
        (tensor(offset=1), "out of bounds"),
        (tensor(size=(2, 2), stride=(3, 1)), "out of bounds"),
        (tensor(stride=(1 << 62,)), "out of bounds"),
        (tensor(size=(1 << 62, 1 << 62), stride=(1 << 62, 1)), "out of bounds"),
        (tensor(stride=(-1,)), "negative"),
        (tensor(offset=-1), "negative"),
        (tensor(size=(-4,)), "negative"),
        (tensor(size=(1 << 63,), stride=(0,)), "64 bits"),
        (tensor(size=(4.0,)), "sizes"),
        (tensor(size=(4, 1)), "sizes"),
        (tensor(size=(1,) * 65, stride=(1,) * 65), "65 dimensions"),
        (tensor(size="four"), "sizes"),
        (tensor(storage=[1, 2]), "needs a storage"),
        (tensor(storage=Storage(key="1")), "file not found"),
        (tensor(storage=Storage(key="../data.pkl")), "file not found"),
        (tensor(storage=Storage(numel=1 << 40)), "has 16 bytes"),
        (tensor(storage=Storage(numel=3)), "has 16 bytes"),
        (tensor(storage=Storage(numel=-1)), "no storage"),
        (tensor(storage=Storage(kind="QInt8Storage")), "QInt8Storage"),
        (tensor(storage=Storage(location="cuda:0")), "map_location='cpu'"),
        (tensor(storage=Storage(location="tpu")), "tpu"),
        (tensor(metadata={"other": 1}), "unknown properties"),
        (Call("torch._utils", "_rebuild_tensor_v2"), "missing"),
        (Call("torch._utils", "_rebuild_parameter", 3, True, None), "expected a tensor"),
        (Call("builtins", "eval", "1 + 1"), "builtins.eval"),
        (Call("__builtin__", "eval", "1 + 1"), "builtins.eval"),
        (Call("os", "system", "true"), "os.system"),
        (Call("posix", "system", "true"), "posix.system"),
        (Call("builtins", "getattr", 1, "real"), "builtins.getattr"),
        (Call("torch", "load", "x"), "torch.load"),
        (Call("braze.serialization.allowed", "add_safe_globals", []), "add_safe_globals"),
        (Call("builtins", "bytearray", 1 << 40), "bytearray"),
        (Call("_codecs", "encode", "text", "rot13"), "rot13"),
        (Call("torch", "float32"), "not allowed"),
        (Call("torch.serialization", "_get_layout", "torch.sparse_csr"), "sparse_csr"),
        (
            Call("torch._tensor", "_rebuild_from_type_v2", Name("builtins", "set"), 3, (), {}),
            "class of tensors",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(wrong, text):
    with pytest.raises(CLEAR, match=text):
        load(archive(pickled({"x": wrong}), [DATA]))


def test_a_tensor_may_be_larger_than_its_storage_but_takes_no_memory():
    wide = load(archive(pickled(tensor(size=(1 << 50,), stride=(0,))), [DATA]))
    assert wide.shape == (1 << 50,) and wide.stride() == (0,)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (b"\x80\x06N.", "protocol: 6"),
        (b"\x80\x02X\xff\xff\xff\xff.", "Ran out"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "Ran out"),
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", "Ran out"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "Ran out"),
        (b"\x80\x02Nr\xff\xff\xff\xff0j\xff\xff\xff\x7f.", "KeyError"),
        (b"\x80\x02K\x01", "Ran out"),
        (b"\x80\x02.", "pop from empty list"),
        (b"\x80\x02t.", "without a beginning"),
        (b"\x80\x02\x87.", "too little"),
        (b"\x80\x02N}b.", "given a state"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "an instance of"),
        (b"\x80\x02NN\x86Q.", "no storage"),
        (b"\x80\x02N)R.", "is called"),
        (b"\x80\x02]}s.", "stack|IndexError|pop"),
        (b"\x80\x02NNNs.", "put into a NoneType"),
        (b"\x80\x02NNa.", "appended to a NoneType"),
        (b"I" + b"9" * 5000 + b"\n.", "ValueError"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02\xff.", "unknown instruction"),
        (b"S'open\n.", "without quotes"),
    ],
)
def test_pickles_that_make_no_sense_are_refused(code, text):
    with pytest.raises(CLEAR, match=text):
        load(archive(code))


def test_deep_and_folded_values():
    depth = 100_000
    deep = load(archive(b"\x80\x02]" + b"]" * depth + b"a" * depth + b"."))
    assert isinstance(deep, list)
    while deep:
        deep = deep[0]
    itself = load(archive(b"\x80\x02]q\x00h\x00a."))
    assert itself[0] is itself
    # Each level holds the one below twice: hashing the whole takes 2 ** 60 steps.
    folded = b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60)
    )
    for code in (b"}", b"\x8f"):
        rest = b"Ns." if code == b"}" else b"\x90."
        mark = b"" if code == b"}" else b"("
        whole = b"\x80\x04)q\x00" + folded + code + mark + b"h\x3c" + rest
        with pytest.raises(pickle.UnpicklingError, match="too many parts"):
            load(archive(whole))


def test_archives_that_nobody_writes_honestly():
    good = archive(pickled([tensor()]), [DATA])

    def written(**named):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", **named) as file:
            file.writestr("archive/data.pkl", pickled([tensor()]))
            file.writestr("archive/data/0", b"\0" * (1 << 20))
        return memory.getvalue()

    with pytest.raises(RuntimeError, match="compressed"):
        load(written(compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(RuntimeError, match="file not found: archive/data.pkl"):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as file:
            file.writestr("archive/version", "3")
        load(memory.getvalue())
    with pytest.raises(RuntimeError, match="two records"):
        load(archive(pickled([tensor()]), [DATA], [("data/0", DATA)]))
    with pytest.raises(RuntimeError, match="TorchScript"):
        load(archive(b"\x80\x02N.", [], [("constants.pkl", b"")]))
    with pytest.raises(ValueError, match="endianness"):
        load(archive(b"\x80\x02N.", [], [("byteorder", b"middle")]))
    with pytest.raises(RuntimeError, match="no records"):
        load(b"PK\3\4" + b"\0" * 30 + b"PK\5\6" + b"\0" * 18)
    for text, change in {
        "checksum": (DATA, DATA[::-1]),
        "its directory is not one": (b"PK\1\2", b"PK\1\3"),
    }.items():
        with pytest.raises(RuntimeError, match=text):
            load(good.replace(*change))
    # Two directory entries that show the same bytes.
    at = good.rfind(b"PK\1\2")
    place = good.index(b"PK\1\2") + 42
    first = good[place : place + 4]
    overlapping = good[: at + 42] + first + good[at + 46 :]
    with pytest.raises(RuntimeError, match="overlap"):
        load(overlapping)


def test_bytes_the_other_way_round():
    swapped = struct.pack(">4f", 1, 2, 3, 4)
    other = b"big" if sys.byteorder == "little" else b"little"
    assert load(archive(pickled(tensor()), [swapped], [("byteorder", other)])).tolist() == [
        1,
        2,
        3,
        4,
    ]


def test_records_beyond_32_bits_are_found():
    """Sizes and places in the extra fields, as a large file has them."""
    good = bytearray(archive(b"\x80\x02K\x07."))
    at = good.index(b"PK\1\2")
    size = struct.unpack_from("<I", good, at + 24)[0]
    name_size = struct.unpack_from("<H", good, at + 28)[0]
    struct.pack_into("<2I", good, at + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", good, at + 30, 28)
    struct.pack_into("<I", good, at + 42, 0xFFFFFFFF)
    fields = struct.pack("<HH3Q", 1, 24, size, size, 0)
    end = good.rindex(b"PK\5\6")
    directory = bytes(good[at : at + 46 + name_size]) + fields
    whole = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + len(directory), 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert end > at
    assert load(bytes(good[:at]) + directory + whole + locator + last) == 7


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d[:-1], "Ran out"),
        (lambda d: d[:-20], "Ran out"),
        (lambda d: d.replace(struct.pack("<q", 4), struct.pack("<q", 5)), "5 elements where 4"),
        (lambda d: d.replace(struct.pack("<q", 4), struct.pack("<q", -4)), "elements where 4"),
        (lambda d: d.replace(b"M\xe9\x03", b"M\xe8\x03"), "protocol version"),
        (lambda d: d.replace(b"FloatStorage", b"FloatSt0rage"), "no storage|FloatSt0rage"),
    ],
)
def test_damaged_files_of_the_older_format(change, text):
    memory = io.BytesIO()
    braze.save(braze.arange(4.0), memory, _use_new_zipfile_serialization=False)
    good = memory.getvalue()
    assert change(good) != good
    with pytest.raises(CLEAR, match=text):
        load(change(good))


@cache
def real_files():
    small = io.BytesIO()
    braze.save({"x": braze.arange(4.0), "y": [1, "two", braze.ones(2)[1:]]}, small)
    older = io.BytesIO()
    braze.save({"x": braze.arange(4.0)}, older, _use_new_zipfile_serialization=False)
    whole = [(FILES / name).read_bytes() for name in ("zip.pth", "legacy.pth")]
    return [small.getvalue(), older.getvalue(), *whole]


def repaired(data):
    """The archive with right checksums, so that damage reaches what lies behind them."""
    data = bytearray(data)
    at = data.find(b"PK\1\2")
    while at >= 0:
        try:
            (size,) = struct.unpack_from("<I", data, at + 24)
            (header,) = struct.unpack_from("<I", data, at + 42)
            begin = header + 30 + sum(struct.unpack_from("<2H", data, header + 26))
        except struct.error:
            break
        struct.pack_into("<I", data, at + 16, zlib.crc32(data[begin : begin + size]))
        at = data.find(b"PK\1\2", at + 46)
    return bytes(data)


@st.composite
def damaged(draw):
    data = bytearray(draw(st.sampled_from(real_files())))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "set", "cut", "insert"]))
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and data:
            data[at] = draw(st.sampled_from([0, 1, 0x28, 0x2E, 0x52, 0x7F, 0x80, 0xFF]))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(damaged(), st.booleans())
def test_damage_gives_clear_errors_only(data, repair):
    if repair and data[:2] == b"PK":
        data = repaired(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load(data)
    except CLEAR as error:
        assert str(error)
    except ValueError as error:
        assert "endianness" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
