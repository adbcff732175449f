"""The long tail of names against NumPy: layers at the top level, early names, tensors on memory
that is already there, settings."""

import math

import numpy as np
import pytest

import braze

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


def same(tensor, expected, rtol=1e-12):
    np.testing.assert_allclose(tensor.numpy(force=True), expected, rtol=rtol, atol=1e-14)


def test_elementwise_tail(tier):
    a, b = braze.tensor([12, 18, 0, -7]), braze.tensor([18, 12, 5, 21])
    assert braze.gcd(a, b).tolist() == [6, 6, 5, 7] and a.lcm(b).tolist() == [36, 36, 0, 21]
    assert a.clone().gcd_(b).tolist() == [6, 6, 5, 7]
    assert braze.gcd(a.to(braze.int8), 4).dtype is braze.int8
    out = braze.empty(0, dtype=braze.int64)
    assert braze.lcm(a, b, out=out) is out and out.tolist() == [36, 36, 0, 21]
    mantissa, exponent = braze.frexp(braze.tensor([8.0, -0.3, 0.0]))
    assert mantissa.tolist() == [0.5, -0.6000000238418579, 0.0] and exponent.tolist() == [4, -1, 0]
    one, x = braze.ones(3, dtype=braze.float64), braze.tensor([0.5, 1.0, 4.0], dtype=braze.float64)
    same(braze.igamma(one, x), 1 - np.exp(-x.numpy()))
    same(one.igammac(x), np.exp(-x.numpy()))
    same(braze.special.gammaincc(one, x), np.exp(-x.numpy()))
    same(one.clone().igamma_(x), 1 - np.exp(-x.numpy()))
    with pytest.raises(RuntimeError, match=r"\[gcd\] needs integer operands"):
        braze.gcd(a, 0.5)
    with pytest.raises(RuntimeError, match=r"\[igamma\] needs a floating-point operand"):
        braze.igamma(a, b)
    with pytest.raises(RuntimeError, match="only supports floating-point"):
        braze.frexp(a)


def test_binomial(tier):
    braze.manual_seed(3)
    count = braze.tensor([[10.0], [200.0]]).expand(2, 5000)
    drawn = braze.binomial(count, braze.tensor(0.3))
    again = braze.binomial(count, braze.tensor(0.3), braze.Generator().manual_seed(3))
    same(drawn, again.numpy())
    mean = drawn.mean(1).tolist()
    assert abs(mean[0] - 3) < 0.1 and abs(mean[1] - 60) < 0.5
    with pytest.raises(ValueError, match="floating-point dtypes for count"):
        braze.binomial(braze.tensor([1]), braze.tensor([0.5]))
    with pytest.raises(RuntimeError, match="but expected"):
        braze.binomial(braze.tensor([1.0]), braze.tensor([0.5], dtype=braze.float64))


def test_activations_at_the_top_level(tier):
    x = braze.tensor(X)
    same(braze.hardshrink(x), np.where(np.abs(X) <= 0.5, 0, X))
    same(braze.nn.functional.softshrink(x), np.sign(X) * np.maximum(np.abs(X) - 0.5, 0))
    same(braze.threshold(x, 0.2, 9.0), np.where(X > 0.2, X, 9))
    same(braze.celu(x, 2.0), np.where(X > 0, X, 2 * np.expm1(X / 2)))
    same(braze.selu(x), 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X)))
    same(braze.rrelu(x), np.where(X > 0, X, X * (1 / 8 + 1 / 3) / 2))
    same(x.prelu(braze.tensor([0.5], dtype=braze.float64)), np.where(X > 0, X, X / 2))
    y = x.clone()
    assert braze.threshold_(y, 0.2, 9.0) is y
    same(y, np.where(X > 0.2, X, 9))
    slopes = braze.rrelu(-braze.ones(1000), 0.25, 0.5, True).numpy()
    assert slopes.min() < -0.49 and slopes.max() > -0.26 and -0.5 <= slopes.min()
    leaf = braze.tensor(X, requires_grad=True)
    braze.celu_(leaf * 1.0).sum().backward()
    same(leaf.grad, np.where(X > 0, 1, np.exp(X)))


