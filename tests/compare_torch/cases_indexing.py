"""Cases of the section "Indexing, Slicing, Joining, Mutating Ops" and what is alike in others."""

from compare_cases import case


@case("torch.cat")
def cat(c):
    c(lambda m, x, y: m.cat([x, y]), c.f64(2, 3), c.f64(1, 3), gradients=2)
    c(lambda m, x, y: m.cat((x, y), -1), c.f64(2, 3).seen("transposed"), c.f64(2, 1))
    c(lambda m, x, y, z: m.cat([x, y, z], dim=1), c.f32(2, 0, 2), c.f32(2, 3, 2), c.f32(2, 1, 2))
    c(lambda m, x, y: m.cat([x, y]), c.f32(0), c.f32(2, 3))
    c(lambda m, x: m.cat([x]), c.i64(3))
    c(lambda m, x: m.cat(tensors=[x, x], dim=0), c.f64(3).seen("strided"))
    c(lambda m, x, y, z: m.cat([x, y], out=z), c.f32(2), c.f32(3), c.f32(5))
    c.pairs(lambda m, x, y: m.cat([x, y]), (2, 3), (1, 3))
    c.error(lambda m, x, y: m.cat([x, y]), c.f32(2, 3), c.f32(2, 4))
    c.error(lambda m, x, y: m.cat([x, y]), c.f32(2, 3), c.f32(2))
    c.error(lambda m, x: m.cat([x, x]), c.f32())
    c.error(lambda m, x: m.cat([x, x], 2), c.f32(2, 3))
    c.error(lambda m, x: m.cat([x, x], -3), c.f32(2, 3))
    c.error(lambda m: m.cat([]))
    c.error(lambda m, x: m.cat(x), c.f32(2, 3))
    c.error(lambda m, x: m.cat([x, 3]), c.f32(2, 3))


@case("torch.stack")
def stack(c):
    for dim in (0, 1, 2, -1, -3):
        c(lambda m, x, y, d=dim: m.stack([x, y], d), c.f64(2, 3), c.f64(2, 3).seen("transposed"))
    c(lambda m, x: m.stack(tensors=[x, x], dim=0), c.f32())
    c(lambda m, x: m.stack((x,)), c.i64(0, 2))
    c(lambda m, x, z: m.stack([x, x], out=z), c.f32(2), c.f32(2, 2))
    c.pairs(lambda m, x, y: m.stack([x, y]), (2,), (2,))
    c.error(lambda m, x, y: m.stack([x, y]), c.f32(2, 3), c.f32(3, 2))
    c.error(lambda m, x: m.stack([x, x], 3), c.f32(2, 3))
    c.error(lambda m, x: m.stack([x, x], -4), c.f32(2, 3))
    c.error(lambda m: m.stack([]))
    c.error(lambda m: m.stack([1, 2]))


@case("torch.chunk")
def chunk(c):
    for chunks, dim in ((2, 0), (3, 1), (4, -1), (9, 1), (1, 0)):
        c(lambda m, x, n=chunks, d=dim: m.chunk(x, n, d), c.f64(5, 7))
    c(lambda m, x: m.chunk(input=x, chunks=2, dim=1), c.i64(3, 4).seen("transposed"))
    c(lambda m, x: m.chunk(x, 3), c.f32(0, 2))
    c.error(lambda m, x: m.chunk(x, 0), c.f32(3))
    c.error(lambda m, x: m.chunk(x, -1), c.f32(3))
    c.error(lambda m, x: m.chunk(x, 2, 2), c.f32(3))
    c.error(lambda m, x: m.chunk(x, 2), c.f32())
    c.error(lambda m, x: m.chunk(x, 2.5), c.f32(3))
    c.error(lambda m, x: m.chunk(x), c.f32(3))


@case("torch.split")
def split(c):
    for sizes, dim in ((2, 0), (3, 1), (9, -1), ([2, 3], 0), ([1, 0, 6], 1), ((4, 1), -2)):
        c(lambda m, x, n=sizes, d=dim: m.split(x, n, d), c.f64(5, 7))
    c(lambda m, x: m.split(x, split_size_or_sections=2), c.i64(5).seen("strided"))
    c(lambda m, x: m.split(x, 2), c.f32(0, 2))
    c.error(lambda m, x: m.split(x, 0), c.f32(3))
    c.error(lambda m, x: m.split(x, -1), c.f32(3))
    c.error(lambda m, x: m.split(x, [1, 1]), c.f32(3))
    c.error(lambda m, x: m.split(x, [4, -1]), c.f32(3))
    c.error(lambda m, x: m.split(x, 1, 1), c.f32(3))
    c.error(lambda m, x: m.split(x, 1), c.f32())
    c.error(lambda m, x: m.split(x, 1.5), c.f32(3))


