"""Schedules by their closed forms, those made of others, saving, errors; averages of models."""

import math
import pickle
import warnings

import numpy as np
import pytest

import braze
from braze import nn, optim
from braze.optim import lr_scheduler, swa_utils

pytestmark = pytest.mark.usefixtures("interpret")

STEPS = 50


def made(kind="SGD", lr=0.5):
    more = {"momentum": 0.9} if kind == "SGD" else {}
    return getattr(optim, kind)([nn.Parameter(braze.ones(1))], lr=lr, **more)


def rates(build, optimizer=None):
    optimizer = optimizer or made()
    schedule = build(optimizer)
    values = []
    for _ in range(STEPS):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(values)


def warm(t):
    start, length = 0, 7
    while t >= start + length:
        start, length = start + length, length * 2
    return 0.01 + 0.49 * (1 + math.cos(math.pi * (t - start) / length)) / 2


def triangle(t, height):
    cycle, x = divmod(t, 13)
    part = x / 5 if x <= 5 else (13 - x) / 8
    return 0.1 + 0.9 * part * height(cycle)


FORMS = {
    "multiplicative": (lambda o: lr_scheduler.MultiplicativeLR(o, lambda e: 0.9), lambda t: 0.9**t),
    "constant": (lambda o: lr_scheduler.ConstantLR(o, 0.3, 6), lambda t: 0.3 if t < 6 else 1.0),
    "polynomial": (
        lambda o: lr_scheduler.PolynomialLR(o, 30, 2.0),
        lambda t: max(0.0, 1 - t / 30) ** 2,
    ),
    "linear": (
        lambda o: lr_scheduler.LinearLR(o, 0.2, 0.8, 20),
        lambda t: 0.2 + 0.6 * min(t, 20) / 20,
    ),
    "warm restarts": (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7, 2, 0.01),
        lambda t: warm(t) / 0.5,
    ),
    "triangles": (
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 5, 8),
        lambda t: triangle(t, lambda cycle: 1) / 0.5,
    ),
    "halved triangles": (
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 5, 8, mode="triangular2"),
        lambda t: triangle(t, lambda cycle: 0.5**cycle) / 0.5,
    ),
    "sequence": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 0.1, 99), lr_scheduler.ExponentialLR(o, 0.9)], [8]
        ),
        lambda t: 0.1 if t < 8 else 0.9 ** (t - 8),
    ),
    "chain": (
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, 0.1, 5), lr_scheduler.ExponentialLR(o, 0.9)]
        ),
        lambda t: (0.1 if t < 5 else 1.0) * 0.9**t,
    ),
    "averaging": (
        lambda o: swa_utils.SWALR(o, 0.05, 10),
        lambda t: 0.05 / 0.5 if t >= 10 else 0.1 + 0.9 * (1 + math.cos(math.pi * t / 10)) / 2,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_closed_form(name):
    build, form = FORMS[name]
    expected = [0.5 * form(t) for t in range(STEPS)]
    np.testing.assert_allclose(rates(build), expected, rtol=1e-9, atol=1e-12)


def test_momentum_moves_against_the_learning_rate():
    for kind in ("SGD", "Adam"):
        optimizer = made(kind)
        schedule = lr_scheduler.CyclicLR(optimizer, 0.1, 1.0, 4)
        for t in range(9):
            group = optimizer.param_groups[0]
            value = group["momentum"] if kind == "SGD" else group["betas"][0]
            part = t / 4 if t <= 4 else (8 - t) / 4
            assert value == pytest.approx(0.9 - 0.1 * part)
            optimizer.step()
            schedule.step()
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        lr_scheduler.CyclicLR(optim.Adagrad([nn.Parameter(braze.ones(1))]), 0.1, 1.0)


def test_given_epochs_take_the_closed_form():
    optimizer = made()
    for build in (
        lambda o: lr_scheduler.PolynomialLR(o, 10),
        lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2),
    ):
        expected = rates(build, made())
        schedule = build(optimizer)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that epochs are given
            for epoch in (3, 9, 0, 6):
                schedule.step(epoch)
                assert schedule.get_last_lr() == pytest.approx([expected[epoch]])
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]