def test_dropouts_at_the_top_level(tier):
    x = braze.ones(200, 50, 2)
    kept = braze.dropout(x, 0.25, True).numpy()
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.75)}
    assert abs((kept == 0).mean() - 0.25) < 0.02
    channels = braze.feature_dropout(x, 0.25, True).numpy()
    assert (channels[..., 0] == channels[..., 1]).all()
    assert braze.dropout(x, 0.25, False) is x
    y = x.clone()
    assert braze.dropout_(y, 1.0, True) is y and not y.any()
    out, mask = braze.native_dropout(x, 0.25, True)
    same(out, mask.numpy() / 0.75, 1e-6)
    noise = braze.randn(100000)
    for function in (braze.alpha_dropout, braze.nn.functional.alpha_dropout):
        dropped = function(noise, 0.2, True)
        assert abs(dropped.mean().item()) < 0.02 and abs(dropped.std().item() - 1) < 0.02
    pairs = braze.feature_alpha_dropout(x, 0.25, True).numpy()
    assert (pairs[..., 0] == pairs[..., 1]).all() and len(np.unique(pairs)) == 2
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        braze.feature_dropout(braze.ones(3), 0.5, True)


def test_renormalised_embedding(tier):
    table = np.array([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    weight = braze.tensor(table)
    rows = braze.nn.functional.embedding(braze.tensor([0, 1, 0]), weight, max_norm=1.0)
    same(rows, [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], 1e-6)
    same(weight, [[0.6, 0.8], [0.3, 0.4], [30, 40]], 1e-6)
    leaf = braze.tensor(table, requires_grad=True)
    braze.embedding(leaf, braze.tensor([0, 1, 0]), -1, True).sum().backward()
    same(leaf.grad, [[1, 1], [1, 1], [0, 0]])
    with pytest.raises(RuntimeError, match="Long, Int"):
        braze.embedding(weight, braze.ones(2))


def test_covariances(tier):
    same(braze.cov(braze.tensor(X)), np.cov(X))
    same(braze.corrcoef(braze.tensor(X)), np.corrcoef(X))
    weights = {"fweights": np.array([1, 3, 2, 1]), "aweights": np.array([0.5, 1.0, 2.0, 1.0])}
    given = {name: braze.tensor(value) for name, value in weights.items()}
    same(braze.cov(braze.tensor(X), **given), np.cov(X, **weights))
    assert braze.cov(braze.tensor([1, 2, 4])).item() == pytest.approx(7 / 3)


def test_numerical_gradients(tier):
    for edge_order in (1, 2):
        found = braze.gradient(braze.tensor(X), spacing=0.5, edge_order=edge_order)
        for mine, right in zip(found, np.gradient(X, 0.5, edge_order=edge_order), strict=True):
            same(mine, right)
    places = np.array([0.0, 1.0, 1.5, 4.0])
    (found,) = braze.gradient(braze.tensor(X), spacing=[braze.tensor(places)], dim=1, edge_order=2)
    same(found, np.gradient(X, places, axis=1, edge_order=2), 1e-9)


def test_reductions_by_segments(tier):
    x, index = braze.tensor(X), braze.tensor([1, 0, 1])
    found = braze.zeros(2, 4, dtype=braze.float64).index_reduce_(0, index, x, "amax")
    same(found, [np.maximum(X[1], 0), np.maximum(np.maximum(X[0], X[2]), 0)])
    lengths = braze.tensor([2, 0, 1])
    same(braze.segment_reduce(x, "sum", lengths=lengths), [X[0] + X[1], 0 * X[0], X[2]])
    same(
        braze.segment_reduce(x, "mean", lengths=lengths, initial=1.0),
        [(X[0] + X[1] + 1) / 2, 0 * X[0] + 1, X[2] + 1],
    )
    flags = braze.tensor([[1, 0], [0, 2], [3, 0]])
    assert flags.nonzero_static(size=2).tolist() == [[0, 0], [1, 1]]
    assert flags.nonzero_static(size=4)[3].tolist() == [-1, -1]
    hist, edges = braze.histogramdd(x[:, :2], [2, 3])
    right, right_edges = np.histogramdd(X[:, :2], [2, 3])
    same(hist, right)
    for mine, wanted in zip(edges, right_edges, strict=True):
        same(mine, wanted)


def test_matrix_functions(tier):
    a = RNG.normal(size=(2, 3, 3))
    values, vectors = np.linalg.eig(a)
    right = (vectors * np.exp(values)[:, None, :]) @ np.linalg.inv(vectors)
    same(braze.matrix_exp(braze.tensor(a)), right.real, 1e-11)
    large = braze.tensor(np.diag([-300.0, 50.0, 0.0]))
    same(braze.matrix_exp(large), np.diag(np.exp([-300.0, 50.0, 0.0])), 1e-12)
    rows = RNG.normal(size=(2, 5))
    low = rows.T @ rows + np.diag([0, 0, 0, 3.0, 0])
    for upper in (True, False):
        u, pivots = braze.pstrf(braze.tensor(low), upper)
        u, p = u.numpy() if upper else u.numpy().T, pivots.numpy()
        assert pivots.dtype is braze.int32 and sorted(p) == [0, 1, 2, 3, 4]
        np.testing.assert_allclose(u.T @ u, low[p][:, p], atol=1e-12)
        assert (np.tril(u, -1) == 0).all() and (np.abs(u[3:]) < 1e-6).all()
        assert (np.diff(np.diag(u)) <= 0).all()


def test_gradient_of_the_matrix_exponential():
    x = braze.tensor(RNG.normal(size=(2, 3, 3)), requires_grad=True)
    assert braze.autograd.gradcheck(braze.matrix_exp, (x,))
    assert braze.autograd.gradgradcheck(braze.matrix_exp, (x,))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_the_matrix_exponential_of_complex_numbers(tier, dtype):
    a = (RNG.normal(size=(2, 3, 3)) + 1j * RNG.normal(size=(2, 3, 3))).astype(dtype)
    values, vectors = np.linalg.eig(a.astype(complex))
    right = (vectors * np.exp(values)[:, None, :]) @ np.linalg.inv(vectors)
    found = braze.matrix_exp(braze.tensor(a))
    assert str(found.dtype) == f"braze.{dtype}"
    same(found, right.astype(dtype), 1e-11 if dtype == "complex128" else 1e-5)
    turn = braze.tensor([[0, 0.3j], [0.3j, 0]], dtype=getattr(braze, dtype))
    wanted = np.array([[np.cos(0.3), 1j * np.sin(0.3)], [1j * np.sin(0.3), np.cos(0.3)]])
    same(turn.matrix_exp(), wanted.astype(dtype), 1e-6)


def test_gradient_of_the_complex_matrix_exponential():
    a = RNG.normal(size=(2, 2, 2)) + 1j * RNG.normal(size=(2, 2, 2))
    x = braze.tensor(a, requires_grad=True)
    assert braze.autograd.gradcheck(braze.matrix_exp, (x,))
    assert braze.autograd.gradgradcheck(braze.matrix_exp, (x,))


def test_norms(tier):
    x = braze.tensor(X)
    same(braze.native_norm(x, 3), np.linalg.norm(X.reshape(-1), 3))
    same(braze.native_norm(x, 1, 1, True), np.abs(X).sum(1, keepdims=True))
    same(braze.norm_except_dim(x, 2, 1), np.sqrt((X**2).sum(0, keepdims=True)))
    same(braze.norm_except_dim(x, 2, -1), np.linalg.norm(X))


def test_pieces_and_copies():
    x = braze.tensor(X)
    first, second = x.split_with_sizes([1, 3], 1)
    first.fill_(7.0)
    assert x[0, 0].item() == 7 and second.shape == (3, 3)
    braze.split_copy(x, 2)[0].fill_(1.0)
    assert x[0, 0].item() == 7
    for number, pieces in enumerate((braze.unsafe_split(x, 2), x.unsafe_chunk(2))):
        pieces[0].fill_(float(number))
        assert x[0, 0].item() == number
    copy = braze.select_copy(x, 0, 1)
    copy.fill_(5.0)
    assert x[1, 1].item() == 1
    whole = x[:, 1:].contiguous()
    with pytest.raises(RuntimeError, match="out of bounds"):
        braze.slice_inverse(whole, x, 1, 1, 4)
    assert braze.slice_inverse(x[:, 1:], x, 1, 1, 4).tolist() == x.tolist()


def test_early_names():
    x = braze.tensor(X)
    with pytest.warns(UserWarning, match="non-inplace resize is deprecated"):
        view = x.resize(4, 3)
    view[0, 0] = 5.0
    assert x[0, 0].item() == 5
    with pytest.warns(UserWarning, match="non-inplace"):
        assert x.resize_as(braze.zeros(2, 6)).shape == (2, 6)
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="requested resize to 5x5"):
        x.resize(5, 5)
    with pytest.raises(RuntimeError, match=r"reinforce\(\) was removed"):
        x.reinforce(1.0)
    assert not x.is_distributed() and not braze.is_distributed(x)
    assert x.storage_type() is type(x.storage())
    rows, columns = braze.tensor([0, 2]), braze.tensor([1, 3])
    same(x.index((rows, columns)), X[[0, 2], [1, 3]])
    same(x.index((None, columns)), x.numpy()[:, [1, 3]])
    same(braze.fill(x, 2.5), np.full(X.shape, 2.5))
    y = braze.zeros(2)
    assert braze.fill_(y, 3.0) is y and braze.zero_(y) is y and not y.any()
    assert braze.detach(x)._base is x


def test_tensors_on_other_memory(tmp_path):
    memory = bytearray(np.arange(4, dtype=np.int32).tobytes())
    x = braze.frombuffer(memory, dtype=braze.int32, offset=4)
    assert x.tolist() == [1, 2, 3]
    x[0] = 9
    braze.sync()
    assert np.frombuffer(memory, np.int32)[1] == 9
    with pytest.warns(UserWarning, match="not writable"):
        assert braze.frombuffer(bytes(memory), dtype=braze.int32, count=1).tolist() == [0]
    path = tmp_path / "numbers"
    y = braze.from_file(str(path), shared=True, size=3, dtype=braze.float64)
    y.fill_(1.5)
    assert y.tolist() == [1.5] * 3
    assert braze.from_file(str(path), size=2, dtype=braze.float64).tolist() == [1.5] * 2
    with pytest.raises(RuntimeError, match="smaller than the required"):
        braze.from_file(str(path), size=4, dtype=braze.float64)
    array = np.arange(3.0)
    z = braze.asarray(array)
    array[0] = 7
    assert z.tolist() == [7, 1, 2] and braze.asarray(z) is z
    assert braze.asarray(array, copy=True)._base is None
    assert braze.asarray([1, 2], dtype=braze.float32).dtype is braze.float32
    with pytest.raises(ValueError, match="can't alias"):
        braze.asarray(array, dtype=braze.float32, copy=False)


def test_strided_creation():
    x = braze.empty_strided((2, 3), (1, 2))
    assert x.shape == (2, 3) and x.stride() == (1, 2)
    y = braze.empty_permuted((2, 3, 4), (1, 2, 0))
    assert y.shape == (2, 3, 4) and y.stride() == (1, 8, 2)
    with pytest.raises(RuntimeError, match="Duplicate dim"):
        braze.empty_permuted((2, 3), (0, 0))


def test_kaiser_window():
    same(braze.kaiser_window(7, False, 5.0, dtype=braze.float64), np.kaiser(7, 5.0))
    periodic = np.kaiser(8, 12.0)[:7]
    same(braze.kaiser_window(7, dtype=braze.float64), periodic, 1e-11)


def test_settings():
    assert braze.get_float32_matmul_precision() == "highest"
    with pytest.warns(UserWarning, match="it has no effect"):
        braze.set_float32_matmul_precision("low")
    assert braze.get_float32_matmul_precision() == "highest"
    braze.use_deterministic_algorithms(True, warn_only=True)
    assert braze.are_deterministic_algorithms_enabled()
    assert braze.is_deterministic_algorithms_warn_only_enabled()
    braze.set_deterministic_debug_mode(0)
    assert braze.get_deterministic_debug_mode() == 0
    assert not braze.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="invalid value of debug_mode"):
        braze.set_deterministic_debug_mode("loud")
    with pytest.raises(RuntimeError, match="positive integer"):
        braze.set_num_interop_threads(0)
    assert braze.compiled_with_cxx11_abi() is True and not braze.is_warn_always_enabled()


