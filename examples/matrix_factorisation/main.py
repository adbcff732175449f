"""Foretell how people rate films, by a vector for each person and one for each film.

A rating is the mean, what the person and the film add to it, and the product of their vectors
(Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009). What a
step uses of these is pulled towards zero, so what is used more often is pulled more often.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.optim.lr_scheduler import OneCycleLR


class Factors(nn.Module):
    def __init__(self, users, films, width, mean, sparse=False):
        super().__init__()
        self.mean = mean
        self.users = nn.Embedding(users, width, sparse=sparse)
        self.films = nn.Embedding(films, width, sparse=sparse)
        self.user_bias = nn.Embedding(users, 1, sparse=sparse)
        self.film_bias = nn.Embedding(films, 1, sparse=sparse)
        for table in (self.users, self.films):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.film_bias):
            nn.init.zeros_(table.weight)

    def forward(self, users, films):
        """Ratings [batch] of films [batch] by users [batch], and what these have in the tables."""
        biases = self.user_bias(users), self.film_bias(films)
        vectors = self.users(users), self.films(films)
        rating = self.mean + sum(biases)[:, 0] + (vectors[0] * vectors[1]).sum(dim=1)
        return rating, biases, vectors


class Ratings:
    """MovieLens's `ratings.csv`, a tenth of it drawn for the test: rows of user, film, rating.

    Users and films are numbered; `titles` are the films' and `numbers` those of MovieLens.
    """

    def __init__(self, directory, seed=0):
        with open(Path(directory) / "ratings.csv", encoding="utf-8") as file:
            rows = np.loadtxt(file, delimiter=",", skiprows=1, usecols=(0, 1, 2))
        users, films, ratings = rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2]
        self.user_numbers, users = np.unique(users, return_inverse=True)
        self.film_numbers, films = np.unique(films, return_inverse=True)
        with open(Path(directory) / "movies.csv", encoding="utf-8") as file:
            titles = {int(film): title for film, title, *_ in list(csv.reader(file))[1:]}
        self.titles = [titles[number] for number in self.film_numbers]
        columns = users, films, ratings.astype(np.float32)
        order = np.random.default_rng(seed).permutation(len(users))
        test, train = order[: len(order) // 10], order[len(order) // 10 :]
        self.train, self.test = ([c[part] for c in columns] for part in (train, test))


def error_of_biases(data, pull=2, rounds=10):
    """The root mean square error of the test with the mean and biases alone.

    They are least squares in turns; `pull` ratings of zero are added to each user's and film's.
    """
    users, films, ratings = data.train
    mean = ratings.mean()
    user_bias, film_bias = np.zeros(len(data.user_numbers)), np.zeros(len(data.film_numbers))
    for _ in range(rounds):
        for bias, own, other in (
            (film_bias, films, user_bias[users]),
            (user_bias, users, film_bias[films]),
        ):
            rest = np.bincount(own, ratings - mean - other, len(bias))
            bias[:] = rest / (np.bincount(own, minlength=len(bias)) + pull)
    users, films, ratings = data.test
    return np.sqrt(np.mean((mean + user_bias[users] + film_bias[films] - ratings) ** 2))


def train(model, optimizer, scheduler, data, args, epoch):
    """One epoch over the ratings in random order: the root mean square error in it."""
    order = np.random.default_rng([args.seed, epoch]).permutation(len(data.train[0]))
    steps = len(order) // args.batch_size
    total = braze.zeros((), device=args.device)
    for step in tqdm(range(steps), f"epoch {epoch}", leave=False, disable=None):
        rows = order[step * args.batch_size :][: args.batch_size]
        users, films, ratings = (
            braze.from_numpy(column[rows]).to(args.device) for column in data.train
        )
        rating, biases, vectors = model(users, films)
        error = F.mse_loss(rating, ratings)
        pull = args.pull * sum(v.square().sum(dim=1).mean() for v in vectors)
        pull = pull + args.pull_biases * sum(b.square().mean() for b in biases)
        optimizer.zero_grad()
        (error + pull).backward()
        optimizer.step()
        scheduler.step()
        total += error.detach()
    return math.sqrt(total.item() / steps)


@braze.no_grad()
def test(model, data, device):
    """The root mean square error of the ratings that were kept for the test."""
    users, films, ratings = (braze.from_numpy(column).to(device) for column in data.test)
    return F.mse_loss(model(users, films)[0].clamp(0.5, 5), ratings).sqrt().item()


@braze.no_grad()
def recommended(model, data, user, device, count=10):
    """Titles and ratings of the `count` films that MovieLens's user `user` would like best.

    Of those that he has not rated and at least ten others have.
    """
    (found,) = np.flatnonzero(data.user_numbers == user)
    users, films, _ = (np.concatenate(c) for c in zip(data.train, data.test, strict=True))
    known = np.bincount(films, minlength=len(data.titles)) >= 10
    known[films[users == found]] = False
    candidates = np.flatnonzero(known)
    same = np.full(len(candidates), found)
    rating = model(braze.from_numpy(same).to(device), braze.from_numpy(candidates).to(device))[0]
    best, order = rating.sort(descending=True)
    chosen = candidates[order[:count].cpu().numpy()]
    return list(zip([data.titles[n] for n in chosen], best[:count].tolist(), strict=True))


def plot(model, data, path, count=50):
    """A map of the films that were rated most: the two directions in which vectors differ most."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    most = np.argsort(-np.bincount(data.train[1]))[:count]
    vectors = model.films.weight.detach().cpu().numpy()[most]
    vectors = vectors - vectors.mean(axis=0)
    places = vectors @ np.linalg.svd(vectors)[2][:2].T
    figure, axes = plt.subplots(figsize=(10, 8))
    axes.scatter(*places.T, s=8)
    for place, film in zip(places, most, strict=True):
        axes.annotate(data.titles[film], place, fontsize=7)
    axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Foretell ratings by matrix factorisation.")
    parser.add_argument("--data", metavar="DIR", required=True, help="MovieLens's files")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--factors", type=int, default=64, help="width of the vectors")
    parser.add_argument("--lr", type=float, default=0.01, help="highest learning rate")
    parser.add_argument("--pull", type=float, default=0.12, help="of the vectors towards zero")
    parser.add_argument("--pull-biases", type=float, default=0.02)
    parser.add_argument("--sparse", action="store_true", help="only what a step uses is updated")
    parser.add_argument("--limit", type=int, help="train on this many ratings only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--recommend", type=int, metavar="USER", help="what would he like?")
    parser.add_argument("--plot", metavar="FILE", help="draw a map of films (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    data = Ratings(args.data)
    if args.limit:
        data.train = [column[: args.limit] for column in data.train]
    mean = float(data.train[2].mean())
    sizes = len(data.user_numbers), len(data.film_numbers)
    model = Factors(*sizes, args.factors, mean, args.sparse).to(args.device)
    optimizer = (optim.SparseAdam if args.sparse else optim.Adam)(model.parameters(), lr=args.lr)
    done, error = 0, math.nan
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]
    # The cycle has all epochs, also those before a checkpoint, and may end later than planned then.
    steps = len(data.train[0]) // args.batch_size
    scheduler = OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(args.epochs, done) * steps,
        cycle_momentum=False,
        last_epoch=done * steps - 1,
    )

    print(f"root mean square error of the test, with biases only: {error_of_biases(data):.4f}")
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        trained = train(model, optimizer, scheduler, data, args, epoch)
        seconds = time.perf_counter() - start
        error = test(model, data, args.device)
        print(
            f"epoch {epoch}/{args.epochs}: error {trained:.4f}, test {error:.4f}, {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if args.recommend:
        for title, rating in recommended(model, data, args.recommend, args.device):
            print(f"{rating:.1f}  {title}")
    if args.plot:
        plot(model, data, args.plot)
    return error


if __name__ == "__main__":
    main()
