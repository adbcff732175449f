"""The backward pass in detail: what is asked for, hooks and their order, modes, anomalies."""

import threading
import warnings

import numpy as np
import pytest

import braze
from braze.capture import tracer


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield
        braze.sync()


def leaf(*values):
    return braze.tensor(np.array(values, dtype=np.float64), requires_grad=True)


# What is asked for --------------------------------------------------------------------------------


def test_backward_into_chosen_tensors():
    x, w = leaf(2.0), leaf(3.0)
    y = x * x
    z = (y * w).sum()
    z.backward(inputs=[x, y], retain_graph=True)
    assert (x.grad.item(), y.grad.item(), w.grad) == (12.0, 3.0, None)
    z.backward(inputs=y)
    assert (x.grad.item(), y.grad.item()) == (12.0, 6.0)
    with pytest.raises(RuntimeError, match="cannot be empty"):
        z.backward(inputs=[])
    with pytest.raises(RuntimeError, match="does not require grad"):
        z.backward(inputs=[braze.ones(1)])


def test_a_pass_for_some_inputs_frees_only_what_it_used():
    x, w = leaf(2.0), leaf(3.0)
    y = x * x
    z = y * w
    assert braze.autograd.grad(z, y)[0].item() == 3.0
    y.backward()
    assert x.grad.item() == 4.0


def test_third_derivatives_by_grad():
    x = leaf(0.7)
    derivative = x.sin()
    for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)):
        (derivative,) = braze.autograd.grad(derivative, x, create_graph=True)
        assert derivative.item() == pytest.approx(expected, rel=1e-12)


def test_grad_of_unused_inputs():
    x, unused = leaf(2.0), leaf(1.0, 2.0)
    (zeros,) = braze.autograd.grad(x * x, unused, materialize_grads=True, retain_graph=True)
    assert zeros.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="allow_unused=False"):
        braze.autograd.grad(x * x, x, allow_unused=False, materialize_grads=True)
    with pytest.raises(RuntimeError, match="got 1 tensors and 2 gradients"):
        braze.autograd.grad([x * x], x, [None, None])


def test_gradients_given_in_another_dtype():
    x = leaf(1.0, 2.0)
    (gradient,) = braze.autograd.grad(x * x, x, braze.tensor([1.0, 10.0]))
    assert gradient.dtype is braze.float64
    assert gradient.tolist() == [2.0, 40.0]


def test_operations_that_keep_nothing_can_be_repeated():
    x = leaf(1.0)
    y = (x + 2.0).sum()
    y.backward()
    y.backward()
    assert x.grad.item() == 2.0


# Nodes --------------------------------------------------------------------------------------------


def test_nodes():
    x = leaf(1.0)
    y = x + 1.0
    z = y.relu()
    assert (z.grad_fn.name(), repr(z.grad_fn)) == ("ReluBackward0", "<ReluBackward0>")
    ((below, index),) = z.grad_fn.next_functions
    assert below is y.grad_fn
    assert index == 0
    assert repr(y.grad_fn) == "<AddBackward0>"
    (end, _), constant = y.grad_fn.next_functions
    assert end.variable is x
    assert end.name() == "AccumulateGrad"
    assert end == y.grad_fn.next_functions[0][0]
    assert constant == (None, 0)
    z.grad_fn.metadata["note"] = 1
    assert z.grad_fn.metadata == {"note": 1}
    assert y.grad_fn.metadata == {}
    assert x.grad_fn is None
    assert x.is_leaf
    assert not y.is_leaf


def test_variables_are_tensors():
    variable = braze.autograd.Variable(braze.ones(2), requires_grad=True)
    assert variable.requires_grad
    assert variable.is_leaf
    assert isinstance(braze.ones(1), braze.autograd.Variable)
    assert not isinstance(1.0, braze.autograd.Variable)
    with pytest.raises(TypeError, match="has to be a tensor"):
        braze.autograd.Variable([1.0])


