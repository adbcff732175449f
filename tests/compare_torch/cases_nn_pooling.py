"""Cases of pooling layers and their functions."""

import numpy as np
from compare_cases import Array, case
from compare_modules import functional, module

SIZES = (7, 6, 5)
F = "torch.nn.functional"


def layer(name, *args, **kwargs):
    return lambda nn: getattr(nn, name)(*args, **kwargs)


def over(*dims):
    """A decorator's names: each of the patterns with each number of dimensions."""
    return lambda *patterns: [p.format(d) for p in patterns for d in dims]


ALL, HIGH = over(1, 2, 3), over(2, 3)

# Fixed windows ------------------------------------------------------------------------------------


@case(*ALL("torch.nn.MaxPool{}d"))
def max_pool(c, name):
    n = int(name[-2])
    x = c.distinct(2, 3, *SIZES[:n])
    module(c, layer(name, 2), x, gradients=2)
    module(c, layer(name, (3,) * n, 2, 1, return_indices=True), x, gradients=2)
    module(c, layer(name, 2, stride=1, dilation=2), x)
    module(c, layer(name, 3, 2, 1, ceil_mode=True), x, compiled=False)
    module(c, layer(name, 2, ceil_mode=True, return_indices=True), x, compiled=False)
    module(c, layer(name, 2), c.distinct(3, *SIZES[:n]), compiled=False)
    module(c, layer(name, 2), c.f64(0, 3, *SIZES[:n]), compiled=False)
    c.error(lambda m, x: layer(name, 3, 2, 2)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 9)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 2)(m.nn)(x), c.f32(3))


@case(*ALL("torch.nn.AvgPool{}d"))
def avg_pool(c, name):
    n = int(name[-2])
    x = c.f64(2, 3, *SIZES[:n])
    module(c, layer(name, 2), x, gradients=2)
    module(c, layer(name, (3,) * n, 2, 1), x, gradients=2)
    module(c, layer(name, 3, 2, 1, ceil_mode=True), x)
    module(c, layer(name, 3, 2, 1, True, False), x, compiled=False)
    module(c, layer(name, 2, 1, count_include_pad=False), x, compiled=False)
    module(c, layer(name, 2), c.f64(3, *SIZES[:n]), compiled=False)
    module(c, layer(name, 2), c.f64(0, 3, *SIZES[:n]), compiled=False)
    if n > 1:
        module(c, layer(name, 2, divisor_override=3), x, gradients=2, compiled=False)
        module(c, layer(name, 3, 2, 1, True, divisor_override=-2), x, gradients=2, compiled=False)
        c.error(lambda m, x: layer(name, 2, divisor_override=0)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 3, 2, 2)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 9)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 2)(m.nn)(x), c.f32(3))


@case(*ALL("torch.nn.LPPool{}d"))
def lp_pool(c, name):
    n = int(name[-2])
    x = c.f64(2, 3, *SIZES[:n], low=0.5)
    module(c, layer(name, 2, 2), x, gradients=2)
    module(c, layer(name, 3, 2, ceil_mode=True), x)
    module(c, layer(name, 1.5, 2, stride=1), x)
    module(c, layer(name, 2, 3), c.f64(3, *SIZES[:n]), compiled=False)
    module(c, layer(name, 2, 3), c.f64(0, 3, *SIZES[:n]), compiled=False)
    c.error(lambda m, x: layer(name, 2, 9)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 0, 2)(m.nn)(x), x)


@case(*ALL(F + ".max_pool{}d", F + ".max_pool{}d_with_indices"))
def functional_max_pool(c, name):
    n = int(name[8])
    x = c.distinct(2, 3, *SIZES[:n])
    c(functional(name, 2), x, gradients=2)
    c(functional(name, 3, (2,) * n, 1, ceil_mode=True, return_indices=True), x)
    c(functional(name, (2,) * n, 1, dilation=2, return_indices=True), c.distinct(3, *SIZES[:n]))
    c(functional(name, 2, return_indices=True), c.i64(2, 3, *SIZES[:n]), compiled=False)
    c.dtypes(functional(name, 2), (2, 3, *SIZES[:n]))
    c.error(functional(name, 2, 2, 2), x)
    c.error(functional(name, 9), x)
    c.error(functional(name, 0), x)
    c.error(functional(name, 2, 0), x)
    c.error(functional(name, 2, dilation=0), x)
    c.error(functional(name, 2, padding=-1), x)
    c.error(functional(name, (2,) * (n + 1)), x)
    c.error(functional(name, 2), c.f32(3))
    c.error(functional(name, 2), c.f32(2, 0, *SIZES[:n]))


