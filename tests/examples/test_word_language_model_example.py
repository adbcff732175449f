"""examples/word_language_model: it learns, in pieces, with few graphs, and writes."""

import argparse
import math

import numpy as np
import pytest

import braze

SENTENCE = "It is a truth universally acknowledged, that a single man must be in want of a wife."
SMALL = {"vocabulary": 11, "width": 8, "hidden": 8, "layers": 2, "dropout": 0.0, "tied": True}
SMALL_OPTIONS = "--width 32 --hidden 32 --bptt 10 --batch-size 4 --dropout 0 --least 1 --clip 1"


def trained(load_example, tmp_path, *options):
    text = tmp_path / "text.txt"
    text.write_text(f"{SENTENCE}\n\n" * 60)
    example = load_example("word_language_model")
    return example.main(["--data", str(text), *SMALL_OPTIONS.split(), *options])


def test_it_learns_a_sentence_by_heart_and_writes_it(load_example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "curve.png"
    first = trained(load_example, tmp_path, "--epochs", "3", "--save", saved, "--layers", "1")
    options = ["--epochs", "9", "--resume", saved, "--save", saved, "--plot", str(drawn)]
    last = trained(load_example, tmp_path, *options)
    assert last < min(1.5, first)
    assert drawn.read_bytes().startswith(b"\x89PNG")
    checkpoint = braze.load(saved)
    assert checkpoint["epoch"] == len(checkpoint["history"]) == 9
    assert checkpoint["settings"]["layers"] == 1 and checkpoint["words"][0] == "<unk>"
    printed = capsys.readouterr().out
    assert printed.count("epoch 4/9") == 1 and "learning rate 20" in printed
    generate = load_example("word_language_model", "generate")
    words = generate.main([saved, "--words", "16", "--prompt", "It is a truth"])
    assert "truth universally acknowledged, that a single man" in capsys.readouterr().out
    assert len(words) == 4 + 16
    with pytest.raises(SystemExit):
        generate.main([saved, "--temperature", "0"])


def test_tails_of_the_three_parts_are_the_only_other_graphs(load_example, tmp_path):
    """Pieces of 10 and a tail, in training and in two other parts, of which one is as long."""
    braze.stats.reset()
    with braze.config.using(tier="compile"):
        trained(load_example, tmp_path, "--epochs", "3", "--layers", "1", "--bptt", "9")
    assert 2 <= braze.stats.graphs <= 6


def test_the_learning_rate_falls_when_nothing_gets_better(load_example, tmp_path, capsys):
    trained(load_example, tmp_path, "--epochs", "4", "--clip", "0", "--lr", "20")
    printed = capsys.readouterr().out
    assert "learning rate 20" in printed and "learning rate 5" in printed


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH", "RNN_RELU", "Transformer"])
def test_pieces_are_one_text_for_what_has_a_state(load_example, kind):
    """The loss over pieces of 3 words is that of one piece, but for a Transformer."""
    example = load_example("word_language_model")
    model = example.build({"model": kind, **SMALL})
    assert model.decoder.weight is model.words.weight
    text = np.random.default_rng(0).integers(0, 11, 26)
    losses = []
    for bptt in (3, 12):
        args = argparse.Namespace(batch_size=2, bptt=bptt, device="cpu")
        with braze.config.using(tier="interpret"):
            losses.append(example.run(model, text, args))
    # Both columns of 13 words are read to the end, each word but the last is asked about.
    logits, _ = model.eval()(braze.from_numpy(text[:12, None]), model.initial_state(1))
    one = braze.nn.functional.cross_entropy(logits[:, 0], braze.from_numpy(text[1:13])).item()
    logits, _ = model(braze.from_numpy(text[13:25, None]), model.initial_state(1))
    other = braze.nn.functional.cross_entropy(logits[:, 0], braze.from_numpy(text[14:26])).item()
    assert math.isclose(losses[1], (one + other) / 2, rel_tol=1e-5)
    assert math.isclose(losses[0], losses[1], rel_tol=1e-5) == (kind != "Transformer")


def test_a_transformer_looks_back_only_and_writes_from_a_window(load_example):
    example = load_example("word_language_model")
    generate = load_example("word_language_model", "generate")
    model = example.build({"model": "Transformer", **SMALL}).eval()
    words = braze.randint(11, (12, 2))
    other = words.clone()
    other[7:] = 0
    ours, theirs = (model(x)[0].detach().numpy() for x in (words, other))
    np.testing.assert_allclose(ours[:7], theirs[:7], rtol=1e-4, atol=1e-6)
    assert np.abs(ours[7:] - theirs[7:]).max() > 1e-3
    for window in (12, 7):
        logits, _ = generate.last_logits(model, words[:7, 0].tolist(), None, window)
        np.testing.assert_allclose(logits.numpy(), ours[6, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="at most 512 words, not 513"):
        model(braze.zeros(513, 1, dtype=braze.int64))


def test_words_are_split_and_joined(load_example):
    load_example("word_language_model")
    from language_model import Vocabulary, columns, join, split

    text = '"Mr. Bennet\'s--no!" he said;\n_you_ twenty-one?\n\n \nIn 1811 (so).'
    words = split(text)
    assert words[:7] == ['"', "mr", ".", "bennet's", "--", "no", "!"]
    assert words[11:17] == ["you", "twenty", "-", "one", "?", "\n"]
    assert join(words) == '"mr. bennet\'s--no!" he said; you twenty-one?\n\nin 1811 (so).'
    vocabulary = Vocabulary.of(["b", "a", "b", "c", "a"], 2)
    assert vocabulary.words == ["<unk>", "b", "a"]
    np.testing.assert_array_equal(vocabulary.encode(["a", "c", "b"]), [2, 0, 1])
    np.testing.assert_array_equal(columns(np.arange(7), 2), [[0, 3], [1, 4], [2, 5]])
