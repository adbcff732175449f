"""What functions answer to arguments that do not suit them: types, sizes, and values."""

import numpy as np
import pytest

import braze


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    with braze.config.using(tier=request.param):
        yield


@pytest.mark.parametrize(
    "call",
    [
        lambda x: braze.abs(2.0),
        lambda x: braze.neg([1.0]),
        lambda x: braze.frac(1.5),
        lambda x: braze.atan2(x, 2.0),
        lambda x: braze.lerp(x, 1.0, 0.5),
        lambda x: braze.addcmul(x, x, 2.0),
        lambda x: braze.pow(2, 3),
        lambda x: braze.dist(x, 1.0),
        lambda x: braze.where(True, x, x),
        lambda x: braze.gather(x, 0, [1]),
        lambda x: braze.cat(x),
        lambda x: braze.cat([x, 3]),
        lambda x: braze.stack([1, 2]),
        lambda x: braze.broadcast_tensors(x, 3),
        lambda x: braze.sum(x, "0"),
        lambda x: braze.zeros_like(3),
        lambda x: braze.numel(3),
        lambda x: braze.is_signed(3),
        lambda x: braze.index_put(x, (braze.tensor([0]),), 1.0),
        lambda x: braze.permute(x, 0),
        lambda x: braze.softmax(x),
        lambda x: braze.zeros(),
        lambda x: braze.zeros("2"),
        lambda x: braze.ones(2.5),
        lambda x: braze.full(2, 1.0),
        lambda x: braze.full((2,), "a"),
        lambda x: braze.eye(2.5),
        lambda x: braze.linspace("0", 1, 2),
        lambda x: braze.arange("4"),
        lambda x: braze.arange(),
        lambda x: braze.tensor([1, [2]]),
        lambda x: braze.tensor([1], dtype="float32"),
    ],
)
def test_wrong_types_are_type_errors(call):
    with pytest.raises(TypeError):
        call(braze.ones(3))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (RuntimeError, lambda x: braze.zeros(2, -3)),
        (RuntimeError, lambda x: braze.full((-2,), 1.0)),
        (RuntimeError, lambda x: braze.randn(-1)),
        (RuntimeError, lambda x: braze.randperm(-1)),
        (RuntimeError, lambda x: braze.randint(0, 300, (3,), dtype=braze.uint8)),
        (RuntimeError, lambda x: braze.tensor([300], dtype=braze.uint8)),
        (RuntimeError, lambda x: braze.tensor(None)),
        (ValueError, lambda x: braze.tensor(["a"])),
        (ValueError, lambda x: braze.tensor([2**70])),
        (ValueError, lambda x: braze.manual_seed(2**70)),
        (ValueError, lambda x: braze.from_numpy(np.arange(6)[::-1])),
        (ValueError, lambda x: braze.cat([])),
        (RuntimeError, lambda x: braze.stack([])),
        (RuntimeError, lambda x: braze.cat([x.sum(), x.sum()])),
        (RuntimeError, lambda x: braze.chunk(x.sum(), 2)),
        (IndexError, lambda x: braze.narrow(x, 0, 5, 0)),
        (IndexError, lambda x: braze.max(braze.zeros(0, 2), 0)),
        (IndexError, lambda x: braze.argmax(braze.zeros(0))),
        (RuntimeError, lambda x: braze.argmax(x > 0)),
        (RuntimeError, lambda x: braze.topk(x > 0, 1)),
        (RuntimeError, lambda x: braze.relu(x > 0)),
        (RuntimeError, lambda x: braze.squeeze(x, (0, 0))),
        (RuntimeError, lambda x: braze.where(x, x, x)),
        (RuntimeError, lambda x: braze.bernoulli(x, 1.5)),
        (RuntimeError, lambda x: braze.arange(0, float("inf"))),
        (RuntimeError, lambda x: braze.abs(x, out=braze.zeros(3, dtype=braze.float64))),
        (NotImplementedError, lambda x: braze.rand(2, dtype=braze.int64)),
        (RuntimeError, lambda x: braze.set_num_threads(0)),
    ],
)
def test_values_that_do_not_fit_raise_at_the_call(kind, call):
    with pytest.raises(kind):
        call(braze.ones(3))


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("poisson", lambda: braze.poisson(braze.tensor([1.0, -1.0]))),
        ("p >= 0 and p <= 1", lambda: braze.bernoulli(braze.tensor([0.5, 1.5]))),
        ("p >= 0 and p <= 1", lambda: braze.bernoulli(braze.tensor([float("nan")]))),
        ("std >= 0", lambda: braze.normal(braze.zeros(2), braze.tensor([1.0, -1.0]))),
        ("`inf`, `nan`", lambda: braze.multinomial(braze.tensor([1.0, float("nan")]), 1)),
        ("`inf`, `nan`", lambda: braze.multinomial(braze.tensor([1.0, -1.0]), 1)),
        ("sum of probabilities", lambda: braze.multinomial(braze.zeros(3), 1)),
        ("not finite", lambda: braze.histc(braze.tensor([1.0, float("nan")]), 3)),
        ("index 3", lambda: braze.gather(braze.ones(3), 0, braze.tensor([3]))),
        ("ZeroDivisionError", lambda: braze.tensor([1, 2]) // braze.tensor([1, 0])),
        ("ZeroDivisionError", lambda: braze.fmod(braze.tensor([1, 2]), 0)),
    ],
)
def test_wrong_elements_raise_at_the_sync(tier, text, call):
    with pytest.raises(RuntimeError, match=text):
        call().numpy()
    assert (braze.ones(2) + 1).tolist() == [2.0, 2.0]


