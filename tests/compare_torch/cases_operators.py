"""Cases of operators, with tensors and numbers on either side, and in place."""

import operator

from compare_cases import DTYPES, case

BINARY = {
    "x + y": operator.add, "x - y": operator.sub, "x * y": operator.mul,
    "x / y": operator.truediv, "x // y": operator.floordiv, "x % y": operator.mod,
    "x ** y": operator.pow, "x & y": operator.and_, "x | y": operator.or_,
    "x ^ y": operator.xor, "x << y": operator.lshift, "x >> y": operator.rshift,
    "x == y": operator.eq, "x != y": operator.ne, "x < y": operator.lt, "x <= y": operator.le,
    "x > y": operator.gt, "x >= y": operator.ge,
}  # fmt: skip
IN_PLACE = {
    "x += y": operator.iadd, "x -= y": operator.isub, "x *= y": operator.imul,
    "x /= y": operator.itruediv, "x //= y": operator.ifloordiv, "x %= y": operator.imod,
    "x **= y": operator.ipow, "x &= y": operator.iand, "x |= y": operator.ior,
    "x ^= y": operator.ixor, "x <<= y": operator.ilshift, "x >>= y": operator.irshift,
}  # fmt: skip
BITS = set("& | ^ << >> &= |= ^= <<= >>=".split())
NUMBERS = (2, -3, 2.5, True, 0)
OTHERS = ("a", None, [1.0, 2.0], {}, (1, 2))


def _symbol(name):
    return name.split()[1]


def _case_of_pairs(name, function, in_place):
    def entered(c):
        def f(m, x, y):
            first = x * 1 if in_place and x.requires_grad and x.is_leaf else x
            result = function(first, y)
            return (result is first, result) if in_place else result

        if _symbol(name) in BITS:
            c(f, c.i64(2, 3, low=0), c.i64(3, low=0), compiled=True)
            c(f, c.i64(2, 3, low=0).seen("transposed"), c.i64(2, 3, low=0).seen("strided"))
        else:
            low = 0.5 if "**" in name else -3
            times = 0 if "//" in name else 2  # PyTorch has no derivative of //
            c(f, c.f64(3, 4, low=low), c.f64(4), gradients=times, compiled=True)
            c(f, c.f32(2, 3, low=low).seen("transposed"), c.f32(2, 3).seen("strided"))
            c(f, c.f64(2, low=low), c.f64(), gradients=times)
        c.pairs(f, (3,), (3,))
        c.pairs(f, (), (), left=("float32", "int64"), right=("float32", "int64", "bool"))
        c.pairs(f, (2,), (), left=("float32", "int64", "uint8"), right=("float64", "int64"))
        c.either(f, c.f32(0, 3), c.f32(3))
        for number in NUMBERS:
            for dtype in DTYPES:
                c.either(lambda m, x, n=number: f(m, x, n), c.of(dtype, 3, low=1))
            if not in_place:
                for dtype in ("float32", "int64", "bool"):
                    c.either(lambda m, x, n=number: function(n, x), c.of(dtype, 3, low=1))
        c.either(f, c.f32(2, 3), c.f32(4))
        c.either(f, c.f32(3), c.f32(2, 3))
        for other in OTHERS:
            c.either(lambda m, x, o=other: f(m, x, o), c.f32(2))
            if not in_place:
                c.either(lambda m, x, o=other: function(o, x), c.f32(2))

    entered.__name__ = name
    return entered


for _name, _function in (BINARY | IN_PLACE).items():
    case(_name)(_case_of_pairs(_name, _function, _name in IN_PLACE))


