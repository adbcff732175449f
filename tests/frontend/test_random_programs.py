"""Random programs with views, in-place writes and gradients do what an independent replay in NumPy
does, whether they are interpreted, run operation by operation, in short traces or compiled.

`python tests/long_programs.py` runs many more.
"""

import random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from programs import GENES, Difference, check, check_all, make, settings, simplest

import braze

PROGRAMS = 1000
MOST_STEPS = 18


@pytest.fixture(autouse=True, scope="module")
def quickly():
    braze.sync()
    with settings():
        yield


@given(st.lists(st.binary(min_size=GENES, max_size=GENES), min_size=4, max_size=MOST_STEPS))
@hypothesis_settings(
    max_examples=PROGRAMS,
    derandomize=True,  # others are run by tests/long_programs.py
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_programs_do_what_their_replay_does(genes):
    check_all(genes)


def some_genes(seed):
    rng = random.Random(seed)
    return [rng.randbytes(GENES) for _ in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_a_printed_program_runs_by_itself(seed, capsys):
    program = make(some_genes(seed))
    exec(compile(program.source(), "printed", "exec"), {})
    assert capsys.readouterr().out.count("tensor(") >= 1


def test_differences_are_seen_and_programs_shrunk(monkeypatch):
    """An addition is wrong for some shapes: programs that add are found, and made short."""
    add = braze.Tensor.__add__

    def wrong(self, other):
        return add(self, other) if self.ndim != 2 else add(self, other) + 1

    monkeypatch.setattr(braze.Tensor, "__add__", wrong)

    def fails(genes):
        program = make(genes)
        try:
            check(program, program.data, "interpret")
        except Difference:
            return True
        return False

    seed = next(seed for seed in range(500) if fails(some_genes(seed)))
    small = simplest(some_genes(seed), fails)
    steps = [step.source for step in make(small).steps]
    assert len(steps) <= 4 and any(" + " in step for step in steps)
    with pytest.raises(Difference, match="The program:\n\nimport numpy as np"):
        check_all(small)
