"""Every class of `legacy.nn`: outputs against NumPy or the functions of `nn`, gradients against
differences, and what modules and containers share."""

import copy
import pickle

import numpy as np
import pytest

import braze
from braze import legacy
from braze.legacy import nn
from braze.nn import functional as F

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def interpret():
    with braze.config.using(tier="interpret"):
        yield
        braze.sync()


def numbers(*shape, low=-1.0, high=1.0):
    return braze.tensor(RNG.uniform(low, high, shape))


def whole(high, *shape):
    return braze.tensor(RNG.integers(0, high, shape))


def distinct(*shape):
    """Numbers that are far enough apart for differences of a maximum."""
    count = int(np.prod(shape))
    return braze.tensor(RNG.permutation(count).reshape(shape) / count - 0.45)


def sequential(*modules):
    made = nn.Sequential()
    for module in modules:
        made.add(module)
    return made


def added(container, *modules):
    for module in modules:
        container.add(module)
    return container


# A module, its input, and what the output must be (a function of module and input).
X, ROWS = numbers(3, 4), numbers(3, 4)
IMAGES, VOLUME = distinct(2, 3, 6, 5), distinct(2, 2, 4, 5, 6)
POSITIVE, FRAMES = numbers(3, 4, low=0.5, high=2.0), distinct(7, 3)
PAIR = [X, ROWS]
CONNECTIONS = braze.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]])


def cosines(x, y):
    return (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))


def mapped(m, x):
    planes = m.weight.numpy()
    weight = np.zeros((2, 3, 2, 3))
    weight[0, 0], weight[0, 2], weight[1, 1] = planes
    return F.conv2d(x, braze.tensor(weight), m.bias)


def local(m, x):
    x, w, b = x.numpy(), m.weight.numpy(), m.bias.numpy()
    out = np.zeros((x.shape[0], w.shape[2], w.shape[0], w.shape[1]))
    for i, j in np.ndindex(w.shape[:2]):
        window = x[:, :, i : i + 2, 2 * j : 2 * j + 3]
        out[:, :, i, j] = np.einsum("nchw,ochw->no", window, w[i, j]) + b[:, i, j]
    return out


def temporal(m, x):
    x, w = x.numpy(), m.weight.numpy()
    windows = [x[i : i + 2].ravel() for i in range(0, x.shape[0] - 1, 2)]
    return np.stack(windows) @ w.T + m.bias.numpy()


def lrn(m, x):
    x = x.numpy()
    squares = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(3))
    return x / (2 + 0.1 / 3 * sums) ** 0.75


def neighbourhood_means(x, size):
    """Means over squares, of all planes, of what lies in the image."""
    out = np.zeros((x.shape[0], 1, *x.shape[2:]))
    half = size // 2
    for i, j in np.ndindex(x.shape[2:]):
        rows, columns = slice(max(i - half, 0), i + half + 1), slice(max(j - half, 0), j + half + 1)
        out[:, 0, i, j] = x[:, :, rows, columns].mean((1, 2, 3))
    return out


