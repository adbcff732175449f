"""Ranks that die, stop, or do not come: every other one ends in time and says who it was."""

import re
import time

import pytest
from ranks import expecting, run_ranks, said

pytestmark = pytest.mark.xdist_group("ranks")

TRY = expecting("braze.sync()")  # of tensors still to be computed, collectives are captured


def _said(outcome, rank):
    (line,) = outcome.lines(rank)
    return said(line)


def test_a_killed_rank_is_named_at_once(tmp_path):
    outcome = run_ranks(
        TRY
        + """
x = braze.zeros(1000)
dist.all_reduce(x)
if rank == 2:
    os.kill(os.getpid(), signal.SIGKILL)
def on():
    for _ in range(1000):
        dist.all_reduce(x)
expect(on)
""",
        tmp_path,
        timeout=20,
        check=False,
    )
    for rank in (0, 1, 3):
        seconds, text = _said(outcome, rank)
        assert seconds < 10, outcome
        assert re.search(r"cannot be completed: .*rank 2 \(process \d+ on .*\) has ended", text)
    assert not outcome.lines(2)


def test_a_rank_that_ends_with_an_error_is_named_with_it(tmp_path):
    start = time.monotonic()
    outcome = run_ranks(
        TRY
        + """
if rank == 1:
    raise ValueError("no more data")
expect(lambda: dist.all_reduce(braze.zeros(3)))
""",
        tmp_path,
        timeout=100,
        check=False,
    )
    assert time.monotonic() - start < 40
    for rank in (0, 2, 3):
        assert "rank 1 has ended with ValueError: no more data" in _said(outcome, rank)[1]
    assert "ValueError: no more data" in outcome.err and outcome.code != 0


def test_late_ranks_are_named_with_what_they_did_last(tmp_path):
    """Rank 1 computes on and on, and rank 3 is stopped."""
    outcome = run_ranks(
        TRY
        + """
dist.all_reduce(braze.zeros(3))
braze.sync()
if rank == 1:
    end = time.monotonic() + 8
    while time.monotonic() < end:
        sum(range(1000))
elif rank == 3:
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    try:
        dist.all_reduce(braze.zeros(4))
        braze.sync()
    except dist.DistBackendError as error:
        say(str(error))
    if rank == 0:
        os.kill(dist.groups._Joined.world.watch.processes[3].number, signal.SIGKILL)
""",
        tmp_path,
        timeout=2,
        check=False,
    )
    for rank in (0, 2):
        (text,) = outcome.lines(rank)
        assert "operation 2 of its group, was not completed within 2 s" in text
        assert (
            "rank 1 has not called it (its last is operation 1, all_reduce(sum) of f32[3])" in text
        )
        assert re.search(r"rank 3 \(process \d+ on .*\) does not answer", text)


def test_ranks_that_call_different_things(tmp_path):
    outcome = run_ranks(
        TRY
        + """
if rank == 0:
    expect(lambda: dist.broadcast(braze.zeros(3), src=1))
else:
    expect(lambda: dist.barrier())
""",
        tmp_path,
        ranks=2,
        timeout=2,
        check=False,
    )
    # What rank 0 gets is up to the library, whose rules are broken.
    assert "rank 0 called broadcast from 1 of f32[3] instead" in _said(outcome, 1)[1]


def test_other_groups_go_on(tmp_path):
    """Rank 2 ends in good order; the group without it works, the world does not."""
    outcome = run_ranks(
        TRY
        + """
rest = dist.new_group([0, 1, 3])
if rank != 2:
    time.sleep(0.5)
    x = braze.ones(2)
    dist.all_reduce(x, group=rest)
    assert x.tolist() == [3, 3]
    say("some")
    expect(lambda: dist.all_reduce(x))
    dist.all_reduce(x.fill_(1), group=rest)
    assert x.tolist() == [3, 3]
    say("all")
""",
        tmp_path,
        check=False,
    )
    for rank in (0, 1, 3):
        first, second, third = outcome.lines(rank)
        assert "rank 2 has ended its program" in second and (first, third) == ("some", "all")


def test_a_rank_that_never_joins(tmp_path):
    outcome = run_ranks(
        """
import os, sys, time
from datetime import timedelta
from mpi4py import MPI
from braze import distributed as dist

for call in (dist.get_rank, dist.barrier, lambda: dist.new_group([0])):
    try:
        call()
    except ValueError as error:
        assert "has not been initialized" in str(error)
if MPI.COMM_WORLD.rank == 1:
    time.sleep(4)
    os._exit(0)
try:
    dist.init_process_group("mpi", timeout=timedelta(seconds=1.5))
except dist.DistBackendError as error:
    print("0:", error, flush=True)
os._exit(0)
""",
        tmp_path,
        ranks=2,
        prologue="",
        check=False,
    )
    (text,) = outcome.lines(0)
    assert text == ("[init_process_group] of 2 ranks these have not come within 1.5 s: 1")


def test_wrong_calls_in_a_world_of_one():
    """Without a launcher a process is a world by itself."""
    import subprocess
    import sys

    pytest.importorskip("mpi4py")
    program = """
from braze import distributed as dist
import braze
try:
    dist.init_process_group("gloo")
except ValueError as error:
    assert "no transport of its own" in str(error), error
else:
    raise AssertionError("gloo")
assert dist.is_available() and dist.is_mpi_available()
dist.init_process_group()
try:
    dist.init_process_group()
except ValueError as error:
    assert "twice" in str(error)
x = braze.arange(3.0)
dist.all_reduce(x)
assert x.tolist() == [0, 1, 2] and (dist.get_rank(), dist.get_world_size()) == (0, 1)
for call in (lambda: dist.all_reduce([1.0]), lambda: dist.all_reduce(x, "sum"),
             lambda: dist.all_gather_into_tensor(braze.zeros(4), x),
             lambda: dist.all_gather([x, x], x),
             lambda: dist.all_gather([braze.zeros(3, dtype=braze.int64)], x)):
    try:
        call()
    except (TypeError, ValueError) as error:
        print(error)
    else:
        raise AssertionError
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[all_reduce] expected a tensor, given list",
        "[all_reduce] op: expected a ReduceOp, given 'sum'",
        "[all_gather_into_tensor] f32[4] is not 1 times as large as f32[3] (4 != 1 * 3)",
        "[all_gather] tensor_list must have a tensor for each of 1 ranks, given 2",
        "[all_gather] tensors must have one dtype, given f32[3] and i64[3]",
    ]
