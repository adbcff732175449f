"""`braze.testing`: what is close, what the messages say, and tensors for tests."""

import numpy as np
import pytest

import braze
from braze.testing import assert_close, default_tolerances, make_tensor

NAN, INF = float("nan"), float("inf")


def t(*values, dtype=braze.float32):
    return braze.tensor(list(values), dtype=dtype)


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        (t(1.0, 2.0), t(1.0, 2.0 + 2e-6), {}),
        (t(1.0), t(1.0009, dtype=braze.float32), {"rtol": 1e-3, "atol": 0}),
        (t(NAN, INF), t(NAN, INF), {"equal_nan": True}),
        (t(1, 2, dtype=braze.int64), t(1, 2, dtype=braze.int64), {}),
        (t(1, 2, dtype=braze.int64), t(1.0, 2.0), {"check_dtype": False}),
        (t(1.0, dtype=braze.bfloat16), t(1.0078125, dtype=braze.bfloat16), {}),
        (1.0, 1.0 + 1e-8, {}),
        (np.float32(1), 1.0, {}),
        (True, np.bool_(True), {}),
        (None, None, {}),
        (np.ones(2), np.ones(2), {}),
        ([t(1.0), {"a": 2}], [t(1.0), {"a": 2}], {}),
        (braze.zeros(0), braze.zeros(0), {}),
        (braze.nn.Parameter(t(1.0)), t(1.0), {}),
    ],
)
def test_close(actual, expected, options):
    assert_close(actual, expected, **options)


DIFFERENT = [
    (
        t(1.0, 2.0, 3.0),
        t(1.0, 2.5, 3.0),
        {},
        "Tensor-likes are not close!\n\nMismatched elements: 1 / 3 (33.3%)\n"
        "Greatest absolute difference: 0.5 at index (1,) (up to 1e-05 allowed)\n"
        "Greatest relative difference: 0.20000000298023224 at index (1,) (up to 1.3e-06 allowed)",
    ),
    (
        braze.tensor([[1, 2], [3, 0]]),
        braze.tensor([[1, 4], [3, 0]]),
        {},
        "Tensor-likes are not equal!\n\nMismatched elements: 1 / 4 (25.0%)\n"
        "Greatest absolute difference: 2 at index (0, 1)\n"
        "Greatest relative difference: 0.5 at index (0, 1)",
    ),
    (
        braze.tensor(1.0),
        braze.tensor(2.0),
        {},
        "Scalars are not close!\n\nExpected 2.0 but got 1.0.\n"
        "Absolute difference: 1.0 (up to 1e-05 allowed)\n"
        "Relative difference: 0.5 (up to 1.3e-06 allowed)",
    ),
    (1, 2, {}, "Scalars are not equal!\n\nExpected 2 but got 1.\n"
     "Absolute difference: 1\nRelative difference: 0.5"),
    (1, 1.0, {"check_dtype": True},
     "The (d)types do not match: <class 'int'> != <class 'float'>."),
    (True, False, {}, "Booleans mismatch: True is not False"),
    (None, 1, {}, "None mismatch: None is not 1"),
    (t(1.0), t(1.0, 2.0), {},
     "The values for attribute 'shape' do not match: braze.Size([1]) != braze.Size([2])."),
    (t(1.0), t(1.0, dtype=braze.float64), {},
     "The values for attribute 'dtype' do not match: braze.float32 != braze.float64."),
    ([1, 2], [1], {}, "The length of the sequences mismatch: 2 != 1"),
    ({"a": 1}, {"b": 1}, {},
     "The keys of the mappings do not match:\nMissing keys in the actual mapping: ['b']\n"
     "Additional keys in the actual mapping: ['a']"),
    ([1, {"a": (1, 2)}], [1, {"a": (1, 3)}], {},
     "Scalars are not equal!\n\nExpected 3 but got 2.\nAbsolute difference: 1\n"
     "Relative difference: 0.3333333333333333\n\nThe failure occurred for item [1]['a'][1]"),
    (t(NAN), t(NAN), {},
     "Tensor-likes are not close!\n\nMismatched elements: 1 / 1 (100.0%)\n"
     "Greatest absolute difference: nan at index (0,) (up to 1e-05 allowed)\n"
     "Greatest relative difference: nan at index (0,) (up to 1.3e-06 allowed)"),
    (t(1.0), t(2.0), {"msg": "mine"}, "mine"),
    (1, 2, {"msg": lambda text: f"head: {text[:7]}"}, "head: Scalars"),
]  # fmt: skip


