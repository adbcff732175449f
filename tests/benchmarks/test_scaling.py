"""The model of steps on many hosts, and its simulator, against closed forms and small steps."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scaling import (
    NETWORKS,
    RESNET18,
    Network,
    Step,
    all_reduce,
    check,
    fitted,
    predict,
    rabenseifner,
    recursive_doubling,
    ring,
    simulate,
)

ROOT = Path(__file__).resolve().parents[2]
NET = Network("n", 1e-5, 1e-9, 2e-10)


def test_algorithms_cost_what_their_messages_cost():
    """Counted message by message, as if they ran."""
    for ranks in (2, 4, 8, 64):
        n, part = 1e6, 1e6 / ranks
        phase = (ranks - 1) * (NET.alpha + part * NET.beta)
        assert ring(ranks, n, NET) == pytest.approx(2 * phase + (ranks - 1) * part * NET.gamma)
        rounds = int(np.log2(ranks))
        each = NET.alpha + n * NET.beta + n * NET.gamma
        assert recursive_doubling(ranks, n, NET) == pytest.approx(rounds * each)
        halves = [n / 2**k for k in range(1, rounds + 1)]
        there = sum(NET.alpha + h * (NET.beta + NET.gamma) for h in halves)
        back = sum(NET.alpha + h * NET.beta for h in halves)
        assert rabenseifner(ranks, n, NET) == pytest.approx(there + back)


def test_the_best_algorithm_depends_on_size_and_ranks():
    assert all_reduce(1, 1e6, NET) == 0.0
    assert all_reduce(64, 8, NET) == recursive_doubling(64, 8, NET)
    assert all_reduce(64, 1e8, NET) == rabenseifner(64, 1e8, NET) < ring(64, 1e8, NET)


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
    sizes = [1e3, 1e5, 1e7]
    network = fitted(sizes, [2e-5 + n * 3e-10 for n in sizes])
    assert network.alpha == pytest.approx(2e-5) and network.beta == pytest.approx(3e-10)
    seconds = [2e-5 + n * 3e-10 for n in (1e3, 1e4, 1e5, 1e6)]
    runs = {
        "sizes": [1e3, 1e4, 1e5, 1e6], "seconds": seconds, "synchronised": 1.2,
        "step": {"compute": 1.0, "buckets": [[1e6, 1.0]], "update": 0.1},
    }  # fmt: skip
    text = check(runs)
    assert text.count("0%  predicted") == 2 and "measured 1200.0 ms" in text


def test_the_command_prints_a_table():
    command = [sys.executable, "-m", "benchmarks.scaling", "--hosts", "1", "64"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 2 * len(NETWORKS) and "| 1 | 930 | 0 | 100% |" not in lines[0]
    assert json.dumps(NETWORKS[0].name).strip('"') in lines[2]
