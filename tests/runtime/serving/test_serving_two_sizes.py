"""Models whose requests choose two sizes: the first one's rows are put together."""

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

from served import ask, error, floats, npy, read_npy
from test_serving_batches import NPY, reason, together

import braze
from braze import nn
from braze.aot import Dim

DIMS = {0: Dim("batch", max=32), 1: Dim("time", max=24)}


@pytest.fixture
def tagger(package):
    """x: f32[batch,time,6] -> f32[batch,time,3], each sequence for itself"""
    braze.manual_seed(0)
    layers, net = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def function(x):
        return net(layers(x)[0])

    return braze.runtime.load(package("tagger", function, braze.randn(4, 9, 6), [DIMS]))


def test_requests_of_one_length_become_one_call(tagger):
    shapes = [(1, 5), (1, 5), (2, 9), (3, 5), (1, 9), (4, 24), (2, 5)]
    given = [floats(i, *shape, 6) for i, shape in enumerate(shapes)]
    responses, sizes = together(tagger, [npy(x) for x in given])
    # The first runs alone; then those of 5 steps, of 9, and of 24.
    assert sizes == [1, 6, 3, 4]
    for x, response in zip(given, responses, strict=True):
        np.testing.assert_allclose(read_npy(response), tagger(x), rtol=1e-4, atol=1e-5)


def test_rows_that_depend_on_others_are_not_put_together(package):
    def function(x):
        return x - x.mean(0, keepdim=True)

    model = braze.runtime.load(package("centred_two", function, braze.randn(4, 9, 6), [DIMS]))
    assert reason(model) == "output output of a row changes with other rows"


def test_an_input_without_rows_has_to_be_the_same(package):
    def function(x, w):
        return x * w[:, None]

    examples = [braze.randn(4, 9, 6), braze.randn(9)]
    dims = [DIMS, {0: DIMS[1]}]
    model = braze.runtime.load(package("weighted_two", function, examples, dims))
    given = [model.inputs[0].name, model.inputs[1].name]
    assert given == ["x", "w"] and reason(model) is None


def test_the_sizes_are_described_and_checked(tagger):
    found = ask(tagger, "/model").json()
    assert found["dynamic"] == [
        {"name": "batch", "lowest": 1, "highest": 32},
        {"name": "time", "lowest": 1, "highest": 24},
    ]
    assert found["inputs"][0]["shape"] == ["batch", "time", 6]
    assert found["outputs"][0]["shape"] == ["batch", "time", 3]
    for shape, text in {
        (33, 4, 6): "dimension 0 of input x (batch) must be 1 to 32, given 33",
        (3, 25, 6): "dimension 1 of input x (time) must be 1 to 24, given 25",
        (3, 4, 7): "input x must be f32[batch,time,6], given shape [3, 4, 7]",
    }.items():
        assert text in error(ask(tagger, (npy(floats(0, *shape)), NPY)), 422)