def test_hooks_of_nodes():
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    seen = []

    def after(grad_inputs, grad_outputs):
        seen.append([[g.item() for g in grads] for grads in (grad_inputs, grad_outputs)])
        return tuple(g * 2.0 for g in grad_inputs)

    z.grad_fn.register_prehook(lambda gradients: (gradients[0] * 10.0,))
    handle = z.grad_fn.register_hook(after)
    z.backward(retain_graph=True)
    assert seen == [[[30.0, 20.0], [10.0]]]
    assert (x.grad.item(), y.grad.item()) == (60.0, 40.0)
    handle.remove()
    z.backward(retain_graph=True)
    assert (x.grad.item(), y.grad.item()) == (90.0, 60.0)
    z.grad_fn.register_hook(lambda grad_inputs, grad_outputs: grad_inputs[:1])
    with pytest.raises(RuntimeError, match="returned 1 gradients, expected 2"):
        z.backward()


# Hooks of tensors ---------------------------------------------------------------------------------


def test_hooks_run_in_order_and_retained_gradients_come_last():
    x = leaf(1.0)
    y = x * 2.0
    y.retain_grad()
    order = []

    def add(number):
        def hook(gradient):
            order.append((number, gradient.item()))
            return gradient + number

        return hook

    handles = [y.register_hook(add(n)) for n in (1.0, 2.0, 3.0)]
    handles[1].remove()
    handles[1].remove()
    y.sum().backward()
    assert order == [(1.0, 1.0), (3.0, 2.0)]
    assert y.retains_grad
    assert not x.retains_grad
    assert y.grad.item() == 5.0
    assert x.grad.item() == 10.0


def test_one_hook_registered_twice_runs_twice():
    x = leaf(1.0)

    def double(gradient):
        return gradient * 2.0

    first = x.register_hook(double)
    with x.register_hook(double):
        (x * 1.0).sum().backward()
    assert x.grad.item() == 4.0
    (x * 1.0).sum().backward()
    assert x.grad.item() == 6.0
    first.remove()
    (x * 1.0).sum().backward()
    assert x.grad.item() == 7.0


def test_hooks_see_the_value_they_were_registered_on():
    x = leaf(1.0)
    y = x * 1.0
    seen = []
    y.register_hook(lambda gradient: seen.append(("before", gradient.item())))
    y.retain_grad()
    y.mul_(3.0)
    y.register_hook(lambda gradient: seen.append(("after", gradient.item())))
    (y * 5.0).sum().backward()
    assert seen == [("after", 5.0), ("before", 15.0)]
    assert y.grad.item() == 5.0
    assert x.grad.item() == 15.0


def test_hooks_with_create_graph_can_be_differentiated():
    x = leaf(2.0)
    y = x * 1.0
    y.register_hook(lambda gradient: gradient * x)
    (first,) = braze.autograd.grad((y * y).sum(), x, create_graph=True)
    assert first.item() == 8.0
    # The second pass comes by the hook again.
    assert braze.autograd.grad(first.sum(), x)[0].item() == 12.0


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda g: 3, TypeError, "expected Variable, but hook returned 'int'"),
        (lambda g: braze.ones(3, dtype=braze.float64), RuntimeError, "changed the size of value"),
        (lambda g: g.float(), RuntimeError, "changed the type of value"),
    ],
)
@pytest.mark.parametrize("of_leaf", [False, True])
def test_hooks_must_return_a_gradient(answer, error, message, of_leaf):
    x = leaf(1.0, 2.0)
    y = x * 2.0
    (x if of_leaf else y).register_hook(answer)
    with pytest.raises(error, match=message):
        y.sum().backward()


