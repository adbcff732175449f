"""A rank killed at a random moment: all others say which one, nothing is left behind, and the
training goes on from its last checkpoint as if nothing had happened.

BRAZE_TEST_KILLS says how many times; four by default.
"""

import os
import random
import re
import signal
import time

import pytest
from interrupted import Training
from resumable_training import EVERY

import braze

pytestmark = pytest.mark.xdist_group("ranks")

KILLS = int(os.environ.get("BRAZE_TEST_KILLS", "4"))
LAST = 60  # no rank is killed after this step
# What rank 0 leaves if it is killed while it writes; the checkpoint before it is still whole.
UNFINISHED = r"/\.checkpoint\.pt\.[\d-]+$"
STEPS = 400  # of the run that nobody interrupts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of all runs, and the losses of one that nobody interrupts."""
    folder = tmp_path_factory.mktemp("kills")
    training = Training(folder / "whole", STEPS)
    assert training.wait() == 0, training.text()
    losses = training.losses(0)
    assert len(losses) == STEPS and losses[LAST] < 0.9 * losses[0]
    assert training.left() == []
    return folder, losses


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_rank_killed_at_a_random_moment(whole, seed):
    folder, losses = whole
    moments = random.Random(seed)
    rank = moments.randrange(4)
    own = folder / f"kill{seed}"
    training = Training(own, 100 * STEPS)
    training.until(moments.randrange(LAST))
    time.sleep(moments.uniform(0, 0.02))
    os.kill(training.process(rank), signal.SIGKILL)
    killed = time.monotonic()
    assert training.wait(60) != 0
    assert time.monotonic() - killed < 30, training.text()
    for other in set(range(4)) - {rank}:
        (words,) = training.said(other, "error")
        assert re.search(rf"rank {rank} \(process \d+ on .*\) has ended", " ".join(words))
    assert not training.said(rank, "error")
    left = [name for name in training.left(5) if not re.search(UNFINISHED, name)]
    assert left == [] and len(list(own.glob(".checkpoint.pt.*"))) <= (rank == 0)

    saved = own / "checkpoint.pt"
    first = braze.load(saved)["steps"] if saved.exists() else 0
    done = len(training.losses(0))
    assert done - first <= EVERY
    again = Training(own, first + 15)
    assert again.wait() == 0, again.text()
    found = again.losses(0)
    assert list(found) == list(range(first, first + 15))
    assert found == pytest.approx({step: losses[step] for step in found}, rel=1e-4)
    assert [name for name in again.left(5) if not re.search(UNFINISHED, name)] == []
