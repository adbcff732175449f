"""What programs cost besides their arithmetic: counted in calls of Python functions and in captured
operations, not in seconds."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import engine, nn

pytestmark = pytest.mark.usefixtures("interpret")


def parameters(*shapes):
    random = np.random.default_rng(0)
    made = [braze.tensor(random.standard_normal(s).astype(np.float32)) for s in shapes]
    return [tensor.requires_grad_() for tensor in made]


def calls_in(step, warm=4):
    """How many Python functions a call of `step` calls in steady state."""
    for _ in range(warm):
        step()
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(before)
    return count


OPERATIONS = {
    "mul": (lambda x, y: x * y, 6),
    "add": (lambda x, y: x + y, 7),
    "number": (lambda x, y: x * 2.0, 11),
    "number added": (lambda x, y: x + 2, 12),
    "number first": (lambda x, y: 1.0 - x, 18),
    "divide": (lambda x, y: x / y, 6),
    "relu": (lambda x, y: F.relu(x), 6),
    "matmul": (lambda x, y: x @ y, 7),
    "item of a dimension": (lambda x, y: x[1], 10),
    "transpose": (lambda x, y: x.t(), 10),
    "sum": (lambda x, y: x.sum(), 8),
    "softmax": (lambda x, y: F.softmax(x, 1), 8),
    "mse_loss": (lambda x, y: F.mse_loss(x, y), 6),
    "cross_entropy": (lambda x, y: F.cross_entropy(x, braze.tensor([0, 1, 2, 3])), 30),
}


def capture_cost(operation):
    """How many Python functions capturing an operation calls, its operands being in the trace.

    The least of some tries: collected garbage and a table of traces that is full have calls too.
    """

    def once():
        for _ in range(4):
            held = operation(), operation()
            braze.sync()
        held = operation()
        count = calls_in(operation, warm=0)
        del held
        braze.sync()
        return count

    gc.collect()
    gc.disable()  # what earlier tests left may have finalizers
    try:
        return min(once() for _ in range(8))
    finally:
        gc.enable()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_captured_operation_costs_few_calls(name):
    operation, most = OPERATIONS[name]
    x, y = parameters((4, 4), (4, 4))
    assert capture_cost(lambda: operation(x, y)) <= most


def test_a_reshape_of_a_view_costs_few_calls():
    x, y = parameters((4, 4))[0].detach(), braze.zeros(2, 4)
    part = x[:2]
    assert capture_cost(lambda: part.reshape(8)) <= capture_cost(lambda: y.reshape(8)) + 10


def test_what_an_operand_needed_once_is_not_paid_again():
    """A view of what has changed is cut again where it is used: by the first call here alone."""
    base = braze.zeros(5, 9)
    part = base[:, :7]
    base.add_(1)
    F.softmax(part, 1)
    x = braze.zeros(5, 7)
    assert capture_cost(lambda: F.softmax(x, 1)) <= OPERATIONS["softmax"][1]


def test_layers_cost_few_calls():
    linear, convolution = nn.Linear(4, 4), nn.Conv2d(3, 4, 3)
    x, image = braze.ones(2, 4), braze.ones(1, 3, 8, 8)
    assert capture_cost(lambda: linear(x)) <= 9
    assert capture_cost(lambda: convolution(image)) <= 10


def test_going_through_parameters_costs_few_calls():
    parameters = nn.ParameterList([nn.Parameter(braze.ones(2)) for _ in range(10)])
    assert calls_in(lambda: list(parameters)) <= 2 * 10 + 5


def test_a_choice_costs_few_calls():
    probabilities = parameters((3,))[0].softmax(0)

    def choose():
        choice = braze.distributions.Categorical(probabilities)
        return choice.log_prob(choice.sample())

    assert capture_cost(choose) <= 60


def captured_by(step):
    braze.sync()
    before = braze.stats.captured_ops
    held = step()
    braze.sync()
    del held
    return braze.stats.captured_ops - before


def test_indices_and_ranges_take_few_operations():
    table, index = braze.ones(4, 2), braze.tensor([0, -1])
    assert captured_by(lambda: table[index]) == 2  # the index, checked and counted from the start
    assert captured_by(lambda: braze.arange(4)) == 1
    assert captured_by(lambda: braze.arange(1, 9, 2)) == 3
    assert captured_by(lambda: F.one_hot(index + 1, 3)) == 1 + 6


def test_gradients_of_single_elements_take_few_operations():
    linear, x, target = nn.Linear(4, 1), braze.ones(4), braze.ones(1)
    assert captured_by(lambda: linear(x).backward()) == 1 + 2  # no sum for the bias
    y = braze.zeros(1, requires_grad=True)
    assert captured_by(lambda: F.smooth_l1_loss(y, target).backward()) == 1 + 6


def test_a_stack_is_one_operation_and_its_gradient_one_for_each():
    parts = parameters(*[()] * 8)
    assert captured_by(lambda: braze.stack(parts).sum().backward()) == 2 + 3 + 8


def test_a_cached_step_costs_few_calls():
    with braze.config.using(tier="compile"):
        model = nn.Sequential(
            nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)
        )
        optimizer = braze.optim.Adam(model.parameters())
        x, target = braze.ones(1, 8), braze.tensor([3])

        def step():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            optimizer.step()
            return loss.item()

        assert calls_in(step) <= 380


def test_a_sync_costs_few_calls_and_few_for_an_input():
    with braze.config.using(tier="compile"):
        x = [braze.ones(8) for _ in range(20)]
        braze.sync()

        def added(count):
            def step():
                total = x[0] * x[0]
                for i in range(1, count):
                    total = total * x[i]
                total.data_ptr()

            return calls_in(step)

        assert added(1) <= 30
        assert (added(20) - added(1)) / 19 <= 5


def test_a_compiled_call_costs_few_calls_however_many_parameters():
    x = braze.ones(1, 4)

    def calls(depth):
        compiled = braze.compile(nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)]))
        with braze.no_grad():
            return calls_in(lambda: compiled(x).data_ptr())

    assert calls(50) <= 40
    assert calls(50) - calls(2) <= 2


def test_a_compiled_call_looks_up_the_addresses_of_what_has_moved_only(monkeypatch):
    made = []

    class Counted(engine.Resident):
        def __init__(self, storages):
            made.append(len(storages))
            super().__init__(storages)

    monkeypatch.setattr(engine, "Resident", Counted)
    model = nn.Linear(2, 2)
    compiled = braze.compile(model)
    with braze.no_grad():
        for _ in range(3):
            compiled(braze.ones(2))
        assert made == [2]
        model.weight.data = braze.zeros(2, 2)
        assert compiled(braze.ones(2)).tolist() == model.bias.tolist()
        assert made == [2, 2]


def test_a_first_tensor_needs_no_layers():
    script = "import sys, braze; braze.ones(1); print('braze.nn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_functions_of_layers_are_those_that_load_later():
    from braze import api
    from braze.functions import layers

    assert layers.FUNCTIONS.keys() == api._OF_LAYERS
    assert not api._FUNCTIONS.keys() & api._OF_LAYERS
