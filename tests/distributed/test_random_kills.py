"""A rank killed at a random moment: all others say which one, nothing is left behind, and the
training goes on from its last checkpoint as if nothing had happened.

Moments are in the steps and their checkpoints, or while ranks join and load the last checkpoint.
BRAZE_TEST_KILLS says how many times; four by default, of which each is of another kind.
"""

import json
import os
import random
import re
import signal
import time

import pytest
from interrupted import Training, steps_saved
from resumable_training import EVERY

pytestmark = pytest.mark.xdist_group("ranks")

KILLS = int(os.environ.get("BRAZE_TEST_KILLS", "4"))
LAST = 60  # no rank is killed after this step
# What rank 0 leaves if it is killed while it writes; the checkpoint before it is still whole.
UNFINISHED = r"/\.checkpoint\.pt\.[\d-]+$"
STEPS = {"whole": 400, "sharded": 200}  # of the run that nobody interrupts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    """The losses of a run of a kind that nobody interrupts."""
    known = {}

    def losses(kind):
        if kind not in known:
            training = Training(folder / kind, STEPS[kind], kind=kind)
            assert training.wait() == 0, training.text()
            known[kind] = training.losses(0)
            assert len(known[kind]) == STEPS[kind] and known[kind][LAST] < 0.9 * known[kind][0]
            assert training.left() == []
        return known[kind]

    return losses


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_rank_killed_at_a_random_moment(folder, uninterrupted, seed):
    kind, is_joining = ("whole", "sharded")[seed % 2], seed % 4 > 1
    losses = uninterrupted(kind)
    moments = random.Random(seed)
    rank = moments.randrange(4)
    own = folder / f"kill{seed}"
    if is_joining:
        assert Training(own, EVERY + 3, kind=kind).wait() == 0  # so that there is something to load
    training = Training(own, 100 * STEPS[kind], kind=kind)
    if is_joining:
        training.until_all_have_started()
        time.sleep(moments.uniform(0, 0.05))
    else:
        training.until(moments.randrange(LAST))
        time.sleep(moments.uniform(0, 0.02))
    os.kill(training.process(rank), signal.SIGKILL)
    killed = time.monotonic()
    code = training.wait(60)
    # Open MPI 5.0 itself may crash in ranks that make a communicator at this moment.
    has_crashed = is_joining and "ompi_comm_revoke_local" in training.text()
    assert code != 0 or has_crashed, training.text()
    assert time.monotonic() - killed < 30, training.text()
    for other in set() if has_crashed else set(range(4)) - {rank}:
        (words,) = training.said(other, "error")
        assert re.search(
            rf"rank {rank} (\(process \d+ on .*\) has ended|cannot be reached)", " ".join(words)
        )
    assert not training.said(rank, "error")
    left = [name for name in training.left(5) if not re.search(UNFINISHED, name)]
    assert left == [] and len(list(own.glob(".checkpoint.pt.*"))) <= (rank == 0)

    first = steps_saved(own, kind)
    done = training.losses(0)
    assert first >= (EVERY if is_joining else 0)
    assert not done or max(done) + 1 - first <= EVERY
    again = Training(own, first + 15, kind=kind)
    assert again.wait() == 0, again.text()
    found = again.losses(0)
    assert list(found) == list(range(first, first + 15))
    assert found == pytest.approx({step: losses[step] for step in found}, rel=1e-4)
    assert [name for name in again.left(5) if not re.search(UNFINISHED, name)] == []
    if kind == "sharded":  # what a killed rank had written of a checkpoint is gone
        files = {file.name for file in (own / "checkpoint").iterdir()}
        manifest = json.loads((own / "checkpoint" / "manifest.json").read_bytes())
        assert files == {"manifest.json", *manifest["files"]}
