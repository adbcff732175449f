"""Cases of the functions that work element by element."""

import math

from compare_cases import FLOATS, case

UNARY = (
    "abs acos asin atan ceil cos cosh digamma erf erfc erfinv exp expm1 floor frac lgamma log "
    "log10 log1p log2 neg reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
).split()
IN_PLACE = (
    "abs_ acos_ asin_ atan_ ceil_ cos_ cosh_ erf_ erfc_ exp_ expm1_ floor_ log10_ log1p_ log2_ "
    "log_ round_ rsqrt_ sigmoid_ sin_ sinh_ sqrt_ tan_ tanh_ trunc_"
).split()
# Where a function is real and its gradient not too large, if not everywhere.
DOMAIN = {"acos": (-0.95, 0.95), "asin": (-0.95, 0.95), "erfinv": (-0.95, 0.95)}
DOMAIN |= dict.fromkeys(("log", "log2", "log10", "rsqrt", "sqrt", "digamma", "lgamma"), (0.2, 4))
DOMAIN |= {"log1p": (-0.8, 4), "tan": (-1.3, 1.3), "reciprocal": (0.3, 3)}


@case(*(f"torch.{name}" for name in UNARY))
def unary(c, name):
    def f(m, x):
        return getattr(m, name)(x)

    low, high = DOMAIN.get(name, (-3, 3))
    c(f, c.f64(2, 3, low=low, high=high), gradients=2)
    c(f, c.f32(4, 3, low=low, high=high).seen("transposed"))
    c(f, c.special("float32"))
    c(lambda m, x: getattr(m, name)(input=x), c.f64(low=low, high=high))
    c(lambda m, x, y: getattr(m, name)(x, out=y), c.f32(3, low=low, high=high), c.f32(3))
    c(f, c.special("float64"), compiled=False)
    c(f, c.f32(0, 3), compiled=False)
    c(f, c.f64(1, low=low, high=high).seen("strided"), compiled=False)
    c.dtypes(f, (5,), low=low, high=high)
    wide = c.f64(3)
    c.either(
        lambda m, x, y: getattr(m, name)(x, out=y), c.f32(3, low=low, high=high), wide, rtol=1e-5
    )
    c.either(lambda m, x, y: getattr(m, name)(x, out=y), c.f32(3, low=low, high=high), c.f32(2, 2))
    c.either(lambda m, x, y: getattr(m, name)(x, out=y), c.f32(3), c.i64(3))
    c.either(lambda m, x, y: getattr(m, name)(x, out=y), c.i64(3), c.i64(3))
    c.error(lambda m: getattr(m, name)(2.0))
    c.error(lambda m: getattr(m, name)([1.0]))
    c.error(lambda m: getattr(m, name)())
    c.error(lambda m, x: getattr(m, name)(x, None), c.f32(2))


@case("torch.round")
def rounding(c):
    c(lambda m, x: m.round(x), c.exactly([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999999]), gradients=0)
    c(lambda m, x: m.round(x, decimals=2), c.f64(5), gradients=0)
    c(lambda m, x: m.round(x, decimals=-1), c.f32(5, low=-99, high=99), gradients=0)
    c.error(lambda m, x: m.round(x, decimals=1), c.i64(5))


@case(*(f"torch.{name}" for name in IN_PLACE))
def in_place(c, name):
    def f(m, x):
        return getattr(m, name)(x)

    low, high = DOMAIN.get(name[:-1], (-3, 3))
    c(f, c.f32(2, 3, low=low, high=high))
    c(f, c.f32(3, 2, low=low, high=high).seen("strided"))
    c(f, c.f64(low=low, high=high), gradients=0)
    c(lambda m, x: getattr(m, name)(x * 1), c.f64(4, low=low, high=high), gradients=2)
    c(lambda m, x: (getattr(m, name)(x[1]), x), c.f32(2, 3, low=low, high=high), compiled=False)
    c(f, c.f32(0, 2), compiled=False)
    c.dtypes(f, (4,), low=low, high=high, gradients=0)
    c.error(f, c.f64(3, low=low, high=high))  # a leaf of which gradients are asked
    c.error(lambda m: getattr(m, name)(2.0))


# Two operands -------------------------------------------------------------------------------------


