"""What runs on CUDA devices: memory, streams, failures that are found late, code that is kept."""

import gc
import os
import subprocess
import sys
import textwrap
import threading

import cuda_device
import numpy as np
import pytest

import braze
from braze.runtime.cuda.memory import DeviceStorage

GPU = "cuda:0"
emulated_only = cuda_device.emulated_only
several = pytest.mark.skipif(braze.cuda.device_count() < 2, reason="needs several GPUs")


def test_what_a_device_says_of_itself():
    assert braze.cuda.is_available() and braze.cuda.device_count() >= 1
    assert braze.cuda.current_device() == 0
    found = braze.cuda.get_device_properties(0)
    assert found.name == braze.cuda.get_device_name() and found.total_memory > 0
    assert braze.cuda.get_device_capability("cuda:0") == (found.major, found.minor)
    assert found.warp_size == 32 and found.max_threads_per_block == 1024
    free, total = braze.cuda.mem_get_info()
    assert 0 < free <= total == found.total_memory
    own = f"sm_{found.major}{found.minor}"
    assert own in braze.cuda.get_arch_list() and braze.cuda.is_initialized()
    assert braze.cuda.is_bf16_supported()
    assert braze.accelerator.current_accelerator() == "cuda"
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        braze.zeros(2, device="cuda:77")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        braze.cuda.set_device(77)


@several
def test_the_current_device():
    with braze.cuda.device(1):
        assert braze.cuda.current_device() == 1
        assert braze.zeros(2, device="cuda").get_device() == 1
        with braze.cuda.device(braze.device("cuda:0")):
            assert braze.ones(2).cuda().get_device() == 0
    assert braze.cuda.current_device() == 0
    x = braze.zeros(2, device="cuda:1")
    with braze.cuda.device_of(x):
        assert braze.cuda.current_device() == 1
    braze.cuda.set_device(1)
    try:
        assert braze.ones(2, device="cuda").get_device() == 1
        seen = []
        thread = threading.Thread(target=lambda: seen.append(braze.cuda.current_device()))
        thread.start()
        thread.join()
        assert seen == [0]  # each thread has its own
    finally:
        braze.cuda.set_device(0)


def test_memory_is_counted():
    gc.collect()
    before = braze.cuda.memory_allocated()
    x = braze.ones(1000, device=GPU) * 2
    braze.cuda.synchronize()
    assert braze.cuda.memory_allocated() - before == 4000
    peak = braze.cuda.max_memory_allocated()
    del x
    gc.collect()
    assert braze.cuda.memory_allocated() == before
    assert braze.cuda.max_memory_allocated() == peak
    braze.cuda.reset_peak_memory_stats()
    assert braze.cuda.max_memory_allocated() == before
    assert braze.cuda.memory_reserved() >= before
    stats = braze.cuda.memory_stats()
    assert stats["allocated_bytes.all.current"] == before
    assert stats["allocation.all.freed"] > 0
    assert f"{before:,}" in braze.cuda.memory_summary()
    braze.cuda.reset_accumulated_memory_stats()
    assert braze.cuda.memory_stats()["allocation.all.allocated"] == 0


def test_memory_is_used_again():
    """With the pool, memory that was freed serves the next tensor; `empty_cache` returns it."""
    program = """
        import braze
        x = braze.ones(5000, device="cuda") * 3
        first = x.data_ptr()
        del x
        held = braze.cuda.memory_reserved()
        assert held >= 20000 and braze.cuda.memory_allocated() < 20000
        y = braze.ones(5000, device="cuda") * 4
        assert y.data_ptr() == first and braze.cuda.memory_reserved() == held
        del y
        braze.cuda.empty_cache()
        assert braze.cuda.memory_reserved() < held
        assert float((braze.ones(3, device="cuda") * 5).sum()) == 15
    """
    run_program(program)


def run_program(program, **environment):
    """A program in a process of its own, on the same devices."""
    support = os.path.dirname(cuda_device.__file__)
    start = f"import sys; sys.path[:0] = [{support!r}, {os.path.dirname(support)!r}]\n"
    if cuda_device.EMULATED:
        start += "from cuda_emulator import build; build.activate()\n"
    variables = {**os.environ, **environment}
    variables.pop("BRAZE_EMULATED_LIBRARY", None)  # which is loaded in this process only
    variables.pop("BRAZE_NO_CUDA_MEMORY_CACHING", None)
    done = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(program)],
        env=variables, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@emulated_only
