"""Packages that the tests serve."""

import pytest

import braze
from braze import nn
from braze.aot import Dim
from braze.runtime import load

BATCH = Dim("batch", max=64)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Compiles a function, once for each name; the path of its package."""
    folder = tmp_path_factory.mktemp("packages")

    def make(name, function, examples, dynamic=None):
        path = folder / f"{name}.brz"
        if not path.exists():
            braze.manual_seed(0)
            braze.aot.compile(function, examples, path, dynamic=dynamic)
        return path

    return make


@pytest.fixture(scope="session")
def mlp_path(package):
    braze.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

    def mlp(x):
        return net(x)

    return package("mlp", mlp, braze.randn(8, 6), [{0: BATCH}])


@pytest.fixture
def mlp(mlp_path):
    """f32[batch,6] -> f32[batch,3]"""
    return load(mlp_path)


@pytest.fixture
def pair(package):
    """x, y: f32[batch,3] -> {"sum": x + y, "parts": (2 x, None)}"""

    def function(x, y):
        return {"sum": x + y, "parts": (x * 2, None)}

    examples = [braze.randn(8, 3), braze.randn(8, 3)]
    return load(package("pair", function, examples, [{0: BATCH}, {0: BATCH}]))


@pytest.fixture
def table(package):
    """ids: i64[batch,4] below 10 -> f32[batch,2]"""
    braze.manual_seed(0)
    embedding = nn.Embedding(10, 2)

    def function(ids):
        return embedding(ids).sum(1)

    example = braze.zeros(8, 4, dtype=braze.int64)
    return load(package("table", function, [example], [{0: BATCH}]))


@pytest.fixture
def scaled(package):
    """x: f32[batch,3], w: f32[3] -> x w"""

    def function(x, w):
        return x * w

    return load(package("scaled", function, [braze.randn(8, 3), braze.randn(3)], [{0: BATCH}, {}]))


@pytest.fixture
def fixed(package):
    """x: f32[4,2] -> 2 x"""

    def function(x):
        return x * 2

    return load(package("fixed", function, braze.randn(4, 2)))


@pytest.fixture
def unary(package):
    """Compiles a function of one tensor whose rows are dynamic, or fixed."""

    def make(name, function, example, dynamic=True):
        return load(package(name, function, [example], [{0: BATCH}] if dynamic else None))

    return make