@pytest.mark.parametrize("name", FORMS)
def test_saving(name):
    build, form = FORMS[name]
    optimizer = made()
    schedule = build(optimizer)
    for _ in range(12):
        optimizer.step()
        schedule.step()
    saved = pickle.loads(pickle.dumps(schedule.state_dict()))
    settings = pickle.loads(pickle.dumps(optimizer.state_dict()))
    other = made()
    again = build(other)
    again.load_state_dict(saved)
    other.load_state_dict(settings)
    for t in range(13, 30):
        other.step()
        again.step()
        assert again.get_last_lr() == pytest.approx([0.5 * form(t)], rel=1e-9, abs=1e-12)


def test_misuse():
    optimizer = made()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        schedule.get_lr()
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(3)
    cases = [
        (ValueError, "between 0 and 1", lambda: lr_scheduler.ConstantLR(optimizer, 1.5)),
        (TypeError, "should be a function", lambda: lr_scheduler.MultiplicativeLR(optimizer, 3)),
        (
            ValueError,
            "positive integer T_0",
            lambda: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 0),
        ),
        (
            ValueError,
            "non-negative epoch",
            lambda: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3).step(-1),
        ),
        (ValueError, "mode is invalid", lambda: lr_scheduler.CyclicLR(optimizer, 0, 1, mode="x")),
        (ValueError, "at least one scheduler", lambda: lr_scheduler.ChainedScheduler([])),
        (
            ValueError,
            "same optimizer",
            lambda: lr_scheduler.ChainedScheduler(
                [schedule, lr_scheduler.ExponentialLR(made(), 0.5)]
            ),
        ),
        (
            ValueError,
            "one more than the number of milestone points",
            lambda: lr_scheduler.SequentialLR(optimizer, [schedule], [3]),
        ),
        (
            ValueError,
            "does not support `ReduceLROnPlateau`",
            lambda: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(optimizer)]),
        ),
        (ValueError, "one of 'cos' or 'linear'", lambda: swa_utils.SWALR(optimizer, 1, 2, "x")),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()


# Averages -----------------------------------------------------------------------------------------


def test_averaged_models():
    model = nn.Linear(2, 1)
    equal = swa_utils.AveragedModel(model)
    moving = swa_utils.AveragedModel(model, avg_fn=swa_utils.get_ema_avg_fn(0.75))
    many = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.75))
    values = [1.0, 3.0, 8.0]
    for value in values:
        with braze.no_grad():
            model.weight.fill_(value)
        for average in (equal, moving, many):
            average.update_parameters(model)
    expected = 0.75 * (0.75 * 1.0 + 0.25 * 3.0) + 0.25 * 8.0
    assert equal.module.weight.tolist() == [[4.0, 4.0]] and equal.n_averaged.item() == 3
    for average in (moving, many):
        np.testing.assert_allclose(average.module.weight.detach().numpy(), expected)
    assert equal(braze.ones(1, 2)).shape == (1, 1)
    assert "module.weight" in equal.state_dict() and "n_averaged" in equal.state_dict()


def test_updating_an_average_is_no_sync_point_of_its_own():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), 0.1)
    average = swa_utils.AveragedModel(model)
    runs = []
    for _ in range(6):
        optimizer.zero_grad()
        model(braze.ones(1, 2)).sum().backward()
        optimizer.step()
        average.update_parameters(model)
        runs.append(braze.stats.interpreted + braze.stats.native_calls)
    assert set(np.diff(runs)) == {1}


def test_statistics_computed_anew():
    rng = np.random.default_rng(4)
    batches = [rng.standard_normal((5, 3)), rng.standard_normal((7, 3))]
    model = nn.Sequential(nn.BatchNorm1d(3)).double().eval()
    swa_utils.update_bn([braze.tensor(batches[0]), (braze.tensor(batches[1]), 0)], model)
    layer = model[0]
    mean = np.mean([batch.mean(0) for batch in batches], axis=0)
    var = np.mean([batch.var(0, ddof=1) for batch in batches], axis=0)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), var)
    assert layer.momentum == 0.1 and not model.training
