"""Train a small convolutional network on MNIST, as one would in PyTorch.

The network and the loop are those of PyTorch's own MNIST example. By default it trains on 8,000 and
tests on 2,000 of the digits that come with Braze; `--data` names a folder with MNIST's (or
Fashion-MNIST's) own files. `--distributed` makes it one of several processes that train together.
"""

import argparse
import random
import shutil
import sys
import time

import numpy as np

import braze
import braze.nn.functional as F
from braze import distributed as dist
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.optim.lr_scheduler import OneCycleLR
from braze.utils.data import DataLoader, Dataset, DistributedSampler

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pictures


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = braze.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


class Digits(Dataset):
    """Pictures with their labels, each shifted at random by up to `shift` pixels."""

    def __init__(self, images, labels, shift=0):
        margin = (shift, shift)
        padded = np.pad(images, ((0, 0), margin, margin))
        self.images = (padded.astype(np.float32) / 255 - MEAN) / STD
        self.labels = labels.astype(np.int64)
        self.shift = shift

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        top, left = random.randint(0, 2 * self.shift), random.randint(0, 2 * self.shift)
        picture = self.images[i, None, top : top + 28, left : left + 28]
        return picture, int(self.labels[i])


class Progress:
    """A line that fills while an epoch runs; nothing where the output is no terminal, or where
    another process speaks for all."""

    def __init__(self, label, total, quiet=False):
        self.label = label
        self.total = total
        self.start = time.perf_counter()
        self.quiet = quiet
        self.shown = sys.stdout.isatty() and not quiet

    def show(self, done, text=""):
        if not self.shown:
            return
        width = max(10, min(40, shutil.get_terminal_size().columns - 50))
        filled = width * done // self.total
        bar = "█" * filled + "·" * (width - filled)
        seconds = time.perf_counter() - self.start
        line = f"\r{self.label} {bar} {done}/{self.total} {text} {seconds:.0f} s"
        print(line, end="\033[K", flush=True)

    def done(self, text):
        seconds = time.perf_counter() - self.start
        start = "\r\033[K" if self.shown else ""
        if not self.quiet:
            print(f"{start}{self.label} {text}, {seconds:.1f} s", flush=True)


def train(model, loader, optimizer, scheduler, progress, args):
    model.train()
    for step, (data, target) in enumerate(loader, 1):
        data, target = data.to(args.device), target.to(args.device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 5 == 0:
            progress.show(step, f"loss {loss.item():.4f}")
        if args.dry_run:
            break
    return loss.item()


def test(model, loader, device):
    """The loss, and the share of digits that are right, of all processes' parts."""
    model.eval()
    test_loss = correct = 0
    with braze.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(dim=1) == target).sum().item()
    totals = braze.tensor([test_loss, correct, len(loader.dataset)], dtype=braze.float64)
    if dist.is_initialized():
        dist.all_reduce(totals)
    test_loss, correct, count = totals.tolist()
    return test_loss / count, correct / count


def load_data(directory):
    if directory is None:
        images, labels = load_mnist()
        return (images[:8000], labels[:8000]), (images[8000:], labels[8000:])
    return load_idx(directory, train=True), load_idx(directory, train=False)


def plot(accuracies, path):
    """Draw how many of the digits are wrong after each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(range(1, len(accuracies) + 1), [100 * (1 - a) for a in accuracies], marker="o")
    axes.set(xlabel="epochs", ylabel="test error, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a convolutional network on MNIST.")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR", help="folder with IDX files, such as MNIST's own")
    parser.add_argument("--limit", type=int, help="train on this many pictures only")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the accuracy (needs matplotlib)")
    parser.add_argument("--dry-run", action="store_true", help="one step and one test")
    parser.add_argument("--distributed", action="store_true", help="mpiexec has started several")
    args = parser.parse_args(argv)

    rank, ranks = 0, 1
    if args.distributed:
        dist.init_process_group("mpi")
        rank, ranks = dist.get_rank(), dist.get_world_size()
    if args.batch_size % ranks:
        parser.error(f"--batch-size {args.batch_size} cannot be shared out among {ranks} processes")
    random.seed(args.seed + rank)
    braze.manual_seed(args.seed + rank)
    (images, labels), testing = load_data(args.data)
    data = Digits(images[: args.limit], labels[: args.limit], shift=1)
    sampler = DistributedSampler(data, seed=args.seed) if args.distributed else None
    train_loader = DataLoader(
        data, args.batch_size // ranks, shuffle=sampler is None, sampler=sampler
    )
    test_loader = DataLoader(Digits(*(part[rank::ranks] for part in testing)), batch_size=500)

    model = Net().to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    done, accuracies = 0, []
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done, accuracies = checkpoint["epoch"], checkpoint["accuracies"]
    # All begin with rank 0's parameters, and average their gradients.
    trained = nn.parallel.DistributedDataParallel(model) if args.distributed else model
    # The cycle has all epochs, also those before a checkpoint.
    steps = len(train_loader)
    scheduler = OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(args.epochs, done) * steps,
        cycle_momentum=False,
        last_epoch=done * steps - 1,
    )
    for epoch in range(done + 1, args.epochs + 1):
        if sampler is not None:
            sampler.set_epoch(epoch)
        progress = Progress(f"epoch {epoch}/{args.epochs}", steps, quiet=rank > 0)
        loss = train(trained, train_loader, optimizer, scheduler, progress, args)
        test_loss, accuracy = test(model, test_loader, args.device)
        accuracies.append(accuracy)
        progress.done(f"loss {loss:.4f}, test loss {test_loss:.4f}, test accuracy {accuracy:.2%}")
        if args.save and rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch, "accuracies": accuracies}, args.save)
        if args.dry_run:
            break
    if args.plot and rank == 0:
        plot(accuracies, args.plot)
    return accuracies[-1]


if __name__ == "__main__":
    main()
