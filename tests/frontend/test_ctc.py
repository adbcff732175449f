"""ctc_loss: against a sum over all paths, its gradients, and what it refuses."""

import itertools

import numpy as np
import pytest

import braze
from braze import nn
from braze.capture import tracer
from braze.nn import functional as F

pytestmark = pytest.mark.usefixtures("interpret")


def joined(path, blank):
    """Repeated labels once, then without blanks."""
    labels = [k for k, _ in itertools.groupby(path)]
    return [k for k in labels if k != blank]


def by_paths(log_probs, target, blank):
    """-log of the probability of all paths that make the target."""
    steps, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        if joined(path, blank) == list(target):
            total += np.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return -np.log(total) if total else np.inf


def scores(steps=5, count=3, classes=3, seed=0):
    x = np.random.default_rng(seed).normal(size=(steps, count, classes))
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


TARGETS = np.array([[1, 2, 1], [2, 2, 0], [1, 0, 0]])
SIZES, STEPS = [3, 2, 1], [5, 4, 3]


def test_it_is_the_sum_over_all_paths():
    x = scores()
    wanted = [
        by_paths(x[:n, i], TARGETS[i, :k], 0)
        for i, (n, k) in enumerate(zip(STEPS, SIZES, strict=True))
    ]
    padded = F.ctc_loss(
        braze.tensor(x), braze.tensor(TARGETS), braze.tensor(STEPS), braze.tensor(SIZES),
        reduction="none",
    )  # fmt: skip
    np.testing.assert_allclose(padded.numpy(), wanted, rtol=1e-12)
    flat = braze.tensor([1, 2, 1, 2, 2, 1])
    run_on = F.ctc_loss(braze.tensor(x), flat, tuple(STEPS), tuple(SIZES), reduction="none")
    np.testing.assert_allclose(run_on.numpy(), wanted, rtol=1e-12)
    mean = F.ctc_loss(braze.tensor(x), flat, tuple(STEPS), tuple(SIZES))
    assert float(mean) == pytest.approx(np.mean(np.array(wanted) / SIZES))
    other = F.ctc_loss(braze.tensor(x[:, :1]), braze.tensor([[0, 1]]), [5], [2], 2, "sum")
    assert float(other) == pytest.approx(by_paths(x[:, 0], [0, 1], 2))


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_gradients_of_the_scores(tier):
    raw = braze.tensor(np.random.default_rng(1).normal(size=(5, 3, 3)), requires_grad=True)
    rest = (braze.tensor(TARGETS), braze.tensor(STEPS), braze.tensor([3, 2, 0]))

    def loss(x):
        return F.ctc_loss(F.log_softmax(x, 2), *rest, reduction="none")

    with braze.config.using(tier=tier):
        assert braze.autograd.gradcheck(loss, (raw,))
        if tier == "interpret":
            assert braze.autograd.gradgradcheck(loss, (raw,))


@pytest.mark.parametrize(("lengths", "waits"), [(list, False), (braze.tensor, True)])
def test_lengths_of_targets_in_a_row_are_read_only_from_a_tensor(lengths, waits):
    x, flat = braze.tensor(scores()), braze.tensor([1, 2, 1, 2, 2, 1])
    steps, sizes = lengths(STEPS), lengths(SIZES)
    x = x * 1.0
    before = tracer().pending
    F.ctc_loss(x, flat, steps, sizes)
    assert (tracer().pending is not before) == waits


def test_long_sequences_in_single_precision():
    x = scores(300, 2, 20).astype(np.float32)
    y = np.random.default_rng(2).integers(1, 20, (2, 60))
    with braze.config.using(tier="compile"):
        single = F.ctc_loss(braze.tensor(x), braze.tensor(y), [300, 250], [60, 9])
        double = F.ctc_loss(braze.tensor(x).double(), braze.tensor(y), [300, 250], [60, 9])
    assert float(single) == pytest.approx(float(double), rel=1e-5)


def test_targets_that_do_not_fit_are_infinite_or_nothing():
    x = braze.tensor(scores(), requires_grad=True)
    steps = braze.tensor([2, 4, 3])  # the first one has three labels
    rest = (braze.tensor(TARGETS), steps, braze.tensor(SIZES))
    losses = F.ctc_loss(x, *rest, reduction="none")
    assert np.isinf(losses.detach().numpy()).tolist() == [True, False, False]
    losses.sum().backward()
    assert np.isnan(x.grad.numpy()[:2, 0]).all() and not x.grad.numpy()[2:, 0].any()
    assert np.isfinite(x.grad.numpy()[:, 1:]).all()
    x.grad = None
    kept = nn.CTCLoss(reduction="none", zero_infinity=True)(x, *rest)
    kept.sum().backward()
    assert kept.tolist()[0] == 0 and not x.grad.numpy()[:, 0].any() and x.grad.numpy()[:, 1].any()


def test_what_it_refuses():
    x, y = braze.tensor(scores()), braze.tensor(TARGETS)
    with pytest.raises(RuntimeError, match="Expected input_lengths to have value at most 5"):
        F.ctc_loss(x, y, [6, 4, 3], SIZES)
    with pytest.raises(RuntimeError, match="target_lengths must be of size batch_size, 3"):
        F.ctc_loss(x, y, STEPS, [3, 2])
    with pytest.raises(TypeError, match="both lengths must be tensors"):
        F.ctc_loss(x, y, braze.tensor(STEPS), SIZES)
    with pytest.raises(RuntimeError, match="blank must be in label range"):
        F.ctc_loss(x, y, STEPS, SIZES, blank=3)
    with pytest.raises(IndexError, match=r"\[ctc_loss\] index 6 is out of range"):
        F.ctc_loss(x, y + 5, STEPS, SIZES).item()
    with pytest.raises(RuntimeError, match="Expected target_lengths to have value at most 3"):
        F.ctc_loss(x, y, braze.tensor(STEPS), braze.tensor([4, 2, 1])).item()
