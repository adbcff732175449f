"""Cases of the sections "Reduction Ops" and "Comparison Ops"."""

import math

import numpy as np
from compare_cases import case


def reduction(c, name, *, dtypes=True, several=True, dims=True, gradients=2, low=-3.0, high=3.0):
    """What reductions over dimensions have in common."""

    def f(m, x, *arguments, **named):
        return getattr(m, name)(x, *arguments, **named)

    def floats(*shape):
        return c.f64(*shape, low=low, high=high)

    if dims:
        c(lambda m, x: f(m, x, 1), floats(2, 3, 4), gradients=gradients)
        c(lambda m, x: f(m, x, -1, keepdim=True), floats(3, 4).seen("transposed"))
        c(lambda m, x: f(m, x, dim=0), c.f32(5, 3).seen("strided"))
        c(lambda m, x: f(m, x, 0), floats())
        c(lambda m, x: f(m, x, 1), c.f32(3, 1))
        c.either(lambda m, x: f(m, x, 1, True), c.i64(3, 4))
        c(lambda m, x: f(m, x, 0), c.f32(3, 0), compiled=False)
        c.either(lambda m, x: f(m, x, 0), c.f32(0, 3))
        c.error(lambda m, x: f(m, x, 2), c.f32(3, 4))
        c.error(lambda m, x: f(m, x, -3), c.f32(3, 4))
        c.error(lambda m, x: f(m, x, 1), c.f32())
        c.error(lambda m, x: f(m, x, "0"), c.f32(3))
    if several:
        c(lambda m, x: f(m, x, (0, 2)), floats(2, 3, 4))
        c(lambda m, x: f(m, x, dim=[-1, 0], keepdim=True), c.f32(2, 3, 4))
        if name != "logsumexp":
            c(lambda m, x: f(m, x, ()), c.f32(2, 3))
        c.error(lambda m, x: f(m, x, (0, 0)), c.f32(3, 4))
        c.error(lambda m, x: f(m, x, (0, 2)), c.f32(3, 4))
    if dtypes:
        c.dtypes(lambda m, x: f(m, x, 0) if dims else f(m, x), (4, 2), low=max(low, 1))
    c.error(lambda m: f(m, 3))
    c.error(lambda m: f(m))


def whole(c, name, *, gradients=2, low=-3.0, high=3.0, empty=True):
    """What reductions of all elements have in common."""

    def f(m, x, **named):
        return getattr(m, name)(x, **named)

    c(f, c.f64(3, 4, low=low, high=high), gradients=gradients)
    c(f, c.f32(4, 3, low=low, high=high).seen("transposed"))
    c(lambda m, x: getattr(m, name)(input=x), c.f64(low=low, high=high))
    c(f, c.i64(5, low=1), gradients=0) if name not in ("mean", "var", "std", "norm") else None
    c.either(f, c.f32(0))
    c.dtypes(f, (4,), low=max(low, 1))
    c(f, c.exactly([1.0, math.nan, 2.0], "float32"))
    c(f, c.exactly([1.0, math.inf, -math.inf], "float32"))


