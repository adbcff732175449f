"""Storage: alignment, recycling that respects views, sharing with NumPy, the cache's limits."""

import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.ir import dtypes
from braze.runtime.config import default_storage_cache_bytes
from braze.runtime.storage import (
    ALIGNMENT,
    HUGE_BLOCK_BYTES,
    Storage,
    cached_bytes,
    empty_cache,
    set_cache_limit,
    size_class,
    sized,
)

SIZES = [0, 1, 63, 64, 65, 512, 513, 4096, 100_000, 1 << 20, (1 << 20) + 1, 4 << 20, 9_000_000]


@pytest.fixture(autouse=True)
def empty():
    gc.collect()
    set_cache_limit(256 << 20)
    yield
    set_cache_limit(default_storage_cache_bytes())


@given(st.integers(0, 1 << 48))
def test_size_class(nbytes):
    capacity = size_class(nbytes)
    assert capacity >= max(nbytes, 1) and capacity % ALIGNMENT == 0
    assert capacity <= max(nbytes * 9 // 8 + 1, nbytes + 64)
    assert size_class(capacity) == capacity
    assert size_class(max(nbytes - 1, 0)) <= capacity


@pytest.mark.parametrize("nbytes", SIZES)
def test_alignment_and_use_of_every_byte(nbytes):
    storage = Storage(nbytes)
    assert storage.nbytes == nbytes and storage.address != 0
    assert storage.address % (2 << 20 if nbytes >= HUGE_BLOCK_BYTES else ALIGNMENT) == 0
    view = storage.array(np.uint8, nbytes)
    view[:] = 7
    assert int(view.sum(dtype=np.int64)) == 7 * nbytes
    assert not storage.is_shared and not storage.readonly


@pytest.mark.parametrize("nbytes", SIZES)
def test_memory_is_recycled(nbytes):
    storage = Storage(nbytes)
    address = storage.address
    del storage
    assert cached_bytes() == size_class(nbytes)
    again = Storage(nbytes)
    assert again.address == address and cached_bytes() == 0


def test_inlined_size_class_agrees():
    for nbytes in [*range(1200), *SIZES, 70_001, 999_999]:
        empty_cache()
        Storage(nbytes)
        assert cached_bytes() == size_class(nbytes)


def test_several_storages_are_as_single_ones():
    made = Storage.several([sized(nbytes) for nbytes in SIZES])
    assert [storage.nbytes for storage in made] == SIZES
    assert all(storage.address % ALIGNMENT == 0 for storage in made)
    assert len({storage.address for storage in made}) == len(SIZES)
    addresses = [storage.address for storage in made]
    del made
    assert cached_bytes() == sum(map(size_class, SIZES))
    again = Storage.several([sized(nbytes) for nbytes in SIZES])
    assert sorted(storage.address for storage in again) == sorted(addresses)
    assert cached_bytes() == 0 and Storage.several([]) == []


def test_bytes_are_copied():
    storage = Storage.from_bytes(b"braze")
    assert bytes(storage.array(np.uint8, 5)) == b"braze" and not storage.is_shared
    assert Storage.from_bytes(b"").nbytes == 0


def test_a_view_keeps_the_memory():
    for derive in (
        lambda view: view,
        lambda view: view[1:, ::2],
        lambda view: view.T,
        lambda view: view.view(np.uint8),
        lambda view: memoryview(view),
        lambda view: np.broadcast_to(view, (3, 4, 8)),
    ):
        storage = Storage(128)
        alive = weakref.ref(storage)
        storage.array(np.float32, (4, 8))[...] = 5
        kept = derive(storage.array(np.float32, (4, 8)))
        address = storage.address
        del storage
        others = [Storage(128) for _ in range(20)]
        assert alive() is not None and address not in [other.address for other in others]
        for other in others:
            other.array(np.uint8, 128)[:] = 0
        value = np.asarray(kept)
        assert np.array_equal(value, value.view(value.dtype)) and value.any()
        if value.dtype == np.float32:
            assert (value == 5).all()
        del kept, value, others, other
        assert alive() is None
        assert address in [s.address for s in [Storage(128) for _ in range(21)]]


def test_views_by_dtype_shape_and_offset():
    storage = Storage(64)
    storage.array(np.int32, 16)[:] = np.arange(16)
    assert storage.array(np.int32, (2, 3), 8).tolist() == [[2, 3, 4], [5, 6, 7]]
    assert storage.array(np.int64, (), 8).item() == 2 + (3 << 32)
    assert storage.array(np.float32, (0, 5), 64).shape == (0, 5)
    assert storage.array(np.int32, (4, 4)).flags.writeable
    with pytest.raises(ValueError, match=r"shape \(4, 4\) and dtype int64 at byte 0 exceeds 64"):
        storage.array(np.int64, (4, 4))
    for shape, offset in (((16,), 4), ((1,), 64), ((2,), -4), (-1, 0), ((-1, 2), 0)):
        with pytest.raises(ValueError):
            storage.array(np.int32, shape, offset)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_its_first_element_is_a_number(dtype):
    for value in (0, 1, 100.5, -3.25, float("inf"), float("nan")):
        with np.errstate(all="ignore"):
            array = np.array([value, 7]).astype(dtype.numpy)
        number = Storage.from_numpy(array).number(dtype)
        wide = array.astype(np.float32) if dtype is dtypes.bf16 else array
        assert type(number) is type(wide[0].item())
        np.testing.assert_equal(number, wide[0].item())


def test_reading_a_number_makes_no_array(monkeypatch):
    storage = Storage.from_numpy(np.array([2.5], np.float32))
    monkeypatch.setattr(Storage, "array", None)
    assert storage.number(dtypes.f32) == 2.5


def test_bad_sizes():
    with pytest.raises(ValueError, match="-1 bytes"):
        Storage(-1)
    with pytest.raises(TypeError):
        Storage("many")
    with pytest.raises(MemoryError):
        Storage(1 << 55)


def test_from_numpy_shares_memory():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    alive = weakref.ref(array)
    storage = Storage.from_numpy(array)
    assert storage.is_shared and not storage.readonly
    assert storage.address == array.ctypes.data and storage.nbytes == 48
    storage.array(np.float32, (3, 4))[1, 1] = -1
    assert array[1, 1] == -1
    view = storage.array(np.float32, 12)
    del array, storage
    assert alive() is not None and view[5] == -1
    del view
    assert alive() is None and cached_bytes() == 0


def test_from_numpy_copies_what_cannot_be_shared():
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    raw = np.zeros(33, np.uint8)
    start = 1 - raw.ctypes.data % 2
    cases = [base.T, base[:, ::2], np.broadcast_to(base[0], (3, 6)), base.astype(">i4"),
             raw[start : start + 32].view(np.int32)]  # fmt: skip
    for array in cases:
        storage = Storage.from_numpy(array)
        assert not storage.is_shared and storage.nbytes == array.nbytes
        assert np.array_equal(storage.array(np.int32, array.shape), array)


def test_from_numpy_odd_cases():
    assert Storage.from_numpy(np.zeros((0, 3))).nbytes == 0
    assert Storage.from_numpy(np.array(2.5)).array(np.float64, ()).item() == 2.5
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    storage = Storage.from_numpy(frozen)
    assert storage.readonly and storage.is_shared
    with pytest.raises(ValueError):
        storage.array(np.float64, 3)[0] = 1
    for wrong in ([1, 2], np.array([object()])):
        with pytest.raises(TypeError):
            Storage.from_numpy(wrong)


def test_the_limit_holds():
    set_cache_limit(64 << 20)
    for _ in range(3):
        blocks = [Storage(n << 20) for n in (2, 3, 5, 8, 13, 21, 34)] + [
            Storage(n) for n in range(1000, 700_000, 1000)
        ]
        del blocks
        assert 0 < cached_bytes() <= 64 << 20
    set_cache_limit(1 << 20)
    Storage(1 << 19)
    assert cached_bytes() == 1 << 19, "a class too large for its part counts among the large ones"
    set_cache_limit(0)
    for nbytes in SIZES:
        Storage(nbytes)
    assert cached_bytes() == 0
    with pytest.raises(ValueError):
        set_cache_limit(-1)


def test_a_new_size_takes_the_place_of_old_ones():
    set_cache_limit(64 << 20)
    Storage(40 << 20)
    assert cached_bytes() == 40 << 20
    Storage(30 << 20)
    assert cached_bytes() == size_class(30 << 20)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_goes_back_to_the_system():
    storage = Storage(64 << 20)
    storage.array(np.uint8, 64 << 20)[:] = 1
    high = resident()
    del storage
    assert resident() > high - (32 << 20)
    empty_cache()
    assert cached_bytes() == 0 and resident() < high - (32 << 20)


def test_large_blocks_ask_for_huge_pages():
    storage = Storage(8 << 20)
    smaps = Path("/proc/self/smaps").read_text()
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps):
        start, end = (int(x, 16) for x in block.split()[0].split("-"))
        if start <= storage.address < end:
            flags = re.search(r"VmFlags:(.*)", block)
            assert flags is not None and " hg" in flags[1]
            return
    pytest.fail("the block is not mapped")


def test_threads_never_share_a_block():
    failures: list[str] = []

    def work(mark: int) -> None:
        generator = np.random.default_rng(mark)
        for _ in range(1500):
            nbytes = int(generator.choice([64, 1000, 5000, 2 << 20]))
            storage = Storage(nbytes)
            view = storage.array(np.int64, nbytes // 8)
            view[:8] = mark
            view[-1] = mark
            time.sleep(0)
            if not ((view[:8] == mark).all() and view[-1] == mark):
                failures.append(f"{mark}: {view[:8]}")
            del storage, view

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_recycling_is_cheap():
    """The bound is loose: it is there to catch a system call or a scan on the hot path."""
    count = 2000
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(count):
            Storage(4096)
        best = min(best, time.perf_counter() - start)
    assert best / count < 5e-6


def test_exit_is_quiet():
    """Storages in globals, in cycles and under views die at interpreter exit without a word."""
    program = """
import numpy as np
from braze.runtime.storage import Storage
small, large = Storage(100), Storage(16 << 20)
view = Storage(4096).array(np.float32, 1024)
class Cycle: pass
cycle = Cycle(); cycle.self = cycle; cycle.storage = Storage(8 << 20)
try:
    Storage(-1)
except ValueError:
    pass
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
