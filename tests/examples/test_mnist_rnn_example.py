"""examples/mnist_rnn: it learns, each row tells it more, and it goes on from a checkpoint."""

import numpy as np
import pytest

import braze


def test_it_learns_and_goes_on_from_a_checkpoint(load_example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example = load_example("mnist_rnn")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "rows.png"
    common = ["--limit", "1500", "--epochs", "2", "--seed", "3"]
    whole = example.main([*common, "--save", saved, "--plot", str(drawn)])
    assert whole > 0.35
    assert drawn.read_bytes().startswith(b"\x89PNG")
    checkpoint = braze.load(saved)
    assert checkpoint["epoch"] == 2
    capsys.readouterr()
    example.main(["--limit", "1500", "--epochs", "2", "--resume", saved])
    assert capsys.readouterr().out == ""  # both epochs are done
    more = str(tmp_path / "more.pt")
    example.main(["--limit", "1500", "--epochs", "3", "--resume", saved, "--save", more])
    assert "epoch 3/3" in capsys.readouterr().out
    assert braze.load(more)["epoch"] == 3


def test_a_checkpoint_in_the_middle_of_a_longer_cycle(load_example, tmp_path, monkeypatch):
    """The rates are those of a run that was not interrupted, with as many epochs."""
    example = load_example("mnist_rnn")
    steps, rates = 300 // 64, []
    schedule = example.OneCycleLR

    def watched(optimizer, *args, **kwargs):
        scheduler = schedule(optimizer, *args, **kwargs)
        step = optimizer.step

        def stepping():
            rates.append(optimizer.param_groups[0]["lr"])
            step()

        optimizer.step = stepping
        return scheduler

    monkeypatch.setattr(example, "OneCycleLR", watched)
    common = ["--limit", "300", "--save", str(tmp_path / "model.pt")]
    example.main([*common, "--epochs", "3"])
    whole = rates[:]
    rates.clear()
    example.main([*common, "--epochs", "1"])
    example.main([*common, "--epochs", "3", "--resume", str(tmp_path / "model.pt")])
    np.testing.assert_allclose(rates[steps:], whole[steps:])
    assert len(rates) == len(whole) == 3 * steps


def test_what_it_says_of_a_row_depends_on_rows_until_then(load_example):
    example = load_example("mnist_rnn")
    model = example.RowReader().eval()
    rows = braze.rand(2, 28, 28)
    other = rows.clone()
    other[:, 10:] = 0
    ours, theirs = model(rows).detach().numpy(), model(other).detach().numpy()
    assert ours.shape == (2, 28, 10)
    np.testing.assert_allclose(ours[:, :10], theirs[:, :10], rtol=1e-5, atol=1e-6)
    assert np.abs(ours[:, 10:] - theirs[:, 10:]).min(axis=(0, 2)).max() > 0
