"""Losses: against their formulas, reductions old and new, and what they refuse."""

import itertools
import warnings

import numpy as np
import pytest

import braze
from braze import nn
from braze.nn import functional as F

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


X, Y = draw(4, 5), draw(4, 5, seed=1)
D = X - Y
LABELS = np.array([0, 4, 2, 1])
SIGNS = np.sign(Y)


def soft(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def multi_margin(p, margin, weight):
    out = []
    for row, y in zip(X, LABELS, strict=True):
        terms = [max(0, margin - row[y] + row[i]) ** p for i in range(5) if i != y]
        out.append(weight[y] * sum(terms) / 5)
    return np.array(out)


def multilabel_margin(rows):
    out = []
    for x, row in zip(X, rows, strict=True):
        right = list(itertools.takewhile(lambda k: k >= 0, row))
        wrong = [k for k in range(5) if k not in right]
        out.append(sum(max(0, 1 - x[a] + x[b]) for a in right for b in wrong) / 5)
    return np.array(out)


ROWS = np.array([[0, 2, -1, 1, 1], [-1, 0, 0, 0, 0], [4, 3, 2, 1, 0], [1, 1, -1, 2, 2]])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1, 1.5])
RATE = np.exp(X)
LOSSES = {
    "l1_loss": ((Y,), {}, np.abs(D)),
    "mse_loss": ((Y,), {}, D**2),
    "huber_loss": ((Y,), {"delta": 0.5},
                   np.where(np.abs(D) < 0.5, D**2 / 2, 0.5 * (np.abs(D) - 0.25))),
    "smooth_l1_loss": ((Y,), {"beta": 2.0},
                       np.where(np.abs(D) < 2, D**2 / 4, np.abs(D) - 1)),
    "soft_margin_loss": ((SIGNS,), {}, np.log1p(np.exp(-SIGNS * X))),
    "hinge_embedding_loss": ((SIGNS,), {"margin": 0.7},
                             np.where(SIGNS > 0, X, np.maximum(0, 0.7 - X))),
    "poisson_nll_loss": ((np.abs(Y),), {}, RATE - np.abs(Y) * X),
    "multi_margin_loss": ((LABELS, 2, 0.8, WEIGHT), {}, multi_margin(2, 0.8, WEIGHT)),
    "multilabel_margin_loss": ((ROWS,), {}, multilabel_margin(ROWS)),
    "multilabel_soft_margin_loss": (
        ((Y > 0).astype(float),), {},
        np.log1p(np.exp(-np.where(Y > 0, X, -X))).mean(-1),
    ),
    "gaussian_nll_loss": ((Y, RATE), {}, (np.log(RATE) + D**2 / RATE) / 2),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_reductions(name):
    operands, settings, wanted = LOSSES[name]
    rest = [braze.tensor(x) if isinstance(x, np.ndarray) else x for x in operands]
    for kind, expected in (("none", wanted), ("sum", wanted.sum()), ("mean", wanted.mean())):
        found = getattr(F, name)(braze.tensor(X), *rest, reduction=kind, **settings)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    operands, settings, _ = LOSSES[name]
    rest = [braze.tensor(x) if isinstance(x, np.ndarray) else x for x in operands]
    x = braze.tensor(X, requires_grad=True)
    assert braze.autograd.gradcheck(lambda x: getattr(F, name)(x, *rest, **settings), (x,))


def test_compiled_as_interpreted():
    def all_of_them():
        found = []
        for name, (operands, settings, _) in LOSSES.items():
            x = braze.tensor(X, requires_grad=True)
            rest = [braze.tensor(y) if isinstance(y, np.ndarray) else y for y in operands]
            getattr(F, name)(x, *rest, **settings).backward()
            found.append(x.grad)
        return [g.numpy() for g in found]

    interpreted = all_of_them()
    with braze.config.using(tier="compile"):
        for one, two in zip(all_of_them(), interpreted, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)


def test_cross_entropy_of_classes_and_probabilities():
    logs = np.log(soft(X))
    x = braze.tensor(X)
    rows = -logs[np.arange(4), LABELS]
    weights = WEIGHT[LABELS]
    found = F.cross_entropy(x, braze.tensor(LABELS), braze.tensor(WEIGHT))
    assert float(found) == pytest.approx((rows * weights).sum() / weights.sum())
    found = F.cross_entropy(x, braze.tensor(LABELS.astype(np.uint8)), ignore_index=4)
    assert float(found) == pytest.approx(rows[[0, 2, 3]].mean())
    target = soft(Y)
    smooth = 0.8 * target + 0.2 / 5
    found = F.cross_entropy(x, braze.tensor(target), label_smoothing=0.2, reduction="sum")
    assert float(found) == pytest.approx(-(smooth * logs).sum())
    w = draw(5, 3, seed=5)
    found = F.linear_cross_entropy(braze.tensor(draw(4, 3)), braze.tensor(w), braze.tensor(LABELS))
    scores = np.log(soft(draw(4, 3) @ w.T))
    assert float(found) == pytest.approx(-scores[np.arange(4), LABELS].mean())


def test_l1_of_complex_numbers_and_mixed_dtypes():
    z = braze.tensor(X + 1j * Y, requires_grad=True)
    loss = F.l1_loss(z, braze.zeros(4, 5, dtype=braze.float64))
    loss.backward()
    assert loss.item() == pytest.approx(np.abs(X + 1j * Y).mean())
    assert F.mse_loss(braze.ones(2), braze.ones(2, dtype=braze.float64)).dtype is braze.float64
    assert F.l1_loss(braze.tensor([1, 2]), braze.tensor([3, 5]), reduction="sum").item() == 5


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ((False, None), "sum"),
        ((None, False), "none"),
        ((True, True), "mean"),
        ((None, True), "mean"),
    ],
)
def test_the_early_booleans_warn(flags, kind):
    with pytest.warns(UserWarning, match=f"please use reduction='{kind}' instead") as caught:
        assert nn.MSELoss(*flags).reduction == kind
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="size_average and reduce"):
        size = F.l1_loss(braze.ones(2), braze.zeros(2), *flags).shape
    assert size == ((2,) if kind == "none" else ())


