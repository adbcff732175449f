"""DCGAN: two networks play against each other, until one draws clothes or digits.

The generator makes pictures of random numbers; the discriminator says which pictures are real.
(Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
generative adversarial networks", 2016.) By default on the digits that come with Braze; `--data`
names a folder with Fashion-MNIST's (or MNIST's) own files.

How good the pictures are is measured as Heusel et al. do ("GANs trained by a two time-scale update
rule converge to a local Nash equilibrium", 2017): a classifier is trained on the real pictures
first, and what its last layer sees of new pictures is compared with what it sees of real ones.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.datasets import load_idx, load_mnist
from braze.utils.data import DataLoader, TensorDataset

CLASSIFIER_PICTURES = 120_000  # that the classifier sees in training, the same ones many times


def generator(noise, width):
    """Noise [batch, noise, 1, 1] to pictures [batch, 1, 32, 32] in -1..1."""
    layers = []
    sizes = [noise, 4 * width, 2 * width, width]
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        stride, padding = (2, 1) if i else (1, 0)
        layers += [
            nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh())


def discriminator(width):
    """Pictures [batch, 1, 32, 32] to logits [batch] of their being real."""
    layers = [nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for before in (width, 2 * width):
        layers += [
            nn.Conv2d(before, 2 * before, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * before),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, bias=False), nn.Flatten(0))


def initialize(module):
    """As in the paper."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)


class Classifier(nn.Module):
    """What it is that a picture [batch, 1, 32, 32] shows: logits [batch, 10]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1024, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.layers(x))


def load_data(directory):
    """Pictures [n, 28, 28] and classes [n], both as bytes, to train and to test with."""
    if directory is None:
        images, labels = load_mnist()
        parts = [(images[:8000], labels[:8000]), (images[8000:], labels[8000:])]
    else:
        parts = [load_idx(directory, train=train) for train in (True, False)]
    return [TensorDataset(*(braze.tensor(np.array(array)) for array in part)) for part in parts]


def prepared(images, device):
    """Bytes [batch, 28, 28] to pictures [batch, 1, 32, 32] in -1..1, with an empty margin."""
    pictures = F.pad(images.to(device).float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    return pictures.unsqueeze(1)


def train_classifier(loader, epochs, device):
    model = Classifier().to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for images, labels in tqdm(loader, "classifier", leave=False, disable=None):
            loss = F.cross_entropy(model(prepared(images, device)), labels.to(device).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def frechet_distance(ours, theirs):
    """Between normal distributions with the means and covariances of two samples [n, features]:
    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).  (Dowson and Landau, 1982.)"""
    (m1, m2), (c1, c2) = zip(*((s.mean(0), np.cov(s.T)) for s in (ours, theirs)), strict=True)
    # C1 C2 and the symmetric C1^(1/2) C2 C1^(1/2) have the same eigenvalues.
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    return ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * both


@braze.no_grad()
def seen(classifier, pictures):
    """Of pictures [n, 1, 32, 32]: features [n, 64], and how sure the classifier is, [n]."""
    features = classifier.layers(pictures)
    sure = F.softmax(classifier.head(features), dim=1).amax(dim=1)
    return features.cpu().numpy().astype(np.float64), sure.cpu().numpy()


class Quality:
    """How close pictures are to those of the loader `real`, for the eyes of `classifier`."""

    def __init__(self, classifier, real, device):
        self.classifier = classifier
        self.real = self.features(prepared(images, device) for images, _ in real)[0]

    def features(self, batches):
        parts = [seen(self.classifier, batch) for batch in batches]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def __call__(self, batches):
        """Fréchet distance, and the share of pictures that the classifier is 90 % sure of."""
        features, sure = self.features(batches)
        return frechet_distance(features, self.real), np.mean(sure > 0.9)


@braze.no_grad()
def samples(model, noise):
    """The generator's pictures, from noise [batches, batch, noise, 1, 1], batch by batch."""
    model.eval()
    for batch in noise:
        yield model(batch)