def inside(shape, size):
    """The part of each neighbourhood that lies in the image."""
    padded = np.pad(np.ones(shape), size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return windows.mean((2, 3))


def subtractive(m, x):
    return x.numpy() - neighbourhood_means(x.numpy(), 3)


def divisive(m, x):
    x, part = np.asarray(x), inside(x.shape[2:], 3)
    deviation = np.sqrt(neighbourhood_means(x**2, 3) * part) / part
    return x / np.where(deviation > 1e-4, deviation, 1e-4)


MODULES = {
    "Abs": (nn.Abs(), X, lambda m, x: abs(x.numpy())),
    "AddConstant": (nn.AddConstant(3), X, lambda m, x: x.numpy() + 3),
    "MulConstant": (nn.MulConstant(3), X, lambda m, x: x.numpy() * 3),
    "HardTanh": (nn.HardTanh(-0.5, 0.25), X, lambda m, x: x.numpy().clip(-0.5, 0.25)),
    "Clamp": (nn.Clamp(-0.5, 0.25), X, lambda m, x: x.numpy().clip(-0.5, 0.25)),
    "ReLU6": (nn.ReLU6(), X * 9, lambda m, x: x.numpy().clip(0, 6)),
    "ReLU": (nn.ReLU(), X, lambda m, x: x.numpy().clip(0)),
    "Threshold": (nn.Threshold(0.2, 7), X, lambda m, x: np.where(x.numpy() > 0.2, x.numpy(), 7)),
    "ELU": (nn.ELU(0.5), X, lambda m, x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "LeakyReLU": (nn.LeakyReLU(0.2), X, lambda m, x: np.where(x > 0, x, 0.2 * x.numpy())),
    "RReLU": (nn.RReLU(0.1, 0.3), X, lambda m, x: np.where(x > 0, x, 0.2 * x.numpy())),
    "PReLU": (nn.PReLU(4), X, lambda m, x: np.where(x > 0, x, 0.25 * x.numpy())),
    "HardShrink": (nn.HardShrink(0.3), X, lambda m, x: np.where(abs(x.numpy()) > 0.3, x, 0)),
    "SoftShrink": (
        nn.SoftShrink(0.3),
        X,
        lambda m, x: np.sign(x) * (abs(x.numpy()) - 0.3).clip(0),
    ),
    "SoftPlus": (nn.SoftPlus(2), X, lambda m, x: np.log1p(np.exp(2 * x.numpy())) / 2),
    "Exp": (nn.Exp(), X, lambda m, x: np.exp(x)),
    "Log": (nn.Log(), POSITIVE, lambda m, x: np.log(x)),
    "LogSigmoid": (nn.LogSigmoid(), X, lambda m, x: -np.log1p(np.exp(-x.numpy()))),
    "Power": (nn.Power(3), X, lambda m, x: x.numpy() ** 3),
    "Sigmoid": (nn.Sigmoid(), X, lambda m, x: 1 / (1 + np.exp(-x.numpy()))),
    "SoftSign": (nn.SoftSign(), X, lambda m, x: x.numpy() / (1 + abs(x.numpy()))),
    "Sqrt": (nn.Sqrt(), POSITIVE, lambda m, x: np.sqrt(x)),
    "Square": (nn.Square(), X, lambda m, x: x.numpy() ** 2),
    "Tanh": (nn.Tanh(), X, lambda m, x: np.tanh(x)),
    "TanhShrink": (nn.TanhShrink(), X, lambda m, x: x.numpy() - np.tanh(x)),
    "SoftMax": (nn.SoftMax(), X, lambda m, x: F.softmax(x, 1)),
    "SoftMin": (nn.SoftMin(), X[0], lambda m, x: F.softmax(-x, 0)),
    "LogSoftMax": (nn.LogSoftMax(), X, lambda m, x: F.log_softmax(x, 1)),
    "SpatialSoftMax": (nn.SpatialSoftMax(), IMAGES[0], lambda m, x: F.softmax(x, 0)),
    "Identity": (nn.Identity(), X, lambda m, x: x),
    "Contiguous": (nn.Contiguous(), X, lambda m, x: x),
    "Copy": (nn.Copy(braze.DoubleTensor, braze.DoubleTensor), X, lambda m, x: x),
    "Dropout": (nn.Dropout(0.4), X, lambda m, x: x),
    "SpatialDropout": (nn.SpatialDropout(0.4), IMAGES, lambda m, x: x),
    "VolumetricDropout": (nn.VolumetricDropout(0.4), VOLUME, lambda m, x: x),
    "Sum": (nn.Sum(1), X, lambda m, x: x.numpy().sum(1)),
    "Mean": (nn.Mean(-1), X, lambda m, x: x.numpy().mean(1)),
    "Max": (nn.Max(1), distinct(3, 4), lambda m, x: x.numpy().max(1)),
    "Min": (nn.Min(0), distinct(3, 4), lambda m, x: x.numpy().min(0)),
    # Shapes
    "Reshape": (nn.Reshape(2, 2), X, lambda m, x: x.numpy().reshape(3, 2, 2)),
    "View": (nn.View(-1, 6), X, lambda m, x: x.numpy().reshape(2, 6)),
    "Replicate": (nn.Replicate(2, 1), X, lambda m, x: np.stack([x, x], 1)),
    "Squeeze": (nn.Squeeze(1), numbers(3, 1, 4), lambda m, x: x.numpy()[:, 0]),
    "Unsqueeze": (nn.Unsqueeze(1), X, lambda m, x: x.numpy()[:, None]),
    "Transpose": (nn.Transpose((0, 1), (1, 2)), numbers(2, 3, 4), lambda m, x: x.permute(1, 2, 0)),
    "Select": (nn.Select(1, -1), X, lambda m, x: x.numpy()[:, -1]),
    "Narrow": (nn.Narrow(1, 1, -2), X, lambda m, x: x.numpy()[:, 1:3]),
    "Padding": (
        nn.Padding(1, 2, 9, 1),
        X,
        lambda m, x: np.insert(x.numpy(), [3, 3], 9, 1),
    ),
    "SpatialZeroPadding": (
        nn.SpatialZeroPadding(1, 2, -1, 0),
        IMAGES,
        lambda m, x: np.pad(x.numpy()[:, :, 1:], ((0, 0), (0, 0), (0, 0), (1, 2))),
    ),
    "SpatialReflectionPadding": (
        nn.SpatialReflectionPadding(1, 2),
        IMAGES,
        lambda m, x: np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 2)), "reflect"),
    ),
    "SpatialReplicationPadding": (
        nn.SpatialReplicationPadding(2),
        IMAGES,
        lambda m, x: np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), "edge"),
    ),
    "VolumetricReplicationPadding": (
        nn.VolumetricReplicationPadding(1, 0, 2),
        VOLUME,
        lambda m, x: np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 1), (1, 0)), "edge"),
    ),
    "SpatialUpSamplingNearest": (
        nn.SpatialUpSamplingNearest(2),
        IMAGES,
        lambda m, x: x.numpy().repeat(2, 2).repeat(2, 3),
    ),
    # Tables
    "CAddTable": (nn.CAddTable(), [X, ROWS, X * 2], lambda m, x: x[0] + x[1] + x[2]),
    "CSubTable": (nn.CSubTable(), PAIR, lambda m, x: x[0] - x[1]),
    "CMulTable": (nn.CMulTable(), PAIR, lambda m, x: x[0] * x[1]),
    "CDivTable": (nn.CDivTable(), [X, POSITIVE], lambda m, x: x[0] / x[1]),
    "JoinTable": (nn.JoinTable(-1), PAIR, lambda m, x: np.concatenate(x, 1)),
    "SplitTable": (nn.SplitTable(1), X, lambda m, x: list(x.numpy().T)),
    "SelectTable": (nn.SelectTable(-1), [numbers(2), [X, ROWS]], lambda m, x: x[1]),
    "NarrowTable": (nn.NarrowTable(1, 2), [X, ROWS, X * 2], lambda m, x: x[1:]),
    "FlattenTable": (nn.FlattenTable(), [X, [ROWS, [X * 2]]], lambda m, x: [X, ROWS, X * 2]),
    "MixtureTable": (
        nn.MixtureTable(),
        [numbers(3, 2), [X, ROWS]],
        lambda m, x: x[0][:, :1] * x[1][0] + x[0][:, 1:] * x[1][1],
    ),
    "Index": (nn.Index(1), [X, braze.tensor([2, 0, 2])], lambda m, x: x[0].numpy()[:, [2, 0, 2]]),
    "MaskedSelect": (
        nn.MaskedSelect(),
        [X, (X > 0).byte()],
        lambda m, x: x[0].numpy()[x[0].numpy() > 0],
    ),
    "DotProduct": (nn.DotProduct(), PAIR, lambda m, x: (x[0] * x[1]).sum(1)),
    "CosineDistance": (nn.CosineDistance(), PAIR, lambda m, x: cosines(*map(np.asarray, x))),
    "PairwiseDistance": (
        nn.PairwiseDistance(3),
        PAIR,
        lambda m, x: (abs((x[0] - x[1]).numpy()) ** 3).sum(1) ** (1 / 3),
    ),
    "MM": (nn.MM(True), PAIR, lambda m, x: x[0].numpy().T @ x[1].numpy()),
    "MV": (
        nn.MV(True),
        [numbers(2, 3, 4), numbers(2, 3)],
        lambda m, x: np.einsum("bij,bi->bj", *map(np.asarray, x)),
    ),
    # Parameters
    "Linear": (nn.Linear(4, 2), X, lambda m, x: x.numpy() @ m.weight.numpy().T + m.bias.numpy()),
    "PartialLinear": (
        nn.PartialLinear(4, 5).setPartition(braze.tensor([3, 1])),
        X,
        lambda m, x: (x.numpy() @ m.weight.numpy().T + m.bias.numpy())[:, [3, 1]],
    ),
    "Bilinear": (
        nn.Bilinear(4, 4, 2),
        PAIR,
        lambda m, x: np.einsum("ni,oij,nj->no", x[0], m.weight, x[1]) + m.bias.numpy(),
    ),
    "Add": (nn.Add(4), X, lambda m, x: x.numpy() + m.bias.numpy()),
    "Mul": (nn.Mul(), X, lambda m, x: x.numpy() * m.weight.numpy()),
    "CMul": (nn.CMul(2, 2), numbers(3, 2, 2), lambda m, x: x.numpy() * m.weight.numpy()),
    "Cosine": (
        nn.Cosine(4, 2),
        X,
        lambda m, x: np.stack([cosines(x.numpy(), w[None]) for w in m.weight.numpy()], 1),
    ),
    "Euclidean": (
        nn.Euclidean(4, 2),
        X,
        lambda m, x: np.linalg.norm(x.numpy()[:, :, None] - m.weight.numpy(), axis=1),
    ),
    "WeightedEuclidean": (
        nn.WeightedEuclidean(4, 2),
        X,
        lambda m, x: np.linalg.norm(
            (x.numpy()[:, :, None] - m.weight.numpy()) * m.diagCov.numpy(), axis=1
        ),
    ),
    "LookupTable": (
        nn.LookupTable(5, 3, paddingValue=2),
        braze.tensor([[0, 2], [4, 0]]),
        lambda m, x: m.weight.numpy()[x.numpy()],
    ),
    # Convolutions
    "SpatialConvolution": (
        nn.SpatialConvolution(3, 2, 3, 2, 2, 1, 1),
        IMAGES,
        lambda m, x: F.conv2d(x, m.weight, m.bias, (1, 2), (1, 1)),
    ),
    "SpatialDilatedConvolution": (
        nn.SpatialDilatedConvolution(3, 2, 2, 2, dilationH=2, dilationW=3),
        IMAGES,
        lambda m, x: F.conv2d(x, m.weight, m.bias, dilation=(2, 3)),
    ),
    "SpatialConvolutionLocal": (nn.SpatialConvolutionLocal(3, 2, 5, 6, 3, 2, 2), IMAGES, local),
    "SpatialConvolutionMap": (nn.SpatialConvolutionMap(CONNECTIONS, 3, 2), IMAGES, mapped),
    "SpatialFullConvolution": (
        nn.SpatialFullConvolution(3, 2, 3, 2, 2, 2, 1, 0, 1, 0),
        IMAGES,
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, 2, (0, 1), (0, 1)),
    ),
    "SpatialFullConvolutionMap": (
        nn.SpatialFullConvolutionMap(CONNECTIONS, 3, 2, 2),
        IMAGES,
        lambda m, x: F.conv_transpose2d(x, m._dense(0, 1), m.bias, (1, 2)),
    ),
    "VolumetricConvolution": (
        nn.VolumetricConvolution(2, 2, 2, 3, 1, 1, 2, 1, 1, 0),
        VOLUME,
        lambda m, x: F.conv3d(x, m.weight, m.bias, (1, 1, 2), (1, 0, 0)),
    ),
    "VolumetricFullConvolution": (
        nn.VolumetricFullConvolution(2, 2, 2, 1, 2, 2, 1, 1, adjT=1),
        VOLUME[:1],
        lambda m, x: F.conv_transpose3d(x, m.weight, m.bias, (2, 1, 1), 0, (1, 0, 0)),
    ),
    "TemporalConvolution": (nn.TemporalConvolution(3, 2, 2, 2), FRAMES, temporal),
    # Pooling
    "SpatialMaxPooling": (
        nn.SpatialMaxPooling(2, 3, 1, 2, 1, 1).ceil(),
        IMAGES,
        lambda m, x: F.max_pool2d(x, (3, 2), (2, 1), (1, 1), ceil_mode=True),
    ),
    "VolumetricMaxPooling": (
        nn.VolumetricMaxPooling(1, 2, 3),
        VOLUME,
        lambda m, x: F.max_pool3d(x, (1, 3, 2)),
    ),
    "SpatialAveragePooling": (
        nn.SpatialAveragePooling(2, 3, 1, 2, 1, 1).setCountExcludePad(),
        IMAGES,
        lambda m, x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1), count_include_pad=False),
    ),
    "VolumetricAveragePooling": (
        nn.VolumetricAveragePooling(1, 2, 3),
        VOLUME,
        lambda m, x: F.avg_pool3d(x, (1, 3, 2)),
    ),
    "SpatialLPPooling": (
        nn.SpatialLPPooling(3, 2, 2, 3),
        IMAGES,
        lambda m, x: (F.avg_pool2d(x**2, (3, 2)) * 6).sqrt(),
    ),
    "SpatialAdaptiveMaxPooling": (
        nn.SpatialAdaptiveMaxPooling(2, 3),
        IMAGES[:, :, :, :4],
        lambda m, x: F.max_pool2d(x, (2, 2)),
    ),
    "SpatialFractionalMaxPooling": (
        nn.SpatialFractionalMaxPooling(2, 2, 3, 3).fixPoolingRegions(),
        IMAGES,
        lambda m, x: F.fractional_max_pool2d(x, 2, 3, _random_samples=m.randomSamples),
    ),
    "SpatialSubSampling": (
        nn.SpatialSubSampling(3, 2, 3, 2, 3),
        IMAGES,
        lambda m, x: F.avg_pool2d(x, (3, 2)) * 6 * m.weight.view(3, 1, 1) + m.bias.view(3, 1, 1),
    ),
    "TemporalMaxPooling": (
        nn.TemporalMaxPooling(3, 2),
        FRAMES,
        lambda m, x: np.stack([x.numpy()[i : i + 3].max(0) for i in (0, 2, 4)]),
    ),
    "TemporalSubSampling": (
        nn.TemporalSubSampling(3, 3, 2),
        FRAMES,
        lambda m, x: (
            np.stack([x.numpy()[i : i + 3].sum(0) for i in (0, 2, 4)]) * m.weight.numpy()
            + m.bias.numpy()
        ),
    ),
    # Normalisation
    "BatchNormalization": (
        nn.BatchNormalization(4),
        X,
        lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True),
    ),
    "SpatialBatchNormalization": (
        nn.SpatialBatchNormalization(3, affine=False),
        IMAGES,
        lambda m, x: F.batch_norm(x, None, None, None, None, True),
    ),
    "VolumetricBatchNormalization": (
        nn.VolumetricBatchNormalization(2),
        VOLUME,
        lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True),
    ),
    "Normalize": (
        nn.Normalize(3),
        X,
        lambda m, x: x.numpy() / (abs(x.numpy()) ** 3).sum(1, keepdims=True) ** (1 / 3),
    ),
    "SpatialCrossMapLRN": (nn.SpatialCrossMapLRN(3, 0.1, 0.75, 2), IMAGES, lrn),
    "SpatialSubtractiveNormalization": (
        nn.SpatialSubtractiveNormalization(3, braze.ones(3, 3).double()),
        IMAGES,
        subtractive,
    ),
    "SpatialDivisiveNormalization": (
        nn.SpatialDivisiveNormalization(3, braze.ones(3).double()),
        IMAGES,
        divisive,
    ),
    "SpatialContrastiveNormalization": (
        nn.SpatialContrastiveNormalization(3, braze.ones(3, 3).double()),
        IMAGES,
        lambda m, x: divisive(m, subtractive(m, x)),
    ),
    # Containers
    "Sequential": (
        sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
        X,
        lambda m, x: F.linear(
            F.linear(x, m.get(0).weight, m.get(0).bias).tanh(), m.get(2).weight, m.get(2).bias
        ),
    ),
    "Concat": (
        added(nn.Concat(1), nn.Linear(4, 2), nn.Tanh()),
        X,
        lambda m, x: np.concatenate([F.linear(x, m.get(0).weight, m.get(0).bias), np.tanh(x)], 1),
    ),
    "DepthConcat": (
        added(nn.DepthConcat(1), nn.Identity(), nn.SpatialZeroPadding(-1, -1, -1, -2)),
        IMAGES,
        lambda m, x: np.concatenate(
            [x, np.pad(x.numpy()[:, :, 1:-2, 1:-1], ((0, 0), (0, 0), (1, 2), (1, 1)))], 1
        ),
    ),
    "Parallel": (
        added(nn.Parallel(0, 0), nn.Linear(4, 2), nn.Tanh(), nn.Linear(4, 3)),
        X,
        lambda m, x: np.concatenate(
            [
                F.linear(x[0], m.get(0).weight, m.get(0).bias),
                np.tanh(x[1]),
                F.linear(x[2], m.get(2).weight, m.get(2).bias),
            ]
        ),
    ),
    "ConcatTable": (
        added(nn.ConcatTable(), nn.Linear(4, 2), nn.Square()),
        X,
        lambda m, x: [F.linear(x, m.get(0).weight, m.get(0).bias), x.numpy() ** 2],
    ),
    "ParallelTable": (
        added(nn.ParallelTable(), nn.Square(), nn.Exp()),
        PAIR,
        lambda m, x: [x[0].numpy() ** 2, np.exp(x[1])],
    ),
}
NO_GRADIENT_BY_DIFFERENCES = {"Dropout", "SpatialDropout", "VolumetricDropout", "RReLU"}
ELSEWHERE = {  # of which tests below are about
    *("Module", "Container", "Criterion", "CriterionTable", "MultiCriterion", "ParallelCriterion"),
    *("GradientReversal", "L1Penalty", "SpatialMaxUnpooling", "VolumetricMaxUnpooling"),
}

