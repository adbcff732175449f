"""A language model of words, with recurrent layers or a Transformer.

It reads a long text in pieces of 35 words, in 20 columns; recurrent layers take the state of one
piece into the next, but no gradient flows back from piece to piece. After an epoch that was no
better on text that it does not train on, the learning rate is divided by four.
"""

import argparse
import math
import time

from language_model import RECURRENT, Corpus, Vocabulary, build, columns, detached
from tqdm import tqdm

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.optim.lr_scheduler import ReduceLROnPlateau

RATES = {"LSTM": 20, "GRU": 1, "RNN_TANH": 1, "RNN_RELU": 1, "Transformer": 1}


def pieces(numbers, args):
    """The text in pieces of `--bptt` rows [time, batch], each with what follows, as tensors."""
    rows = columns(numbers, args.batch_size)
    for start in range(0, len(rows) - 1, args.bptt):
        end = min(start + args.bptt, len(rows) - 1)
        tensors = braze.from_numpy(rows[start:end]), braze.from_numpy(rows[start + 1 : end + 1])
        yield [tensor.to(args.device) for tensor in tensors]


def run(model, numbers, args, optimizer=None, label=None):
    """The mean cross entropy of a word, in nats; with an optimizer, it trains."""
    model.train(optimizer is not None)
    state = model.initial_state(args.batch_size)
    total, count = 0.0, 0
    number = math.ceil((len(numbers) // args.batch_size - 1) / args.bptt)
    bar = tqdm(pieces(numbers, args), label, number, leave=False, disable=None)
    for words, following in bar:
        with braze.set_grad_enabled(optimizer is not None):
            logits, state = model(words, detached(state))
            loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
        total += loss.item() * len(words)
        count += len(words)
    return total / count


def plot(history, path):
    """Draw the perplexities of the epochs, [epochs, 2]: in training, and on other text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.semilogy(range(1, len(history) + 1), history, marker="o", label=["training", "other text"])
    axes.set(xlabel="epoch", ylabel="perplexity")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a language model of words.")
    parser.add_argument("--data", metavar="FILE", required=True, help="any text, in UTF-8")
    parser.add_argument("--model", default="LSTM", choices=[*RECURRENT, "Transformer"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--bptt", type=int, default=35, help="words of a piece")
    parser.add_argument("--width", type=int, default=200, help="of the words' vectors")
    parser.add_argument("--hidden", type=int, default=200, help="width of the layers")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--untied", action="store_true", help="the last layer has its own weights")
    parser.add_argument("--lr", type=float, help="learning rate; the model says which")
    parser.add_argument("--clip", type=float, default=0.25, help="longest gradient")
    parser.add_argument("--least", type=int, default=5, help="rarer words are unknown ones")
    parser.add_argument("--limit", type=int, help="train on this many words only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the perplexities (needs matplotlib)")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    checkpoint = braze.load(args.resume) if args.resume else None
    known = Vocabulary(checkpoint["words"]) if checkpoint else None
    corpus = Corpus(args.data, args.least, known)
    settings = {
        "model": args.model,
        "vocabulary": len(corpus.vocabulary.words),
        "width": args.width,
        "hidden": args.hidden,
        "layers": args.layers,
        "dropout": args.dropout,
        "tied": not args.untied,
    }
    settings = checkpoint["settings"] if checkpoint else settings
    model = build(settings).to(args.device)
    optimizer = optim.SGD(model.parameters(), lr=args.lr or RATES[settings["model"]])
    scheduler = ReduceLROnPlateau(optimizer, factor=0.25, patience=0, threshold=0)
    history = []
    if checkpoint:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        history = checkpoint["history"]

    def save():
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        state = {name: part.state_dict() for name, part in parts.items()}
        words = corpus.vocabulary.words
        state |= {"settings": settings, "bptt": args.bptt, "words": words, "history": history}
        braze.save({**state, "epoch": len(history)}, args.save)

    if args.save and not history:
        save()
    for epoch in range(len(history) + 1, args.epochs + 1):
        start = time.perf_counter()
        trained = run(model, corpus.train[: args.limit], args, optimizer, f"epoch {epoch}")
        seconds = time.perf_counter() - start
        loss = run(model, corpus.valid, args)
        history.append([math.exp(trained), math.exp(loss)])
        print(
            f"epoch {epoch}/{args.epochs}: perplexity {history[-1][0]:.2f}, "
            f"of other text {history[-1][1]:.2f}, {seconds:.1f} s, "
            f"learning rate {optimizer.param_groups[0]['lr']:g}",
            flush=True,
        )
        scheduler.step(loss)
        if args.save:
            save()
    perplexity = math.exp(run(model, corpus.test, args))
    print(f"test perplexity {perplexity:.2f}, of {len(corpus.vocabulary.words)} words")
    if hasattr(braze, "explain"):
        print(braze.explain(limit=0))
    if args.plot:
        plot(history, args.plot)
    return perplexity


if __name__ == "__main__":
    main()
