"""NumPy called from compiled programs: one native call, errors at the user's line, caches,
packages."""

import inspect
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import braze
from braze import nn
from braze.ir.op import op_named
from braze.runtime import load


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


@pytest.fixture
def compiled():
    braze.sync()
    before, braze.config.tier = braze.config.tier, "compile"
    yield
    braze.sync()
    braze.config.tier = before


def test_a_training_step_with_an_inverse_is_one_native_call(compiled):
    """Fit w so that inverse(w @ w^T + I) is a given matrix."""
    braze.manual_seed(0)
    target = braze.tensor([[0.4, 0.1], [0.1, 0.3]])
    w = nn.Parameter(braze.randn(2, 2))
    optimizer = braze.optim.SGD([w], lr=0.5)
    losses = []
    for step in range(60):
        if step == 3:
            calls, graphs = braze.stats.native_calls, braze.stats.graphs
        optimizer.zero_grad()
        inverse = braze.inverse(w @ w.t() + braze.eye(2))
        loss = ((inverse - target) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    assert braze.stats.native_calls - calls == 57
    assert braze.stats.graphs == graphs
    assert losses[-1].item() < 1e-3 < losses[0].item()


def test_a_result_may_overwrite_what_the_call_reads(tier):
    a = np.random.default_rng(0).standard_normal((3, 3)) + 3 * np.eye(3)
    x = braze.from_numpy(a.copy())
    for wanted in (np.linalg.inv(a), a):
        x.copy_(braze.inverse(x))
        braze.sync()
        np.testing.assert_allclose(x.numpy(), wanted, atol=1e-10)


def test_a_step_with_many_calls_is_the_same_in_both_tiers():
    a = np.random.default_rng(0).standard_normal((3, 3)) + 3 * np.eye(3)
    found = []
    for tier in ("interpret", "compile"):
        braze.sync()
        before, braze.config.tier = braze.config.tier, tier
        p = nn.Parameter(braze.from_numpy(a.copy()))
        optimizer = braze.optim.Adam([p], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = braze.logdet(p @ p.t()) + braze.linalg.svdvals(p).sum()
            loss = loss + braze.linalg.norm(p, "nuc") + braze.qr(p).R.sum()
            loss.backward()
            optimizer.step()
        found.append(p.detach().numpy().copy())
        braze.config.tier = before
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10)


def line_number():
    return inspect.currentframe().f_back.f_lineno


def test_errors_name_the_line_and_leave_everything_usable(tier):
    for _ in range(3):
        good = braze.inverse(braze.eye(3) * 2.0)
        braze.sync()
        bad = braze.inverse(braze.zeros(3, 3)); line = line_number()  # noqa: E702
        with pytest.raises(braze.linalg.LinAlgError) as caught:
            bad.numpy()
        message = str(caught.value)
        assert message.startswith("[inverse] the matrix is singular")
        assert f"{__file__}:{line}" in message
        with pytest.raises(RuntimeError, match="this tensor has no value"):
            bad.numpy()
        np.testing.assert_allclose(good.numpy(), np.eye(3) / 2)


def test_the_line_is_that_of_this_very_call(tier):
    def at_one_line(x):
        return braze.linalg.cholesky(x)

    def at_another(x):
        return braze.linalg.cholesky(x)

    for function in (at_one_line, at_another, at_one_line):
        y = function(braze.zeros(2, 2) - 1.0)
        with pytest.raises(braze.linalg.LinAlgError, match="not positive definite") as caught:
            y.numpy()
        assert f"{__file__}:{function.__code__.co_firstlineno + 1}" in str(caught.value)


def test_a_batch_element_is_named(tier):
    x = braze.stack([braze.eye(2), braze.ones(2, 2)])
    with pytest.raises(braze.linalg.LinAlgError, match=r"\[solve\] \(batch element 1\)"):
        braze.linalg.solve(x, braze.ones(2, 1)).numpy()


def test_a_failed_step_leaves_parameters_as_they_were(compiled):
    w = nn.Parameter(braze.ones(2, 2))
    other = nn.Parameter(braze.ones(3))
    optimizer = braze.optim.SGD([w, other], lr=0.5)
    x = braze.eye(2)

    def step(matrix):
        optimizer.zero_grad()
        (braze.inverse(matrix) @ w + other.sum()).sum().backward()
        optimizer.step()

    step(x)
    before = w.detach().numpy().copy(), other.detach().numpy().copy()
    for _ in range(2):
        with pytest.raises(braze.linalg.LinAlgError):
            step(x * 0.0)
        np.testing.assert_array_equal(w.detach().numpy(), before[0])
        np.testing.assert_array_equal(other.detach().numpy(), before[1])
    step(x)
    np.testing.assert_allclose(w.detach().numpy(), before[0] - 0.5)


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt()])
def test_any_exception_in_a_call_comes_out(compiled, monkeypatch, error):
    op = op_named("slogdet")

    def fail(x):
        raise error

    x = braze.eye(2) * 3.0
    braze.slogdet(x)[1].numpy()
    monkeypatch.setattr(op, "evaluate", fail)
    with pytest.raises(type(error)) as caught:
        braze.slogdet(braze.eye(2) * 3.0)[1].numpy()
    assert any("in host call 0" in note for note in caught.value.__notes__)
    monkeypatch.undo()
    assert braze.slogdet(braze.eye(2) * 3.0)[1].item() == pytest.approx(np.log(9))