@case("torch.split_with_sizes")
def split_with_sizes(c):
    c(lambda m, x: m.split_with_sizes(x, [2, 3]), c.f64(5, 7))
    c(lambda m, x: m.split_with_sizes(input=x, split_sizes=(4, 0, 3), dim=-1), c.f32(5, 7))
    c.error(lambda m, x: m.split_with_sizes(x, [1, 1]), c.f32(3))
    c.error(lambda m, x: m.split_with_sizes(x, [4, -1]), c.f32(3))
    c.error(lambda m, x: m.split_with_sizes(x, 2), c.f32(3))


@case("torch.gather")
def gather(c):
    index = c.exactly([[0, 2, 1], [1, 0, 0]])
    c(lambda m, x, i: m.gather(x, 1, i), c.f64(2, 3), index, gradients=2)
    c(lambda m, x, i: m.gather(x, -2, i), c.f64(3, 4).seen("transposed"), index)
    c(lambda m, x, i: m.gather(input=x, dim=0, index=i), c.i64(3), c.exactly([2, 0, 0, 1]))
    c(lambda m, x, i: m.gather(x, 0, i), c.f32(), c.exactly(0))
    c(lambda m, x, i: m.gather(x, 0, i), c.f32(3), c.exactly([], "int64"))
    c(lambda m, x, i, o: m.gather(x, 1, i, out=o), c.f32(2, 3), index, c.f32(2, 3))
    c.dtypes(lambda m, x: m.gather(x, 0, m.tensor([1, 0])), (3,))
    c.either(lambda m, x, i: m.gather(x, 0, i), c.f32(3), c.exactly([1, 0], "int32"))
    c.error(lambda m, x, i: m.gather(x, 0, i), c.f32(3), c.exactly([3]))
    c.error(lambda m, x, i: m.gather(x, 0, i), c.f32(3), c.exactly([-1]))
    c.error(lambda m, x, i: m.gather(x, 0, i), c.f32(3), index)
    c.error(lambda m, x, i: m.gather(x, 1, i), c.f32(1, 3), index)
    c.error(lambda m, x, i: m.gather(x, 2, i), c.f32(2, 3), index)
    c.error(lambda m, x, i: m.gather(x, 0, i), c.f32(3), c.f32(2))
    c.error(lambda m, x: m.gather(x, 0, [1]), c.f32(3))


@case("torch.index_select")
def index_select(c):
    index = c.exactly([0, 2, 0])
    c(lambda m, x, i: m.index_select(x, 0, i), c.f64(3, 4), index, gradients=2)
    c(lambda m, x, i: m.index_select(x, -1, i), c.f64(4, 3).seen("transposed"), index)
    c(lambda m, x, i: m.index_select(input=x, dim=0, index=i), c.i64(3), c.exactly([1], "int32"))
    c(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.exactly(1))
    c(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.exactly([], "int64"))
    c(lambda m, x, i: m.index_select(x, 0, i), c.f32(), c.exactly([0]))
    c(lambda m, x, i, o: m.index_select(x, 0, i, out=o), c.f32(3), index, c.f32(3))
    c.dtypes(lambda m, x: m.index_select(x, 0, m.tensor([1, 0])), (3, 2))
    c.error(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.exactly([3]))
    c.error(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.exactly([-1]))
    c.error(lambda m, x, i: m.index_select(x, 1, i), c.f32(3), index)
    c.error(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.i64(2, 2, low=0, high=1))
    c.error(lambda m, x, i: m.index_select(x, 0, i), c.f32(3), c.f32(2))


@case("torch.masked_select")
def masked_select(c):
    c(lambda m, x, y: m.masked_select(x, y), c.f64(3, 4), c.mask(3, 4), gradients=2)
    c(lambda m, x, y: m.masked_select(x, y), c.f64(3, 1), c.mask(4))
    c(lambda m, x, y: m.masked_select(input=x, mask=y), c.i64(3).seen("strided"), c.mask(2, 3))
    c(lambda m, x, y: m.masked_select(x, y), c.f32(), c.mask())
    c(lambda m, x, y: m.masked_select(x, y), c.f32(0), c.mask(0))
    c(lambda m, x, y, o: m.masked_select(x, y, out=o), c.f32(3), c.exactly([True] * 3), c.f32(3))
    c.dtypes(lambda m, x: m.masked_select(x, m.tensor([True, False, True])), (3,))
    c.error(lambda m, x, y: m.masked_select(x, y), c.f32(3), c.mask(4))
    c.error(lambda m, x, y: m.masked_select(x, y), c.f32(3), c.i64(3))
    c.error(lambda m, x: m.masked_select(x, [True, False, True]), c.f32(3))


