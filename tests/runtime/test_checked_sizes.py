"""`config.check` of code that serves many sizes: it is that code that runs, for each of them."""

import numpy as np
import pytest
from faults import wrong_operation

import braze
from braze.nn import functional as F
from braze.runtime.cache import clear_memory
from braze.runtime.checked_sizes import CheckedSizes
from braze.runtime.checking import KernelDifference
from braze.runtime.config import config


@pytest.fixture(autouse=True)
def served(monkeypatch):
    """The sizes that were served by code for many."""
    braze.sync()
    clear_memory()
    sizes = []
    right = CheckedSizes.executable

    def noting(self, graph, chosen):
        sizes.extend(chosen)
        return right(self, graph, chosen)

    monkeypatch.setattr(CheckedSizes, "executable", noting)
    with config.using(check=True, cache_dir="", recompile_limit=0):
        yield sizes
    clear_memory()


def scaled(rows, columns=9):
    x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    t = braze.from_numpy(x)
    found = (t - t.mean(0)).relu() / (t.std(0) + 1.0)
    expected = np.maximum(x - x.mean(0), 0) / (x.std(0, ddof=1) + 1.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def layers(rows):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s).astype(np.float32) for s in ((12, 20), (20, 7))]
    w, v = (braze.from_numpy(a).requires_grad_() for a in weights)
    x = braze.from_numpy(np.random.default_rng(rows).standard_normal((rows, 12), np.float32))
    F.softmax((x @ w).tanh() @ v, 1).square().sum().backward()
    assert np.isfinite(w.grad.numpy()).all() and np.isfinite(v.grad.numpy()).all()


@pytest.mark.parametrize("program", [scaled, layers])
def test_code_for_many_sizes_passes(program, served):
    for rows in (20, 30, 24, 21, 22, 23, 25, 28, 31, 40, 19):
        program(rows)
    # (Primes near the third size are what it is planned for.)
    assert set(served) >= {21, 22, 23, 25, 28, 31, 40, 19}


def test_a_fault_in_code_for_many_sizes_is_found(monkeypatch, served):
    for rows in (20, 30):
        scaled(rows, 10)
    wrong_operation(monkeypatch, "maximum", "minimum")
    for rows in (24, 25, 37):
        with pytest.raises(KernelDifference, match=r"maximum.* \(test_checked_sizes.py:\d+\)"):
            scaled(rows, 10)
    assert served == [24, 25, 37]


def test_without_dynamic_shapes_each_size_is_checked_for_itself(served):
    with config.using(dynamic_shapes=False):
        for rows in (20, 30, 24, 25):
            scaled(rows, 11)
    assert served == []
