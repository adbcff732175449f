"""Cases of activation layers and functions."""

import numpy as np
from compare_cases import case
from compare_modules import functional, module

# Name of the layer -> (name of the function, settings as the layer takes them).
WITH_SETTINGS = {
    "ELU": ("elu", [(), (0.7,), (-0.5,)]),
    "Hardshrink": ("hardshrink", [(), (1.0,), (0,)]),
    "Hardtanh": ("hardtanh", [(), (-0.5, 2.0), (0.0, 6)]),
    "LeakyReLU": ("leaky_relu", [(), (0.3,), (0.0,), (-1.0,)]),
    "CELU": ("celu", [(), (0.7,), (-0.5,)]),
    "Softplus": ("softplus", [(), (2.0,), (1, 0.5)]),
    "Softshrink": ("softshrink", [(), (1.0,), (0,)]),
    "GELU": ("gelu", [(), ("tanh",)]),
    "Threshold": ("threshold", [(0.1, 20.0), (-1, 0)]),
}
WITHOUT = {
    "LogSigmoid": "logsigmoid", "ReLU": "relu", "ReLU6": "relu6", "SELU": "selu",
    "Sigmoid": "sigmoid", "Softsign": "softsign", "Tanh": "tanh", "Tanhshrink": "tanhshrink",
    "Hardsigmoid": "hardsigmoid", "Hardswish": "hardswish", "Mish": "mish", "SiLU": "silu",
}  # fmt: skip
IN_PLACE = (
    "ELU Hardtanh LeakyReLU CELU Threshold ReLU ReLU6 SELU Hardsigmoid Hardswish Mish SiLU"
).split()
SETTINGS = {**WITH_SETTINGS, **{layer: (name, [()]) for layer, name in WITHOUT.items()}}
# PyTorch computes these gradients with constants that are rounded to float32.
ROUGH = {"rtol": 1e-6}
OPTIONS = {"CELU": ROUGH, "Hardsigmoid": ROUGH}
FUNCTIONS = {name: (layer, settings) for layer, (name, settings) in SETTINGS.items()}


@case(*(f"torch.nn.{layer}" for layer in SETTINGS))
def layers(c, layer):
    _, settings = SETTINGS[layer]
    options = OPTIONS.get(layer, {})
    twice = 1 if layer == "Hardsigmoid" else 2  # PyTorch has no second derivative of it
    for arguments in settings:
        module(c, lambda nn, a=arguments: getattr(nn, layer)(*a), c.f64(3, 4), gradients=twice,
               **options)  # fmt: skip
    arguments = settings[0]
    module(c, lambda nn: getattr(nn, layer)(*arguments), c.f32(2, 0, 3))
    module(c, lambda nn: getattr(nn, layer)(*arguments), c.f64(), evaluate=True, **options)
    if layer not in IN_PLACE:
        return

    def inside(m, layer_made, x):
        y = x * 1
        result = layer_made(y)
        return result, result is y, y

    make = lambda nn: getattr(nn, layer)(*arguments, inplace=True)  # noqa: E731
    module(c, make, c.f64(3, 4), call=inside, **options)
    module(c, make, c.f32(3, 4))
    c.error(lambda m, x: make(m.nn)(x), c.f64(3, 4))


