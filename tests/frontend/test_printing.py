"""How tensors print: fixed texts, and the same texts as PyTorch where it is installed."""

import numpy as np
import pytest

import braze
from braze.printing import printoptions


@pytest.fixture(autouse=True)
def default_options():
    braze.set_printoptions(profile="default")
    yield
    braze.set_printoptions(profile="default")


TEXTS = [
    (lambda: braze.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
    (lambda: braze.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    (lambda: braze.tensor([1, -20]), "tensor([  1, -20])"),
    (lambda: braze.tensor([True, False]), "tensor([ True, False])"),
    (lambda: braze.tensor(3.14159), "tensor(3.1416)"),
    (lambda: braze.tensor(7), "tensor(7)"),
    (lambda: braze.tensor([1.0], dtype=braze.float64), "tensor([1.], dtype=braze.float64)"),
    (lambda: braze.tensor([1, 2], dtype=braze.int32), "tensor([1, 2], dtype=braze.int32)"),
    (lambda: braze.tensor([1.5], dtype=braze.bfloat16), "tensor([1.5000], dtype=braze.bfloat16)"),
    (lambda: braze.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: braze.tensor([1e9, 2e9]), "tensor([1.0000e+09, 2.0000e+09])"),
    (lambda: braze.tensor([float("nan"), 1.0]), "tensor([nan, 1.])"),
    (
        lambda: braze.tensor([float("-inf"), 1.5, float("nan")]),
        "tensor([  -inf, 1.5000,    nan])",
    ),
    (lambda: braze.zeros(0), "tensor([])"),
    (lambda: braze.zeros(0, 3), "tensor([], size=(0, 3))"),
    (lambda: braze.zeros(0, dtype=braze.int64), "tensor([], dtype=braze.int64)"),
    (lambda: braze.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
    (
        lambda: braze.ones(1, requires_grad=True) * 2,
        "tensor([2.], grad_fn=<MulBackward0>)",
    ),
    (lambda: braze.tensor([[1.0, -2.0], [3.0, 4.25]]),
     "tensor([[ 1.0000, -2.0000],\n        [ 3.0000,  4.2500]])"),
    (lambda: braze.arange(8).reshape(2, 2, 2),
     "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])"),
    (lambda: braze.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (
        lambda: braze.arange(2000).reshape(1000, 2).float(),
        "tensor([[0.0000e+00, 1.0000e+00],\n        [2.0000e+00, 3.0000e+00],\n"
        "        [4.0000e+00, 5.0000e+00],\n        ...,\n"
        "        [1.9940e+03, 1.9950e+03],\n        [1.9960e+03, 1.9970e+03],\n"
        "        [1.9980e+03, 1.9990e+03]])",
    ),
    (
        lambda: braze.arange(25),
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24])",
    ),
    (
        lambda: braze.full((11,), 1.25, dtype=braze.float64),
        "tensor([1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500,\n"
        "        1.2500, 1.2500], dtype=braze.float64)",
    ),
    (
        lambda: braze.full((7,), 1.25, dtype=braze.float64),
        "tensor([1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500],\n"
        "       dtype=braze.float64)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), TEXTS, ids=[text[:40] for _, text in TEXTS])
def test_texts(make, text):
    assert repr(make()) == text
    assert str(make()) == text


@pytest.mark.parametrize(
    ("options", "make", "text"),
    [
        ({"precision": 2}, lambda: braze.tensor([1.12345]), "tensor([1.12])"),
        ({"sci_mode": True}, lambda: braze.tensor([1.0]), "tensor([1.0000e+00])"),
        ({"sci_mode": False}, lambda: braze.tensor([1e-5, 1.0]), "tensor([0.0000, 1.0000])"),
        ({"threshold": 5}, lambda: braze.arange(10), "tensor([0, 1, 2,  ..., 7, 8, 9])"),
        (
            {"threshold": 5, "edgeitems": 1},
            lambda: braze.arange(10),
            "tensor([0,  ..., 9])",
        ),
        ({"edgeitems": 0, "threshold": 1}, lambda: braze.arange(3), "tensor([...], size=(3,))"),
        ({"linewidth": 14}, lambda: braze.arange(4), "tensor([0, 1,\n        2, 3])"),
        ({"profile": "short"}, lambda: braze.tensor([0.5, 1.25]), "tensor([0.50, 1.25])"),
    ],
)
def test_options(options, make, text):
    with printoptions(**options):
        printed = repr(make())
    assert printed == text
    assert braze.get_printoptions() == {
        "precision": 4,
        "threshold": 1000,
        "edgeitems": 3,
        "linewidth": 80,
        "sci_mode": None,
    }


def test_profiles_and_wrong_ones():
    braze.set_printoptions(profile="full")
    assert "..." not in repr(braze.arange(1001))
    with pytest.raises(ValueError, match="profile"):
        braze.set_printoptions(profile="long")


def test_names_of_subclasses_and_sizes():
    class Mine(braze.Tensor):
        pass

    assert repr(braze.zeros(1).as_subclass(Mine)) == "Mine([0.])"
    assert repr(braze.nn.Parameter(braze.ones(1))) == (
        "Parameter containing:\ntensor([1.], requires_grad=True)"
    )
    assert str(braze.float32) == "braze.float32"
    assert f"{braze.tensor(0.123456):.2f}" == "0.12"
    assert repr(braze.zeros(2, 3).shape) == "braze.Size([2, 3])"
    braze.set_default_dtype(braze.float64)
    try:
        assert repr(braze.ones(1)) == "tensor([1.])"
        assert repr(braze.ones(1, dtype=braze.float32)) == "tensor([1.], dtype=braze.float32)"
    finally:
        braze.set_default_dtype(braze.float32)


SHAPES = [(), (1,), (40,), (1001,), (3, 4), (30, 40), (2, 3, 4), (2, 1, 3, 2), (0, 3), (7, 200)]
VALUES = {
    "normal": lambda rng, x: x,
    "whole": lambda rng, x: np.round(x * 10),
    "large": lambda rng, x: x * 1e5,
    "small": lambda rng, x: x * 1e-5,
    "nan": lambda rng, x: np.where(rng.random(x.shape) < 0.3, np.nan, x),
    "inf": lambda rng, x: np.where(rng.random(x.shape) < 0.3, -np.inf, np.round(x)),
    "zero": lambda rng, x: x * 0,
    "spread": lambda rng, x: x * 10.0 ** rng.integers(-5, 5, size=x.shape),
}
OPTIONS = [
    {},
    {"profile": "short"},
    {"profile": "full", "linewidth": 40},
    {"profile": "default", "precision": 2},
    {"profile": "default", "sci_mode": True},
    {"profile": "default", "sci_mode": False},
    {"profile": "default", "edgeitems": 1, "threshold": 5},
    {"profile": "default", "edgeitems": 0, "threshold": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8"])
def test_texts_are_those_of_torch(options, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    torch.set_printoptions(**options)
    braze.set_printoptions(**options)
    try:
        for shape in SHAPES:
            for change in VALUES.values():
                x = change(rng, rng.normal(size=shape))
                if "float" not in dtype:
                    x = np.clip(np.nan_to_num(np.abs(x) * 10), 0, 100)
                theirs = torch.tensor(x).to(getattr(torch, dtype))
                ours = braze.tensor(theirs.double().numpy(), dtype=getattr(braze, dtype))
                assert repr(ours) == repr(theirs).replace("torch.", "braze.")
    finally:
        torch.set_printoptions(profile="default")
