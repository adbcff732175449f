"""Optimizers and schedules: against formulas and PyTorch, one graph for all, state, errors."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest

import braze
from braze import nn, optim
from braze.optim import lr_scheduler

pytestmark = pytest.mark.usefixtures("interpret")


def data(step, dtype=np.float64):
    rng = np.random.default_rng(step)
    return rng.standard_normal((7, 3)).astype(dtype), rng.standard_normal((7, 5)).astype(dtype)


def start(dtype=np.float64):
    rng = np.random.default_rng(99)
    return rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal(5).astype(dtype)


def train(make, steps=10, dtype=np.float64, before=None):
    """Parameters after some steps on (x W^T + b - y)^2, and the optimizer."""
    w, b = (nn.Parameter(braze.tensor(a)) for a in start(dtype))
    optimizer = make([w, b])
    for step in range(steps):
        if before is not None:
            before(optimizer, step)
        x, y = (braze.tensor(a) for a in data(step, dtype))
        optimizer.zero_grad()
        nn.functional.mse_loss(nn.functional.linear(x, w, b), y).backward()
        optimizer.step()
    return w.detach().numpy(), b.detach().numpy(), optimizer


def by_hand(update, steps=10):
    """The same training in NumPy; update(parameter, gradient, state, t) -> parameter."""
    parameters, states = list(start()), [{}, {}]
    for step in range(steps):
        x, y = data(step)
        error = 2 * (x @ parameters[0].T + parameters[1] - y) / y.size
        gradients = [error.T @ x, error.sum(0)]
        for i in range(2):
            parameters[i] = update(parameters[i], gradients[i], states[i], step + 1)
    return parameters


# Formulas -----------------------------------------------------------------------------------------


def test_sgd_formula():
    w, b = by_hand(lambda p, g, s, t: p - 0.1 * (g + 0.01 * p))
    mine = train(lambda ps: optim.SGD(ps, 0.1, weight_decay=0.01))
    np.testing.assert_allclose(mine[0], w, rtol=1e-10)
    np.testing.assert_allclose(mine[1], b, rtol=1e-10)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_momentum_formula(nesterov):
    damp = 0.0 if nesterov else 0.4

    def update(p, g, state, t):
        g = g + 0.01 * p
        state["b"] = g if t == 1 else 0.9 * state["b"] + (1 - damp) * g
        return p - 0.05 * (g + 0.9 * state["b"] if nesterov else state["b"])

    mine = train(lambda ps: optim.SGD(ps, 0.05, 0.9, damp, 0.01, nesterov))
    for a, b in zip(mine, by_hand(update), strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_formula(decoupled, amsgrad):
    def update(p, g, state, t):
        if decoupled:
            p = p * (1 - 0.05 * 0.1)
        else:
            g = g + 0.1 * p
        m = state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
        v = state["v"] = 0.95 * state.get("v", 0) + 0.05 * g * g
        if amsgrad:
            v = state["most"] = np.maximum(state.get("most", 0), v)
        denominator = np.sqrt(v / (1 - 0.95**t)) + 1e-6
        return p - 0.05 * (m / (1 - 0.8**t)) / denominator

    kind = optim.AdamW if decoupled else optim.Adam
    settings = {
        "lr": 0.05,
        "betas": (0.8, 0.95),
        "eps": 1e-6,
        "weight_decay": 0.1,
        "amsgrad": amsgrad,
    }
    for a, b in zip(train(lambda ps: kind(ps, **settings)), by_hand(update), strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_without_decay_a_parameter_does_not_change_its_gradient(amsgrad):
    """Nothing times infinity would be nan."""
    parameter = nn.Parameter(braze.tensor([math.inf, 1.0, 2.0]))
    optimizer = optim.Adam([parameter], lr=0.1, amsgrad=amsgrad)
    parameter.grad = braze.tensor([0.5, 0.5, -0.5])
    optimizer.step()
    assert parameter.tolist() == [math.inf, pytest.approx(0.9), pytest.approx(2.1)]
    moment = optimizer.state[parameter]["exp_avg"].tolist()
    assert moment == pytest.approx([0.05, 0.05, -0.05])


SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.1, "maximize": True}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_torch(name, settings, dtype):
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.tensor(a)) for a in start(dtype)]
    other = getattr(torch.optim, name)(parameters, **settings)
    for step in range(10):
        x, y = (torch.tensor(a) for a in data(step, dtype))
        other.zero_grad()
        torch.nn.functional.mse_loss(torch.nn.functional.linear(x, *parameters), y).backward()
        other.step()
    mine = train(lambda ps: getattr(optim, name)(ps, **settings), dtype=dtype)
    for a, b in zip(mine, parameters, strict=False):
        tolerance = 2e-5 if dtype == np.float32 else 1e-10
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=tolerance, atol=tolerance)


# One graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: optim.SGD(ps, 0.1),
        lambda ps: optim.SGD(ps, 0.1, momentum=0.9, dampening=0.1),
        lambda ps: optim.Adam(ps, 0.1),
        lambda ps: optim.AdamW(ps, 0.1, amsgrad=True),
    ],
)
def test_every_step_is_the_same_graph(make):
    def change(optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
            group["weight_decay"] = 0.1 * step
            if step == 3:  # equal to another number of the step
                group["weight_decay"] = group["lr"]

    train(make, 1)
    braze.stats.reset()
    train(make, 8, before=change)
    # One more than the steps: the parameters' first values, which are all the graphs there are.
    assert braze.stats.graphs == 0 and braze.stats.interpreted + braze.stats.native_calls == 9


def test_parameters_are_in_memory_before_the_first_step_and_after_each():
    net = nn.Linear(3, 2)
    assert net.weight._handle.storage is None
    optimizer = optim.SGD(net.parameters(), 0.1)
    assert net.weight._handle.storage is not None
    storage = net.weight._handle.storage
    net(braze.ones(1, 3)).sum().backward()
    optimizer.step()
    assert net.weight._handle.storage is storage


def test_closures_and_step_hooks():
    p = nn.Parameter(braze.tensor([1.0]))
    optimizer = optim.SGD([p], 0.1)
    calls = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("post"))

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with braze.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert calls == ["pre", "post"]
    np.testing.assert_allclose(p.detach().numpy(), [0.8], rtol=1e-6)


def test_own_optimizers_may_define_step_as_in_pytorch():
    class Sign(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        @braze.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad.sign(), alpha=-group["lr"])

    p = nn.Parameter(braze.tensor([1.0, -1.0]))
    optimizer = Sign([p], 0.5)
    (p * 3).sum().backward()
    optimizer.step()
    assert p._handle.storage is not None and p.tolist() == [0.5, -1.5]


def test_parameters_without_gradient_are_left_alone():
    p, q = nn.Parameter(braze.ones(2)), nn.Parameter(braze.ones(2))
    optimizer = optim.Adam([p, q], 0.1)
    p.sum().backward()
    optimizer.step()
    assert q.tolist() == [1.0, 1.0] and q not in optimizer.state
    p.grad = None
    q.sum().backward()
    optimizer.step()  # q is at its first step, p was at its first before
    assert q.tolist() == pytest.approx([0.9, 0.9]) and optimizer.state[q]["step"] == 1


# Groups and state ---------------------------------------------------------------------------------


def test_groups_have_their_own_settings():
    p, q = nn.Parameter(braze.ones(1)), nn.Parameter(braze.ones(1))
    optimizer = optim.SGD([{"params": [p], "lr": 1.0}, {"params": q}], lr=0.1)
    optimizer.add_param_group({"params": [nn.Parameter(braze.ones(1))], "lr": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.1, 0.5]
    (p + q).sum().backward()
    optimizer.step()
    assert p.item() == 0.0 and q.item() == pytest.approx(0.9)
    assert "Parameter Group 1" in repr(optimizer) and "lr: 0.5" in repr(optimizer)
    named = optim.SGD(nn.Linear(1, 1).named_parameters(), 0.1)
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_state_dict_round_trip(name):
    settings = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1, "amsgrad": True}
    make = getattr(optim, name)
    whole = train(lambda ps: make(ps, **settings), 6)
    saved = {}

    def resume(optimizer, step):
        if step == 3:
            saved["state"] = pickle.loads(pickle.dumps(optimizer.state_dict()))
            fresh = make(optimizer.param_groups[0]["params"], lr=7.0)
            fresh.load_state_dict(saved["state"])
            optimizer.state, optimizer.param_groups = fresh.state, fresh.param_groups

    again = train(lambda ps: make(ps, **settings), 6, before=resume)
    np.testing.assert_array_equal(again[0], whole[0])
    state = saved["state"]
    assert state["param_groups"][0]["params"] == [0, 1] and state["param_groups"][0]["lr"] == 0.1
    names = (
        {"momentum_buffer"}
        if name == "SGD"
        else {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    )
    assert set(state["state"]) == {0, 1} and set(state["state"][0]) == names


def test_loading_copies_and_checks():
    _, _, first = train(lambda ps: optim.SGD(ps, 0.1, 0.9), 2)
    _, _, second = train(lambda ps: optim.SGD(ps, 0.2, 0.9), 0, dtype=np.float32)
    second.load_state_dict(first.state_dict())
    mine = second.state[second.param_groups[0]["params"][0]]["momentum_buffer"]
    theirs = first.state[first.param_groups[0]["params"][0]]["momentum_buffer"]
    assert mine.dtype is braze.float32 and mine.data_ptr() != theirs.data_ptr()
    assert second.param_groups[0]["lr"] == 0.1
    with pytest.raises(ValueError, match="different number of parameter groups"):
        second.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size"):
        second.load_state_dict({"state": {}, "param_groups": [{"params": [0]}]})
    duplicate = copy.deepcopy(first)
    assert duplicate.param_groups[0]["lr"] == 0.1 and len(duplicate.state) == 2


def test_errors():
    p = nn.Parameter(braze.ones(1))
    cases = [
        (ValueError, "empty parameter list", lambda: optim.SGD([], 0.1)),
        (TypeError, "should be an iterable of Tensors or dicts", lambda: optim.SGD(p, 0.1)),
        (TypeError, "can only optimize Tensors", lambda: optim.SGD([3], 0.1)),
        (TypeError, "ordered collections", lambda: optim.SGD([{"params": {p}}], 0.1)),
        (ValueError, "non-leaf", lambda: optim.SGD([p * 2], 0.1)),
        (
            ValueError,
            "more than one parameter group",
            lambda: optim.SGD([{"params": p}, {"params": p}], 0.1),
        ),
        (ValueError, "Invalid learning rate: -1", lambda: optim.SGD([p], -1)),
        (ValueError, "Invalid momentum value: -1", lambda: optim.SGD([p], 1, -1)),
        (ValueError, "Nesterov momentum requires", lambda: optim.SGD([p], 1, nesterov=True)),
        (
            ValueError,
            "Invalid beta parameter at index 1: 1.0",
            lambda: optim.Adam([p], betas=(0.9, 1.0)),
        ),
        (ValueError, "Invalid epsilon value", lambda: optim.AdamW([p], eps=-1)),
        (ValueError, "Invalid learning rate: nan", lambda: optim.Adam([p], float("nan"))),
        (ValueError, "differentiable", lambda: optim.Adam([p], differentiable=True)),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p], 0.1)


# Clipping -----------------------------------------------------------------------------------------


def test_gradient_clipping():
    p, q = nn.Parameter(braze.zeros(2)), nn.Parameter(braze.zeros(1))
    p.grad, q.grad = braze.tensor([3.0, 0.0]), braze.tensor([4.0])
    total = nn.utils.clip_grad_norm_([p, q], 1.0)
    assert total.item() == pytest.approx(5.0)
    assert p.grad.tolist() == pytest.approx([0.6, 0.0], rel=1e-5)
    assert q.grad.tolist() == pytest.approx([0.8], rel=1e-5)
    nn.utils.clip_grad_norm_([p, q], 10.0)
    assert q.grad.tolist() == pytest.approx([0.8], rel=1e-5)
    assert nn.utils.clip_grad_norm_([p, q], 1.0, math.inf).item() == pytest.approx(0.8, rel=1e-5)
    nn.utils.clip_grad_value_([p, q], 0.5)
    assert p.grad.tolist() == pytest.approx([0.5, 0.0]) and q.grad.item() == 0.5
    p.grad = braze.tensor([math.inf, 0.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
        braze.sync()
    assert p.grad.tolist() == [math.inf, 0.0]  # what the failing line changed is taken back


def test_parameters_as_a_vector():
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(braze.arange(9).float(), net.parameters())
    assert net.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and net.bias.tolist() == [6, 7, 8]


# Schedules ----------------------------------------------------------------------------------------

SCHEDULES = {
    "LambdaLR": {"lr_lambda": lambda e: 0.9**e},
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 5, 5, 9], "gamma": 0.5},
    "ExponentialLR": {"gamma": 0.8},
    "LinearLR": {"start_factor": 0.25, "end_factor": 0.75, "total_iters": 4},
    "CosineAnnealingLR": {"T_max": 4, "eta_min": 0.01},
    "OneCycleLR": {"max_lr": 1.0, "total_steps": 12},
    "OneCycleLR-three": {
        "max_lr": 1.0,
        "epochs": 3,
        "steps_per_epoch": 4,
        "three_phase": True,
        "anneal_strategy": "linear",
        "cycle_momentum": True,
    },
}


def run_schedule(package, parameter, name, settings, kind="SGD"):
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(package, kind)([parameter], lr=0.5, **extra)
    schedule = getattr(package.lr_scheduler, name.split("-")[0])(optimizer, **settings)
    values = []
    for _ in range(11):
        group = optimizer.param_groups[0]
        values.append((group["lr"], group["momentum"] if kind == "SGD" else group["betas"][0]))
        optimizer.step()
        schedule.step()
    return np.array(values), schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    for kind in ("SGD", "Adam"):
        mine, schedule = run_schedule(
            optim, nn.Parameter(braze.ones(1)), name, SCHEDULES[name], kind
        )
        parameter = torch.nn.Parameter(torch.ones(1))
        theirs, _ = run_schedule(torch.optim, parameter, name, SCHEDULES[name], kind)
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
        assert schedule.get_last_lr() == [schedule.optimizer.param_groups[0]["lr"]]


def test_schedules_by_formula():
    p = nn.Parameter(braze.ones(1))
    values, _ = run_schedule(optim, p, "StepLR", SCHEDULES["StepLR"])
    np.testing.assert_allclose(values[:, 0], [0.5 * 0.5 ** (e // 3) for e in range(11)])
    values, _ = run_schedule(optim, p, "CosineAnnealingLR", SCHEDULES["CosineAnnealingLR"])
    expected = [0.01 + 0.49 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(11)]
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-9)
    values, _ = run_schedule(optim, p, "OneCycleLR", SCHEDULES["OneCycleLR"])
    assert values[0, 0] == pytest.approx(1 / 25) and values[:, 0].max() > 0.95
    assert values[0, 1] == pytest.approx(0.95) and values[-1, 0] < 0.04


def test_plateau():
    def run(package, parameter, metrics, **settings):
        optimizer = package.SGD([parameter], lr=1.0)
        schedule = package.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
        values = []
        for metric in metrics:
            schedule.step(metric)
            values.append(optimizer.param_groups[0]["lr"])
        return values

    metrics = [5.0, 4.0, 4.0, 4.0, 3.99999, 3.0, 3.0, 3.0, 3.1, 3.0, 2.0, 2.0, 2.0, 2.0]
    p = nn.Parameter(braze.ones(1))
    assert run(optim, p, metrics[:5], patience=1, factor=0.5) == [1.0, 1.0, 1.0, 0.5, 0.5]
    torch = pytest.importorskip("torch")
    other = torch.nn.Parameter(torch.ones(1))
    for settings in [
        {"patience": 1, "factor": 0.5, "cooldown": 1},
        {"patience": 0, "mode": "max", "threshold_mode": "abs", "threshold": 0.5, "min_lr": 0.2},
        {"patience": 2, "threshold": 0.3},
        {"patience": 1, "mode": "max", "threshold": 0.2},
    ]:
        assert run(optim, p, metrics, **settings) == run(torch.optim, other, metrics, **settings)


def test_schedule_state_order_warning_and_errors():
    optimizer = optim.SGD([nn.Parameter(braze.ones(1))], lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()
    state = schedule.state_dict()
    assert "optimizer" not in state and state["last_epoch"] == 1
    fresh = lr_scheduler.StepLR(optimizer, 9)
    fresh.load_state_dict(state)
    assert fresh.step_size == 2 and fresh.last_epoch == 1
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr_scheduler.StepLR(optimizer, 2).step()
    with pytest.raises(TypeError, match="is not an Optimizer"):
        lr_scheduler.StepLR(3, 2)
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optim.SGD([nn.Parameter(braze.ones(1))]), 2, last_epoch=4)
    with pytest.raises(ValueError, match="total_steps OR"):
        lr_scheduler.OneCycleLR(optimizer, 1.0)
    with pytest.raises(ValueError, match="Tried to step"):
        short = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=2, cycle_momentum=False)
        for _ in range(4):
            short.step()
