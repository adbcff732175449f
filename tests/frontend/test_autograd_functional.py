"""`autograd.functional` and `braze.func`: against derivatives worked out by NumPy, and nesting."""

import numpy as np
import pytest

import braze
from braze import func, nn
from braze.autograd import functional


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield
        braze.sync()


X = np.array([0.3, -0.6, 0.9])
Y = np.array([1.1, 0.4])


def tensor(array, requires_grad=False):
    return braze.tensor(np.array(array, dtype=np.float64), requires_grad=requires_grad)


def same(actual, expected, rtol=1e-11):
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=rtol, atol=1e-12)


def outer(x, y):
    """f64[3,2], with J_x[i,j,k] = cos(x_i) y_j [i=k] and J_y[i,j,k] = sin(x_i) [j=k]."""
    return x.sin().unsqueeze(1) * y


JX = np.einsum("i,j,ik->ijk", np.cos(X), Y, np.eye(3))
JY = np.einsum("i,jk->ijk", np.sin(X), np.eye(2))


def scalar(x, y):
    """Gradients: 2 x sum(y**3), and 3 y**2 sum(x**2)."""
    return (x * x).sum() * (y**3).sum()


HXX = 2 * np.eye(3) * (Y**3).sum()
HXY = np.outer(2 * X, 3 * Y**2)
HYY = np.diag(6 * Y) * (X**2).sum()


# autograd.functional ------------------------------------------------------------------------------


def test_jacobian():
    found = functional.jacobian(outer, (tensor(X), tensor(Y)))
    same(found[0], JX)
    same(found[1], JY)
    assert not found[0].requires_grad
    single = functional.jacobian(lambda x: x.exp(), tensor(X), vectorize=True)
    same(single, np.diag(np.exp(X)))
    both = functional.jacobian(lambda x: (x * 2.0, x.sum()), tensor(X))
    same(both[0], 2 * np.eye(3))
    same(both[1], np.ones(3))
    independent = functional.jacobian(lambda x, y: y * 1.0, (tensor(X), tensor(Y)))
    same(independent[0], np.zeros((2, 3)))


def test_jacobians_with_a_graph():
    x = tensor(X, requires_grad=True)
    found = functional.jacobian(lambda x: x**3, x, create_graph=True)
    found.sum().backward()
    same(x.grad, 6 * X)


def test_hessian():
    found = functional.hessian(scalar, (tensor(X), tensor(Y)))
    same(found[0][0], HXX)
    same(found[0][1], HXY)
    same(found[1][0], HXY.T)
    same(found[1][1], HYY)
    same(functional.hessian(lambda x: (x**3).sum(), tensor(X)), np.diag(6 * X))
    x = tensor(X, requires_grad=True)
    functional.hessian(lambda x: (x**3).sum(), x, create_graph=True).sum().backward()
    same(x.grad, np.full(3, 6.0))


def test_products_with_jacobians():
    v = np.random.default_rng(0).normal(size=(3, 2))
    output, found = functional.vjp(outer, (tensor(X), tensor(Y)), tensor(v))
    same(output, np.outer(np.sin(X), Y))
    same(found[0], np.einsum("ij,ijk->k", v, JX))
    same(found[1], np.einsum("ij,ijk->k", v, JY))
    dx, dy = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5])
    output, found = functional.jvp(outer, (tensor(X), tensor(Y)), (tensor(dx), tensor(dy)))
    same(output, np.outer(np.sin(X), Y))
    same(found, JX @ dx + JY @ dy)
    assert not found.requires_grad
    _, found = functional.vjp(lambda x: x.sum(), tensor(X))
    same(found, np.ones(3))


def test_products_with_hessians():
    dx, dy = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5])
    expected = HXX @ dx + HXY @ dy, HXY.T @ dx + HYY @ dy
    for product in (functional.vhp, functional.hvp):
        output, found = product(scalar, (tensor(X), tensor(Y)), (tensor(dx), tensor(dy)))
        same(output, (X**2).sum() * (Y**3).sum())
        for own, wanted in zip(found, expected, strict=True):
            same(own, wanted)


def test_products_with_a_graph():
    x = tensor(X, requires_grad=True)
    _, found = functional.jvp(lambda x: x**3, x, braze.ones_like(x), create_graph=True)
    found.sum().backward()
    same(x.grad, 6 * X)
    x.grad = None
    _, found = functional.hvp(lambda x: (x**4).sum(), x, braze.ones_like(x), create_graph=True)
    found.sum().backward()
    same(x.grad, 24 * X)