def binary(c, name, numbers=(2, -1.5), low=-3, high=3, gradients=2, **options):
    """What all functions of two operands with broadcasting have in common."""

    def f(m, x, y):
        return getattr(m, name)(x, y)

    bounds = {"low": low, "high": high}
    c(f, c.f64(3, 1, **bounds), c.f64(4, **bounds), gradients=gradients)
    c(f, c.f32(2, 3, **bounds).seen("transposed"), c.f32(2, 3, **bounds).seen("strided"))
    c(f, c.special("float32"), c.exactly([1.5, -2.0, 0.5] * 4, "float32"))
    c(lambda m, x, y: getattr(m, name)(input=x, other=y), c.f64(**bounds), c.f64(2, **bounds))
    c(lambda m, x, y, z: getattr(m, name)(x, y, out=z), *(c.f32(3, **bounds) for _ in range(3)))
    c(f, c.i64(2, 3, low=1, high=9), c.i64(3, low=1, high=4), gradients=0)
    for number in numbers:
        for dtype in ("float64", "float32", "bfloat16", "uint8", "int64", "bool"):
            x = c.of(dtype, 4, low=1, high=4)
            c.either(lambda m, x, n=number: getattr(m, name)(x, n), x, gradients=1)
    c(f, c.f32(0, 3), c.f32(3), compiled=False)
    c(f, c.f32(0, 1), c.f32(3), compiled=False)
    c(f, c.f32(), c.i64(low=1, high=3), compiled=False)
    c(f, c.f32(2, low=1, high=3), c.f64(low=1, high=3), compiled=False, gradients=0)
    c(f, c.i64(2, low=1, high=3), c.f32(low=1, high=3), compiled=False)
    c.pairs(f)
    c.pairs(f, (), (4,), left=FLOATS[:3], right=FLOATS[:3])
    c.error(f, c.f32(3), c.f32(4))
    c.error(f, c.f32(2, 3), c.f32(2, 2))
    c.error(lambda m, x: getattr(m, name)(x), c.f32(3))
    c.error(lambda m, x: getattr(m, name)(x, "2"), c.f32(3))
    c.error(lambda m, x: getattr(m, name)(x, [2]), c.f32(3))
    c.error(lambda m, x, z: getattr(m, name)(x, x, out=z), c.f32(3), c.i64(3))
    c.error(lambda m, x, z: getattr(m, name)(x, x, out=z), c.f64(3), c.f64(3))


@case("torch.add", "torch.sub")
def add(c, name):
    binary(c, name)
    c(lambda m, x, y: getattr(m, name)(x, y, alpha=2.5), c.f64(2, 3), c.f64(3))
    c(lambda m, x, y: getattr(m, name)(x, y, alpha=2), c.i64(3, 4).seen("transposed"), c.i64())
    c(lambda m, x: getattr(m, name)(x, 3, alpha=2), c.f32(3))
    c.error(lambda m, x, y: getattr(m, name)(x, y, alpha=1.5), c.i64(3), c.i64(3))
    c.error(lambda m, x, y: getattr(m, name)(x, y, alpha=True), c.f32(3), c.f32(3))
    c.either(lambda m, x, y: getattr(m, name)(x, y, alpha=True), c.mask(3), c.mask(3))
    c.either(lambda m, x, y: getattr(m, name)(x, y, alpha=2), c.mask(3), c.mask(3))
    c.either(lambda m, x: getattr(m, name)(2, x), c.f32(3))


@case("torch.rsub")
def rsub(c):
    c(lambda m, x, y: m.rsub(x, y), c.f64(3, 1), c.f64(4), gradients=2)
    c(lambda m, x: m.rsub(x, 2), c.f32(3))
    c(lambda m, x: m.rsub(x, 2, alpha=3), c.i64(3))
    c(lambda m, x, y: m.rsub(x, other=y, alpha=3), c.f32(3), c.f32(3))
    c.pairs(lambda m, x, y: m.rsub(x, y))
    c.error(lambda m, x, y: m.rsub(x, y), c.f32(3), c.f32(4))


@case("torch.mul")
def mul(c):
    binary(c, "mul")
    c.either(lambda m, x: m.mul(2, x), c.f32(3))


