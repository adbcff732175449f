"""Functions of one operand on sparse tensors: those with f(0) = 0 work on the values."""

import math

import numpy as np
import pytest
from sparse_tensors import check, drawn

import braze
from braze.functions.pointwise import UNARY as FUNCTIONS


@pytest.fixture(autouse=True)
def interpreted():
    """Elementwise kernels are tested elsewhere, for every function."""
    braze.sync()
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()


@pytest.fixture
def pair():
    """A hybrid tensor with repeated places, and its elements."""
    return drawn((4, 5, 2), 2, nnz=9, seed=1)


UNARY = (
    "abs asinh atan ceil erf expm1 floor frac isinf isnan isposinf neg relu round sgn sign signbit "
    "sin sinh sqrt square tan tanh trunc"
).split()
NUMPY = {
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "frac": lambda a: a - np.trunc(a),
    "isposinf": np.isposinf,
    "neg": np.negative,
    "relu": lambda a: np.maximum(a, 0),
    "round": np.round,
    "sgn": np.sign,
}


@pytest.mark.parametrize("name", UNARY)
def test_functions_that_keep_zero(pair, name):
    x, a = pair
    if name == "sqrt":
        x, a = x.abs(), abs(a)
    if name == "erf":
        expected = np.vectorize(math.erf)(a)
    else:
        expected = NUMPY.get(name, getattr(np, name, None))(a)
    function = getattr(braze, name)
    for found in (function(x), getattr(x, name)()):
        assert found.is_sparse
        assert found.dtype is (braze.bool if name.startswith(("is", "signb")) else braze.float64)
        check(found, expected)


def test_every_other_function_of_elements_refuses(pair):
    x, _ = pair
    count = 0
    for name, function in FUNCTIONS.items():
        try:
            dense = function(braze.zeros(1, dtype=braze.float64))
        except Exception:  # not for this dtype
            continue
        if dense.item() == 0:
            assert function(x).is_sparse, name
        else:
            count += 1
            with pytest.raises(NotImplementedError, match=rf"\[{name}\] there is no sparse form"):
                function(x)
    assert count > 10
