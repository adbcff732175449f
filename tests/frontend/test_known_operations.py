"""Operations that were captured before go through one function: what is special about an operand, a
thread or a mode is seen there all the same."""

import threading

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import capture, nn
from braze.ir.errors import ShapeError
from braze.utils.checkpoint import checkpoint

pytestmark = pytest.mark.usefixtures("interpret")


@pytest.fixture
def captures(monkeypatch):
    """The operations that went the long way."""
    from braze import tensors

    seen = []
    original = capture.capture

    def watched(call, *arguments):
        seen.append(call.op.name)
        return original(call, *arguments)

    monkeypatch.setattr(tensors, "capture", watched)
    return seen


def repeated(step, captures, times=3):
    """What a step gives in the end, and what it captured the long way then."""
    for _ in range(times):
        captures.clear()
        result = step()
        held = [result]
        braze.sync()
        del held
    return result, list(captures)


def leaf(*values):
    return braze.tensor([float(v) for v in values], requires_grad=True)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: x.exp(),
        lambda x, y: x * y,
        lambda x, y: y * x,
        lambda x, y: x * x,
        lambda x, y: F.linear(x, braze.stack([x, y]), y),
        lambda x, y: F.linear(y, braze.stack([y, x]), x),
        lambda x, y: braze.where(x > y, x, y) + x.argmax(),
    ],
)
def test_gradients_flow_as_the_first_time(operation, captures):
    x, y = leaf(1.0, 3.0), leaf(2.0, -1.0)

    def step():
        x.grad = y.grad = None
        operation(x, y).sum().backward()
        return [None if t.grad is None else t.grad.tolist() for t in (x, y)]

    first = step()
    found, long = repeated(step, captures)
    assert found == first and long == []


def test_an_operation_without_gradients_is_known_too(captures):
    x = leaf(1.0, 3.0)
    found, long = repeated(lambda: (x > 2.0, x.argmax(), x.long()), captures)
    assert long == [] and not any(t.requires_grad for t in found)
    assert [t.tolist() for t in found] == [[False, True], 1, [1, 3]]


def test_an_operation_without_results_is_known_too(captures):
    def step(*values):
        probabilities = braze.softmax(leaf(*values), 0)
        return braze.distributions.Categorical(probabilities).probs

    found, long = repeated(lambda: step(0.0, 0.0), captures)
    assert long == [] and found.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="Simplex"):
        step(float("nan"), 0.0).tolist()


def test_what_inference_mode_made_is_not_kept(captures):
    x = leaf(1.0, 2.0)

    def step():
        with braze.inference_mode():
            y = x * 2.0
        return y

    y, _ = repeated(step, captures)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
            y * x
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
            step() * x
        braze.sync()


def test_switching_gradients_off_takes_the_same_step(captures):
    x = leaf(1.0, 2.0)
    repeated(lambda: x * 2.0, captures)
    with braze.no_grad():
        y, long = repeated(lambda: x * 2.0, captures)
    assert not y.requires_grad and y.grad_fn is None and long == []
    y, long = repeated(lambda: x * 2.0, captures)
    assert y.requires_grad and long == []


def test_memory_that_others_see_is_copied_each_time():
    array = np.ones(3, np.float32)
    x = braze.from_numpy(array)
    for value in (1.0, 2.0, 3.0, 4.0):
        array[:] = value
        y = x * 2.0
        array[:] = 0.0
        assert y.tolist() == [2.0 * value] * 3


def test_a_checkpoint_sees_what_is_recorded_in_it():
    x = leaf(1.0, 2.0)
    for _ in range(4):
        x.grad = None
        checkpoint(lambda x: (x * x).exp(), x, use_reentrant=False).sum().backward()
        expected = 2.0 * x.detach().numpy() * np.exp(x.detach().numpy() ** 2)
        assert x.grad.tolist() == pytest.approx(expected.tolist())


def test_the_trace_limit_holds(captures):
    x = braze.ones(3)
    with braze.config.using(trace_limit=5):
        for _ in range(3):
            y = x
            for _ in range(20):
                y = y + 1.0
                assert len(capture.tracer().pending.handles) <= 8
            assert y.tolist() == [21.0] * 3


def test_another_thread_may_run_the_trace_at_any_moment():
    x = braze.ones(3)
    for _ in range(3):
        y = x * 2.0
        found = []
        thread = threading.Thread(target=lambda y=y, found=found: found.append(y.tolist()))
        thread.start()
        thread.join()
        z = y * x
        assert found == [[2.0] * 3] and z.tolist() == [2.0] * 3


def test_inputs_are_taken_as_quickly_beside_a_second_thread(captures):
    thread = threading.Thread(target=lambda: braze.ones(2).sum().item())
    thread.start()
    thread.join()
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    _, long = repeated(lambda: x * y, captures)
    assert long == []


def test_errors_name_the_line_of_this_call():
    x, y = braze.ones(3), braze.ones(4)
    for _ in range(3):
        with pytest.raises(ShapeError, match=r"test_known_operations.py:\d+: x \* y"):
            x * y
        x * x
        braze.sync()


def test_a_module_finds_what_is_registered_under_a_name():
    class Layer(nn.Module):
        def __init__(self):
            with pytest.raises(AttributeError, match="'Layer' object has no attribute 'weight'"):
                self.weight  # noqa: B018
            super().__init__()
            self.weight = nn.Parameter(braze.ones(2))
            self.inner = nn.Linear(2, 2)
            self.register_buffer("mean", None)

    layer = Layer()
    assert layer.weight is layer._parameters["weight"]
    assert layer.inner is layer._modules["inner"] and layer.mean is None
    with pytest.raises(AttributeError, match="'Layer' object has no attribute 'other'"):
        layer.other  # noqa: B018
