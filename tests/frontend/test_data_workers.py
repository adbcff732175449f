"""The workers of a DataLoader: shared memory, seeds, failures, deaths, and what is left behind."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import numpy as np
import pytest
from left_over import shared_files

import braze
from braze.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    default_collate,
    get_worker_info,
    transport,
)


@pytest.fixture(autouse=True)
def nothing_left():
    """After each test there are no more descriptors, shared files or children than before."""
    resource_tracker.ensure_running()  # these two are Python's, and stay
    forkserver.ensure_running()
    gc.collect()
    before = left_over()
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()
    gc.collect()
    assert left_over() == before


def left_over():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), shared_files(), children


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class Numbers(Dataset):
    """Item i is i as a tensor of `size` elements."""

    def __init__(self, n, size=4):
        self.n = n
        self.size = size

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return np.full(self.size, i, np.float32)


class Applied(Numbers):
    """Item i is f(i)."""

    def __init__(self, n, f):
        super().__init__(n)
        self.f = f

    def __getitem__(self, i):
        return self.f(i)


# Memory -------------------------------------------------------------------------------------------


def test_a_worker_without_memory_keeps_the_slots_that_it_has(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    outbox = transport.Outbox(ours, os.getpid())
    outbox.slots, outbox.free = {1: np.zeros(8, np.uint8)}, [1]

    def full(nbytes):
        raise OSError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(transport.engine, "new_block", full)
        with pytest.raises(OSError, match="no memory"):
            outbox.send(0, np.zeros(100, np.uint8))
    assert outbox.free == [1] and list(outbox.slots) == [1]
    ours.close()
    theirs.close()


def test_slots_are_used_again_and_never_while_something_lies_in_them():
    loader = DataLoader(Numbers(64), batch_size=2, num_workers=1)
    kept, addresses = [], set()
    for i, batch in enumerate(loader):
        assert batch[:, 0].tolist() == [2 * i, 2 * i + 1]
        batch.add_(0.5)  # it is this process's own
        addresses.add(batch.data_ptr())
        if i % 8 == 0:
            kept.append(batch[1])
    assert len(addresses) < 16  # of 32 batches
    assert [row[0].item() for row in kept] == [16 * i + 1.5 for i in range(4)]


def test_a_forked_process_keeps_the_batch_that_it_got():
    batches = iter(DataLoader(Numbers(40), batch_size=2, num_workers=1))
    first = next(batches)
    reader, writer = os.pipe()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os.write(writer, bytes(first.numpy().astype(np.uint8).ravel()))
        os._exit(0)
    del first
    list(batches)
    os.write(go, b".")
    assert os.read(reader, 99) == bytes([0] * 4 + [1] * 4)
    os.waitpid(child, 0)
    for fd in (reader, writer, ready, go):
        os.close(fd)


class Box:
    """A type of the user's, with a tensor inside."""

    def __init__(self, x):
        self.x = x


def boxed(examples):
    x = default_collate(examples)
    return Box(x), {"view": x[:, 1:], "bf16": x.bfloat16(), "text": "é" * 20_000, "none": None}


def test_whatever_collation_makes_arrives():
    loader = DataLoader(Numbers(4), batch_size=2, num_workers=1, collate_fn=boxed)
    (box, rest) = list(loader)[1]
    assert isinstance(box, Box) and box.x.tolist() == [[2.0] * 4, [3.0] * 4]
    assert rest["view"].tolist() == [[2.0] * 3, [3.0] * 3] and rest["bf16"].dtype is braze.bfloat16
    assert rest["text"] == "é" * 20_000 and rest["none"] is None
    parameter = DataLoader(
        Numbers(1), num_workers=1, collate_fn=lambda _: braze.nn.Parameter(braze.ones(2))
    )
    (weight,) = list(parameter)
    assert isinstance(weight, braze.nn.Parameter) and weight.requires_grad
    arrays = DataLoader(Numbers(1), num_workers=1, collate_fn=lambda x: (x[0], braze.zeros(0, 3)))
    ((array, empty),) = list(arrays)
    array += 1
    assert array.tolist() == [1.0] * 4 and empty.shape == (0, 3)


# Order and seeds ----------------------------------------------------------------------------------


def test_out_of_order_batches_come_as_they_are_ready():
    received = multiprocessing.Event()

    def after_another(i):
        assert i != 0 or received.wait(60)
        return i

    def slow_first(i):
        time.sleep(0.3 if i == 0 else 0)
        return i

    options = {"batch_size": None, "num_workers": 2}
    seen = []
    for i in DataLoader(Applied(9, after_another), **options, in_order=False):
        seen.append(i)
        received.set()
    assert sorted(seen) == list(range(9)) and seen[0] != 0
    assert list(DataLoader(Applied(9, slow_first), **options)) == list(range(9))


def draw(_):
    return get_worker_info().seed, random.random(), np.random.rand(), braze.initial_seed()


def test_seeds_are_those_of_pytorch():
    (found,) = DataLoader(Applied(1, draw), batch_size=None, num_workers=1)
    seed, number, other, ours = found
    assert ours == seed and number == random.Random(seed).random()
    words = np.random.SeedSequence([0, seed & 0xFFFFFFFF, seed >> 32, 0]).generate_state(4)
    assert other == np.random.RandomState(words).rand()


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(10**9))

    def __len__(self):
        return 2


def test_abandoned_and_nested_iterations_and_a_wrong_length():
    outer = DataLoader(Numbers(6), batch_size=2, num_workers=1)
    inner = DataLoader(Numbers(4), batch_size=2, num_workers=1)
    assert [(len(x), len(y)) for x in outer for y in inner] == [(2, 2)] * 6
    for _ in outer:
        break
    stream = DataLoader(Endless(), num_workers=1)
    assert len(stream) == 2
    with pytest.warns(UserWarning, match="was reported to be 2 .* but 3 samples"):
        for i, _ in enumerate(stream):
            if i == 2:
                break
    with pytest.warns(UserWarning, match="pin_memory"):
        iter(DataLoader(Numbers(2), pin_memory=True))
    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        outer.__iter__().__reduce_ex__(2)


