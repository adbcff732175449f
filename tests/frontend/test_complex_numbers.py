"""Tensors of complex numbers, against NumPy."""

import math
import pickle
import warnings

import numpy as np
import pytest

import braze
from braze.autograd import gradcheck, gradgradcheck
from braze.engine import config

C = braze.complex128


@pytest.fixture(params=["interpret", "compile"], autouse=True)
def tier(request):
    before, config.tier = config.tier, request.param
    yield request.param
    braze.sync()
    config.tier = before


def array(*shape, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] + 1j * parts[1]


def leaf(*shape, seed=0):
    return braze.tensor(array(*shape, seed=seed), requires_grad=True)


def near(tensor, expected, tolerance=1e-12):
    expected = np.asarray(expected)
    assert tensor.numpy().dtype == expected.dtype and tuple(tensor.shape) == expected.shape
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=tolerance, atol=tolerance)


# Making and promotion -----------------------------------------------------------------------------


def test_creation():
    near(braze.tensor([1 + 2j, 3]), np.array([1 + 2j, 3], np.complex64))
    near(braze.tensor([[1j, 2.5]], dtype=C), np.array([[1j, 2.5]]))
    near(braze.tensor(np.array([1j])), np.array([1j]))
    near(braze.full((2,), 1 - 1j), np.full(2, 1 - 1j, np.complex64))
    near(braze.zeros(2, dtype=C), np.zeros(2, complex))
    near(braze.eye(2, dtype=braze.cfloat), np.eye(2, dtype=np.complex64))
    near(braze.complex(braze.ones(2), braze.arange(2.0)), np.array([1, 1 + 1j], np.complex64))
    half = braze.tensor(math.pi / 2, dtype=braze.float64)
    near(braze.polar(braze.tensor([2.0], dtype=braze.float64), half), [2j])
    assert braze.tensor(2 + 1j).item() == 2 + 1j == complex(braze.tensor(2 + 1j))
    assert braze.tensor([1j, 2]).tolist() == [1j, 2]
    assert float(braze.tensor(2 + 0j)) == 2.0


def test_what_makes_no_complex_number():
    with pytest.raises(RuntimeError, match="Float or Double tensors but got"):
        braze.complex(braze.ones(2, dtype=braze.float16), braze.ones(2, dtype=braze.float16))
    with pytest.raises(RuntimeError, match="for argument 'imag' of complex"):
        braze.complex(braze.ones(2), braze.ones(2, dtype=braze.float64))
    with pytest.raises(TypeError, match="not complex"):
        braze.tensor([1j], dtype=braze.float32)
    with pytest.raises(RuntimeError, match="without loss"):
        braze.zeros(2).fill_(1j)
    with pytest.raises(RuntimeError, match="without overflow"):
        float(braze.tensor(1j))
    with pytest.raises(RuntimeError, match="non-complex"):
        braze.imag(braze.ones(2))
    with pytest.raises(RuntimeError, match="result type complex64 can't be cast"):
        braze.zeros(2).add_(braze.tensor(1j))


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ((braze.ones(1, dtype=braze.float64), 1j), C),
        ((braze.ones(1, dtype=braze.int64), 1j), braze.complex64),
        ((braze.ones(1, dtype=braze.float16), 1j), braze.complex64),
        ((braze.ones(1, dtype=C), 1.0), C),
        ((braze.ones(1, dtype=braze.complex64), braze.ones((), dtype=braze.float64)),
         braze.complex64),
        ((braze.ones(1, dtype=braze.float64), braze.ones((), dtype=braze.complex64)), C),
        ((braze.ones(1, dtype=braze.float64), braze.ones(1, dtype=braze.complex64)), C),
    ],
)  # fmt: skip
def test_promotion(operands, expected):
    assert braze.result_type(*operands) is expected
    assert (operands[0] * operands[1]).dtype is expected