def test_precisions_of_products_are_one_setting():
    matmul = braze.backends.cuda.matmul
    with braze.config.using(matmul_precision="highest"):
        for precision in ("high", "medium"):
            braze.set_float32_matmul_precision(precision)
            assert braze.get_float32_matmul_precision() == precision and matmul.allow_tf32 is True
        matmul.allow_tf32 = False
        assert braze.get_float32_matmul_precision() == "highest"
        matmul.allow_tf32 = True
        assert braze.get_float32_matmul_precision() == "high"
        braze.set_float32_matmul_precision("highest")
        assert matmul.allow_tf32 is False


def test_convolutions_may_be_rounded_where_products_are():
    cudnn = braze.backends.cudnn
    assert cudnn.allow_tf32 is True
    with cudnn.flags(allow_tf32=False):
        assert cudnn.allow_tf32 is False and braze.config.convolution_tf32 is False
    assert cudnn.allow_tf32 is True and braze.config.convolution_tf32 is True


def test_deterministic_programs_wait_for_the_compiler():
    with braze.config.using(background="auto"):
        braze.use_deterministic_algorithms(True)
        braze.use_deterministic_algorithms(True, warn_only=True)
        assert braze.config.background == "never"
        braze.use_deterministic_algorithms(False)
        assert braze.config.background == "auto"
        braze.set_deterministic_debug_mode("warn")
        assert braze.config.background == "never"
        assert braze.is_deterministic_algorithms_warn_only_enabled()
        braze.set_deterministic_debug_mode(0)
        assert braze.config.background == "auto"


