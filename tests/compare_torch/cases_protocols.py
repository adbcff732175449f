"""Cases of Python's and NumPy's protocols."""

import copy
import operator
import pickle

import numpy as np
from compare_cases import DTYPES, case


@case("len(x)", "iter(x)")
def sequences(c, name):
    c(lambda m, x: (len(x), list(x)), c.f64(3, 2))
    c(lambda m, x: (len(x), list(x), list(reversed(x))), c.i64(3).seen("strided"))
    c(lambda m, x: (len(x), list(x)), c.f32(0, 2))
    c(lambda m, x: max(x), c.f32(3))
    c(lambda m, x: sum(x), c.f64(3, 2), gradients=1)

    def unpacked(m, x):
        first, *others = x
        return first, others

    c(unpacked, c.f64(3))
    c.error(lambda m, x: len(x) if name == "len(x)" else iter(x), c.f32())


@case("bool(x)", "int(x)", "float(x)", "operator.index(x)")
def conversions(c, name):
    convert = {"bool(x)": bool, "int(x)": int, "float(x)": float}.get(name, operator.index)
    for dtype in DTYPES:
        for shape in ((), (1,), (1, 1)):
            c.either(lambda m, x: convert(x), c.of(dtype, *shape))
    for value in (0.0, -0.0, 2.5, -7.9, np.inf, -np.inf, np.nan):
        c.either(lambda m, x: convert(x), c.exactly(value))
    c.error(lambda m, x: convert(x), c.f32(2))
    c.error(lambda m, x: convert(x), c.f32(0))
    if convert is operator.index:
        c(lambda m, x: ["a", "b", "c"][x], c.exactly(1))
        c(lambda m, x: list(range(9))[x:], c.exactly(7))


@case("y in x")
def contains(c):
    x = c.exactly([1, 2, 3])
    for value in (2, 5, 2.0, True):
        c(lambda m, x, v=value: v in x, x)
    c(lambda m, x, y: (y in x, y + 9 in x), x, c.exactly(3))
    c(lambda m, x, y: y in x, c.f32(2, 3), c.f32(3))
    c.error(lambda m, x: "a" in x, x)
    c.error(lambda m, x: None in x, x)


@case("format(x)", "repr(x)")
def texts(c, name):
    arrays = [c.exactly(v, d) for v, d in (
        (2.5, "float32"), ([1.0, 2.5], "float32"), ([1, 2], "int64"), ([[True, False]], "bool"),
        ([1e-5, 1e5], "float32"), ([1.5], "float16"), ([2], "uint8"), (7, "int64"),
        ([np.nan, np.inf], "float32"),
    )]  # fmt: skip
    for array in arrays:
        if name == "repr(x)":
            c(lambda m, x: (repr(x).replace("braze.", "torch."), str(x) == repr(x)), array)
        else:
            c(lambda m, x: (f"{x}".replace("braze.", "torch."), f"{x!s}" == str(x)), array)
    c(lambda m, x: repr(x), c.exactly([1.5, 2.0], "float32").constant())
    if name == "format(x)":
        for spec, value in ((".2f", 3.14159), ("8.3f", 2.0), ("d", 7), ("05d", 42), ("e", 12.5)):
            c(lambda m, x, s=spec: format(x, s), c.exactly(value))
        c(lambda m, x: "%.1f %d" % (x, x), c.exactly(2.75))  # noqa: UP031
        c.error(lambda m, x: format(x, ".2f"), c.f32(2))
        c.error(lambda m, x: format(x, "d"), c.exactly(2.5))


@case("hash(x)")
def hashes(c):
    c(lambda m, x: (hash(x) == hash(x), hash(x) == hash(x.clone()), {x: 1}[x]), c.f32(2))
    c(lambda m, x: (x in {x}, x in [x], len({x, x.clone(), x})), c.f32(1))


