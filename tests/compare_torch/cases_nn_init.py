"""Cases of initialisation: what is exact is compared, and of what is random the statistics."""

import math
import warnings

import numpy as np
from compare_cases import case
from compare_networks import message

SIZES = {"values": (300, 200), "convolution": (40, 30, 3, 5)}


def moments(array):
    """Mean, deviation, extremes and the part of zeros."""
    values = array.astype(np.float64)
    extremes = float(values.min()), float(values.max())
    return float(values.mean()), float(values.std()), *extremes, float((values == 0).mean())


def size(array):
    """The logarithm of the deviation: `within` is absolute too, and most of these are below 0.1."""
    return [np.log(array.astype(np.float64).std())]


def drawn(c, function, *shape, dtype="float32", within=0.05):
    """A function of a tensor, in place, without gradients, which is given back."""

    def run(m, x):
        made = m.nn.Parameter(x)
        given = function(m.nn.init, made)
        assert given is made and made.requires_grad and made.is_leaf
        return made.detach()

    x = c.of(dtype, *shape).constant()
    c.random(run, x, statistics=moments, within=within)
    c.random(run, x, statistics=size, within=0.02)


def exactly(c, function, *shape, dtype="float32"):
    def run(m, x):
        made = m.nn.Parameter(x)
        given = function(m.nn.init, made)
        return given is made, made

    c(run, c.of(dtype, *shape).constant(), gradients=0)


@case("torch.nn.init.calculate_gain")
def gain(c):
    kinds = ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
    kinds += [f"conv{d}d" for d in (1, 2, 3)] + [f"conv_transpose{d}d" for d in (1, 2, 3)]
    c(lambda m: [m.nn.init.calculate_gain(kind) for kind in kinds])
    c(lambda m: [m.nn.init.calculate_gain("leaky_relu", slope) for slope in (0, 0.2, 3)])
    c(lambda m: m.nn.init.calculate_gain("linear", "ignored"))
    c.error(lambda m: m.nn.init.calculate_gain("gelu"))
    c.error(lambda m: m.nn.init.calculate_gain("leaky_relu", "x"))
    c.error(lambda m: m.nn.init.calculate_gain("leaky_relu", True))


@case("torch.nn.init.constant_")
def constant(c):
    exactly(c, lambda init, x: init.constant_(x, 2.5), 3, 4)
    exactly(c, lambda init, x: init.constant_(x, val=-1), 3, dtype="bfloat16")
    c(lambda m, x: m.nn.init.constant_(x, 3), c.i64(3))


@case("torch.nn.init.ones_", "torch.nn.init.zeros_")
def filled(c, name):
    exactly(c, lambda init, x: getattr(init, name)(x), 3, 4)
    exactly(c, lambda init, x: getattr(init, name)(x), 3, dtype="float16")
    c(lambda m, x: getattr(m.nn.init, name)(x[1:]), c.f64(3, 2).constant(), gradients=0)


@case("torch.nn.init.eye_")
def eye(c):
    exactly(c, lambda init, x: init.eye_(x), 3, 4)
    exactly(c, lambda init, x: init.eye_(x), 4, 2, dtype="float64")
    c.error(lambda m, x: m.nn.init.eye_(x), c.f64(3).constant())
    c.error(lambda m, x: m.nn.init.eye_(x), c.f64(3, 1, 1).constant())


@case("torch.nn.init.dirac_")
def dirac(c):
    exactly(c, lambda init, x: init.dirac_(x), 3, 4, 5)
    exactly(c, lambda init, x: init.dirac_(x), 6, 2, 3, 4)
    exactly(c, lambda init, x: init.dirac_(x, groups=2), 6, 2, 3, 4)
    exactly(c, lambda init, x: init.dirac_(x, 3), 6, 4, 3, 2, 3)
    c.error(lambda m, x: m.nn.init.dirac_(x), c.f64(3, 3).constant())
    c.error(lambda m, x: m.nn.init.dirac_(x, 2), c.f64(3, 3, 3).constant())


@case("torch.nn.init.uniform_")
def uniform(c):
    drawn(c, lambda init, x: init.uniform_(x), 200, 200)
    drawn(c, lambda init, x: init.uniform_(x, -2, 5), 200, 200)
    drawn(c, lambda init, x: init.uniform_(x, a=1.0, b=1.5), 20000, dtype="float64")


@case("torch.nn.init.normal_")
def normal(c):
    # Of the extremes of normal numbers only the order of magnitude is the same.
    for args in ((), (3.0, 0.5), (0.0, 0.0)):
        drawn(c, lambda init, x, a=args: init.normal_(x, *a), 300, 300, within=0.3)


@case("torch.nn.init.xavier_uniform_", "torch.nn.init.xavier_normal_")
def xavier(c, name):
    within = 0.05 if "uniform" in name else 0.1
    for shape in SIZES.values():
        drawn(c, lambda init, x: getattr(init, name)(x), *shape, within=within)
    drawn(c, lambda init, x: getattr(init, name)(x, gain=2.0), 300, 200, within=2 * within)
    c.error(lambda m, x: getattr(m.nn.init, name)(x), c.f64(3).constant())


