"""Random programs with views, in-place writes and gradients: interpreted, run operation by operation
and compiled they do what an independent replay in NumPy does.

`python tests/long_programs.py` runs many more.
"""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from programs import GENES, KINDS, Difference, check, check_all, make, settings, simplest

PROGRAMS = 2000
genes = st.binary(min_size=GENES, max_size=GENES)


@pytest.fixture(autouse=True, scope="module")
def quickly():
    with settings():
        yield


@given(st.lists(genes, min_size=4, max_size=14))
@hypothesis_settings(
    max_examples=PROGRAMS, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_programs_do_what_their_replay_does(steps):
    check_all(steps)
