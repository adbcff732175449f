"""What the word language model is made of: networks, and a text as numbers.

A network reads words [time, batch], column by column, with the state of what came before, and
answers logits [time, batch, vocabulary] of the words that follow, with the state after them.
"""

import math
import re
from pathlib import Path

import numpy as np

import braze
from braze import nn

RECURRENT = ["LSTM", "GRU", "RNN_TANH", "RNN_RELU"]
UNKNOWN, PARAGRAPH = "<unk>", "\n"


class WordModel(nn.Module):
    """The words' vectors and the layer that tells the next word; between them `encode`.

    With `tied`, both are one matrix (Press and Wolf, "Using the output embedding to improve
    language models", 2017).
    """

    def __init__(self, vocabulary, width, hidden, dropout, tied):
        super().__init__()
        if tied and width != hidden:
            raise ValueError(f"tied weights need width == hidden, not {width} and {hidden}")
        self.dropout = nn.Dropout(dropout)
        self.words = nn.Embedding(vocabulary, width)
        self.decoder = nn.Linear(hidden, vocabulary)
        if tied:
            self.decoder.weight = self.words.weight
        for weight in {self.words.weight, self.decoder.weight}:
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def initial_state(self, batch):
        return None

    def encode(self, vectors, state):
        """What the words' vectors [time, batch, width] say of the next: [time, batch, hidden]."""
        raise NotImplementedError

    def forward(self, words, state=None):
        hidden, state = self.encode(self.words(words), state)
        return self.decoder(self.dropout(hidden)), state


class RecurrentModel(WordModel):
    """With recurrent layers; the state is theirs."""

    def __init__(self, kind, vocabulary, width, hidden, layers, dropout, tied):
        super().__init__(vocabulary, width, hidden, dropout, tied)
        options = {} if kind in ("LSTM", "GRU") else {"nonlinearity": kind[4:].lower()}
        layer = {"LSTM": nn.LSTM, "GRU": nn.GRU}.get(kind, nn.RNN)
        self.lstm = kind == "LSTM"
        dropout = dropout if layers > 1 else 0.0
        self.rnn = layer(width, hidden, num_layers=layers, dropout=dropout, **options)

    def initial_state(self, batch):
        # From NumPy, not from `zeros`: that would be computed as a part of the first piece, which
        # then has a graph of its own.
        shape = self.rnn.num_layers, batch, self.rnn.hidden_size
        cell, hidden = (braze.from_numpy(np.zeros(shape, np.float32)) for _ in range(2))
        device = self.words.weight.device
        return (hidden.to(device), cell.to(device)) if self.lstm else hidden.to(device)

    def encode(self, vectors, state):
        return self.rnn(self.dropout(vectors), state)


class TransformerModel(WordModel):
    """With layers of a Transformer that look at this word and those before; without a state."""

    def __init__(self, vocabulary, width, hidden, layers, dropout, tied, heads=2, longest=512):
        super().__init__(vocabulary, width, width, dropout, tied)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.register_buffer("places", waves(longest, width), persistent=False)

    def encode(self, vectors, state):
        time, _, width = vectors.shape
        if time > len(self.places):
            raise ValueError(f"a piece has at most {len(self.places)} words, not {time}")
        vectors = vectors * math.sqrt(width) + self.places[:time]
        mask = braze.full((time, time), -math.inf, device=vectors.device).triu(1)
        return self.layers(self.dropout(vectors), mask, is_causal=True), None


def waves(length, width):
    """Places as sines and cosines [length, 1, width] ("Attention is all you need", 3.5)."""
    place = np.arange(length)[:, None]
    angle = place / 10000 ** (np.arange(0, width, 2) / width)
    table = np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(length, -1)[:, :width]
    return braze.from_numpy(table[:, None].astype(np.float32))


def build(settings):
    """The network of `settings`, a dictionary: `model` is its kind, the rest its parameters."""
    kind, rest = settings["model"], {k: v for k, v in settings.items() if k != "model"}
    return TransformerModel(**rest) if kind == "Transformer" else RecurrentModel(kind, **rest)


def detached(state):
    """The same state without its past, through which no gradient flows then."""
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return None if state is None else state.detach()


def split(text):
    """The words of a text, in lower case; marks and ends of paragraphs are words too."""
    words = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+|--|\n(?:\s*\n)+|\S", text.lower().replace("_", ""))
    return [word if word.strip() else PARAGRAPH for word in words]


def join(words):
    """A text that reads well, of words as `split` makes them."""
    text, opened = "", False
    for word in words:
        space = "" if not text or text[-1] in "\n(-" or word[0] in ",;.:?!)'-\n" else " "
        if word == '"':
            space, opened = ("" if opened else space), not opened
        elif text.endswith('"') and opened:
            space = ""
        if word == PARAGRAPH:
            word, opened = "\n\n", False
        text += space + word
    return text


class Vocabulary:
    """Numbers for words; what it has not is the word `<unk>`, number 0."""

    def __init__(self, words):
        self.words = words
        self.number = {word: n for n, word in enumerate(words)}

    @classmethod
    def of(cls, words, least):
        """Of those of `words` that occur at least `least` times, in the order of their first."""
        counts = dict.fromkeys(words, 0)
        for word in words:
            counts[word] += 1
        return cls([UNKNOWN, *(word for word, n in counts.items() if n >= least)])

    def encode(self, words):
        return np.array([self.number.get(word, 0) for word in words])


class Corpus:
    """A text's first nine tenths `train`, the next twentieth `valid`, the last `test`: int64."""

    def __init__(self, path, least, vocabulary=None):
        words = split(Path(path).read_text())
        parts = words[: (end := len(words) * 9 // 10)], words[end:]
        self.vocabulary = vocabulary or Vocabulary.of(parts[0], least)
        self.train, rest = (self.vocabulary.encode(part) for part in parts)
        self.valid, self.test = rest[: len(rest) // 2], rest[len(rest) // 2 :]


def columns(numbers, batch):
    """The numbers in `batch` columns, read one after the other: [len(numbers) // batch, batch]."""
    length = len(numbers) // batch
    return np.ascontiguousarray(numbers[: length * batch].reshape(batch, length).T)
