"""examples/time_series: what it foretells, from both series, and checkpoints."""

import numpy as np
import pytest

import braze


def test_sunspots_are_foretold_better_than_by_their_mean(load_example, tmp_path, capsys):
    pytest.importorskip("statsmodels")
    pytest.importorskip("matplotlib")
    example = load_example("time_series")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "sunspots.png"
    common = ["--series", "sunspots", "--evaluations", "10"]
    example.main([*common, "--epochs", "2", "--save", saved])
    one_step, _ = example.main([*common, "--epochs", "4", "--resume", saved, "--plot", str(drawn)])
    assert one_step < 0.3  # the mean is off by 0.49
    assert drawn.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert printed.count("epoch 2/2") == 1 and printed.count("epoch 3/4") == 1


def test_sine_waves_have_one_period(load_example):
    waves = load_example("time_series").sine_waves(count=5, length=300, period=20)
    assert waves.shape == (5, 300) and waves.dtype == np.float32
    # x'' = -x for sines: a second difference is a fixed multiple of the value between.
    second = waves[:, 2:] - 2 * waves[:, 1:-1] + waves[:, :-2]
    np.testing.assert_allclose(second, (2 * np.cos(1 / 20) - 2) * waves[:, 1:-1], atol=1e-6)


def test_it_goes_on_from_its_own_answers(load_example):
    example = load_example("time_series")
    model = example.Forecaster(hidden=8)
    series = braze.rand(2, 10)
    ahead = model.continued(series, 3).numpy()
    for step in range(3):
        longer = np.concatenate([series.numpy(), ahead[:, :step]], axis=1)
        expected, _ = model(braze.from_numpy(longer))
        np.testing.assert_allclose(ahead[:, step], expected.detach().numpy()[:, -1], rtol=1e-5)
