"""Packages: they run in a process without a compiler, and damage never goes unnoticed."""

import io
import json
import os
import random
import subprocess
import sys
import threading
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_compiler import toy_artifact

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.dtypes import ALL
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.graph import Location
from braze.ir.target import TargetError, named_target
from braze.runtime import compiler, package_format, package_instance, package_targets
from braze.runtime.cpu import host_target
from braze.runtime.package import LoadedModel, PackageError, load
from braze.runtime.package_format import Archive
from braze.runtime.package_writer import write_package
from braze.runtime.weights import pack_weights, unpack_weights

WEIGHTS = {"w": np.array([1, 2, 3], np.float32), "s": 0.5}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(compiler, "compile_artifact", toy_artifact)


def affine(aliases=None):
    """x * w + s, and x * w"""
    b = Builder("affine")
    x = b.input(ir.tensor_type(ir.f32, (3,)), name="x")
    w = b.input(ir.tensor_type(ir.f32, (3,)), role="param", name="w")
    s = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="s")
    product = b.mul(x, w)
    return b.finish([b.add(product, s), product], aliases)


def checking():
    b = Builder("checking")
    x = b.input(ir.tensor_type(ir.f32, (2,)), name="x")
    i = b.input(ir.tensor_type(ir.i64, ()), name="i")
    k = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="k")
    with b.at(Location("model.py", 3)):
        b.check_range(i, low=0, high=10, message="embedding")
    return b.finish([b.mul(x, k)])


X = np.array([10, 20, 30], np.float32)
EXPECTED = ([10.5, 40.5, 90.5], [10, 40, 90])


def lists(results):
    return tuple(array.tolist() for array in results)


@pytest.fixture
def file(tmp_path):
    return write_package(tmp_path / "affine.brz", affine(), WEIGHTS)


def test_a_package_runs(file):
    model = load(file)
    assert lists(model(X)) == EXPECTED
    assert lists(model(2 * X))[1] == [20, 80, 180]
    assert [slot.name for slot in model.inputs] == ["x"]
    assert model.target == host_target()
    assert model.graph_text == str(affine())
    assert repr(model) == (
        "<braze model affine(x: f32[3]) -> (f32[3], f32[3]) for " + host_target().name + ">"
    )


def test_results_are_new_arrays(file):
    model = load(file)
    first = model(X)
    kept = [array.copy() for array in first]
    second = model(3 * X)
    for array, copy, other in zip(first, kept, second, strict=True):
        assert np.array_equal(array, copy)
        assert not np.shares_memory(array, other)
        array[...] = 0  # and writable


def test_any_layout_is_taken(file):
    wide = np.arange(12, dtype=np.float32).reshape(4, 3)[:, 1]
    model = load(file)
    expected = lists(model(wide[:3].copy()))
    assert lists(model(wide[:3])) == expected
    assert lists(model(wide[:3].astype(">f4"))) == expected
    frozen = wide[:3].copy()
    frozen.flags.writeable = False
    assert lists(model(frozen)) == expected


def test_arrays_at_odd_addresses_are_taken(file):
    raw = np.zeros(40, np.uint8)
    odd = raw[1:13].view(np.float32)
    odd[:] = X
    assert odd.ctypes.data % 4 and lists(load(file)(odd)) == EXPECTED


def test_large_results_are_new_arrays_too(tmp_path):
    b = Builder("large")
    x = b.input(ir.tensor_type(ir.f32, (1 << 16,)), name="x")
    model = load(write_package(tmp_path / "m.brz", b.finish([b.add(x, x), b.mul(x, x)]), {}))
    given = np.arange(1 << 16, dtype=np.float32)
    first = model(given)
    second = model(given + 1)
    assert np.array_equal(first[0], given + given) and np.array_equal(second[1], (given + 1) ** 2)
    assert not np.shares_memory(first[0], second[0])


def test_what_does_not_fit_is_named(file):
    model = load(file)
    with pytest.raises(TypeError, match=r"model affine takes 1 inputs \(x\), given 2"):
        model(X, X)
    with pytest.raises(DTypeError) as caught:
        model(X.astype(np.float64))
    assert str(caught.value) == (
        "[affine] input x must be f32[3], given float64[3]; convert it with "
        ".astype(numpy.float32)"
    )
    with pytest.raises(ShapeError) as caught:
        model(X[None])
    assert str(caught.value) == "[affine] input x must be f32[3], given shape [1, 3]"