def test_strictness():
    x, y = tensor(X), tensor(Y)
    with pytest.raises(RuntimeError, match="independent of input 0"):
        functional.jacobian(lambda x, y: y * 1.0, (x, y), strict=True)
    with pytest.raises(RuntimeError, match="Output 0 .* does not require gradients"):
        functional.vjp(lambda x: braze.ones(1), x, strict=True)
    with pytest.raises(RuntimeError, match="twice differentiable"):
        functional.hessian(lambda x: x.sum(), x, strict=True)
    with pytest.raises(RuntimeError, match="twice differentiable"):
        functional.vhp(lambda x: x.sum(), x, x, strict=True)
    same(functional.hessian(lambda x: x.sum(), x), np.zeros((3, 3)))
    same(functional.hvp(lambda x: x.sum(), x, x)[1], np.zeros(3))
    same(functional.jvp(lambda x: braze.ones(2), x, x)[1], np.zeros(2))


def test_wrong_arguments():
    x, y = tensor(X), tensor(Y)
    with pytest.raises(TypeError, match="inputs given to jacobian must be either a Tensor"):
        functional.jacobian(lambda x: x, [x])
    with pytest.raises(TypeError, match="outputs of the user-provided function given to vjp"):
        functional.vjp(lambda x: 3.0, x)
    with pytest.raises(RuntimeError, match="vector v can only be None"):
        functional.vjp(lambda x: x * 1.0, x)
    with pytest.raises(RuntimeError, match=r"v has invalid size: should be .*\[3\].* got .*\[2\]"):
        functional.vjp(lambda x: x * 1.0, x, y)
    with pytest.raises(RuntimeError, match="invalid length: should be 2 but got 1"):
        functional.jvp(outer, (x, y), (x,))
    with pytest.raises(RuntimeError, match="hessian should contain a single element"):
        functional.hessian(lambda x: x * 1.0, x)
    with pytest.raises(NotImplementedError, match="forward-mode"):
        functional.jacobian(lambda x: x, x, strategy="forward-mode")


# braze.func ---------------------------------------------------------------------------------------


def test_grad_to_any_order():
    def function(x):
        return x**4

    for order, expected in enumerate((32.0, 48.0, 48.0, 24.0)):
        assert (derivative := func.grad(function))(tensor(2.0)).item() == expected, order
        function = derivative
    assert not derivative(tensor(2.0)).requires_grad


def test_grad_of_several_arguments():
    found = func.grad(scalar, argnums=(0, 1))(tensor(X), tensor(Y))
    same(found[0], 2 * X * (Y**3).sum())
    same(found[1], 3 * Y**2 * (X**2).sum())
    same(func.grad(scalar, argnums=-1)(tensor(X), tensor(Y)), 3 * Y**2 * (X**2).sum())
    tree = func.grad(lambda p: (p["a"] * p["b"][0]).sum())({"a": tensor(Y), "b": [tensor(X[:2])]})
    same(tree["a"], X[:2])
    same(tree["b"][0], Y)


def test_values_and_other_results():
    gradient, value = func.grad_and_value(scalar)(tensor(X), tensor(Y))
    same(gradient, 2 * X * (Y**3).sum())
    assert value.item() == pytest.approx((X**2).sum() * (Y**3).sum())
    value, gradient = func.value_and_grad(lambda x: (x * x).sum())(tensor(X))
    same(gradient, 2 * X)
    gradient, aux = func.grad(lambda x: ((x * x).sum(), x + 1.0), has_aux=True)(tensor(X))
    same(gradient, 2 * X)
    same(aux, X + 1)
    gradient, (value, aux) = func.grad_and_value(lambda x: (x.sum(), x), has_aux=True)(tensor(X))
    assert value.item() == pytest.approx(X.sum())
    same(aux, X)


def test_results_have_a_history_only_where_somebody_wants_it():
    x, w = tensor(X, requires_grad=True), tensor(2.0, requires_grad=True)
    square = func.grad(lambda x: (x**3).sum())
    assert not square(x.detach()).requires_grad
    square(x).sum().backward()
    same(x.grad, 6 * X)
    func.grad(lambda x: (x * x * w).sum())(x.detach()).sum().backward()
    same(w.grad, (2 * X).sum())
    with braze.no_grad():
        found = square(x)
        assert not found.requires_grad
        same(found, 3 * X**2)


def test_vjp():
    v = np.random.default_rng(0).normal(size=(3, 2))
    output, product = func.vjp(outer, tensor(X), tensor(Y))
    same(output, np.outer(np.sin(X), Y))
    assert not output.requires_grad
    for scale in (1.0, 2.0):
        found = product(tensor(v * scale))
        same(found[0], scale * np.einsum("ij,ijk->k", v, JX))
        same(found[1], scale * np.einsum("ij,ijk->k", v, JY))
    output, product, aux = func.vjp(lambda x: ({"a": x * 2.0}, x), tensor(X), has_aux=True)
    same(product({"a": tensor(X)})[0], 2 * X)
    same(aux, X)
    with pytest.raises(RuntimeError, match="structure of cotangents"):
        product({})


