"""One code for the sizes of a model of which none comes back."""

import copy
import itertools

import numpy as np
import pytest

import braze
from braze import nn
from braze.runtime.cache import clear_memory
from braze.runtime.config import config
from braze.runtime.families import _alike
from braze.runtime.sized_texts import Text
from braze.runtime.stats import stats


@pytest.fixture(autouse=True)
def fresh():
    clear_memory()
    with config.using(tier="auto", background="never", cache_dir="", debug=0, dump_dir=""):
        yield
    clear_memory()


WIDTHS = itertools.count(8)  # of a model that has not been met here yet


class Model(nn.Module):
    """Sequences [rows, time, 4] to numbers [rows, 1]."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(4, width := next(WIDTHS)), nn.Linear(width, 1)

    def forward(self, x):
        return self.last(self.inner(x).relu().mean(dim=1))


def compiled(step, sizes):
    """How many graphs each step has compiled."""
    found = []
    for size in sizes:
        before = stats.compiles
        step(size)
        found.append(stats.compiles - before)
    return found


def trained(optimizer=braze.optim.SGD):
    """A step over sequences (rows, time) whose loss is compared with the interpreter's. It returns
    how many graphs were interpreted."""
    models = [Model()]
    models.append(copy.deepcopy(models[0]))
    steps = [optimizer(model.parameters(), lr=0.01) for model in models]
    braze.sync()

    def step(size):
        x = np.random.default_rng(size).normal(size=(*size, 4)).astype(np.float32)
        before = stats.interpreted
        loss = once(models[0], steps[0], x)
        interpreted = stats.interpreted - before
        with config.using(tier="interpret"):
            np.testing.assert_allclose(loss, once(models[1], steps[1], x), rtol=1e-4)
        return interpreted

    def once(model, steps, x):
        steps.zero_grad()
        loss = model(braze.from_numpy(x)).square().mean()
        loss.backward()
        steps.step()
        return loss.detach().numpy()

    return step


@pytest.mark.parametrize("optimizer", [braze.optim.SGD, braze.optim.Adam])
def test_the_fourth_is_compiled_for_all(optimizer):
    step = trained(optimizer)
    assert compiled(step, [(n, 3) for n in (20, 31, 24, 27)]) == [1, 0, 0, 1]
    before = stats.compiles
    assert [step((n, 3)) for n in (22, 33, 29, 25)] == [0, 0, 0, 0]
    assert stats.compiles == before


def test_without_gradients_too():
    model = Model()
    braze.sync()

    def step(rows):
        with braze.no_grad():
            assert model(braze.ones(rows, 3, 4)).numpy().shape == (rows, 1)

    assert compiled(step, [20, 31, 24, 27, 22, 33]) == [0, 0, 0, 1, 0, 0]


def test_where_another_size_changes_too_each_of_its_is_a_row():
    """Lengths of two kinds, and rows that are new in each step."""
    step = trained()
    first = [(20, 3), (31, 7), (24, 3), (27, 7), (22, 3), (33, 7)]
    assert compiled(step, first) == [1, 0, 0, 0, 0, 0]
    assert compiled(step, [(25, 3), (29, 7)]) == [1, 1]
    assert compiled(step, [(26, 3), (28, 7), (30, 3), (23, 7)])[-2:] == [0, 0]


def test_sizes_that_change_together_without_a_rule_are_left_alone():
    step = trained()
    sizes = [(20, 3), (31, 8), (24, 5), (27, 11), (22, 4), (33, 9)]
    assert compiled(step, sizes) == [1, 0, 0, 0, 0, 0]


def test_data_preparation_is_left_alone():
    def step(rows):
        x = braze.from_numpy(np.ones((rows, 5), np.float32))
        ((x - x.mean(0)) / (x.std(0) + 1)).numpy()

    assert sum(compiled(step, range(2, 302))) == 0


def test_it_can_be_switched_off():
    step = trained()
    with config.using(dynamic_shapes=False):
        assert compiled(step, [(n, 3) for n in (20, 31, 24, 27, 22)]) == [1, 0, 0, 0, 0]


def test_those_that_differ_in_the_fewest_places_come_first():
    texts = [Text.of(f"f({a}, {b}, {a})") for a, b in [(2, 5), (3, 5), (3, 6), (4, 5), (9, 8)]]
    text = Text.of("f(7, 5, 7)")
    alike = [texts[0], texts[1], texts[3]]
    assert _alike(text, [*texts, text]) == [[*alike, text], [texts[2], texts[4], text]]
    assert _alike(text, [text]) == []
