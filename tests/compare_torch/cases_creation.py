"""Cases of the sections "Tensors", "Creation Ops", "Parallelism" and of how tensors are printed."""

import math

import numpy as np
from compare_cases import DTYPES, FLOATS, case


def _restoring(m, change, look):
    """What `look` gives after a change of the default dtype, which is undone."""
    before = m.get_default_dtype()
    try:
        change()
        return look()
    finally:
        m.set_default_dtype(before)


@case("torch.is_tensor")
def is_tensor(c):
    c(lambda m, x: (m.is_tensor(x), m.is_tensor(3), m.is_tensor([x])), c.f32(2))
    c.error(lambda m: m.is_tensor())


@case("torch.is_storage")
def is_storage(c):
    c(lambda m, x: (m.is_storage(x.storage()), m.is_storage(x), m.is_storage(3)), c.f32(2))


@case("torch.set_default_dtype", "torch.get_default_dtype")
def default_dtype(c, name):
    def made(m):
        return m.tensor(1.5).dtype, m.ones(2).dtype, m.get_default_dtype(), m.arange(2.0).dtype

    for dtype in ("float32", "float64"):
        c(
            lambda m, d=dtype: _restoring(
                m, lambda: m.set_default_dtype(getattr(m, d)), lambda: made(m)
            )
        )
    c(lambda m: _restoring(m, lambda: m.set_default_dtype(m.float16), m.get_default_dtype))
    c(
        lambda m, x: _restoring(m, lambda: m.set_default_dtype(m.float64), lambda: m.sin(x)),
        c.i64(3),
    )
    c(lambda m: m.get_default_dtype())
    c.error(lambda m: m.set_default_dtype(m.int64))
    c.error(lambda m: m.set_default_dtype("float64"))
    c.error(lambda m: m.get_default_dtype(3))


@case("torch.set_default_tensor_type")
def default_tensor_type(c):
    def made(m):
        return m.tensor(1.5).dtype, m.Tensor(2).dtype, m.get_default_dtype()

    c(lambda m: _restoring(m, lambda: m.set_default_tensor_type(m.DoubleTensor), lambda: made(m)))
    c(lambda m: _restoring(m, lambda: m.set_default_tensor_type(m.FloatTensor), lambda: made(m)))
    c.error(lambda m: m.set_default_tensor_type(m.LongTensor))
    c.error(lambda m: m.set_default_tensor_type(3))


@case("torch.numel")
def numel(c):
    for shape in ((), (0, 3), (2, 3), (1,)):
        c(lambda m, x: (m.numel(x), m.numel(input=x)), c.f32(*shape))
    c.error(lambda m: m.numel(3))
    c.error(lambda m: m.numel())


@case("torch.set_printoptions")
def printing(c):
    def shown(m, x, **options):
        try:
            m.set_printoptions(**options)
            return str(x)
        finally:
            m.set_printoptions(profile="default")

    values = c.exactly([0.5, -1.25, 100.0, 3.14159265], "float32")
    c(lambda m, x: str(x), values)
    c(lambda m, x: shown(m, x, precision=2), values)
    c(lambda m, x: shown(m, x, sci_mode=True), values)
    c(lambda m, x: shown(m, x, threshold=3, edgeitems=1), c.exactly([1, 2, 3, 4, 5, 6]))
    c(lambda m, x: shown(m, x, profile="short"), values)
    c(lambda m, x: shown(m, x, profile="full"), c.exactly(np.arange(1200)))
    c(lambda m, x: shown(m, x, linewidth=30), c.exactly(np.arange(20)))
    c(lambda m, x: str(x), c.exactly([[1.0, math.nan], [math.inf, 1e-9]], "float32"))
    c(lambda m, x: str(x), c.exactly(np.zeros((2, 2, 2), bool)))
    c(lambda m, x: str(x), c.exactly(2.5, "float32"))
    c(lambda m, x: str(x), c.exactly(np.zeros((0, 2)), "float32"))


@case("torch.set_flush_denormal")
def flush_denormal(c):
    def asked(m):
        try:
            return m.set_flush_denormal(True)
        finally:
            m.set_flush_denormal(False)

    c(lambda m: m.set_flush_denormal(False))
    c(asked, known=True)
    c.error(lambda m: m.set_flush_denormal())


@case("torch.get_num_threads", "torch.set_num_threads")
def threads(c, name):
    def changed(m, **how):
        before = m.get_num_threads()
        try:
            m.set_num_threads(**how) if how else m.set_num_threads(1)
            return m.get_num_threads()
        finally:
            m.set_num_threads(before)

    c(lambda m: (changed(m), type(m.get_num_threads()) is int))
    c.error(lambda m: m.set_num_threads(0))
    c.error(lambda m: m.set_num_threads(-1))
    c.error(lambda m: m.set_num_threads("2"))
    c.error(lambda m: m.get_num_threads(1))


