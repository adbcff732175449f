"""What optimizers keep, also from PyTorch's state dicts; hooks; sparse gradients; LBFGS."""

import copy
import pickle

import numpy as np
import pytest

import braze
from braze import nn, optim

pytestmark = pytest.mark.usefixtures("interpret")

NAMES = {
    "SGD": {"momentum_buffer"},
    "Adagrad": {"step", "sum"},
    "Adadelta": {"step", "square_avg", "acc_delta"},
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "Adamax": {"step", "exp_avg", "exp_inf"},
    "NAdam": {"step", "mu_product", "exp_avg", "exp_avg_sq"},
    "RAdam": {"step", "exp_avg", "exp_avg_sq"},
    "ASGD": {"step", "eta", "mu", "ax"},
    "RMSprop": {"step", "square_avg", "momentum_buffer", "grad_avg"},
    "Rprop": {"step", "prev", "step_size"},
    "Adafactor": {"step", "row_var", "col_var"},
    "Muon": {"momentum_buffer"},
}
SETTINGS = {
    "SGD": {"momentum": 0.9},
    "AdamW": {"amsgrad": True},
    "ASGD": {"t0": 2},
    "RMSprop": {"momentum": 0.9, "centered": True},
}
NUMBERS = {"step", "mu_product", "eta", "mu"}


def steps(package, optimizer, parameter, first, last):
    for i in range(first, last):
        gradient = np.random.default_rng(i).standard_normal((2, 3)).astype(np.float32)
        parameter.grad = package.tensor(gradient)
        optimizer.step()


def make(package, name, **more):
    start = np.random.default_rng(77).standard_normal((2, 3)).astype(np.float32)
    parameter = package.nn.Parameter(package.tensor(start))
    kind = getattr(package.optim, name)
    return parameter, kind([parameter], lr=0.1, **SETTINGS.get(name, {}), **more)


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_going_on(name):
    parameter, optimizer = make(braze, name)
    steps(braze, optimizer, parameter, 0, 3)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    entry = saved["state"][0]
    assert set(entry) == NAMES[name]
    for key in NUMBERS & set(entry):
        assert entry[key].dtype is braze.float32 and entry[key].shape == ()
    other, again = make(braze, name)
    other.data.copy_(parameter.detach())
    again.load_state_dict(saved)
    twin = copy.deepcopy(optimizer)
    plain = {k: float(v) if k in NUMBERS else v for k, v in entry.items()}  # of early versions
    third, from_numbers = make(braze, name)
    third.data.copy_(parameter.detach())
    from_numbers.load_state_dict({**saved, "state": {0: plain}})
    steps(braze, optimizer, parameter, 3, 6)
    steps(braze, again, other, 3, 6)
    steps(braze, from_numbers, third, 3, 6)
    copied = twin.param_groups[0]["params"][0]
    steps(braze, twin, copied, 3, 6)
    for found in (other, copied, third):
        np.testing.assert_array_equal(found.detach().numpy(), parameter.detach().numpy())


@pytest.mark.parametrize("name", NAMES)
def test_pytorchs_state_dicts(name):
    """Three steps in one library, three in the other."""
    torch = pytest.importorskip("torch")
    whole, reference = make(torch, name)
    steps(torch, reference, whole, 0, 6)
    theirs, first = make(torch, name)
    steps(torch, first, theirs, 0, 3)
    parameter, optimizer = make(braze, name)
    parameter.data.copy_(braze.tensor(theirs.detach().numpy()))
    optimizer.load_state_dict(first.state_dict())
    steps(braze, optimizer, parameter, 3, 6)
    tolerance = 2e-6
    expected = whole.detach().numpy()
    np.testing.assert_allclose(parameter.detach().numpy(), expected, tolerance, tolerance)
    # And back.
    parameter, optimizer = make(braze, name)
    steps(braze, optimizer, parameter, 0, 3)
    saved = optimizer.state_dict()
    saved["state"] = {
        0: {key: torch.tensor(value.numpy()) for key, value in saved["state"][0].items()}
    }
    theirs, first = make(torch, name)
    theirs.data.copy_(torch.tensor(parameter.detach().numpy()))
    first.load_state_dict(saved)
    steps(torch, first, theirs, 3, 6)
    np.testing.assert_allclose(theirs.detach().numpy(), expected, tolerance, tolerance)


def test_hooks_around_saving_and_loading():
    parameter, optimizer = make(braze, "Adam")
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, d: calls.append(("load", d["more"])))
    optimizer.register_load_state_dict_pre_hook(lambda o, d: calls.append("first"), prepend=True)
    handle = optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    assert calls == ["before saving", "first", ("load", 1), "loaded"]
    handle.remove()
    optimizer.load_state_dict(saved)
    assert calls.count("loaded") == 1


