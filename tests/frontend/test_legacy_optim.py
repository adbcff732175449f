"""`legacy.optim`: one step against formulas, and minima that are known."""

import math

import numpy as np
import pytest

import braze
from braze.legacy import optim

pytestmark = pytest.mark.usefixtures("interpret")

START, SCALES = np.array([1.0, -2.0, 3.0]), np.array([1.0, 4.0, 0.5])


def bowl(x):
    """sum of scales * x ** 2 / 2."""
    scales = braze.tensor(SCALES)
    return (scales * x * x).sum() / 2, scales * x


def rosenbrock(x):
    a, b = x[0], x[1]
    gradient = braze.stack([-400 * a * (b - a * a) - 2 * (1 - a), 200 * (b - a * a)])
    return 100 * (b - a * a) ** 2 + (1 - a) ** 2, gradient


def steps(optimize, config, count=3, state=None):
    """x after each step, and the last result."""
    x, seen = braze.tensor(START), []
    for _ in range(count):
        result = optimize(bowl, x, config, state)
        assert result[0] is x
        seen.append(x.numpy().copy())
    return np.array(seen), result


def by_hand(update, count=3, decay=0.0):
    x, kept, seen = START.copy(), {}, []
    for t in range(1, count + 1):
        x = update(x, SCALES * x + decay * x, kept, t)
        seen.append(x)
    return np.array(seen)


def momentum(x, g, kept, t):
    kept["v"] = 0.9 * kept["v"] + 0.7 * g if "v" in kept else g
    return x - 0.1 / (1 + (t - 1) * 0.5) * kept["v"]


def nesterov(x, g, kept, t):
    kept["v"] = 0.9 * kept.get("v", 0) + g if "v" in kept else g
    return x - 0.1 * (g + 0.9 * kept["v"])


def adagrad(x, g, kept, t):
    kept["s"] = kept.get("s", 0) + g * g
    return x - 0.1 * g / (np.sqrt(kept["s"]) + 1e-10)


def adadelta(x, g, kept, t):
    kept["s"] = 0.8 * kept.get("s", 0) + 0.2 * g * g
    step = np.sqrt((kept.get("d", 0) + 1e-3) / (kept["s"] + 1e-3)) * g
    kept["d"] = 0.8 * kept.get("d", 0) + 0.2 * step * step
    return x - step


def rmsprop(x, g, kept, t):
    kept["s"] = 0.9 * kept.get("s", 0) + 0.1 * g * g
    return x - 0.01 * g / (np.sqrt(kept["s"]) + 1e-8)


def adam(x, g, kept, t):
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * g
    kept["v"] = 0.99 * kept.get("v", 0) + 0.01 * g * g
    rate = 0.1 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return x - rate * kept["m"] / (np.sqrt(kept["v"]) + 1e-8)


def adamax(x, g, kept, t):
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * g
    kept["u"] = np.maximum(0.999 * kept.get("u", 0), abs(g) + 1e-38)
    return x - 0.1 / (1 - 0.9**t) * kept["m"] / kept["u"]