@case(*(f"torch.nn.functional.{name}" for name in FUNCTIONS))
def functions(c, name):
    layer, settings = FUNCTIONS[name]
    options = OPTIONS.get(layer, {})
    twice = 1 if layer == "Hardsigmoid" else 2
    f = functional
    for given in settings:
        call = f(name, approximate=given[0]) if name == "gelu" and given else f(name, *given)
        c(call, c.f64(3, 4), gradients=twice, **options)
        c(call, c.special(), gradients=0)
        c(call, c.exactly([-3.0, -1, -0.5, 0, 0.5, 1, 3, 6]), **options)
    arguments = settings[0]
    c(f(name, *arguments), c.f64(3, 4).seen("transposed"), **options)
    by_name = {"threshold": 0.1, "value": 20.0} if name == "threshold" else {}
    c(lambda m, x: getattr(m.nn.functional, name)(input=x, **by_name), c.f32(3))
    c.dtypes(f(name, *arguments), (3, 4), gradients=0)
    if name not in ("tanh", "sigmoid", "tanhshrink", "softsign"):  # there the number's methods fail
        c.error(lambda m: getattr(m.nn.functional, name)(1.5, *arguments))
    c.error(lambda m: getattr(m.nn.functional, name)())
    if name == "gelu":
        c.error(f(name, "tanh"), c.f32(3))
    if layer not in IN_PLACE:
        return

    def inside(m, x):
        y = x * 1
        result = getattr(m.nn.functional, name)(y, *arguments, inplace=True)
        return result, result is y, y

    c(inside, c.f64(3, 4), gradients=twice, **options)
    c(f(name, *arguments, inplace=True), c.f32(3, 4))
    c(lambda m, x: (getattr(m.nn.functional, name)(x[1], *arguments, inplace=True), x), c.f32(3, 4))
    c.error(f(name, *arguments, inplace=True), c.f64(3, 4))


@case(*(f"torch.nn.functional.{n}_" for n in "threshold relu hardtanh elu leaky_relu".split()))
def in_place_functions(c, name):
    _, settings = FUNCTIONS[name[:-1]]
    for arguments in settings:
        if arguments[:1] not in [(-0.5,), (-1.0,)]:  # PyTorch refuses gradients of rising slopes
            c(lambda m, x, a=arguments: getattr(m.nn.functional, name)(x * 1, *a), c.f64(3, 4))
        c(functional(name, *arguments), c.f32(3, 4))
    c(lambda m, x: (getattr(m.nn.functional, name)(x[:, 1], *settings[0]), x), c.f32(3, 4))
    c.error(functional(name, *settings[0]), c.f64(3, 4))
    c.error(lambda m: getattr(m.nn.functional, name)(1.5, *settings[0]))


@case("torch.nn.functional.hardtanh", "torch.nn.Hardtanh")
def hardtanh_limits(c, name):
    if name == "hardtanh":
        c.error(functional(name, 2.0, 1.0), c.f32(3))
        c(functional(name, 1.0, 1.0), c.f32(3))
    else:
        c.error(lambda m: m.nn.Hardtanh(2.0, 1.0))
        c.error(lambda m: m.nn.Hardtanh(1.0, 1.0))
        module(c, lambda nn: nn.Hardtanh(min_val=-2, max_val=0.5), c.f64(3, 4))
        module(c, lambda nn: nn.Hardtanh(min_value=-2, max_value=0.5), c.f64(3, 4))


@case("torch.nn.functional.softshrink", "torch.nn.functional.celu", "torch.nn.functional.gelu")
def refusals(c, name):
    bad = {"softshrink": -1.0, "celu": 0.0, "gelu": "erf"}[name]
    if name == "gelu":
        c.error(lambda m, x: m.nn.functional.gelu(x, approximate=bad), c.f32(3))
    else:
        c.error(functional(name, bad), c.f32(3))


# With parameters or random numbers ----------------------------------------------------------------


@case("torch.nn.PReLU")
def prelu_layer(c):
    module(c, lambda nn: nn.PReLU(), c.f64(3, 4), gradients=2)
    module(c, lambda nn: nn.PReLU(4), c.f64(2, 4, 3), gradients=2)
    module(c, lambda nn: nn.PReLU(num_parameters=1, init=0.1), c.f64(), gradients=1)
    module(c, lambda nn: nn.PReLU(3), c.f32(2, 3, 2, 2), dtype=None)
    c(lambda m: m.nn.PReLU(2, init=0.5).weight)
    c(lambda m: m.nn.PReLU(2, dtype=m.float64).weight)
    c.error(lambda m, x: m.nn.PReLU(3)(x), c.f32(2, 4))
    c.error(lambda m, x: m.nn.PReLU()(x), c.f64(2, 4))