@case("torch.nn.init.kaiming_uniform_", "torch.nn.init.kaiming_normal_")
def kaiming(c, name):
    within = 0.05 if "uniform" in name else 0.2
    for shape in SIZES.values():
        drawn(c, lambda init, x: getattr(init, name)(x), *shape, within=within)
        drawn(c, lambda init, x: getattr(init, name)(x, 0.5, "FAN_OUT"), *shape, within=within)
    drawn(c, lambda init, x: getattr(init, name)(x, nonlinearity="tanh"), 300, 200, within=within)

    def empty(m, x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return getattr(m.nn.init, name)(x), [str(w.message) for w in caught]

    c(empty, c.f64(0, 3).constant())
    c.error(lambda m, x: getattr(m.nn.init, name)(x), c.f64(3).constant())
    c.error(lambda m, x: getattr(m.nn.init, name)(x, mode="fan"), c.f64(3, 3).constant())
    c.error(lambda m, x: getattr(m.nn.init, name)(x, nonlinearity="x"), c.f64(3, 3).constant())


@case("torch.nn.init.trunc_normal_")
def truncated(c):
    drawn(c, lambda init, x: init.trunc_normal_(x), 200, 200, within=0.02)
    drawn(c, lambda init, x: init.trunc_normal_(x, 1.0, 2.0, -1.0, 2.0), 200, 200, within=0.03)
    drawn(c, lambda init, x: init.trunc_normal_(x, a=-0.1, b=0.05), 200, 200, within=0.01)
    drawn(c, lambda init, x: init.trunc_normal_(x, 0.0, 1.0, 4.0, 4.5), 200, 200, within=0.02)
    drawn(c, lambda init, x: init.trunc_normal_(x, 0.0, 1.0, -9.5, -9.0), 200, 200, within=0.02)

    def warned(m, x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            m.nn.init.trunc_normal_(x.clone(), 0.0, 1.0, 3.0, 4.0)
        return [str(w.message) for w in caught]

    c(warned, c.f64(3).constant(), gradients=0)


@case("torch.nn.init.orthogonal_")
def orthogonal(c):
    def products(m, x, gain=1.0):
        x = x.clone()
        given = m.nn.init.orthogonal_(x, gain)
        matrix = x.reshape(x.shape[0], -1)
        square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        return given is x, square

    for shape in ((4, 4), (3, 6), (6, 3), (4, 2, 3), (5, 1)):
        c(products, c.f64(*shape).constant(), gradients=0)
    c(lambda m, x: products(m, x, 3.0), c.f32(4, 3), gradients=0, atol=1e-5)
    drawn(c, lambda init, x: init.orthogonal_(x), 60, 50, within=0.15)
    c(lambda m, x: m.nn.init.orthogonal_(x), c.f64(0, 3).constant(), gradients=0)
    c.error(lambda m, x: m.nn.init.orthogonal_(x), c.f64(3).constant())


@case("torch.nn.init.sparse_")
def sparse(c):
    drawn(c, lambda init, x: init.sparse_(x, 0.3), 300, 200)
    drawn(c, lambda init, x: init.sparse_(x, sparsity=0.995, std=2.0), 200, 300, within=0.3)

    def zeros(m, x):
        x = m.nn.init.sparse_(x.clone(), 0.25)
        return (x == 0).sum(0)

    c(zeros, c.f64(10, 4).constant(), gradients=0)
    c.error(lambda m, x: m.nn.init.sparse_(x, 0.3), c.f64(3).constant())


OLD = {
    "uniform": (2.0, 3.0),
    "normal": (1.0, 0.1),
    "constant": (3.0,),
    "eye": (),
    "dirac": (),
    "xavier_uniform": (),
    "xavier_normal": (),
    "kaiming_uniform": (),
    "kaiming_normal": (),
    "orthogonal": (),
    "sparse": (0.5,),
}


@case(*(f"torch.nn.init.{name}" for name in OLD))
def old_names(c, name):
    def run(m, x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x = x.clone()
            given = getattr(m.nn.init, name)(x, *OLD[name])
        told = [(w.category.__name__, str(w.message)) for w in caught]
        return given is x, told, getattr(m.nn.init, name).__name__

    shape = (4, 4, 4) if name == "dirac" else (4, 4)
    c(run, c.f64(*shape).constant(), gradients=0)
    c(lambda m: message(m, getattr(m.nn.init, name))[0])


@case("torch.nn.init.xavier_uniform_")
def fans(c):
    fan = "_calculate_fan_in_and_fan_out"
    c(lambda m, x: getattr(m.nn.init, fan)(x), c.f64(4, 3, 2, 5))
    bound = math.sqrt(6 / 7)
    c(
        lambda m, x: (m.nn.init.xavier_uniform_(x.clone()).abs() <= bound).all(),
        c.f64(4, 3).constant(),
    )
