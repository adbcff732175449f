"""Read MNIST's pictures row by row with an LSTM: after 28 rows it says which digit it was.

By default it trains on 8,000 and tests on 2,000 of the digits that come with Braze; `--data` names
a folder with MNIST's (or Fashion-MNIST's) own files.
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.optim.lr_scheduler import OneCycleLR
from braze.utils.data import DataLoader, TensorDataset


class RowReader(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.rnn = nn.LSTM(input_size=28, hidden_size=hidden, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, rows):
        """Logits [batch, rows, 10] of the digit, after each of the rows [batch, rows, 28]."""
        outputs, _ = self.rnn(rows)
        return self.fc(self.dropout(outputs))


def dataset(images, labels):
    rows = braze.from_numpy(images.astype(np.float32) / 255)
    return TensorDataset(rows, braze.from_numpy(labels.astype(np.int64)))


def load_data(directory):
    if directory is None:
        images, labels = load_mnist()
        return dataset(images[:8000], labels[:8000]), dataset(images[8000:], labels[8000:])
    return dataset(*load_idx(directory, train=True)), dataset(*load_idx(directory, train=False))


@braze.no_grad()
def test(model, loader, device):
    """The accuracy after each row, [28]."""
    model.eval()
    correct = braze.zeros(28, device=device)
    for rows, target in loader:
        rows, target = rows.to(device), target.to(device)
        correct += (model(rows).argmax(dim=2) == target[:, None]).sum(dim=0)
    return (correct / len(loader.dataset)).cpu().numpy()


def plot(accuracies, path):
    """Draw how sure the network becomes, row by row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(range(1, 29), 100 * accuracies)
    axes.set(xlabel="rows read", ylabel="test accuracy, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Read MNIST row by row with an LSTM.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR", help="folder with IDX files, such as MNIST's own")
    parser.add_argument("--limit", type=int, help="train on this many pictures only")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the accuracy (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    training, testing = load_data(args.data)
    if args.limit:
        training = TensorDataset(*training[: args.limit])
    train_loader = DataLoader(training, args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(testing, batch_size=500)

    model = RowReader().to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    done = 0
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]
    # The cycle has all epochs, also those before a checkpoint, and may end later than planned then.
    steps = len(train_loader)
    scheduler = OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(args.epochs, done) * steps,
        cycle_momentum=False,
        last_epoch=done * steps - 1,
    )

    accuracies = np.zeros(28)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        model.train()
        total = braze.zeros((), device=args.device)
        for rows, target in tqdm(train_loader, f"epoch {epoch}", leave=False, disable=None):
            logits = model(rows.to(args.device))
            loss = F.cross_entropy(logits[:, -1], target.to(args.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        accuracies = test(model, test_loader, args.device)
        print(
            f"epoch {epoch}/{args.epochs}: loss {total.item() / len(train_loader):.4f}, "
            f"test accuracy {accuracies[-1]:.2%}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if args.plot:
        plot(accuracies, args.plot)
    return accuracies[-1]


if __name__ == "__main__":
    main()