@case("torch.narrow")
def narrow(c):
    c(lambda m, x: m.narrow(x, 0, 1, 2), c.f64(4, 3), gradients=2)
    c(lambda m, x: m.narrow(input=x, dim=-1, start=-2, length=1), c.i64(4, 3).seen("transposed"))
    c(lambda m, x: m.narrow(x, 0, 4, 0), c.f32(4))
    c(lambda m, x: m.narrow(x, 0, m.tensor(1), 2), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 0, 3, 2), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 0, 5, 0), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 0, -5, 1), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 0, 0, -1), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 1, 0, 1), c.f32(4))
    c.error(lambda m, x: m.narrow(x, 0, 0, 0), c.f32())


@case("torch.nonzero")
def nonzero(c):
    for shape in ((3, 4), (5,), (), (0, 2), (2, 0)):
        c(lambda m, x: m.nonzero(x), c.i64(*shape, low=-1, high=1))
        c(lambda m, x: m.nonzero(x, as_tuple=True), c.i64(*shape, low=-1, high=1))
    c(lambda m, x: m.nonzero(input=x), c.mask(3, 4).seen("transposed"))
    c(lambda m, x: m.nonzero(x), c.exactly([0.0, -0.0, float("nan"), float("inf")]))
    c(lambda m, x, o: m.nonzero(x, out=o), c.i64(4, low=1), c.i64(4, 1))
    c.dtypes(lambda m, x: m.nonzero(x), (5,), low=-1, high=1)
    c.error(lambda m: m.nonzero(3))


@case("torch.reshape")
def reshape(c):
    for shape in ((3, 2), (-1,), (2, -1), (1, 6, 1)):
        c(lambda m, x, s=shape: m.reshape(x, s), c.f64(2, 3).seen("transposed"), gradients=2)
    c(lambda m, x: m.reshape(input=x, shape=[2, 3]), c.i64(6))
    c(lambda m, x: m.reshape(x, ()), c.f32(1))
    c(lambda m, x: m.reshape(x, (1, 1)), c.f32())
    c(lambda m, x: m.reshape(x, (0, 5)), c.f32(2, 0))
    c(lambda m, x: m.reshape(x, (5, -1)), c.f32(5, 0))
    c.error(lambda m, x: m.reshape(x, (4, 2)), c.f32(6))
    c.error(lambda m, x: m.reshape(x, (4, -1)), c.f32(6))
    c.error(lambda m, x: m.reshape(x, (-1, -1)), c.f32(6))
    c.error(lambda m, x: m.reshape(x, (-2, 3)), c.f32(6))
    c.error(lambda m, x: m.reshape(x, (0, -1)), c.f32(0, 2))
    c.error(lambda m, x: m.reshape(x, 2, 3), c.f32(6))
    c.error(lambda m, x: m.reshape(x, (2.0, 3)), c.f32(6))


@case("torch.squeeze")
def squeeze(c):
    c(lambda m, x: m.squeeze(x), c.f64(1, 3, 1), gradients=2)
    for dim in (0, 1, -1, -3, (0, 2)):
        c(lambda m, x, d=dim: m.squeeze(x, d), c.f64(1, 3, 1))
    c(lambda m, x: m.squeeze(input=x, dim=0), c.i64(1, 2).seen("transposed"))
    c(lambda m, x: (m.squeeze(x), m.squeeze(x, 0), m.squeeze(x, -1)), c.f32())
    c(lambda m, x: m.squeeze(x), c.f32(1, 0))
    c.error(lambda m, x: m.squeeze(x, 3), c.f32(1, 3, 1))
    c.error(lambda m, x: m.squeeze(x, -4), c.f32(1, 3, 1))
    c.error(lambda m, x: m.squeeze(x, 1), c.f32())
    c.error(lambda m, x: m.squeeze(x, (0, 0)), c.f32(1, 3, 1))
    c.error(lambda m, x: m.squeeze(x, "0"), c.f32(1, 3, 1))


@case("torch.unsqueeze")
def unsqueeze(c):
    for dim in (0, 1, 2, -1, -3):
        c(lambda m, x, d=dim: m.unsqueeze(x, d), c.f64(2, 3))
    c(lambda m, x: m.unsqueeze(input=x, dim=0), c.i64())
    c(lambda m, x: m.unsqueeze(x, 1), c.f32(0, 2).seen("transposed"))
    c.error(lambda m, x: m.unsqueeze(x, 3), c.f32(2, 3))
    c.error(lambda m, x: m.unsqueeze(x, -4), c.f32(2, 3))
    c.error(lambda m, x: m.unsqueeze(x), c.f32(2, 3))


