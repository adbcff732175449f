"""`autocast`: dtypes by function, casts as part of the graph, nothing left behind; `GradScaler`."""

import pickle
import threading

import ml_dtypes
import numpy as np
import pytest

import braze
from braze import amp, nn, optim
from braze import tensors as tensors_module
from braze.ir.op import all_ops
from braze.utils.checkpoint import checkpoint


@pytest.fixture(autouse=True)
def interpret():
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()
    assert tensors_module.autocast_hook is None  # else every operation would pay for it


def test_the_table_says_which_operations_take_part():
    policies = {op.name: op.autocast for op in all_ops()}
    assert {policies[name] for name in ("matmul", "linear", "conv", "bmm")} == {"lower"}
    assert {policies[name] for name in ("mse_loss", "cross_entropy", "svd", "fft")} == {"f32"}
    assert {policies[name] for name in ("add", "exp", "softmax", "contract", "mv")} == {None}


def test_products_round_their_operands_to_bfloat16():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 5)).astype(np.float32)
    x, w = braze.tensor(a), braze.tensor(b)
    with braze.autocast("cpu"):
        product, total = x @ w, x + w
        half = nn.functional.linear(x, w, w[0])
    assert product.dtype is half.dtype is braze.bfloat16 and total.dtype is braze.float32
    low = [array.astype(ml_dtypes.bfloat16).astype(np.float64) for array in (a, b)]
    expected = (low[0] @ low[1]).astype(ml_dtypes.bfloat16)
    found = product.to(braze.float32).numpy()
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-2, atol=1e-6)
    with braze.autocast("cpu", dtype=braze.float16):
        assert (x @ w).dtype is braze.float16
    with braze.autocast("cpu"):
        assert (x.double() @ w.double()).dtype is braze.float64


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_training_in_bfloat16(tier):
    """Parameters and gradients stay float32; the loss goes down as without."""
    rng = np.random.default_rng(2)
    x, y = braze.tensor(rng.standard_normal((16, 6)).astype(np.float32)), braze.arange(16) % 3

    def train(enabled):
        braze.manual_seed(0)
        layers = [nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.LayerNorm(12)]
        net = nn.Sequential(*layers, nn.Linear(12, 3))
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            with braze.autocast("cpu", enabled=enabled):
                scores = net(x)
                loss = nn.functional.cross_entropy(scores, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert scores.dtype is (braze.bfloat16 if enabled else braze.float32)
        assert {p.grad.dtype for p in net.parameters()} == {braze.float32}
        return losses

    with braze.config.using(tier=tier):
        low, full = train(True), train(False)
    assert low != full and low[-1] < low[0]
    np.testing.assert_allclose(low, full, rtol=0.03)


def test_a_parameter_is_cast_once():
    w = nn.Parameter(braze.ones(8, 8))

    def step(x, y):
        with braze.autocast("cpu"):
            return (x @ w).sum() + (y @ w).sum()

    stages = braze.inspect(step, braze.ones(4, 8), braze.ones(4, 8))
    casts = [line for line in stages["cse"].splitlines() if "bf16[8,8] = cast" in line]
    assert len(casts) == 1


def test_blocks_nest_decorate_and_end():
    x = braze.ones(2, 2)

    @braze.autocast("cpu", dtype=braze.float16)
    def decorated():
        return (x @ x).dtype

    with braze.autocast("cpu"):
        assert braze.is_autocast_enabled("cpu") and decorated() is braze.float16
        with braze.autocast("cpu", enabled=False):
            assert (x @ x).dtype is braze.float32
        assert (x @ x).dtype is braze.bfloat16
    assert decorated() is braze.float16 and (x @ x).dtype is braze.float32
    with pytest.raises(RuntimeError, match="stop"):
        with braze.autocast("cpu"):
            raise RuntimeError("stop")
    assert not braze.is_autocast_enabled("cpu")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        with braze.autocast("cuda"):
            assert (x @ x).dtype is braze.float32
    with pytest.warns(UserWarning, match="target dtype is not supported"):
        braze.autocast("cpu", braze.float64)
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        braze.autocast("tpu")


def test_threads_have_settings_of_their_own():
    seen = []
    with braze.autocast("cpu"):
        thread = threading.Thread(
            target=lambda: seen.append((braze.ones(2, 2) @ braze.ones(2, 2)).dtype)
        )
        thread.start()
        thread.join()
        assert (braze.ones(2, 2) @ braze.ones(2, 2)).dtype is braze.bfloat16
    assert seen == [braze.float32]


def test_gradients_of_gradients_are_not_cast():
    x = braze.ones(2, 2, requires_grad=True)
    with braze.autocast("cpu"):
        y = (x @ x).float().sum()
        (first,) = braze.autograd.grad(y, x, create_graph=True)
    first.pow(2).sum().backward()
    assert first.dtype is x.grad.dtype is braze.float32
    np.testing.assert_allclose(x.grad.numpy(), np.full((2, 2), 32.0))


def test_checkpoints_run_again_in_the_same_dtype():
    w = braze.ones(3, 3, requires_grad=True)

    def function(x):
        return (x @ w).relu() @ w

    with braze.autocast("cpu"):
        out = checkpoint(function, braze.ones(2, 3), use_reentrant=False)
    assert out.dtype is braze.bfloat16
    out.float().sum().backward()  # raises if the second run records other operations
    assert w.grad.dtype is braze.float32


def test_compiled_modules_tell_blocks_apart():
    net = braze.compile(nn.Linear(2, 2))
    x = braze.ones(1, 2)
    with braze.no_grad():
        assert net(x).dtype is braze.float32
        with braze.autocast("cpu"):
            assert net(x).dtype is net(x).dtype is braze.bfloat16
        assert net(x).dtype is braze.float32


def test_functions_with_gradients_of_their_own():
    class Product(braze.autograd.Function):
        @staticmethod
        @amp.custom_fwd(device_type="cpu", cast_inputs=braze.float32)
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x @ y

        @staticmethod
        @amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g @ y.t(), x.t() @ g

    x = braze.ones(2, 2, dtype=braze.bfloat16, requires_grad=True)
    with braze.autocast("cpu"):
        out = Product.apply(x, braze.ones(2, 2))
    assert out.dtype is braze.float32
    out.sum().backward()
    assert x.grad.dtype is braze.bfloat16


# The scaler ---------------------------------------------------------------------------------------


def scaled_steps(name, overflows, settings=None, **given):
    """(parameters, scale) after each of some steps."""
    p = nn.Parameter(braze.tensor([1.0, -2.0, 3.0]))
    optimizer = getattr(optim, name)([p], lr=0.1, **(settings or {}))
    scaler = amp.GradScaler("cpu", init_scale=64.0, growth_interval=2, **given)
    seen = []
    for overflow in overflows:
        optimizer.zero_grad()
        loss = (p * p).sum() * (float("inf") if overflow else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append((p.tolist(), scaler.get_scale()))
    return seen, optimizer, scaler


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RMSprop", "ASGD", "Rprop", "Adafactor"])
def test_steps_that_overflow_leave_no_trace(name):
    """As if they had not been, in parameters, states and step counts."""
    settings = {"momentum": 0.9, "dampening": 0.5} if name == "SGD" else {}
    found, optimizer, _ = scaled_steps(name, [1, 0, 1, 0, 0], settings)
    assert found[0][0] == [1.0, -2.0, 3.0] and found[1][0] == found[2][0] != found[0][0]
    p = nn.Parameter(braze.tensor([1.0, -2.0, 3.0]))
    plain = getattr(optim, name)([p], lr=0.1, **settings)
    for _ in range(3):
        plain.zero_grad()
        (p * p).sum().backward()
        plain.step()
    np.testing.assert_allclose(found[-1][0], p.tolist(), rtol=1e-6)
    ours, expected = (o.state_dict()["state"].get(0, {}) for o in (optimizer, plain))
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(ours[key].numpy(), value.numpy(), rtol=1e-5)


def test_the_scale_follows():
    found, _, scaler = scaled_steps("SGD", [0, 0, 0, 1, 0, 0, 1, 1], backoff_factor=0.25)
    assert [scale for _, scale in found] == [64, 128, 128, 32, 32, 64, 16, 4]
    assert scaler.state_dict() == {
        "scale": 4.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.25,
        "growth_interval": 2,
        "_growth_tracker": 0,
    }
    again = pickle.loads(pickle.dumps(scaler))
    assert again.get_scale() == 4.0 and again.get_backoff_factor() == 0.25


def test_an_iteration_with_a_scaler_is_one_run():
    """Scaling, check, conditional update and new scale: one graph, no other sync point."""
    p = nn.Parameter(braze.ones(3))
    optimizer = optim.Adam([p], lr=0.1)
    scaler = amp.GradScaler("cpu", growth_interval=3)
    x = braze.ones(3)
    runs = []
    for i in range(12):
        optimizer.zero_grad()
        with braze.autocast("cpu"):
            loss = ((p * x) ** 2).sum() * (float("inf") if i == 7 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        runs.append((braze.stats.interpreted, braze.stats.graphs))
    assert {b[0] - a[0] for a, b in zip(runs, runs[1:], strict=False)} == {1}
    assert len({graphs for _, graphs in runs[1:]}) == 1
    assert optimizer.state[p]["step"] == 11


def test_optimizers_of_ones_own_and_hooks_are_asked_before():
    class Plain(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})
            self.calls = 0

        def step(self, closure=None):
            self.calls += 1
            with braze.no_grad():
                for p in self.param_groups[0]["params"]:
                    p.sub_(p.grad)

    p = nn.Parameter(braze.ones(2))
    own, scaler = Plain([p]), amp.GradScaler("cpu")
    hooked = optim.SGD([nn.Parameter(braze.ones(2))], lr=0.1)
    calls = []
    hooked.register_step_pre_hook(lambda o, args, kwargs: calls.append(1))
    for factor in (1.0, float("inf")):
        for optimizer in (own, hooked):
            optimizer.zero_grad()
            q = optimizer.param_groups[0]["params"][0]
            scaler.scale((q * factor).sum()).backward()
            scaler.step(optimizer)
        scaler.update()
    assert own.calls == len(calls) == 1 and p.tolist() == [0.0, 0.0]


def test_clipping_between_unscaling_and_the_step():
    p = nn.Parameter(braze.tensor([3.0, 4.0]))
    optimizer, scaler = optim.SGD([p], lr=1.0), amp.GradScaler("cpu")
    scaler.scale((p * p).sum() / 2).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_([p], 1.0)
    scaler.step(optimizer)
    np.testing.assert_allclose(p.detach().numpy(), [2.4, 3.2], rtol=1e-5)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="called after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    with pytest.raises(AssertionError, match="No inf checks were recorded"):
        scaler.update()
    with pytest.raises(AssertionError, match="_scale is None"):
        amp.GradScaler("cpu").step(optimizer)
    with pytest.raises(ValueError, match="FP16"):
        q = nn.Parameter(braze.ones(1, dtype=braze.float16))
        scaler.scale(q.sum()).backward()
        scaler.unscale_(optim.SGD([q], lr=0.1))


def test_without_a_gpu_the_scaler_of_one_is_off():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = braze.cuda.amp.GradScaler()
    x = braze.ones(1)
    assert not scaler.is_enabled() and scaler.scale(x) is x and scaler.get_scale() == 1.0
    optimizer = optim.SGD([nn.Parameter(braze.ones(1))], lr=0.1)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


def test_the_device_is_a_string():
    with pytest.raises(TypeError, match=r"'device_type' \(position 1\) must be str, not bool"):
        braze.set_autocast_enabled(True, True)


@pytest.mark.parametrize("scaler", [amp.GradScaler, braze.cuda.amp.GradScaler])
def test_a_scaler_without_a_device_warns_at_the_users_line(scaler):
    with pytest.warns(UserWarning, match="CUDA is not available") as caught:
        scaler()
    assert caught[0].filename == __file__