CASES = {
    "sgd with momentum": (
        optim.sgd,
        {
            "learningRate": 0.1,
            "learningRateDecay": 0.5,
            "momentum": 0.9,
            "dampening": 0.3,
            "weightDecay": 0.1,
        },
        momentum,
        0.1,
    ),
    "sgd with Nesterov's": (
        optim.sgd,
        {"learningRate": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": True},
        nesterov,
        0,
    ),
    "adagrad": (optim.adagrad, {"learningRate": 0.1, "weightDecay": 0.1}, adagrad, 0.1),
    "adadelta": (optim.adadelta, {"rho": 0.8, "eps": 1e-3}, adadelta, 0),
    "rmsprop": (optim.rmsprop, {"alpha": 0.9}, rmsprop, 0),
    "adam": (optim.adam, {"learningRate": 0.1, "beta2": 0.99}, adam, 0),
    "adamax": (optim.adamax, {"learningRate": 0.1}, adamax, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_steps(name):
    optimize, config, update, decay = CASES[name]
    found, (_, loss) = steps(optimize, dict(config))
    wanted = by_hand(update, decay=decay)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    assert float(loss) == pytest.approx((SCALES * wanted[-2] ** 2).sum() / 2)
    state = {}
    again, _ = steps(optimize, dict(config), state=state)
    np.testing.assert_allclose(again, wanted, rtol=1e-10)
    assert state


def test_rates_and_decays_of_their_own():
    rates, decays = braze.tensor([1.0, 0.5, 0.0]).double(), braze.tensor([0.0, 0.5, 1.0]).double()
    config = {"learningRate": 0.1, "learningRates": rates, "weightDecays": decays}
    found, _ = steps(optim.sgd, config, 1)
    wanted = START - 0.1 * rates.numpy() * (SCALES + decays.numpy()) * START
    np.testing.assert_allclose(found[0], wanted)


def test_nag():
    found, _ = steps(optim.nag, {"learningRate": 0.05, "momentum": 0.8})
    x, v = START.copy(), 0.0
    for seen in found:
        ahead = x + 0.8 * v
        v = 0.8 * v - 0.05 * SCALES * ahead
        x = x + v
        np.testing.assert_allclose(seen, x, rtol=1e-10)


def test_averages():
    config = {"eta0": 0.1, "lambda": 0.01, "alpha": 0.75, "t0": 1}
    found, (_, _, average) = steps(optim.asgd, config, 4)
    x, eta, mu, mean = START.copy(), 0.1, 1.0, 0.0
    for t, seen in enumerate(found, start=1):
        x = x * (1 - 0.01 * eta) - eta * SCALES * x
        mean = mean + mu * (x - mean)
        eta, mu = 0.1 / (1 + 0.01 * 0.1 * t) ** 0.75, 1 / max(1, t - 1)
        np.testing.assert_allclose(seen, x, rtol=1e-10)
    np.testing.assert_allclose(average, mean, rtol=1e-10)


def test_rprop():
    x, state = braze.tensor([1.0, -1.0], dtype=braze.float64), {}
    _, losses = optim.rprop(lambda x: ((x * x).sum(), 2 * x), x, {"niter": 40}, state)
    assert len(losses) == 40
    assert float(losses[0]) == 2.0
    np.testing.assert_allclose(x, 0, atol=1e-3)
    one = braze.tensor([1.0, -1.0], dtype=braze.float64)
    optim.rprop(lambda x: ((x * x).sum(), 2 * x), one, {"niter": 2})
    np.testing.assert_allclose(one, [1 - 0.1 - 0.12, -1 + 0.1 + 0.12])


@pytest.mark.parametrize("optimize", [optim.cg, optim.lbfgs])
def test_the_valley_of_rosenbrock(optimize):
    x = braze.tensor([-1.2, 1.0], dtype=braze.float64)
    config = {"maxIter": 100, "maxEval": 200, "learningRate": 0.3}
    for _ in range(4):
        _, losses, count = optimize(rosenbrock, x, config)
    np.testing.assert_allclose(x, 1, atol=1e-3)
    assert count <= 201
    assert losses and all(math.isfinite(float(loss)) for loss in losses)


def test_a_line_search_is_used():
    calls = []

    def halving(opfunc, x, t, d, f, g, gtd, options):
        calls.append(options)
        before = x.clone()
        for count in range(1, 20):
            x.copy_(before + t * d)
            loss, gradient = opfunc(x)
            if float(loss) <= float(f) + 1e-4 * t * gtd:
                return loss, gradient, x, t, count
            t /= 2
        raise AssertionError("no step")

    x = braze.tensor([-1.2, 1.0], dtype=braze.float64)
    config = {"maxIter": 60, "maxEval": 500, "lineSearch": halving, "lineSearchOptions": {"a": 1}}
    optim.lbfgs(rosenbrock, x, config)
    np.testing.assert_allclose(x, 1, atol=1e-4)
    assert calls[0] == {"a": 1}


def test_what_is_wrong_is_said():
    x = braze.tensor(START)
    with pytest.raises(ValueError, match="adam requires a dictionary"):
        optim.adam(bowl, x, None)
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        optim.sgd(bowl, x, {"nesterov": True})
    with pytest.raises(ValueError, match="Momentum must be positive"):
        optim.nag(bowl, x, {"momentum": 0})
    with pytest.raises(ValueError, match="Only one of weightDecay"):
        optim.sgd(bowl, x, {"weightDecay": 1, "weightDecays": x})
