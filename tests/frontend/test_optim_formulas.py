"""Ten steps of every optimizer against its formula in NumPy: float32, float64 and complex numbers;
and that all steps are one graph, whatever a schedule does.
"""

import numpy as np
import pytest

import braze
from braze import nn, optim

STEPS = 10


def sgd(p, g, s, t):
    g = g + 0.02 * p
    s["b"] = g if t == 1 else 0.9 * s["b"] + 0.7 * g
    return p - 0.1 * s["b"]


def adam(p, g, s, t, decoupled=False):
    if decoupled:
        p = p * (1 - 0.1 * 0.02)
    else:
        g = g + 0.02 * p
    m = s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    v = s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    return p - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6)


def adamw(p, g, s, t):
    return adam(p, g, s, t, True)


def adagrad(p, g, s, t):
    g = g + 0.02 * p
    s["sum"] = s.get("sum", 0.3) + g * g
    return p - 0.1 / (1 + (t - 1) * 0.2) * g / (np.sqrt(s["sum"]) + 1e-6)


def adadelta(p, g, s, t):
    g = g + 0.02 * p
    s["v"] = 0.8 * s.get("v", 0) + 0.2 * g * g
    d = np.sqrt(s.get("u", 0) + 1e-5) / np.sqrt(s["v"] + 1e-5) * g
    s["u"] = 0.8 * s.get("u", 0) + 0.2 * d * d
    return p - 0.5 * d


def adamax(p, g, s, t):
    g = g + 0.02 * p
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(0.99 * s.get("u", np.zeros_like(p)), np.abs(g) + 1e-6)
    return p - 0.1 / (1 - 0.9**t) * s["m"] / s["u"]


def nadam(p, g, s, t):
    g = g + 0.02 * p
    mu, after = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.01)) for k in (t, t + 1))
    s["product"] = s.get("product", 1.0) * mu
    m = s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    v = s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    size = np.sqrt(v / (1 - 0.99**t)) + 1e-6
    ahead = (1 - mu) * g / (1 - s["product"]) + after * m / (1 - s["product"] * after)
    return p - 0.1 * ahead / size


def radam(p, g, s, t):
    g = g + 0.02 * p
    m = s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    v = s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    most = 2 / (1 - 0.9) - 1
    length = most - 2 * t * 0.9**t / (1 - 0.9**t)
    move = 0.1 * m / (1 - 0.9**t)
    if length > 5:
        share = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        move = move * np.sqrt(share) * np.sqrt(1 - 0.9**t) / (np.sqrt(v) + 1e-6)
    return p - move


def asgd(p, g, s, t):
    g = g + 0.02 * p
    eta, mu = s.get("eta", 0.1), s.get("mu", 1.0)
    p = p * (1 - 0.05 * eta) - eta * g
    s["ax"] = s.get("ax", 0) + (p - s.get("ax", 0)) * mu
    s["eta"] = 0.1 / (1 + 0.05 * 0.1 * t) ** 0.75
    s["mu"] = 1 / max(1, t - 4)
    return p


def rmsprop(p, g, s, t):
    g = g + 0.02 * p
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
    s["b"] = 0.8 * s.get("b", 0) + g / (np.sqrt(s["v"] - s["a"] ** 2) + 1e-2)
    return p - 0.1 * s["b"]


def rprop(p, g, s, t):
    turn = g * s.get("before", np.zeros_like(g))
    size = s.get("size", np.full_like(g, 0.1))
    size = np.clip(np.where(turn < 0, size * 0.4, np.where(turn > 0, size * 1.5, size)), 0.05, 0.2)
    g = np.where(turn < 0, 0, g)
    s["before"], s["size"] = g, size
    return p - np.sign(g) * size


DECAY = {"weight_decay": 0.02}
ADAM = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-6, **DECAY}
RULES = {
    "SGD": (sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, **DECAY}),
    "Adam": (adam, ADAM),
    "AdamW": (adamw, ADAM),
    "Adagrad": (
        adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3, "eps": 1e-6, **DECAY},
    ),
    "Adadelta": (adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-5, **DECAY}),
    "Adamax": (adamax, ADAM),
    "NAdam": (nadam, {**ADAM, "momentum_decay": 0.01}),
    "RAdam": (radam, {**ADAM, "betas": (0.9, 0.9)}),
    "ASGD": (asgd, {"lr": 0.1, "lambd": 0.05, "t0": 4, **DECAY}),
    "RMSprop": (
        rmsprop,
        {"lr": 0.1, "alpha": 0.9, "eps": 1e-2, "momentum": 0.8, "centered": True, **DECAY},
    ),
    "Rprop": (rprop, {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (0.05, 0.2)}),
}


