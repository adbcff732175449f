"""NumPy's threads while another process compiles."""

import os
import time

import numpy as np
import pytest

import braze
from braze.runtime import background, blas_threads, cache
from braze.runtime.blas_threads import one_left_free
from braze.runtime.cache import clear_memory
from braze.runtime.config import config


@pytest.fixture
def threads(monkeypatch):
    """A stand-in for OpenBLAS, with four threads; what tells how many they are."""
    number = [4]
    functions = (lambda: number[0]), (lambda n: number.__setitem__(0, n))
    monkeypatch.setattr(blas_threads, "_functions", lambda: functions)
    return functions[0]


def test_one_is_left_free_for_a_while(threads):
    with one_left_free():
        assert threads() == 3
        with one_left_free():  # another thread's run
            assert threads() == 3
        assert threads() == 3
    assert threads() == 4


def test_an_error_gives_it_back(threads):
    with pytest.raises(IndexError), one_left_free():
        raise IndexError
    assert threads() == 4


def test_one_thread_stays(threads):
    with one_left_free(), one_left_free():
        pass
    blas_threads._functions()[1](1)
    with one_left_free():
        assert threads() == 1
    assert threads() == 1


def test_numpy_without_openblas(monkeypatch):
    monkeypatch.setattr(blas_threads, "_functions", lambda: None)
    with one_left_free():
        assert (np.ones((3, 3)) @ np.ones((3, 3)))[0, 0] == 3


def test_that_of_numpys_wheels_is_found():
    blas = np.show_config("dicts")["Build Dependencies"]["blas"]["name"]
    if blas != "scipy-openblas":
        pytest.skip(f"NumPy has {blas}")
    number, _ = blas_threads._functions()
    before = number()
    assert 1 <= before <= max(64, os.cpu_count())
    with one_left_free():
        assert number() == max(1, before - 1)
    assert number() == before


class Compiler:
    """A process that is said to compile, or not."""

    def __init__(self, busy):
        self.is_busy = lambda: busy


@pytest.mark.parametrize("busy", [False, True])
def test_a_graph_is_interpreted_with_one_less_while_another_is_compiled(threads, monkeypatch, busy):
    seen = []
    interpret = cache.interpret_with_lines

    def watching(*args):
        seen.append(threads())
        return interpret(*args)

    monkeypatch.setattr(cache, "interpret_with_lines", watching)
    monkeypatch.setattr(background._background, "_compiler", Compiler(busy))
    clear_memory()
    with config.using(tier="interpret"):
        assert (braze.ones(3, 3) @ braze.ones(3, 3)).sum().item() == 27
    assert set(seen) == {3 if busy else 4} and threads() == 4


def test_the_process_is_busy_while_it_starts_and_while_it_compiles(monkeypatch):
    monkeypatch.setattr(background, "_background", mine := background._Background())
    assert not background.is_busy()
    try:
        background.start_early()
        assert background.is_busy()
        mine._compiler._started = time.perf_counter() - 60
        assert not background.is_busy()
        mine._compiler._jobs[1] = job = background.Job(mine._compiler, 1, 1.0)
        assert background.is_busy()
        job.reply = object()
        assert not background.is_busy()
    finally:
        mine._compiler.leave()
    mine._compiler.ended = "it has"
    assert not background.is_busy()
