"""Random numbers: distributions by moments and Kolmogorov's statistic, streams, both tiers."""

import math

import numpy as np
import pytest

import braze

COUNT = 20000
# Kolmogorov: P(sqrt(n) D > 1.95) is 0.001; the seeds are fixed.
LIMIT = 1.95 / math.sqrt(COUNT)


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield
    braze.sync()
    braze.config.tier = before


def distance(sample, cumulative):
    """Kolmogorov's statistic of a sample of a continuous distribution."""
    x = np.sort(np.asarray(sample, np.float64).reshape(-1))
    exact = np.array([cumulative(v) for v in x])
    steps = np.arange(x.size + 1) / x.size
    return max(np.abs(exact - steps[1:]).max(), np.abs(exact - steps[:-1]).max())


def normal_cdf(mean, std):
    return lambda v: 0.5 * math.erfc(-(v - mean) / std / math.sqrt(2))


FILLS = {
    "uniform_": ((-1.0, 3.0), lambda v: (v + 1) / 4),
    "normal_": ((1.0, 2.0), normal_cdf(1.0, 2.0)),
    "log_normal_": ((0.5, 0.7), lambda v: normal_cdf(0.5, 0.7)(math.log(v))),
    "exponential_": ((1.5,), lambda v: 1 - math.exp(-1.5 * v)),
    "cauchy_": ((2.0, 0.5), lambda v: 0.5 + math.atan((v - 2.0) / 0.5) / math.pi),
}


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_continuous_fills(name, dtype, tier):
    braze.manual_seed(3)
    arguments, cumulative = FILLS[name]
    x = braze.zeros(COUNT, dtype=getattr(braze, dtype))
    assert getattr(x, name)(*arguments) is x
    assert np.isfinite(x.numpy()).all()
    assert distance(x.numpy(), cumulative) < LIMIT


@pytest.mark.parametrize("name", [*FILLS, "geometric_", "random_", "bernoulli_"])
def test_the_tiers_draw_the_same(name):
    before, drawn = braze.config.tier, []
    for tier in ("interpret", "compile"):
        braze.sync()
        braze.config.tier = tier
        braze.manual_seed(11)
        x = braze.zeros(257)
        arguments = FILLS[name][0] if name in FILLS else (0.3,) if name != "random_" else (50,)
        drawn.append(getattr(x, name)(*arguments).numpy().copy())
        braze.sync()
    braze.config.tier = before
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=2e-6, atol=1e-5)
    assert len(np.unique(drawn[0])) > 1


def test_discrete_fills(tier):
    braze.manual_seed(4)
    x = braze.zeros(COUNT).geometric_(0.25).numpy()
    assert x.min() == 1 and abs(x.mean() - 4) < 0.12
    for k in (1, 2, 5):
        assert abs((x == k).mean() - 0.25 * 0.75 ** (k - 1)) < 0.015
    x = braze.zeros(COUNT, dtype=braze.int64).random_(-2, 3).numpy()
    assert sorted(np.unique(x)) == [-2, -1, 0, 1, 2] and abs(x.mean()) < 0.05
    x = braze.zeros(COUNT, dtype=braze.uint8).random_().numpy()
    assert x.min() == 0 and x.max() == 255
    x = braze.zeros(COUNT).random_().numpy()
    assert x.max() > 2**23 and x.max() <= 2**24 and (x == np.floor(x)).all()
    x = braze.zeros(2, COUNT).bernoulli_(braze.tensor([[0.1], [0.8]])).numpy()
    np.testing.assert_allclose(x.mean(1), [0.1, 0.8], atol=0.015)
    x = braze.bernoulli(braze.full((COUNT,), 0.3)).numpy()
    assert abs(x.mean() - 0.3) < 0.015 and set(x) == {0.0, 1.0}


