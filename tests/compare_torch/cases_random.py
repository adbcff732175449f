"""Cases of the section "Random sampling" and of random functions of the long tail."""

import numpy as np
from compare_cases import DTYPES, FLOATS, case, moments


def bounds(array):
    """Bounds and moments, for numbers of a bounded range."""
    return (*moments(array), float(array.min() >= 0), float(array.max() < 1))


def nothing(array):
    """No numbers: shape and dtype alone are compared."""
    return ()


def sorted_values(array):
    return np.sort(array.reshape(-1)).astype(float)


@case("torch.manual_seed", "torch.initial_seed")
def seeds(c, name):
    def again(m):
        m.manual_seed(5)
        first = m.rand(4)
        m.manual_seed(5)
        return m.equal(first, m.rand(4)), m.equal(first, m.rand(4)), m.initial_seed()

    c(again)
    c(lambda m: type(m.manual_seed(3)).__name__)
    c(lambda m: (m.manual_seed(seed=2**40), m.initial_seed())[1])
    c(lambda m: (m.manual_seed(-1), m.initial_seed())[1])
    c(lambda m: (m.manual_seed(True), m.initial_seed())[1])
    c.error(lambda m: m.manual_seed("a"))
    c.error(lambda m: m.manual_seed(2**70))
    c.error(lambda m: m.initial_seed(3))


@case("torch.get_rng_state", "torch.set_rng_state")
def states(c, name):
    def restored(m):
        state = m.get_rng_state()
        first = m.rand(4)
        m.set_rng_state(state)
        return m.equal(first, m.rand(4)), state.dtype, state.dim()

    c(restored)
    c.error(lambda m: m.set_rng_state(3))
    c.error(lambda m, x: m.set_rng_state(x), c.f32(3))
    c.error(lambda m: m.get_rng_state(3))


@case("torch.rand", "torch.randn")
def samples(c, name):
    f = lambda m, *a, **k: getattr(m, name)(*a, **k)  # noqa: E731
    statistics = bounds if name == "rand" else moments
    c.random(lambda m: f(m, 8000), statistics=statistics, compiled=True)
    c.random(lambda m: f(m, 80, 100, dtype=m.float64), statistics=statistics)
    c.random(lambda m: f(m, (80, 100), dtype=m.float16), statistics=moments)
    c.random(lambda m: f(m, (80, 100), dtype=m.bfloat16), statistics=moments)
    c.random(lambda m: f(m, size=(20, 400)), statistics=statistics)
    c.random(lambda m, x: f(m, 20, 400, out=x), c.f32(20, 400), statistics=statistics)
    for size in ((0,), (2, 0), ((),), ([1],)):
        c.random(lambda m, s=size: f(m, *s), statistics=nothing)
    c(lambda m: f(m, 2, requires_grad=True).requires_grad)
    c(lambda m: m.equal(f(m, 3, generator=m.Generator().manual_seed(1)),
                        f(m, 3, generator=m.Generator().manual_seed(1))))  # fmt: skip
    c.error(lambda m: f(m, -1))
    c.error(lambda m: f(m, 2.5))
    c.error(lambda m: f(m, 2, dtype=m.int64))
    c.error(lambda m: f(m, "2"))


@case("torch.rand_like", "torch.randn_like")
def samples_like(c, name):
    f = lambda m, x, **k: getattr(m, name)(x, **k)  # noqa: E731
    for dtype in FLOATS:
        c.random(f, c.of(dtype, 80, 100))
    c.random(lambda m, x: f(m, x, dtype=m.float64), c.i64(80, 100).seen("transposed"))
    c.random(f, c.f32(0), statistics=nothing)
    c.error(f, c.i64(3))
    c.error(lambda m: f(m, 3))


@case("torch.randint")
def randint(c):
    c.random(lambda m: m.randint(10, (8000,)), compiled=True)
    c.random(lambda m: m.randint(-5, 5, (80, 100)))
    c.random(lambda m: m.randint(low=3, high=4, size=(9,)))
    c.random(lambda m: m.randint(high=3, size=(8000,)))
    for dtype in DTYPES:
        c.random(lambda m, d=dtype: m.randint(0, 2, (8000,), dtype=getattr(m, d)))
    c.random(lambda m, x: m.randint(5, (8000,), out=x), c.i64(8000))
    c.random(lambda m: m.randint(2**40, (8000,)), statistics=lambda a: moments(a / 2**40))
    c.error(lambda m: m.randint(0, (3,)))
    c.error(lambda m: m.randint(5, 5, (3,)))
    c.error(lambda m: m.randint(5, 2, (3,)))
    c.error(lambda m: m.randint(5, 3))
    c.error(lambda m: m.randint(2.5, (3,)))
    c.error(lambda m: m.randint(0, 300, (3,), dtype=m.uint8))