def test_too_little_memory_is_told_with_what_is_there():
    program = """
        import braze
        kept = braze.ones(300_000, device="cuda") * 2  # the line that took most
        braze.cuda.synchronize()
        try:
            big = braze.ones(600_000, device="cuda") * 3
            braze.cuda.synchronize()
        except braze.cuda.OutOfMemoryError as error:
            print(error)
        assert braze.cuda.memory_stats()["num_ooms"] >= 1
        assert float(kept.sum()) == 600_000  # nothing is broken
        del kept
        assert float((braze.ones(300_000, device="cuda") * 3).sum()) == 900_000
    """
    said = run_program(program, BRAZE_EMULATED_MEMORY=str(2 << 20))
    assert "CUDA out of memory. Tried to allocate 2.29 MiB. GPU 0" in said
    assert "1.14 MiB  f32[300000]@cuda:0 of <string>:" in said


def test_failed_checks_are_found_when_somebody_waits():
    x = braze.arange(4.0, device=GPU)
    i = braze.tensor([1, 9], device=GPU)
    y = x[i]  # the line
    braze.sync()
    z = braze.ones(2, device=GPU) + 1
    braze.sync()
    with pytest.raises(IndexError, match=r"9 is out of range \[0?-?\d*, 4\)[\s\S]*# the line"):
        z.tolist()
    assert z.tolist() == [2, 2]  # it was told once
    del y
    x[i]
    braze.sync()
    with pytest.raises(IndexError, match="9 is out of range"):
        braze.cuda.synchronize()


def test_numpy_runs_in_between():
    a = braze.tensor([[2.0, 1.0], [0.0, 4.0]], device=GPU)
    found = braze.linalg.inv(a + a) @ a
    np.testing.assert_allclose(found.cpu(), 0.5 * np.eye(2), atol=1e-6)
    with pytest.raises(RuntimeError, match=r"[\s\S]*test_cuda_runtime.py"):
        braze.linalg.inv(a * 0).tolist()


def test_interpreting_is_a_way_to_debug():
    stats = braze.stats.snapshot()
    before, braze.config.tier = braze.config.tier, "interpret"
    try:
        x = braze.arange(6.0, device=GPU).reshape(2, 3)
        assert (x @ x.t()).tolist() == [[5, 14], [14, 50]]
    finally:
        braze.config.tier = before
    assert braze.stats.interpreted > stats["interpreted"]
    assert braze.stats.native_calls == stats["native_calls"]


def test_graphs_are_compiled_once_and_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(braze.config, "cache_dir", str(tmp_path))
    x = braze.arange(7.0, device=GPU)
    x.tolist()
    compiles, hits = braze.stats.compiles, braze.stats.disk_hits
    for turn in range(3):
        assert float((x * 1.25 - turn).sum()) == 26.25 - 7 * turn
    assert braze.stats.compiles == compiles + 1
    assert "1 operation" in str(braze.explain()) or "operations" in str(braze.explain())
    from braze.runtime.cuda.entries import clear_executables
    from braze.trie import TRIE, State

    clear_executables()
    monkeypatch.setattr(TRIE, "root", State(None, ()))
    braze.sync()
    y = braze.arange(7.0).to(GPU)
    assert float((y * 1.25 - 1).sum()) == 19.25
    assert braze.stats.compiles + braze.stats.disk_hits > compiles + hits


def test_streams_and_events():
    own = braze.cuda.Stream()
    assert braze.cuda.current_stream() == braze.cuda.default_stream() != own
    start, end = (braze.cuda.Event(enable_timing=True) for _ in range(2))
    with braze.cuda.stream(own):
        assert braze.cuda.current_stream() == own
        start.record()
        x = braze.ones(1000, device=GPU) * 3
        y = x.sum()
        end.record()
    assert braze.cuda.current_stream() == braze.cuda.default_stream()
    end.synchronize()
    assert start.query() and end.query() and start.elapsed_time(end) >= 0
    braze.cuda.default_stream().wait_stream(own)
    assert float(y + 1) == 3001
    own.synchronize()
    assert own.query() and own.cuda_stream != 0 == braze.cuda.default_stream().cuda_stream
    with pytest.raises(RuntimeError, match="enable_timing=True"):
        braze.cuda.Event().elapsed_time(end)