def gradients():
    """For each step one that keeps some signs and changes others."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((3, 4))
    return [base + 0.8 * rng.standard_normal((3, 4)) for _ in range(STEPS)]


def run(name, dtype, settings):
    parameter = nn.Parameter(braze.tensor(np.linspace(-1, 1, 12).reshape(3, 4).astype(dtype)))
    if np.dtype(dtype).kind == "c":
        parameter.data = braze.tensor(np.linspace(-1, 1, 24).view(dtype).reshape(3, 4))
    optimizer = getattr(optim, name)([parameter], **settings)
    turn = np.exp(0.7j) if np.dtype(dtype).kind == "c" else 1
    for gradient in gradients():
        parameter.grad = braze.tensor((gradient * turn).astype(dtype))
        optimizer.step()
    return parameter.detach().numpy(), optimizer


def expected(rule, is_complex=False):
    """Complex numbers are twice as many real ones."""
    state = {}
    p = np.linspace(-1, 1, 24 if is_complex else 12).reshape(3, -1)
    for t, gradient in enumerate(gradients(), 1):
        if is_complex:
            gradient = (gradient * np.exp(0.7j)).view(np.float64)
        p = rule(p, gradient, state, t)
    return p.view(np.complex128) if is_complex else p


@pytest.mark.parametrize("name", RULES)
def test_formula(name):
    rule, settings = RULES[name]
    with braze.config.using(tier="interpret"):
        loose = 1e-6 if name in ("ASGD", "NAdam") else 1e-11  # rates rounded to float32
        np.testing.assert_allclose(run(name, np.float64, settings)[0], expected(rule), loose, loose)
        np.testing.assert_allclose(run(name, np.float32, settings)[0], expected(rule), 2e-5, 2e-5)
        found = run(name, np.complex128, settings)[0]
        np.testing.assert_allclose(found, expected(rule, True), loose, loose)


@pytest.mark.filterwarnings("ignore::braze.runtime.recompiles.RecompileWarning")
@pytest.mark.parametrize("name", sorted(set(RULES) - {"SGD", "Adam"}))
def test_compiled(name):
    rule, settings = RULES[name]
    with braze.config.using(tier="compile"):
        np.testing.assert_allclose(run(name, np.float32, settings)[0], expected(rule), 2e-5, 2e-5)


@pytest.mark.parametrize("name", RULES)
def test_maximize_is_the_opposite_of_the_gradient(name):
    def with_gradient(sign, **settings):
        parameter = nn.Parameter(braze.tensor([1.0, -2.0]))
        optimizer = getattr(optim, name)([parameter], 0.1, **settings)
        for _ in range(3):
            parameter.grad = braze.tensor([0.5 * sign, 2.0 * sign])
            optimizer.step()
        return parameter.tolist()

    with braze.config.using(tier="interpret"):
        assert with_gradient(1.0, maximize=True) == with_gradient(-1.0)


@pytest.mark.parametrize("name", [*RULES, "Adafactor"])
def test_twenty_scheduled_steps_are_one_graph(name):
    parameters = [nn.Parameter(braze.ones(3, 2)), nn.Parameter(braze.ones(2))]
    optimizer = getattr(optim, name)(parameters, 0.1)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    x = braze.tensor(np.ones((4, 3), np.float32))
    graphs = []
    with braze.config.using(tier="interpret"):
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((x @ parameters[0] + parameters[1]) ** 2).sum()
            loss.backward()
            optimizer.step()
            schedule.step()
            graphs.append(braze.stats.graphs)
    assert len(set(graphs)) == 1


def test_parameters_of_several_dtypes():
    rng = np.random.default_rng(5)
    start = rng.standard_normal((2, 3))
    with braze.config.using(tier="interpret"):
        parameters = [
            nn.Parameter(braze.tensor(start).to(dtype))
            for dtype in (braze.float64, braze.float32, braze.bfloat16)
        ]
        optimizer = optim.RMSprop(parameters, 0.1, momentum=0.9)
        for _ in range(3):
            for p in parameters:
                p.grad = p.detach() * 2
            optimizer.step()
        exact, single, half = (p.detach().to(braze.float64).numpy() for p in parameters)
    np.testing.assert_allclose(single, exact, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(half, exact, atol=0.1)
    state = optimizer.state[parameters[2]]["square_avg"]
    assert state.dtype is braze.bfloat16


# Those that are no formula for single elements ----------------------------------------------------


def test_adafactor():
    def rule(p, g, s, t):
        rate = max(1e-3, np.sqrt(np.mean(p * p))) * min(0.05, t**-0.5)
        p = p * (1 - 0.05 * 0.1)
        share = t**-0.8
        row, column = (np.mean(g * g, axis, keepdims=True) for axis in (-1, -2))
        s["r"] = s.get("r", 0) + (row - s.get("r", 0)) * share
        s["c"] = s.get("c", 0) + (column - s.get("c", 0)) * share
        v = s["r"] @ s["c"] / s["r"].mean(-2, keepdims=True)
        u = g / np.sqrt(v)
        return p - rate * u / max(1.0, np.sqrt(np.mean(u * u)))

    with pytest.raises(ValueError, match="Clipping threshold"):
        optim.Adafactor([nn.Parameter(braze.ones(1))], d=0.9)
    settings = {"lr": 0.05, "weight_decay": 0.1}
    with braze.config.using(tier="interpret"):
        found, optimizer = run("Adafactor", np.float64, settings)
    np.testing.assert_allclose(found, expected(rule), rtol=1e-10)
    entry = optimizer.state_dict()["state"][0]
    assert entry["row_var"].shape == (3, 1) and entry["col_var"].shape == (1, 4)


def test_muon():
    """Singular values of the update end up near 1; its directions are the gradient's."""
    rng = np.random.default_rng(1)
    gradient = rng.standard_normal((4, 6))
    p = nn.Parameter(braze.zeros(4, 6))
    optimizer = optim.Muon([p], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    p.grad = braze.tensor(gradient.astype(np.float32))
    with braze.config.using(tier="interpret"):
        optimizer.step()
        update = -p.detach().numpy().astype(np.float64)
    u, sizes, v = np.linalg.svd(gradient, full_matrices=False)
    x = sizes / np.linalg.norm(sizes)
    for _ in range(5):  # the iteration acts on the singular values alone
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    np.testing.assert_allclose(update, (u * x) @ v, atol=0.02)
    with pytest.raises(ValueError, match="only supports 2D"):
        optim.Muon([nn.Parameter(braze.ones(3))])