@case("torch.randint_like")
def randint_like(c):
    c.random(lambda m, x: m.randint_like(x, 10), c.i64(80, 100))
    c.random(lambda m, x: m.randint_like(x, -3, 3), c.f32(80, 100).seen("transposed"))
    c.random(lambda m, x: m.randint_like(input=x, low=1, high=5, dtype=m.int32), c.f32(80, 100))
    c.error(lambda m, x: m.randint_like(x, 0), c.i64(3))
    c.error(lambda m: m.randint_like(3, 2))


@case("torch.randperm")
def randperm(c):
    for n in (0, 1, 9):
        c.random(lambda m, n=n: m.randperm(n), statistics=sorted_values, within=0)
    for dtype in ("int32", "float32", "int16"):
        c.random(lambda m, d=dtype: m.randperm(7, dtype=getattr(m, d)), statistics=sorted_values)
    c.random(lambda m: m.stack([m.randperm(4) for _ in range(200)]).double().mean(0), within=0.3)
    c.random(lambda m, x: m.randperm(5, out=x), c.i64(5), statistics=sorted_values)
    c.error(lambda m: m.randperm(-1))
    c.error(lambda m: m.randperm(2.5))
    c.error(lambda m: m.randperm(300, dtype=m.uint8))


@case("torch.bernoulli")
def bernoulli(c):
    c.random(lambda m, x: m.bernoulli(x), c.f32(8000, low=0.2, high=0.4), compiled=True)
    c.random(lambda m, x: m.bernoulli(x, 0.3), c.f64(80, 100).seen("transposed"))
    c.random(lambda m, x: m.bernoulli(x, 0.3), c.i64(8000))
    c(lambda m, x: m.bernoulli(x), c.exactly([0.0, 1.0, 1.0, 0.0]), gradients=1)
    share = c.exactly(np.full(8000, 0.3), "float32")
    c.random(lambda m, x, o: m.bernoulli(x, out=o), share, share)
    c.error(lambda m, x: m.bernoulli(x), c.exactly([1.5], "float32"))
    c.error(lambda m, x: m.bernoulli(x), c.exactly([-0.5], "float32"))
    c.error(lambda m, x: m.bernoulli(x, 1.5), c.f32(3))
    c.error(lambda m, x: m.bernoulli(x), c.i64(3))


@case("torch.multinomial")
def multinomial(c):
    weights = c.exactly([0.1, 0.2, 0.3, 0.4], "float32")
    c.random(lambda m, x: m.multinomial(x, 8000, True), weights, compiled=True)
    c.random(lambda m, x: m.multinomial(x, 4000, replacement=True), c.f64(2, 5, low=1).constant())
    c.random(lambda m, x: m.multinomial(x, 4), weights, statistics=sorted_values)
    c.random(lambda m, x: m.multinomial(input=x, num_samples=2), c.exactly([0.0, 1.0, 0.0, 2.0]),
             statistics=sorted_values)  # fmt: skip
    c.random(
        lambda m, x: m.stack([m.multinomial(x, 2) for _ in range(800)]).double().mean(0), weights
    )
    c.error(lambda m, x: m.multinomial(x, 5), weights)
    c.error(lambda m, x: m.multinomial(x, 0), weights)
    c.error(lambda m, x: m.multinomial(x, 2), c.exactly([1.0, -1.0], "float32"))
    c.error(lambda m, x: m.multinomial(x, 2), c.exactly([0.0, 0.0], "float32"))
    c.error(lambda m, x: m.multinomial(x, 2), c.exactly([1, 2]))
    c.error(lambda m, x: m.multinomial(x, 2), c.f32(2, 2, 2, low=1))
    c.error(lambda m, x: m.multinomial(x, 2), c.exactly([1.0, np.nan, 1.0], "float32"))