@pytest.mark.parametrize("rate", [0.0, 0.3, 4.0, 9.9, 10.1, 40.0, 1e4])
def test_poisson(rate, tier):
    braze.manual_seed(5)
    x = braze.poisson(braze.full((COUNT // 4,), rate)).numpy().astype(float)
    assert (x >= 0).all() and (x == np.floor(x)).all()
    spread = math.sqrt(rate / x.size)
    assert abs(x.mean() - rate) <= 4.5 * spread
    assert abs(x.var() - rate) <= 6 * rate * math.sqrt((2 + 1 / max(rate, 1e-9)) / x.size)
    if 0 < rate < 100:
        for k in {int(rate), int(rate + math.sqrt(rate)), max(int(rate - math.sqrt(rate)), 0)}:
            p = math.exp(k * math.log(rate) - rate - math.lgamma(k + 1))
            assert abs((x == k).mean() - p) < 4.5 * math.sqrt(p / x.size)


def test_poisson_of_tensors(tier):
    braze.manual_seed(6)
    rates = braze.tensor([[1.0, 20.0], [0.0, 5.0]], dtype=braze.float64)
    x = braze.poisson(rates)
    assert x.dtype is braze.float64 and x.shape == (2, 2) and x[1, 0].item() == 0
    with pytest.raises(RuntimeError, match="not implemented"):
        braze.poisson(braze.tensor([1]))


def test_multinomial(tier):
    braze.manual_seed(7)
    weights = braze.tensor([[1.0, 3.0, 0.0, 4.0], [0.0, 0.0, 2.0, 0.0]])
    x = braze.multinomial(weights, 4000, replacement=True)
    assert x.shape == (2, 4000) and x.dtype is braze.int64
    shares = np.bincount(x[0].numpy(), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.125, 0.375, 0, 0.5], atol=0.03)
    assert (x[1].numpy() == 2).all()
    assert weights[0].multinomial(1).shape == (1,)
    for weights in ([0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [1.0, float("nan"), 1.0]):
        with pytest.raises(RuntimeError, match="distribution|probability tensor contains"):
            braze.multinomial(braze.tensor(weights), 5, replacement=True).tolist()
    for count in (1, 3, 40):
        many = braze.rand(50) + 0.1
        many[7] = 0.0
        drawn = braze.multinomial(many, count).numpy()
        assert drawn.shape == (count,) and len(set(drawn)) == count and 7 not in drawn
    assert sorted(braze.multinomial(braze.ones(2, 30), 30)[1].tolist()) == list(range(30))


def test_rare_categories_are_drawn(tier):
    """One of a thousand among many that are as good as impossible, at both ends of the sums."""
    braze.manual_seed(9)
    weights = braze.full((2000,), 1e-30)
    weights[1999], weights[0] = 1.0, 999.0
    drawn = braze.multinomial(weights, 20000, replacement=True)
    assert set(drawn.unique().tolist()) == {0, 1999}
    assert abs((drawn == 1999).sum().item() - 20) < 20


def test_multinomial_without_replacement_follows_the_weights(tier):
    braze.manual_seed(8)
    weights = braze.tensor([1.0, 2.0, 7.0]).expand(4000, 3)
    first, second = braze.multinomial(weights, 2).numpy().T
    np.testing.assert_allclose(np.bincount(first) / 4000, [0.1, 0.2, 0.7], atol=0.03)
    after = second[first == 2]
    np.testing.assert_allclose((after == 0).mean(), 1 / 3, atol=0.03)


def test_errors():
    x, whole = braze.zeros(3), braze.zeros(3, dtype=braze.int64)
    wrong = [
        (lambda: x.uniform_(2.0, 1.0), "uniform_ expects"),
        (lambda: x.normal_(0.0, -1.0), "normal expects std"),
        (lambda: x.log_normal_(0.0, 0.0), "log_normal_ expects"),
        (lambda: x.exponential_(0.0), "exponential_ expects"),
        (lambda: x.cauchy_(0.0, 0.0), "cauchy_ expects"),
        (lambda: x.geometric_(1.0), "geometric_ expects"),
        (lambda: x.bernoulli_(1.5), "bernoulli_ expects"),
        (lambda: x.random_(3, 3), "less than 'to'"),
        (lambda: whole.normal_(), "not implemented"),
        (lambda: whole.exponential_(), "not implemented"),
        (lambda: braze.bernoulli(whole), "not implemented"),
        (lambda: braze.multinomial(x, 4), "without replacement"),
        (lambda: braze.multinomial(x, 0), "n_sample <= 0"),
        (lambda: braze.multinomial(whole, 1), "floating-point dtypes"),
        (lambda: braze.multinomial(braze.zeros(1, 1, 1), 1), "1 or 2 dim"),
        (lambda: braze.normal(0.0, -1.0, (2,)), "std >= 0.0"),
    ]
    for function, message in wrong:
        with pytest.raises(RuntimeError, match=message):
            function()
    with pytest.raises(TypeError, match="need a size"):
        braze.normal(0.0, 1.0)


def test_normal_of_tensors(tier):
    braze.manual_seed(9)
    mean, std = braze.tensor([[0.0], [100.0]]), braze.tensor([1.0, 5.0, 0.0])
    assert braze.normal(mean, std).shape == (2, 3)
    x = braze.normal(mean.expand(2, COUNT), 2.0).numpy()
    np.testing.assert_allclose(x.mean(1), [0, 100], atol=0.08)
    np.testing.assert_allclose(x.std(1), [2, 2], atol=0.06)
    assert braze.normal(3.0, 0.0, (2,)).tolist() == [3.0, 3.0]
    assert braze.normal(1.0, braze.ones(4, dtype=braze.float64)).dtype is braze.float64


def test_draws_of_one_stream_do_not_overlap():
    """An f64 number takes two words: the next draw must not begin at the second."""
    for dtype in (braze.float32, braze.float64):
        generator = braze.Generator().manual_seed(1)
        halves = [braze.rand(64, dtype=dtype, generator=generator).numpy() for _ in range(4)]
        assert len(np.unique(np.concatenate(halves))) == 256
    words = []
    generator = braze.Generator().manual_seed(1)
    for dtype in (braze.float64, braze.float32):
        drawn = braze.rand(32, dtype=dtype, generator=generator).double().numpy()
        words.append(drawn)
    # The low words of the f64 numbers, had the second draw reused them.
    low = np.floor(words[0] * 2.0**53) % 2**21
    assert not (np.floor(words[1] * 2.0**21) == low).any()


def test_generators_and_states():
    generator = braze.Generator()
    assert generator.manual_seed(5) is generator and generator.initial_seed() == 5
    assert generator.device == "cpu"
    first = braze.rand(3, generator=generator).tolist()
    state = generator.get_state()
    second = braze.rand(3, generator=generator).tolist()
    copy = generator.clone_state()
    generator.set_state(state)
    assert braze.rand(3, generator=generator).tolist() == second
    assert copy.get_state().tolist() == generator.get_state().tolist()
    assert braze.rand(3, generator=braze.Generator().manual_seed(5)).tolist() == first
    x = braze.zeros(3).uniform_(generator=braze.Generator().manual_seed(5))
    assert x.tolist() == first
    with pytest.raises(TypeError, match="RNG state"):
        generator.set_state(braze.zeros(3))


def test_the_default_stream():
    braze.manual_seed(12)
    assert braze.initial_seed() == 12
    state = braze.get_rng_state()
    first = braze.rand(4).tolist()
    with braze.random.fork_rng():
        braze.manual_seed(99)
        braze.rand(10)
    second = braze.rand(4).tolist()
    braze.set_rng_state(state)
    assert [braze.rand(4).tolist(), braze.rand(4).tolist()] == [first, second]
    assert braze.seed() == braze.initial_seed() != 12
    assert braze.default_generator is braze.random.default_generator


def test_shapes_and_dtypes_of_new_tensors():
    like = braze.zeros(2, 3, dtype=braze.float64)
    for function in (braze.rand_like, braze.randn_like):
        assert function(like).dtype is braze.float64 and function(like).shape == (2, 3)
        assert function(like, requires_grad=True).requires_grad
    x = braze.randint_like(like, 2, 5)
    assert x.dtype is braze.float64 and set(x.reshape(-1).tolist()) <= {2.0, 3.0, 4.0}
    assert braze.randint_like(like, 1).sum().item() == 0
    assert braze.randint(3, (2, 2)).dtype is braze.int64
    assert braze.randint(3, size=(2,)).shape == (2,)
    assert braze.randint(1, 3, (2,), dtype=braze.float32).dtype is braze.float32
    assert sorted(braze.randperm(9).tolist()) == list(range(9))
    assert braze.randperm(4, dtype=braze.int32).dtype is braze.int32


def test_padded_numbers_in_one_kernel_with_random_ones(tier):
    """Writing to an element pads a number, which may be fused with the random numbers."""
    braze.manual_seed(7)
    noise = braze.rand(40).tolist()
    braze.manual_seed(7)
    x = braze.zeros(40)
    x[7] = 0.5
    expected = np.float32(noise)
    expected[7] += np.float32(0.5)
    np.testing.assert_allclose((x + braze.rand(40)).numpy(), expected, rtol=1e-6)