@case(*ALL(F + ".avg_pool{}d"))
def functional_avg_pool(c, name):
    n = int(name[-2])
    x = c.f64(2, 3, *SIZES[:n])
    c(functional(name, 2), x, gradients=2)
    c(functional(name, (3,) * n, 2, 1, True, False), x)
    c(functional(name, 3, 3, 1, ceil_mode=True), c.f64(3, *SIZES[:n]), gradients=2)
    if n > 1:
        c(functional(name, 3, 2, 1, True, True, 5), x, gradients=2, compiled=False)
        c.error(functional(name, 2, divisor_override=0), x)
    c.dtypes(functional(name, 2), (2, 3, *SIZES[:n]), dtypes=("float32", "float16", "bfloat16"))
    c.error(functional(name, 2, 2, 2), x)
    c.error(functional(name, 9), x)
    c.error(functional(name, 0), x)
    c.error(functional(name, (2,) * (n + 1)), x)
    c.error(functional(name, 2), c.f32(3))


@case(*ALL(F + ".lp_pool{}d"))
def functional_lp_pool(c, name):
    n = int(name[-2])
    x = c.f64(2, 3, *SIZES[:n], low=0.5)
    c(functional(name, 2, 2), x, gradients=2)
    c(functional(name, 3.0, 3, 2), c.f64(3, *SIZES[:n]))
    c(functional(name, 2, 2), c.exactly(np.zeros((1, 2, *SIZES[:n]))), compiled=False)
    c(functional(name, 1, 2), c.f64(2, 3, *SIZES[:n]), compiled=False)
    for p in (float("inf"), -float("inf")):
        c(functional(name, p, 2, 1), c.distinct(2, 3, *SIZES[:n]), compiled=False)
    if n > 1:
        c(functional(name, 2, (2, 3, 1)[:n], (1, 2, 2)[:n], True), x, compiled=False)
    c.error(functional(name, 2, 9), x)
    c.error(functional(name, 0, 2), x)
    c.error(functional(name, 2, 2), c.f32(3))


# Max unpooling ------------------------------------------------------------------------------------


def _places(c, lead, size, output):
    """Distinct indices into planes of `output` for maxima of `size`."""
    planes, count, room = int(np.prod(lead)), int(np.prod(size)), int(np.prod(output))
    rows = [c.generator.permutation(room)[:count] for _ in range(planes)]
    return Array(np.array(rows).reshape(*lead, *size), "int64")


@case(*ALL("torch.nn.MaxUnpool{}d"))
def max_unpool(c, name):
    n = int(name[-2])
    size, output = (3, 2, 2)[:n], (6, 4, 4)[:n]
    x, at = c.f64(2, 3, *size), _places(c, (2, 3), size, output)
    module(c, layer(name, 2), x, at, gradients=2)
    module(c, layer(name, (3,) * n, 2, 1), x, _places(c, (2, 3), size, (5, 3, 3)[:n]))
    module(c, layer(name, 2), c.f64(3, *size), _places(c, (3,), size, output), compiled=False)
    larger = tuple(s + 1 for s in output)
    for given in (larger, (2, 3, *larger)):
        call = lambda m, made, x, at, s=given: made(x, at, output_size=s)  # noqa: E731
        module(c, layer(name, 2), x, at, call=call, compiled=False)
    c.error(lambda m, x, at: layer(name, 2)(m.nn)(x, at, (9,) * n), x, at)
    c.error(lambda m, x, at: layer(name, 2)(m.nn)(x, at), c.f32(2), c.i64(2))


