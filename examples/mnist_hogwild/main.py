"""Hogwild: several processes train one network in shared memory, without locks.

After PyTorch's example of the same name. Each process has its own optimizer and its own order of
the digits; they read and update the same parameters as they go.
(Niu, Recht, Re and Wright, "Hogwild!: A lock-free approach to parallelizing SGD", 2011.)
"""

import argparse
import os

import numpy as np

import braze
import braze.multiprocessing as mp
import braze.nn.functional as F
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.utils.data import DataLoader, TensorDataset

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pictures


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def digits(count, directory=None):
    """The first 4/5 of `count` digits to train with, the others to test with."""
    images, labels = load_mnist() if directory is None else load_idx(directory, train=True)
    count = min(count, len(labels))
    pixels = (images[:count, None].astype(np.float32) / 255 - MEAN) / STD
    classes = labels[:count].astype(np.int64)
    middle = count * 4 // 5
    parts = (slice(0, middle), slice(middle, count))
    return [TensorDataset(braze.tensor(pixels[p]), braze.tensor(classes[p])) for p in parts]


def train(rank, args, model, dataset):
    """What each process does; `model` and `dataset` are in memory that all share."""
    braze.manual_seed(args.seed + rank)
    braze.set_num_threads(max(1, braze.get_num_threads() // args.num_processes))
    loader = DataLoader(dataset, args.batch_size, shuffle=True)
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    model.train()
    for epoch in range(1, args.epochs + 1):
        for data, target in loader:
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
        print(f"process {os.getpid()}, epoch {epoch}: loss {loss.item():.4f}", flush=True)


def test(model, dataset):
    model.eval()
    correct = 0
    with braze.no_grad():
        for data, target in DataLoader(dataset, batch_size=500):
            correct += (model(data).argmax(dim=1) == target).sum().item()
    return correct / len(dataset)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train on MNIST with several processes.")
    parser.add_argument("--num-processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4, help="of each process")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--momentum", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--digits", type=int, default=10_000, help="how many to use")
    parser.add_argument("--data", metavar="DIR", help="folder with IDX files, such as MNIST's own")
    parser.add_argument("--save", metavar="FILE", help="write the parameters at the end")
    parser.add_argument("--resume", metavar="FILE", help="begin with parameters from a file")
    parser.add_argument("--start-method", default="spawn", choices=mp.get_all_start_methods())
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    training, testing = digits(args.digits, args.data)
    model = Net()
    if args.resume:
        model.load_state_dict(braze.load(args.resume))
    model.share_memory()  # gradients are not there yet: each process gets its own
    mp.start_processes(
        train,
        (args, model, training),
        nprocs=args.num_processes,
        start_method=args.start_method,
    )
    accuracy = test(model, testing)
    print(f"test accuracy {accuracy:.2%}", flush=True)
    if args.save:
        braze.save(model.state_dict(), args.save)
    return accuracy


if __name__ == "__main__":
    main()