def test_hooks_after_accumulation():
    x = leaf(1.0, 2.0)
    totals = []
    handle = x.register_post_accumulate_grad_hook(lambda leaf: totals.append(leaf.grad.tolist()))
    (x * 2.0).sum().backward()
    (x * 3.0).sum().backward()
    braze.autograd.grad((x * 3.0).sum(), x)
    assert totals == [[2.0, 2.0], [5.0, 5.0]]
    handle.remove()
    (x * 3.0).sum().backward()
    assert len(totals) == 2
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2.0).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        braze.ones(1).register_post_accumulate_grad_hook(print)


def test_an_optimizer_in_the_backward_pass():
    x = braze.nn.Parameter(braze.ones(2))
    optimizer = braze.optim.SGD([x], lr=0.5)

    def step(parameter):
        optimizer.step()
        optimizer.zero_grad()

    x.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        (x * 1.0).sum().backward()
    assert x.tolist() == [-0.5, -0.5]
    assert x.grad is None


def test_the_old_backward_hook_of_modules():
    layer = braze.nn.Linear(2, 1, bias=False)
    seen = []
    handle = layer.register_backward_hook(lambda module, gi, go: seen.append(go[0].tolist()))
    layer(braze.ones(1, 2, requires_grad=True)).sum().backward()
    handle.remove()
    layer(braze.ones(1, 2, requires_grad=True)).sum().backward()
    assert seen == [[[1.0]]]


# Modes --------------------------------------------------------------------------------------------


def test_modes_decorate_functions():
    @braze.no_grad
    def plain():
        return braze.is_grad_enabled()

    @braze.inference_mode
    def inference():
        with braze.enable_grad():
            return braze.is_grad_enabled(), braze.is_inference_mode_enabled()

    @braze.set_grad_enabled(False)
    def disabled():
        """Text."""
        return braze.is_grad_enabled()

    assert plain() is False
    assert inference() == (False, True)
    assert braze.is_grad_enabled()  # the decorator was undone
    assert disabled() is False
    assert (disabled.__name__, disabled.__doc__) == ("disabled", "Text.")
    assert braze.is_grad_enabled()
    assert not braze.is_inference_mode_enabled()
    braze.set_grad_enabled(False)
    assert not braze.is_grad_enabled()
    with braze.set_grad_enabled(True):
        assert braze.is_grad_enabled()
    assert not braze.is_grad_enabled()
    braze.set_grad_enabled(True)


def test_modes_decorate_generators():
    seen = []

    @braze.no_grad()
    def produce():
        try:
            seen.append(braze.is_grad_enabled())
            got = yield 1
            seen.append((got, braze.is_grad_enabled()))
            try:
                yield 2
            except KeyError:
                seen.append(("caught", braze.is_grad_enabled()))
            yield 3
            return "end"
        finally:
            seen.append(("closed", braze.is_grad_enabled()))

    generator = produce()
    assert next(generator) == 1
    assert braze.is_grad_enabled()
    assert generator.send("sent") == 2
    assert generator.throw(KeyError()) == 3
    assert braze.is_grad_enabled()
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert stopped.value.value == "end"
    assert seen == [False, ("sent", False), ("caught", False), ("closed", False)]
    other = produce()
    next(other)
    other.close()
    assert seen[-1] == ("closed", False)
    assert braze.is_grad_enabled()


def test_modes_belong_to_the_thread():
    found = []
    with braze.no_grad(), braze.inference_mode():
        thread = threading.Thread(
            target=lambda: found.append(
                (braze.is_grad_enabled(), braze.is_inference_mode_enabled())
            )
        )
        thread.start()
        thread.join()
        assert not braze.is_grad_enabled()
    assert found == [(True, False)]


def test_an_exception_restores_the_mode():
    with pytest.raises(KeyError), braze.inference_mode():
        raise KeyError
    assert braze.is_grad_enabled()
    assert (leaf(1.0) * 2.0).requires_grad


# Anomalies ----------------------------------------------------------------------------------------


