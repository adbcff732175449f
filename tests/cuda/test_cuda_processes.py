"""Tensors of GPUs on one memory in several processes, and who keeps it."""

import gc
import pickle
import subprocess
import sys
import textwrap
import time
from multiprocessing.reduction import ForkingPickler

import cuda_device
import numpy as np
import pytest

import braze
import braze.multiprocessing as mp
from braze import nn

GPU = "cuda:0"


class Other:
    """Another process, which does what it is told with what it is sent."""

    def __init__(self):
        context = mp.get_context("spawn")
        self.questions, self.answers = context.SimpleQueue(), context.SimpleQueue()
        self.process = context.Process(target=serve, args=(self.questions, self.answers))
        self.process.start()

    def do(self, action, *tensors):
        self.questions.put((action, tensors))
        deadline = time.monotonic() + 300
        while self.answers.empty():
            assert self.process.is_alive() and time.monotonic() < deadline
            time.sleep(0.001)
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self):
        self.questions.put(None)
        self.process.join(300)
        assert self.process.exitcode == 0


@pytest.fixture(scope="module")
def other():
    made = Other()
    yield made
    made.end()


kept = []


def serve(questions, answers):
    while (question := questions.get()) is not None:
        action, tensors = question
        try:
            answer = action(*tensors)
            braze.cuda.synchronize()
        except Exception as error:
            answer = error
        del question, tensors
        gc.collect()
        answers.put(answer)


def write(x, view, parameter, net):
    x.add_(1)
    view.mul_(10)
    parameter.data.fill_(7)
    with braze.no_grad():
        net.weight[0] = 3
    facts = [(t.is_shared(), str(t.device), t.requires_grad) for t in (x, view, parameter)]
    return facts, type(parameter).__name__, x.tolist()


def test_tensors_parameters_and_modules_are_sent_by_memory(other, strategy):
    x = braze.arange(6.0, device=GPU).reshape(2, 3).clone()
    parameter, net = nn.Parameter(braze.zeros(3, device=GPU)), nn.Linear(3, 2).to(GPU)
    old = net.weight.detach().clone()
    pending = x * 2
    facts, kind, seen = other.do(write, x, x[1, 1:], parameter, net)
    assert facts == [(True, GPU, False)] * 2 + [(True, GPU, True)] and kind == "Parameter"
    assert seen == x.tolist() == [[1, 2, 3], [4, 50, 60]] and parameter.tolist() == [7, 7, 7]
    assert pending.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert net.weight[0].tolist() == [3, 3, 3] and braze.equal(net.weight[1], old[1])


def keep(x):
    kept.append(x)


def kept_values():
    return kept[0].tolist()


def drop():
    kept.clear()


def test_both_see_what_the_other_writes_later(other):
    x = braze.zeros(4, device=GPU)
    other.do(keep, x)
    for turn in range(3):
        x.add_(turn)
        braze.cuda.synchronize()
        assert other.do(kept_values) == x.tolist() == [[0, 1, 3][turn]] * 4
    other.do(drop)


def allocated():
    """Bytes of what is alive."""
    braze.cuda.synchronize()
    gc.collect()
    braze.cuda.ipc_collect()
    braze.cuda.empty_cache()
    return braze.cuda.memory_allocated()


def test_memory_is_kept_until_the_other_drops_it(other, capfd):
    before = allocated()
    x = braze.full((10_000,), 5.0, device=GPU)
    other.do(keep, x)
    del x
    taken = [braze.zeros(10_000, device=GPU) * turn for turn in range(3)]
    braze.cuda.synchronize()
    del taken
    assert allocated() - before == 40_000
    assert other.do(kept_values) == [5] * 10_000
    other.do(drop)
    assert allocated() == before
    assert not capfd.readouterr().err  # where freeing fails since a process has it open


def twice(x, y):
    x.add_(1)
    braze.cuda.synchronize()
    return x.data_ptr() == y.data_ptr(), y.tolist()


