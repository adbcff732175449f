"""Compiling in another process: who serves until then, errors, forks, ends of either process."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Location
from braze.ir.op import declare
from braze.runtime import background, cache, kept_objects, prediction
from braze.runtime.artifact import Artifact
from braze.runtime.background_process import Reply, _pickled
from braze.runtime.cache import clear_memory, prepare
from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable
from braze.runtime.pool import get_pool
from braze.runtime.prediction import SLOW_RUN, compile_seconds, is_worth_waiting
from braze.runtime.recompiles import log
from braze.runtime.stats import stats
from braze.runtime.storage import Storage


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Everything is left to the other process; an empty cache in memory and on disk."""
    monkeypatch.setattr(background, "_background", background._Background())
    clear_memory()
    log.clear()
    stats.reset()
    directory = str(tmp_path / "cache")
    with config.using(tier="auto", background="always", cache_dir=directory, debug=0, dump_dir=""):
        yield
    compiler = background._background._compiler
    if compiler is not None:
        if compiler._process.returncode is None:
            compiler._process.kill()  # also one that a failed test has stopped
        compiler.leave()
    clear_memory()


def square_plus(n=4, last="add"):
    """x * x + s"""
    b = Builder("square_plus")
    x = b.input(ir.tensor_type(ir.f32, (n,)), name="x")
    s = b.input(ir.tensor_type(ir.f32, ()), role="scalar", name="s")
    with b.at(Location("train.py", 7)):
        return b.finish([getattr(b, last)(b.mul(x, x), s)])


def run(entry, s=1.0):
    values = np.arange(4, dtype=np.float32)
    out = Storage(16)
    entry.run([Storage.from_numpy(values), s], [out])
    assert out.array(np.float32, 4).tolist() == (values * values + s).tolist()


def run_until_compiled(entry, seconds=60):
    end = time.monotonic() + seconds
    runs = 0
    while not entry.is_compiled:
        run(entry, float(runs))
        runs += 1
        time.sleep(0.01)
        assert time.monotonic() < end, "the code never came"
    return runs


def submit(graph=None, target=None, key="key", wants_pool=False):
    target = target or host_target()
    return background.submit(graph or square_plus(), target, key, wants_pool, 1.0)


def process():
    return background._background._compiler._process


def test_the_interpreter_serves_until_the_code_is_there():
    entry = prepare(square_plus())
    run(entry)
    assert (stats.interpreted, stats.compiles) == (1, 0)
    run(entry)
    assert entry._known.job is not None
    page = str(log.explain())
    assert "Being compiled in the background: 1." in page
    assert "#2 interpreted while it is compiled in the background: 2 operations, train.py:7" in page
    runs = run_until_compiled(entry)
    assert (stats.interpreted, stats.compiles, stats.native_calls) == (1 + runs, 1, 1)
    event = log.explain().events[-1]
    assert (event.source, event.beside) == ("compiled", runs)
    words = "run was" if runs == 1 else "runs were"
    assert f"s, in the background, while {runs} {words} interpreted: 2 operations" in str(event)
    assert "Being compiled" not in str(log.explain())
    assert event.figures.kernels_after == 1 and stats.compile_seconds > 0
    run(entry)
    assert stats.native_calls == 2


def test_the_disk_has_the_code_for_the_next_start():
    run_until_compiled(prepare(square_plus()))
    clear_memory()
    stats.reset()
    run(prepare(square_plus()))
    assert (stats.disk_hits, stats.interpreted) == (1, 0)


def test_without_a_disk():
    with config.using(cache_dir=""):
        run_until_compiled(prepare(square_plus()))


def test_what_must_be_compiled_waits_for_what_is_under_way():
    entry = prepare(square_plus())
    run(entry)
    run(entry)
    entry.compile()
    assert entry.is_compiled and stats.compiles == 1
    assert log.explain().events[-1].beside == 1


