"""The model of steps on many hosts, and its simulator, against closed forms and small steps."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hosts import Hosts, Unavailable
from benchmarks.scaling import (
    NETWORKS,
    RESNET18,
    Network,
    Step,
    all_reduce,
    check,
    exchange,
    fitted,
    predict,
    recursive_doubling,
    simulate,
)
from braze.runtime.distributed.exchanged import meetings_of

ROOT = Path(__file__).resolve().parents[2]
NET = Network("n", 1e-5, 1e-9, 2e-10)


@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 7, 8, 12, 64])
def test_an_exchange_costs_what_its_messages_cost(ranks):
    """Counted message by message, as the ranks send them: a round takes as long as what goes out
    of a rank, or comes in, and as adding up what has come."""
    elements = 4 * ranks * 1000
    nbytes = 4.0 * elements

    def seconds(span):
        return NET.alpha + 4 * (span.stop - span.start) * NET.beta

    there = back = 0.0
    for meeting in meetings_of(1, ranks, elements):
        own = meeting.own
        there += sum(seconds(span) for span in meeting.others.values())
        there += len(meeting.others) * 4 * (own.stop - own.start) * NET.gamma
        back += len(meeting.others) * seconds(own)
    assert exchange(ranks, nbytes, NET) == pytest.approx(there + back)


def test_recursive_doubling_costs_what_its_messages_cost():
    each = NET.alpha + 1e6 * NET.beta + 1e6 * NET.gamma
    assert recursive_doubling(64, 1e6, NET) == pytest.approx(6 * each)


def test_the_algorithm_depends_on_the_size():
    assert all_reduce(1, 1e6, NET) == 0.0
    assert all_reduce(64, 8, NET) == recursive_doubling(64, 8, NET) < exchange(64, 8, NET)
    assert all_reduce(64, 1e8, NET) == exchange(64, 1e8, NET) < recursive_doubling(64, 1e8, NET)


def test_one_bucket():
    late = Step(1.0, ((1e6, 1.0),), 0.1)
    assert simulate(late, [0.5]) == pytest.approx(1.6)  # nothing hides it
    early = Step(1.0, ((1e6, 0.2),), 0.1)
    assert simulate(early, [0.5]) == pytest.approx(1.1)  # all of it is hidden
    assert simulate(early, [2.0]) == pytest.approx(0.2 + 2.0 + 0.1)
    slower = Step(1.0, ((1e6, 0.2),), 0.1, borrowed=0.5)
    assert simulate(slower, [0.4]) == pytest.approx(1.3)  # 0.2 of compute is lost to it
    assert simulate(early, [0.0], pace=2.0) == pytest.approx(2.2)


def small_steps(step, durations, pace, dt=2e-4):
    """The same by advancing in small steps of time."""
    compute, update = step.compute * pace, step.update * pace
    now = done = 0.0
    number, left = 0, None
    while done < compute - 1e-9 or number < len(durations):
        if left is None and number < len(durations):
            if done >= step.buckets[number][1] * pace - 1e-9:
                left = durations[number]
        speed = 1.0 if left is None else 1.0 - step.borrowed
        done = min(compute, done + speed * dt)
        now += dt
        if left is not None:
            left -= dt
            if left <= 1e-12:
                number, left = number + 1, None
    return now + update


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 0.4)), max_size=4),
    st.floats(0.0, 0.9),
    st.floats(0.5, 1.5),
)
def test_the_simulator_is_what_happens_in_small_steps(buckets, borrowed, pace):
    buckets = sorted(buckets)
    step = Step(1.0, tuple((1.0, ready) for ready, _ in buckets), 0.05, borrowed)
    durations = [duration for _, duration in buckets]
    found = simulate(step, durations, pace)
    assert found == pytest.approx(small_steps(step, durations, pace), abs=5e-3)
    assert found >= max(step.alone * pace, sum(durations)) - 1e-9
    assert found <= step.alone * pace + sum(durations) + 1e-9


def test_the_slowest_of_many_hosts():
    """The mean of the largest of 64 normal numbers is 2.344 standard deviations (Harter 1961)."""
    step = Step(1.0, ())
    found = predict(step, 64, NET, spread=0.01, draws=4000)
    assert found.seconds == pytest.approx(1.02344, abs=5e-4)
    assert found.efficiency == pytest.approx(1 / 1.02344, abs=5e-4)


def test_more_hosts_never_help():
    for network in NETWORKS:
        efficiencies = [predict(RESNET18, p, network).efficiency for p in (1, 2, 8, 64, 1024)]
        assert efficiencies == sorted(efficiencies, reverse=True)
        assert efficiencies[0] == pytest.approx(1.0)


def test_constants_are_found_again():
    """At two ranks; those of four are predicted. Times of MPI's algorithm and of exchanges."""
    real = Network("real", 2e-5, 3e-10)
    sizes = [1e3, 1e6, 1e7, 2e7, 4e7]
    seconds = [all_reduce(2, n, real) for n in sizes]
    network = fitted(2, sizes, seconds)
    assert network.alpha == pytest.approx(2e-5) and network.beta == pytest.approx(3e-10)
    step = {"compute": 1.0, "buckets": [[1e6, 1.0]]}
    runs = [
        {"ranks": ranks, "sizes": [1e3, 1 << 20, 1e7, 2e7, 4e7], "synchronised": 1.2, "step": step,
         "seconds": [all_reduce(ranks, n, real) for n in [1e3, 1 << 20, 1e7, 2e7, 4e7]]}
        for ranks in (2, 4)
    ]  # fmt: skip
    lines = check(runs).splitlines()
    assert lines[0] == "alpha 20 us, 3333 MB/s"
    assert sum(line.endswith("  fitted") for line in lines) == 2
    predicted = [line for line in lines if line.endswith("  predicted")]
    assert len(predicted) == 8 and all(abs(int(line.split()[3][:-1])) == 0 for line in predicted)
    assert sum("measured 1200.0 ms" in line for line in lines) == 6


