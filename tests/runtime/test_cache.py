"""The cache: tiers, sharing by fingerprint, eviction, in-place outputs, failures, threads."""

import gc
import os
import signal
import threading

import numpy as np
import pytest
from toy_compiler import toy_artifact

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.graph import Location
from braze.runtime import cache, compiler
from braze.runtime.cache import clear_memory, prepare
from braze.runtime.config import config
from braze.runtime.recompiles import log
from braze.runtime.stats import stats
from braze.runtime.storage import Storage
from braze.runtime.workspace import cpu_workspace


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A toy compiler, an empty cache in memory, none on disk."""
    compiled = []

    def compile_toy(graph, target, record=None):
        compiled.append(graph.name)
        return toy_artifact(graph, target)

    monkeypatch.setattr(compiler, "compile_artifact", compile_toy)
    clear_memory()
    log.clear()
    stats.reset()
    with config.using(tier="auto", cache_dir="", debug=0, dump_dir=""):
        yield compiled
    clear_memory()


def square_plus(n=4, name="square_plus", line=1):
    """x * x + s"""
    b = Builder(name)
    x = b.input(ir.tensor_type(ir.f32, (n,)), name="x")
    s = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="s")
    with b.at(Location("train.py", line)):
        y = b.mul(x, x)
    with b.at(Location("train.py", line + 1)):
        y = b.add(y, s)
    return b.finish([y])


def run(entry, values, s=1.0):
    x, out = Storage.from_numpy(np.array(values, np.float32)), Storage(4 * len(values))
    entry.run([x, s], [out])
    return out.array(np.float32, len(values)).tolist()


def counts():
    return stats.interpreted, stats.native_calls, stats.compiles


def test_auto_interprets_once_and_then_compiles(fresh):
    entry = prepare(square_plus())
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
    assert counts() == (1, 0, 0) and not entry.is_compiled
    assert run(entry, [1, 2, 3, 4], 2.0) == [3, 6, 11, 18]
    assert counts() == (1, 1, 1) and entry.is_compiled
    assert run(entry, [0, 0, 0, 0], 3) == [3] * 4
    assert counts() == (1, 2, 1)
    assert fresh == ["square_plus"]
    assert stats.compile_seconds > 0 and stats.kernels == 1


def test_compile_compiles_at_once():
    with config.using(tier="compile"):
        assert run(prepare(square_plus()), [1, 2, 3, 4]) == [2, 5, 10, 17]
    assert counts() == (0, 1, 1)


def test_interpret_never_compiles():
    with config.using(tier="interpret"):
        entry = prepare(square_plus())
        for _ in range(3):
            assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
    assert counts() == (3, 0, 0)


def test_the_tier_may_change_between_runs():
    entry = prepare(square_plus())
    with config.using(tier="compile"):
        run(entry, [1, 2, 3, 4])
    with config.using(tier="interpret"):
        run(entry, [1, 2, 3, 4])
    run(entry, [1, 2, 3, 4])
    assert counts() == (1, 2, 1)


def test_an_entrys_own_tier_wins_and_code_is_shared():
    run(prepare(square_plus(), tier="compile"), [1, 2, 3, 4])
    run(prepare(square_plus()), [1, 2, 3, 4])
    run(prepare(square_plus(), tier="interpret"), [1, 2, 3, 4])
    assert counts() == (1, 2, 1)
    with pytest.raises(ValueError, match="tier must be one of auto, compile, interpret, given 'x'"):
        prepare(square_plus(), tier="x")


def test_equal_graphs_share_whatever_their_names_and_lines(fresh):
    run(prepare(square_plus()), [1, 2, 3, 4])
    run(prepare(square_plus(name="other", line=50)), [1, 2, 3, 4])
    assert counts() == (1, 1, 1)
    assert (stats.graphs, stats.cache_hits) == (1, 1)
    run(prepare(square_plus(n=5)), [1, 2, 3, 4, 5])
    assert (stats.graphs, stats.cache_hits) == (2, 1)


def test_compile_ahead_of_running():
    entry = prepare(square_plus())
    entry.compile()
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
    assert counts() == (0, 1, 1)


def test_the_least_recently_used_graph_is_forgotten(fresh):
    with config.using(tier="compile", cache_entries=2, dynamic_shapes=False):
        for n in (1, 2):
            run(prepare(square_plus(n)), [1] * n)
        run(prepare(square_plus(1)), [1])
        run(prepare(square_plus(3)), [1] * 3)  # 2 goes
        gc.collect()
        assert len(cache._memory.recent) == 2
        run(prepare(square_plus(1)), [1])
        assert stats.compiles == 3
        run(prepare(square_plus(2)), [1, 1])
        assert stats.compiles == 4


def test_what_somebody_holds_is_not_forgotten():
    with config.using(tier="compile", cache_entries=1):
        held = prepare(square_plus(1))
        run(held, [1])
        run(prepare(square_plus(2)), [1, 1])
        run(held, [1])
        run(prepare(square_plus(1)), [1])
    assert stats.compiles == 2


def updating(n=3):
    """w <- w * g, and the old w + g beside it."""
    b = Builder("update")
    w = b.input(ir.tensor_type(ir.f32, (n,)), role="param", name="w")
    g = b.input(ir.tensor_type(ir.f32, (n,)), name="g")
    return b.finish([b.mul(w, g), b.add(w, g)], {0: 0})


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_outputs_may_overwrite_inputs(tier):
    w, g = (Storage.from_numpy(np.array(v, np.float32)) for v in ([1, 2, 3], [10, 20, 30]))
    other = Storage(12)
    prepare(updating(), tier=tier).run([w, g], [w, other])
    assert w.array(np.float32, 3).tolist() == [10, 40, 90]
    assert other.array(np.float32, 3).tolist() == [11, 22, 33]


def test_interpreting_reads_all_inputs_before_it_writes():
    """The second output is the old value of what the first overwrites."""
    b = Builder("swap")
    w = b.input(ir.tensor_type(ir.f32, (2, 2)), role="buffer", name="w")
    graph = b.finish([b.add(w, w), b.permute(w, dims=(1, 0)), w], {0: 0})
    w, flipped, same = Storage.from_numpy(np.arange(4, dtype=np.float32)), Storage(16), Storage(16)
    prepare(graph, tier="interpret").run([w], [w, flipped, same])
    assert w.array(np.float32, 4).tolist() == [0, 2, 4, 6]
    assert flipped.array(np.float32, 4).tolist() == [0, 2, 1, 3]
    assert same.array(np.float32, 4).tolist() == [0, 1, 2, 3]


def checking():
    b = Builder("checking")
    x = b.input(ir.tensor_type(ir.f32, (2,)), role="param", name="x")
    i = b.input(ir.tensor_type(ir.i64, ()), name="i")
    with b.at(Location("model.py", 3, "net.embed")):
        y = b.add(x, x)
        b.check_range(i, low=0, high=10, message="embedding")
    return b.finish([y], {0: 0})


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_out_of_range_names_the_line(tier):
    """Both tiers, word for word, and nothing is overwritten."""
    entry = prepare(checking(), tier=tier)
    x = Storage.from_numpy(np.ones(2, np.float32))
    good, bad = (Storage.from_numpy(np.array(i, np.int64)) for i in (9, 10))
    entry.run([x, good], [x])
    with pytest.raises(IndexError) as caught:
        entry.run([x, bad], [x])
    assert str(caught.value) == (
        "[embedding] index 10 is out of range [0, 10)\n  at model.py:3\n  in net.embed"
    )
    with pytest.raises(IndexError, match=r"\[0, 10\)\n  at eval.py:1$"):
        entry.run([x, bad], [x], lambda node: Location("eval.py", node))
    assert x.array(np.float32, 2).tolist() == [2, 2]


def test_a_failing_compiler_is_not_hidden(monkeypatch):
    def broken(graph, target, record=None):
        raise RuntimeError("no registers left")

    monkeypatch.setattr(compiler, "compile_artifact", broken)
    entry = prepare(square_plus())
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no registers left"):
            run(entry, [1, 2, 3, 4])
    monkeypatch.setattr(compiler, "compile_artifact", toy_artifact)
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]


def test_threads_compile_a_graph_once(fresh):
    wrong = []
    gate = threading.Barrier(6)

    def work(number):
        gate.wait()
        for i in range(50):
            got = run(prepare(square_plus()), [i] * 4, number)
            if got != [float(i * i + number)] * 4:
                wrong.append((number, i, got))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert fresh == ["square_plus"]
    assert stats.interpreted == 1


def test_a_mistaken_number_of_storages():
    entry = prepare(square_plus())
    with pytest.raises(ValueError):
        entry.run([Storage(16)], [Storage(16)])
    entry.compile()
    with pytest.raises(ValueError, match="@square_plus takes 2 inputs"):
        entry.run([Storage(16)], [Storage(16)])


def test_a_forked_child_runs_graphs():
    """Even if another thread of the parent holds every lock at the moment of the fork."""
    entry = prepare(square_plus(), tier="compile")
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
    held = (cpu_workspace.lock, cache._memory.lock, entry._known.lock, log._lock)
    ready, done = threading.Event(), threading.Event()

    def hold():
        for lock in held:
            lock.acquire()
        ready.set()
        done.wait(60)
        for lock in held:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(60)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            fine = run(prepare(square_plus(), tier="compile"), [1, 2, 3, 4]) == [2, 5, 10, 17]
            fine = fine and run(prepare(square_plus(5), tier="compile"), [1] * 5) == [2] * 5
            code = 0 if fine and "compiled" in str(log.explain()) else 2
        finally:
            os._exit(code)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run(entry, [1, 2, 3, 4]) == [2, 5, 10, 17]
