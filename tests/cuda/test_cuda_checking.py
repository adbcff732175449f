"""`config.check` on CUDA devices: sound programs pass, and a fault is put down to its kernel."""

import dataclasses

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import numpy as np
import pytest

import braze
from braze import nn
from braze.codegen.cuda import generate
from braze.ir.loops_parser import parse_kernel
from braze.nn import functional as F
from braze.runtime.cuda import checking
from braze.runtime.cuda.entries import clear_executables


@pytest.fixture(autouse=True)
def checked():
    before = braze.config.check
    clear_executables()
    braze.config.check = True
    yield
    braze.config.check = before


@pytest.fixture
def looked(monkeypatch):
    """The kernels that were compared."""
    found = []
    right = checking.wrong_result

    def check(case, memory, *, failed):
        wrong = right(case, memory, failed=failed)
        if wrong is None:
            found.append(case.name)
        return wrong

    monkeypatch.setattr(checking, "wrong_result", check)
    return found


def wrong_code(monkeypatch, old, new):
    """Generate CUDA C for other loops than those that are there."""
    for kind, right in list(generate.EMITTERS.items()):

        def emit(kernel, unit, right=right):
            text = str(kernel)
            other = new.join(text.rsplit(old, 1))  # comments stand first
            right(kernel if other == text else parse_kernel(other), unit)

        monkeypatch.setitem(generate.EMITTERS, kind, emit)


def test_a_training_step_passes(looked):
    braze.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    ).to("cuda")
    optimizer = braze.optim.Adam(model.parameters(), lr=0.1)
    x, y = braze.randn(3, 2, 4, 4, device="cuda"), braze.tensor([0, 1, 4]).cuda()
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.dropout(model(x), 0.1), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and len(looked) > 10


def test_a_wrong_kernel_is_named(monkeypatch, looked, tmp_path):
    wrong_code(monkeypatch, "exp(", "sin(")
    x = braze.tensor([[0.5, 1.0], [2.0, 3.0]], device="cuda")
    total = (x * 2.0).sum(0)
    y = braze.exp(total)  # the line
    with pytest.raises(braze.KernelDifference) as caught:
        y.tolist()
    error, text = caught.value, str(caught.value)
    assert "on cuda:0 differs from the interpreter in 2 of 2 elements" in text
    assert "code generation is at fault" in text and "reproducer: `error.repro(path)`" in text
    assert "test_cuda_checking.py:" in text and "y = braze.exp(total)  # the line" in text
    assert error.device == "cuda:0" and error.difference.count == 2
    error.repro(tmp_path / "kernel.py")
    program = (tmp_path / "kernel.py").read_text()
    assert "DEVICE = 'cuda:0'" in program and "= exp(" in program.partition("LOOPS = ")[0]
    # As on the CPU, the interpreter's values are there.
    np.testing.assert_allclose(y.tolist(), np.exp([5.0, 8.0]), rtol=1e-6)


def test_what_a_wrong_kernel_overwrites_is_computed_by_the_interpreter(monkeypatch):
    wrong_code(monkeypatch, "exp(", "sin(")
    x = braze.tensor([0.0, 1.0], device="cuda")
    assert x.tolist() == [0.0, 1.0]
    x.exp_()
    with pytest.raises(braze.KernelDifference):
        x.tolist()
    np.testing.assert_allclose(x.tolist(), np.exp([0.0, 1.0]), rtol=1e-6)


def test_elements_that_are_left_out_are_found(monkeypatch):
    """Also where the memory was used before and may hold the right values."""
    emitted = generate._Generator._kernel

    def short(self, kernel):
        return [
            dataclasses.replace(step, grid=(1, 1, 1)) if hasattr(step, "grid") else step
            for step in emitted(self, kernel)
        ]

    x = braze.ones(100_000, device="cuda")
    assert x.sum().item() == 100_000
    monkeypatch.setattr(generate._Generator, "_kernel", short)
    y = x + 1.0
    with pytest.raises(braze.KernelDifference, match="differs from the interpreter"):
        y.tolist()


def test_an_index_out_of_range_is_what_it_is_without_checks():
    x, index = braze.ones(4, device="cuda"), braze.tensor([0, 7]).cuda()
    with pytest.raises(IndexError, match="7 is out of range"):
        x[index].exp().tolist()


def test_what_runs_on_both_sides_is_checked_on_both(monkeypatch, looked):
    x = braze.ones(3) * 2.0
    assert (x.cuda() + 1.0).cpu().mul(2.0).tolist() == [6.0, 6.0, 6.0]
    assert looked
    with braze.autograd.profiler.profile() as report:
        looked.clear()
        assert (braze.ones(3, device="cuda") + 4.0).tolist() == [5.0, 5.0, 5.0]
    assert looked and report is not None
