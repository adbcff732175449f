"""Cases of the methods that have no function: views, shapes changed in place, elements replaced."""

from compare_cases import DTYPES, case


@case("Tensor.view", "Tensor.reshape", "Tensor.resize")
def view(c, name):
    if name == "resize":
        return c(lambda m, x: x.resize(3, 2), c.f32(2, 3))
    for sizes in ((6,), (3, 2), (-1, 2), ((2, 1, 3),), (1, -1)):
        c(lambda m, x, s=sizes: getattr(x, name)(*s), c.f64(2, 3))
    c(lambda m, x: getattr(x, name)([3, 2]) * 2, c.f64(2, 3), gradients=2)
    c(lambda m, x: getattr(x, name)(3, 1, 2), c.i64(3, 2).seen("strided"), gradients=0)
    c(lambda m, x: (getattr(x, name)(()), getattr(x, name)(1)), c.f32(1))
    c(lambda m, x: getattr(x, name)(0, 5), c.f32(0, 2))
    keyword = "size" if name == "view" else "shape"
    c(lambda m, x: getattr(x, name)(**{keyword: (3, 2)}), c.f32(2, 3))

    def written(m, x):
        getattr(x, name)(-1)[1] = 9
        return x

    c(written, c.f32(2, 3))
    for wrong in ((4,), (-1, -1), (-1, 4), (-2, 3), (2.0, 3), (), ("a",)):
        c.error(lambda m, x, s=wrong: getattr(x, name)(*s), c.f32(2, 3))
    if name == "view":
        c(lambda m, x: (x.view(m.int32), x.view(dtype=m.int32)), c.f32(2, 3))
        c.error(lambda m, x: x.view(6), c.f32(2, 3).seen("transposed"))


@case("Tensor.view_as", "Tensor.reshape_as", "Tensor.expand_as")
def like_another(c, name):
    shape = (2, 2, 3) if name == "expand_as" else (3, 2)
    c(lambda m, x, y: getattr(x, name)(y), c.f64(2, 3), c.f32(*shape), gradients=2)
    c(lambda m, x, y: getattr(x, name)(other=y), c.i64(2, 3), c.i64(*shape))
    c.error(lambda m, x, y: getattr(x, name)(y), c.f32(2, 3), c.f32(4))
    c.error(lambda m, x: getattr(x, name)((3, 2)), c.f32(2, 3))


@case("Tensor.expand")
def expand(c):
    for sizes in ((4, 3), (-1, 3), ((4, -1),)):
        c(lambda m, x, s=sizes: x.expand(*s), c.f64(1, 3))
    c(lambda m, x: x.expand(2, 4, 3), c.f64(4, 1), gradients=2)
    c(lambda m, x: x.expand((2, -1, 3)), c.f64(4, 1))
    c(lambda m, x: x.expand(size=(3, 2)), c.f32())
    c(lambda m, x: x.expand(0, 3), c.f32(1, 3))
    c(lambda m, x: x.expand(4, 3).stride(), c.f32(4, 1))
    c(lambda m, x: (x.expand(2, 3).fill_(7), x), c.f32(3))
    c(lambda m, x: (x.expand(2, 3).zero_(), x), c.f32(3))
    for wrong in ((3,), (2, 2), (-1, 4, 1), (4, 2)):
        c.error(lambda m, x, s=wrong: x.expand(*s), c.f32(4, 3))
    c.error(lambda m, x: x.expand(2, 3).add_(1), c.f32(3))
    c.error(lambda m, x: x.expand(2, 3).mul_(x), c.f32(3))


@case("Tensor.repeat")
def repeat(c):
    for sizes in ((2, 1), (1, 3), (2, 1, 2), ((0, 1),), (1, 1)):
        c(lambda m, x, s=sizes: x.repeat(*s), c.f64(2, 3))
    c(lambda m, x: x.repeat(2), c.f64(), gradients=2)
    c(lambda m, x: x.repeat(repeats=(2, 2)), c.i64(3).seen("strided"))
    c.dtypes(lambda m, x: x.repeat(2), (3,))
    c.error(lambda m, x: x.repeat(2), c.f32(2, 3))
    c.error(lambda m, x: x.repeat(-1, 1), c.f32(2, 3))
    c.error(lambda m, x: x.repeat(), c.f32(2, 3))