def test_jvp():
    dx, dy = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5])
    output, found = func.jvp(outer, (tensor(X), tensor(Y)), (tensor(dx), tensor(dy)))
    same(output, np.outer(np.sin(X), Y))
    same(found, JX @ dx + JY @ dy)
    assert not found.requires_grad
    second = func.jvp(
        lambda x: func.jvp(lambda x: x**3, (x,), (tensor(1.0),))[1], (tensor(2.0),), (tensor(1.0),)
    )
    assert [t.item() for t in second] == [12.0, 12.0]
    through = func.grad(lambda x: func.jvp(lambda x: x**3, (x,), (tensor(1.0),))[1])
    assert through(tensor(2.0)).item() == 12.0
    with pytest.raises(RuntimeError, match="same structure and shapes"):
        func.jvp(outer, (tensor(X), tensor(Y)), (tensor(dx),))
    with pytest.raises(RuntimeError, match="strict"):
        func.jvp(lambda x: tensor(1.0), (tensor(X),), (tensor(dx),), strict=True)


def test_jacrev_and_hessian():
    found = func.jacrev(outer, argnums=(0, 1))(tensor(X), tensor(Y))
    same(found[0], JX)
    same(found[1], JY)
    same(func.jacrev(outer)(tensor(X), tensor(Y)), JX)
    jacobian, aux = func.jacrev(lambda x: (x * x, x), has_aux=True)(tensor(X))
    same(jacobian, np.diag(2 * X))
    same(aux, X)
    found = func.hessian(scalar, argnums=(0, 1))(tensor(X), tensor(Y))
    same(found[0][0], HXX)
    same(found[1][0], HXY.T)
    same(func.jacrev(func.grad(scalar))(tensor(X), tensor(Y)), HXX)


def test_transform_errors():
    with pytest.raises(RuntimeError, match="return a scalar tensor"):
        func.grad(lambda x: x)(tensor(X))
    with pytest.raises(RuntimeError, match="return a Tensor"):
        func.grad(lambda x: 3.0)(tensor(X))
    with pytest.raises(RuntimeError, match="argnum=1, but only 1"):
        func.grad(scalar, argnums=1)(tensor(X))
    with pytest.raises(RuntimeError, match="should be a tuple"):
        func.grad(lambda x: x.sum(), has_aux=True)(tensor(X))


# functional_call ----------------------------------------------------------------------------------


def test_functional_call():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1, bias=False))
    x = braze.tensor([[1.0, 2.0], [3.0, 5.0]])
    own = net[2].weight
    replaced = braze.zeros(1, 2)
    assert func.functional_call(net, {"2.weight": replaced}, x).tolist() == [[0.0], [0.0]]
    assert net[2].weight is own
    counted = net[1].num_batches_tracked.item()
    buffers = {"1.num_batches_tracked": braze.tensor(7)}
    func.functional_call(net, [buffers, {"2.weight": replaced}], (x,))
    assert net[1].num_batches_tracked.item() == counted

    def loss(parameters):
        return func.functional_call(net, parameters, x).square().sum()

    net.eval()
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    gradients = func.grad(loss)(parameters)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        same(gradients[name], parameter.grad.numpy(), rtol=1e-4)


def test_functional_call_names():
    layer = nn.Linear(2, 2)
    x = braze.ones(1, 2)
    zeros = braze.zeros(2)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): wrong"):
        func.functional_call(layer, {"wrong": zeros}, x)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\): weight"):
        func.functional_call(layer, {"bias": zeros}, x, strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        func.functional_call(layer, [{"bias": zeros}, {"bias": zeros}], x)
    other = nn.Linear(2, 2, bias=False)
    other.weight = layer.weight
    tied = nn.Sequential(layer, other)
    nothing = func.functional_call(tied, {"0.weight": braze.zeros(2, 2), "0.bias": zeros}, x)
    assert nothing.tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="tied"):
        weights = {"0.weight": braze.zeros(2, 2), "1.weight": braze.zeros(2, 2)}
        func.functional_call(tied, weights, x)
    kept = func.functional_call(tied, {"1.weight": braze.zeros(2, 2)}, x, tie_weights=False)
    assert kept.tolist() == [[0.0, 0.0]]
    with pytest.raises(ZeroDivisionError):
        func.functional_call(layer, {"bias": Exploding()}, x)
    assert isinstance(layer.bias, nn.Parameter)


class Exploding:
    """What a failing forward meets."""

    def __getattr__(self, name):
        raise ZeroDivisionError