LABELS = braze.tensor([2, 0, 3])
SIGNS = braze.tensor([1.0, -1.0, 1.0], dtype=braze.float64)
LOGS, CHANCES = F.log_softmax(X, 1), X.sigmoid()
CRITERIONS = {
    "AbsCriterion": (nn.AbsCriterion(), X, ROWS, lambda x, y: F.l1_loss(x, y)),
    "MSECriterion": (nn.MSECriterion(False), X, ROWS, lambda x, y: F.mse_loss(x, y, False)),
    "WeightedMSECriterion": (
        nn.WeightedMSECriterion(X[0].clone()), X, ROWS, lambda x, y: F.mse_loss(x, y * X[0]),
    ),
    "SmoothL1Criterion": (nn.SmoothL1Criterion(), X * 3, ROWS, F.smooth_l1_loss),
    "BCECriterion": (
        nn.BCECriterion(POSITIVE[0].clone()), CHANCES, (ROWS > 0).double(),
        lambda x, y: F.binary_cross_entropy(x, y, POSITIVE[0]),
    ),
    "ClassNLLCriterion": (
        nn.ClassNLLCriterion(POSITIVE[0].clone()), LOGS, LABELS,
        lambda x, y: F.nll_loss(x, y, POSITIVE[0]),
    ),
    "SpatialClassNLLCriterion": (
        nn.SpatialClassNLLCriterion(), F.log_softmax(IMAGES, 1), whole(3, 2, 6, 5), F.nll_loss,
    ),
    "CrossEntropyCriterion": (nn.CrossEntropyCriterion(), X, LABELS, F.cross_entropy),
    "ClassSimplexCriterion": (
        nn.ClassSimplexCriterion(4).double(), X, LABELS,
        lambda x, y: F.mse_loss(x, nn.ClassSimplexCriterion(4).double().simplex[y]),
    ),
    "DistKLDivCriterion": (
        nn.DistKLDivCriterion(), LOGS, F.softmax(ROWS, 1), lambda x, y: F.kl_div(x, y),
    ),
    "HingeEmbeddingCriterion": (
        nn.HingeEmbeddingCriterion(0.7), POSITIVE[:, 0].clone(), SIGNS,
        lambda x, y: F.hinge_embedding_loss(x, y, 0.7),
    ),
    "L1HingeEmbeddingCriterion": (
        nn.L1HingeEmbeddingCriterion(9), PAIR, -1, lambda x, y: 9 - (x[0] - x[1]).abs().sum(),
    ),
    "CosineEmbeddingCriterion": (
        nn.CosineEmbeddingCriterion(0.1), PAIR, SIGNS,
        lambda x, y: F.cosine_embedding_loss(*x, y, 0.1),
    ),
    "MarginCriterion": (
        nn.MarginCriterion(0.5), X, SIGNS[:, None], lambda x, y: (0.5 - x * y).clamp(min=0).mean(),
    ),
    "MarginRankingCriterion": (
        nn.MarginRankingCriterion(0.5), PAIR, SIGNS[:, None],
        lambda x, y: F.margin_ranking_loss(*x, y, 0.5),
    ),
    "SoftMarginCriterion": (
        nn.SoftMarginCriterion(), X, SIGNS[:, None],
        lambda x, y: np.log1p(np.exp(-(x * y).numpy())).mean(),
    ),
    "MultiMarginCriterion": (
        nn.MultiMarginCriterion(2), X, LABELS,
        lambda x, y: sum(
            max(0, 1 - x[n, y[n]].item() + x[n, c].item()) ** 2
            for n in range(3) for c in range(4) if c != y[n].item()
        ) / 12,
    ),
    "MultiLabelMarginCriterion": (
        nn.MultiLabelMarginCriterion(), X[0].clone(), braze.tensor([3, 0, -1, 1]),
        lambda x, y: sum(
            max(0, 1 - (x[j] - x[i]).item()) for j in (3, 0) for i in (1, 2)
        ) / 4,
    ),
    "MultiLabelSoftMarginCriterion": (
        nn.MultiLabelSoftMarginCriterion(), X, (ROWS > 0).double(),
        F.binary_cross_entropy_with_logits,
    ),
    "L1Cost": (nn.L1Cost(), X, None, lambda x, y: x.abs().sum()),
}  # fmt: skip