@case("torch.div")
def div(c):
    binary(c, "div", low=0.5)
    for mode in ("floor", "trunc", None):
        c(lambda m, x, y, n=mode: m.div(x, y, rounding_mode=n), c.f64(3, 4), c.f64(4, low=1))
        c(lambda m, x, n=mode: m.div(x, -2, rounding_mode=n), c.i64(9, low=-9, high=9))
        c.pairs(lambda m, x, y, n=mode: m.div(x, y, rounding_mode=n))
        c.either(
            lambda m, x, y, n=mode: m.div(x, y, rounding_mode=n),
            c.exactly([7.0, -7.0, 0.0, math.inf, math.nan]),
            c.exactly([0.0, -0.0, 0.0, 2.0, 1.0]),
        )
        if mode:
            zeros = c.exactly([0, 0, 1, 2])
            c.error(lambda m, x, y, n=mode: m.div(x, y, rounding_mode=n), c.i64(4), zeros)
    c.error(lambda m, x: m.div(x, x, rounding_mode="up"), c.f32(3))
    c.either(lambda m, x, y: m.div(x, y), c.i64(4), c.exactly([0, 0, 1, 2]))


@case("torch.fmod", "torch.remainder")
def modulo(c, name):
    binary(c, name, numbers=(3, -1.5), low=0.7, gradients=1)
    f = lambda m, x, y: getattr(m, name)(x, y)  # noqa: E731
    c(f, c.exactly([7, -7, 7, -7, 6, 0]), c.exactly([3, 3, -3, -3, 3, 5]), compiled=True)
    c(f, c.exactly([7.5, -7.5, 7.5, -7.5, 6.0]), c.exactly([3.0, 3.0, -3.0, -3.0, 3.0]).constant())
    c(
        f,
        c.exactly([1.0, math.inf, 2.0, -1.0]),
        c.exactly([0.0, 2.0, math.inf, math.inf]),
        gradients=0,
    )
    c.error(f, c.i64(4), c.exactly([0, 0, 1, 2]))
    if name == "remainder":
        c.either(lambda m, y: m.remainder(7, y), c.i64(3, low=1, high=4))
        c.either(lambda m, y: m.remainder(7.5, y), c.f32(3, low=1, high=4))


@case("torch.pow")
def power(c):
    def f(m, x, y):
        return m.pow(x, y)

    c(f, c.f64(3, 1, low=0.5), c.f64(4), gradients=2)
    c(f, c.f32(2, 3, low=0.5).seen("transposed"), c.f32(2, 3).seen("strided"))
    bases = c.exactly([0.0, 0.0, -2.0, -2.0, 1.0, math.inf])
    c(f, bases, c.exactly([0.0, -1.0, 3.0, 0.5, math.nan, 0.0]), gradients=0)
    for exponent in (2, 3, 0.5, -1, 0, -2, 1, 2.5):
        c(
            lambda m, x, n=exponent: m.pow(x, n),
            c.f64(4, low=0.5),
            gradients=2,
            compiled=exponent == 3,
        )
        c.either(lambda m, x, n=exponent: m.pow(x, n), c.i64(4, low=1, high=4))
        c.either(lambda m, x, n=exponent: m.pow(x, n), c.of("bfloat16", 4, low=0.5))
    for base in (2, 0.5, 0):
        c(lambda m, y, n=base: m.pow(n, y), c.f64(4), gradients=2, compiled=base == 2)
        c.either(lambda m, y, n=base: m.pow(n, y), c.i64(4, low=0))
    c(lambda m, x: m.pow(input=x, exponent=2), c.f32(3))
    c(lambda m, x, y: m.pow(x, 2, out=y), c.f32(3), c.f32(3))
    c(f, c.i64(3, low=0, high=4), c.i64(3, low=0, high=4))
    c.pairs(f)
    c.error(lambda m, x: m.pow(x, -1), c.i64(4, low=1))
    c.error(f, c.f32(3), c.f32(4))
    c.error(lambda m: m.pow(2, 3))
    c.error(lambda m, x: m.pow(x), c.f32(3))


@case("torch.atan2")
def atan2(c):
    binary(c, "atan2", numbers=())
    c.error(lambda m, x: m.atan2(x, 2.0), c.f32(3))


# Three operands -----------------------------------------------------------------------------------


