"""Cases of dropout layers and functions."""

import numpy as np
from compare_cases import case
from compare_modules import functional, module

# Name of the function -> (name of the layer, an input's shape).
KINDS = {
    "dropout": ("Dropout", (300, 40)),
    "dropout1d": ("Dropout1d", (300, 40, 3)),
    "dropout2d": ("Dropout2d", (300, 40, 3, 2)),
    "dropout3d": ("Dropout3d", (300, 40, 3, 2, 1)),
    "alpha_dropout": ("AlphaDropout", (300, 40)),
    "feature_alpha_dropout": ("FeatureAlphaDropout", (300, 40, 3)),
}
LAYERS = dict(KINDS.values())


def rows_and_share(x):
    """Mean and deviation, the levels, and in how many channels all elements are equal."""
    levels = np.unique(np.round(x, 4))
    flat = x.reshape(*x.shape[:2], -1)
    together = np.mean((flat == flat[:, :, :1]).all(-1))
    return [x.mean(), x.std(), *levels[:3], len(levels), together]


@case(*(f"torch.nn.functional.{name}" for name in KINDS))
def functions(c, name):
    _, shape = KINDS[name]
    small = c.f64(2, 3, *shape[2:])
    F = lambda m: getattr(m.nn.functional, name)  # noqa: E731
    for p in (0.5, 0.2, 0.9):
        c.random(lambda m, p=p: F(m)(m.ones(*shape), p, True), statistics=rows_and_share)
        c.random(
            lambda m, p=p: F(m)(m.full(shape, 2.0, dtype=m.float64), p=p, training=True),
            statistics=rows_and_share,
        )
    c.random(lambda m: F(m)(m.ones(*shape)), statistics=rows_and_share)

    def inside(m):
        x = m.ones(*shape)
        y = F(m)(x, 0.3, True, True)
        return m.where(m.tensor(y is x), y, 7)

    c.random(inside, statistics=rows_and_share)

    def gradient(m):
        x = m.ones(*shape, requires_grad=True)
        return m.autograd.grad(F(m)(x, 0.3, True).sum(), x)[0]

    c.random(gradient, statistics=rows_and_share)

    def gradient_inside(m):
        x = m.ones(*shape, requires_grad=True)
        return m.autograd.grad(F(m)(x * 1, 0.3, True, inplace=True).sum(), x)[0]

    c.random(gradient_inside, statistics=rows_and_share)
    c(functional(name, training=False), small, gradients=2)
    c(functional(name, 0.0, True), small, gradients=2)
    c(functional(name, 1.0, True), small, gradients=1)
    c(lambda m, x: F(m)(x, 1.0, True, True), c.f32(2, 3, *shape[2:]))
    c(lambda m, x: F(m)(x, 0.4, False) is x, small, gradients=0)
    c(lambda m, x: F(m)(input=x, p=0.4, training=True), c.f32(2, 0, *shape[2:]))
    for p in (-0.1, 1.1):
        c.error(functional(name, p), small)
        c.error(functional(name, p, False), small)
    c.error(functional(name, 0.5, True), c.i64(2, 3, *shape[2:]))
    c.error(functional(name, 0.5, True, True), small)
    if name in ("dropout", "alpha_dropout"):
        c.error(lambda m: F(m)(1.5, 0.5, True))
    c(functional(name, 0.5, False), c.i64(2, 3, *shape[2:]))


@case(*(f"torch.nn.functional.{name}" for name in KINDS))
def half_precision(c, name):
    shape = KINDS[name][1]

    def f(m, kind):
        x = m.ones(*shape, dtype=getattr(m, kind))
        return getattr(m.nn.functional, name)(x, 0.25, True)

    for kind in ("float16", "bfloat16"):
        c.random(lambda m, kind=kind: f(m, kind), statistics=lambda x: rows_and_share(x * 1.0)[:2])


@case(*(f"torch.nn.functional.dropout{n}d" for n in (1, 2, 3)))
def ranks(c, name):
    """Without a batch, and of ranks that are not meant for it."""
    f = lambda m, *shape: getattr(m.nn.functional, name)(m.ones(*shape), 0.4)  # noqa: E731
    for shape in ((6000, 5), (6000, 5, 4), (6000, 5, 3, 2), (6000, 5, 1, 2, 3)):
        if name == "dropout1d" and len(shape) > 3:
            c.error(lambda m, s=shape: f(m, *s))
            continue

        def kinds(x):
            """Which dimensions are dropped as a whole."""
            whole = [float((x == x.take([0], axis)).all()) for axis in range(x.ndim)]
            return [x.mean(), *whole]

        c.random(lambda m, s=shape: f(m, *s), statistics=kinds)
    if name != "dropout3d":
        c.error(lambda m: f(m, 3))


@case("torch.nn.functional.feature_alpha_dropout")
def feature_alpha_ranks(c):
    c.error(functional("feature_alpha_dropout", 0.5, True), c.f32(3))
    c(functional("feature_alpha_dropout", 0.5, False), c.f32(3))


@case(*(f"torch.nn.{layer}" for layer in LAYERS))
def layers(c, layer):
    shape = LAYERS[layer]
    small = (2, 3, *shape[2:])
    module(c, lambda nn: getattr(nn, layer)(), c.f64(*small), evaluate=True, gradients=2)
    module(c, lambda nn: getattr(nn, layer)(0.0), c.f64(*small), gradients=2)
    module(c, lambda nn: getattr(nn, layer)(p=1), c.f64(*small))
    module(c, lambda nn: getattr(nn, layer)(0.3, inplace=True), c.f32(*small), evaluate=True)
    c.random(lambda m: getattr(m.nn, layer)()(m.ones(*shape)), statistics=rows_and_share)
    c.random(lambda m: getattr(m.nn, layer)(0.2, False)(m.ones(*shape)), statistics=rows_and_share)

    def inside(m):
        x = m.ones(*shape)
        y = getattr(m.nn, layer)(0.3, inplace=True)(x)
        return m.where(m.tensor(y is x), y, y + 100)

    c.random(inside, statistics=rows_and_share)
    c.error(lambda m: getattr(m.nn, layer)(-0.1))
    c.error(lambda m: getattr(m.nn, layer)(1.1))