def test_numbers_of_sizes():
    assert braze.sym_int(-3.7) == -3 and braze.sym_float(2) == 2.0
    assert braze.sym_max(1, 2.0) == 2.0 and braze.sym_min(1, 2) == 1
    assert braze.sym_ite(False, 1, 2) == 2 and braze.sym_not(True) is False
    assert braze.sym_sum([1, 2]) == braze.sym_sum(1, 2) == 3 and braze.sym_sqrt(9) == 3
    braze.sym_constrain_range(2, min=1, max=3)
    with pytest.raises(RuntimeError, match="Invalid value range"):
        braze.sym_constrain_range_for_size(-1)


def test_losses_and_distances(tier):
    x, y = braze.tensor(X), braze.tensor(X[::-1].copy())
    same(braze.pdist(x), [np.linalg.norm(X[i] - X[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    expected = np.abs(X - X[::-1] + 1e-6).sum(1)
    same(braze.pairwise_distance(x, y, 1.0), expected)
    target = braze.tensor([[1.0], [-1.0], [1.0]])
    sign = target.numpy()
    loss = np.maximum(-sign * (X - X[::-1]) + 0.1, 0)
    same(braze.margin_ranking_loss(x, y, target, 0.1), loss)
    same(braze.margin_ranking_loss(x, y, target, 0.1, 2), loss.sum())
    same(braze.nn.functional.margin_ranking_loss(x, y, target, 0.1), loss.mean())
    hinge = np.where(sign == 1, X, np.maximum(1 - X, 0))
    same(braze.hinge_embedding_loss(x, target), hinge)
    same(braze.poisson_nll_loss(x, y, True, False, 1e-8, 0), np.exp(X) - X[::-1] * X)
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        braze.kl_div(x, y, 3)
    root = math.sqrt
    cosine = (X * X[::-1]).sum(1) / [
        root((a @ a + 1e-12) * (b @ b + 1e-12)) for a, b in zip(X, X[::-1], strict=True)
    ]
    same(braze.cosine_embedding_loss(x, y, braze.ones(3)), 1 - cosine)


def test_convolutions_and_pixels(tier):
    image = braze.tensor(np.arange(16.0).reshape(1, 4, 2, 2))
    same(braze.pixel_shuffle(image, 2)[0, 0, 0], [0, 4, 1, 5])
    same(braze.pixel_unshuffle(braze.pixel_shuffle(image, 2), 2), image.numpy())
    same(braze.channel_shuffle(image, 2)[0, :, 0, 0], [0, 8, 4, 12])
    signal, kernel = RNG.normal(size=(1, 1, 6)), RNG.normal(size=(1, 1, 3))
    x, w = braze.tensor(signal), braze.tensor(kernel)
    right = np.correlate(signal[0, 0], kernel[0, 0], "valid")
    same(braze.convolution(x, w, None, [1], [0], [1], False, [0], 1)[0, 0], right)
    full = np.convolve(signal[0, 0], kernel[0, 0])
    same(braze.convolution(x, w, None, [1], [0], [1], True, [0], 1)[0, 0], full)
    same(braze.conv_transpose1d(x[0], w, braze.ones(1, dtype=braze.float64))[0], full + 1)
    time = braze.conv_tbc(
        x.permute(2, 0, 1), w.permute(2, 1, 0), braze.zeros(1, dtype=braze.float64)
    )
    same(time[:, 0, 0], right)
    values, places = braze.max_pool1d_with_indices(x, 2)
    same(values[0, 0], signal[0, 0].reshape(3, 2).max(1))
    assert places[0, 0].tolist() == (signal[0, 0].reshape(3, 2).argmax(1) + [0, 2, 4]).tolist()
    same(braze.constant_pad_nd(x, (1, 0), 2.0)[0, 0], [2, *signal[0, 0]])


def test_normalisations(tier):
    x, weight = braze.tensor(X), braze.tensor([1.0, 2.0, 3.0, 4.0], dtype=braze.float64)
    root = np.sqrt((X**2).mean(1, keepdims=True) + 0.1)
    same(braze.rms_norm(x, (4,), weight, 0.1), X / root * weight.numpy())
    out, mean, scale = braze.native_layer_norm(x, (4,), None, None, 0.1)
    right = 1 / np.sqrt(X.var(1, keepdims=True) + 0.1)
    same(out, (X - X.mean(1, keepdims=True)) * right)
    same(mean, X.mean(1, keepdims=True))
    same(scale, right)
    planes = RNG.normal(size=(2, 3, 5))
    deviation = np.sqrt(planes.var(2, keepdims=True) + 1e-5)
    normal = (planes - planes.mean(2, keepdims=True)) / deviation
    mean, variance = braze.zeros(3, dtype=braze.float64), braze.ones(3, dtype=braze.float64)
    found = braze.instance_norm(
        braze.tensor(planes), None, None, mean, variance, True, 0.5, 1e-5, False
    )
    same(found, normal, 1e-10)
    same(mean, planes.mean((0, 2)) / 2)
    same(variance, 0.5 + planes.var(2, ddof=1).mean(0) / 2)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        braze.nn.functional.instance_norm(braze.zeros(2, 3, 1))


def test_activations_that_write_to_their_input(tier):
    functional = braze.nn.functional
    cases = {
        "celu_": np.where(X > 0, X, np.expm1(X)),
        "elu_": np.where(X > 0, X, np.expm1(X)),
        "hardtanh_": np.clip(X, -1, 1),
        "leaky_relu_": np.where(X > 0, X, 0.01 * X),
        "rrelu_": np.where(X > 0, X, X * (1 / 8 + 1 / 3) / 2),
        "selu_": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X)),
    }
    for name, expected in cases.items():
        x = braze.tensor(X.copy())
        assert getattr(functional, name)(x) is x
        same(x, expected)
    image = RNG.normal(size=(1, 1, 4, 6))
    values, places = functional.max_pool2d_with_indices(braze.tensor(image), 2)
    blocks = image.reshape(2, 2, 3, 2).transpose(0, 2, 1, 3).reshape(2, 3, 4)
    same(values[0, 0], blocks.max(-1))
    same(braze.tensor(image).reshape(-1)[places.reshape(-1)], blocks.max(-1).reshape(-1))