def test_structures_names_and_numbers(tmp_path):
    path = tmp_path / "m.brz"
    write_package(
        path, affine(), {"w": WEIGHTS["w"]}, input_names=["picture", "shift"],
        structure=json.dumps(
            {"dict": [["out", {"tuple": [1, {"list": [0, None]}]}], ["again", 1]]}
        ),
    )  # fmt: skip
    model = load(path)
    assert [slot.name for slot in model.inputs] == ["picture", "shift"]
    for shift in (0.5, np.float32(0.5), np.array(0.5, np.float32)):
        found = model(X, shift)
        assert isinstance(found["out"], tuple) and isinstance(found["out"][1], list)
        assert lists(found["out"][:1]) == EXPECTED[1:]
        assert found["out"][1][0].tolist() == EXPECTED[0] and found["out"][1][1] is None
        assert found["again"].tolist() == EXPECTED[1]
    with pytest.raises(DTypeError, match=r"input shift must be f32\[\], given float64\[\]"):
        model(X, np.array(0.5))


def test_one_output_is_no_tuple_and_checks_raise(tmp_path):
    model = load(write_package(tmp_path / "m.brz", checking(), {}))
    x = np.ones(2, np.float32)
    assert model(x, np.array(9), 3).tolist() == [3, 3]
    with pytest.raises(IndexError, match=r"\[embedding\] index 12 is out of range \[0, 10\)"):
        model(x, np.array(12), 3)
    assert model(x, np.array(9), 4).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {}}, "no value is given for param w"),
        ({"weights": {**WEIGHTS, "v": X}}, "graph @affine has no inputs v"),
        ({"weights": {"w": X[:2]}}, r"weight w must be f32\[3\], given float32\[2\]"),
        ({"weights": {"w": [1, 2, 3]}}, r"weight w must be f32\[3\], given int64\[3\]"),
        ({"graph": affine({0: 1})}, "output 0 of graph @affine overwrites its input w"),
        ({"input_names": ["a", "b"]}, r"has 1 arguments \(x\), given the names a, b"),
        ({"structure": '{"list": [0, 2]}'}, "2 is neither a container nor the number of an output"),
        ({"structure": '{"tuple": [true]}'}, "True is neither a container nor the number"),
        ({"structure": '{"tuple": [], "list": []}'}, "is neither a container nor"),
        ({"structure": '{"dict": [[1, 0]]}'}, r"\[1, 0\] is no \[key, value\]"),
        ({"structure": '{"dict": 3}'}, "is neither a container nor"),
        ({"structure": "f(0)"}, "is not JSON"),
        ({"targets": []}, "no target is given"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, changes, message):
    arguments = {"graph": affine(), "weights": WEIGHTS, **changes}
    with pytest.raises(PackageError, match=message):
        write_package(tmp_path / "m.brz", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_unknown_target(tmp_path):
    with pytest.raises(TargetError, match="no target is called 'z80'"):
        write_package(tmp_path / "m.brz", affine(), WEIGHTS, targets=["z80"])


def test_equal_packages_are_equal_files(file, tmp_path):
    again = write_package(tmp_path / "again.brz", affine(), WEIGHTS)
    assert again.read_bytes() == file.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["affine.brz", "again.brz"]


def test_other_tools_can_read_it(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [
            "mimetype", "graph.ir", "code/host/0.o", "code/host/pool.o", "compiled/0.ir",
            "compiled.json", "weights.safetensors", "manifest.json",
        ]  # fmt: skip
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        weights = safetensors.numpy.load(archive.read("weights.safetensors"))
        # A single number is a constant of the code.
        assert list(weights) == ["w"] and weights["w"].tolist() == [1, 2, 3]
        assert "graph @affine" in archive.read("graph.ir").decode()
        assert json.loads(archive.read("manifest.json"))["name"] == "affine"


# Damage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile_artifact", toy_artifact)
        path = tmp_path_factory.mktemp("whole") / "affine.brz"
        return write_package(path, affine(), WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def damaged_file(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "m.brz"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_flips_are_found_or_harmless(whole, damaged_file, data):
    places = data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=4))
    changed = bytearray(whole)
    for position in places:
        changed[position] ^= 1 << data.draw(st.integers(0, 7))
    damaged_file.write_bytes(changed)
    try:
        Archive(damaged_file)
    except PackageError as error:
        assert str(damaged_file) in str(error)
        return
    # Only the zip format's own fields, which are not read, may differ.
    assert lists(load(damaged_file)(X)) == EXPECTED


def mutated(data, rng):
    """Some bytes overwritten, dropped, put in, or exchanged with others."""
    at, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 7, 64, 1000))
    there = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at] + rng.randbytes(length) + data[at + length :]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + rng.randbytes(length) + data[at:]
        case 3:
            return data[:at] + data[there : there + length] + data[at + length :]
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def test_a_thousand_mutations_are_refused_or_harmless(whole, damaged_file):
    rng = random.Random(1)
    refused = 0
    for _ in range(1000):
        damaged_file.write_bytes(mutated(whole, rng))
        try:
            model = load(damaged_file)
        except PackageError as error:
            assert str(damaged_file) in str(error)
            refused += 1
        else:
            assert lists(model(X)) == EXPECTED
    assert refused > 500