def test_the_command_prints_a_table():
    command = [sys.executable, "-m", "benchmarks.scaling", "--hosts", "1", "64"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 2 * len(NETWORKS)
    for i, network in enumerate(NETWORKS):
        alone, many = (
            [cell.strip() for cell in line.split("|")] for line in lines[2 + 2 * i :][:2]
        )
        assert alone[1:3] == [network.name, "1"] and alone[4:6] == ["0", "100%"]
        found = predict(RESNET18, 64, network, 0.02)
        assert many[1:3] == [network.name, "64"] and many[3] == f"{found.seconds * 1e3:.0f}"


@pytest.mark.xdist_group("ranks")
def test_hosts_are_measured(tmp_path):
    """Two of them, with a network that passes 200 Mb/s, by a program in place of the benchmark."""
    try:
        made = Hosts(tmp_path, ["one", "two"], "tbf rate 200mbit burst 64kb latency 200ms")
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        server = "import socket; s = socket.create_server(('', 7000)); print('x', flush=True); "
        server += "c = s.accept()[0]; n = 0\nwhile d := c.recv(1 << 20): n += len(d)\nprint(n)"
        with subprocess.Popen(
            [*made.enter["two"], sys.executable, "-c", server], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "x\n"
            client = f"""
import socket, time
s = socket.create_connection(('{made.addresses["two"]}', 7000)); t = time.perf_counter()
s.sendall(bytes(5_000_000)); s.shutdown(socket.SHUT_WR); s.recv(1)
print(time.perf_counter() - t)"""
            sent = subprocess.run(
                [*made.enter["one"], sys.executable, "-c", client],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            assert process.stdout.readline() == "5000000\n"
    finally:
        made.close()
    assert float(sent.stdout) > 0.8 * 5e6 * 8 / 200e6