@case("torch.t")
def t(c):
    for shape in ((2, 3), (3,), (), (0, 2)):
        c(lambda m, x: m.t(x), c.f64(*shape))
    c(lambda m, x: m.t(input=x), c.i64(2, 3).seen("transposed"))
    c.error(lambda m, x: m.t(x), c.f32(2, 3, 4))


@case("torch.take")
def take(c):
    c(lambda m, x, i: m.take(x, i), c.f64(3, 4), c.exactly([[0, 11], [-1, 5]]), gradients=2)
    c(lambda m, x, i: m.take(x, i), c.f64(3, 4).seen("transposed"), c.exactly([0, 11, -1, 5]))
    c(lambda m, x, i: m.take(input=x, index=i), c.i64(), c.exactly(0))
    c(lambda m, x, i: m.take(x, i), c.f32(3), c.exactly([], "int64"))
    c(lambda m, x, i, o: m.take(x, i, out=o), c.f32(3), c.exactly([1]), c.f32(1))
    c.dtypes(lambda m, x: m.take(x, m.tensor([1, 0])), (3,))
    c.error(lambda m, x, i: m.take(x, i), c.f32(3), c.exactly([3]))
    c.error(lambda m, x, i: m.take(x, i), c.f32(3), c.exactly([-4]))
    c.error(lambda m, x, i: m.take(x, i), c.f32(3), c.f32(1))
    c.error(lambda m, x, i: m.take(x, i), c.f32(3), c.exactly([1], "int32"))
    c.error(lambda m, x, i: m.take(x, i), c.f32(0), c.exactly([0]))


@case("torch.transpose")
def transpose(c):
    for dims in ((0, 1), (0, 2), (-1, 0), (1, 1), (-2, -1)):
        c(lambda m, x, d=dims: m.transpose(x, *d), c.f64(2, 3, 4))
    c(lambda m, x: m.transpose(input=x, dim0=0, dim1=1), c.i64(2, 3).seen("strided"))
    c(lambda m, x: m.transpose(x, 0, 0), c.f32())
    c.error(lambda m, x: m.transpose(x, 0, 2), c.f32(2, 3))
    c.error(lambda m, x: m.transpose(x, -3, 0), c.f32(2, 3))
    c.error(lambda m, x: m.transpose(x, 0), c.f32(2, 3))


@case("torch.permute")
def permute(c):
    c(lambda m, x: m.permute(x, (2, 0, 1)), c.f64(2, 3, 4), gradients=2)
    c(lambda m, x: m.permute(input=x, dims=[-1, 0, 1]), c.i64(2, 3, 4))
    c(lambda m, x: m.permute(x, ()), c.f32())
    c.error(lambda m, x: m.permute(x, (0, 0)), c.f32(2, 3))
    c.error(lambda m, x: m.permute(x, (0,)), c.f32(2, 3))
    c.error(lambda m, x: m.permute(x, (0, 2)), c.f32(2, 3))


@case("torch.select")
def select(c):
    c(lambda m, x: m.select(x, 0, 1), c.f64(3, 4), gradients=2)
    c(lambda m, x: m.select(input=x, dim=-1, index=-2), c.i64(3, 4).seen("transposed"))
    c.error(lambda m, x: m.select(x, 0, 3), c.f32(3, 4))
    c.error(lambda m, x: m.select(x, 0, -4), c.f32(3, 4))
    c.error(lambda m, x: m.select(x, 2, 0), c.f32(3, 4))
    c.error(lambda m, x: m.select(x, 0, 0), c.f32())


@case("torch.unbind")
def unbind(c):
    for dim in (0, 1, -1):
        c(lambda m, x, d=dim: m.unbind(x, d), c.f64(2, 3))
    c(lambda m, x: m.unbind(input=x, dim=0), c.i64(3).seen("strided"))
    c(lambda m, x: m.unbind(x), c.f32(0, 2))
    c.error(lambda m, x: m.unbind(x), c.f32())
    c.error(lambda m, x: m.unbind(x, 2), c.f32(2, 3))