@case("torch.nn.functional.prelu")
def prelu(c):
    c(functional("prelu"), c.f64(3, 4), c.f64(1), gradients=2)
    c(functional("prelu"), c.f64(2, 4, 3), c.f64(4), gradients=2)
    c(functional("prelu"), c.f64(3, 4), c.f64())
    c(functional("prelu"), c.f64(4), c.f64(1))
    c(functional("prelu"), c.f64(), c.f64(1))
    c(functional("prelu"), c.special(), c.exactly([0.3]).constant(), gradients=0)
    c(lambda m, x, w: m.nn.functional.prelu(input=x, weight=w), c.f32(2, 3), c.f32(3))
    c.error(functional("prelu", 0.25), c.f32(2, 3))
    c.error(lambda m, w: m.nn.functional.prelu(0.25, w), c.f32(1))
    c.error(functional("prelu"), c.f32(2, 3), c.f32(2))
    c.error(functional("prelu"), c.f32(2, 3), c.f64(3))
    c.error(functional("prelu"), c.f32(2, 3), c.f32(3, 1))
    c.error(functional("prelu"), c.f32(3), c.f32(3))
    c.error(functional("prelu"), c.i64(3), c.i64(1))


def slopes(x):
    """Of rrelu in training at -1: smallest and largest slope, mean and deviation."""
    return [x.min(), x.max(), x.mean(), x.std()]


@case("torch.nn.RReLU")
def rrelu_layer(c):
    module(c, lambda nn: nn.RReLU(), c.f64(3, 4), evaluate=True, gradients=2)
    module(c, lambda nn: nn.RReLU(0.1, 0.9, True), c.f32(3, 4), evaluate=True)
    c(lambda m, x: m.nn.RReLU()(x), c.f64(3, 4, low=0.1), gradients=1)
    c.random(lambda m: m.nn.RReLU(0.2, 0.6)(-m.ones(20000)), statistics=slopes)
    c.error(lambda m, x: m.nn.RReLU(0.9, 0.1)(x), c.f32(3))


@case("torch.nn.functional.rrelu", "torch.nn.functional.rrelu_")
def rrelu(c, name):
    one = (lambda x: x * 1) if name.endswith("_") else (lambda x: x)
    F = lambda m: getattr(m.nn.functional, name)  # noqa: E731
    c(lambda m, x: F(m)(one(x)), c.f64(3, 4), gradients=2)
    c(lambda m, x: F(m)(one(x), 0.2, 0.4), c.f64(3, 4))
    c(lambda m, x: F(m)(one(x), training=True), c.f64(3, 4, low=0.1))
    c(lambda m, x: F(m)(one(x), 0.3, 0.3, True), c.f64(3, 4), gradients=1)
    c(lambda m, x: F(m)(x), c.f32(0, 2))
    c.random(lambda m: F(m)(-m.ones(20000), training=True), statistics=slopes)
    c.error(lambda m, x: F(m)(x, 0.9, 0.1), c.f32(3))
    c.error(lambda m, x: F(m)(x), c.i64(3))
    c.error(lambda m: F(m)(1.5))
    if name == "rrelu":
        c(lambda m, x: F(m)(x, inplace=True), c.f32(3, 4))
        c.error(lambda m, x: F(m)(x, inplace=True), c.f64(3, 4))
    else:
        c.error(lambda m, x: F(m)(x), c.f64(3, 4))


# Over a dimension ---------------------------------------------------------------------------------


@case("torch.nn.GLU")
def glu_layer(c):
    module(c, lambda nn: nn.GLU(), c.f64(3, 4), gradients=2)
    module(c, lambda nn: nn.GLU(0), c.f64(4, 3), gradients=2)
    module(c, lambda nn: nn.GLU(dim=-2), c.f32(4, 3))
    c.error(lambda m, x: m.nn.GLU()(x), c.f32(3, 5))
    c.error(lambda m, x: m.nn.GLU(2)(x), c.f32(3, 4))


@case("torch.nn.functional.glu")
def glu(c):
    c(functional("glu"), c.f64(3, 4), gradients=2)
    c(functional("glu", 0), c.f64(4, 3), gradients=2)
    c(lambda m, x: m.nn.functional.glu(input=x, dim=1), c.f32(2, 4, 3))
    c.dtypes(functional("glu"), (3, 4), gradients=0)
    c.error(functional("glu"), c.f32(3, 5))
    c.error(functional("glu"), c.f32())
    c.error(functional("glu", 3), c.f32(3, 4))


