"""Ranks with GPUs that die or do not come: the others name them, whatever NCCL waits for."""

import re

import pytest
from ranks import expecting, said
from ranks_on_gpus import run_ranks_on_gpus

pytest.importorskip("nccl.bindings", reason="GPUs talk by NCCL: pip install nccl4py")
pytestmark = pytest.mark.xdist_group("ranks")

TRY = (
    expecting("braze.cuda.synchronize()")
    + """
from braze.runtime.distributed.connecting import Connections
connected = Connections._connected

def instead(action):
    \"\"\"What this rank does when the others wait for it within NCCL.\"\"\"
    def late(self, *given):
        Connections._connected = connected
        action()
        return connected(self, *given)
    Connections._connected = late

def new_group():
    return dist.new_group(timeout=timedelta(seconds=2))

x = braze.ones(1000, device=GPU)
x.data_ptr()
"""
)


def test_late_ranks_are_named(tmp_path):
    """Those that do not connect, and those that do not come to an operation, captured or not."""
    outcome = run_ranks_on_gpus(
        TRY
        + """
braze.config.tier = "compile"
groups = [new_group() for _ in range(3)]
for group in groups[1:]:
    dist.all_reduce(x, group=group)
braze.cuda.synchronize()
if rank:
    instead(lambda: time.sleep(4))
expect(lambda: dist.all_reduce(x, group=groups[0]))

dist.barrier()
if rank:
    time.sleep(4)
expect(lambda: dist.all_reduce(x, group=groups[1]))
expect(lambda: dist.all_reduce(x, group=groups[1]))

dist.barrier()
if rank:
    time.sleep(4)
def captured():
    y = x * 2
    dist.all_reduce(y, group=groups[2])
    y + 1
    braze.sync()
expect(captured)
""",
        tmp_path,
        timeout=20,
        check=False,
    )
    connecting, direct, after, captured = outcome.lines(0)
    seconds, text = said(connecting)
    assert 1.5 < seconds < 10
    assert re.search(
        r"\[connecting GPUs\], operation 2 of its group, was not completed within 2 s: rank 1 has "
        r"not called it \(its last is operation 1, all_gather of u8\[256\]\)",
        text,
    ), text
    for line in direct, captured:
        seconds, text = said(line)
        assert 1.5 < seconds < 10
        assert re.search(
            r"\[all_reduce\(sum\) of f32\[1000\]\], operation 4 of its group, was not completed "
            r"within 2 s: rank 1 has not called it \(its last is operation 3, all_reduce", text
        ), text  # fmt: skip
    assert "an earlier operation of the group has failed" in said(after)[1]


@pytest.mark.parametrize("where", ["connecting", "captured"])
def test_a_killed_rank_is_named(tmp_path, where):
    """Within `ncclCommInitRank`, which would wait for ever, and in the middle of a program."""
    outcome = run_ranks_on_gpus(
        TRY
        + f"""
where = {where!r}
braze.config.tier = "compile"
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
if where == "captured":
    dist.all_reduce(x)
    if rank:
        kill()
elif rank:
    instead(kill)
def step():
    y = x * 2
    dist.all_reduce(y)
    y + 1
    braze.sync()
expect(step)
""",
        tmp_path,
        timeout=60,
        check=False,
    )
    ((seconds, text),) = map(said, outcome.lines(0))
    assert seconds < 20
    assert re.search(r"cannot be completed: rank 1 \(process \d+ on .*\) has ended", text), text
    assert not outcome.lines(1)