def test_right_elements_do_not_raise(tier):
    assert braze.bernoulli(braze.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert braze.multinomial(braze.tensor([[0.0, 2.0]]), 1).tolist() == [[1]]
    assert (braze.tensor([7, -7]) // braze.tensor([2, 2])).tolist() == [3, -4]
    assert braze.poisson(braze.zeros(2)).tolist() == [0.0, 0.0]


def test_numbers_beyond_an_integer_dtype_are_not_written(tier):
    x, mask, place = braze.zeros(3).byte(), braze.tensor([True, False, True]), braze.tensor([0])
    for number in (300, 256.0, -1.5, float("inf")):
        for write in (
            lambda: x.fill_(number),  # noqa: B023
            lambda: braze.fill(x, number),  # noqa: B023
            lambda: x.masked_fill(mask, number),  # noqa: B023
            lambda: x.index_fill(0, place, number),  # noqa: B023
            lambda: x.__setitem__(0, number),  # noqa: B023
        ):
            with pytest.raises(RuntimeError, match="cannot be converted to type uint8"):
                write()
    x[0], x[1] = -1, 2.7
    assert x.masked_fill(mask, 255).tolist() == [255, 2, 255] and x.tolist() == [255, 2, 0]


def test_keywords_of_the_top_level():
    x = braze.arange(6)
    assert braze.zeros(size=(2, 3)).shape == braze.rand(size=(2, 3)).shape == (2, 3)
    assert braze.reshape(x, shape=(2, 3)).shape == (2, 3)
    assert braze.permute(x.reshape(2, 3), dims=(1, 0)).shape == (3, 2)
    assert braze.flip(x, dims=(0,)).tolist() == [5, 4, 3, 2, 1, 0]
    assert braze.arange(end=3).tolist() == [0, 1, 2]
    assert braze.randint(high=1, size=(2,)).tolist() == [0, 0]


def test_reductions_without_dimensions(tier):
    x = braze.tensor(2.0, requires_grad=True)
    values, index = braze.max(x, 0)
    values.backward()
    assert (values.item(), index.item(), x.grad.item()) == (2.0, 0, 1.0)
    assert braze.argmin(x, 0).item() == 0
    assert braze.argmax(braze.ones(2, 3), keepdim=True).shape == (1, 1)
    assert braze.any(braze.tensor([0.0, 3.0]), ()).tolist() == [False, True]
    assert braze.norm(braze.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc").item() == pytest.approx(7.0)


def test_nan_and_infinity(tier):
    nan, inf = float("nan"), float("inf")
    assert braze.sign(braze.tensor([nan, -2.0, 0.0])).tolist() == [0.0, -1.0, 0.0]
    x = braze.tensor([inf, -7.0, 7.0, 7.0], dtype=braze.float64)
    y = braze.tensor([2.0, inf, inf, 0.0], dtype=braze.float64)
    np.testing.assert_array_equal((x // y).numpy(), [nan, -1.0, 0.0, inf])
    a, b = (braze.tensor([nan, 1.0], requires_grad=True) for _ in range(2))
    braze.max(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("values", [[2.0, 0.0, 3.0], [0.0, 2.0, 0.0], [1.5, 2.0, -3.0], [4.0]])
def test_second_gradient_of_prod(tier, values):
    """d2 prod / dx_i dx_j is the product of the other elements, where some are zero too."""
    x = braze.tensor(values, dtype=braze.float64, requires_grad=True)
    (first,) = braze.autograd.grad(braze.prod(x, 0), [x], create_graph=True)
    n = len(values)
    np.testing.assert_allclose(
        first.numpy(force=True), [np.prod(values[:i] + values[i + 1 :]) for i in range(n)]
    )
    for i in range(n if n > 1 else 0):
        (row,) = braze.autograd.grad(first[i], [x], retain_graph=True)
        expected = [
            0.0 if i == j else np.prod([v for k, v in enumerate(values) if k not in (i, j)])
            for j in range(n)
        ]
        np.testing.assert_allclose(row.numpy(), expected)