@case("torch.where")
def where(c):
    c(lambda m, k, x, y: m.where(k, x, y), c.mask(3, 1), c.f64(4), c.f64(3, 4), gradients=2)
    c(lambda m, k, x: m.where(k, x, 0), c.mask(3, 4).seen("transposed"), c.f64(3, 4))
    c(lambda m, k, x: m.where(k, 1.5, x), c.mask(3), c.i64(3))
    c(lambda m, k: m.where(k, 1, 0), c.mask(3))
    c(lambda m, k: m.where(k, 1.5, 2), c.mask(3))
    c(lambda m, k: m.where(k), c.mask(3, 4))
    c(lambda m, k, x: m.where(condition=k, input=x, other=x), c.mask(0), c.f32(1))
    c(lambda m, k, x, y, o: m.where(k, x, y, out=o), c.mask(3), c.f32(3), c.f32(3), c.f32(3))
    c(lambda m, k, x, y: m.where(k, x, y), c.exactly([0, 1, 1], "uint8"), c.f32(3), c.f32(3))
    c.pairs(lambda m, x, y: m.where(m.tensor([True, False, True, False]), x, y))
    c.error(lambda m, k, x, y: m.where(k, x, y), c.mask(3), c.f32(4), c.f32(3))
    c.error(lambda m, k, x, y: m.where(k, x, y), c.f32(3), c.f32(3), c.f32(3))
    c.error(lambda m, k, x, y: m.where(k, x, y), c.i64(3), c.f32(3), c.f32(3))
    c.error(lambda m, k, x: m.where(k, x), c.mask(3), c.f32(3))
    c.error(lambda m, x: m.where(True, x, x), c.f32(3))


@case("torch.index_put", "torch.index_put_")
def index_put(c, name):
    def f(m, x, indices, values, *more, **named):
        target = x * 1 if x.requires_grad and name.endswith("_") else x
        return getattr(m, name)(target, indices, values, *more, **named)

    rows, columns = c.exactly([0, 2, 0]), c.exactly([1, 1, 3])
    c(lambda m, x, v: f(m, x, (m.tensor([0, 2]),), v), c.f64(3, 4), c.f64(2, 4), gradients=2)
    c(lambda m, x, i, j, v: f(m, x, [i, j], v, True), c.f64(3, 4), rows, columns, c.f64(3))
    c(
        lambda m, x, i, j, v: f(m, x, (i, j), v, accumulate=True),
        c.i64(3, 4),
        rows,
        columns,
        c.i64(),
    )
    c(lambda m, x, k, v: f(m, x, (k,), v), c.f32(3, 4).seen("transposed"), c.mask(3, 4), c.f32())
    c(lambda m, x, i, v: f(m, x, indices=(i,), values=v), c.f32(3), c.exactly([-1]), c.f32(1))
    c.error(lambda m, x, i, v: f(m, x, (i,), v), c.f32(3), c.exactly([3]), c.f32(1))
    c.error(lambda m, x, i, v: f(m, x, (i,), v), c.f32(3), c.exactly([1, 2]), c.f32(3))
    c.error(lambda m, x, i, v: f(m, x, (i,), v), c.f32(3), c.exactly([1]), c.i64(1))
    c.error(lambda m, x, i, v: f(m, x, (i, i), v), c.f32(3), c.exactly([1]), c.f32(1))
    c.error(lambda m, x, i: f(m, x, (i,), 2.0), c.f32(3), c.exactly([1]))


@case("torch.as_strided", "torch.as_strided_")
def as_strided(c, name):
    def f(m, x, *arguments, **named):
        return getattr(m, name)(x * 1 if x.requires_grad else x, *arguments, **named)

    c(lambda m, x: f(m, x, (2, 2), (1, 2)), c.f64(3, 3), gradients=2)
    c(lambda m, x: f(m, x, (2, 3), (1, 1), 2), c.f64(9))
    c(lambda m, x: f(m, x, size=(2,), stride=(0,), storage_offset=1), c.i64(3))
    c(lambda m, x: f(m, x, (), (), 2), c.f32(3))
    c.error(lambda m, x: f(m, x, (4, 4), (4, 1)), c.f32(3, 3))
    c.error(lambda m, x: f(m, x, (2,), (1, 1)), c.f32(3))
    c.error(lambda m, x: f(m, x, (2,), (-1,)), c.f32(3))


@case("torch.resize_as_")
def resize_as(c):
    c(lambda m, x, y: m.resize_as_(x, y), c.f32(2, 3), c.f32(3, 2))
    c(lambda m, x, y: m.resize_as_(x, y), c.f32(2, 3), c.f32(2))
    c(lambda m, x, y: m.resize_as_(input=x, the_template=y), c.i64(2), c.f32(1, 2))
    c.error(lambda m, x, y: m.resize_as_(x, y), c.f64(2), c.f32(2))