def test_shape_errors_rise_at_the_call(tier):
    with pytest.raises(braze.ir.ShapeError, match=r"\[inverse\] needs square matrices") as caught:
        braze.inverse(braze.ones(2, 3))
    assert f"{__file__}:" in str(caught.value)


SCRIPT = """
import json, warnings, braze
x = braze.tensor([[2.0, 1.0], [0.0, 4.0]], requires_grad=True)
y = braze.linalg.solve(x, braze.ones(2, 1)).sum()
y.backward()
found = [y.item(), x.grad.tolist()]
message = ""
try:
    braze.inverse(braze.zeros(2, 2) * x.detach()).numpy()
except braze.linalg.LinAlgError as error:
    message = str(error)
print(json.dumps([found, message, braze.stats.compiles, braze.stats.disk_hits]))
"""


def test_a_warm_disk_cache_has_them(tmp_path):
    import os

    environment = {**os.environ, "BRAZE_CACHE_DIR": str(tmp_path), "BRAZE_TIER": "compile"}
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert "Warning" not in done.stderr
        runs.append(json.loads(done.stdout))
    (first, message, compiles, _), (second, warm_message, warm_compiles, hits) = runs
    assert first == second
    assert first[0] == pytest.approx(0.375 + 0.25)
    assert compiles > 0 and warm_compiles == 0 and hits == compiles
    assert message == warm_message and message.startswith("[inverse] the matrix is singular")


class Whitening(nn.Module):
    """x times the inverse Cholesky factor of its covariance."""

    def forward(self, x):
        covariance = x.t() @ x * (1.0 / x.shape[0])
        return braze.linalg.solve_triangular(
            braze.linalg.cholesky(covariance), x.t(), upper=False
        ).t()


def test_a_package_calls_numpy_too(tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    path = tmp_path / "whitening.brz"
    braze.aot.compile(Whitening(), braze.from_numpy(x), path)
    y = load(path)(x)
    np.testing.assert_allclose(y.T @ y / 20, np.eye(3), atol=1e-4)
    with pytest.raises(braze.linalg.LinAlgError, match=r"\[cholesky\] .* not positive definite"):
        load(path)(np.zeros_like(x))
    program = (
        "import sys, numpy as np, braze.runtime as r\n"
        f"y = r.load({str(path)!r})(np.eye(20, 3, dtype=np.float32))\n"
        "print(float(y[0, 0]))\n"
        "wrong = ('braze.passes', 'braze.codegen', 'braze.tensors', 'llvmlite')\n"
        "print([m for m in sys.modules if m.startswith(wrong)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    number, loaded = done.stdout.splitlines()
    assert float(number) == pytest.approx(20**0.5) and loaded == "[]"


def test_threads_call_at_the_same_time(compiled):
    import threading

    failures = []

    def work(seed):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                x = np.random.default_rng(seed).standard_normal((3, 3)) + 4 * np.eye(3)
                for _ in range(20):
                    found = braze.inverse(braze.from_numpy(x)).numpy()
                    np.testing.assert_allclose(found @ x, np.eye(3), atol=1e-12)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