@case("x @ y")
def matmul(c):
    for one, two in (
        ((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((5, 2, 3), (3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
    ):  # fmt: skip
        c(lambda m, x, y: x @ y, c.f64(*one), c.f64(*two), gradients=2)
    c(lambda m, x, y: x @ y, c.f32(3, 4).seen("transposed"), c.f32(4, 2).seen("strided"))
    c.either(lambda m, x, y: x @ y, c.i64(2, 3), c.i64(3, 2))

    def in_place(m, x, y):
        before = x
        x @= y
        return x is before, x

    c(in_place, c.f32(2, 2), c.f32(2, 2))
    for one, two in (((2, 3), (2, 3)), ((), (3,)), ((3,), ()), ((2, 2, 3), (3, 3, 2))):
        c.error(lambda m, x, y: x @ y, c.f32(*one), c.f32(*two))
    c.error(lambda m, x: x @ 2, c.f32(2, 2))
    c.error(lambda m, x: 2 @ x, c.f32(2, 2))
    c.error(lambda m, x, y: x @ y, c.f32(2, 2), c.f64(2, 2))


@case("-x", "abs(x)", "~x")
def unary(c, name):
    function = {"-x": operator.neg, "abs(x)": abs, "~x": operator.invert}[name]

    def f(m, x):
        return function(x)

    for dtype in DTYPES:
        c.either(f, c.of(dtype, 4))
        c.either(f, c.of(dtype))
    c(f, c.i64(2, 3).seen("transposed"), compiled=True)
    c(f, c.i64(0, 2))
    if name != "~x":
        c(f, c.f64(2, 3), gradients=2, compiled=True)
        c(f, c.special())


# Indexing -----------------------------------------------------------------------------------------

KEYS = {
    "x[int]": ((0,), (-1,), (1, 1), (1, -1, 0), (3,), (-4,), (0, 0, 0, 0)),
    "x[slice]": (
        (slice(1, None),), (slice(None, None, 2),), (slice(None), slice(-2, None)),
        (slice(2, 1),), (slice(0, 99),), (slice(None), 1, slice(None, 3)), (slice(None, None, -1),),
    ),
    "x[...]": ((...,), (..., 0), (0, ...), (1, ..., slice(1, 3)), (slice(1), ..., 1)),
    "x[None]": ((None,), (None, 0), (slice(None), None), (..., None), (None, ..., None, 0)),
    "x[list]": (
        ([0, 2],), ([0, 2], [1, 0]), (slice(None), [1, 0, 1]), ([],), ([[0, 1], [1, 0]],),
        ([0, 1], slice(None), [1, 2]), ([-1],), ([True, False, True],), ([0, 9],),
    ),
}  # fmt: skip


def _reading(name):
    def entered(c):
        for key in KEYS[name]:
            for array in (c.f64(3, 2, 4), c.i64(3, 2, 4).seen("transposed")):
                c.either(lambda m, x, k=key: x[k[0] if len(k) == 1 else k], array, gradients=2)
        c(lambda m, x: x[(0, 1)], c.f32(2, 3))
        c.either(lambda m, x: x[KEYS[name][0]], c.f32())
        c.either(lambda m, x: x[0], c.f32(0, 2))

    return entered


def _writing(name):
    def entered(c):
        def f(m, x, key, value):
            y = x * 1 if x.requires_grad else x
            y[key[0] if len(key) == 1 else key] = value(m) if callable(value) else value
            return y

        for key in KEYS[name]:
            if key == ([],):
                continue  # PyTorch takes some dtypes that it refuses for other lists
            for value in (5, 2.5, True, lambda m: m.tensor(7.0).double(), lambda m: m.ones(4)):
                c.either(lambda m, x, k=key, v=value: f(m, x, k, v), c.f64(3, 2, 4), gradients=1)
                c.either(lambda m, x, k=key, v=value: f(m, x, k, v),
                         c.i64(3, 2, 4).seen("transposed"))  # fmt: skip
        c.error(lambda m, x: f(m, x, (slice(None),), "a"), c.f32(2))
        c.error(lambda m, x: f(m, x, (slice(None),), lambda m: m.ones(3)), c.f32(2))
        c.error(lambda m, x: x.__setitem__(0, 1), c.f64(2))

    return entered


for _name in KEYS:
    case(_name)(_reading(_name))
    case(f"{_name} = y")(_writing(_name))


@case("x[LongTensor]", "x[mask]", "x[mixture]")
def tensors(c, name):
    if name == "x[LongTensor]":
        for index in ([0, 2], [[0, 1], [1, 0]], [-1], 1, []):
            i = c.exactly(index, "int64")
            c(lambda m, x, i: x[i], c.f64(3, 2), i, gradients=2)
            c(lambda m, x, i: x[:, i % 2], c.f32(2, 3).seen("transposed"), i)
        c(lambda m, x, i, j: x[i, j], c.f64(3, 2), c.exactly([[0], [2]]), c.exactly([1, 0]),
          gradients=2)  # fmt: skip
        for dtype in ("int32", "uint8"):
            c(lambda m, x, i: x[i], c.f32(2, 2), c.exactly([1, 0], dtype))
        c.error(lambda m, x, i: x[i], c.f32(3), c.exactly([3]))
        c.error(lambda m, x, i: x[i], c.f32(3), c.f32(2))
        c.error(lambda m, x, i, j: x[i, j], c.f32(3, 2), c.exactly([0, 1]), c.exactly([0, 1, 0]))
    elif name == "x[mask]":
        c(lambda m, x, y: x[y], c.f64(3, 4), c.mask(3, 4), gradients=2)
        c(lambda m, x, y: x[y], c.f64(3, 4), c.mask(3), gradients=2)
        c(lambda m, x, y: x[:, y], c.f32(3, 4).seen("transposed"), c.mask(4))
        c(lambda m, x, y: x[y], c.f32(2), c.mask())
        c(lambda m, x: x[x > 0], c.i64(2, 3).seen("strided"))
        c(lambda m, x: (x[True], x[False]), c.f32(2))
        c.error(lambda m, x, y: x[y], c.f32(3), c.mask(4))
        c.error(lambda m, x, y: x[y], c.f32(3), c.mask(3, 1))
    else:
        for key in (
            lambda i, y: (0, i), lambda i, y: (i, 1), lambda i, y: (slice(1, None), i % 2),
            lambda i, y: (None, i), lambda i, y: (..., i), lambda i, y: (i, slice(None), i),
            lambda i, y: (y, i % 2), lambda i, y: (i, None, 0), lambda i, y: (i % 2, [0, 1]),
            lambda i, y: (slice(None), 0, i), lambda i, y: (y, ..., 0),
        ):  # fmt: skip
            c.either(lambda m, x, i, y, k=key: x[k(i, y)], c.f64(3, 2, 4), c.exactly([0, 1]),
                     c.exactly([True, False, True]), gradients=2)  # fmt: skip


@case("x[LongTensor] = y", "x[mask] = y", "x[mixture] = y")
def assigned_tensors(c, name):
    def f(m, x, key, value):
        y = x * 1 if x.requires_grad else x
        y[key] = value
        return y

    if name == "x[LongTensor] = y":
        index = c.exactly([0, 2])
        c(lambda m, x, i, v: f(m, x, i, v), c.f64(3, 2), index, c.f64(2, 2), gradients=2)
        c(lambda m, x, i, v: f(m, x, i, v), c.f64(3, 2), index, c.f64(2), gradients=2)
        c(lambda m, x, i: f(m, x, (slice(None), i), 5), c.i64(3, 3).seen("transposed"), index)
        c(lambda m, x, i: f(m, x, i, 2.5), c.f32(3), c.exactly(1))
        c.error(lambda m, x, i: f(m, x, i, 1), c.f32(3), c.exactly([3]))
        c.error(lambda m, x, i, v: f(m, x, i, v), c.f32(3), index, c.f32(3))
        c.error(lambda m, x, i, v: f(m, x, i, v), c.f32(3), index, c.f64(2))
    elif name == "x[mask] = y":
        c(lambda m, x, y: f(m, x, y, 5), c.f64(3, 4), c.mask(3, 4), gradients=2)
        c(lambda m, x, y: f(m, x, y, 5), c.i64(3, 4).seen("transposed"), c.mask(3))
        hits = c.exactly([True, False, True])
        c(lambda m, x, y, v: f(m, x, y, v), c.f64(3), hits, c.f64(2), gradients=2)
        c(lambda m, x, y, v: f(m, x, y, v), c.f64(3, 2), hits, c.f64(2, 2), gradients=2)
        c(lambda m, x: f(m, x, x > 0, 0), c.f32(2, 3).seen("strided"))
        c.error(lambda m, x, y: f(m, x, y, 1), c.f32(3), c.mask(4))
        c.error(lambda m, x, y, v: f(m, x, y, v), c.f32(3), hits, c.f32(3))
    else:
        for key in (
            lambda i: (0, i), lambda i: (i, 1), lambda i: (slice(1, None), i), lambda i: (..., i),
            lambda i: (i, slice(None), i), lambda i: (i, [0, 1]), lambda i: (slice(None), 0, i),
        ):  # fmt: skip
            c.either(lambda m, x, i, k=key: f(m, x, k(i), 5), c.f64(3, 2, 4), c.exactly([0, 1]),
                     gradients=1)  # fmt: skip