@given(st.integers(0), st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_truncation_is_found(whole, damaged_file, length, rest):
    length %= len(whole)
    damaged_file.write_bytes(whole[:length] + rest)
    with pytest.raises(PackageError, match="is truncated|is not a Braze package"):
        load(damaged_file)


@given(st.binary(max_size=500))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_else_is_no_package(damaged_file, data):
    damaged_file.write_bytes(data)
    with pytest.raises(PackageError, match="is not a Braze package"):
        load(damaged_file)


def test_the_damaged_entry_is_named(whole, damaged_file):
    seen = set()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        for info in archive.infolist()[1:]:
            content = archive.read(info)
            at = whole.index(content, info.header_offset)
            for position in (at, at + len(content) // 2, at + len(content) - 1):
                changed = bytearray(whole)
                changed[position] ^= 4
                damaged_file.write_bytes(changed)
                with pytest.raises(PackageError) as caught:
                    load(damaged_file)
                assert f"is damaged: {info.filename} is not what was written" in str(caught.value)
                seen.add(info.filename)
    assert len(seen) == 7


def test_large_weights_stay_in_the_file_and_are_checked_piece_by_piece(tmp_path):
    b = Builder("large")
    x = b.input(ir.tensor_type(ir.f32, (1 << 21,)), name="x")
    w = b.input(ir.tensor_type(ir.f32, (1 << 21,)), role="param", name="w")
    weight = np.arange(1 << 21, dtype=np.float32)
    path = write_package(tmp_path / "m.brz", b.finish([b.add(x, w)]), {"w": weight})
    model = load(path)
    (held,) = model._only._fixed[1:]
    assert held.is_shared and held.readonly and held.address % 64 == 0
    assert np.array_equal(model(weight), 2 * weight)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        place = manifest["entries"]["weights.safetensors"]
        assert len(place["sha256"]) == -(-place["size"] // package_format.PIECE) > 2
        assert archive.testzip() is None
    for name, entry in manifest["entries"].items():
        assert entry["offset"] % 64 == 0, name
    for at in (0, package_format.PIECE, place["size"] - 1):
        at += place["offset"]
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        with pytest.raises(PackageError, match=r"damaged: weights.safetensors is not what"):
            load(path)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        load("no such file.brz")


@pytest.mark.parametrize("newer", [-1, 1])
def test_another_format(whole, damaged_file, newer):
    own = package_format.FORMAT
    before, given = (f"braze-package {number:04d}".encode() for number in (own, own + newer))
    damaged_file.write_bytes(whole.replace(before, given))
    text = f"has format {own + newer}, this Braze reads format {own}"
    with pytest.raises(PackageError, match=text):
        load(damaged_file)


def test_a_package_that_was_written_wrong(tmp_path, monkeypatch):
    """The hashes are right, the contents are not: still a PackageError."""
    path = tmp_path / "m.brz"
    real = package_format.write_archive

    def wrong(path, manifest, entries):
        code = {n: d[:100] if n.endswith("0.o") else d for n, d in entries.items()}
        real(path, manifest, code)

    monkeypatch.setattr("braze.runtime.package_writer.write_archive", wrong)
    write_package(path, affine(), WEIGHTS)
    with pytest.raises(PackageError, match=r"m.brz cannot be loaded: ObjectError"):
        load(path)


# Processors ---------------------------------------------------------------------------------------


def test_the_widest_usable_target_is_taken(tmp_path, monkeypatch):
    targets = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"]
    path = write_package(tmp_path / "m.brz", affine(), WEIGHTS, targets=targets)
    archive = Archive(path)
    for host, chosen in [("x86-64-v3", "x86-64-v3"), ("x86-64-v2", "x86-64-v2")]:
        monkeypatch.setattr(package_targets, "host_runner", lambda host=host: named_target(host))
        assert package_targets.choose(path, archive.manifest["targets"], None)[1].name == chosen
    monkeypatch.undo()
    if host_target().architecture == "x86_64":
        monkeypatch.setattr(package_targets, "host_runner", lambda: named_target("x86-64-v2"))
        assert lists(load(path)(X)) == EXPECTED


def test_another_cpu_is_refused_before_code_is_loaded(tmp_path, monkeypatch):
    targets = ["x86-64-v4", "aarch64"]
    path = write_package(tmp_path / "m.brz", affine(), WEIGHTS, targets=targets)
    monkeypatch.setattr(package_targets, "host_runner", lambda: named_target("x86-64-v3"))

    def loaded(*arguments):
        raise AssertionError("code was loaded")

    monkeypatch.setattr(package_instance, "Executable", loaded)
    with pytest.raises(PackageError) as caught:
        load(path)
    text = str(caught.value)
    assert "is not built for this CPU: x86-64-v4 needs avx512bw, avx512cd, avx512dq" in text
    assert "; aarch64 made for aarch64, this CPU is x86_64" in text


# Processes and threads ----------------------------------------------------------------------------

PROGRAM = """
import sys
import numpy as np
import braze.runtime
model = braze.runtime.load(sys.argv[1])
print(*model(np.array([10, 20, 30], np.float32))[0])
wrong = ("llvmlite", "braze.ir.op", "braze.passes", "braze.codegen", "braze.tensor", "braze.engine", "safetensors")
print(*(m for m in sys.modules if m.startswith(wrong)))
print(*(m for m in sys.modules if m.startswith("braze.") and not m.startswith(("braze.ir", "braze.r"))))
"""  # noqa: E501


def test_a_fresh_process_needs_no_compiler(file):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)],
        env={**os.environ, "BRAZE_CACHE_DIR": ""},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10.5 40.5 90.5\n\n\n"


def test_threads_share_a_model(file):
    model = load(file)
    wrong = []

    def work(number):
        for i in range(200):
            x = np.full(3, number * 1000 + i, np.float32)
            if not np.array_equal(model(x)[1], x * WEIGHTS["w"]):
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert isinstance(model, LoadedModel)


# Weights ------------------------------------------------------------------------------------------


def test_weights_round_trip_and_the_library_reads_them():
    rng = np.random.default_rng(0)
    arrays = {}
    for dtype in ALL:
        for shape in ((), (0, 3), (3, 5)):
            values = rng.uniform(0, 100, shape)
            arrays[f"{dtype.name}{len(shape)}{shape[:1]}"] = np.asarray(values).astype(dtype.numpy)
    data = pack_weights(arrays)
    found = dict(unpack_weights(memoryview(data)))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        start = np.frombuffer(data, np.uint8).ctypes.data
        assert (found[name].ctypes.data - start) % array.dtype.alignment == 0
    foreign = (ml_dtypes.bfloat16, np.complex128)  # NumPy has no such dtype; the library has not
    plain = {n: a for n, a in arrays.items() if a.dtype not in foreign}
    read = safetensors.numpy.load(pack_weights(plain))
    assert {n: a.tolist() for n, a in read.items()} == {n: a.tolist() for n, a in plain.items()}
    # And the other way about.
    theirs = dict(unpack_weights(memoryview(safetensors.numpy.save(plain, {"by": "library"}))))
    assert {n: a.tolist() for n, a in theirs.items()} == {n: a.tolist() for n, a in plain.items()}


@pytest.mark.parametrize(
    "data", [b"", b"1234", b"\xff" * 8, pack_weights({"a": X})[:-1], b"\2\0\0\0\0\0\0\0[]"]
)
def test_bad_weights(data):
    with pytest.raises(ValueError):
        dict(unpack_weights(memoryview(data)))
