"""`braze.config.check` over whole training steps: no kernel is said to differ; and what the user is
told when one does."""

import os
import subprocess
import sys

import numpy as np
import pytest
from faults import other_text, wrong_code
from models import resnet18

import braze
from braze import nn
from braze.nn import functional as F
from braze.runtime.cache import clear_memory
from braze.runtime.checking import CheckedExecutable, KernelDifference


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    braze.sync()
    clear_memory()
    runs = []
    right = CheckedExecutable.run
    monkeypatch.setattr(
        CheckedExecutable, "run", lambda self, *rest: (runs.append(self), right(self, *rest))[1]
    )
    with braze.config.using(check=True, cache_dir=""):
        yield runs
        braze.sync()
    clear_memory()


class GPT(nn.Module):
    """Two blocks of causal attention and a feed-forward layer."""

    def __init__(self, words=32, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(braze.randn(16, width) * 0.1)
        self.blocks = nn.ModuleList()
        for _ in range(2):
            parts = {"qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width)}
            parts |= {"one": nn.LayerNorm(width), "two": nn.LayerNorm(width)}
            parts["up"], parts["down"] = nn.Linear(width, 64), nn.Linear(64, width)
            self.blocks.append(nn.ModuleDict(parts))
        self.head = nn.Linear(width, words)

    def forward(self, index):
        x = self.embed(index) + self.place[: index.shape[1]]
        for block in self.blocks:
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in block["qkv"](block["one"](x)).chunk(3, -1)
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1)
            x = x + block["out"](mixed.transpose(1, 2).flatten(2))
            x = x + F.dropout(block["down"](F.gelu(block["up"](block["two"](x)))), 0.1)
        return self.head(x)


def resnet():
    model = resnet18(nn, 10, 8)
    return model, lambda: F.cross_entropy(model(braze.randn(4, 3, 32, 32)), braze.arange(4))


def lstm():
    model = nn.ModuleList([nn.LSTM(8, 12, 2, batch_first=True, dropout=0.2), nn.Linear(12, 5)])

    def loss():
        states, _ = model[0](braze.randn(3, 7, 8))
        return F.cross_entropy(model[1](states[:, -1]), braze.arange(3))

    return model, loss


def gpt():
    model = GPT()

    def loss():
        words = braze.randint(32, (3, 13))
        return F.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())

    return model, loss


def narrow():
    """In bfloat16, as `autocast` has it."""
    model, loss = gpt()

    def narrow_loss():
        with braze.autocast("cpu", dtype=braze.bfloat16):
            return loss()

    return model, narrow_loss


@pytest.mark.parametrize("make", [resnet, lstm, gpt, narrow])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_training_passes(make, optimizer, checked):
    braze.manual_seed(0)
    model, loss_of = make()
    settings = {"momentum": 0.9} if optimizer == "SGD" else {"weight_decay": 0.01}
    optim = getattr(braze.optim, optimizer)(model.parameters(), lr=0.01, **settings)
    losses = []
    for _ in range(3):
        optim.zero_grad()
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert len(checked) >= 3
    assert sum(len(run.cases) for run in checked) > 60


def test_other_sizes_and_views_and_in_place_writes_pass(checked):
    for size in (5, 6, 7, 8, 9):
        x = braze.arange(3.0 * size).reshape(3, size)
        x[1:, ::2] *= 2.0
        x.t()[1].add_(1.0)
        y = x.sort(dim=1, descending=True).values.cumsum(1)
        assert y.isfinite().all()
        assert x.softmax(1).topk(2, dim=1).indices.shape == (3, 2)
    assert checked


def test_the_error_names_the_line_of_this_call(monkeypatch):
    x = braze.randn(3, 5)
    braze.sync()
    wrong_code(monkeypatch, other_text("maximum(", "minimum("))
    with pytest.raises(KernelDifference) as caught:
        for _ in range(2):
            y = (x * 2.0).relu()  # here
            y.tolist()
    text = str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert text.splitlines()[-1].endswith("y = (x * 2.0).relu()  # here")
    assert "it computes: mul, maximum (test_checked_training.py:" in text


def test_after_the_error_tensors_have_the_interpreters_values(monkeypatch):
    x = braze.arange(6.0) - 2.0
    braze.sync()
    wrong_code(monkeypatch, other_text("maximum(", "minimum("))
    x.mul_(2.0)
    y = x.relu()
    with pytest.raises(KernelDifference):
        y.tolist()
    assert x.tolist() == [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0]
    assert y.tolist() == [0.0, 0.0, 0.0, 2.0, 4.0, 6.0]


def test_the_variable_switches_it_on(tmp_path):
    program = "import braze; print(braze.config.check)"
    for value, shown in (("1", "True"), ("0", "False")):
        environment = {**os.environ, "BRAZE_CHECK": value}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == shown, done.stderr