@case("torch.normal")
def normal(c):
    mean, std = c.f32(8000), c.f32(8000, low=1)
    c.random(lambda m, x, y: m.normal(x, y), mean, std, compiled=True, within=0.1)
    c.random(lambda m, x: m.normal(x, 2.0), mean, within=0.1)
    c.random(lambda m, x: m.normal(mean=x), mean, within=0.1)
    c.random(lambda m, y: m.normal(0.5, y), std, within=0.1)
    c.random(lambda m: m.normal(1.0, 2.0, (80, 100)), within=0.1)
    c.random(lambda m: m.normal(mean=1, std=2, size=(80, 100), dtype=m.float64), within=0.1)
    c.random(
        lambda m, x, y: m.normal(x, y),
        c.f64(80, 1).constant(),
        c.f64(100, low=1).constant(),
        within=0.1,
    )
    c.random(
        lambda m, x, y, o: m.normal(x, y, out=o),
        mean,
        std,
        c.f32(8000),
        statistics=moments,
        within=0.1,
    )
    c.error(lambda m, x: m.normal(x, -1.0), c.f32(3))
    c.error(lambda m, x, y: m.normal(x, y), c.f32(3), c.exactly([-1.0, 1.0, 1.0], "float32"))
    c.error(lambda m, x, y: m.normal(x, y), c.f32(3), c.f32(4, low=1))
    c.error(lambda m, x: m.normal(x, 1.0), c.i64(3))


@case("torch.poisson")
def poisson(c):
    for rate in (0.5, 4.0, 60.0):
        c.random(lambda m, x: m.poisson(x), c.exactly(np.full(20000, rate), "float32"))
    c.random(lambda m, x: m.poisson(x), c.f64(80, 100, low=0).constant().seen("transposed"))
    c(lambda m, x: m.poisson(x), c.exactly([0.0, 0.0]))
    c.error(lambda m, x: m.poisson(x), c.exactly([-1.0], "float32"))
    c.either(lambda m, x: m.poisson(x), c.i64(3, low=0))


def kept(array):
    """The share of zeros and the mean, for dropout of ones."""
    return (float((array == 0).mean()), float(array.mean()))


def ones(c, *shape, dtype="float32"):
    return c.exactly(np.ones(shape), dtype)


@case("torch.dropout", "torch.dropout_")
def dropout(c, name):
    f = lambda m, x, *a: getattr(m, name)(x * 1 if x.requires_grad else x, *a)  # noqa: E731
    c.random(lambda m, x: f(m, x, 0.3, True), ones(c, 20000), statistics=kept)
    c(lambda m, x: f(m, x, 0.3, False), c.f64(3, 4))
    c(lambda m, x: f(m, x, 0.0, True), c.f64(3, 4))
    c(lambda m, x: f(m, x, 1.0, True), c.f64(3, 4), gradients=0)
    c.error(lambda m, x: f(m, x, 1.5, True), c.f32(3))
    c.error(lambda m, x: f(m, x, -0.5, True), c.f32(3))


@case("torch.alpha_dropout", "torch.alpha_dropout_")
def alpha_dropout(c, name):
    f = lambda m, x, *a: getattr(m, name)(x * 1 if x.requires_grad else x, *a)  # noqa: E731
    c.random(lambda m, x: f(m, x, 0.3, True), c.f32(20000))
    c(lambda m, x: f(m, x, 0.3, False), c.f64(3, 4))
    c.error(lambda m, x: f(m, x, 1.5, True), c.f32(3))


@case("torch.feature_dropout", "torch.feature_dropout_")
def feature_dropout(c, name):
    f = lambda m, x, *a: getattr(m, name)(x * 1 if x.requires_grad else x, *a)  # noqa: E731
    c.random(lambda m, x: f(m, x, 0.3, True).sum(-1), ones(c, 100, 200, 3), statistics=kept)
    c(lambda m, x: f(m, x, 0.3, False), c.f64(3, 4))
    c.error(lambda m, x: f(m, x, 1.5, True), c.f32(3, 4))
    c.error(lambda m, x: f(m, x, 0.5, True), c.f32(3))


@case("torch.feature_alpha_dropout", "torch.feature_alpha_dropout_")
def feature_alpha_dropout(c, name):
    f = lambda m, x, *a: getattr(m, name)(x * 1 if x.requires_grad else x, *a)  # noqa: E731
    c.random(lambda m, x: f(m, x, 0.3, True), c.f32(100, 200, 3))
    c(lambda m, x: f(m, x, 0.3, False), c.f64(3, 4))
    c.error(lambda m, x: f(m, x, 1.5, True), c.f32(3, 4))


@case("torch.rrelu", "torch.rrelu_")
def rrelu(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x * 1 if x.requires_grad else x, *a, **k)  # noqa: E731
    c(lambda m, x: f(m, x), c.f64(3, 4))
    c(lambda m, x: f(m, x, 0.1, 0.3, False), c.f32(3, 4))
    c.random(lambda m, x: f(m, x, 0.2, 0.4, training=True), c.exactly(-np.ones(9000), "float32"))