@case("torch.sum", "torch.prod", "torch.mean")
def sums(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    whole(c, name)
    reduction(c, name, several=name != "prod")
    c(lambda m, x: f(m, x, dtype=m.float64), c.f32(3, 4))
    c(lambda m, x: f(m, x, 0, dtype=m.float32), c.i64(3, 4))
    c.either(lambda m, x: f(m, x, dtype=m.int32), c.f32(3))
    c(lambda m, x, o: f(m, x, 0, out=o), c.f32(3, 2), c.f32(2))
    c.either(lambda m, x, o: f(m, x, 0, out=o), c.f32(3, 2), c.f64(2))
    if name == "prod":
        for zeros in ([0.0, 2.0, 3.0], [0.0, 2.0, 0.0], [1.5, 2.0, 3.0]):
            c(lambda m, x: m.prod(x, 0), c.exactly(zeros), gradients=2)


@case("torch.var", "torch.std")
def spread(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    whole(c, name)
    reduction(c, name)
    c(lambda m, x: f(m, x, unbiased=False), c.f64(3, 4), gradients=2)
    c(lambda m, x: f(m, x, 0, False), c.f64(3, 4))
    c(lambda m, x: f(m, x, 1, True, True), c.f64(3, 4))
    c(lambda m, x: f(m, x, correction=2), c.f64(3, 4))
    c(lambda m, x: f(m, x, dim=0, correction=0, keepdim=True), c.f32(3, 4))
    c(lambda m, x: f(m, x, 0), c.f32(1, 3))
    c(lambda m, x: f(m, x, False), c.f32(4))
    c(lambda m, x, o: f(m, x, 0, out=o), c.f32(3, 2), c.f32(2))
    c.error(lambda m, x: f(m, x), c.i64(3))


@case("torch.norm")
def norm(c):
    c(lambda m, x: m.norm(x), c.f64(3, 4), gradients=2)
    for p in (1, 2, 3, 0.5, math.inf, -math.inf, 0, "fro", -1, 2.5):
        times = 0 if p == 0 else 1
        c(lambda m, x, p=p: m.norm(x, p), c.f64(3, 4), gradients=times)
        c(lambda m, x, p=p: m.norm(x, p, 1), c.f64(3, 4), gradients=times, compiled=False)
        c(lambda m, x, p=p: m.norm(x, p, dim=(0, 1), keepdim=True), c.f32(3, 4), compiled=False)
    c(lambda m, x: m.norm(x, "nuc"), c.f64(3, 4))
    c(lambda m, x: m.norm(input=x, p=2, dim=-1, keepdim=True), c.f32(3, 4).seen("transposed"))
    c(lambda m, x: m.norm(x, dim=0, dtype=m.float64), c.f32(3, 4))
    c(lambda m, x: m.norm(x), c.exactly([0.0, 0.0, 0.0]))
    c(lambda m, x: m.norm(x, 2, 1), c.exactly([[0.0, 0.0], [3.0, 4.0]]))
    c(lambda m, x: m.norm(x, dim=1), c.f32(3, 0))
    c(lambda m, x: m.norm(x), c.f32())
    c(lambda m, x, o: m.norm(x, 2, 0, out=o), c.f32(3, 2), c.f32(2))
    c.dtypes(lambda m, x: m.norm(x), (3,))
    c.error(lambda m, x: m.norm(x, 2, 2), c.f32(3, 4))
    c.error(lambda m, x: m.norm(x, "other"), c.f32(3, 4))


@case("torch.dist")
def dist(c):
    for p in (2, 1, 3, 0, math.inf, -math.inf, 0.5):
        times = 1 if p > 0 else 0
        c(lambda m, x, y, p=p: m.dist(x, y, p), c.f64(3, 4), c.f64(4), gradients=times)
    c(lambda m, x, y: m.dist(input=x, other=y), c.f32(3).seen("strided"), c.f32(3))
    c(lambda m, x, y: m.dist(x, y), c.f64(), c.f64())
    c.dtypes(lambda m, x, y: m.dist(x, y), (3,), (3,))
    c.error(lambda m, x, y: m.dist(x, y), c.f32(3), c.f32(4))
    c.error(lambda m, x: m.dist(x, 2.0), c.f32(3))


@case("torch.logsumexp")
def logsumexp(c):
    reduction(c, "logsumexp")
    c(lambda m, x: m.logsumexp(x, 0), c.exactly([math.inf, 1.0]), gradients=0)
    c(lambda m, x: m.logsumexp(x, 0), c.exactly([-math.inf, -math.inf]), gradients=0)
    c(lambda m, x: m.logsumexp(x, 0), c.exactly([1000.0, 1000.0]))
    c(lambda m, x, o: m.logsumexp(x, 0, out=o), c.f32(3, 2), c.f32(2))
    c.error(lambda m, x: m.logsumexp(x), c.f32(3))


@case("torch.cumsum", "torch.cumprod")
def scans(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    c(lambda m, x: f(m, x, 0), c.f64(3, 4), gradients=2)
    c(lambda m, x: f(m, x, -1), c.f64(3, 4).seen("transposed"))
    c(lambda m, x: f(m, x, dim=0), c.i64(5).seen("strided"))
    c(lambda m, x: f(m, x, 0, dtype=m.float64), c.f32(4))
    c(lambda m, x: f(m, x, 0), c.exactly([2.0, 0.0, 3.0, 0.0, 1.0]), gradients=1)
    c(lambda m, x, o: f(m, x, 0, out=o), c.f32(3), c.f32(3))
    c(lambda m, x: f(m, x, 0), c.f64())
    c(lambda m, x: f(m, x, 1), c.f32(3, 0))
    c.dtypes(lambda m, x: f(m, x, 0), (4, 2))
    c.error(lambda m, x: f(m, x), c.f32(3))
    c.error(lambda m, x: f(m, x, 1), c.f32(3))
    c.error(lambda m, x: f(m, x, -2), c.f32(3))
    c.error(lambda m: f(m, [1], 0))


@case("torch.max", "torch.min")
def extremes(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    whole(c, name)
    reduction(c, name, several=False)
    c(lambda m, x: f(m, x, 1), c.distinct(3, 4), gradients=2)
    c(lambda m, x: f(m, x), c.exactly([2.0, 1.0, 2.0, 1.0]))  # ties share the gradient
    c(lambda m, x: f(m, x, 0), c.exactly([[2, 1], [2, 1]]))
    c(lambda m, x: f(m, x, 0), c.exactly([[math.nan, 1.0], [2.0, math.nan]]), gradients=0)
    c(lambda m, x, y: f(m, x, y), c.f64(3, 1), c.f64(4), gradients=2)
    c(lambda m, x, y: f(m, x, other=y), c.exactly([1.0, 2.0]), c.exactly([1.0, math.nan]))
    c(lambda m, x, v, i: f(m, x, 0, out=(v, i)), c.f32(3, 2), c.f32(2), c.i64(2))
    c(lambda m, x, y, o: f(m, x, y, out=o), c.f32(3), c.f32(3), c.f32(3))
    c.pairs(lambda m, x, y: f(m, x, y))
    c.error(lambda m, x, y: f(m, x, y), c.f32(3), c.f32(4))
    c.error(lambda m, x: f(m, x, (0, 1)), c.f32(3, 4))
    c.error(lambda m, x: f(m, x, 2.5), c.f32(3, 4))


@case("torch.argmax", "torch.argmin")
def arg_extremes(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    reduction(c, name, several=False)
    c(lambda m, x: f(m, x), c.distinct(3, 4))
    c(lambda m, x: f(m, x, keepdim=True), c.distinct(3, 4))
    c(lambda m, x: f(m, x, dim=None), c.distinct(3, 4).seen("transposed"))
    c(lambda m, x: f(m, x), c.exactly([2, 1, 2, 1]))
    c(lambda m, x: f(m, x), c.exactly([1.0, math.nan, math.nan]))
    c(lambda m, x: f(m, x), c.f32())
    c(lambda m, x, o: f(m, x, 0, out=o), c.f32(3, 2), c.i64(2))
    c.dtypes(f, (4,))
    c.error(f, c.f32(0))


@case("torch.median", "torch.mode", "torch.kthvalue")
def ranks(c, name):
    second = (2,) if name == "kthvalue" else ()
    f = lambda m, x, *a, **k: getattr(m, name)(x, *second, *a, **k)  # noqa: E731
    c(lambda m, x: f(m, x), c.distinct(3, 5), gradients=2)
    c(lambda m, x: f(m, x, 0), c.distinct(4, 3).seen("transposed"))
    c(lambda m, x: f(m, x, -1, True), c.distinct(2, 3, 4))
    c(lambda m, x: f(m, x, dim=0, keepdim=True), c.distinct(4, 2, dtype="float32"))
    c(lambda m, x, v, i: f(m, x, 0, out=(v, i)), c.distinct(3, 2), c.f64(2), c.i64(2), gradients=0)
    c.dtypes(lambda m, x: f(m, x, 0)[0], (5,), low=0)
    c.error(lambda m, x: f(m, x, 2), c.f32(3, 4))
    c.error(lambda m, x: f(m, x, -3), c.f32(3, 4))
    if name == "kthvalue":
        c.error(lambda m, x: m.kthvalue(x, 0), c.f32(3))
        c.error(lambda m, x: m.kthvalue(x, 4), c.f32(3))
        c.error(lambda m, x: m.kthvalue(x), c.f32(3))
        c(lambda m, x: m.kthvalue(x, 1), c.f32())
        c(lambda m, x: m.kthvalue(x, 3)[0], c.exactly([1.0, math.nan, 2.0]), gradients=0)
    else:
        c(lambda m, x: f(m, x, 0), c.f32())
        c(lambda m, x: f(m, x, 0)[0], c.exactly([1.0, math.nan, 2.0]), gradients=0)
    if name == "median":
        c(lambda m, x: m.median(x), c.f64(), gradients=1)
        c(lambda m, x: m.median(x), c.exactly([3, 1, 2, 2]))
        c(lambda m, x: m.median(x), c.f32(0))
        c.error(lambda m, x: m.median(x, 0), c.f32(0, 2))
    if name == "mode":
        c(lambda m, x: m.mode(x)[0], c.exactly([[3, 1, 3, 1], [2, 2, 5, 0]]))


@case("torch.unique")
def unique(c):
    for values in (c.i64(9), c.f64(0), c.exactly([2.5, 1.0, 2.5]), c.mask(5), c.i64(3, 4), c.i64()):
        c(lambda m, x: m.unique(x), values, gradients=0)
        c(lambda m, x: m.unique(x, return_inverse=True), values, gradients=0)
        c(lambda m, x: m.unique(x, True, True, True), values, gradients=0)
    rows = c.exactly([[1, 2], [0, 5], [1, 2], [0, 4]])
    c(lambda m, x: m.unique(x, dim=0), rows)
    c(lambda m, x: m.unique(x, dim=-1, return_inverse=True, return_counts=True), rows)
    c(lambda m, x: m.unique(input=x, return_counts=True), c.i64(3, 4).seen("transposed"))
    c(lambda m, x: m.sort(m.unique(x, sorted=False))[0], c.i64(7))
    c.dtypes(lambda m, x: m.unique(x), (6,), gradients=0)
    c.error(lambda m, x: m.unique(x, dim=2), rows)
    c.error(lambda m: m.unique(3))


@case("torch.all", "torch.any")
def every(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    for shape in ((3, 4), (), (0,), (1,)):
        c(lambda m, x: f(m, x), c.mask(*shape))
    reduction(c, name, gradients=0)
    c.dtypes(f, (3,), low=-1, high=1)
    c(lambda m, x, o: f(m, x, 0, out=o), c.mask(3, 2), c.mask(2))
    c(lambda m, x: f(m, x), c.exactly([math.nan, 0.0]))


# Comparison ---------------------------------------------------------------------------------------


@case("torch.eq", "torch.ne", "torch.lt", "torch.le", "torch.gt", "torch.ge")
def comparison(c, name):
    f = lambda m, x, y, **k: getattr(m, name)(x, y, **k)  # noqa: E731
    c(f, c.i64(3, 1, low=0, high=2), c.i64(4, low=0, high=2))
    c(f, c.f64(3, 4).seen("transposed"), c.f64(3, 4))
    c(f, c.special("float32"), c.exactly([1.0, math.nan, 0.0, -math.inf] * 3, "float32"))
    for number in (1, 0.5, True, -1, 2**40):
        for dtype in ("float32", "uint8", "int64", "bool", "float16"):
            c.either(lambda m, x, n=number: f(m, x, n), c.of(dtype, 4, low=0, high=2))
    c(lambda m, x, y: getattr(m, name)(input=x, other=y), c.f32(), c.f32(2))
    c(lambda m, x, y, o: f(m, x, y, out=o), c.f32(3), c.f32(3), c.mask(3))
    c.either(lambda m, x, y, o: f(m, x, y, out=o), c.f32(3), c.f32(3), c.of("uint8", 3))
    c(f, c.f32(0, 3), c.f32(3))
    c.pairs(f)
    c.error(f, c.f32(3), c.f32(4))
    c.error(lambda m, x: f(m, x, "1"), c.f32(3))
    c.error(lambda m, x: f(m, x, None), c.f32(3))
    c.error(lambda m, x: f(m, x, [1]), c.f32(3))


@case("torch.equal")
def equal(c):
    c(lambda m, x, y: (m.equal(x, y), m.equal(x, x)), c.f64(3), c.f64(3))
    c(lambda m, x, y: m.equal(x, y), c.f32(3), c.f32(4))
    c(lambda m, x, y: m.equal(x, y), c.f32(0), c.f32(0, 2))
    c(lambda m, x: m.equal(x, x), c.exactly([math.nan]))
    c(lambda m, x: m.equal(input=x, other=x), c.i64())
    c.either(lambda m, x, y: m.equal(x, y), c.exactly([1, 2]), c.exactly([1.0, 2.0]))
    c.error(lambda m, x: m.equal(x, 2), c.f32(3))


@case("torch.allclose", "torch.isclose")
def close(c, name):
    f = lambda m, x, y, *a, **k: getattr(m, name)(x, y, *a, **k)  # noqa: E731
    x = c.exactly([1.0, 2.0, 3.0])
    for shift in (0.0, 1e-9, 1e-6, 1e-3):
        c(f, x, c.exactly(x.values + shift), gradients=0)
        c(lambda m, x, y: f(m, x, y, 1e-4, 1e-2), x, c.exactly(x.values + shift), gradients=0)
    c(f, c.exactly([math.nan, 1.0]), c.exactly([math.nan, 1.0]), gradients=0)
    c(lambda m, x, y: f(m, x, y, equal_nan=True), c.exactly([math.nan]), c.exactly([math.nan]),
      gradients=0)  # fmt: skip
    c(f, c.exactly([math.inf, math.inf]), c.exactly([math.inf, -math.inf]), gradients=0)
    c(lambda m, x, y: f(m, x, y, rtol=0, atol=1), c.i64(3), c.i64(3))
    c(f, c.f64(3, 1), c.f64(4), gradients=0)
    c.error(f, c.f32(3), c.f64(3))
    c.error(f, c.f32(3), c.f32(4))
    c.error(lambda m, x: f(m, x, x, rtol=-1), c.f32(3))
    c.error(lambda m, x: f(m, x, 1.0), c.f32(3))


@case("torch.isfinite", "torch.isinf", "torch.isnan")
def kinds(c, name):
    f = lambda m, x: getattr(m, name)(x)  # noqa: E731
    c(f, c.special("float32"))
    c(f, c.special("float64"))
    c(f, c.special("bfloat16"))
    c(f, c.f32())
    c(f, c.f32(0, 2))
    c(f, c.f32(2, 3).seen("transposed"))
    c.dtypes(f, (3,))
    c.error(lambda m: f(m, 2.0))
    c.error(lambda m: f(m, [2.0]))


@case("torch.sort", "torch.argsort")
def sort(c, name):
    f = lambda m, x, *a, **k: getattr(m, name)(x, *a, **k)  # noqa: E731
    c(f, c.distinct(3, 4), gradients=2)
    c(lambda m, x: f(m, x, 0, True), c.distinct(4, 3).seen("transposed"))
    c(lambda m, x: f(m, x, dim=-2, descending=True), c.distinct(4, 3, dtype="float32"))
    c(lambda m, x: f(m, x, stable=True), c.i64(20))
    c(lambda m, x: f(m, x, stable=True, dim=0, descending=True), c.i64(20))
    c(f, c.f64())
    c(f, c.f32(3, 0))
    c(f, c.exactly([2.0, math.nan, -math.inf, math.inf]), gradients=0)
    c.dtypes(lambda m, x: f(m, x, stable=True), (6,))
    if name == "sort":
        c(lambda m, x, v, i: f(m, x, out=(v, i)), c.distinct(3), c.f64(3), c.i64(3), gradients=0)
    c.error(lambda m, x: f(m, x, 2), c.f32(3, 4))
    c.error(lambda m, x: f(m, x, -3), c.f32(3, 4))
    c.error(lambda m: f(m, [3, 1]))


@case("torch.topk")
def topk(c):
    c(lambda m, x: m.topk(x, 2), c.distinct(3, 4), gradients=2)
    c(lambda m, x: m.topk(x, 3, 0, False), c.distinct(4, 3).seen("transposed"))
    c(lambda m, x: m.topk(input=x, k=2, dim=-1, largest=False, sorted=True), c.distinct(5))
    c(lambda m, x: m.topk(x, 0), c.f32(3))
    c(lambda m, x: m.topk(x, 1), c.f32())
    c(lambda m, x: m.topk(x, 2)[0], c.exactly([1.0, math.nan, 3.0]), gradients=0)
    c(lambda m, x, v, i: m.topk(x, 2, out=(v, i)), c.distinct(3), c.f64(2), c.i64(2), gradients=0)
    c.dtypes(lambda m, x: m.topk(x, 2)[0], (5,))
    c.error(lambda m, x: m.topk(x, 4), c.f32(3))
    c.error(lambda m, x: m.topk(x, -1), c.f32(3))
    c.error(lambda m, x: m.topk(x, 1, 1), c.f32(3))
    c.error(lambda m, x: m.topk(x), c.f32(3))


@case("torch.is_complex", "torch.is_floating_point", "torch.is_signed")
def questions(c, name):
    c.dtypes(lambda m, x: getattr(m, name)(x), (2,))
    c(lambda m, x: getattr(m, name)(input=x), c.f32())
    c.error(lambda m: getattr(m, name)(3))


@case("torch.is_nonzero")
def is_nonzero(c):
    for value in (0.0, 2.0, 1, 0, True, False, [3], math.nan):
        c(lambda m, x: m.is_nonzero(x), c.exactly(value))
    c.error(lambda m, x: m.is_nonzero(x), c.f32(2))
    c.error(lambda m, x: m.is_nonzero(x), c.f32(0))
    c.error(lambda m: m.is_nonzero(3))


@case("torch.is_same_size")
def is_same_size(c):
    c(lambda m, x, y: (m.is_same_size(x, y), m.is_same_size(input=x, other=x)), c.f32(2), c.i64(3))
    c.error(lambda m, x: m.is_same_size(x, 3), c.f32(2))


@case("torch.frobenius_norm")
def frobenius_norm(c):
    c(lambda m, x: m.frobenius_norm(x, (0, 1)), c.f64(3, 4), reference=_frobenius, gradients=2)
    c(lambda m, x: m.frobenius_norm(x, 1), c.f64(3, 4), reference=_frobenius_of_rows)
    c(lambda m, x: m.frobenius_norm(x, dim=(1,), keepdim=True), c.f32(3, 4),
      reference=lambda m, x: m.linalg.vector_norm(x, dim=1, keepdim=True))  # fmt: skip
    c.error(lambda m, x: m.frobenius_norm(x, (0, 2)), c.f32(3, 4), reference=_wrong_dimension)


def _frobenius(m, x):
    return m.linalg.matrix_norm(x)


def _frobenius_of_rows(m, x):
    return m.linalg.vector_norm(x, dim=1)


def _wrong_dimension(m, x):
    return m.linalg.matrix_norm(x, dim=(0, 2))


@case("torch.nuclear_norm")
def nuclear_norm(c):
    c(lambda m, x: m.nuclear_norm(x), c.f64(3, 4))
    c(lambda m, x: m.nuclear_norm(x, True), c.f32(3, 4))
    c.error(lambda m, x: m.nuclear_norm(x), c.f32(3))


@case("torch.norm_except_dim")
def norm_except_dim(c):
    for dim in (0, 1, -1):
        c(lambda m, x, d=dim: m.norm_except_dim(x, 2, d), c.f64(3, 4))
    c(lambda m, x: m.norm_except_dim(x), c.f32(3, 2, 2))
    c(lambda m, x: m.norm_except_dim(v=x, pow=3, dim=0), c.f64(3, 4))


@case("torch.native_norm")
def native_norm(c):
    for p in (2, 1, 3):
        c(lambda m, x, p=p: m.native_norm(x, p), c.f64(3, 4), gradients=0,
          reference=lambda m, x, p=p: m.norm(x, p))  # fmt: skip


@case("torch.bincount")
def bincount(c):
    c(lambda m, x: m.bincount(x), c.i64(20, low=0, high=6))
    c(lambda m, x: m.bincount(x, minlength=10), c.i64(9, low=0, high=6))
    c(lambda m, x, w: m.bincount(x, w), c.i64(9, low=0), c.f64(9), gradients=0)
    c(lambda m, x, w: m.bincount(input=x, weights=w, minlength=5), c.i64(9, low=0), c.f32(9))
    c(lambda m, x: m.bincount(x), c.exactly([], "int64"))
    c(lambda m, x: m.bincount(x, minlength=3), c.exactly([], "int64"))
    for dtype in ("uint8", "int32", "float32", "bool"):
        c.either(lambda m, x: m.bincount(x), c.of(dtype, 5, low=0))
    c.either(lambda m, x, w: m.bincount(x, w), c.i64(5, low=0), c.i64(5))
    c.error(lambda m, x: m.bincount(x), c.exactly([1, -1]))
    c.error(lambda m, x: m.bincount(x), c.i64(2, 2, low=0))
    c.error(lambda m, x, w: m.bincount(x, w), c.i64(3, low=0), c.f32(4))
    c.error(lambda m, x: m.bincount(x, minlength=-1), c.i64(3, low=0))


@case("torch.histc")
def histc(c):
    c(lambda m, x: m.histc(x, 4), c.f32(30), gradients=0)
    c(lambda m, x: m.histc(x, 5, -2, 2), c.f64(30), gradients=0)
    c(lambda m, x: m.histc(input=x, bins=3, min=0, max=0), c.f32(5, 6).seen("transposed"))
    c(lambda m, x: m.histc(x, 4), c.exactly(np.ones(5)), gradients=0)
    c(lambda m, x: m.histc(x), c.f32(30))
    c(lambda m, x, o: m.histc(x, 4, out=o), c.f32(9), c.f32(4))
    c.error(lambda m, x: m.histc(x, 0), c.f32(3))
    c.error(lambda m, x: m.histc(x, 3, 2, 1), c.f32(3))
    c.error(lambda m, x: m.histc(x, 3), c.exactly([1.0, math.nan], "float32"))
    c.either(lambda m, x: m.histc(x, 3), c.i64(5))
