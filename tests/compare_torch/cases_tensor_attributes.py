"""Cases of what is asked of a tensor, of new tensors like it, and of its copies and casts."""

import numpy as np
from compare_cases import DTYPES, case

PROPERTIES = "is_cuda device is_leaf requires_grad grad".split()
QUESTIONS = (
    "dim ndimension nelement element_size get_device is_contiguous is_pinned is_shared "
    "is_complex is_floating_point is_nonzero is_signed storage_offset numel"
).split()
CASTS = "byte char double float half int long short".split()


def _text(value):
    """Devices and the like are compared by what they print."""
    return value if isinstance(value, (bool, int, type(None))) else str(value)


@case(*(f"Tensor.{name}" for name in PROPERTIES if name not in ("requires_grad", "grad")))
def properties(c, name):
    c(lambda m, x: _text(getattr(x, name)), c.f64(2, 3))
    c(lambda m, x: _text(getattr(x * 2, name)), c.f64(2, 3))
    c(lambda m, x: _text(getattr(x, name)), c.i64(3).seen("offset"))
    c(lambda m, x: _text(getattr(x.detach()[:1], name)), c.f64(2, 3))


@case("Tensor.requires_grad", "Tensor.requires_grad_")
def requires_grad(c, name):
    c(lambda m, x: (x.requires_grad, (x * 2).requires_grad, x.detach().requires_grad), c.f64(2))
    c(lambda m, x: x.requires_grad_(), c.f32(2))
    c(lambda m, x: x.requires_grad_(requires_grad=False), c.f64(2))
    c(lambda m, x: x.requires_grad_(False), c.i64(2))

    def assigned(m, x):
        x.requires_grad = True
        before = x.requires_grad
        x.requires_grad = False
        return before, x.requires_grad

    c(assigned, c.f32(2))
    c.error(lambda m, x: x.requires_grad_(), c.i64(2))
    c.error(lambda m, x: (x * 2).requires_grad_(False), c.f64(2))
    c(lambda m, x: (x * 2).requires_grad_(True), c.f64(2))

    def seen(m, x):
        with m.no_grad():
            views = x[:1], x.view(-1), x.unsqueeze(0)
            return [v.requires_grad for v in views], (x * 2).requires_grad

    c(seen, c.f64(2))


@case("Tensor.grad")
def grad(c):
    def accumulated(m, x):
        first = x.grad
        (x * x).sum().backward()
        one = x.grad.clone()
        (x * 2).sum().backward()
        two = x.grad.clone()
        x.grad = None
        return first, one, two, x.grad

    def assigned(m, x):
        x.grad = m.ones(2, dtype=m.float64)
        (x * 2).sum().backward()
        del_before = x.grad.clone()
        del x.grad
        return del_before, x.grad

    def assign(what):
        def f(m, x):
            x.grad = what(m)

        return f

    c(accumulated, c.f64(2), gradients=1, compiled=False)
    c(assigned, c.f64(2))
    c(lambda m, x: (x * 2).grad, c.f64(2))
    c.error(assign(lambda m: m.ones(3, dtype=m.float64)), c.f64(2))
    c.error(assign(lambda m: m.ones(2, dtype=m.float32)), c.f64(2))
    c.error(assign(lambda m: 3), c.f64(2))


@case(*(f"Tensor.{name}" for name in QUESTIONS if name not in ("is_nonzero", "numel")))
def questions(c, name):
    def f(m, x):
        return getattr(x, name)()

    for dtype in DTYPES:
        c(f, c.of(dtype, 2, 3), compiled=False)
    for array in (c.f32(), c.f64(0, 3), c.i64(2, 3).seen("transposed"), c.f32(4).seen("strided")):
        c(f, array, compiled=False)
    c(f, c.f32(3, 2).seen("offset"))
    c(f, c.f32(3, 2).seen("expanded"))
    c.error(lambda m, x: getattr(x, name)(1, 2, 3), c.f32(2))


@case("Tensor.size", "Tensor.stride")
def sizes(c, name):
    for array in (c.f32(2, 3), c.f32(), c.f64(2, 3, 4).seen("transposed")):
        c(lambda m, x: getattr(x, name)(), array, compiled=False)
    for dim in (0, 1, -1, -2):
        c(lambda m, x, d=dim: getattr(x, name)(d), c.f32(2, 3).seen("strided"), compiled=False)
    c(lambda m, x: getattr(x, name)(dim=1), c.f32(2, 3).seen("expanded"))
    c.error(lambda m, x: getattr(x, name)(2), c.f32(2, 3))
    c.error(lambda m, x: getattr(x, name)(-3), c.f32(2, 3))
    c.error(lambda m, x: getattr(x, name)(0), c.f32())


@case("Tensor.data_ptr")
def data_ptr(c):
    c(lambda m, x: x.data_ptr() == x.view(-1).data_ptr() != 0, c.f32(2, 3))
    c(lambda m, x: x[1].data_ptr() - x.data_ptr(), c.f64(2, 3))
    c(lambda m, x: x[:, 1].data_ptr() - x.data_ptr(), c.i64(2, 3))
    c(lambda m, x: x.detach().data_ptr() == x.data_ptr(), c.f64(2))
    c(lambda m, x: x.clone().data_ptr() == x.data_ptr(), c.f64(2))