def test_every_class_has_a_row():
    assert set(nn.__all__) == {*MODULES, *CRITERIONS, *ELSEWHERE}


# Values and gradients -----------------------------------------------------------------------------


def arrays(table):
    return [arrays(x) for x in table] if isinstance(table, (list, tuple)) else np.asarray(table)


def assert_same(a, b, **tolerance):
    assert isinstance(a, list) == isinstance(b, list)
    if isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, **tolerance)
    else:
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **{"rtol": 1e-6, "atol": 1e-8} | tolerance)


def leaves(table):
    if isinstance(table, (list, tuple)):
        return [leaf for item in table for leaf in leaves(item)]
    return [table]


def weigh(table):
    """A number that depends on every element differently."""
    total = 0.0
    for x in leaves(arrays(table)):
        total += float((x * np.sin(np.arange(x.size) + 1.0).reshape(x.shape)).sum())
    return total


def weights_of(table):
    if isinstance(table, (list, tuple)):
        return [weights_of(x) for x in table]
    return braze.tensor(np.sin(np.arange(table.numel()) + 1.0).reshape(tuple(table.shape)))


def differences(function, tensor, count=6, step=1e-6):
    """Central differences of a function at some elements of a tensor that it reads: {place: d}."""
    flat = tensor.view(-1)
    found = {}
    for i in RNG.permutation(tensor.numel())[:count].tolist():
        before = flat[i].item()
        flat[i] = before + step
        above = function()
        flat[i] = before - step
        below = function()
        flat[i] = before
        found[i] = (above - below) / (2 * step)
    return found