@case("torch.compiled_with_cxx11_abi")
def cxx11_abi(c):
    c(lambda m: type(m.compiled_with_cxx11_abi()))


@case("torch.tensor")
def tensor(c):
    for data in (
        *(2, 2.5, True, [], [[]], [1, 2], [1, 2.5], [True, False], [[1, 2], [3, 4]], (1, 2)),
        *([True, 2], [True, 2.5], [[1.5], [2]], range(3), 2**40, [np.float32(1.5)], [np.int64(3)]),
    ):
        c(lambda m, d=data: m.tensor(d))
    for dtype in DTYPES:
        c(lambda m, d=dtype: m.tensor([0, 1, 2], dtype=getattr(m, d)), compiled=False)
        c(lambda m, d=dtype: m.tensor([0.0, 1.7], dtype=getattr(m, d)), compiled=False)
        c(lambda m, d=dtype: m.tensor([True], dtype=getattr(m, d)), compiled=False)
    for array in (
        np.arange(3),
        np.float32([1.5]),
        np.array(2.5),
        np.array([True]),
        np.int8([1, 2]),
    ):
        c(lambda m, a=array: m.tensor(a))
        if array.ndim:
            c(lambda m, a=array: m.tensor([a, a]))
    c(lambda m: m.tensor(np.float64(2.5)))
    c(lambda m: m.tensor(np.int32(2)))
    c(lambda m: m.tensor([m.tensor(1.5), m.tensor(2)]))
    c(lambda m, x: m.tensor(x.detach()), c.f64(2, 3).seen("transposed"))
    c(lambda m: m.tensor([1.5], requires_grad=True))
    c(lambda m: m.tensor(data=[1.5], dtype=m.float64, device="cpu"))
    c.error(lambda m: m.tensor([[1, 2], [3]]))
    c.error(lambda m: m.tensor([1, [2]]))
    c.error(lambda m: m.tensor([1], requires_grad=True))
    c.error(lambda m: m.tensor("abc"))
    c.error(lambda m: m.tensor(["a"]))
    c.error(lambda m: m.tensor(None))
    c.error(lambda m: m.tensor())
    c.error(lambda m: m.tensor({}))
    c.error(lambda m: m.tensor([1], dtype="float32"))
    c.error(lambda m: m.tensor([1], m.float32))
    c.error(lambda m: m.tensor([2**70]))
    c.error(lambda m: m.tensor([300], dtype=m.uint8))
    c.error(lambda m: m.tensor([1], device="gpu"))


@case("torch.as_tensor", "torch.from_numpy")
def from_numpy(c, name):
    def shared(m):
        array = np.arange(4.0)
        x = getattr(m, name)(array)
        array[0] = 7
        x[1] = 9
        return x, list(array)

    c(shared)
    for dtype in DTYPES:
        if dtype != "bfloat16":
            c(lambda m, d=dtype: getattr(m, name)(np.ones((2, 2), d)), compiled=False)
    c(lambda m: getattr(m, name)(np.arange(6).reshape(2, 3).T))
    c(lambda m: getattr(m, name)(np.arange(6)[::2]))
    c(lambda m: getattr(m, name)(np.array(2.5)))
    c(lambda m: getattr(m, name)(np.zeros((0, 3))))
    c.error(lambda m: getattr(m, name)(np.arange(6)[::-1]))
    c.error(lambda m: getattr(m, name)(np.array(["a"])))
    c.error(lambda m: getattr(m, name)())
    if name == "from_numpy":
        c.error(lambda m: m.from_numpy([1, 2]))
        c.error(lambda m: m.from_numpy(np.float64(2)))
        return
    c(lambda m: m.as_tensor([1, 2.5]))
    c(lambda m, x: m.as_tensor(x), c.f64(2, 3))
    c(lambda m, x: m.as_tensor(x, dtype=m.float32), c.f64(2, 3))
    c(lambda m: m.as_tensor(np.arange(3), dtype=m.float32, device="cpu"))
    c(lambda m: m.as_tensor(data=3))
    c.error(lambda m: m.as_tensor("abc"))