# Failures -----------------------------------------------------------------------------------------


class Custom(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


def fail(kind):
    if kind == 0:
        raise KeyError("the key")
    if kind == 1:
        raise Custom(1, 2)
    if kind == 2:
        return lambda: None  # cannot be pickled
    if kind == 4:

        class Inner(ValueError):
            """No other process can know it."""

        raise Inner
    w = braze.ones(2, requires_grad=True)
    return w * 2


def test_an_exception_that_only_the_worker_knows_keeps_its_name():
    batches = iter(DataLoader(Applied(5, fail), batch_size=None, sampler=[4], num_workers=1))
    with pytest.raises(RuntimeError, match="Caught Inner in DataLoader worker process 0"):
        next(batches)


def test_exceptions_keep_their_type_and_traceback():
    batches = iter(DataLoader(Applied(4, fail), batch_size=None, num_workers=1))
    with pytest.raises(KeyError) as error:
        next(batches)
    assert "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback" in str(error.value)
    assert 'raise KeyError("the key")' in str(error.value)
    with pytest.raises(RuntimeError, match="Caught Custom in DataLoader worker process 0"):
        next(batches)
    with pytest.raises((AttributeError, RuntimeError), match="pickle"):
        next(batches)
    with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)

    def sampler():
        yield 0
        yield 1
        raise OSError("no more indices")

    with pytest.raises(OSError, match="no more indices"):
        list(DataLoader(Numbers(4), sampler=sampler(), num_workers=1))

    def with_workers(_):
        return list(DataLoader(Numbers(2), num_workers=1))

    with pytest.raises(AssertionError, match="daemonic processes are not allowed"):
        list(DataLoader(Applied(2, with_workers), num_workers=1))


def test_a_killed_worker_is_reported_at_once():
    batches = iter(DataLoader(Numbers(1000), batch_size=2, num_workers=2))
    next(batches)
    victim = batches._pool.processes[1].pid
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(
        RuntimeError, match=rf"DataLoader worker \(pid\(s\) {victim}\) exited unexpectedly"
    ) as error:
        for _ in batches:
            pass
    assert time.monotonic() - began < 2
    assert "is killed by signal: Killed" in str(error.value.__cause__)
    assert not any(process.is_alive() for process in batches._pool.processes)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(batches)


def hang(i):
    if i:
        time.sleep(60)
    return i


def test_a_worker_killed_while_it_is_waited_for():
    batches = iter(DataLoader(Applied(4, hang), batch_size=None, num_workers=1))
    assert next(batches) == 0
    os.kill(batches._pool.processes[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(batches)


PROGRAM = """
import os, sys, time
import braze
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever ignores it
from braze.utils.data import DataLoader
class Numbers(braze.utils.data.Dataset):
    def __len__(self): return 1000
    def __getitem__(self, i): return braze.ones(8) * i
def main():
    loader = DataLoader(Numbers(), batch_size=2, num_workers=2, persistent_workers=True)
    batches = iter(loader)
    x = next(batches), next(batches)  # both workers have begun
    print(*[p.pid for p in batches._pool.processes], flush=True)
    if sys.argv[1] == "wait":
        time.sleep(60)
if __name__ == "__main__":
    main()
"""


class Interrupting:
    """Interrupted in its destructor."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def interrupted_while_deleting(i):
    if i:
        Interrupting()
        time.sleep(60)
    return i


def test_an_interrupt_in_a_destructor_ends_the_worker_quietly(capfd):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loader = DataLoader(Applied(4, interrupted_while_deleting), batch_size=None, num_workers=1)
        batches = iter(loader)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert next(batches) == 0
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(batches)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("end", ["exit", "kill", "interrupt"])
def test_workers_end_with_their_parent(tmp_path, end):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), "exit" if end == "exit" else "wait"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        workers = [int(word) for word in program.stdout.readline().split()]
        assert len(workers) == 2
        if end == "kill":
            program.kill()
        elif end == "interrupt":
            os.killpg(program.pid, signal.SIGINT)
        errors = program.communicate(timeout=20)[1]
    assert ("KeyboardInterrupt" in errors) == (end == "interrupt")
    assert errors == "" or errors.count("Traceback") == 1, errors
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [command_of(pid) for pid in workers if command_of(pid)]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_of_starting_workers(method):
    loader = DataLoader(Numbers(6), batch_size=2, num_workers=1, multiprocessing_context=method)
    assert [batch[:, 0].tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="valid start method"):
        DataLoader(Numbers(1), num_workers=1, multiprocessing_context="thread")
    with pytest.raises(ValueError, match="can only be used with multi-process loading"):
        DataLoader(Numbers(1), multiprocessing_context=method)
    with pytest.raises(TypeError, match="valid context object"):
        DataLoader(Numbers(1), num_workers=1, multiprocessing_context=3)
    with pytest.raises(ValueError, match="dataset attribute should not be set"):
        loader.dataset = Numbers(2)


def test_a_forked_process_starts_workers_of_its_own():
    loader = DataLoader(Numbers(6), batch_size=2, num_workers=1, persistent_workers=True)
    batches = iter(loader)
    assert len(next(batches)) == 2
    child = os.fork()
    if child == 0:
        right = [batch[:, 0].tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
        loader._iterator._pool.close()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [batch[:, 0].tolist() for batch in batches] == [[2, 3], [4, 5]]
    assert len(list(loader)) == 3
    del loader, batches
