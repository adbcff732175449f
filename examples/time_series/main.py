"""Foretell a time series with an LSTM trained by L-BFGS: sine waves, or 309 years of sunspots.

The network reads a series value by value and says what comes next. Afterwards it is fed its own
answers, to draw what it expects of the future.
"""

import argparse
import time

import numpy as np
from tqdm import trange

import braze
import braze.nn.functional as F
from braze import nn, optim


class Forecaster(nn.Module):
    """Two LSTM layers; each answer is what they add to the value that was read last."""

    def __init__(self, hidden=51):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, series, state=None):
        """Of series [batch, time]: the value after each [batch, time], and the state at the end."""
        hidden, state = self.lstm(series[..., None], state)
        return series + self.linear(hidden).squeeze(-1), state

    @braze.no_grad()
    def continued(self, series, steps):
        """What the network expects after series [batch, time]: [batch, steps]."""
        values, state = self(series)
        expected = [values[:, -1:]]
        while len(expected) < steps:
            value, state = self(expected[-1], state)
            expected.append(value)
        return braze.cat(expected, dim=1)


def sine_waves(count=40, length=1000, period=20):
    """Waves of one period at random phases, float32 [count, length]."""
    phases = np.random.default_rng(2).integers(-4 * period, 4 * period, (count, 1))
    return np.sin((np.arange(length) + phases) / period).astype(np.float32)


def sunspots():
    """The yearly numbers from 1700 to 2008, scaled to about 0..2, float32 [1, 309]."""
    from statsmodels.datasets import sunspots

    numbers = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(np.float32)
    return np.sqrt(numbers[None]) / 7


def fit(model, optimizer, known, epochs, done, save):
    """Steps of L-BFGS until `epochs` are done, each of several evaluations of the loss."""

    def closure():
        optimizer.zero_grad()
        expected, _ = model(known[:, :-1])
        loss = F.mse_loss(expected, known[:, 1:])
        loss.backward()
        return loss

    bar = trange(done + 1, epochs + 1, desc="L-BFGS", leave=False, disable=None)
    for epoch in bar:
        start = time.perf_counter()
        loss = optimizer.step(closure).item()
        seconds = time.perf_counter() - start
        bar.write(f"epoch {epoch}/{epochs}: loss {loss:.2e}, {seconds:.1f} s")
        if save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, save)


def plot(series, expected, start, path):
    """Draw a series [time] and what was expected of it from `start` on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3))
    axes.plot(series, label="series")
    axes.plot(range(start, start + len(expected)), expected, "--", label="expected")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Foretell a time series with an LSTM.")
    parser.add_argument("--series", default="sine", choices=["sine", "sunspots"])
    parser.add_argument("--epochs", type=int, default=6, help="steps of L-BFGS")
    parser.add_argument("--evaluations", type=int, default=20, help="iterations in each step")
    parser.add_argument("--length", type=int, default=500, help="of the sine waves")
    parser.add_argument("--ahead", type=int, help="how far to foretell: 200, or 30 of sunspots")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw what is foretold (needs matplotlib)")
    args = parser.parse_args(argv)
    ahead = args.ahead or (200 if args.series == "sine" else 30)

    braze.manual_seed(args.seed)
    if args.series == "sine":
        waves = braze.from_numpy(sine_waves(length=args.length + ahead))
        known, testing = waves[3:, : args.length], waves[:3]
    else:
        testing = braze.from_numpy(sunspots())
        known = testing[:, :-ahead]
    known, testing = known.contiguous().to(args.device), testing.to(args.device)
    start = known.shape[1]

    model = Forecaster().to(args.device)
    optimizer = optim.LBFGS(
        model.parameters(), max_iter=args.evaluations, line_search_fn="strong_wolfe"
    )
    done = 0
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]
    fit(model, optimizer, known, args.epochs, done, args.save)

    expected = model.continued(testing[:, :start], ahead)
    error = F.mse_loss(expected, testing[:, start:]).sqrt().item()
    plain = testing[:, start:].std().item()
    with braze.no_grad():
        one = model(testing[:, :-1])[0][:, start - 1 :]
    one_step = F.mse_loss(one, testing[:, start:]).sqrt().item()
    print(
        f"root mean square error: {one_step:.4f} one step ahead, {error:.4f} up to {ahead}; "
        f"of the mean {plain:.4f}"
    )
    if args.plot:
        plot(testing[0].cpu().numpy(), expected[0].cpu().numpy(), start, args.plot)
    return one_step, error


if __name__ == "__main__":
    main()