@case("torch.addcmul", "torch.addcdiv")
def addc(c, name):
    def f(m, x, y, z, **options):
        return getattr(m, name)(x, y, z, **options)

    def operands(dtype, *shapes):
        return [c.of(dtype, *shape, low=0.5, high=3) for shape in shapes]

    c(f, *operands("float64", (2, 3), (3,), (2, 1)), gradients=2)
    c(lambda m, *x: f(m, *x, value=2), *operands("float64", (), (3,), (2, 1)))
    c(lambda m, *x: f(m, *x, value=-0.5), *operands("float32", (2, 3), (2, 3), (2, 3)))
    c(
        lambda m, x, y, z: getattr(m, name)(input=x, tensor1=y, tensor2=z),
        *operands("float32", *[(3,)] * 3),
    )
    c(lambda m, x, y, z, o: f(m, x, y, z, out=o), *operands("float32", *[(3,)] * 4))
    c(f, *operands("float32", (0,), (0,), (1,)), compiled=False)
    c.dtypes(f, (3,), (3,), (3,), low=1)
    c.either(lambda m, *x: f(m, *x, value=1.5), *operands("int64", (3,), (3,), (3,)))
    c.either(f, c.f32(3), c.f64(3).constant(), c.f32(3, low=1))
    c.either(f, c.f64(3), c.i64(3, low=1), c.i64(3, low=1))
    c.either(f, c.i64(3), c.f32(3), c.f32(3, low=1))
    c.error(f, *operands("float32", (3,), (4,), (3,)))
    c.error(lambda m, x, y: getattr(m, name)(x, y), c.f32(3), c.f32(3))
    c.error(lambda m, x: f(m, x, x, 2.0), c.f32(3))


@case("torch.lerp")
def lerp(c):
    c(lambda m, x, y: m.lerp(x, y, 0.3), c.f64(3, 1), c.f64(4), gradients=2)
    c(lambda m, x, y, w: m.lerp(x, y, w), c.f64(3, 1), c.f64(4), c.f64(2, 1, 1), gradients=2)
    c(lambda m, x, y: m.lerp(input=x, end=y, weight=2), c.f32(3).seen("strided"), c.f32(3))
    c(lambda m, x, y, z: m.lerp(x, y, 0.9, out=z), c.f32(3), c.f32(3), c.f32(3))
    c.dtypes(lambda m, x, y: m.lerp(x, y, 0.25), (3,), (3,))
    c.either(lambda m, x, y: m.lerp(x, y, 0.25), c.f32(3), c.f64(3).constant())
    c.either(lambda m, x, y, w: m.lerp(x, y, w), c.f32(3), c.f32(3), c.f64(3).constant())
    c.error(lambda m, x, y: m.lerp(x, y, 0.3), c.f32(3), c.f32(4))
    c.error(lambda m, x: m.lerp(x, 2.0, 0.3), c.f32(3))
    c.error(lambda m, x: m.lerp(x, x), c.f32(3))


@case("torch.clamp", "torch.clamp_")
def clamp(c, name):
    def f(m, x, *bounds, **named):
        return getattr(m, name)(x * 1 if x.requires_grad else x, *bounds, **named)

    c(lambda m, x: f(m, x, -1, 1.5), c.f64(3, 4), gradients=2)
    c(lambda m, x: f(m, x, min=0.5), c.f64(3, 4).seen("transposed"))
    c(lambda m, x: f(m, x, max=0.5), c.f32(4).seen("strided"))
    c(lambda m, x: f(m, x, None, 1), c.i64(5))
    c(lambda m, x: f(m, x, 2, 1), c.f32(5))
    c(lambda m, x: f(m, x, -1.0, 1.0), c.special("float32"))
    c(
        lambda m, x, y, z: f(m, x, y, z),
        c.f64(2, 3),
        c.f64(3, high=0),
        c.f64(2, 1, low=0),
        compiled=True,
    )
    c(lambda m, x, y: f(m, x, max=y), c.f64(2, 3), c.f64(3))
    c(lambda m, x: f(m, x, -1, 1), c.exactly([-1.0, 1.0, 0.0, 2.0]))  # the gradient at the bounds
    for bounds in ((0, 2), (0.5, 1.5), (True, 2)):
        c.dtypes(lambda m, x, b=bounds: f(m, x, *b), (4,), gradients=0)
    c.either(lambda m, x, y: f(m, x, y), c.i64(3), c.f32(3))
    c.either(lambda m, x, y: f(m, x, y), c.f32(3), c.f64().constant())
    c.either(lambda m, x, y: f(m, x, 0, y), c.f32(3), c.f32(3))
    c.error(lambda m, x: f(m, x), c.f32(3))
    c.error(lambda m, x: f(m, x, None, None), c.f32(3))
    c.error(lambda m, x, y: f(m, x, y), c.f32(3), c.f32(4))
    c.error(lambda m, x: f(m, x, "1"), c.f32(3))
    if name == "clamp":
        c(lambda m, x, y: m.clamp(x, 0, 1, out=y), c.f32(3), c.f32(3))
        c.error(lambda m, x, y: m.clamp(x, 0, 1, out=y), c.f32(3), c.i64(3))
    else:
        c.error(lambda m, x: m.clamp_(x, 0, 1), c.f64(3))


