"""A network that adds and removes layers while it trains, on points of two spirals.

It begins with no hidden layer between its first and its last. After each epoch it grows by one, as
long as it makes mistakes; once it makes none, it drops each layer that it does as well without.
Braze compiles one graph for each depth when that depth comes first, and uses it again when the
network returns to it: `braze.explain()` at the end lists them.
"""

import argparse
import time

import numpy as np
from tqdm import trange

import braze
import braze.nn.functional as F
from braze import nn, optim


class Block(nn.Module):
    """A residual layer that changes nothing at first."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x):
        return x + self.outer(F.relu(self.inner(x)))


class Growing(nn.Module):
    """Points [batch, 2] to logits [batch] of belonging to the second spiral."""

    def __init__(self, width=24):
        super().__init__()
        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList()

    def forward(self, points):
        x = F.relu(self.first(points))
        for block in self.blocks:
            x = block(x)
        return self.last(x).squeeze(-1)

    def grow(self):
        device = self.first.weight.device
        self.blocks.append(Block(self.first.out_features).to(device))

    def shrink(self, index):
        """Take a block out and return it."""
        block = self.blocks[index]
        del self.blocks[index]
        return block


def spirals(count, turns=1.5, noise=0.02, seed=0):
    """Points float32 [count, 2] of two spirals around each other, and which one it is [count]."""
    random = np.random.default_rng(seed)
    spiral = np.arange(count) % 2
    radius = np.sqrt(random.uniform(0.01, 1, count))
    angle = 2 * np.pi * turns * radius + np.pi * spiral
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points += random.normal(0, noise, points.shape)
    return points.astype(np.float32), spiral.astype(np.float32)


def train(model, optimizer, points, spiral, args, label):
    """Steps of Adam on random batches."""
    model.train()
    for _ in trange(args.steps, desc=label, leave=False, disable=None):
        batch = braze.randint(len(points), (args.batch_size,), device=args.device)
        loss = F.binary_cross_entropy_with_logits(model(points[batch]), spiral[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@braze.no_grad()
def accuracy(model, points, spiral):
    model.eval()
    return ((model(points) > 0) == (spiral > 0.5)).float().mean().item()


def prune(model, points, spiral):
    """Drop, one after the other, the blocks without which the network is as good as with them."""
    before = accuracy(model, points, spiral)
    for index in reversed(range(len(model.blocks))):
        block = model.shrink(index)
        if accuracy(model, points, spiral) < before:
            model.blocks.insert(index, block)


def plot(model, points, spiral, path, device):
    """Draw the points over what the network says of the plane."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    line = np.linspace(-1.1, 1.1, 200, dtype=np.float32)
    plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    with braze.no_grad():
        chance = model(braze.from_numpy(plane).to(device)).sigmoid().cpu().numpy()
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.contourf(line, line, chance.reshape(200, 200), levels=20, cmap="RdBu", alpha=0.8)
    axes.scatter(*points.T, c=spiral, cmap="RdBu", s=6, edgecolors="black", linewidths=0.3)
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a network that grows and shrinks.")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300, help="of an epoch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--turns", type=float, default=2.5, help="of each spiral")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw what it learned (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    arrays = spirals(2000, args.turns, seed=args.seed)
    points, spiral = (braze.from_numpy(a).to(args.device) for a in arrays)
    testing = [braze.from_numpy(a).to(args.device) for a in spirals(2000, args.turns, seed=0)]
    model = Growing().to(args.device)
    done, right = 0, 0.0
    if args.resume:
        checkpoint = braze.load(args.resume)
        for _ in range(checkpoint["blocks"]):
            model.grow()
        model.load_state_dict(checkpoint["model"])
        done = checkpoint["epoch"]

    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        # A new one each time, since the parameters are others.
        optimizer = optim.Adam(model.parameters(), lr=args.lr)
        train(model, optimizer, points, spiral, args, f"epoch {epoch}")
        seconds = time.perf_counter() - start
        depth, right = len(model.blocks), accuracy(model, points, spiral)
        tested = accuracy(model, *testing)
        if right >= 0.998:
            prune(model, points, spiral)
        else:
            model.grow()
        print(
            f"epoch {epoch}/{args.epochs}: {depth} blocks, accuracy {right:.2%}, "
            f"test {tested:.2%}, {seconds:.1f} s; now {len(model.blocks)} blocks",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "blocks": len(model.blocks), "epoch": epoch}
            braze.save(state, args.save)
    if hasattr(braze, "explain"):
        print(braze.explain(limit=0))
    if args.plot:
        plot(model, *arrays, args.plot, args.device)
    return accuracy(model, *testing), len(model.blocks)


if __name__ == "__main__":
    main()