def prepared(name):
    module, input, wanted = MODULES[name]
    module = copy.deepcopy(module).double()
    found = module.parameters()
    for parameter in found[0] if found else ():
        if name != "PReLU":
            parameter.copy_(numbers(*parameter.shape))
    if name in NO_GRADIENT_BY_DIFFERENCES:
        module.evaluate()
    return module, copy.deepcopy(input), wanted


@pytest.mark.parametrize("name", MODULES)
def test_a_module(name):
    module, input, wanted = prepared(name)
    output = module.forward(input)
    assert_same(arrays(output), arrays(wanted(module, input)))
    assert module.output is output
    module.zeroGradParameters()
    gradient = module.backward(input, weights_of(output))
    assert module.gradInput is gradient

    def value():
        return weigh(module.forward(input))

    for x, g in zip(leaves(input), leaves(gradient), strict=True):
        assert g.shape == x.shape
        if x.dtype.is_floating_point:
            for i, d in differences(value, x).items():
                np.testing.assert_allclose(g.view(-1)[i].item(), d, rtol=1e-5, atol=1e-7)
        else:
            assert not g.any()
    for p, g in zip(*(module.parameters() or ([], [])), strict=True):
        skipped = 2 * 3 if name == "LookupTable" else None  # the vector of the padding value
        for i, d in differences(value, p).items():
            d = 0 if skipped is not None and skipped <= i < skipped + 3 else d
            np.testing.assert_allclose(g.view(-1)[i].item(), d, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CRITERIONS)