def draw(model, noise, path):
    """A PNG file of 8 x 16 pictures."""
    import matplotlib.image

    (tiles,) = samples(model, noise[:1, :128])
    rows = tiles.reshape(8, 16, 32, 32).permute(0, 2, 1, 3).reshape(8 * 32, 16 * 32)
    matplotlib.image.imsave(path, rows.cpu().numpy(), cmap="gray", vmin=-1, vmax=1)


def step(models, optimizers, real, noise):
    """The discriminator learns from real and new pictures, then the generator from its answer."""
    (make, judge), (make_optimizer, judge_optimizer) = models, optimizers
    new = make(noise)
    on_real, on_new = judge(real), judge(new.detach())
    judge_loss = F.binary_cross_entropy_with_logits(on_real, braze.ones_like(on_real))
    judge_loss += F.binary_cross_entropy_with_logits(on_new, braze.zeros_like(on_new))
    judge_optimizer.zero_grad()
    judge_loss.backward()
    judge_optimizer.step()

    judge.requires_grad_(False)  # only what the generator learns from is computed
    on_new = judge(new)
    make_loss = F.binary_cross_entropy_with_logits(on_new, braze.ones_like(on_new))
    make_optimizer.zero_grad()
    make_loss.backward()
    make_optimizer.step()
    judge.requires_grad_(True)
    return braze.stack([judge_loss.detach(), make_loss.detach()])


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a DCGAN.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--noise", type=int, default=64, help="random numbers of a picture")
    parser.add_argument("--width", type=int, default=32, help="channels of the largest layers")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="DIR", help="folder with IDX files")
    parser.add_argument("--limit", type=int, help="train on this many pictures only")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--pictures", metavar="DIR", help="draw samples (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    training, testing = load_data(args.data)
    if args.limit:
        training = TensorDataset(*training[: args.limit])
    loader = DataLoader(training, args.batch_size, shuffle=True, drop_last=True)
    models = [generator(args.noise, args.width), discriminator(args.width)]
    models = [model.apply(initialize).to(args.device) for model in models]
    optimizers = [optim.Adam(m.parameters(), lr=args.lr, betas=(0.5, 0.999)) for m in models]
    noise = braze.randn(8, 256, args.noise, 1, 1).to(args.device)  # of the samples
    done, distance = 0, math.nan
    if args.resume:
        checkpoint = braze.load(args.resume)
        for part, state in zip([*models, *optimizers], checkpoint["state"], strict=True):
            part.load_state_dict(state)
        classifier = Classifier().to(args.device).eval()
        classifier.load_state_dict(checkpoint["classifier"])
        noise = checkpoint["noise"].to(args.device)
        done = checkpoint["epoch"]
    else:
        epochs = max(1, CLASSIFIER_PICTURES // len(training))
        classifier = train_classifier(loader, epochs, args.device)

    quality = Quality(classifier, DataLoader(testing, 250), args.device)
    first = DataLoader(TensorDataset(training.tensors[0][:2000]), 250)
    floor, sure = quality(prepared(images, args.device) for (images,) in first)
    print(f"real pictures: distance {floor:.2f}, {sure:.1%} clear", flush=True)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        for model in models:
            model.train()
        losses = braze.zeros(2, device=args.device)
        for images, _ in tqdm(loader, f"epoch {epoch}", leave=False, disable=None):
            real = prepared(images, args.device)
            random = braze.randn(len(images), args.noise, 1, 1, device=args.device)
            losses += step(models, optimizers, real, random)
        judge_loss, make_loss = (losses / len(loader)).tolist()
        seconds = time.perf_counter() - start
        distance, sure = quality(samples(models[0], noise))
        print(
            f"epoch {epoch}/{args.epochs}: losses {judge_loss:.3f} and {make_loss:.3f}, "
            f"distance {distance:.2f}, {sure:.1%} clear, {seconds:.1f} s",
            flush=True,
        )
        if args.pictures:
            Path(args.pictures).mkdir(parents=True, exist_ok=True)
            draw(models[0], noise, Path(args.pictures) / f"epoch-{epoch:02}.png")
        if args.save:
            state = [part.state_dict() for part in [*models, *optimizers]]
            others = {"classifier": classifier.state_dict(), "noise": noise.cpu()}
            braze.save({"state": state, **others, "epoch": epoch}, args.save)
    return distance


if __name__ == "__main__":
    main()
