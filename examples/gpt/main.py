"""A small GPT that learns to write, character by character.

A decoder-only Transformer (Vaswani et al., "Attention is all you need", 2017) with the
normalisation before each layer, as in GPT-2 (Radford et al., 2019).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
from tqdm import trange

import braze
import braze.nn.functional as F
from braze import nn, optim
from braze.optim.lr_scheduler import OneCycleLR


class Block(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def attention(self, x):
        batch, time, width = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(mixed.transpose(1, 2).reshape(batch, time, width))

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    """Tokens [batch, time] to logits [batch, time, vocabulary] of the tokens that follow."""

    def __init__(self, vocabulary, context, width=128, heads=4, layers=4, dropout=0.1):
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(self.initialize)

    @staticmethod
    def initialize(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens):
        places = braze.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.places(places)
        return self.head(self.norm(self.blocks(x)))

    @braze.no_grad()
    def write(self, tokens, count, temperature=0.8):
        """`count` more tokens after tokens [time], drawn one by one: [time + count].

        The window has always the size of the context, so that one graph serves every step; what
        is behind the last token has no influence on it.
        """
        text = list(tokens)
        device = self.head.weight.device
        for _ in range(count):
            seen = text[-self.context :]
            window = np.zeros((1, self.context), np.int64)
            window[0, : len(seen)] = seen
            logits = self(braze.from_numpy(window).to(device))
            last = logits[0].index_select(0, braze.tensor([len(seen) - 1], device=device))
            probabilities = F.softmax(last[0] / temperature, dim=0)
            text.append(braze.multinomial(probabilities, 1).item())
        return text


class Characters:
    """A text as numbers: `train` and `test` (its last tenth) are int64 arrays."""

    def __init__(self, path):
        text = Path(path).read_text()
        self.vocabulary = sorted(set(text))
        self.number = {character: n for n, character in enumerate(self.vocabulary)}
        numbers = np.array(self.encode(text))
        self.train, self.test = np.split(numbers, [len(numbers) * 9 // 10])

    def encode(self, text):
        return [self.number[character] for character in text]

    def decode(self, numbers):
        return "".join(self.vocabulary[n] for n in numbers)


def pieces(data, starts, context, device):
    """Inputs and targets, both [len(starts), context]: the targets are one character later."""
    rows = np.stack([data[start : start + context + 1] for start in starts])
    rows = braze.from_numpy(rows).to(device)
    return rows[:, :-1], rows[:, 1:]


@braze.no_grad()
def test(model, data, args):
    """Cross entropy of a character, in nats, over up to 64 batches of the text `data`."""
    model.eval()
    starts = np.arange(0, len(data) - args.context - 1, args.context)
    batches = starts[: len(starts) // args.batch_size * args.batch_size][: 64 * args.batch_size]
    losses = []
    for batch in batches.reshape(-1, args.batch_size):
        tokens, targets = pieces(data, batch, args.context, args.device)
        losses.append(F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item())
    return np.mean(losses)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Train a small GPT on characters.")
    parser.add_argument("--data", metavar="FILE", required=True, help="any text, in UTF-8")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=500, help="of an epoch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--context", type=int, default=128, help="characters that it looks back")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--write", type=int, default=300, help="characters to write at the end")
    parser.add_argument("--prompt", default="\n", help="how they begin")
    args = parser.parse_args(argv)

    braze.manual_seed(args.seed)
    text = Characters(args.data)
    model = GPT(len(text.vocabulary), args.context, args.width, layers=args.layers).to(args.device)
    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    done, loss = 0, math.nan
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done = checkpoint["epoch"]
    # The cycle has all epochs, also those before a checkpoint, and may end later than planned then.
    steps = args.steps
    scheduler = OneCycleLR(
        optimizer,
        args.lr,
        total_steps=max(args.epochs, done) * steps,
        cycle_momentum=False,
        last_epoch=done * steps - 1,
    )

    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        random = np.random.default_rng([args.seed, epoch])
        model.train()
        for _ in trange(args.steps, desc=f"epoch {epoch}", leave=False, disable=None):
            starts = random.integers(0, len(text.train) - args.context, args.batch_size)
            tokens, targets = pieces(text.train, starts, args.context, args.device)
            batch_loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            batch_loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        batch_loss.item()  # waits for the last step
        seconds = time.perf_counter() - start
        loss = test(model, text.test, args)
        print(
            f"epoch {epoch}/{args.epochs}: test loss {loss:.4f} nats a character "
            f"({loss / math.log(2):.3f} bits), {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "epoch": epoch}, args.save)
    if args.write:
        model.eval()
        print(text.decode(model.write(text.encode(args.prompt), args.write)))
    return loss


if __name__ == "__main__":
    main()