@case("torch.clamp_max", "torch.clamp_min", "torch.clamp_max_", "torch.clamp_min_")
def clamp_one(c, name):
    def f(m, x, bound):
        return getattr(m, name)(x * 1 if x.requires_grad else x, bound)

    c(lambda m, x: f(m, x, 0.5), c.f64(3, 4), gradients=2)
    c(lambda m, x: f(m, x, 1), c.f32(4).seen("strided"))
    c(f, c.f64(2, 3), c.f64(3))
    c.dtypes(lambda m, x: f(m, x, 1), (4,), gradients=0)
    c.dtypes(lambda m, x: f(m, x, 1.5), (4,), gradients=0)
    c.error(f, c.f32(3), c.f32(4))
    c.error(lambda m, x: getattr(m, name)(x), c.f32(3))


@case("torch.mvlgamma")
def mvlgamma(c):
    c(lambda m, x: m.mvlgamma(x, 3), c.f64(2, 3, low=1.5, high=6), gradients=2)
    c(lambda m, x: m.mvlgamma(input=x, p=1), c.f32(3, low=0.5))
    c(lambda m, x: m.mvlgamma(x, 2), c.f64(low=2))
    c.dtypes(lambda m, x: m.mvlgamma(x, 2), (3,), low=1, high=5)
    c.either(lambda m, x: m.mvlgamma(x, 2), c.exactly([0.5, 0.3, -1.0, 3.0]))
    c.error(lambda m, x: m.mvlgamma(x, 0), c.f32(3))
    c.error(lambda m, x: m.mvlgamma(x), c.f32(3))
    c.error(lambda m, x: m.mvlgamma(x, 1.5), c.f32(3))


@case("torch.polygamma")
def polygamma(c):
    for n in range(4):
        c(lambda m, x, n=n: m.polygamma(n, x), c.f64(2, 3, low=0.5), gradients=1)
        c.dtypes(lambda m, x, n=n: m.polygamma(n, x), (3,), low=1)
    c(lambda m, x: m.polygamma(input=x, n=1), c.f32(3, low=0.5))
    c.error(lambda m, x: m.polygamma(-1, x), c.f32(3))
    c.error(lambda m, x: m.polygamma(x, 1), c.f32(3))


@case("torch.fill_")
def fill(c):
    c(lambda m, x: m.fill_(x, 2.5), c.f32(2, 3).seen("strided"))
    c(lambda m, x, y: m.fill_(x * 1, y), c.f64(2, 3), c.f64())
    c(lambda m, x: m.fill_(x, 2), c.i64(2, 3).seen("transposed"))
    c.dtypes(lambda m, x: m.fill_(x, 2.7), (3,), gradients=0)
    c.dtypes(lambda m, x: m.fill_(x, True), (3,), gradients=0)
    c.error(lambda m, x, y: m.fill_(x, y), c.f32(2), c.f32(2))
    c.error(lambda m, x: m.fill_(x, "a"), c.f32(2))
    c.error(lambda m, x: m.fill_(x, 1), c.f64(2))


@case("torch.zero_")
def zero(c):
    c(lambda m, x: m.zero_(x), c.f32(2, 3).seen("strided"))
    c(lambda m, x: m.zero_(x * 1), c.f64(2, 3))
    c(lambda m, x: (m.zero_(x[0]), x), c.i64(2, 3))
    c.dtypes(lambda m, x: m.zero_(x), (3,), gradients=0)
    c.error(lambda m, x: m.zero_(x), c.f64(2))