def test_other_warnings():
    with pytest.warns(UserWarning, match="Using a target size"):
        F.mse_loss(braze.ones(2, 3), braze.ones(3))
    with pytest.warns(UserWarning, match="'batchmean'"):
        F.kl_div(braze.ones(2), braze.ones(2))
    with pytest.warns(FutureWarning, match="NLLLoss2d"):
        nn.NLLLoss2d()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.mse_loss(braze.ones(2, 3), braze.ones(2, 3))
        F.kl_div(braze.ones(2), braze.ones(2), reduction="batchmean")
        braze.kl_div(braze.ones(2), braze.ones(2), 1)


def test_what_they_refuse():
    x, y = braze.tensor(X), braze.tensor(LABELS)
    with pytest.raises(ValueError, match=r"Expected input batch_size \(4\) to match .* \(3\)"):
        F.nll_loss(x, y[:3])
    with pytest.raises(RuntimeError, match="expected target dtype to be Long or Byte"):
        F.cross_entropy(x, y.int())
    with pytest.raises(NotImplementedError, match=r"\[mse_loss\] not implemented for"):
        F.mse_loss(y, y)
    with pytest.raises(ValueError, match="Weights and input must have the same size"):
        F.mse_loss(x, x, weight=braze.ones(5))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        F.binary_cross_entropy_with_logits(x, x, braze.ones(2, 4, 5, dtype=braze.float64))
    with pytest.raises(RuntimeError, match="target out of range"):
        F.multi_margin_loss(x, y + 1).item()
    with pytest.raises(ValueError, match="var has negative entry/entries"):
        F.gaussian_nll_loss(x, x, x).item()
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
        F.binary_cross_entropy(x, x).item()


def test_adaptive_softmax_is_a_distribution():
    braze.manual_seed(0)
    layer = nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0).double()
    x, y = braze.tensor(draw(6, 8)), braze.tensor([0, 2, 3, 6, 7, 11])
    logs = layer.log_prob(x)
    np.testing.assert_allclose(logs.exp().sum(1).detach().numpy(), 1, rtol=1e-12)
    output, loss = layer(x, y)
    picked = logs.detach().numpy()[np.arange(6), y.numpy()]
    np.testing.assert_allclose(output.detach().numpy(), picked, rtol=1e-12)
    assert loss.item() == pytest.approx(-picked.mean())
    assert layer.predict(x).tolist() == logs.detach().numpy().argmax(1).tolist()
    with pytest.raises(RuntimeError, match=r"Target values should be in \[0, 11\]"):
        layer(x, y + 1).loss.item()