@case(*ALL(F + ".max_unpool{}d"))
def functional_max_unpool(c, name):
    n = int(name[-2])
    size, output = (3, 2, 2)[:n], (6, 4, 4)[:n]
    x, at = c.f64(2, 3, *size), _places(c, (2, 3), size, output)
    c(functional(name, 2), x, at, gradients=2)
    c(functional(name, 2, output_size=tuple(s + 1 for s in output)), x, at)
    c(functional(name, 2), c.f64(0, 3, *size), c.i64(0, 3, *size), compiled=False)

    def round_trip(m, x):
        pool = getattr(m.nn.functional, f"max_pool{n}d")
        maxima, at = pool(x, 2, return_indices=True)
        return getattr(m.nn.functional, name)(maxima, at, 2, output_size=x.shape)

    c(round_trip, c.distinct(2, 3, *SIZES[:n]), gradients=2)
    c.error(functional(name, 2), x, c.i64(2, 3, *size, low=999, high=999))
    c.error(functional(name, 2), x, c.i64(2, 3, *size, low=-9, high=-1))
    c.error(functional(name, 2), x, at.to("int32"))
    c.error(functional(name, 2), x, c.i64(2, 3, *(1,) * n, low=0, high=2))
    c.error(functional(name, 2, output_size=(9,) * n), x, at)
    c.error(functional(name, 2, output_size=(6,) * (n + 1)), x, at)
    c.error(functional(name, 2, 2, 9), x, at)
    c.error(functional(name, 2), c.f64(2, 0, *size), c.i64(2, 0, *size))
    c.error(functional(name, 2), c.f64(2), c.i64(2, low=0))


# Adaptive windows ---------------------------------------------------------------------------------

OUTPUTS = (3, 4, 2)


@case(*ALL("torch.nn.AdaptiveMaxPool{}d", "torch.nn.AdaptiveAvgPool{}d"))
def adaptive(c, name):
    n = int(name[-2])
    x = c.distinct(2, 3, *SIZES[:n])
    module(c, layer(name, OUTPUTS[:n] if n > 1 else 3), x, gradients=2)
    module(c, layer(name, 2), x)
    module(c, layer(name, 1), c.distinct(3, *SIZES[:n]), compiled=False)
    module(c, layer(name, 9), x, compiled=False)
    module(c, layer(name, 2), c.f64(0, 3, *SIZES[:n]), compiled=False)
    if "Max" in name:
        module(c, layer(name, 3, return_indices=True), x, gradients=2)
    if n > 1:
        module(c, layer(name, (None, *OUTPUTS[1:n])), x, compiled=False)
    c.error(lambda m, x: layer(name, -1)(m.nn)(x), x)
    c.error(lambda m, x: layer(name, 2)(m.nn)(x), c.f32(3))


@case(*ALL(
    F + ".adaptive_max_pool{}d", F + ".adaptive_avg_pool{}d",
    F + ".adaptive_max_pool{}d_with_indices",
))  # fmt: skip
def functional_adaptive(c, name):
    n = int(name[name.index("pool") + 4])
    x = c.distinct(2, 3, *SIZES[:n])
    c(functional(name, OUTPUTS[:n]), x, gradients=2)
    c(functional(name, (7, 3, 5)[:n]), c.distinct(3, *SIZES[:n]))
    c(functional(name, 2), x)
    c(functional(name, 0), x, compiled=False, gradients=0)
    c(functional(name, 9), x, compiled=False)
    c(functional(name, 2), c.f64(0, 3, *SIZES[:n]), compiled=False)
    if "max" in name:
        c(functional(name, 2, True), x, compiled=False)
        c(functional(name, 4, return_indices=True), x, compiled=False)
        c.error(functional(name, 2), c.f32(2, 0, *SIZES[:n]))
    elif n < 3:
        c(functional(name, 2), c.f32(2, 0, *SIZES[:n]), compiled=False)
    else:
        c.error(functional(name, 2), c.f32(2, 0, *SIZES[:n]))
    if n > 1:
        c(functional(name, (2, None, 3)[:n]), x, compiled=False)
        c.error(functional(name, OUTPUTS[:n]), c.f32(*SIZES[:n]))
    else:
        c.error(functional(name, None), x)
        c.error(functional(name, (None,)), x)
    c.dtypes(functional(name, 2), (2, 3, *SIZES[:n]))
    c.error(functional(name, -1), x)
    c.error(functional(name, (2,) * (n + 1)), x)
    c.error(functional(name, 2.5), x)
    c.error(functional(name, 2), c.f32(3))
    c.error(functional(name, 2), c.f32(2, 3, *(0,) * n))