@case("torch.zeros", "torch.ones", "torch.empty")
def filled(c, name):
    def f(m, *size, **options):
        made = getattr(m, name)(*size, **options)
        return made.zero_() if name == "empty" and made.requires_grad is False else made

    for size in ((2, 3), ((2, 3),), ([2],), ((),), (0,), (2, 0), (1,)):
        c(lambda m, s=size: f(m, *s))
    for dtype in DTYPES:
        c(lambda m, d=dtype: f(m, 2, dtype=getattr(m, d)), compiled=False)
    c(lambda m: f(m, m.Size([2, 3])))
    c(lambda m: f(m, size=(2, 3)))
    c(lambda m: f(m, 2, requires_grad=True).requires_grad)
    c(lambda m: f(m, 2, device="cpu", layout=m.strided))
    c(lambda m: f(m, np.int64(2), 3))
    c(lambda m: f(m, m.tensor(2), 3))
    c(lambda m, x: f(m, 2, out=x), c.f32(2))
    c(lambda m, x: f(m, (2, 3), out=x), c.i64(0))
    c.error(lambda m: f(m, -1))
    c.error(lambda m: f(m, 2, -3))
    c.error(lambda m: f(m, 2.5))
    c.error(lambda m: f(m, "2"))
    c.error(lambda m: f(m, 2, dtype=m.int64, requires_grad=True))
    c.error(lambda m: f(m, 2, dtype="float32"))
    c.error(lambda m, x: f(m, 2, out=x, dtype=m.float64), c.f32(2))
    c.error(lambda m: f(m, (2, 3), 4))
    c.error(lambda m: f(m, 2, device="nowhere"))


@case("torch.zeros_like", "torch.ones_like", "torch.empty_like", "torch.full_like")
def filled_like(c, name):
    number = (2.5,) if name == "full_like" else ()

    def f(m, x, **options):
        made = getattr(m, name)(x, *number, **options)
        return made.zero_() if name == "empty_like" else made

    for dtype in DTYPES:
        c(f, c.of(dtype, 2, 3), gradients=0)
    for shape in ((), (0, 2), (1,)):
        c(f, c.f32(*shape), compiled=False)
    c(lambda m, x: f(m, x, dtype=m.int32), c.f64(2))
    c(lambda m, x: f(m, x, device="cpu", layout=m.strided), c.f32(2, 3).seen("transposed"))
    c(lambda m, x: getattr(m, name)(x, *number, requires_grad=True).requires_grad, c.f32(2))
    c.error(lambda m: getattr(m, name)([1, 2], *number))
    c.error(lambda m: getattr(m, name)(3, *number))
    c.error(lambda m, x: f(m, x, requires_grad=True), c.i64(2))
    if number:
        c(lambda m, x: m.full_like(input=x, fill_value=3), c.f32(2))
        c(lambda m, x: m.full_like(x, True), c.f32(2))
        c.error(lambda m, x: m.full_like(x), c.f32(2))
        c.error(lambda m, x: m.full_like(x, "1"), c.f32(2))


@case("torch.full")
def full(c):
    for value in (2, 2.5, True, -1, math.inf):
        c(lambda m, v=value: m.full((2, 3), v))
        for dtype in ("float64", "int32", "bfloat16"):
            if not (value == math.inf and dtype == "int32"):
                c(lambda m, v=value, d=dtype: m.full([2], v, dtype=getattr(m, d)), compiled=False)
    c(lambda m: m.full((), 2.5))
    c(lambda m: m.full((0, 2), 1.0))
    c(lambda m: m.full(size=(2,), fill_value=1.0))
    c(lambda m: m.full((2,), 1.0, requires_grad=True).requires_grad)
    c(lambda m, x: m.full((2,), 1.5, out=x), c.f32(2))
    c.error(lambda m: m.full(2, 1.0))
    c.error(lambda m: m.full((2,)))
    c.error(lambda m: m.full((-2,), 1.0))
    c.error(lambda m: m.full((2,), "a"))
    c.error(lambda m: m.full((2,), 1, requires_grad=True))


@case("torch.arange")
def arange(c):
    calls = ((5,), (1, 4), (1, 9, 3), (5.0,), (0, 1, 0.1), (4, 1, -1), (0,), (3, 3), (1.5, 4))
    calls += ((0, 5, 2.0), (-3, 3), (10, 0, -3))
    for arguments in calls:
        c(lambda m, a=arguments: m.arange(*a))
    for dtype in DTYPES[:-1]:
        c(lambda m, d=dtype: m.arange(1, 8, 2, dtype=getattr(m, d)), compiled=False)
    c(lambda m: m.arange(end=4))
    c(lambda m: m.arange(start=1, end=4, step=2))
    c(lambda m: m.arange(4, requires_grad=True, dtype=m.float64))
    c(lambda m: m.arange(m.tensor(4)))
    c(lambda m, x: m.arange(4, out=x), c.i64(4))
    c(lambda m, x: m.arange(4, out=x), c.f32(4))
    c.error(lambda m: m.arange(0, 4, 0))
    c.error(lambda m: m.arange(0, 4, -1))
    c.error(lambda m: m.arange(4, 0))
    c.error(lambda m: m.arange(0, math.inf))
    c.error(lambda m: m.arange(0, math.nan))
    c.error(lambda m: m.arange("4"))
    c.error(lambda m: m.arange())
    c.error(lambda m: m.arange(4, requires_grad=True))