@pytest.mark.parametrize(
    "settings", [{"background": "never"}, {"tier": "compile"}, {"debug": 1}], ids=str
)
def test_the_foreground(settings, capsys):
    entry = prepare(square_plus())
    with config.using(**settings):
        run(entry)
        run(entry)
    assert entry.is_compiled and background._background._compiler is None


def test_a_graph_under_way_is_waited_for_when_no_time_may_be_taken():
    entry = prepare(square_plus())
    run(entry)
    run(entry)
    with config.using(background="never"):
        run(entry)
    assert entry.is_compiled and stats.compiles == 1


def test_the_last_bit_is_waited_for_once(monkeypatch):
    """Where a run without the code takes longer than what compiling should still take."""
    monkeypatch.setattr(cache, "compile_seconds", lambda graph: 0.3)
    background.start_early()
    os.kill(process().pid, signal.SIGSTOP)
    entry = prepare(square_plus())
    run(entry)
    run(entry)
    time.sleep(0.3)
    for seconds, waits in ((0.3, True), (0.3, False)):
        entry._known.seconds = seconds
        start = time.perf_counter()
        run(entry)
        assert (time.perf_counter() - start > 0.29) == waits and not entry.is_compiled
    os.kill(process().pid, signal.SIGCONT)
    run_until_compiled(entry)

    entry = prepare(square_plus(last="maximum"))
    values, out = Storage.from_numpy(np.ones(4, np.float32)), Storage(16)
    for _ in range(2):
        entry.run([values, 1.0], [out])
    entry._known.seconds = 60.0
    entry.run([values, 1.0], [out])
    assert entry.is_compiled


def test_small_graphs_are_compiled_in_the_foreground():
    with config.using(background="auto"):
        entry = prepare(square_plus())
        run(entry)
        run(entry)
    assert entry.is_compiled and background._background._compiler is None


def test_large_graphs_start_the_process_early(monkeypatch):
    monkeypatch.setattr(cache, "compile_seconds", lambda graph: 5.0)
    with config.using(background="auto"):
        entry = prepare(square_plus())
        run(entry)
        assert background._background._compiler is not None and entry._known.job is None
        run_until_compiled(entry)
    assert log.explain().events[-1].beside


def test_what_is_sent_is_what_would_be_compiled_here():
    graph = square_plus(last="maximum")
    reply = submit(graph, wants_pool=True).wait()
    artifact = Artifact.from_facts(reply.facts, reply.objects)
    get_pool()
    x, out = np.array([-2, -1, 0, 2], np.float32), Storage(16)
    Executable(artifact).run([Storage.from_numpy(x), 3.0], [out])
    assert out.array(np.float32, 4).tolist() == [4, 3, 3, 4]
    assert reply.pool == kept_objects.pool_object() and reply.error is None and not reply.lost
    found = kept_objects.disk_cache().load("key")
    assert found is not None and found[1] == reply.objects
    assert found[0] == reply.facts | {"figures": found[0]["figures"]}


def test_several_at_once_come_in_any_order():
    jobs = [submit(square_plus(n), key=str(n)) for n in range(1, 6)]
    replies = [job.wait() for job in reversed(jobs)][::-1]
    assert [reply.number for reply in replies] == [job.number for job in jobs]
    assert all(reply.facts["inputs"][0]["shape"] == [n + 1] for n, reply in enumerate(replies))
    lost = submit(square_plus(7))
    del lost  # nobody waits for it: the next one is found all the same
    assert submit(square_plus(8)).wait().facts is not None


# Failures -----------------------------------------------------------------------------------------