def test_anomaly_names_the_forward_line():
    x = leaf(0.0, 1.0)
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        mode = braze.autograd.detect_anomaly()
    with mode:
        assert braze.is_anomaly_enabled()
        y = x.sqrt()  # the culprit
        loss = (y * 0.0).sum()
        assert loss.item() == 0.0
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
    assert not braze.is_anomaly_enabled()
    text = str(caught.value)
    assert "Function 'SqrtBackward0' returned nan values in its 0th output." in text
    assert "test_autograd_engine.py:" in text
    assert "y = x.sqrt()  # the culprit" in text


def test_anomaly_says_what_the_operation_was_given():
    x, y = leaf(0.0, 2.0, 3.0), leaf(0.0, 4.0, float("inf"))
    with braze.autograd.set_detect_anomaly(True):
        loss = (x / y).nansum()  # the quotient
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
    first, place, *facts = str(caught.value).splitlines()
    assert first == "Function 'DivBackward0' returned nan values in its 0th output."
    assert place.endswith("loss = (x / y).nansum()  # the quotient (of the forward pass)")
    facts = [fact.strip() for fact in facts]
    gradient, operation, numerator, divisor, arrived, *forward = facts
    assert gradient.startswith("gradient of operand x: f64[3], ") and "1 nan" in gradient
    assert operation == "operation div(x: f64[3], y: f64[3])"
    assert numerator == (
        "operand x: f64[3], min 0, max 3, mean 1.66667, 1 zero; at [0] it is 0.0"
    )
    assert divisor == (
        "operand y: f64[3], min 0, max 4, mean 2, 1 zero, 1 inf; at [0] it is 0.0"
    )
    assert arrived.startswith("gradient that arrived at out: f64[3], ")
    assert arrived.endswith("at [0] it is 0.0")
    first = "the first NaN of the forward pass is a result of div(x: f64[3], y: f64[3])"
    assert forward[0] == first and forward[2:4] == [numerator, divisor]


@pytest.mark.parametrize("forward", [True, False])
def test_anomaly_knows_all_operands_of_what_ran_while_it_was_on(forward):
    def loss_of(x):
        return ((x * 1.0).sqrt() * 0.0).sum()  # the gradient of a root is computed from the root

    for _ in range(2):  # then the operations are known already
        x = leaf(4.0, 0.0)
        with braze.autograd.set_detect_anomaly(forward):
            loss = loss_of(x)
        with braze.autograd.set_detect_anomaly(True):
            with pytest.raises(RuntimeError) as caught:
                loss.backward()
    assert not braze.is_anomaly_enabled() and tracer().watch is None
    text = str(caught.value)
    if forward:
        assert "operand x: f64[2], min 0, max 4, mean 2, 1 zero; at [1] it is 0.0" in text
    else:
        assert "operand x: not known, as it was not kept when the operation ran" in text
    assert "result out: f64[2], min 0, max 2, mean 1, 1 zero; at [1] it is 0.0" in text


def test_anomaly_names_the_layer():
    class Root(braze.nn.Module):
        def forward(self, x):
            return x.sqrt()

    net = braze.nn.Sequential(braze.nn.Identity(), Root())
    with braze.autograd.set_detect_anomaly(True):
        loss = (net(leaf(0.0)) * 0.0).sum()
        with pytest.raises(RuntimeError, match=r"in Sequential\.1 \(Root"):
            loss.backward()


def test_anomaly_in_custom_functions_and_second_derivatives():
    class Bad(braze.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            return grad * float("nan")

    x = leaf(1.0)
    y = Bad.apply(x).sum()
    y.backward()
    assert np.isnan(x.grad.item())
    with braze.autograd.set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match="Function 'BadBackward' returned nan") as caught:
            Bad.apply(x).sum().backward()
        assert "gradient that arrived at result 0: f64[1], min 1, max 1" in str(caught.value)
        zero = leaf(0.0)
        (first,) = braze.autograd.grad((zero**1.5).sum(), zero, create_graph=True)
        with pytest.raises(RuntimeError, match="returned nan"):
            braze.autograd.grad((first * 0.0).sum(), zero)


