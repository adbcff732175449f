"""A variational auto-encoder of clothes or digits: it learns to draw new ones.

(Kingma and Welling, "Auto-encoding variational Bayes", 2014.) By default on the digits that come
with Braze; `--data` names a folder with Fashion-MNIST's (or MNIST's) own files.
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, pixels=784, hidden=400, latent=20):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels)
        )

    def forward(self, x):
        """Logits of the pixels, and the mean and log variance of the code, each [batch, ...]."""
        hidden = self.encoder(x)
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        code = mean + braze.randn_like(mean) * braze.exp(0.5 * logvar)
        return self.decoder(code), mean, logvar


def negative_elbo(logits, x, mean, logvar):
    """The bound on -log p(x), in nats, summed over the batch."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum()
    return reconstruction + divergence


def load_data(directory):
    """Pixels [n, 784] in 0..1 to train and to test with."""
    if directory is None:
        images, _ = load_mnist()
        parts = images[:8000], images[8000:]
    else:
        parts = [load_idx(directory, train=train)[0] for train in (True, False)]
    return [
        TensorDataset(braze.from_numpy(p.reshape(-1, 784).astype(np.float32) / 255)) for p in parts
    ]


def run(model, loader, device, optimizer=None):
    """The mean bound over the pictures of `loader`; with an optimizer, it trains."""
    model.train(optimizer is not None)
    total, count = braze.zeros((), device=device), 0
    for (x,) in tqdm(loader, leave=False, disable=None):
        x = x.to(device)
        with braze.set_grad_enabled(optimizer is not None):
            logits, mean, logvar = model(x)
            loss = negative_elbo(logits, x, mean, logvar)
        if optimizer is not None:
            optimizer.zero_grad()
            (loss / len(x)).backward()
            optimizer.step()
        total += loss.detach()
        count += len(x)
    return total.item() / count


@braze.no_grad()
def picture(model, originals, path, device):
    """A PNG file of eight rows of pictures: originals, what became of them, and six of new ones."""
    import matplotlib.image

    model.eval()
    logits, _, _ = model(originals[:16].to(device))
    new = model.decoder(braze.randn(6 * 16, model.latent, device=device))
    tiles = braze.cat([originals[:16].to(device), logits.sigmoid(), new.sigmoid()])
    rows = tiles.reshape(8, 16, 28, 28).permute(0, 2, 1, 3).reshape(8 * 28, 16 * 28)
    matplotlib.image.imsave(path, rows.cpu().numpy(), cmap="gray", vmin=0, vmax=1)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a variational auto-encoder.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR", help="folder with IDX files")
    parser.add_argument("--limit", type=int, help="train on this many pictures only")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--picture", metavar="FILE", help="draw samples (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    training, testing = load_data(args.data)
    if args.limit:
        training = TensorDataset(*training[: args.limit])
    train_loader = DataLoader(training, args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(testing, args.batch_size)

    model = VAE().to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    done, bound = 0, float("nan")
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        trained = run(model, train_loader, args.device, optimizer)
        seconds = time.perf_counter() - start
        bound = run(model, test_loader, args.device)
        print(
            f"epoch {epoch}/{args.epochs}: bound {trained:.2f} nats, test {bound:.2f}, "
            f"{seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if args.picture:
        picture(model, testing.tensors[0], args.picture, args.device)
    return bound


if __name__ == "__main__":
    main()