def test_casting_to_real_warns():
    x = braze.tensor([1 + 2j])
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        near(x.double(), [1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.bool().tolist() == [True] and x.to(C).dtype is C


# Arithmetic ---------------------------------------------------------------------------------------


def test_arithmetic():
    a, b, r = array(3, 4), array(4, seed=1), np.random.default_rng(2).standard_normal((3, 1))
    x, y, z = map(braze.tensor, (a, b, r))
    for found, expected in (
        (x + y, a + b), (x - 1, a - 1), (1 - x, 1 - a), (x * y, a * b), (x * z, a * r),
        (x / y, a / b), (z / x, r / a), (x * 2j, a * 2j), (x**2, a**2), (x**y, a**b),
        (2**x, 2**a), (x**0.5, a**0.5), (-x, -a), (abs(x), abs(a)), (x == x, a == a),
        (x != y, a != b), (braze.add(x, y, alpha=2j), a + 2j * b), (x.conj(), a.conj()),
        (x @ y, a @ b), (x.mH @ x, a.conj().T @ a), (x.reciprocal(), 1 / a),
        (braze.where(z > 0, x, y), np.where(r > 0, a, b)), (x.lerp(x * 2, 0.25), a * 1.25),
        (braze.vdot(y, y), np.vdot(b, b)), (braze.dot(y, y), b @ b), (x.sgn(), a / abs(a)),
        (x.masked_fill(z > 0, 1j), np.where(r > 0, 1j, a)), (x.angle(), np.angle(a)),
        (braze.outer(y, y), np.outer(b, b)), (x.H, a.conj().T), (braze.sinc(x), np.sinc(a)),
        (braze.tensor([-1.0, 2], dtype=braze.float64).angle(), np.array([math.pi, 0])),
        (braze.isreal(x * 0), np.full((3, 4), True)), (braze.isclose(x, x), np.full((3, 4), True)),
    ):  # fmt: skip
        near(found, expected)


def test_reductions_and_scans():
    a = array(3, 4)
    x = braze.tensor(a)
    for found, expected in (
        (x.sum(), a.sum()), (x.sum(1, keepdim=True), a.sum(1, keepdims=True)),
        (x.mean(0), a.mean(0)), (x.prod(1), a.prod(1)), (x.cumsum(1), a.cumsum(1)),
        (x.cumprod(0), a.cumprod(0)), (x.var(1), a.var(1, ddof=1)), (x.std(), a.std(ddof=1)),
        (x.norm(), np.linalg.norm(a)), (x.any(), np.array(True)),
        (x.logsumexp(0), np.log(np.exp(a).sum(0))),
    ):  # fmt: skip
        near(found, expected)


def test_elements_move_as_they_are():
    a = array(3, 4)
    x = braze.tensor(a)
    for found, expected in (
        (x[1], a[1]), (x[:, ::2], a[:, ::2]), (x[x.real > 0], a[a.real > 0]), (x.T, a.T),
        (braze.cat([x, x.real]), np.concatenate([a, a.real])), (x.flip(0), a[::-1]),
        (braze.stack([x, x]), np.stack([a, a])), (x.tril(), np.tril(a)), (x.diag(), np.diag(a)),
        (x.roll(1, 0), np.roll(a, 1, 0)), (x.repeat(2, 1), np.tile(a, (2, 1))),
        (x.index_select(0, braze.tensor([2, 0])), a[[2, 0]]),
    ):  # fmt: skip
        near(found, expected)
    a[1] = 5j
    a[[0, 2], 1] += 1
    x[1] = 5j
    x[braze.tensor([0, 2]), 1] += 1
    near(x, a)


# Views --------------------------------------------------------------------------------------------


def test_parts_are_views():
    x = braze.zeros(2, 3, dtype=C)
    x.real[0] = 5
    x.imag[:, 1].add_(2)
    braze.view_as_real(x)[1, 2] = braze.tensor([7.0, 8.0])
    near(x, np.array([[5, 5 + 2j, 5], [0, 2j, 7 + 8j]]))
    x.real = braze.ones(2, 3)
    near(x, np.array([[1, 1 + 2j, 1], [1, 1 + 2j, 1 + 8j]]))
    assert x.imag.stride() == (6, 2) and x.imag.storage_offset() == 1
    assert braze.view_as_real(x).stride() == (6, 2, 1)
    shared = x.imag.numpy()
    x.mul_(1j)
    assert (shared == np.array([[1, 1, 1], [1, 1, 1]])).all()
    shared[0, 0] = 3
    assert x[0, 0].item() == 3j


def test_pairs_as_complex_numbers():
    pairs = braze.arange(8.0).reshape(4, 2)
    z = braze.view_as_complex(pairs)
    z.mul_(1j)
    assert pairs.tolist() == [[-1, 0], [-3, 2], [-5, 4], [-7, 6]]
    assert braze.view_as_complex(pairs[1:]).storage_offset() == 1
    assert pairs.view(braze.complex64).shape == (4, 1)
    assert z.view(braze.float32).tolist() == pairs.reshape(-1).tolist()
    for wrong, message in (
        (braze.ones(3), "last dimension of size 2"),
        (braze.ones(2, 4).T[:2].T[:, ::1].T.T.mT, "last dimension with stride 1"),
        (braze.ones(4, 3)[:, :2], "stride divisible by 2 for all but last"),
        (braze.ones(9)[1:].reshape(4, 2), "storage_offset divisible by 2"),
        (braze.ones(2, dtype=braze.int64), "only supported for float and double"),
    ):
        with pytest.raises(RuntimeError, match=message):
            braze.view_as_complex(wrong)


def test_interchange():
    a = array(3)
    x = braze.from_numpy(a)
    x *= 2
    near(pickle.loads(pickle.dumps(x)), a)
    near(braze.from_dlpack(np.from_dlpack(x)), a)
    assert x.type() == "braze.ComplexDoubleTensor" and x.element_size() == 16
    assert braze.finfo(braze.complex64).eps == braze.finfo(braze.float32).eps


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1 + 2.5j, -4], "tensor([ 1.+2.5000j, -4.+0.0000j])"),
        ([1e-5 + 3j, 4], "tensor([1.0000e-05+3.j, 4.0000e+00+0.j])"),
        (1 - 2j, "tensor(1.-2.j)"),
        ([complex(math.nan, 1), -1j], "tensor([nan+1.j, -0.-1.j])"),
    ],
)
def test_printing(values, text):
    assert repr(braze.tensor(values)) == text
    double = braze.tensor(values, dtype=C)
    assert repr(double) == text[:-1] + ", dtype=braze.complex128)"


