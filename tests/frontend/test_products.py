"""Products of tensors, arrangements and distances against NumPy, in both tiers."""

import itertools

import numpy as np
import pytest

import braze
from braze.ir.errors import ShapeError


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def arrays(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape) for shape in shapes]


def block_diagonal(*blocks):
    blocks = [np.atleast_2d(b) for b in blocks]
    out = np.zeros([sum(b.shape[d] for b in blocks) for d in (0, 1)])
    row = column = 0
    for b in blocks:
        out[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return out


def pairs(a, b, p):
    return np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], p, -1)


CASES = {
    "tensordot": (lambda f, a, b: f.tensordot(a, b, 2), None, [(2, 3, 4), (3, 4, 5)]),
    "tensordot of no dimension": (
        lambda f, a, b: f.tensordot(a, b, 0), None, [(2, 3), (4,)]),
    "tensordot of chosen dimensions": (
        lambda f, a, b: f.tensordot(a, b, ([0, -1], [1, 0])), None, [(2, 3, 4), (4, 2, 5)]),
    "addmm": (lambda f, c, a, b: braze.addmm(c, a, b, beta=0.5, alpha=2),
              lambda c, a, b: c / 2 + 2 * a @ b, [(4,), (2, 3), (3, 4)]),
    "addmv": (lambda f, c, a, b: braze.addmv(c, a, b, beta=0.5, alpha=2),
              lambda c, a, b: c / 2 + 2 * a @ b, [(2,), (2, 3), (3,)]),
    "addr": (lambda f, c, a, b: braze.addr(c, a, b, beta=0.5, alpha=2),
             lambda c, a, b: c / 2 + 2 * np.outer(a, b), [(2, 3), (2,), (3,)]),
    "addbmm": (lambda f, c, a, b: braze.addbmm(c, a, b, beta=0.5, alpha=2),
               lambda c, a, b: c / 2 + 2 * (a @ b).sum(0), [(2, 4), (5, 2, 3), (5, 3, 4)]),
    "baddbmm": (lambda f, c, a, b: braze.baddbmm(c, a, b, beta=0.5, alpha=2),
                lambda c, a, b: c / 2 + 2 * a @ b, [(2, 4), (5, 2, 3), (5, 3, 4)]),
    "ger": (lambda f, a, b: braze.ger(a, b), np.outer, [(2,), (3,)]),
    "vdot": (lambda f, a, b: f.vdot(a, b), None, [(3,), (3,)]),
    "inner": (lambda f, a, b: f.inner(a, b), None, [(2, 3), (4, 3)]),
    "inner with a number": (lambda f, a, b: f.inner(a, b), None, [(), (4, 3)]),
    "chain_matmul": (lambda f, a, b, c: braze.chain_matmul(a, b, c),
                     lambda a, b, c: a @ b @ c, [(2, 3), (3, 4), (4, 5)]),
    "multi_dot": (lambda f, a, b, c: f.linalg.multi_dot([a, b, c]), None, [(3,), (3, 4), (4,)]),
    "kron": (lambda f, a, b: f.kron(a, b), None, [(2, 3), (4, 2, 2)]),
    "cross": (lambda f, a, b: braze.cross(a, b, dim=-1), np.cross, [(2, 3), (2, 3)]),
    "cross along the first of size 3": (
        lambda f, a, b: braze.cross(a, b), lambda a, b: np.cross(a, b, axis=0), [(3, 3), (3, 3)]),
    "trace": (lambda f, a: f.trace(a), None, [(3, 4)]),
    "block_diag": (lambda f, *a: braze.block_diag(*a), block_diagonal, [(2, 3), (4,), (), (1, 1)]),
    "cdist": (lambda f, a, b: braze.cdist(a, b), lambda a, b: pairs(a, b, 2),
              [(2, 4, 3), (2, 5, 3)]),
    "cdist of order 1": (lambda f, a, b: braze.cdist(a, b, 1.0), lambda a, b: pairs(a, b, 1),
                         [(4, 3), (2, 5, 3)]),
    "cdist by a product": (lambda f, a, b: braze.cdist(a, b), lambda a, b: pairs(a, b, 2),
                           [(30, 3), (27, 3)]),
    "dist": (lambda f, a, b: braze.dist(a, b, 3), lambda a, b: np.linalg.norm((a - b).ravel(), 3),
             [(4, 3), (4, 3)]),
    "vecdot": (lambda f, a, b: braze.linalg.vecdot(a, b), lambda a, b: (a * b).sum(-1),
               [(4, 3), (3,)]),
}  # fmt: skip
CASES |= {
    f"matrix_power {n}": (lambda f, a, n=n: f.linalg.matrix_power(a, n), None, [(2, 3, 3)])
    for n in (-2, 0, 1, 2, 5)
}
CASES |= {
    f"vander {n} {up}": (
        lambda f, a, n=n, up=up: f.vander(a, n, increasing=up), None, [(3,)]
    )
    for n in (None, 1, 5)
    for up in (False, True)
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    function, reference, shapes = CASES[name]
    given = arrays(*shapes)

    def wanted(arguments):
        return np.asarray(reference(*arguments) if reference else function(np, *arguments))

    tensors = [braze.from_numpy(np.array(a)).requires_grad_() for a in given]
    out = function(braze, *tensors)
    expected = wanted(given)
    assert tuple(out.shape) == expected.shape
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-7, atol=1e-7)
    if not out.requires_grad:  # the power 0
        return
    weight = np.random.default_rng(1).standard_normal(expected.shape)
    (out * braze.from_numpy(np.array(weight))).sum().backward()
    step = 1e-6
    for position, tensor in enumerate(tensors):
        direction = np.random.default_rng(position).standard_normal(shapes[position])
        sides = []
        for sign in (1, -1):
            moved = list(given)
            moved[position] = given[position] + sign * step * direction
            sides.append(np.sum(wanted(moved) * weight))
        found = np.sum(tensor.grad.numpy() * direction)
        np.testing.assert_allclose(found, (sides[0] - sides[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_a_beta_of_zero_does_not_read_the_input():
    nan = braze.full((2, 2), float("nan"))
    eye = braze.eye(2)
    for out in (
        braze.addmm(nan, eye, eye, beta=0),
        braze.addmm(nan, eye, eye, beta=0, alpha=2) / 2.0,
        braze.addbmm(nan, eye.unsqueeze(0), eye.unsqueeze(0), beta=0),
        braze.addmv(nan[0], eye, braze.ones(2), beta=0).expand(2, 2) * eye,
    ):
        np.testing.assert_array_equal(out.numpy(), np.eye(2))


def test_methods_and_their_in_place_forms():
    a, b = (braze.from_numpy(x.astype(np.float32)) for x in arrays((2, 3), (3, 2)))
    c = braze.ones(2, 2)
    same = c
    c.addmm_(a, b, beta=2, alpha=3)
    assert same is c
    np.testing.assert_allclose(c.numpy(), 2 + 3 * a.numpy() @ b.numpy(), rtol=1e-5)
    v = braze.zeros(2).addmv_(a, b.select(1, 0))
    np.testing.assert_allclose(v.numpy(), a.numpy() @ b.numpy()[:, 0], rtol=1e-5)
    r = braze.zeros(2, 3).addr_(braze.ones(2), braze.ones(3), alpha=2)
    np.testing.assert_array_equal(r.numpy(), np.full((2, 3), 2))
    batch = braze.zeros(1, 2, 2).baddbmm_(a.unsqueeze(0), b.unsqueeze(0))
    np.testing.assert_allclose(batch.numpy()[0], a.numpy() @ b.numpy(), rtol=1e-5)
    total = braze.zeros(2, 2).addbmm_(a.unsqueeze(0), b.unsqueeze(0))
    np.testing.assert_allclose(total.numpy(), batch.numpy()[0], rtol=1e-5)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape|does not expand"):
        braze.zeros(1).addmm_(a, b)


def test_factors_in_the_order_of_pytorch_1_0():
    c, a, b = (braze.from_numpy(x) for x in arrays((2, 4), (2, 3), (3, 4)))
    wanted = braze.addmm(c, a, b, beta=0.5, alpha=2).numpy()
    np.testing.assert_array_equal(braze.addmm(0.5, c, 2, a, b).numpy(), wanted)
    np.testing.assert_array_equal(c.addmm(0.5, 2, a, b).numpy(), wanted)
    halved = braze.addmm(c, a, b, beta=0.5).numpy()
    np.testing.assert_array_equal(braze.addmm(0.5, c, a, b).numpy(), halved)
    with pytest.raises(TypeError, match="given twice"):
        braze.addmm(0.5, c, a, b, beta=1)


def test_integers_stay_exact():
    x = braze.tensor([[1, 2], [3, 4]])
    assert braze.addmm(x, x, x).tolist() == [[8, 12], [18, 26]]
    assert braze.kron(x, braze.tensor([1, 10])).tolist() == [[1, 10, 2, 20], [3, 30, 4, 40]]
    assert braze.trace(x.int()).dtype is braze.int64
    assert braze.addmm(x, x, x, beta=0.5).tolist() == (x @ x).tolist()  # of factors the whole part
    with pytest.raises(RuntimeError, match="alpha and beta must not be floating point"):
        braze.addr(x, x[0], x[0], beta=0.5)


@pytest.mark.parametrize("r", [0, 1, 2, 4])
@pytest.mark.parametrize("again", [False, True])
def test_combinations(r, again):
    x = braze.tensor([1.0, 2.0, 3.0])
    choose = itertools.combinations_with_replacement if again else itertools.combinations
    wanted = [list(c) for c in choose([1.0, 2.0, 3.0], r)] if r else []
    out = braze.combinations(x, r, again)
    assert out.tolist() == wanted
    assert tuple(out.shape) == ((0,) if r == 0 else (len(wanted), r))


def test_cartesian_product():
    out = braze.cartesian_prod(braze.tensor([1, 2]), braze.tensor([3, 4, 5]))
    assert out.tolist() == [list(p) for p in itertools.product([1, 2], [3, 4, 5])]
    assert braze.cartesian_prod(braze.tensor([1, 2])).tolist() == [1, 2]


def test_renorm_scales_what_is_too_long():
    x = np.array([[3.0, 4.0], [0.3, 0.4]])
    out = braze.renorm(braze.from_numpy(x), 2, 0, 1.0).numpy()
    np.testing.assert_allclose(out, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    out = braze.renorm(braze.from_numpy(x), 1, 1, 1.0).numpy()
    np.testing.assert_allclose(out, x / np.maximum(np.abs(x).sum(0), 1), rtol=1e-6)


def test_the_gradient_of_a_distance_of_zero_is_zero():
    for rows in (2, 30):
        x = braze.zeros(rows, 3, requires_grad=True)
        braze.cdist(x, braze.zeros(rows, 3)).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.zeros((rows, 3)))


ERRORS = [
    (lambda x: braze.addmm(braze.ones(3), x, x), r"\[addmm\] f32\[3\] does not expand to \[2, 2\]"),
    (lambda x: braze.tensordot(x, braze.ones(3, 2), 1), r"\[tensordot\] dimensions \[1\] of"),
    (lambda x: braze.tensordot(x, x, 3), r"\[tensordot\] 3 dimensions of"),
    (lambda x: braze.chain_matmul(x, braze.ones(3, 2)), r"\[chain_matmul\] inner sizes differ"),
    (lambda x: braze.matrix_power(braze.ones(2, 3), 2), r"\[matrix_power\] needs square matrices"),
    (lambda x: braze.cross(x, x), r"\[cross\] no dimension of size 3"),
    (lambda x: braze.cross(x, x, 1), r"\[cross\] dimension 1 has not size 3"),
    (lambda x: braze.trace(x[0]), r"\[trace\] expected a matrix, given f32\[2\]"),
    (lambda x: braze.block_diag(braze.ones(1, 1, 1)), r"\[block_diag\] expects 2 dimensions"),
    (lambda x: braze.cdist(x, braze.ones(2, 3)), r"\[cdist\] needs \[..., P, M\]"),
    (lambda x: braze.addbmm(x, x, x), r"\[addbmm\] expects batches of matrices"),
    (lambda x: braze.linalg.multi_dot([x]), r"\[multi_dot\] expected at least 2 tensors"),
]


@pytest.mark.parametrize(("function", "message"), ERRORS)
def test_errors(function, message):
    with pytest.raises(ShapeError, match=message):
        function(braze.ones(2, 2))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "bartlett"])
def test_windows(name, length, periodic):
    reference = {"hann": np.hanning}.get(name) or getattr(np, name)
    wanted = reference(length + 1)[:-1] if periodic and length > 1 else reference(length)
    out = getattr(braze, f"{name}_window")(length, periodic)
    assert out.dtype is braze.float32
    np.testing.assert_allclose(out.numpy(), wanted, atol=1e-6)
    with pytest.raises(RuntimeError, match="floating point dtypes"):
        getattr(braze, f"{name}_window")(length, dtype=braze.int64)
