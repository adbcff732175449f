"""Cases of random numbers drawn in place."""

import numpy as np
from compare_cases import FLOATS, case, moments

# Method -> arguments, and keywords for the same.
FILLS = {
    "normal_": ((1.0, 2.0), {"mean": 1.0, "std": 2.0}),
    "uniform_": ((-1.0, 3.0), {"to": 3.0, "from": -1.0}),
    "log_normal_": ((0.5, 0.25), {"mean": 0.5, "std": 0.25}),
    "exponential_": ((2.0,), {"lambd": 2.0}),
    "cauchy_": ((1.0, 2.0), {"median": 1.0, "sigma": 2.0}),
    "geometric_": ((0.3,), {"p": 0.3}),
}


def nothing(array):
    """Of few numbers shape, dtype and which operand it is are compared."""
    return ()


def quartiles(array):
    """For distributions without moments."""
    return tuple(np.quantile(array.astype(np.float64), (0.25, 0.5, 0.75)) / 4)


def _statistics(name):
    return quartiles if name in ("cauchy_", "log_normal_") else moments


@case(*(f"Tensor.{name}" for name in FILLS))
def fills(c, name):
    positional, named = FILLS[name]
    look = {"statistics": _statistics(name), "within": 0.08}
    for dtype in FLOATS:
        c.random(lambda m, x: getattr(x, name)(*positional), c.of(dtype, 80, 200), **look)
    c.random(lambda m, x: getattr(x, name)(**named), c.f32(200, 80).seen("transposed"), **look)
    if name != "geometric_":
        c.random(lambda m, x: getattr(x, name)(), c.f32(16000), compiled=True, **look)
    c.random(lambda m, x: (getattr(x[:, 1], name)(*positional), x)[1], c.f32(8000, 2),
             statistics=quartiles, within=0.1)  # fmt: skip
    c.random(lambda m, x: getattr(x, name)(*positional), c.f32(3), statistics=nothing)
    c(lambda m, x: getattr(x, name)(*positional).shape, c.f32(0, 2))
    c(lambda m, x: getattr(x * 1, name)(*positional).requires_grad, c.f64(3))

    def seeded(m):
        made = [
            getattr(m.zeros(3), name)(*positional, generator=m.Generator().manual_seed(1))
            for _ in range(2)
        ]
        return m.equal(*made)

    c(seeded)
    c.error(lambda m, x: getattr(x, name)(*positional), c.f64(3))
    c.error(lambda m, x: getattr(x, name)("a"), c.f32(3))
    if name != "geometric_":
        c.either(lambda m, x: getattr(x, name)(*positional), c.i64(3))
    if name in ("normal_", "cauchy_", "exponential_", "log_normal_"):
        wrong = (-1.0,) if name == "exponential_" else (0.0, -1.0)
        c.error(lambda m, x: getattr(x, name)(*wrong), c.f32(3))
    if name == "uniform_":
        c.error(lambda m, x: x.uniform_(2, 1), c.f32(3))
    if name == "geometric_":
        c.random(lambda m, x: x.geometric_(0.3), c.i64(16000), **look)
        c.error(lambda m, x: x.geometric_(0.0), c.f32(3))
        c.error(lambda m, x: x.geometric_(1.5), c.f32(3))


@case("Tensor.bernoulli_")
def bernoulli(c):
    for dtype in ("float64", "float32", "bfloat16", "int64", "uint8", "bool"):
        c.random(lambda m, x: x.bernoulli_(0.3), c.of(dtype, 16000))
    c.random(lambda m, x: x.bernoulli_(), c.f32(16000), compiled=True)
    c.random(lambda m, x: x.bernoulli_(p=0.7), c.f32(200, 80).seen("transposed"))
    c.random(lambda m, x, p: x.bernoulli_(p), c.f32(80, 200), c.f32(80, 200, low=0, high=1))
    c(lambda m, x: (x.bernoulli_(0.0), x), c.f32(5))
    c(lambda m, x: x.bernoulli_(1.0), c.f32(5))
    c(lambda m, x: (x * 1).bernoulli_(0.5).requires_grad, c.f64(3))
    c.error(lambda m, x: x.bernoulli_(1.5), c.f32(3))
    c.error(lambda m, x: x.bernoulli_(-0.5), c.f32(3))
    c.error(lambda m, x: x.bernoulli_(0.5), c.f64(3))
    c.error(lambda m, x: x.bernoulli_("a"), c.f32(3))


@case("Tensor.random_")
def random(c):
    look = {"statistics": lambda a: (float(a.min()), float(a.max()), float(a.mean()) / 100)}
    for dtype in ("float64", "float32", "int64", "int32", "int16", "uint8", "int8"):
        c.random(lambda m, x: x.random_(100), c.of(dtype, 16000), **look)
        c.random(lambda m, x: x.random_(20, 60), c.of(dtype, 16000), **look)
    for dtype in ("uint8", "int8", "bool"):
        c.random(lambda m, x: x.random_(), c.of(dtype, 16000), **look)
    c.random(lambda m, x: x.random_(**{"from": 2, "to": 5}), c.i64(16000), **look)
    c.random(lambda m, x: x.random_(to=7), c.f32(200, 80).seen("transposed"), **look)
    c(lambda m: (m.zeros(1000).long().random_().max() > 2**40,))
    c(lambda m, x: x.random_(5).shape, c.f32(0))
    c.error(lambda m, x: x.random_(5, 5), c.f32(3))
    c.error(lambda m, x: x.random_(0), c.f32(3))
    c.error(lambda m, x: x.random_(5), c.f64(3))
    c.error(lambda m, x: x.random_(300), c.of("uint8", 3))
    c.error(lambda m, x: x.random_("a"), c.f32(3))
