"""The disk cache: what it keeps, what it refuses and says so, and several processes at once."""

import json
import os
import subprocess
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from toy_compiler import toy_artifact

import braze.ir as ir
from braze.ir.builder import Builder
from braze.runtime import compiler, disk_cache, environment, kept_objects
from braze.runtime.cache import clear_memory, prepare
from braze.runtime.config import config
from braze.runtime.disk_cache import CacheWarning, DiskCache
from braze.runtime.recompiles import log
from braze.runtime.stats import stats
from braze.runtime.storage import Storage


@pytest.fixture
def disk(tmp_path):
    return DiskCache(tmp_path / "cache", 1 << 20)


def test_what_is_stored_is_loaded(disk):
    assert disk.load("a") is None
    disk.store("a", {"n": 1}, [b"one", b"", b"three"])
    disk.store("b", {}, [])
    assert disk.load("a") == ({"n": 1}, (b"one", b"", b"three"))
    assert disk.load("b") == ({}, ())
    assert disk.load("c") is None
    assert os.stat(disk.directory).st_mode & 0o777 == 0o700


def refused(disk, reason):
    """Loading gives nothing, warns once and naming the file, and removes it."""
    path = disk.path("a")
    assert path.exists()
    with pytest.warns(CacheWarning) as caught:
        assert disk.load("a") is None
    (warning,) = caught
    assert str(path) in str(warning.message)
    assert reason in str(warning.message)
    assert not path.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert disk.load("a") is None
        disk.store("a", {"n": 2}, [b"new"])
        assert disk.load("a") == ({"n": 2}, (b"new",))


def test_every_truncation_is_refused(disk):
    disk.store("a", {"n": 1}, [b"object"])
    whole = disk.path("a").read_bytes()
    for length in range(len(whole)):
        disk.path("a").write_bytes(whole[:length])
        short = length < len(disk_cache.MAGIC)
        refused(disk, "not an entry of this cache" if short else "it is damaged")


def test_every_flipped_bit_is_refused(disk):
    disk.store("a", {"n": 1}, [b"object"])
    whole = disk.path("a").read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        disk.path("a").write_bytes(data)
        magic = position < len(disk_cache.MAGIC)
        refused(disk, "not an entry of this cache" if magic else "it is damaged")


def rewritten(disk, change):
    """The file of key "a" with another header, of which the hash is right."""
    data = disk.path("a").read_bytes()
    start = len(disk_cache.MAGIC) + 32 + 8
    length = int.from_bytes(data[start - 8 : start], "little")
    header = json.loads(data[start : start + length])
    change(header)
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data[start + length :]
    disk.path("a").write_bytes(disk_cache.MAGIC + sha256(content).digest() + content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h["environment"].update(braze="0.0.1"), "made by braze 0.0.1, this is"),
        (lambda h: h["environment"].update(llvmlite="0.1"), "made by llvmlite 0.1, this is"),
        (lambda h: h["environment"].update(compiler="abc"), "made by compiler abc, this is"),
        (lambda h: h["environment"].clear(), "made by braze None"),
        (lambda h: h.update(key="b"), "it is another graph's"),
        (lambda h: h.pop("sizes"), "it is of another form"),
        (lambda h: h.update(environment=3), "it is of another form"),
    ],
)
def test_foreign_entries_are_refused(disk, change, reason):
    disk.store("a", {"n": 1}, [b"object"])
    rewritten(disk, change)
    refused(disk, reason)


def test_another_users_entry_is_refused(disk, monkeypatch):
    disk.store("a", {}, [])
    owner = os.stat(disk.path("a")).st_uid
    real = os.fstat

    class Status:
        st_uid = owner + 12345

    monkeypatch.setattr(os, "fstat", lambda descriptor: Status)
    with pytest.warns(CacheWarning, match=f"belongs to user {owner + 12345}"):
        assert disk.load("a") is None
    monkeypatch.setattr(os, "fstat", real)