def test_an_error_is_raised_at_the_next_run(monkeypatch):
    """Again at each later one, as if the program had compiled the graph itself."""
    job = submit(target=replace(host_target(), triple="nonsense-unknown-none"))
    error = job.wait().error
    assert isinstance(error, RuntimeError)
    assert "while compiling graph @square_plus" in error.__notes__[0]
    assert "in the compiler's process:\nTraceback" in error.__notes__[1]

    def fails(graph, target, record=None):
        raise RuntimeError("no luck here either")

    monkeypatch.setattr("braze.runtime.compiler.compile_artifact", fails)
    monkeypatch.setattr(background, "submit", lambda *arguments: job)
    entry = prepare(square_plus())
    run(entry)
    with pytest.raises(type(error)) as caught:
        run(entry)
    assert caught.value is error
    assert "Being compiled" not in str(log.explain())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no luck here either"):
            run(entry)
    with config.using(tier="interpret"):
        run(entry)


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


@pytest.mark.parametrize(
    "error", [Unsendable("this", 1), RuntimeError(lambda: 0)], ids=["unpickled", "unpicklable"]
)
def test_errors_that_cannot_be_sent_are_told(error):
    import pickle

    error.add_note("a note")
    reply = pickle.loads(_pickled(Reply(3, error=error)))
    assert reply.number == 3 and type(reply.error) is RuntimeError
    assert type(error).__name__ in str(reply.error) and reply.error.__notes__ == ["a note"]


def test_warnings_come_from_where_the_program_sees_them(tmp_path):
    blocked = tmp_path / "file"
    entry = prepare(square_plus())
    run(entry)
    blocked.write_text("")
    with config.using(cache_dir=str(blocked / "cache")), pytest.warns() as caught:
        run_until_compiled(entry)
    (warning,) = caught
    assert str(warning.message).startswith(f"cannot keep compiled code in {blocked}/cache: ")


def test_operations_of_the_program_itself_are_compiled_here():
    name = "background_test_twice"
    declare(
        name, "composite", "x", infer=lambda x: (x,), evaluate=lambda x: x + x,
        decompose=lambda b, x: b.add(x, x), differentiable=False, doc="x + x",
    )  # fmt: skip
    b = Builder("own")
    x = b.input(ir.tensor_type(ir.f32, (4,)), name="x")
    graph = b.finish([getattr(b, name)(x)])
    assert "cannot read the graph" in submit(graph).wait().lost
    entry, out = prepare(graph), Storage(16)
    for _ in range(100):
        entry.run([Storage.from_numpy(np.ones(4, np.float32))], [out])
        if entry.is_compiled:
            break
        time.sleep(0.1)
    assert entry.is_compiled and out.array(np.float32, 4).tolist() == [2] * 4


def test_another_compiler_is_not_used(monkeypatch):
    monkeypatch.setattr(background, "environment", lambda: {"braze": "0"})
    assert submit().wait().lost == "its compiler is another one"


def test_a_process_that_was_killed():
    """Its graph is compiled here, and so is everything from then on."""
    entry = prepare(square_plus())
    run(entry)
    background.start_early()
    os.kill(process().pid, signal.SIGSTOP)
    run(entry)
    assert entry._known.job is not None
    os.kill(process().pid, signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="has ended with -9; from now on"):
        run_until_compiled(entry)
    assert stats.compiles == 1 and submit() is None


def test_an_idle_process_is_replaced():
    assert submit().wait().facts is not None
    first = process()
    background._background._compiler._connection.send(None)  # what it does when nothing comes
    assert first.wait(timeout=30) == 0
    assert submit(square_plus(5)).wait().facts is not None
    assert process() is not first


