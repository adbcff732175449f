"""Every criterion of `legacy.nn`, with an input, a target and what must come out of them."""

import numpy as np
from legacy_cases import IMAGES, PAIR, POSITIVE, RNG, ROWS, X

import braze
from braze.legacy import nn
from braze.nn import functional as F

LABELS = braze.tensor([2, 0, 3])
SIGNS = braze.tensor([1.0, -1.0, 1.0], dtype=braze.float64)
LOGS, CHANCES = F.log_softmax(X, 1), X.sigmoid()
CRITERIONS = {
    "AbsCriterion": (nn.AbsCriterion(), X, ROWS, lambda x, y: F.l1_loss(x, y)),
    "MSECriterion": (nn.MSECriterion(False), X, ROWS, lambda x, y: F.mse_loss(x, y, False)),
    "WeightedMSECriterion": (
        nn.WeightedMSECriterion(X[0].clone()),
        X,
        ROWS,
        lambda x, y: F.mse_loss(x, y * X[0]),
    ),
    "SmoothL1Criterion": (nn.SmoothL1Criterion(), X * 3, ROWS, F.smooth_l1_loss),
    "BCECriterion": (
        nn.BCECriterion(POSITIVE[0].clone()),
        CHANCES,
        (ROWS > 0).double(),
        lambda x, y: F.binary_cross_entropy(x, y, POSITIVE[0]),
    ),
    "ClassNLLCriterion": (
        nn.ClassNLLCriterion(POSITIVE[0].clone()),
        LOGS,
        LABELS,
        lambda x, y: F.nll_loss(x, y, POSITIVE[0]),
    ),
    "SpatialClassNLLCriterion": (
        nn.SpatialClassNLLCriterion(),
        F.log_softmax(IMAGES, 1),
        braze.tensor(RNG.integers(0, 3, (2, 6, 5))),
        F.nll_loss,
    ),
    "CrossEntropyCriterion": (nn.CrossEntropyCriterion(), X, LABELS, F.cross_entropy),
    "ClassSimplexCriterion": (
        nn.ClassSimplexCriterion(4).double(),
        X,
        LABELS,
        lambda x, y: F.mse_loss(x, nn.ClassSimplexCriterion(4).double().simplex.to(y.device)[y]),
    ),
    "DistKLDivCriterion": (
        nn.DistKLDivCriterion(),
        LOGS,
        F.softmax(ROWS, 1),
        lambda x, y: F.kl_div(x, y),
    ),
    "HingeEmbeddingCriterion": (
        nn.HingeEmbeddingCriterion(0.7),
        POSITIVE[:, 0].clone(),
        SIGNS,
        lambda x, y: F.hinge_embedding_loss(x, y, 0.7),
    ),
    "L1HingeEmbeddingCriterion": (
        nn.L1HingeEmbeddingCriterion(9),
        PAIR,
        -1,
        lambda x, y: 9 - (x[0] - x[1]).abs().sum(),
    ),
    "CosineEmbeddingCriterion": (
        nn.CosineEmbeddingCriterion(0.1),
        PAIR,
        SIGNS,
        lambda x, y: F.cosine_embedding_loss(*x, y, 0.1),
    ),
    "MarginCriterion": (
        nn.MarginCriterion(0.5),
        X,
        SIGNS[:, None],
        lambda x, y: (0.5 - x * y).clamp(min=0).mean(),
    ),
    "MarginRankingCriterion": (
        nn.MarginRankingCriterion(0.5),
        PAIR,
        SIGNS[:, None],
        lambda x, y: F.margin_ranking_loss(*x, y, 0.5),
    ),
    "SoftMarginCriterion": (
        nn.SoftMarginCriterion(),
        X,
        SIGNS[:, None],
        lambda x, y: np.log1p(np.exp(-(x * y).numpy())).mean(),
    ),
    "MultiMarginCriterion": (
        nn.MultiMarginCriterion(2),
        X,
        LABELS,
        lambda x, y: (
            sum(
                max(0, 1 - x[n, y[n]].item() + x[n, c].item()) ** 2
                for n in range(3)
                for c in range(4)
                if c != y[n].item()
            )
            / 12
        ),
    ),
    "MultiLabelMarginCriterion": (
        nn.MultiLabelMarginCriterion(),
        X[0].clone(),
        braze.tensor([3, 0, -1, 1]),
        lambda x, y: sum(max(0, 1 - (x[j] - x[i]).item()) for j in (3, 0) for i in (1, 2)) / 4,
    ),
    "MultiLabelSoftMarginCriterion": (
        nn.MultiLabelSoftMarginCriterion(),
        X,
        (ROWS > 0).double(),
        F.binary_cross_entropy_with_logits,
    ),
    "L1Cost": (nn.L1Cost(), X, None, lambda x, y: x.abs().sum()),
}