@case("Tensor.unfold")
def unfold(c):
    for arguments in ((1, 2, 1), (1, 3, 2), (0, 2, 1), (-1, 4, 9), (0, 1, 3)):
        c(lambda m, x, a=arguments: x.unfold(*a), c.f64(3, 4), gradients=2, compiled=False)
    c(lambda m, x: x.unfold(dimension=0, size=2, step=2), c.i64(5).seen("strided"))
    c(lambda m, x: x.unfold(0, 1, 1), c.f32())
    c(lambda m, x: (x.unfold(0, 2, 1)[0].fill_(9), x), c.f32(4))
    for wrong in ((1, 5, 1), (1, 2, 0), (2, 1, 1), (0, -1, 1)):
        c.error(lambda m, x, a=wrong: x.unfold(*a), c.f32(3, 4))


@case("Tensor.narrow_copy")
def narrow_copy(c):
    c(lambda m, x: x.narrow_copy(1, 1, 2) * 2, c.f64(3, 4).constant())
    c(lambda m, x: x.narrow_copy(dim=0, start=-1, length=1), c.i64(3, 2).seen("transposed"))
    c(lambda m, x: (x.narrow_copy(0, 0, 1).zero_(), x), c.f32(2))
    c.error(lambda m, x: x.narrow_copy(0, 2, 2), c.f32(3))


@case("Tensor.resize_", "Tensor.resize_as_")
def resize(c, name):
    def f(m, x, *sizes):
        return getattr(x, name)(*((m.zeros(*sizes),) if name == "resize_as_" else sizes))

    for sizes in ((2, 2), (3,), (6, 1), (2, 3)):
        c(lambda m, x, s=sizes: f(m, x, *s), c.f32(2, 3))
    c(lambda m, x: f(m, x, 2), c.i64(4).seen("offset"))
    c(lambda m: f(m, m.zeros(2, 3), 4, 4).shape)  # nobody has set the new elements
    c.error(lambda m, x: f(m, x, 2), c.f64(3))
    c.error(lambda m, x: f(m, x, -1), c.f32(3))
    c.error(lambda m, x: getattr(x, name)("a"), c.f32(3))


@case("Tensor.set_")
def set_(c):
    c(lambda m, x, y: x.set_(y), c.f32(2), c.f32(3, 2))
    c(lambda m, x: x.set_(), c.f32(2))
    c(lambda m, x, y: x.set_(y.storage(), 1, (2, 2), (2, 1)), c.f32(2), c.f32(6))
    c(lambda m, x, y: x.set_(y.storage()), c.f32(2), c.f32(2, 3))

    def shared(m, x, y):
        x.set_(y)
        x[0] = 9
        return y

    c(shared, c.f32(2), c.f32(3))
    c.error(lambda m, x, y: x.set_(y), c.f32(2), c.i64(2))
    c.error(lambda m, x: x.set_(3), c.f32(2))


# Elements replaced --------------------------------------------------------------------------------


@case("Tensor.copy_")
def copy(c):
    c.pairs(lambda m, x, y: x.copy_(y), (3,), (3,))
    c(lambda m, x, y: x.copy_(y), c.f32(2, 3).seen("transposed"), c.f32(3))
    c(lambda m, x, y: (x * 1).copy_(y), c.f64(2, 3), c.f64(2, 1), gradients=2)
    c(lambda m, x, y: x.copy_(y), c.f64(2, 3).constant(), c.f64(3), gradients=2)
    c(lambda m, x, y: x.copy_(y, non_blocking=True), c.f32(3), c.i64(3))
    c(lambda m, x, y: (x[1:].copy_(y), x), c.f32(3).seen("strided"), c.f32(2))
    c.error(lambda m, x, y: x.copy_(y), c.f32(3), c.f32(2))
    c.error(lambda m, x, y: x.copy_(y), c.f32(3), c.f32(2, 3))
    c.error(lambda m, x, y: x.copy_(y), c.f64(3), c.f64(3))
    c.error(lambda m, x: x.copy_("a"), c.f32(3))