def test_hooks_around_all_steps():
    from braze.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    parameter, optimizer = make(braze, "SGD")
    calls = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, args, kwargs: calls.append("before")),
        register_optimizer_step_post_hook(lambda o, args, kwargs: calls.append("after")),
    ]
    steps(braze, optimizer, parameter, 0, 1)
    for handle in handles:
        handle.remove()
    steps(braze, optimizer, parameter, 1, 2)
    assert calls == ["before", "after"]


def test_groups_added_later_and_names():
    net = nn.Linear(2, 3)
    optimizer = optim.Adagrad(net.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    late = nn.Parameter(braze.ones(2))
    with pytest.raises(ValueError, match="cannot add param group without names"):
        optimizer.add_param_group({"params": [late]})
    optimizer.add_param_group({"params": [("late", late)], "lr": 1.0})
    late.grad = braze.ones(2)
    optimizer.step()
    assert late.tolist() == [0.0, 0.0]
    assert optimizer.state_dict()["state"][2]["step"].item() == 1.0
    fresh = optim.Adagrad([("w", net.weight), ("b", net.bias)], lr=0.5)
    saved = fresh.state_dict()
    saved["param_groups"][0]["param_names"] = ["other", "names"]
    fresh.load_state_dict(saved)
    assert fresh.param_groups[0]["param_names"] == ["other", "names"]


def test_a_learning_rate_that_is_a_tensor():
    lr = braze.tensor(0.1)
    for name in ("SGD", "Adam", "RMSprop", "NAdam"):
        parameter, _ = make(braze, name)
        plain, number = make(braze, name)
        optimizer = getattr(optim, name)([parameter], lr=lr)
        reference = getattr(optim, name)([plain], lr=float(np.float32(0.1)))
        steps(braze, optimizer, parameter, 0, 3)
        steps(braze, reference, plain, 0, 3)
        np.testing.assert_allclose(parameter.detach().numpy(), plain.detach().numpy(), rtol=1e-6)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == pytest.approx(0.05)


# Sparse gradients ---------------------------------------------------------------------------------


def sparse(gradient):
    rows = braze.tensor([[2, 0, 2]])
    return braze.sparse_coo_tensor(rows, braze.tensor(gradient), (4, 2))


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients(name):
    rng = np.random.default_rng(8)
    start = rng.standard_normal((4, 2))
    settings = {"lr": 0.1} if name != "Adagrad" else {"lr": 0.1, "lr_decay": 0.5}
    parameter = nn.Parameter(braze.tensor(start))
    optimizer = getattr(optim, name)([parameter], **settings)
    p, state = start.copy(), {}
    for t in range(1, 4):
        values = rng.standard_normal((3, 2))
        parameter.grad = sparse(values)
        optimizer.step()
        g = np.zeros((4, 2))
        np.add.at(g, [2, 0, 2], values)
        at = [0, 2]  # elsewhere nothing moves
        if name == "SGD":
            p[at] -= 0.1 * g[at]
        elif name == "Adagrad":
            total = state["sum"] = state.get("sum", 0) + g * g
            p[at] -= 0.1 / (1 + (t - 1) * 0.5) * g[at] / (np.sqrt(total[at]) + 1e-10)
        else:
            m = state["m"] = np.where(g != 0, 0.9 * state.get("m", 0) + 0.1 * g, 0)
            v = state["v"] = np.where(g != 0, 0.999 * state.get("v", 0) + 0.001 * g * g, 0)
            size = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            p[at] -= size * m[at] / (np.sqrt(v[at]) + 1e-8)
    np.testing.assert_allclose(parameter.detach().numpy(), p, rtol=1e-9)


def test_sparse_gradients_are_refused():
    for name in sorted(set(NAMES) - {"SGD", "Adagrad", "Muon", "AdamW"}):
        parameter = nn.Parameter(braze.zeros(4, 2))
        optimizer = getattr(optim, name)([parameter])
        parameter.grad = sparse(np.ones((3, 2), np.float32))
        with pytest.raises(RuntimeError, match="does not support sparse gradients"):
            optimizer.step()
    parameter = nn.Parameter(braze.zeros(4, 2))
    optimizer = optim.Adagrad([parameter], weight_decay=0.1)
    parameter.grad = sparse(np.ones((3, 2), np.float32))
    with pytest.raises(RuntimeError, match="weight_decay option is not compatible"):
        optimizer.step()


# LBFGS --------------------------------------------------------------------------------------------


def minimise(steps, size=2, **settings):
    """Rosenbrock's function in one parameter, or in two."""
    start = np.array([-1.2, 1.0])
    parameters = [nn.Parameter(braze.tensor(part)) for part in np.split(start, size)]
    optimizer = optim.LBFGS(parameters, **settings)
    calls = []

    def closure():
        optimizer.zero_grad()
        x, y = braze.cat(parameters)
        loss = (1 - x) ** 2 + 100 * (y - x * x) ** 2
        loss.backward()
        calls.append(loss.item())
        return loss

    losses = [optimizer.step(closure).item() for _ in range(steps)]
    return np.concatenate([p.detach().numpy() for p in parameters]), losses, calls, optimizer


@pytest.mark.parametrize("size", [1, 2])
def test_lbfgs_finds_the_minimum(size):
    x, losses, calls, optimizer = minimise(8, size, line_search_fn="strong_wolfe", max_iter=10)
    np.testing.assert_allclose(x, [1.0, 1.0], atol=1e-4)
    assert losses == sorted(losses, reverse=True)
    state = optimizer.state_dict()["state"][0]
    assert state["func_evals"] == len(calls) and state["n_iter"] <= 80


def test_lbfgs_without_line_search_is_the_two_loop_recursion():
    a = np.diag([1.0, 3.0, 10.0])
    b = np.array([1.0, -2.0, 0.5])
    x = nn.Parameter(braze.zeros(3, dtype=braze.float64))
    optimizer = optim.LBFGS([x], lr=0.5, max_iter=6, history_size=2)
    matrix, right = braze.tensor(a), braze.tensor(b)

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * x @ matrix @ x - right @ x
        loss.backward()
        return loss

    optimizer.step(closure)
    y, pairs, before, d, t = np.zeros(3), [], None, None, None
    for i in range(6):
        g = a @ y - b
        if i:
            pairs = [*pairs, (d * t, g - before)][-2:]
        q, shares = -g, []
        for s, change in reversed(pairs):
            shares.append(s @ q / (s @ change))
            q = q - shares[-1] * change
        if pairs:
            s, change = pairs[-1]
            q = q * (s @ change) / (change @ change)
        for s, change in pairs:
            q = q + s * (shares.pop() - change @ q / (s @ change))
        before, d = g, q
        t = 0.5 * min(1.0, 1 / np.abs(g).sum()) if i == 0 else 0.5
        y = y + t * d
    np.testing.assert_allclose(x.detach().numpy(), y, rtol=1e-9)


def test_lbfgs_goes_on_from_a_state_dict_and_checks():
    whole = minimise(4, max_iter=3, line_search_fn="strong_wolfe")[0]
    half = minimise(2, max_iter=3, line_search_fn="strong_wolfe")
    saved = pickle.loads(pickle.dumps(half[3].state_dict()))
    x = nn.Parameter(braze.tensor(half[0]))
    optimizer = optim.LBFGS([x])
    saved["param_groups"][0]["params"] = [0]
    optimizer.load_state_dict(saved)

    def closure():
        optimizer.zero_grad()
        a, b = x
        loss = (1 - a) ** 2 + 100 * (b - a * a) ** 2
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), whole, rtol=1e-7)
    with pytest.raises(ValueError, match="parameter groups"):
        optim.LBFGS([{"params": [x]}, {"params": [nn.Parameter(braze.ones(1))]}])
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        minimise(1, line_search_fn="armijo")