# Gradients ----------------------------------------------------------------------------------------

UNARY = (
    "exp log log1p expm1 sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sigmoid "
    "square reciprocal rsqrt exp2 log2 log10 abs angle sgn conj real imag view_as_real neg sinc"
).split()


@pytest.mark.parametrize("name", UNARY)
def test_gradients_of_functions(name, tier):
    if tier == "compile":
        pytest.skip("one graph for each difference")
    for x in (leaf(3), leaf(seed=3)):
        assert gradcheck(getattr(braze, name), x, check_grad_dtypes=True)
        assert gradgradcheck(getattr(braze, name), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x * y + y - x / y,
        lambda x, y: x**y,
        lambda x, y: x @ y,
        lambda x, y: x.real * y,
        lambda x, y: braze.vdot(x, y) * abs(x),
        lambda x, y: braze.where(x.real > 0, x, y * y),
        lambda x, y: braze.outer(x, y).prod(1).cumsum(0),
        lambda x, y: (x * y).cumprod(0).mean(),
        lambda x, y: braze.stack([x, y]).var(0) + x.norm(),
        lambda x, y: braze.view_as_complex(braze.view_as_real(x) * 2) * y.imag,
        lambda x, y: braze.complex(x.real, y.imag) * 2j + x.to(C) ** 3.0,
        lambda x, y: braze.cat([x, y])[braze.tensor([0, 0, 5])] * x,
    ],
)
def test_gradients_of_combinations(function, tier):
    if tier == "compile":
        pytest.skip("one graph for each difference")
    assert gradcheck(function, (leaf(3), leaf(3, seed=1)), check_grad_dtypes=True)
    assert gradgradcheck(function, (leaf(3), leaf(3, seed=1)))


def test_the_gradient_is_the_direction_of_steepest_ascent():
    """d|z|**2 = 2 z, as PyTorch has it; a real leaf's gradient is real."""
    z = leaf(3)
    (z * z.conj()).real.sum().backward()
    near(z.grad, 2 * z.detach().numpy())
    r = braze.ones(2, dtype=braze.float64, requires_grad=True)
    (r * (1 + 2j)).abs().sum().backward()
    near(r.grad, np.full(2, math.sqrt(5)))


def test_a_complex_loss_needs_a_gradient():
    z = leaf(3)
    with pytest.raises(RuntimeError, match="real scalar outputs but got braze.complex128"):
        z.sum().backward()
    z.sum().backward(braze.tensor(1j, dtype=C))
    near(z.grad, np.full(3, 1j))
    with pytest.raises(RuntimeError, match="floating point and complex dtype"):
        braze.ones(2, dtype=braze.int64).requires_grad_()


def test_wrong_complex_gradients_are_found():
    class Wrong(braze.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g * 2 * ctx.saved_tensors[0]  # without the conjugate

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(Wrong.apply, leaf(2))


def test_training_on_complex_weights():
    """Gradient descent finds the coefficients of a complex linear map."""
    x, true = braze.tensor(array(20, 3)), braze.tensor(array(3, seed=5))
    w = braze.zeros(3, dtype=C, requires_grad=True)
    for _ in range(60):
        ((x @ w - x @ true).abs() ** 2).mean().backward()
        with braze.no_grad():
            w -= 0.2 * w.grad
        w.grad = None
    near(w.detach(), true.numpy(), 1e-3)


# What has no order --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x > x, lambda x: x.max(), lambda x: x.sort(), lambda x: x.floor(),
        lambda x: x.clamp(0, 1), lambda x: x % 2, lambda x: x.sign(), lambda x: braze.erf(x),
        lambda x: x.softmax(0), lambda x: x.argmax(), lambda x: x & x, lambda x: x.median(),
    ],
)  # fmt: skip
def test_what_complex_numbers_have_not(call):
    with pytest.raises(NotImplementedError, match=r"not implemented for complex.*c128\[3\]"):
        call(braze.tensor(array(3)))


def test_random_numbers():
    braze.manual_seed(0)
    x = braze.randn(20000, dtype=braze.complex64).numpy()
    assert abs(x.real.var() - 0.5) < 0.02 and abs(x.imag.var() - 0.5) < 0.02
    assert abs((x.real * x.imag).mean()) < 0.02
    u = braze.rand(1000, dtype=C).numpy()
    assert 0 <= min(u.real.min(), u.imag.min()) and max(u.real.max(), u.imag.max()) < 1
    filled = braze.empty(20000, dtype=C).normal_(1.0, 2.0).numpy()
    assert abs(filled.mean() - 1) < 0.1 and abs(filled.var() - 4) < 0.2