def test_anomaly_can_be_told_not_to_look():
    braze.autograd.set_detect_anomaly(True, check_nan=False)
    try:
        assert braze.is_anomaly_enabled()
        assert not braze.is_anomaly_check_nan_enabled()
        x = leaf(0.0)
        (x.sqrt() * 0.0).sum().backward()
        assert np.isnan(x.grad.item())
    finally:
        braze.autograd.set_detect_anomaly(False)
    assert braze.is_anomaly_check_nan_enabled()


def test_anomaly_leaves_a_sound_pass_alone():
    x = leaf(1.0, 4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with braze.autograd.detect_anomaly():
            x.sqrt().sum().backward()
    assert x.grad.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("create_graph", [False, True])
def test_tensors_that_are_given_the_same_gradient_do_not_share_it(create_graph):
    """The gradient of a sum is the same for both terms, and the caller's own tensor."""
    x, y = (braze.ones(3, requires_grad=True) for _ in range(2))
    given = braze.tensor([1.0, 2.0, 3.0])
    total = x + y
    total.backward(given, create_graph=create_graph, retain_graph=True)
    total.backward(given)
    for leaf in (x, y):
        assert leaf.grad.tolist() == [2, 4, 6]
    x.grad.zero_()
    assert y.grad.tolist() == [2, 4, 6] and given.tolist() == [1, 2, 3]


def anomaly_of(loss_of, *leaves):
    """The message of a backward pass that meets a NaN."""
    with braze.autograd.set_detect_anomaly(True):
        loss = loss_of(*leaves)
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
    return [line.strip() for line in str(caught.value).splitlines()]


def test_an_output_that_is_nan_is_an_anomaly_whose_operation_is_named():
    def loss_of(w):
        y = braze.log(w - 2.0)  # of a negative number
        return (y * 2.0).sum()

    first, *facts = anomaly_of(loss_of, leaf(1.0, 5.0))
    assert first == "The output that backward was called on is nan, though its gradients are not."
    assert facts[0] == "the first NaN of the forward pass is a result of log(x: f64[2])"
    assert facts[1].endswith(
        "y = braze.log(w - 2.0)  # of a negative number (of the forward pass)"
    )
    assert facts[2] == "operand x: f64[2], min -1, max 3, mean 1; at [0] it is -1.0"
    assert facts[3].startswith("out: f64[2], min 1.09861, max 1.09861, mean 1.09861, 1 nan; at [0]")


def test_a_nan_gradient_names_the_first_nan_of_the_forward_pass():
    def loss_of(w):
        root = (w * 1.0).sqrt()  # of a negative number
        return (root * root).exp().sum()

    first, *facts = anomaly_of(loss_of, leaf(-1.0, 4.0))
    assert first.startswith("Function '") and "returned nan values" in first
    at = facts.index("the first NaN of the forward pass is a result of sqrt(x: f64[2])")
    assert "root = (w * 1.0).sqrt()  # of a negative number" in facts[at + 1]
    assert facts[at + 2].startswith("operand x: f64[2], min -1, max 4")


def test_a_nan_that_came_in_is_told_apart():
    facts = anomaly_of(lambda w: (w + 1.0).sum(), leaf(float("nan"), 4.0))
    assert facts[1].startswith("the first NaN of the forward pass came in as operand x of add(")
    facts = anomaly_of(
        lambda w: (w * braze.tensor([1.0, float("nan")], dtype=braze.float64)).sum(), leaf(1.0, 2.0)
    )
    text = "\n".join(facts)
    assert "the first NaN of the forward pass came in as operand y of mul(" in text


def test_nothing_is_claimed_of_operations_that_kept_nothing():
    loss = (leaf(-1.0, 2.0).log() * 2.0).sum()
    with braze.autograd.set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match="The output that backward was called on is nan"):
            loss.backward()
    with braze.autograd.set_detect_anomaly(True, check_nan=False):
        (leaf(-1.0, 2.0).log() * 2.0).sum().backward()
