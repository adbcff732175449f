"""Programs of one size, for tests of code that serves many."""

import itertools

import numpy as np

import braze

_columns = itertools.count(5)


def scaled_rows(centre="mean"):
    """A small program over so many rows, compared with NumPy; no two have the same graphs.

    Args:
        centre: what is taken from each column, "mean" or "max".
    """
    columns = next(_columns)
    name = {"mean": "mean", "max": "amax"}[centre]

    def program(rows):
        x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
        t = braze.from_numpy(x)
        found = (t - getattr(t, name)(0)) / (t.std(0) + 1.0)
        expected = (x - getattr(x, centre)(0)) / (x.std(0, ddof=1) + 1.0)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)

    return program


def run(program, sizes, times=2):
    for size in sizes:
        for _ in range(times):
            program(size)
