"""examples/matrix_factorisation: better than biases, dense and sparse, and what it recommends."""

import math

import numpy as np
import pytest

import braze


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """MovieLens's files of 60 users and 50 films, with ratings of two factors and biases."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("ratings")
    users, films = rng.standard_normal((60, 2)), rng.standard_normal((50, 2))
    liked, good = 0.4 * rng.standard_normal(60), 0.4 * rng.standard_normal(50)
    rating = 3 + liked[:, None] + good + 0.7 * users @ films.T
    rows = ["userId,movieId,rating,timestamp"]
    for user, film in np.argwhere(rng.random((60, 50)) < 0.7):
        value = np.clip(np.round(2 * rating[user, film]) / 2, 0.5, 5)
        rows.append(f"{user + 100},{7 * film},{value},0")
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    titles = [f'{7 * film},"Film, {film} (1990)",Drama' for film in range(50)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")
    return folder


COMMON = "--factors 8 --batch-size 100 --lr 0.05 --pull 0.02".split()


@pytest.mark.parametrize("sparse", [False, True])
def test_it_learns_and_goes_on_from_a_checkpoint(load_example, data, tmp_path, capsys, sparse):
    pytest.importorskip("matplotlib")
    example = load_example("matrix_factorisation")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "films.png"
    common = ["--data", str(data), *COMMON, *(["--sparse"] if sparse else [])]
    # The same schedule of 15 epochs, stopped after the fifth.
    whole = example.main([*common, "--epochs", "15", "--save", saved])
    biases = example.error_of_biases(example.Ratings(data))
    assert whole < 0.75 * biases
    assert braze.load(saved)["epoch"] == 15
    again = example.main(
        [*common, "--epochs", "15", "--resume", saved, "--recommend", "103", "--plot", str(drawn)]
    )
    assert math.isnan(again)  # all epochs are done
    printed = capsys.readouterr().out
    assert printed.count("epoch 15/15") == 1 and f"biases only: {biases:.4f}" in printed
    assert "  Film, " in printed.splitlines()[-1]
    assert example.main([*common, "--epochs", "16", "--resume", saved]) < 0.75 * biases
    assert "epoch 16/16" in capsys.readouterr().out
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_biases_alone_are_exact_where_nothing_pulls(load_example, data):
    example = load_example("matrix_factorisation")
    ratings = example.Ratings(data)
    liked, good = np.arange(60) / 60, np.arange(50) / 25
    for users, films, values in (ratings.train, ratings.test):
        values[:] = 2 + liked[users] + good[films]
    assert example.error_of_biases(ratings, pull=0, rounds=30) < 1e-3
    assert example.error_of_biases(ratings, pull=5) > 0.05


def test_ratings_are_split_and_films_have_their_titles(load_example, data):
    ratings = load_example("matrix_factorisation").Ratings(data)
    rows = [np.stack(part[:2], axis=1) for part in (ratings.train, ratings.test)]
    total = len((data / "ratings.csv").read_text().splitlines()) - 1
    assert len(rows[1]) == total // 10
    assert len(np.unique(np.concatenate(rows), axis=0)) == total
    assert ratings.titles[3] == "Film, 3 (1990)" and ratings.film_numbers[3] == 21


def test_what_was_rated_is_not_recommended(load_example, data):
    example = load_example("matrix_factorisation")
    ratings = example.Ratings(data)
    model = example.Factors(60, 50, 4, mean=3.0)
    with braze.no_grad():
        model.film_bias.weight[:, 0] = braze.arange(50).float()
        model.users.weight.zero_()
    chosen = example.recommended(model, ratings, 103, "cpu", count=5)
    seen = {film for part in (ratings.train, ratings.test) for film in part[1][part[0] == 3]}
    best = [film for film in reversed(range(50)) if film not in seen][:5]
    assert chosen == [(f"Film, {film} (1990)", 3.0 + film) for film in best]