@case("Tensor.masked_fill", "Tensor.masked_fill_")
def masked_fill(c, name):
    def f(m, x, *arguments, **options):
        return getattr(x * 1 if x.requires_grad else x, name)(*arguments, **options)

    c(lambda m, x, y: f(m, x, y, 2.5), c.f64(3, 4), c.mask(3, 4), gradients=2)
    c(lambda m, x, y: f(m, x, y, 2), c.i64(3, 4).seen("transposed"), c.mask(4))
    c(lambda m, x, y, v: f(m, x, y, v), c.f64(3, 4), c.mask(3, 1), c.f64(), gradients=2)
    c(lambda m, x, y: f(m, x, mask=y, value=1), c.f32(0, 2), c.mask(0, 2))
    c(lambda m, x, y: f(m, x, y, 1), c.f32(), c.mask())
    for dtype in DTYPES:
        c(lambda m, x, y: f(m, x, y, 1), c.of(dtype, 4), c.mask(4), compiled=False)
    if name == "masked_fill":
        c(lambda m, x, y: x.masked_fill(y, 1), c.f32(3), c.mask(2, 3))
    else:
        c.error(lambda m, x, y: x.masked_fill_(y, 1), c.f32(3), c.mask(2, 3))
    c.error(lambda m, x, y: f(m, x, y, 1), c.f32(3), c.i64(3))
    c.error(lambda m, x, y: f(m, x, y, 1), c.f32(3), c.mask(4))
    c.error(lambda m, x, y, v: f(m, x, y, v), c.f32(3), c.mask(3), c.f32(3))
    c.error(lambda m, x, y: f(m, x, y, "a"), c.f32(3), c.mask(3))


@case("Tensor.masked_scatter", "Tensor.masked_scatter_")
def masked_scatter(c, name):
    def f(m, x, *arguments, **options):
        return getattr(x * 1 if x.requires_grad else x, name)(*arguments, **options)

    c(lambda m, x, y, s: f(m, x, y, s), c.f64(3, 4), c.mask(3, 4), c.f64(12), gradients=2)
    c(lambda m, x, y, s: f(m, x, y, s), c.i64(2, 3).seen("transposed"), c.mask(3), c.i64(9))
    c(lambda m, x, y, s: f(m, x, mask=y, source=s), c.f32(0), c.mask(0), c.f32(0))
    for dtype in DTYPES:
        hits = c.exactly([True, False, True, False])
        c(lambda m, x, y, s: f(m, x, y, s), c.of(dtype, 4), hits, c.of(dtype, 4),
          compiled=False)  # fmt: skip
    c.error(lambda m, x, y, s: f(m, x, y, s), c.f32(3), c.exactly([True] * 3), c.f32(2))
    c.error(lambda m, x, y, s: f(m, x, y, s), c.f32(3), c.mask(3), c.i64(3))
    c.error(lambda m, x, y, s: f(m, x, y, s), c.f32(3), c.i64(3), c.f32(3))


@case("Tensor.index_fill", "Tensor.index_fill_")
def index_fill(c, name):
    def f(m, x, *arguments, **options):
        return getattr(x * 1 if x.requires_grad else x, name)(*arguments, **options)

    index = c.exactly([0, 2])
    c(lambda m, x, i: f(m, x, 0, i, 2.5), c.f64(3, 4), index, gradients=2)
    c(lambda m, x, i: f(m, x, -1, i, 2), c.i64(4, 3).seen("transposed"), c.exactly([1]))
    c(lambda m, x, i, v: f(m, x, 0, i, v), c.f64(3), index, c.f64(), gradients=2)
    c(lambda m, x, i: f(m, x, dim=0, index=i, value=1), c.f32(3), c.exactly(1))
    for dtype in DTYPES:
        c(lambda m, x, i: f(m, x, 0, i, 1), c.of(dtype, 4), index, compiled=False)
    c.error(lambda m, x, i: f(m, x, 0, i, 1), c.f32(3), c.exactly([3]))
    c.error(lambda m, x, i: f(m, x, 1, i, 1), c.f32(3), index)
    c.error(lambda m, x, i: f(m, x, 0, i, 1), c.f32(3), c.f32(1))
    c.error(lambda m, x, i, v: f(m, x, 0, i, v), c.f32(3), index, c.f32(2))


@case("Tensor.index_add", "Tensor.index_add_", "Tensor.index_copy", "Tensor.index_copy_")
def index_add(c, name):
    def f(m, x, *arguments, **options):
        return getattr(x * 1 if x.requires_grad else x, name)(*arguments, **options)

    index = c.exactly([0, 2])
    c(lambda m, x, i, s: f(m, x, 0, i, s), c.f64(3, 4), index, c.f64(2, 4), gradients=2)
    c(lambda m, x, i, s: f(m, x, -1, i, s), c.i64(2, 4).seen("transposed"), index, c.i64(2, 2))
    c(lambda m, x, i, s: f(m, x, dim=1, index=i, source=s), c.f32(2, 3), index,
      c.f32(2, 2).seen("transposed"))  # fmt: skip
    if "add" in name:
        c(lambda m, x, i, s: f(m, x, 0, i, s, alpha=2), c.f64(3), c.exactly([1, 1]), c.f64(2),
          gradients=2)  # fmt: skip
    for dtype in DTYPES:
        c(lambda m, x, i, s: f(m, x, 0, i, s), c.of(dtype, 4), index, c.of(dtype, 2),
          compiled=False)  # fmt: skip
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.exactly([3]), c.f32(1))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), index, c.f32(3))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), index, c.i64(2))
    c.error(lambda m, x, i, s: f(m, x, 1, i, s), c.f32(3), index, c.f32(2))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.f32(2), c.f32(2))