@emulated_only
def test_nothing_is_read_before_it_is_there():
    """With streams that only run when they are waited for, as if the GPU were very slow."""
    from cuda_emulator import control

    with control.options(LAZY=1):
        x = braze.arange(100.0).cuda()
        w = braze.ones(100, device=GPU, requires_grad=True)
        for _ in range(2):
            loss = (w * x).sum()
            loss.backward()
            with braze.no_grad():
                w -= 0.5 * w.grad
            w.grad = None
        np.testing.assert_allclose(w.detach().cpu(), 1 - np.arange(100.0))


def test_threads_share_a_device():
    results = [None] * 4

    def work(i):
        x = braze.full((50,), float(i), device=GPU)
        for _ in range(5):
            x = x * 2 + 1
            braze.sync()
        results[i] = x.tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [[32.0 * i + 31] * 50 for i in range(4)]


def test_each_gpu_has_a_stream_of_random_numbers():
    braze.cuda.manual_seed(3)
    state = braze.cuda.get_rng_state()
    a = braze.rand(5, device=GPU).tolist()
    own = braze.random.get_rng_state()
    braze.cuda.set_rng_state(state)
    assert braze.rand(5, device=GPU).tolist() == a
    assert braze.equal(own, braze.random.get_rng_state())  # the CPU's goes on elsewhere
    braze.cuda.manual_seed_all(3)
    assert braze.rand(5, device=GPU).tolist() == a and braze.cuda.initial_seed() == 3
    generator = braze.Generator(device="cuda").manual_seed(3)
    assert braze.rand(5, device=GPU, generator=generator).tolist() == a
    assert generator.device == GPU
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found"):
        braze.rand(5, device=GPU, generator=braze.Generator())
    assert len(braze.cuda.get_rng_state_all()) == braze.cuda.device_count()
    braze.manual_seed(8)
    x = braze.nn.functional.dropout(braze.ones(20, device=GPU))
    braze.manual_seed(8)
    assert x.tolist() == braze.nn.functional.dropout(braze.ones(20, device=GPU)).tolist()


def test_forked_children_are_told():
    program = """
        import os, braze
        braze.ones(2, device="cuda").tolist()
        child = os.fork()
        if not child:
            try:
                braze.ones(2, device="cuda").tolist()
            except RuntimeError as error:
                os._exit(7 if "forked subprocess" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    run_program(program)


def test_storages():
    from braze.runtime.cuda.devices import cuda_device as device_of

    device = device_of(0)
    storage = DeviceStorage.on(device, 10)
    assert storage.nbytes == 10 and storage.address % 16 == 0 and storage.place == GPU
    with pytest.raises(TypeError, match="host memory first"):
        storage.array(np.uint8, 10)
    with pytest.raises(AttributeError):
        storage.__array_interface__  # noqa: B018
    assert repr(storage).startswith("DeviceStorage(10 bytes on cuda:0")
    with pytest.raises(ValueError, match="-1 bytes"):
        DeviceStorage.on(device, -1)
    with pytest.raises(TypeError):
        DeviceStorage(5)
    assert DeviceStorage.on(device, 0).to_host().nbytes == 0


def test_every_stage_can_be_looked_at(tmp_path, monkeypatch):
    """As text and as files, with the CUDA C."""
    x = braze.ones(4, 5, device=GPU)

    def function(t):
        return (t * 2).sum(1), t.cpu() + 1

    found = braze.inspect(function, x)
    names = found.names()
    assert names[0] == "captured" and f"0 {GPU} fuse" in names and f"0 {GPU} cuda" in names
    assert any(name.endswith(" copy") for name in names) and any("cpu" in name for name in names)
    assert "__global__" in found[f"0 {GPU} cuda"] and "__global__" in str(found)
    braze.cuda.synchronize()
    monkeypatch.setattr(braze.config, "dump_dir", str(tmp_path))
    y = (braze.ones(7, 3, device=GPU) * 5).exp()
    y.sum().item()
    (file,) = tmp_path.glob("*/*-cuda.cu")
    assert "__global__" in file.read_text()