@case("Tensor.is_set_to", "Tensor.is_same_size")
def compared(c, name):
    c(lambda m, x: (getattr(x, name)(x), getattr(x, name)(x.view(-1))), c.f32(2, 3))
    c(lambda m, x: getattr(x, name)(x.clone()), c.f32(2, 3))
    c(lambda m, x: getattr(x, name)(x.detach()), c.f32(2, 3))
    c(lambda m, x: getattr(x[:1], name)(x[1:]), c.f32(2, 3))
    c.error(lambda m, x: getattr(x, name)(3), c.f32(2, 3))


@case("Tensor.item", "Tensor.tolist")
def numbers(c, name):
    def f(m, x):
        return getattr(x, name)()

    for dtype in DTYPES:
        c(f, c.of(dtype), compiled=False)
        c(f, c.of(dtype, 1, 1), compiled=False)
    c(lambda m, x: type(getattr(x, name)()).__name__, c.exactly(True))
    c(f, c.special()) if name == "tolist" else c.error(f, c.f32(2))
    if name == "tolist":
        for array in (c.f64(2, 3).seen("transposed"), c.f32(0, 2), c.f32(2, 0), c.mask(2)):
            c(f, array, compiled=False)
    else:
        c.error(f, c.f32(0))


@case("Tensor.numpy")
def numpy(c):
    for array in (c.f64(2, 3).constant(), c.f32(2, 3).seen("transposed"), c.i64(), c.mask(0, 2)):
        c(lambda m, x: (x.numpy().tolist(), str(x.numpy().dtype), x.numpy().shape), array)

    def shared(m, x):
        array = x.numpy()
        array[0] = 5
        x[1] = 7
        return x, array.tolist()

    c(shared, c.f32(3))
    c(shared, c.f32(3).seen("strided"))
    c(lambda m, x: x.numpy(force=True).tolist(), c.f64(2))
    c(lambda m, x: x.detach().numpy().tolist(), c.f64(2))
    c.error(lambda m, x: x.numpy(), c.f64(2))
    c.error(lambda m, x: (x * 2).numpy(), c.f64(2))


# New tensors --------------------------------------------------------------------------------------


@case("Tensor.new_zeros", "Tensor.new_ones", "Tensor.new_empty")
def new_filled(c, name):
    def f(m, x, *size, **options):
        made = getattr(x, name)(*size, **options)
        return made.detach().zero_() if name == "new_empty" else made

    for dtype in DTYPES:
        c(lambda m, x: f(m, x, 2, 3), c.of(dtype, 2), compiled=False, gradients=0)
    for size in ((2, 3), ((2, 3),), ([2],), ((),), (0, 2)):
        c(lambda m, x, s=size: f(m, x, *s), c.f32(2).seen("strided"), compiled=False)
    c(lambda m, x: f(m, x, size=(2,), dtype=m.int32, device="cpu"), c.f64(2))
    c(lambda m, x: getattr(x, name)(2, requires_grad=True).requires_grad, c.f64(2))
    c.error(lambda m, x: getattr(x, name)(-1), c.f32(2))
    c.error(lambda m, x: getattr(x, name)(2.5), c.f32(2))
    c.error(lambda m, x: getattr(x, name)(), c.f32(2))
    c.error(lambda m, x: getattr(x, name)(2, requires_grad=True), c.i64(2))


@case("Tensor.new_full")
def new_full(c):
    for dtype in DTYPES:
        c(lambda m, x: x.new_full((2, 3), 3), c.of(dtype, 2), compiled=False, gradients=0)
    c(lambda m, x: x.new_full((), 2.5), c.f64(2))
    c(lambda m, x: x.new_full([2], 2.5, dtype=m.int64), c.f64(2))
    c(lambda m, x: x.new_full(size=(2,), fill_value=True, requires_grad=True), c.f64(2))
    c(lambda m, x: x.new_full((0,), 2.5), c.i64(2))
    c.error(lambda m, x: x.new_full((2,)), c.f32(2))
    c.error(lambda m, x: x.new_full((-2,), 1), c.f32(2))
    c.error(lambda m, x: x.new_full((2,), "a"), c.f32(2))


@case("Tensor.new_tensor")
def new_tensor(c):
    for dtype in DTYPES:
        c(lambda m, x: x.new_tensor([0, 1, 2]), c.of(dtype, 2), compiled=False, gradients=0)
    for data in (3, 2.5, [], [[1, 2], [3, 4]], np.float64([1.5]), (1, 2)):
        c(lambda m, x, d=data: x.new_tensor(d), c.f32(2), compiled=False)
    c(lambda m, x: x.new_tensor(x.detach()), c.f64(2).seen("strided"))
    c(lambda m, x: x.new_tensor(data=[1.5], dtype=m.int32), c.f64(2))
    c(lambda m, x: x.new_tensor([1.5], requires_grad=True).requires_grad, c.f64(2))
    c.error(lambda m, x: x.new_tensor(), c.f32(2))
    c.error(lambda m, x: x.new_tensor("a"), c.f32(2))
    c.error(lambda m, x: x.new_tensor([[1], [2, 3]]), c.f32(2))