@case("Tensor.scatter", "Tensor.scatter_", "Tensor.scatter_add", "Tensor.scatter_add_")
def scatter(c, name):
    def f(m, x, *arguments, **options):
        return getattr(x * 1 if x.requires_grad else x, name)(*arguments, **options)

    index = c.exactly([[0, 2, 1], [1, 0, 2]])
    c(lambda m, x, i, s: f(m, x, 0, i, s), c.f64(3, 3), index, c.f64(2, 3), gradients=2)
    c(lambda m, x, i, s: f(m, x, -1, i, s), c.f32(3, 2).seen("transposed"),
      c.exactly([[0], [1], [1]]), c.f32(3, 1))  # fmt: skip
    c(lambda m, x, i, s: f(m, x, dim=1, index=i, src=s), c.f32(2, 3), index, c.f32(4, 4))
    c(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.exactly([], "int64"), c.f32(0))
    if "add" not in name:
        c(lambda m, x, i: f(m, x, 1, i, 2.5), c.f64(2, 3), c.exactly([[0], [2]]), gradients=2)
        c(lambda m, x, i: f(m, x, dim=1, index=i, value=2), c.i64(2, 3), c.exactly([[0], [2]]))
        for reduce in ("add", "multiply"):
            c(lambda m, x, i, s, r=reduce: f(m, x, 0, i, s, reduce=r), c.f32(3, 3), index,
              c.f32(2, 3), compiled=False)  # fmt: skip
        c.error(lambda m, x, i: f(m, x, 1, i, "a"), c.f32(2, 3), c.exactly([[0], [2]]))
    for dtype in DTYPES:
        c(lambda m, x, i, s: f(m, x, 0, i, s), c.of(dtype, 4), c.exactly([3, 0]), c.of(dtype, 2),
          compiled=False)  # fmt: skip
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.exactly([3]), c.f32(1))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.exactly([0, 1]), c.f32(1))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.exactly([0]), c.i64(1))
    c.error(lambda m, x, i, s: f(m, x, 1, i, s), c.f32(3), c.exactly([0]), c.f32(1))
    c.error(lambda m, x, i, s: f(m, x, 0, i, s), c.f32(3), c.f32(1), c.f32(1))


@case("Tensor.put_")
def put(c):
    index = c.exactly([0, -1])
    c(lambda m, x, i, s: (x * 1).put_(i, s), c.f64(2, 3), index, c.f64(2), gradients=2)
    c(lambda m, x, i, s: x.put_(i, s), c.f32(2, 3).seen("transposed"), index, c.f32(2))
    c(lambda m, x, i, s: x.put_(index=i, source=s, accumulate=True), c.f32(3),
      c.exactly([1, 1]), c.f32(2))  # fmt: skip
    c.error(lambda m, x, i, s: x.put_(i, s), c.f32(3), c.exactly([3]), c.f32(1))
    c.error(lambda m, x, i, s: x.put_(i, s), c.f32(3), index, c.f32(3))
    c.error(lambda m, x, i, s: x.put_(i, s), c.f32(3), index, c.i64(2))
    c.error(lambda m, x, i, s: x.put_(i, s), c.f32(3), c.f32(2), c.f32(2))


@case("Tensor.apply_", "Tensor.map_")
def python_functions(c, name):
    if name == "apply_":
        c(lambda m, x: x.apply_(lambda v: v * 2 + 1), c.f64(2, 3).constant())
        c(lambda m, x: x.apply_(lambda v: v + 1), c.i64(2, 3).seen("transposed"))
        c(lambda m, x: x.apply_(abs), c.f32(0))
        c.error(lambda m, x: x.apply_(abs), c.f64(2))
        c.error(lambda m, x: x.apply_(), c.f32(2))
        return
    c(lambda m, x, y: x.map_(y, lambda a, b: a * b), c.f64(2, 3).constant(), c.f64(3).constant())
    c(lambda m, x, y: x.map_(y, max), c.i64(2, 3).seen("transposed"), c.i64(2, 3))
    c.error(lambda m, x, y: x.map_(y, max), c.f64(2), c.f64(2))
    c.error(lambda m, x, y: x.map_(y, max), c.f32(2), c.f32(3))