def test_where_no_process_starts(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    entry = prepare(square_plus())
    with pytest.warns(RuntimeWarning, match="compiled in the foreground: no process starts"):
        run(entry)
    run(entry)
    assert entry.is_compiled
    for executable in ("", "/usr/bin/blender"):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(background, "_background", background._Background())
        assert submit() is None


def test_a_forked_child_leaves_the_process_to_its_parent():
    entry = prepare(square_plus())
    run(entry)
    background.start_early()
    os.kill(process().pid, signal.SIGSTOP)  # nothing is ready before the fork
    run(entry)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            assert background._background._compiler is None and entry._known.job is None
            run_until_compiled(entry)
            code = 0
        finally:
            os._exit(code)
    os.kill(process().pid, signal.SIGCONT)
    run_until_compiled(entry)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The program's end --------------------------------------------------------------------------------

PROGRAM = """
import sys, time
sys.path.insert(0, {folder!r})
from test_background import background, prepare, process, run, square_plus
entry = prepare(square_plus())
run(entry)
run(entry)
print(process().pid, flush=True)
assert entry._known.job is not None
"""


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("keeps", [True, False])
def test_the_programs_end(tmp_path, keeps):
    """It does not wait, and what was begun is finished for the disk; without one it is not."""
    directory = tmp_path / "cache"
    variables = {"BRAZE_CACHE_DIR": str(directory) if keeps else "", "BRAZE_BACKGROUND": "always"}
    folder = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(folder=folder)],
        env={**os.environ, **variables, "BRAZE_TIER": "auto", "BRAZE_DEBUG": "0"},
        capture_output=True,  # until all who have these open are gone
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pid = int(done.stdout)
    wait_for(lambda: gone(pid))
    names = [file.name for file in directory.iterdir()] if directory.exists() else []
    assert all(name.endswith(".entry") for name in names)
    if not keeps:
        assert not names


def test_a_program_that_ends_too_soon_is_compiled_all_the_same(tmp_path):
    job = submit()
    pid = process().pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert job.reply is None
    background._background._leave()
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: gone(pid) or process().poll() is not None)


# The guess ----------------------------------------------------------------------------------------


def chain(length, distinct):
    b = Builder("chain")
    x = b.input(ir.tensor_type(ir.f32, (16, 16)), name="x")
    for i in range(length):
        x = b.matmul(x, x) if not distinct else b.sum(b.add(x, x), dims=(i % 2,), keepdim=True)
    return b.finish([x])


def test_the_guess_counts_what_differs(monkeypatch):
    monkeypatch.setattr(prediction, "_pace", lambda: prediction._USUAL_PACE)
    assert compile_seconds(square_plus()) < 0.1
    same = chain(50, distinct=False)
    assert compile_seconds(same) < 0.1 < compile_seconds(chain(50, distinct=True)) < 0.5
    once = compile_seconds(chain(100, distinct=False))
    assert compile_seconds(same) < once < 0.1
    monkeypatch.setattr(prediction, "_pace", lambda: 2 * prediction._USUAL_PACE)
    assert compile_seconds(chain(100, distinct=False)) == pytest.approx(2 * once)


def test_a_small_networks_step_is_waited_for(monkeypatch):
    """Starting a process would take longer than compiling three dense layers."""
    from networks import TrainingStep  # not where a program of these tests imports this file

    monkeypatch.setattr(prediction, "_pace", lambda: prediction._USUAL_PACE)
    step = TrainingStep("step")
    y, target = step.data("x", 64, 784), step.data("target", 64, dtype=ir.i64)
    for number in range(2):
        y = step.b.relu(step.linear(f"hidden{number}", y, 512))
    loss = step.b.cross_entropy(
        step.linear("head", y, 10), target, reduction="mean", ignore_index=-100, label_smoothing=0.0
    )
    assert is_worth_waiting(compile_seconds(step.finish(loss, "adam")), run_seconds=0.02)


@pytest.mark.parametrize(
    ("seconds", "run_seconds", "waits"),
    [
        (0.1, 0.001, True),
        (0.9, 0.001, False),
        (0.9, 0.5, True),
        (1.9, 0.2, False),
        (2.6, 0.5, False),
        (2.6, 0.7, True),
        (2.6, SLOW_RUN, True),
        (3.1, 0.9, False),
        (5.0, 0.001, False),
        (5.0, 1.3, False),
        (5.0, 6.0, True),
    ],
)
def test_when_to_wait(seconds, run_seconds, waits):
    assert is_worth_waiting(seconds, run_seconds) == waits


def test_a_graph_survives_the_way():
    graph = square_plus()
    assert fingerprint(ir.parse_graph(str(graph))) == fingerprint(graph)
