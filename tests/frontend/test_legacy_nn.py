"""Every class of `legacy.nn`: outputs against NumPy or the functions of `nn`, gradients against
differences, and what modules and containers share."""

import copy
import pickle

import numpy as np
import pytest
from legacy_cases import (
    ELSEWHERE,
    IMAGES,
    MODULES,
    NO_GRADIENT_BY_DIFFERENCES,
    RNG,
    ROWS,
    VOLUME,
    X,
    added,
    numbers,
    sequential,
)
from legacy_criterion_cases import CRITERIONS

import braze
from braze import legacy
from braze.legacy import nn
from braze.nn import functional as F

pytestmark = pytest.mark.usefixtures("interpret")


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
    assert_same(arrays(module.forward(X)), arrays(X))
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
    net = nn.Linear(4, 2).double()
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
    weighted = nn.ClassNLLCriterion(braze.ones(4))
    several = nn.MultiCriterion().add(nn.MultiCriterion().add(weighted))
    assert several.double() is several
    assert weighted.weights.dtype == braze.float64
    table = nn.CriterionTable(nn.ClassNLLCriterion(braze.ones(4)))
    assert table.type() == "torch.FloatTensor"
    assert table.double() is table
    assert table.criterion.weights.dtype == braze.float64


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