# Copies and casts ---------------------------------------------------------------------------------


@case(*(f"Tensor.{name}" for name in CASTS))
def casts(c, name):
    def f(m, x):
        return getattr(x, name)()

    for dtype in DTYPES:
        unsigned = name == "byte"
        c(f, c.of(dtype, 5, low=0 if unsigned else -3), compiled=False)
    c(f, c.f64(2, 3, low=0).seen("transposed"), gradients=2)
    c(f, c.f32(0, 2))
    c(lambda m, x: getattr(x, name)(memory_format=m.preserve_format), c.f32(2, low=0))
    c.error(lambda m, x: getattr(x, name)(3, 4), c.f32(2))


@case("Tensor.to")
def to(c):
    for dtype in DTYPES:
        c(lambda m, x, d=dtype: x.to(getattr(m, d)), c.f64(2, 3, low=0), compiled=False)
        c(lambda m, x: x.to(m.float32), c.of(dtype, 3), compiled=False)
    c(lambda m, x: x.to("cpu"), c.f64(2, 3))
    c(lambda m, x: x.to(m.device("cpu")), c.f64(2, 3))
    c(lambda m, x: x.to("cpu", m.float32), c.f64(2, 3), gradients=2)
    c(lambda m, x: x.to(device="cpu", dtype=m.int32), c.f64(2, 3))
    c(lambda m, x, y: x.to(y), c.f64(2, 3), c.f32(1))
    c(lambda m, x: x.to(m.float64, copy=True), c.f64(2, 3))
    c(lambda m, x: x.to(m.float64, True, True), c.f64(2, 3))
    c(lambda m, x: x.to("cpu", non_blocking=True), c.f64(2, 3).seen("transposed"))
    c(lambda m, x: x.to(dtype=m.float64), c.f64(2, 3))
    c.error(lambda m, x: x.to("nowhere"), c.f32(2))
    c.error(lambda m, x: x.to(m.float32, m.float32, 1, 2, 3, 4), c.f32(2))


@case("Tensor.type")
def type_(c):
    c(lambda m, x: x.type(m.int32), c.f64(2, 3))
    c(lambda m, x: x.type(dtype=m.float32), c.f64(2, 3), gradients=2)
    c(lambda m, x: x.type(m.float64), c.f64(2, 3))
    c(lambda m, x: x.type(m.DoubleTensor), c.f32(2, 3))
    for dtype in DTYPES:
        c(lambda m, x: x.type().split(".")[-1], c.of(dtype, 2), compiled=False)
    c.error(lambda m, x: x.type("nothing"), c.f32(2))


@case("Tensor.type_as")
def type_as(c):
    c.pairs(lambda m, x, y: x.type_as(y), (3,), (2,))
    c(lambda m, x, y: x.type_as(other=y), c.f64(2), c.f32(3).seen("strided"), gradients=2)
    c(lambda m, x: x.type_as(x), c.f64(2))
    c.error(lambda m, x: x.type_as(3), c.f32(2))


@case("Tensor.cpu", "Tensor.contiguous")
def copies(c, name):
    for array in (c.f64(2, 3), c.i64(2, 3).seen("transposed"), c.f32(0, 2), c.f32()):
        c(lambda m, x: getattr(x, name)(), array)
    c(lambda m, x: getattr(x, name)().is_contiguous(), c.f32(2, 3).seen("strided"))
    c(lambda m, x: getattr(x, name)(memory_format=m.preserve_format), c.f64(2)) \
        if name == "cpu" else c(lambda m, x: x.contiguous(memory_format=m.contiguous_format),
                                c.f64(2, 3).seen("transposed"), gradients=2)  # fmt: skip
    c(lambda m, x: getattr(x, name)() * 2, c.f64(3).seen("strided"), gradients=2)
    c.error(lambda m, x: getattr(x, name)(3, 4), c.f32(2))


@case("Tensor.cuda", "Tensor.pin_memory")
def elsewhere(c, name):
    """There is no GPU."""

    def refused(m, x):
        try:
            getattr(x, name)()
        except (RuntimeError, AssertionError):
            return "refused"

    c(refused, c.f32(2))
    c.error(lambda m, x: getattr(x, name)(1, 2, 3, 4), c.f32(2))


@case("Tensor.share_memory_")
def share_memory(c):
    c(lambda m, x: (x.share_memory_(), x.is_shared()), c.f32(2, 3))
    c(lambda m, x: (x[0].share_memory_(), x.is_shared()), c.f32(2, 3))


@case("Tensor.storage")
def storage(c):
    def f(m, x):
        s = x.storage()
        return s.size(), len(s), s.tolist(), s[1], s.element_size(), s.nbytes()

    c(f, c.f32(2, 3))
    c(f, c.i64(3).seen("offset"))
    c(f, c.f64(2, 2).seen("transposed"))

    def written(m, x):
        s = x.storage()
        s[0] = 5
        return x

    c(written, c.f32(3))