def test_a_criterion(name):
    criterion, input, target, wanted = CRITERIONS[name]
    input = copy.deepcopy(input)
    output = criterion.forward(input, target)
    np.testing.assert_allclose(float(output), float(wanted(input, target)), rtol=1e-6)
    gradient = criterion.backward(input, target)
    for x, g in zip(leaves(input), leaves(gradient), strict=True):
        found = differences(lambda: float(criterion.forward(input, target)), x)
        for i, d in found.items():
            np.testing.assert_allclose(g.view(-1)[i].item(), d, rtol=1e-5, atol=1e-7)


def test_compiled_network():
    with braze.config.using(tier="compile"):
        net = sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()
        criterion = nn.MSECriterion()
        target = numbers(3, 2)
        losses = []
        for _ in range(40):
            net.zeroGradParameters()
            losses.append(criterion.forward(net.forward(X), target))
            net.backward(X, criterion.backward(net.output, target))
            net.updateParameters(0.5)
        assert float(losses[-1]) < 0.2 * float(losses[0])


# Single modules -----------------------------------------------------------------------------------


def test_gradient_reversal():
    module = nn.GradientReversal(0.5)
    assert module.forward(X) is not None
    assert_same(arrays(module.backward(X, ROWS)), arrays(ROWS * -0.5))
    module.setLambda(2)
    assert_same(arrays(module.backward(X, ROWS)), arrays(ROWS * -2))


def test_l1_penalty():
    module = nn.L1Penalty(0.5, sizeAverage=True)
    assert module.forward(X) is X
    assert float(module.loss) == pytest.approx(0.5 * X.abs().mean().item())
    assert_same(arrays(module.backward(X, ROWS)), arrays(ROWS + X.sign() * 0.5 / 12))
    assert_same(arrays(nn.L1Penalty(1, False, False).backward(X, ROWS)), arrays(X.sign()))


@pytest.mark.parametrize(
    ("pooling", "undoing", "input"),
    [
        (nn.SpatialMaxPooling(2, 2), nn.SpatialMaxUnpooling, IMAGES),
        (nn.VolumetricMaxPooling(2, 1, 3), nn.VolumetricMaxUnpooling, VOLUME),
    ],
)
def test_unpooling(pooling, undoing, input):
    module = undoing(pooling)
    pooled = pooling.forward(input)
    back = module.forward(pooled)
    assert back.shape == input.shape
    kept = back != 0
    assert kept.sum().item() == pooled.numel()
    assert_same(arrays(back[kept]), arrays(input[kept]))
    gradient = module.backward(pooled, input)
    assert_same(arrays(gradient), arrays(pooled))
    with pytest.raises(ValueError, match="must not overlap"):
        undoing(type(pooling)(*(2,) * (len(input.shape) - 2), 1, 1))


