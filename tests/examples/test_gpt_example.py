"""examples/gpt: the network looks back only, it learns a text, and writes."""

import numpy as np

import braze

SENTENCE = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n"


def test_it_learns_a_sentence_by_heart_and_writes_it(load_example, tmp_path, capsys):
    example = load_example("gpt")
    text, saved = tmp_path / "text.txt", str(tmp_path / "model.pt")
    text.write_text(SENTENCE * 40)
    common = ["--data", str(text), "--steps", "60", "--context", "32", "--width", "32"]
    common += ["--layers", "1", "--batch-size", "8", "--lr", "1e-2"]
    example.main([*common, "--epochs", "2", "--write", "0", "--save", saved])
    assert braze.load(saved)["epoch"] == 2
    capsys.readouterr()
    resumed = ["--resume", saved, "--write", "40", "--prompt", "It is a tr"]
    example.main([*common, *resumed, "--epochs", "2"])
    printed = capsys.readouterr().out
    assert "It is a truth universally" in printed and "epoch" not in printed
    example.main([*common, *resumed, "--epochs", "3"])
    printed = capsys.readouterr().out
    assert "It is a truth universally" in printed and printed.startswith("epoch 3/3")


def test_what_comes_later_has_no_influence(load_example):
    model = load_example("gpt").GPT(vocabulary=11, context=12, width=16, heads=2, layers=2).eval()
    tokens = braze.randint(11, (2, 12))
    other = tokens.clone()
    other[:, 7:] = 0
    ours, theirs = model(tokens).detach().numpy(), model(other).detach().numpy()
    np.testing.assert_allclose(ours[:, :7], theirs[:, :7], rtol=1e-5, atol=1e-6)
    assert np.abs(ours[:, 7:] - theirs[:, 7:]).max() > 1e-3
