"""Two hosts, made of Linux network namespaces: ranks of both train together over TCP, the link
between them is cut, every rank ends in time and says whom it cannot reach, and the training goes on
from its last checkpoint.

Hosts are network namespaces (`benchmarks.hosts`); they share the disk, and the processor.
"""

import re
import sys
import time

import pytest
from interrupted import Training, steps_saved
from ranks import _is_open_mpi, mpiexec

from benchmarks.hosts import Hosts, Unavailable

pytestmark = pytest.mark.xdist_group("ranks")

TIMEOUT = 4


@pytest.fixture
def hosts(tmp_path):
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    if not _is_open_mpi(mpiexec()):
        pytest.skip("two hosts are set up for Open MPI")
    try:
        made = Hosts(tmp_path, ["near", "far"])
    except Unavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_a_cut_link_between_two_hosts(hosts, tmp_path):
    folder = tmp_path / "training"
    options = hosts.options(slots=2)

    def start(where, steps):
        return Training(
            tmp_path / where,
            steps,
            options,
            hosts.enter["near"],
            timeout=TIMEOUT,
            seconds=0.01,
            kind="sharded",  # with sums that are exchanged in parts
        )

    whole = start("whole", 80)
    assert whole.wait() == 0, whole.text()
    losses = whole.losses(0)
    assert len(losses) == 80 and losses[79] < losses[0]

    training = start("training", 100_000)
    training.until(33)
    hosts.run("near", "ip link set link0 down")
    cut = time.monotonic()
    training.until_ranks_have_ended()
    assert time.monotonic() - cut < 30
    # Open MPI's launcher still waits for its daemon on the other host.
    hosts.run("near", "ip link set link0 up")
    training.stop()
    assert training.wait(60) != 0
    for rank in range(4):
        (words,) = training.said(rank, "error")
        text = " ".join(words)
        missing = (2, 3) if rank < 2 else (0, 1)
        for other in missing:
            assert re.search(rf"rank {other} \(process \d+ on", text), training.text()
    assert training.left() == []

    first = steps_saved(folder, "sharded")
    assert first >= 30
    again = start("training", first + 15)
    assert again.wait() == 0, again.text()
    found = again.losses(3)
    assert list(found) == list(range(first, first + 15))
    expected = {step: losses[step] for step in found}
    assert found == pytest.approx(expected, rel=1e-4)
    assert again.left() == []