@case("torch.range")
def range_(c):
    for arguments in ((0, 4), (1, 4, 0.5), (1, 2), (4, 1, -1), (0, 1, 0.3), (2, 2)):
        c(lambda m, a=arguments: m.range(*a))
    c(lambda m: m.range(1, 4, dtype=m.int64))
    c(lambda m: m.range(start=1, end=4, step=2))
    c(lambda m, x: m.range(0, 3, out=x), c.f32(4))
    c.error(lambda m: m.range(0, 4, 0))
    c.error(lambda m: m.range(4, 0))
    c.error(lambda m: m.range(0, math.inf))


@case("torch.linspace", "torch.logspace")
def spaces(c, name):
    def f(m, *arguments, **options):
        return getattr(m, name)(*arguments, **options)

    for arguments in ((0, 1, 5), (-2, 2.5, 4), (1, 3, 1), (0, 1, 0), (3, 0, 4), (1, 1, 3)):
        c(lambda m, a=arguments: f(m, *a))
        c(lambda m, a=arguments: f(m, *a, dtype=m.float64), compiled=False)
    c(lambda m: f(m, start=0, end=1, steps=3))
    for dtype in (*FLOATS, "int64", "int32", "uint8"):
        c.either(lambda m, d=dtype: f(m, 0, 2, 5, dtype=getattr(m, d)))
    c(lambda m: f(m, 0, 1, 3, requires_grad=True).requires_grad)
    c(lambda m, x: f(m, 0, 1, 3, out=x), c.f32(3))
    c(lambda m: f(m, m.tensor(0.5), m.tensor(2.0), 3))
    if name == "logspace":
        c(lambda m: m.logspace(0, 3, 4, 2))
        c(lambda m: m.logspace(0, 3, 4, base=2.5))
        c(lambda m: m.logspace(0, 3, 4, base=0.5, dtype=m.float64))
    c.error(lambda m: f(m, 0, 1, -1))
    c.error(lambda m: f(m, 0, 1))
    c.error(lambda m: f(m, 0, 1, 2.5))
    c.error(lambda m: f(m, "0", 1, 2))


@case("torch.eye")
def eye(c):
    for arguments in ((3,), (2, 3), (3, 2), (0,), (0, 2), (1, 4)):
        c(lambda m, a=arguments: m.eye(*a))
    for dtype in DTYPES:
        c(lambda m, d=dtype: m.eye(2, dtype=getattr(m, d)), compiled=False)
    c(lambda m: m.eye(n=2, m=3))
    c(lambda m: m.eye(2, requires_grad=True).requires_grad)
    c(lambda m, x: m.eye(2, out=x), c.f32(2, 2))
    c(lambda m, x: m.eye(2, 3, out=x), c.i64(0))
    c.error(lambda m: m.eye(-1))
    c.error(lambda m: m.eye(2, -1))
    c.error(lambda m: m.eye(2.5))
    c.error(lambda m: m.eye())


@case("torch.empty_strided")
def empty_strided(c):
    c(lambda m: m.empty_strided((2, 3), (1, 2)).zero_())
    c(lambda m: m.empty_strided((2, 3), (1, 2)).stride())
    c(lambda m: m.empty_strided(size=(2, 3), stride=(3, 1), dtype=m.int64).zero_())
    c(lambda m: m.empty_strided((), ()).zero_())
    c.error(lambda m: m.empty_strided((2, 3), (1,)))
    c.error(lambda m: m.empty_strided((2, -3), (1, 1)))
    c.error(lambda m: m.empty_strided((2,), (-1,)))


@case("torch.clone")
def clone(c):
    c(lambda m, x: m.clone(x), c.f64(2, 3), gradients=2)
    c(lambda m, x: m.clone(input=x), c.f32(2, 3).seen("transposed"))
    c.dtypes(lambda m, x: m.clone(x), (0, 2))
    c.dtypes(lambda m, x: m.clone(x), ())
    c.error(lambda m: m.clone(3))


@case("torch.detach", "torch.detach_")
def detach(c, name):
    c(lambda m, x: getattr(m, name)(x * 1), c.f64(2, 3))
    run = c.error if name.endswith("_") else c  # views cannot be detached in place
    run(lambda m, x: getattr(m, name)(x), c.f32(2).seen("strided"))
    c(lambda m, x: getattr(m, name)(x), c.i64(2))
    c(lambda m, x: getattr(m, name)(input=x), c.f32(2))
    c.error(lambda m: getattr(m, name)(3))