def test_what_is_sent_twice_is_one_memory(other):
    x = braze.zeros(3, device=GPU)
    assert other.do(twice, x, x.detach()) == (True, [1, 1, 1])
    x.add_(1)
    assert other.do(twice, x, x) == (True, [3, 3, 3]) and x.tolist() == [3, 3, 3]


def echo(*tensors):
    return [(t.dtype, t.shape, t.cpu().tolist()) for t in tensors]


def test_dtypes_and_odd_tensors(other):
    tensors = [
        braze.tensor([True, False, True]), braze.tensor(3), braze.zeros(0, 3),
        braze.arange(5).to(braze.int8), braze.tensor([1.5, -2]).to(braze.bfloat16),
        braze.arange(6.0).reshape(2, 3).t(), braze.arange(10.0)[::3].double(),
    ]  # fmt: skip
    there = [t.to(GPU) for t in tensors]
    assert other.do(echo, *there) == echo(*tensors)


def resend(x):
    return ForkingPickler.dumps(x)


def test_what_cannot_be_sent(other):
    x = braze.zeros(3, device=GPU)
    with pytest.raises(RuntimeError, match="received from another process; this is not currently"):
        other.do(resend, x)
    w = braze.ones(3, device=GPU, requires_grad=True)
    with pytest.raises(RuntimeError, match="non-leaf tensor which requires_grad"):
        ForkingPickler.dumps(w * 2)

    class Array:
        __cuda_array_interface__ = x.__cuda_array_interface__

    with pytest.raises(RuntimeError, match="memory of another library cannot be sent"):
        ForkingPickler.dumps(braze.as_tensor(Array(), device=GPU))
    other.do(echo, x.clone())  # what failed has left nothing behind
    braze.cuda.ipc_collect()


def test_it_opens_once_and_not_where_it_came_from():
    x = braze.zeros(3, device=GPU)
    message = bytes(ForkingPickler.dumps(x))
    if cuda_device.EMULATED:
        with pytest.raises(RuntimeError, match="cannot be opened: .*allocated in this process"):
            pickle.loads(message)
        braze.cuda.ipc_collect()


def start(program):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cuda_device.variables(),
    )  # fmt: skip


def test_who_ends_first_takes_its_memory_along():
    program = """
        import os, sys, braze, braze.multiprocessing as mp
        from multiprocessing.reduction import ForkingPickler
        mp.set_sharing_strategy("file_system")
        x = braze.arange(4.0, device="cuda")
        message = bytes(ForkingPickler.dumps(x)).hex()
        child = os.fork()
        if not child:
            sys.exit()  # has lent nothing
        os.waitpid(child, 0)
        print(message, flush=True)
        input()
    """
    process = start(program)
    message = bytes.fromhex(process.stdout.readline())
    said = process.communicate("\n")[1]
    assert process.returncode == 0, said
    assert said.count("terminated before all shared CUDA tensors released: 1 are still") == 1, said
    with pytest.raises((RuntimeError, FileNotFoundError)):
        pickle.loads(message)


def fill(index, x, results):
    x[index] = index + 1
    braze.cuda.synchronize()
    results[index] = float(x.sum()) > 0


def test_queues_with_a_thread_that_sends():
    """The message is made behind the program's back, of what was captured before."""
    context = mp.get_context("spawn")
    questions, answers = context.Queue(), context.SimpleQueue()
    process = context.Process(target=serve, args=(questions, answers))
    process.start()
    x = braze.ones(3, device=GPU) * 2
    questions.put((echo, (x,)))
    assert answers.get() == [(braze.float32, (3,), [2, 2, 2])]
    questions.put(None)
    process.join(300)
    assert process.exitcode == 0


def test_processes_that_write_to_one_tensor():
    x, results = braze.zeros(2, 5, device=GPU), braze.zeros(2)
    mp.spawn(fill, (x, results), nprocs=2)
    np.testing.assert_array_equal(x.cpu(), [[1] * 5, [2] * 5])
    assert results.tolist() == [1, 1]