def test_another_compiler_looks_elsewhere(disk, monkeypatch):
    """After an edit nothing is found, and nobody is warned."""
    disk.store("a", {}, [])
    other = {**environment.environment(), "compiler": "edited"}
    monkeypatch.setattr(disk_cache, "environment", lambda: other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert disk.load("a") is None


def test_the_environment_tells_compilers_apart(monkeypatch, tmp_path):
    found = environment.environment()
    assert set(found) == {"braze", "llvmlite", "compiler"}
    import llvmlite

    assert found["llvmlite"] == llvmlite.__version__
    (tmp_path / "pass.py").write_text("x = 1\n")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(environment, "find_spec", lambda name: Spec)
    digest = environment.compiler_digest.__wrapped__
    first = digest()
    assert digest() == first
    (tmp_path / "pass.py").write_text("x = 2\n")
    assert digest() != first
    (tmp_path / "pass.py").write_text("x = 1\n")
    assert digest() == first
    (tmp_path / "new.py").write_text("")
    assert digest() != first


def test_the_least_recently_used_make_way(tmp_path):
    disk = DiskCache(tmp_path, 10_000)
    for i in range(4):
        disk.store(f"k{i}", {}, [bytes(2000)])
        os.utime(disk.path(f"k{i}"), (1000 + i, 1000 + i))
    disk.load("k0")  # used just now
    disk.store("k4", {}, [bytes(2000)])
    assert [bool(disk.path(f"k{i}").exists()) for i in range(5)] == [True, False, True, True, True]
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 10_000
    disk.store("huge", {}, [bytes(20_000)])
    assert not disk.path("huge").exists()
    assert disk.path("k4").exists()


def test_few_stores_look_at_the_whole_directory(tmp_path, monkeypatch):
    disk = DiskCache(tmp_path, 1_000_000)
    looks = []
    monkeypatch.setattr(DiskCache, "_evict", lambda _, newest: looks.append(newest))
    monkeypatch.setattr(  # by default they depend on the compiler's source, too
        DiskCache, "path", lambda _, key: tmp_path / sha256(key.encode()).hexdigest()
    )
    for i in range(100):
        disk.store(f"k{i}", {}, [bytes(1000)])
    # Of 1,400 bytes, that is, an entry has a chance of a seventh to be the one that looks.
    assert 5 < len(looks) < 30


def test_abandoned_files_are_cleared_away(tmp_path):
    disk = DiskCache(tmp_path, 10_000)
    old, young, foreign = (tmp_path / n for n in (".writing-1", ".writing-2", "notes.txt"))
    for file in (old, young, foreign):
        file.write_bytes(b"half")
    past = time.time() - 100_000
    os.utime(old, (past, past))
    os.utime(foreign, (past, past))
    disk.store("a", {}, [])
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)


def test_a_disk_that_refuses_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    disk = DiskCache(tmp_path / "file" / "cache", 1 << 20)
    with pytest.warns(CacheWarning, match="cannot keep compiled code in .*BRAZE_CACHE_DIR"):
        disk.store("a", {}, [])


def test_a_failed_write_leaves_nothing(disk, monkeypatch):
    disk.store("a", {"n": 1}, [b"old"])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(CacheWarning, match="No space left on device"):
        disk.store("a", {"n": 2}, [b"new"])
    assert [f.name for f in disk.directory.iterdir()] == [disk.path("a").name]
    assert disk.load("a") == ({"n": 1}, (b"old",))


# Through the cache of graphs ----------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "compile_artifact", toy_artifact)
    clear_memory()
    log.clear()
    stats.reset()
    with config.using(tier="auto", cache_dir=str(tmp_path), debug=0, dump_dir=""):
        yield tmp_path
    clear_memory()


def triple(n=3):
    b = Builder("triple")
    x = b.input(ir.tensor_type(ir.f32, (n,)), name="x")
    return b.finish([b.add(b.add(x, x), x)])


def run_triple():
    x, out = Storage.from_numpy(np.array([1, 2, 3], np.float32)), Storage(12)
    prepare(triple()).run([x], [out])
    assert out.array(np.float32, 3).tolist() == [3, 6, 9]


