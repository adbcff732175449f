"""braze.multiprocessing: tensors on one memory in several processes, and what remains of them."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from left_over import cleaners, descriptors, shared_files

import braze
import braze.multiprocessing as mp
from braze import nn

pytestmark = pytest.mark.usefixtures("interpret")


def answer(questions, answers):
    """Write to what arrives, and send it back."""
    while (found := questions.get()) is not None:
        x, view, parameter, net = found
        x.add_(1)
        view.mul_(10)
        parameter.data.fill_(7)
        with braze.no_grad():
            net.weight[0] = 3
        facts = (view.is_shared(), type(parameter).__name__, parameter.requires_grad)
        answers.put((x, view, facts))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_tensors_parameters_and_modules_are_sent_by_memory(method, strategy):
    before = descriptors(), shared_files()
    context = mp.get_context(method)
    questions, answers = context.Queue(), context.SimpleQueue()
    process = context.Process(target=answer, args=(questions, answers))
    process.start()
    x = braze.arange(6.0).reshape(2, 3).clone()
    parameter, net = nn.Parameter(braze.zeros(3)), nn.Linear(3, 2)
    old = net.weight.detach().clone()
    pending = x * 2
    questions.put((x, x[1, 1:], parameter, net))
    again, view, facts = answers.get()
    assert facts == (True, "Parameter", True)
    assert x.tolist() == [[1, 2, 3], [4, 50, 60]] and parameter.tolist() == [7, 7, 7]
    assert pending.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert net.weight[0].tolist() == [3, 3, 3] and braze.equal(net.weight[1], old[1])
    assert again.data_ptr() == x.data_ptr() and view.data_ptr() == x[1, 1:].data_ptr()
    again[0, 0] = -1
    assert x[0, 0].item() == -1 and x.is_shared() and net.bias.is_shared()
    x.add_(1)
    assert view.tolist() == [51, 61]
    questions.put(None)
    process.join(10)
    assert process.exitcode == 0
    questions.close()
    questions.join_thread()
    del x, parameter, net, again, view, pending, old
    braze.sync()  # pending operations hold what they read
    deadline = time.monotonic() + 5  # Python's thread that sends descriptors may not be done
    while (descriptors(), shared_files()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (descriptors(), shared_files()) == before


def test_elements_that_others_write_meanwhile_are_not_overwritten():
    """Each process writes its own element a thousand times."""
    for tier, rounds in (("interpret", 100), ("compile", 300)):
        x = braze.zeros(6, 64).share_memory_()

        def count(row, x=x, tier=tier, rounds=rounds):
            braze.config.tier = tier
            index = braze.tensor([row + 2])
            for _ in range(rounds):
                x[row, row] += 1
                x.index_add_(0, index, braze.ones(1, 64))
                x[index + 2] = x[row + 2]

        mp_fork(count, 2)
        assert [x[i, i].item() for i in range(2)] == [rounds, rounds], tier
        assert x[:2].sum().item() == 2 * rounds and x[2:].tolist() == [[rounds] * 64] * 4, tier


def mp_fork(function, count):
    processes = [mp.get_context("fork").Process(target=function, args=(i,)) for i in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_an_optimizer_updates_shared_parameters_where_they_are():
    weight = nn.Parameter(braze.zeros(3).share_memory_())
    weight.share_memory_()
    address = weight.data_ptr()
    optimizer = braze.optim.SGD([weight], lr=1.0, momentum=0.5)

    def train(_):
        for _ in range(10):
            optimizer.zero_grad()
            (weight * braze.tensor([1.0, 2.0, 3.0])).sum().backward()
            optimizer.step()

    for tier in ("interpret", "compile"):
        braze.config.tier = tier
        weight.data.zero_()
        mp_fork(train, 1)
        after = 18 + 2 * 0.5**10  # of the sum of 1, 1.5, 1.75, ...
        assert weight.tolist() == pytest.approx([-after, -2 * after, -3 * after])
        assert weight.data_ptr() == address


def test_what_cannot_be_sent():
    pipe, _ = mp.Pipe()
    w = braze.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor"):
        pipe.send(w * 2)
    with pytest.raises(AssertionError, match="invalid sharing strategy 'pigeon'"):
        mp.set_sharing_strategy("pigeon")
    assert mp.get_all_sharing_strategies() == {"file_descriptor", "file_system"}


def test_pipes_dtypes_and_odd_tensors(strategy):
    one, two = mp.Pipe()
    x = braze.arange(6).reshape(2, 3).t()
    mine = braze.ones(2, dtype=braze.bfloat16)
    mine.label = "mine"
    sent = [
        x,
        x.bool(),
        braze.tensor(1 + 2j),
        braze.zeros(0, 3),
        mine,
        braze.ones(3, requires_grad=True),
        x.detach(),
        braze.eye(3).to_sparse(),
        x.storage(),
    ]
    for item in sent:
        one.send(item)
        got = two.recv()
        if isinstance(item, braze.Tensor):
            assert got.dtype is item.dtype and got.shape == item.shape
            assert got.requires_grad == item.requires_grad and braze.equal(
                got.to_dense(), item.to_dense()
            )
    assert got.tolist() == x.storage().tolist()
    one.send((x, x))
    first, second = two.recv()
    assert first is second and first.data_ptr() == x.data_ptr()
    one.send(mine)
    assert two.recv().label == "mine"
    # Elsewhere a pickle holds the elements.
    assert pickle.loads(pickle.dumps(x)).data_ptr() != x.data_ptr()


def double(x):
    x.mul_(2)
    return x + 1


def test_pools_and_managers():
    xs = [braze.full((3,), float(i)) for i in range(4)]
    with mp.get_context("fork").Pool(2) as pool:
        results = pool.map(double, xs)
    assert [r.tolist() for r in results] == [[2 * i + 1.0] * 3 for i in range(4)]
    assert [x.tolist() for x in xs] == [[2.0 * i] * 3 for i in range(4)]
    with mp.get_context("fork").Manager() as manager:
        shared = manager.dict()
        shared["x"] = xs[1]
        shared["x"].add_(1)
        assert xs[1].tolist() == [3.0] * 3 and shared["x"].data_ptr() == xs[1].data_ptr()


# Starting processes -------------------------------------------------------------------------------


def fill(index, x):
    x[index] = index + 1


def fail(index, how):
    if index == 0:
        time.sleep(30)
    if how == "raise":
        raise ValueError("x" * 200_000 + " the end")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(7)


def test_spawn():
    x = braze.zeros(2).share_memory_()
    context = mp.spawn(fill, (x,), nprocs=2, join=False)
    assert len(context.pids()) == 2 and isinstance(context, mp.ProcessContext)
    while not context.join(timeout=0.5):
        pass
    assert x.tolist() == [1, 2] and context.join() is True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match="only supports start_method=spawn"):
            mp.spawn(fill, (x,), start_method="fork")
        with pytest.raises(UserWarning, match="renamed to ProcessContext"):
            mp.SpawnContext([], [])


def test_the_first_process_that_fails_ends_all():
    def start(how):
        mp.start_processes(fail, (how,), nprocs=2, start_method="fork")

    began = time.monotonic()
    with pytest.raises(mp.ProcessRaisedException, match="Process 1 terminated with the foll") as e:
        start("raise")
    assert "ValueError" in str(e.value) and e.value.msg.rstrip().endswith("the end")
    with pytest.raises(mp.ProcessExitedException, match="terminated with signal SIGKILL") as killed:
        start("kill")
    assert (killed.value.error_index, killed.value.exit_code) == (1, -9)
    assert killed.value.signal_name == "SIGKILL" and killed.value.error_pid > 0
    copied = pickle.loads(pickle.dumps(killed.value))
    assert type(copied) is mp.ProcessExitedException and copied.exit_code == -9
    with pytest.raises(mp.ProcessExitedException, match="terminated with exit code 7"):
        start("exit")
    assert time.monotonic() - began < 10


def test_a_fork_while_other_threads_compute():
    """The child has no threads, and nobody to release what they held."""
    x = braze.ones(1000).share_memory_()
    stop = threading.Event()

    def work():
        while not stop.is_set():
            (braze.rand(100) * 2).sum().item()

    def child(index):
        braze.config.tier = "compile"
        for _ in range(3):
            assert (braze.rand(3000) * 0 + x.sum()).sum().item() == 3_000_000

    with braze.config.using(tier="compile"):
        for _ in range(2):
            (braze.rand(3000) * 0 + x.sum()).sum().item()
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            mp_fork(child, 3)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


# What remains -------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, time
import braze, braze.multiprocessing as mp
mp.set_sharing_strategy(sys.argv[1])
def child(x, queue):
    y = braze.ones(1000)
    queue.put(y)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "child" else time.sleep(60)
if __name__ == "__main__":
    x = braze.ones(1000).share_memory_()
    context = mp.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(x, queue), daemon=True)
    process.start()
    if sys.argv[2] == "child":
        process.join()
        assert process.exitcode == -9
        try:
            queue.get()
        except (ConnectionError, FileNotFoundError) as error:
            assert "pid %d" % process.pid in str(error), error
        else:
            assert sys.argv[1] == "file_system"
        assert x.sum().item() == 1000
        print("fine", flush=True)
    else:
        queue.get()
        print(process.pid, flush=True)
        os.kill(process.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("victim", ["child", "both"])
def test_killed_processes_leave_nothing(tmp_path, strategy, victim):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    before = shared_files()
    mark = f"BRAZE_TEST_MARK={tmp_path}"
    done = subprocess.run(
        [sys.executable, str(script), strategy, victim],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | dict([mark.split("=", 1)]),
    )
    assert done.returncode == (0 if victim == "child" else -9), done.stderr
    assert done.stdout, done.stderr
    deadline = time.monotonic() + 5
    while (shared_files() != before or cleaners(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert shared_files() == before
    assert not cleaners(mark)


def test_a_fork_finds_no_lock_held():
    """Whatever another thread of the parent is doing: drawing numbers, compiling, capturing."""
    from braze.capture import tracer
    from braze.codegen.llvm.target import ffi  # whoever compiles has imported it

    held, release = threading.Event(), threading.Event()
    generator = braze.default_generator

    def hold():
        with generator._lock, ffi.lib._lock, main.lock:
            held.set()
            release.wait(30)

    def child(index):
        braze.config.tier = "compile"
        braze.config.cache_dir = ""
        assert (braze.rand(7 + index) * 0 + index).sum().item() == index * (7 + index)

    main = tracer()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    process = mp.get_context("fork").Process(target=child, args=(2,))
    try:
        process.start()
        process.join(20)
        code = process.exitcode
    finally:
        release.set()
        thread.join()
        process.kill()
    assert code == 0


def test_named_memory_needs_no_descriptors():
    mp.set_sharing_strategy("file_system")
    try:
        braze.zeros(1).share_memory_()  # starts the cleaner
        before = len(os.listdir("/proc/self/fd"))
        tensors = [braze.full((3,), float(i)).share_memory_() for i in range(50)]
        assert len(os.listdir("/proc/self/fd")) == before
        one, two = mp.Pipe()
        one.send(tensors)
        arrived = two.recv()
        assert [t.data_ptr() for t in arrived] == [t.data_ptr() for t in tensors]
        del tensors, one, two
        arrived[7].add_(1)
        assert arrived[7].tolist() == [8, 8, 8]
    finally:
        mp.set_sharing_strategy("file_descriptor")
    del arrived
    braze.sync()
    gc.collect()
    assert not shared_files()
