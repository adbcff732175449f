"""How many graphs Braze compiles: ``python -m benchmarks.counting PROGRAM THREADS full|quick``."""

from __future__ import annotations

import sys

import numpy as np

import braze
from benchmarks.models import language_model


def fifty_lengths(quick: bool) -> None:
    """Train on sentences of fifty different lengths, in mixed order, each length twice."""
    vocabulary, batch, units = 200, 4, 32
    model = language_model(braze, vocabulary, units, 1, 0.0)
    optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
    random = np.random.default_rng(0)
    lengths = random.permutation(np.repeat(np.arange(5, 10 if quick else 55), 2))
    for length in lengths:
        words, targets = random.integers(0, vocabulary, (2, int(length), batch))
        hidden = tuple(braze.zeros(1, batch, units) for _ in range(2))
        optimizer.zero_grad()
        output, _ = model(braze.from_numpy(words), hidden)
        loss = braze.nn.functional.nll_loss(output, braze.from_numpy(targets.reshape(-1)))
        loss.backward()
        optimizer.step()


def one_off(quick: bool) -> None:
    """Standardise arrays of which no two have the same number of rows."""
    random = np.random.default_rng(0)
    for rows in range(2, 52 if quick else 1002):
        x = braze.from_numpy(random.standard_normal((rows, 7), np.float32))
        scaled = (x - x.mean(0)) / (x.std(0) + 1e-5)
        scaled.numpy()


def main() -> None:
    """Run a program and print the number."""
    programs = {"fifty_lengths": fifty_lengths, "one_off": one_off}
    braze.set_num_threads(int(sys.argv[2]))
    braze.config.background = "never"  # what is still underway in the end would not be counted
    before = braze.stats.compiles + braze.stats.disk_hits
    programs[sys.argv[1]](sys.argv[3] == "quick")
    print(braze.stats.compiles + braze.stats.disk_hits - before)


if __name__ == "__main__":
    main()
