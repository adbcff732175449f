"""Write with a language model of words that `main.py` trained, drawing word by word."""

import argparse
import textwrap

import numpy as np
from language_model import UNKNOWN, Vocabulary, build, join, split
from tqdm import trange

import braze
import braze.nn.functional as F


def chances(logits, temperature, unknown):
    """Of each word, from logits [vocabulary]; the unknown word has none."""
    logits = logits / temperature
    logits[unknown] = -float("inf")
    return F.softmax(logits, dim=0)


@braze.no_grad()
def last_logits(model, text, state, window):
    """The logits of the word after `text` (numbers), and the state after it.

    A network with a state reads only what is new, word by word. A Transformer reads the last
    `window` words: always so many places, so that one graph serves every word; what is behind the
    last word has no influence on it.
    """
    device = model.words.weight.device
    if state is not None:
        new, state = text[state[0] :], state[1]
        for word in new:
            logits, state = model(braze.tensor([[word]], device=device), state)
        return logits[0, 0], (len(text), state)
    seen = text[-window:]
    places = np.zeros((window, 1), np.int64)
    places[: len(seen), 0] = seen
    logits, _ = model(braze.from_numpy(places).to(device))
    return logits[:, 0].index_select(0, braze.tensor([len(seen) - 1], device=device))[0], None


@braze.no_grad()
def write(model, vocabulary, prompt, count, temperature, window):
    """`count` more words after those of the text `prompt`; a Transformer sees `window` of them."""
    text = list(vocabulary.encode(split(prompt)))
    start = model.initial_state(1)
    state = None if start is None else (0, start)
    unknown = vocabulary.number[UNKNOWN]
    for _ in trange(count, leave=False, disable=None):
        logits, state = last_logits(model, text, state, window)
        text.append(braze.multinomial(chances(logits, temperature, unknown), 1).item())
    return [vocabulary.words[number] for number in text]


def main(argv=None):
    parser = argparse.ArgumentParser(description="Write with a language model of words.")
    parser.add_argument("checkpoint", help="what main.py --save wrote")
    parser.add_argument("--words", type=int, default=200, help="how many to write")
    parser.add_argument("--temperature", type=float, default=0.8, help="lower is less daring")
    parser.add_argument("--prompt", default="It is a truth", help="how the text begins")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    if args.temperature <= 0:
        parser.error(f"the temperature must be positive, not {args.temperature}")

    braze.manual_seed(args.seed)
    checkpoint = braze.load(args.checkpoint)
    model = build(checkpoint["settings"]).to(args.device)
    model.load_state_dict(checkpoint["model"])
    model.eval()
    vocabulary = Vocabulary(checkpoint["words"])
    window = checkpoint["bptt"]  # it has not learned to look further
    words = write(model, vocabulary, args.prompt, args.words, args.temperature, window)
    paragraphs = join(words).split("\n\n")
    print("\n\n".join(textwrap.fill(paragraph, 80) for paragraph in paragraphs))
    return words


if __name__ == "__main__":
    main()
