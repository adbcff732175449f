"""Every module of `legacy.nn`, with an input and what must come out of it."""

import numpy as np

import braze
from braze.legacy import nn
from braze.nn import functional as F

RNG = np.random.default_rng(5)


def numbers(*shape, low=-1.0, high=1.0):
    return braze.tensor(RNG.uniform(low, high, shape))


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
        IMAGES[:, :, :, :4].contiguous(),
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
ELSEWHERE = {  # which have tests of their own
    *("Module", "Container", "Criterion", "CriterionTable", "MultiCriterion", "ParallelCriterion"),
    *("GradientReversal", "L1Penalty", "SpatialMaxUnpooling", "VolumetricMaxUnpooling"),
}