def test_dropout_in_training():
    braze.manual_seed(3)
    module = nn.Dropout(0.25)
    ones = braze.ones(4000)
    output = module.forward(ones)
    assert set(np.unique(output.numpy()).round(5)) == {0.0, np.float32(4 / 3).round(5)}
    assert abs((output == 0).float().mean().item() - 0.25) < 0.03
    assert_same(arrays(module.backward(ones, ones)), arrays(output))  # the same noise
    planes = nn.SpatialDropout(0.5).forward(braze.ones(50, 4, 3, 3)).numpy()
    assert (planes == planes[:, :, :1, :1]).all()
    assert {0.0, 2.0} == set(np.unique(planes))
    module.setp(0)
    assert_same(arrays(module.forward(ones)), arrays(ones))


def test_running_statistics():
    module = nn.BatchNormalization(4).double()
    module.forward(X)
    np.testing.assert_allclose(module.running_mean, 0.1 * X.numpy().mean(0))
    np.testing.assert_allclose(module.running_var, 0.9 + 0.1 * X.numpy().var(0, ddof=1))
    module.evaluate()
    want = (X - module.running_mean) / (module.running_var + 1e-5).sqrt()
    assert_same(arrays(module.forward(X)), arrays(want * module.weight + module.bias))
    with pytest.raises(RuntimeError, match=r"only mini-batch supported \(2D tensor\), got 4D"):
        module.forward(IMAGES)


def test_full_convolution_as_large_as_a_tensor():
    module = nn.SpatialFullConvolution(3, 2, 3, 3, 2, 2).double()
    like = numbers(2, 1, 14, 11)
    assert module.forward([IMAGES, like]).shape == (2, 2, 14, 11)
    gradients = module.backward([IMAGES, like], module.output)
    assert [g.shape for g in gradients] == [IMAGES.shape, like.shape]
    with pytest.raises(ValueError, match="must be smaller than the stride"):
        nn.SpatialFullConvolution(3, 2, 3, 3, adjW=1)


def test_connections():
    assert nn.SpatialConvolutionMap.maps.full(2, 1).tolist() == [[0, 0], [1, 0]]
    assert nn.SpatialConvolutionMap.maps.oneToOne(2).tolist() == [[0, 0], [1, 1]]
    rows = nn.SpatialConvolutionMap.maps.random(4, 6, 2).tolist()
    assert [b for _, b in rows] == [b for b in range(6) for _ in range(2)]
    assert sorted(a for a, _ in rows) == sorted([0, 1, 2, 3] * 3)


def test_lookup_with_a_largest_norm_and_frequencies():
    module = nn.LookupTable(4, 3).setMaxNorm(0.5).scaleGradByFreq().double()
    index = braze.tensor([1, 1, 3])
    output = module.forward(index)
    assert output.norm(2, 1).max().item() <= 0.5 + 1e-6
    module.zeroGradParameters()
    module.backward(index, braze.ones(3, 3).double())
    assert module.gradWeight.tolist() == [[0.0] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3]


# Criterions of criterions -------------------------------------------------------------------------


def test_several_criterions():
    several = nn.MultiCriterion().add(nn.MSECriterion(), 0.5).add(nn.AbsCriterion())
    assert float(several.forward(X, ROWS)) == pytest.approx(
        0.5 * F.mse_loss(X, ROWS).item() + F.l1_loss(X, ROWS).item()
    )
    want = 0.5 * nn.MSECriterion().backward(X, ROWS) + nn.AbsCriterion().backward(X, ROWS)
    assert_same(arrays(several.backward(X, ROWS)), arrays(want))
    parallel = nn.ParallelCriterion(True).add(nn.MSECriterion(), 0.5).add(nn.AbsCriterion())
    assert float(parallel.forward([X, X], ROWS)) == pytest.approx(
        0.5 * F.mse_loss(X, ROWS).item() + F.l1_loss(X, ROWS).item()
    )
    first, second = parallel.backward([X, X], ROWS)
    assert_same(arrays(first), arrays(0.5 * nn.MSECriterion().backward(X, ROWS)))
    assert_same(arrays(second), arrays(nn.AbsCriterion().backward(X, ROWS)))
    table = nn.CriterionTable(nn.MSECriterion())
    assert float(table.forward([X, ROWS])) == pytest.approx(F.mse_loss(X, ROWS).item())
    assert_same(arrays(table.backward([X, ROWS], None)[0]), arrays(2 * (X - ROWS) / 12))


def test_predictions_of_the_simplex():
    criterion = nn.ClassSimplexCriterion(4)
    products = criterion.simplex.matmul(criterion.simplex.t())
    np.testing.assert_allclose(products.diagonal(), 1, rtol=1e-6)
    np.testing.assert_allclose(products[0, 1:], -1 / 3, rtol=1e-5)
    assert criterion.getTopPrediction(criterion.simplex[[2, 0]]).tolist() == [2, 0]


# What modules share -------------------------------------------------------------------------------