def test_settings_out_of_range():
    p = nn.Parameter(braze.ones(2))
    cases = [
        ("Adagrad", {"lr_decay": -1}, "Invalid lr_decay value: -1"),
        ("Adagrad", {"initial_accumulator_value": -1}, "Invalid initial_accumulator_value value"),
        ("Adadelta", {"rho": 1.5}, "Invalid rho value: 1.5"),
        ("Adamax", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0"),
        ("NAdam", {"momentum_decay": -1}, "Invalid momentum_decay value"),
        ("RAdam", {"eps": -1}, "Invalid epsilon value"),
        ("ASGD", {"weight_decay": -1}, "Invalid weight_decay value"),
        ("RMSprop", {"alpha": -1}, "Invalid alpha value"),
        ("Rprop", {"etas": (1.0, 1.2)}, "Invalid eta values: 1.0, 1.2"),
        ("SparseAdam", {"eps": 0.0}, "Invalid epsilon value"),
        ("Adafactor", {"beta2_decay": 0.5}, "beta2_decay should be <= 0"),
        ("Muon", {"adjust_lr_fn": "other"}, "Adjust learning rate function other"),
        ("Adam", {"lr": braze.ones(2)}, "Tensor lr must be 1-element"),
        ("RMSprop", {"differentiable": True}, "differentiable=True is not supported"),
    ]
    for name, settings, text in cases:
        with pytest.raises(ValueError, match=text):
            getattr(optim, name)([p], **settings)
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        optim.SGD([p], fused=True, foreach=True)