@pytest.mark.parametrize(("actual", "expected", "options", "text"), DIFFERENT)
def test_messages(actual, expected, options, text):
    with pytest.raises(AssertionError) as caught:
        assert_close(actual, expected, **options)
    assert str(caught.value) == text


def test_wrong_uses():
    with pytest.raises(ValueError, match="'rtol' and 'atol' must be .* but got no atol"):
        assert_close(t(1.0), t(1.0), rtol=1.0)
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close(t(1.0), [1.0])
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close(braze.nn.Parameter(t(1.0)), t(1.0), allow_subclasses=False)
    with pytest.raises(TypeError, match="Expected a braze.Tensor"):
        default_tolerances(1.0)
    assert default_tolerances(braze.float16, t(1.0)) == (0.001, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
@pytest.mark.parametrize("scale", [0, 1e-7, 1e-3, 1e-2, 1])
def test_verdicts_and_messages_are_those_of_torch(dtype, shape, scale):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    for _ in range(4):
        x = rng.integers(0, 9, shape).astype(np.float64)
        y = np.abs(x + scale * rng.normal(size=shape) * (rng.random(shape) < 0.5))
        pairs = [torch.tensor(v).to(getattr(torch, dtype)) for v in (x, y)]
        ours = [braze.from_dlpack(v) for v in pairs]

        def text(check, values):
            try:
                check(*values)
            except AssertionError as error:
                return str(error)
            return "close"

        assert text(assert_close, ours) == text(torch.testing.assert_close, pairs)


@pytest.mark.parametrize("dtype", [d.public_name for d in braze.ir.dtypes.ALL])
def test_made_tensors(dtype):
    dtype = getattr(braze, dtype)
    braze.manual_seed(0)
    x = make_tensor(20, 50, dtype=dtype)
    if dtype.is_complex:
        assert x.dtype is dtype and x.shape == (20, 50)
        parts = braze.view_as_real(x).numpy()
        assert -9 <= parts.min() < -8 and 8 < parts.max() <= 9
        leaf = make_tensor((2,), dtype=dtype, requires_grad=True)
        assert leaf.is_leaf and leaf.requires_grad
        return
    values = x.double().numpy()
    low, high = (0, 1) if dtype is braze.bool else (-9, 9)
    low = 0 if dtype.kind == "uint" else low
    assert x.dtype is dtype and x.shape == (20, 50) and not x.requires_grad
    assert low <= values.min() < low + 1 and high - 1 < values.max() <= high
    if dtype is not braze.bool:
        limited = make_tensor((100,), dtype=dtype, low=3, high=5).double().numpy()
        assert 3 <= limited.min() and limited.max() <= (5 if dtype.is_floating_point else 4)
        assert not (make_tensor((500,), dtype=dtype, exclude_zero=True) == 0).any()
    if dtype.is_floating_point:
        leaf = make_tensor((2,), dtype=dtype, requires_grad=True)
        assert leaf.is_leaf and leaf.requires_grad


def test_made_tensors_need_sensible_limits():
    for limits, text in (
        ({"low": NAN}, "NaN"),
        ({"low": 2, "high": 1}, "less than"),
        ({"low": 300, "high": 400}, "only supports"),
    ):
        with pytest.raises(ValueError, match=text):
            make_tensor((2,), dtype=braze.uint8, **limits)
