"""An optimizer's first step is compiled when it is met."""

import itertools

import numpy as np
import pytest

import braze
from braze import nn
from braze.runtime import background, cache
from braze.runtime.cache import clear_memory
from braze.runtime.config import config
from braze.runtime.stats import stats
from braze.runtime.training_steps import is_first_step
from braze.tracing import trace


@pytest.fixture(autouse=True)
def fresh():
    clear_memory()
    with config.using(tier="auto", background="never", cache_dir="", debug=0, dump_dir=""):
        yield
    clear_memory()


WIDTHS = itertools.count(8)  # of a model that has not been trained here yet


def train(sizes, optimizer=braze.optim.SGD):
    """How many graphs each step of a new kind of model has compiled."""
    width = next(WIDTHS)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 1))
    steps = optimizer(model.parameters(), lr=0.01)
    braze.sync()
    found = []
    for size in sizes:
        before = stats.compiles
        steps.zero_grad()
        model(braze.ones(size, 4)).square().mean().backward()
        steps.step()
        found.append(stats.compiles - before)
    return found


@pytest.mark.parametrize("optimizer", [braze.optim.SGD, braze.optim.Adam, braze.optim.RMSprop])
def test_the_first_step_is_compiled_at_once(optimizer):
    assert train([3, 3, 3], optimizer=optimizer) == [1, 0, 0]


def test_of_one_line_only_the_first():
    """Sizes that change are no promise."""
    assert train([3, 4, 5, 3]) == [1, 0, 0, 0]


def test_a_model_made_anew_at_the_same_line_is_interpreted_first():
    assert train([3]) == [1]
    assert train([3, 3]) == [0, 1]


def test_other_graphs_are_interpreted_first():
    before = stats.compiles
    x = braze.ones(5)
    assert (x * 2).sum().item() == 10 and stats.compiles == before


def test_the_results_are_the_interpreters():
    def losses():
        braze.manual_seed(0)
        model = nn.Linear(4, 2)
        steps = braze.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(2):
            steps.zero_grad()
            loss = model(braze.ones(3, 4)).square().sum()
            loss.backward()
            steps.step()
        return loss.item(), model.weight.detach().numpy()

    compiled = losses()
    with config.using(tier="interpret"):
        interpreted = losses()
    for one, other in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


class Underway:
    """A job that does not end."""

    was_awaited = False

    def remaining(self):
        return 60.0

    def poll(self):
        return None


def test_a_large_first_step_is_compiled_beside_the_interpreter(monkeypatch):
    """Its first run does not wait for the code, and it is under way before the second."""
    submitted = []

    def submit(graph, *rest):
        submitted.append(graph)
        return Underway()

    monkeypatch.setattr(background, "submit", submit)
    monkeypatch.setattr(cache, "compile_seconds", lambda graph: 60.0)
    before = stats.interpreted
    with config.using(background="auto"):
        train([3])
    assert len(submitted) == 1
    assert stats.interpreted == before + 2  # making the weights, and this


def test_what_counts_is_the_line_of_the_update():
    weight = braze.ones(3, requires_grad=True)

    def no_update(x):
        return x.mul(2).sum()

    assert not is_first_step(trace(no_update, (weight,)).graph)