@case("copy.copy(x)", "copy.deepcopy(x)", "pickle.dumps(x)")
def copies(c, name):
    kinds = {"copy(x)": copy.copy, "deepcopy(x)": copy.deepcopy}
    made = kinds.get(name, lambda x: pickle.loads(pickle.dumps(x)))

    for dtype in DTYPES:
        c(lambda m, x: made(x.detach()), c.of(dtype, 3), compiled=False)
    c(lambda m, x: made(x), c.f64(2, 3))
    c(lambda m, x: (made(x), made(x).stride()), c.f32(2, 3).seen("transposed"))
    c(lambda m, x: made(x).is_leaf, c.f64(2))

    def apart(m, x):
        y = made(x)
        y[0] = 9
        return x, y

    def together(m, x):
        y = x[1:]
        a, b = (made(x), made(y)) if name == "copy(x)" else made((x, y))
        a[1] = 9
        return x, y, b

    c(apart, c.f32(3))
    if name != "dumps(x)":  # of views plain pickles of PyTorch make tensors of their own
        c(together, c.f32(3))
    if name == "deepcopy(x)":
        c.error(lambda m, x: copy.deepcopy(x * 2), c.f64(2))


# NumPy --------------------------------------------------------------------------------------------


@case("numpy.asarray(x)")
def asarray(c):
    for dtype in DTYPES:
        if dtype != "bfloat16":
            c(lambda m, x: (np.asarray(x.detach()).tolist(), str(np.asarray(x.detach()).dtype)),
              c.of(dtype, 2, 3), compiled=False)  # fmt: skip
    c(lambda m, x: np.asarray(x).tolist(), c.f32(2, 3).seen("transposed"))
    c(lambda m, x: np.array(x, dtype=np.float64).tolist(), c.i64(3))
    c(lambda m, x: np.stack([x, x]).tolist(), c.f32(2))
    c(lambda m, x: np.concatenate([x, x]).tolist(), c.f32(2))
    c.error(lambda m, x: np.asarray(x), c.f64(2))


@case("numpy.sin(x)")
def functions(c):
    c(lambda m, x: np.sin(x), c.f32(3))
    c(lambda m, x: np.sqrt(x), c.f64(2, 2, low=0).constant())
    c(lambda m, x: np.add(x, 1), c.f32(3))
    c(lambda m, x, y: np.multiply(x, y), c.f32(3), c.f32(3))
    c(lambda m, x: np.float32(2) * x, c.f32(3))
    c(lambda m, x: x * np.float64(2), c.i64(3))
    c(lambda m, x: x + np.ones(3, np.float32), c.f32(3))
    c(lambda m, x: x == np.ones(3), c.f32(3))
    c.error(lambda m, x: np.sin(x), c.f64(2))


@case("x.numpy() shares memory", "from_numpy(a) shares memory")
def shared(c, name):
    def given(m):
        array = np.arange(6.0)
        x = m.from_numpy(array)
        array[0] = 10
        x[1] = 20
        x[2:4].mul_(5)
        y = x * 2
        array[5] = -1
        return x, y, array.tolist()

    def taken(view):
        def f(m, x):
            y = view(x)
            array = y.numpy()
            array.flat[0] = 10
            z = y * 2
            x.add_(1)
            return x, z, array.tolist()

        return f

    if name.startswith("from_numpy"):
        c(given)
        c(lambda m: m.from_numpy(np.arange(6).reshape(2, 3).T).stride())
        c.error(lambda m: m.from_numpy([1, 2]))
        return
    for view in (lambda x: x, lambda x: x[1:], lambda x: x.t(), lambda x: x[:, ::2]):
        c(taken(view), c.f32(3, 4), compiled=False)


@case("x.shape", "x.dtype", "x.layout")
def attributes(c, name):
    def f(m, x):
        found = getattr(x, name)
        return str(found).replace("braze.", "torch.") if name == "layout" else found

    for dtype in DTYPES:
        c(f, c.of(dtype, 2, 3), compiled=False)
    for array in (c.f32(), c.f32(0, 3), c.i64(2, 3, 4).seen("transposed")):
        c(f, array)
    if name == "shape":
        c(lambda m, x: (x.shape[0], x.shape[-1], len(x.shape), x.shape.numel(), x.shape[1:],
                        x.shape == (2, 3), tuple(x.shape)), c.f32(2, 3))  # fmt: skip
        c.error(lambda m, x: x.shape[2], c.f32(2, 3))
        c.error(lambda m, x: setattr(x, "shape", (3, 2)), c.f32(2, 3))
