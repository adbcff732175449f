"""Custom functions: what they save, what they return, double backward, and their errors."""

import numpy as np
import pytest

import braze
from braze.autograd import Function
from braze.autograd.function import once_differentiable


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield
        braze.sync()


def leaf(*values):
    return braze.tensor(np.array(values, dtype=np.float64), requires_grad=True)


def make(forward, backward, setup=None):
    """A function class from its methods."""
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    if setup is not None:
        methods["setup_context"] = staticmethod(setup)
    return type("Made", (Function,), methods)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3.0 * x * x


class Exp(Function):
    """Saves its result."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


def test_gradients_of_any_order():
    x = leaf(2.0, -1.0)
    (first,) = braze.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    assert first.tolist() == [12.0, 3.0]
    (second,) = braze.autograd.grad(first.sum(), x, create_graph=True)
    assert second.tolist() == [12.0, -6.0]
    (third,) = braze.autograd.grad(second.sum(), x)
    assert third.tolist() == [6.0, 6.0]


def test_a_saved_result_has_its_history():
    x = leaf(0.5)
    for _ in range(2):
        y = Exp.apply(x * 2.0)
        (first,) = braze.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = braze.autograd.grad(first.sum(), x)
        assert first.item() == pytest.approx(2 * np.e)
        assert second.item() == pytest.approx(4 * np.e)


def test_other_arguments_and_attributes():
    def forward(ctx, x, factor, label=None):
        assert not braze.is_grad_enabled()
        ctx.factor = factor
        return x * factor

    def backward(ctx, grad):
        assert ctx.needs_input_grad == (True, False, False)
        return grad * ctx.factor, None, None

    x = leaf(1.0, 2.0)
    y = make(forward, backward).apply(x, 5.0, "five")
    assert y.requires_grad
    assert y.grad_fn.name() == "MadeBackward"
    assert repr(y.grad_fn) == "<MadeBackward>"
    assert y.grad_fn.factor == 5.0
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_numpy_inside():
    def forward(ctx, x):
        array = x.detach().numpy()
        ctx.save_for_backward(braze.from_numpy(np.cos(array)))
        return braze.from_numpy(np.sin(array))

    def backward(ctx, grad):
        (slope,) = ctx.saved_tensors
        return braze.from_numpy(grad.numpy() * slope.numpy())

    x = leaf(0.3, 1.2)
    (make(forward, once_differentiable(backward)).apply(x * 2.0) * 3.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * np.cos([0.6, 2.4]), rtol=1e-12)


def test_several_results_and_unused_ones():
    seen = []

    def forward(ctx, x, y):
        return x + y, x * 2.0, "text"

    def backward(ctx, first, second, third):
        seen.append((first.tolist(), None if second is None else second.tolist(), third))
        return first, first * 0.0 if second is None else second * 2.0

    x, y = leaf(1.0), leaf(2.0)
    total, _, text = make(forward, backward).apply(x, y)
    assert text == "text"
    total.sum().backward()
    assert seen == [([1.0], [0.0], None)]
    assert (x.grad.item(), y.grad.item()) == (1.0, 0.0)

    def without_zeros(ctx, x, y):
        ctx.set_materialize_grads(False)
        return forward(ctx, x, y)

    make(without_zeros, backward).apply(x, y)[0].sum().backward()
    assert seen[1] == ([1.0], None, None)


def test_results_without_gradient():
    def forward(ctx, x):
        indices = x.argmax()
        kept = x * 1.0
        ctx.mark_non_differentiable(indices, kept)
        return x * 2.0, indices, kept

    def backward(ctx, grad, indices, kept):
        assert kept.tolist() == [0.0, 0.0]
        return grad * 2.0

    x = leaf(1.0, 5.0)
    doubled, indices, kept = make(forward, backward).apply(x)
    assert doubled.requires_grad
    assert not indices.requires_grad
    assert not kept.requires_grad
    assert kept.tolist() == [1.0, 5.0]
    doubled.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_an_argument_returned_as_it_is():
    function = make(lambda ctx, x: x, lambda ctx, grad: grad * 7.0)
    x = leaf(1.0)
    y = function.apply(x)
    assert y is not x
    assert x.is_leaf
    assert not y.is_leaf
    y.sum().backward()
    assert x.grad.item() == 7.0


def test_arguments_changed_in_place():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3.0)

    function = make(forward, lambda ctx, grad: grad * 3.0)
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = function.apply(y)
    assert z is y
    assert y.tolist() == [3.0, 6.0]
    (y * y).sum().backward()
    assert x.grad.tolist() == [18.0, 36.0]
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad has been used"):
        function.apply(leaf(1.0))
    forgotten = make(lambda ctx, x: (ctx.mark_dirty(x), x * 1.0)[1], lambda ctx, grad: grad)
    with pytest.raises(RuntimeError, match="not returned as output"):
        forgotten.apply(x * 1.0)


def test_a_view_changed_in_place_changes_its_base():
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3.0)

    x = leaf(1.0, 2.0, 4.0)
    y = x * 1.0
    make(forward, lambda ctx, grad: grad * 3.0).apply(y[:2])
    assert y.tolist() == [3.0, 6.0, 4.0]
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 1.0]


def test_setup_context():
    def setup(ctx, inputs, output):
        x, power = inputs
        ctx.save_for_backward(x, None)
        ctx.power = power

    def forward(x, power=2):
        return x**power

    def backward(ctx, grad):
        x, nothing = ctx.saved_tensors
        assert nothing is None
        return grad * ctx.power * x ** (ctx.power - 1), None

    function = make(forward, backward, setup)
    x = leaf(3.0)
    function.apply(x).sum().backward()
    assert x.grad.item() == 6.0
    x.grad = None
    function.apply(x, power=3).sum().backward()
    assert x.grad.item() == 27.0


def test_gradients_are_fitted_to_their_arguments():
    function = make(
        lambda ctx, x: x * 2.0, lambda ctx, grad: braze.ones(5, 2, dtype=braze.float32) * 2.0
    )
    x = leaf(1.0, 1.0)
    function.apply(x).sum().backward()
    assert x.grad.dtype is braze.float64
    assert x.grad.tolist() == [10.0, 10.0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda g: (g,), r"MadeBackward returned an incorrect number.*\(expected 2, got 1\)"),
        (lambda g: (g, None, g), r"incorrect number of gradients \(expected 2, got 3\)"),
        (lambda g: (g, g), "gradient different than None at position 2"),
        (lambda g: (3, None), r"expected Variable or None \(got int\)"),
        (lambda g: (g[:1].expand(3), None), r"index 0 - got \[3\] but expected .* with \[2\]"),
    ],
)
def test_wrong_gradients(answer, message):
    function = make(lambda ctx, x, n: x * n, lambda ctx, grad: answer(grad))
    with pytest.raises(RuntimeError, match=message):
        function.apply(leaf(1.0, 2.0), 2.0).sum().backward()


def test_trailing_nones_are_allowed():
    function = make(lambda ctx, x: x * 2.0, lambda ctx, grad: (grad, None, None))
    x = leaf(1.0)
    function.apply(x).sum().backward()
    assert x.grad.item() == 1.0


def test_gradients_nobody_needs():
    function = make(lambda ctx, x, y: x * y, lambda ctx, grad: (None, grad * 2.0))
    x, y = leaf(1.0), leaf(1.0)
    function.apply(x, y).sum().backward()
    assert x.grad is None
    assert y.grad.item() == 2.0
    function.apply(x.detach(), y).sum().backward()
    assert y.grad.item() == 4.0
    with braze.no_grad():
        assert not function.apply(x, y).requires_grad


def test_errors_of_use():
    with pytest.raises(RuntimeError, match="static forward method"):
        Cube()
    with pytest.raises(TypeError, match="save_for_backward can only save variables.*type int"):
        make(lambda ctx, x: ctx.save_for_backward(3), None).apply(leaf(1.0))
    bare = type("Bare", (Function,), {"forward": staticmethod(lambda ctx, x: x * 1.0)})
    with pytest.raises(NotImplementedError, match="either the backward or vjp"):
        bare.apply(leaf(1.0)).sum().backward()


def test_saved_tensors_are_freed_and_guarded():
    x = leaf(2.0)
    y = Cube.apply(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()
    z = x * 1.0
    y = Cube.apply(z)
    z.add_(1.0)
    with pytest.raises(RuntimeError, match=r"modified by an inplace.*CubeBackward"):
        y.sum().backward()


def test_once_differentiable():
    function = make(
        lambda ctx, x: (ctx.save_for_backward(x), x * x)[1],
        once_differentiable(lambda ctx, grad: grad * 2.0 * ctx.saved_tensors[0]),
    )
    x = leaf(3.0)
    (first,) = braze.autograd.grad(function.apply(x).sum(), x)
    assert first.item() == 6.0
    weight = leaf(1.0)
    (first,) = braze.autograd.grad((function.apply(x) * weight).sum(), x, create_graph=True)
    assert first.item() == 6.0
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def test_only_the_functions_on_the_way_are_called():
    called = []

    def backward(ctx, grad):
        called.append(True)
        return grad

    function = make(lambda ctx, x: x * 1.0, backward)
    x, y = leaf(1.0), leaf(2.0)
    braze.autograd.grad((function.apply(x) * y).sum(), y)
    assert not called


def test_the_whole_step_stays_one_graph():
    x = leaf(1.0, 2.0)

    def step():
        x.grad = None
        (Cube.apply(x) * 2.0).sum().backward()
        return x.grad.tolist()

    step()
    before = braze.stats.native_calls + braze.stats.interpreted
    assert step() == [6.0, 24.0]
    assert braze.stats.native_calls + braze.stats.interpreted == before + 1
