"""`braze.compile`, `braze.inspect`, `braze.explain` and the dump directory."""

import os
import subprocess
import sys

import numpy as np
import pytest

import braze
from braze import nn


def model():
    braze.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_compiled_modules_follow_their_parameters():
    net = model().eval()
    fast = braze.compile(net)
    x = braze.randn(4, 6)
    with braze.no_grad():
        np.testing.assert_allclose(fast(x).numpy(), net(x).numpy(), rtol=1e-5, atol=1e-6)
        net[0].weight.mul_(2.0)
        np.testing.assert_allclose(fast(x).numpy(), net(x).numpy(), rtol=1e-5, atol=1e-6)
        captured = braze.stats.captured_ops
        fast(x)
        braze.sync()
        assert braze.stats.captured_ops == captured  # no Python ran
    assert fast.training is False
    assert fast.state_dict().keys() == net.state_dict().keys()


def test_compiled_modules_see_shapes_modes_and_arguments():
    class Scale(nn.Module):
        def forward(self, x, factor=1.0, *, flip=False):
            y = x * factor
            return (y.flip(0), y) if flip else y

    fast = braze.compile(Scale())
    x = braze.arange(4).float()
    with braze.no_grad():
        assert fast(x).tolist() == [0, 1, 2, 3]
        assert fast(x, 2.0).tolist() == [0, 2, 4, 6]
        assert fast(x[:2], 3.0).tolist() == [0, 3]
        assert [t.tolist() for t in fast(x, flip=True)] == [[3, 2, 1, 0], [0, 1, 2, 3]]


def test_dropout_in_training_mode_still_varies():
    net = model().train()
    fast = braze.compile(net)
    x = braze.ones(64, 6)
    with braze.no_grad():
        assert not np.array_equal(fast(x).numpy(), fast(x).numpy())


def test_compiled_modules_train():
    net = model().eval()
    fast = braze.compile(net)
    optimizer = braze.optim.SGD(net.parameters(), lr=0.1)
    x, y = braze.randn(8, 6), braze.randn(8, 3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = ((fast(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_module_that_trains_is_walked_once():
    """Until one has changed: then its parameters may be others."""
    walks = []

    class Net(nn.Linear):
        def parameters(self, recurse=True):
            walks.append(recurse)
            return super().parameters(recurse)

    model, x = Net(3, 2), braze.ones(1, 3)
    compiled = braze.compile(model)
    for _ in range(4):
        assert compiled(x).requires_grad
    assert len(walks) == 1
    model.bias = None
    assert compiled(x).requires_grad and len(walks) == 2
    model.weight.requires_grad_(False)
    assert not compiled(x).requires_grad
    model.bias = nn.Parameter(braze.zeros(2))
    assert compiled(x).requires_grad


def test_compiled_functions():
    @braze.compile
    def f(x):
        return x.exp().sum()

    assert f(braze.zeros(5)).item() == 5.0
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        braze.compile(f, speed=9)
    with pytest.raises(TypeError, match="needs a module or a function"):
        braze.compile(3)


def test_inspect_shows_every_stage_of_a_training_step():
    net = model().eval()
    x, y = braze.randn(4, 6), braze.tensor([0, 1, 2, 0])

    def step(x, y):
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        gradients = [p.grad for p in net.parameters()]
        for p in net.parameters():
            p.grad = None
        return loss, gradients

    stages = braze.inspect(step, x, y)
    names = stages.names()
    assert names[0] == "captured"
    for stage in ("decompose", "fuse", "schedule", "loops"):
        assert stage in names
    assert "cross_entropy" in stages["captured"]
    assert "test_compile_and_inspect.py" in stages["captured"]
    assert 'kind="contract"' in stages["fuse"]
    text = str(stages)
    assert "define void @" in text
    assert ".text" in text
    with pytest.raises(KeyError, match="the stages are captured"):
        stages["nonsense"]


def test_explain_names_the_line_and_the_difference():
    before = braze.config.tier
    braze.config.tier = "compile"
    try:

        def f(x):
            return (x * 3.25).tanh().sum()

        f(braze.ones(7, 11)).item()
        f(braze.ones(7, 13)).item()
    finally:
        braze.config.tier = before
    text = str(braze.explain())
    assert "test_compile_and_inspect.py" in text
    assert "11" in text and "13" in text
    assert "arena" in text and "kernels" in text


def test_dump_directory(tmp_path):
    code = "import braze; braze.config.tier = 'compile'; print((braze.ones(40) * 2.5).sum().item())"
    environment = {**os.environ, "BRAZE_DUMP": str(tmp_path), "BRAZE_CACHE_DIR": ""}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert output == "100.0\n"
    (folder,) = tmp_path.iterdir()
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "00-captured.ir"
    assert {path.suffix for path in folder.iterdir()} >= {".ir", ".loops", ".ll", ".s"}