def test_flat_parameters_are_the_modules_own():
    net = sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    before = [p.tolist() for p in net.parameters()[0]]
    flat, gradients = net.flattenParameters()
    assert flat.shape == gradients.shape == (4 * 3 + 3 + 3 * 2 + 2,)
    assert [p.tolist() for p in net.parameters()[0]] == before
    flat.mul_(2)
    assert net.get(0).weight.tolist() == (2 * np.array(before[0])).tolist()
    net.zeroGradParameters()
    net.backward(X, braze.ones_like(net.forward(X)))
    assert gradients.abs().sum().item() > 0
    assert gradients[:12].tolist() == net.get(0).gradWeight.reshape(-1).tolist()


def test_shared_parameters():
    one = nn.Linear(4, 4)
    net = sequential(one, one.clone("weight", "gradWeight"))
    assert net.get(1).bias.data_ptr() != one.bias.data_ptr()
    one.weight.fill_(2.0)
    assert net.get(1).weight[0, 0].item() == 2.0
    flat, _ = net.flattenParameters()
    assert flat.numel() == 16 + 4 + 4
    flat.fill_(3.0)
    assert net.get(1).weight[3, 3].item() == one.weight[3, 3].item() == 3.0


def test_updates_without_gradients_kept():
    net, other = nn.Linear(4, 2).double(), None
    other = net.clone()
    gradient = numbers(3, 2)
    net.forward(X)
    net.backwardUpdate(X, gradient, 0.1)
    other.zeroGradParameters()
    other.forward(X)
    other.backward(X, gradient)
    other.updateParameters(0.1)
    assert_same(arrays(net.weight), arrays(other.weight))
    assert_same(arrays(net.bias), arrays(other.bias))
    other.sharedAccUpdateGradParameters(X, gradient, 0.1)
    net.accUpdateGradParameters(X, gradient, 0.1)
    assert_same(arrays(net.weight), arrays(other.weight))


def test_gradients_are_of_the_parameters_and_input_as_they_are():
    module = nn.Linear(4, 2).double()
    module.forward(X)
    module.weight.fill_(0.5)
    assert_same(arrays(module.updateGradInput(X, braze.ones(3, 2).double())), np.ones((3, 4)))
    module.zeroGradParameters()
    module.accGradParameters(ROWS, braze.ones(3, 2).double(), 2)
    assert_same(arrays(module.gradBias), np.array([6.0, 6.0]))
    assert_same(arrays(module.gradWeight[0]), 2 * ROWS.numpy().sum(0))


def test_the_tree():
    net = sequential(nn.Linear(4, 3), added(nn.ConcatTable(), nn.Linear(3, 1), nn.Tanh()))
    assert [type(m).__name__ for m in net.listModules()] == [
        "Sequential", "Linear", "ConcatTable", "Linear", "Tanh",
    ]  # fmt: skip
    nodes, containers = net.findModules("Linear")
    assert [n.weight.shape for n in nodes] == [(3, 4), (1, 3)]
    assert containers == [net, net.get(1)]
    assert net.findModules(nn.Tanh)[0] == [net.get(1).get(1)]
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert len(seen) == 5
    net.evaluate()
    assert not any(m.train for m in net.listModules())
    net.training()
    assert all(m.train for m in net.listModules())
    net.replace(lambda m: nn.Sigmoid() if isinstance(m, nn.Tanh) else m)
    assert isinstance(net.get(1).get(1), nn.Sigmoid)
    assert net.size() == 2
    net.insert(nn.Identity(), 1)
    net.remove(0)
    assert [type(m).__name__ for m in net.modules] == ["Identity", "ConcatTable"]
    assert repr(net).splitlines() == [
        "nn.Sequential {",
        "  (0): nn.Identity",
        "  (1): nn.ConcatTable {",
        "    (0): nn.Linear(3 -> 1)",
        "    (1): nn.Sigmoid",
        "  }",
        "}",
    ]
    assert repr(nn.SpatialConvolution(3, 2, 5, 4, padW=1)) == (
        "nn.SpatialConvolution(3 -> 2, 5x4, 1, 1, 1, 1)"
    )
    assert repr(nn.Linear(3, 1).noBias()) == "nn.Linear(3 -> 1) without bias"


def test_types_copies_and_pickles():
    net = sequential(nn.Linear(4, 2), nn.BatchNormalization(2))
    assert net.type() == "torch.FloatTensor"
    assert net.double() is net
    assert net.type() == "torch.DoubleTensor"
    assert net.get(0).gradWeight.dtype == net.get(1).running_mean.dtype == braze.float64
    net.forward(X)
    net.evaluate()
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.clone()):
        assert_same(arrays(twin.forward(X)), arrays(net.forward(X)))
        twin.get(0).weight.zero_()
        assert net.get(0).weight.abs().sum().item() > 0
    assert net.clearState().output.numel() == 0
    assert net(X, braze.ones(3, 2).double())[1].shape == X.shape
    assert nn.MSECriterion().clone().double()(X, ROWS).dtype == braze.float64


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="max_value must be larger"):
        nn.HardTanh(1, 0)
    with pytest.raises(RuntimeError, match="a list of two tensors, given 3"):
        nn.DotProduct().forward([X, X, X])
    with pytest.raises(RuntimeError, match="one gate for each expert, given 4 for 2"):
        nn.MixtureTable().forward([X, [X, X]])
    with pytest.raises(ValueError, match="ODD dimensions"):
        nn.SpatialSubtractiveNormalization(1, braze.ones(4))
    with pytest.raises(RuntimeError, match="input and target size mismatch"):
        nn.BCECriterion().forward(X, X[0])
    with pytest.raises(TypeError, match="there is no target"):
        nn.L1Cost().forward(X, X)
    assert legacy.nn is nn