# Fractional windows -------------------------------------------------------------------------------


@case(*HIGH("torch.nn.FractionalMaxPool{}d"))
def fractional(c, name):
    n = int(name[-2])
    x = c.distinct(2, 3, *SIZES[:n])

    def placed(*args, **kwargs):
        def call(m, _, x, u):
            made = getattr(m.nn, name)(*args, _random_samples=u, **kwargs)
            return made(x), made.state_dict()

        return call

    for args, kwargs in (
        ((2, 3), {}), ((2, OUTPUTS[:n]), {}), ((2,), {"output_ratio": 0.5}),
        (((2, 1, 3)[:n],), {"output_ratio": (0.5, 0.7, 0.4)[:n], "return_indices": True}),
    ):  # fmt: skip
        u = c.f64(2, 3, n, low=0, high=1).constant()
        module(c, layer(name, 2, 3), x, u, call=placed(*args, **kwargs))
    for p in (9, (2, 2, 2, 2)):
        c.error(lambda m, x, p=p: layer(name, p, 3)(m.nn)(x), x)
    c.error(lambda m: layer(name, 2)(m.nn))
    c.error(lambda m: layer(name, 2, 3, 0.5)(m.nn))
    c.error(lambda m: layer(name, 2, output_ratio=1.5)(m.nn))
    if n == 3:
        c.error(lambda m: layer(name, 0, 3)(m.nn))
    c.random(lambda m, x: layer(name, 2, 3)(m.nn)(x), c.f64(40, 9, *SIZES[:n]))


@case(*HIGH(F + ".fractional_max_pool{}d", F + ".fractional_max_pool{}d_with_indices"))
def functional_fractional(c, name):
    n = int(name[name.index("pool") + 4])
    x, u = c.distinct(2, 3, *SIZES[:n]), c.f64(2, 3, n, low=0, high=1).constant()

    def placed(*args, **kwargs):
        return lambda m, x, u: getattr(m.nn.functional, name)(x, *args, _random_samples=u, **kwargs)

    c(placed(2, OUTPUTS[:n]), x, u, gradients=2)
    c(placed((3, 2, 1)[:n], 3, return_indices=True), x, u)
    c(placed(2, output_ratio=(0.5, 0.6, 0.7)[:n]), x, u)
    c(placed(2, 1), x, u, compiled=False)
    c(placed(1, tuple(s - 1 for s in SIZES[:n])), x, u, compiled=False)
    c(placed(2, 0), x, u, compiled=False, gradients=0)
    one = c.f64(1, 3, n, low=0, high=1).constant()
    c(placed(2, 3), c.distinct(3, *SIZES[:n]), one, compiled=False)
    c(placed(2, 3), c.f64(0, 3, *SIZES[:n]), c.f64(0, 3, n).constant(), compiled=False)
    c(placed(2, 3), x.to("float32"), u.to("float32"), compiled=False)
    c.error(functional(name, 2), x)
    c.error(functional(name, 2, 9), x)
    c.error(functional(name, (2,) * (n + 1), 3), x)
    c.error(functional(name, 2, (3,) * (n + 1)), x)
    if n == 2:
        c.error(functional(name, 2, output_ratio=(0.5,) * 3), x)
    c.error(functional(name, 2, 3), c.f32(2, 0, *SIZES[:n]))
    c.error(functional(name, 2, 3), c.f32(4))
    c.error(placed(2, 3), x, c.f64(2, 3, n + 1).constant())
    c.error(placed(2, 3), x, c.f64(2, 2, n).constant())
    c.error(placed(2, 3), x, c.f64(2, 3, n))
    c.error(placed(2, 3), x, u.to("float32"))
    c.random(functional(name.removesuffix("_with_indices"), 2, 3), c.f64(40, 9, *SIZES[:n]))
