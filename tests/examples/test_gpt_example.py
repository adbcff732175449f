"""examples/gpt: the network looks back only, it learns a text, writes, and reads the novels."""

import importlib.util
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import braze

NOVELS = Path(__file__).parents[2] / "examples" / "gpt" / "novels.py"
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
    resumed = ["--epochs", "2", "--resume", saved, "--write", "40", "--prompt", "It is a tr"]
    example.main([*common, *resumed])
    assert "It is a truth universally" in capsys.readouterr().out


def test_what_comes_later_has_no_influence(load_example):
    model = load_example("gpt").GPT(vocabulary=11, context=12, width=16, heads=2, layers=2).eval()
    tokens = braze.randint(11, (2, 12))
    other = tokens.clone()
    other[:, 7:] = 0
    ours, theirs = model(tokens).detach().numpy(), model(other).detach().numpy()
    np.testing.assert_allclose(ours[:, :7], theirs[:, :7], rtol=1e-5, atol=1e-6)
    assert np.abs(ours[:, 7:] - theirs[:, 7:]).max() > 1e-3


def strings(texts):
    """A vector of strings as R serializes it."""
    items = b"".join(struct.pack(">ii", 9, len(t)) + t.encode() for t in texts)
    return struct.pack(">ii", 16, len(texts)) + items


def test_novels_are_read_from_rs_format(tmp_path):
    spec = importlib.util.spec_from_file_location("novels", NOVELS)
    novels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(novels)
    head = b"X\n" + struct.pack(">iii", 3, 0, 0) + struct.pack(">i", 5) + b"UTF-8"
    emma = zlib.compress(head + strings(["EMMA", "", "handsome, clever"]))
    packed = struct.pack(">i", 0) + emma
    symbol = struct.pack(">ii", 1, 9) + struct.pack(">i", 5) + b"names"
    places = struct.pack(">ii", 13, 2) + struct.pack(">ii", 0, len(packed))

    def named(name, value):
        """A list of one element with a name; its name is an attribute of the list."""
        attributes = struct.pack(">i", 2 | 1024) + symbol + strings([name])
        return struct.pack(">ii", 19 | 512, 1) + value + attributes + struct.pack(">i", 254)

    index = named("variables", named("emma", places))
    folder = tmp_path / "janeaustenr" / "data"
    folder.mkdir(parents=True)
    (folder / "Rdata.rdx").write_bytes(zlib.compress(head + index))
    (folder / "Rdata.rdb").write_bytes(packed)
    assert novels.novels(tmp_path) == {"emma": "EMMA\n\nhandsome, clever"}
    with pytest.raises(ValueError, match="not a file in R's format"):
        novels.Reader(b"no")