def entry_file():
    return kept_objects.disk_cache().path(prepare(triple())._known.disk_key)


def test_a_second_start_compiles_nothing_and_interprets_nothing(toy):
    run_triple()
    run_triple()
    assert (stats.interpreted, stats.compiles, stats.disk_hits) == (1, 1, 0)
    clear_memory()
    stats.reset()
    run_triple()
    assert (stats.interpreted, stats.compiles, stats.disk_hits) == (0, 0, 1)
    assert stats.native_calls == 1
    assert "loaded from disk" in str(log.explain(1))


@pytest.mark.parametrize("damage", ["flip", "truncate", "facts"])
def test_a_damaged_entry_is_compiled_anew(toy, damage):
    with config.using(tier="compile"):
        run_triple()
        file = entry_file()
        data = bytearray(file.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 16
            file.write_bytes(data)
        elif damage == "truncate":
            file.write_bytes(data[:-100])
        else:
            found = kept_objects.disk_cache().load(prepare(triple())._known.disk_key)
            key = prepare(triple())._known.disk_key
            kept_objects.disk_cache().store(key, {"other": 1}, found[1])
        clear_memory()
        with pytest.warns(CacheWarning) as caught:
            run_triple()
        assert len(caught) == 1 and str(file) in str(caught[0].message)
        assert stats.compiles == 2
        clear_memory()
        run_triple()
        assert (stats.compiles, stats.disk_hits) == (2, 1)


def test_an_object_that_does_not_load_is_compiled_anew(toy):
    with config.using(tier="compile"):
        run_triple()
        key = prepare(triple())._known.disk_key
        facts, (data,) = kept_objects.disk_cache().load(key)
        kept_objects.disk_cache().store(key, facts, [data[:200]])
        clear_memory()
        with pytest.warns(CacheWarning, match="cannot be loaded"):
            run_triple()
        assert stats.compiles == 2


def test_no_directory_keeps_nothing(toy):
    with config.using(cache_dir="", tier="compile"):
        run_triple()
        clear_memory()
        run_triple()
    assert (stats.compiles, stats.disk_hits) == (2, 0)
    assert not list(toy.iterdir())


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from braze.runtime.cache import prepare
from braze.runtime.config import config
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
{before}
import braze.ir as ir
from braze.ir.builder import Builder
b = Builder("triple")
x = b.input(ir.tensor_type(ir.f32, (3,)), name="x")
graph = b.finish([b.add(b.add(x, x), x)])
x, out = Storage.from_numpy(np.array([1, 2, 3], np.float32)), Storage(12)
prepare(graph).run([x], [out])
assert out.array(np.float32, 3).tolist() == [3, 6, 9]
print(stats.compiles, stats.disk_hits, stats.interpreted)
print(*(m for m in sys.modules if m.startswith(("llvmlite", "braze.passes", "braze.codegen"))))
"""
WITH_TOY = """
from toy_compiler import toy_artifact
from braze.runtime import compiler
compiler.compile_artifact = toy_artifact
"""


def start(directory, before="", tier="compile"):
    folder = str(Path(__file__).parent)
    variables = {"BRAZE_CACHE_DIR": str(directory), "BRAZE_TIER": tier, "BRAZE_DEBUG": "0"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(folder=folder, before=before)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    counts, _, modules = out.partition("\n")
    return counts.split(), modules.split()


def test_a_warm_start_imports_no_compiler(tmp_path):
    counts, modules = finished(start(tmp_path, WITH_TOY))
    assert counts == ["1", "0", "0"] and "llvmlite" in modules
    counts, modules = finished(start(tmp_path, tier="auto"))
    assert counts == ["0", "1", "0"]
    assert modules == []


def test_processes_share_a_directory(tmp_path):
    processes = [start(tmp_path, WITH_TOY) for _ in range(3)]
    for process in processes:
        finished(process)
    names = [file.name for file in tmp_path.iterdir()]
    assert len(names) == 2 and all(name.endswith(".entry") for name in names)  # graph and pool
    assert finished(start(tmp_path))[0] == ["0", "1", "0"]
