"""What tests of this folder share."""

import pytest

import braze


@pytest.fixture
def interpret():
    """Interpret graphs, and run what the test has recorded before that ends; nothing of an earlier
    test is in its graphs."""
    braze.sync()
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()