@case("torch.nn.Softmin", "torch.nn.Softmax", "torch.nn.LogSoftmax")
def softmax_layers(c, name):
    module(c, lambda nn: getattr(nn, name)(dim=1), c.f64(3, 4), gradients=2)
    module(c, lambda nn: getattr(nn, name)(0), c.f64(3, 4, 2), gradients=2)
    for shape in ((3,), (3, 4), (2, 3, 4), (2, 3, 2, 2)):
        module(c, lambda nn: getattr(nn, name)(), c.f64(*shape))
    module(c, lambda nn: getattr(nn, name)(-1), c.f32(2, 0))
    c.error(lambda m, x: getattr(m.nn, name)(2)(x), c.f32(3, 4))


@case("torch.nn.Softmax2d")
def softmax_2d(c):
    module(c, lambda nn: nn.Softmax2d(), c.f64(2, 3, 2, 2), gradients=2)
    module(c, lambda nn: nn.Softmax2d(), c.f64(3, 2, 2))
    c.error(lambda m, x: m.nn.Softmax2d()(x), c.f32(2, 3))
    c.error(lambda m, x: m.nn.Softmax2d()(x), c.f32(2, 3, 2, 2, 2))


@case(*(f"torch.nn.functional.{name}" for name in ("softmin", "softmax", "log_softmax")))
def softmax(c, name):
    c(functional(name, dim=1), c.f64(3, 4), gradients=2)
    c(functional(name, 0), c.f64(3, 4).seen("transposed"))
    for shape in ((), (3,), (3, 4), (2, 3, 4), (2, 3, 2, 2)):
        c(functional(name), c.f64(*shape))
    c(functional(name, -1, dtype=None), c.f32(3, 4))
    c(lambda m, x: getattr(m.nn.functional, name)(x, 1, dtype=m.float64), c.f32(3, 4))
    c(lambda m, x: getattr(m.nn.functional, name)(x, 1, dtype=m.float32), c.i64(3, 4))
    c(functional(name, -1), c.exactly([[1000.0, 1001.0, -np.inf], [-np.inf, 0.0, 1.0]]))
    c(functional(name, 1), c.f32(3, 0))
    c.dtypes(functional(name, 0), (3, 4), gradients=0)
    c.error(functional(name, 2), c.f32(3, 4))


@case("torch.nn.functional.gumbel_softmax")
def gumbel_softmax(c):
    f = "gumbel_softmax"

    def share(m, **options):
        logits = m.tensor([0.0, 1.0, 2.0]).expand(20000, 3)
        return m.nn.functional.gumbel_softmax(logits, **options)

    def of_classes(x):
        return [*x.mean(0), *x.std(0), *x.min(0), *x.max(0)]

    c.random(lambda m: share(m), statistics=of_classes, within=0.02)
    c.random(lambda m: share(m, tau=0.3), statistics=of_classes, within=0.02)
    c.random(lambda m: share(m, hard=True), statistics=of_classes, within=0.02)
    c.random(lambda m: share(m, hard=True).sum(-1), statistics=lambda x: [x.min(), x.max()])
    c.random(lambda m: m.nn.functional.gumbel_softmax(m.zeros(3, 5000).double(), dim=0).sum(0),
             statistics=lambda x: [x.min(), x.max()])  # fmt: skip

    def gradient(m):
        logits = m.zeros(10000, 2, requires_grad=True)
        value = m.nn.functional.gumbel_softmax(logits, hard=True)
        return m.autograd.grad((value * m.tensor([1.0, 0.0])).sum(), logits)[0]

    c.random(gradient, statistics=lambda x: [*x.mean(0), *x.std(0)], within=0.02)
    c.error(functional(f, dim=2), c.f32(3, 4))
    c.error(functional(f), c.i64(3, 4))
    c.error(lambda m: m.nn.functional.gumbel_softmax(1.5))
