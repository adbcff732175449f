"""Cases of torch.nn.parallel.

PyTorch has replicas on GPUs only: where there is none, what Braze's replicas on shares of the CPU
give is compared with the module itself.
"""

import collections

from compare_cases import case
from compare_modules import fill

TWO = ["cpu:0", "cpu:1"]
Point = collections.namedtuple("Point", "x y")


def network(m):
    made = m.nn.Sequential(m.nn.Linear(4, 5), m.nn.Tanh(), m.nn.Linear(5, 3)).double()
    fill(made, m)
    return made


def outcome(m, module, y):
    """An output, and the gradients of the parameters."""
    total = y.sin().sum()
    gradients = m.autograd.grad(total, list(module.parameters()), retain_graph=True)
    return y, list(gradients), repr(module)


def alone(m, x):
    module = network(m)
    return outcome(m, module, module(x))


@case("torch.nn.DataParallel", "torch.nn.parallel.DataParallel")
def data_parallel_module(c, name):
    for device_ids in (None, [0, 1]):

        def without_gpu(m, x, device_ids=device_ids):
            module = network(m)
            model = m.nn.DataParallel(module, device_ids=device_ids)
            names = [key for key, _ in model.named_parameters()]
            return outcome(m, module, model(x)), model.device_ids, names, repr(model)

        c(without_gpu, c.f64(7, 4))

    for count, batch in ((2, 6), (3, 7), (3, 2), (1, 4)):

        def replicated(m, x, count=count):
            module = network(m)
            ids = [f"cpu:{i}" for i in range(count)]
            return outcome(m, module, m.nn.parallel.DataParallel(module, ids)(x))

        c(replicated, c.f64(batch, 4), reference=alone)
    c.error(lambda m, x: m.nn.DataParallel(network(m))(x), c.f64(7, 3))


@case("torch.nn.parallel.data_parallel")
def data_parallel(c):
    def ours(m, x):
        module = network(m)
        return outcome(m, module, m.nn.parallel.data_parallel(module, x, TWO))

    c(ours, c.f64(5, 4), reference=alone)
    c.error(lambda m, x: m.nn.parallel.data_parallel(network(m), x), c.f64(5, 4))
    c.error(lambda m, x: m.nn.parallel.data_parallel(network(m), x, [0, 1]), c.f64(5, 4))


@case("torch.nn.parallel.parallel_apply")
def parallel_apply(c):
    def ours(m, x, y):
        modules = [network(m), m.nn.ReLU()]
        return m.nn.parallel.parallel_apply(modules, [x, (y,)], [{}, {}], TWO)

    def theirs(m, x, y):
        return [network(m)(x), m.nn.ReLU()(y)]

    c(ours, c.f64(5, 4), c.f64(2, 3), reference=theirs)
    c.error(lambda m: m.nn.parallel.parallel_apply([m.nn.ReLU()], []))
    c.error(lambda m, x: m.nn.parallel.parallel_apply([m.nn.ReLU()], [x], [{}, {}]), c.f64(1))


@case("torch.nn.parallel.replicate")
def replicate(c):
    def ours(m, x):
        module = network(m)
        replicas = m.nn.parallel.replicate(module, TWO)
        return outcome(m, module, replicas[0](x) + 2 * replicas[1](x))

    def theirs(m, x):
        module = network(m)
        return outcome(m, module, 3 * module(x))

    c(ours, c.f64(5, 4), reference=theirs)
    c(lambda m: m.nn.parallel.replicate(m.nn.ReLU(), []))


@case("torch.nn.parallel.scatter")
def scatter(c):
    def ours(m, x):
        parts = m.nn.parallel.scatter((x, [x, 1], {"a": x}, Point(x, "s"), None), TWO)
        return list(parts), m.nn.parallel.scatter(x, TWO)

    def theirs(m, x):
        halves = x.chunk(2)
        found = [(h, [h, 1], {"a": h}, Point(h, "s"), None) for h in halves]
        return found, tuple(halves)

    c(ours, c.f64(5, 2), reference=theirs)
    c(lambda m, x: m.nn.parallel.scatter(x, TWO, 1), c.f64(2, 3), reference=_columns)
    c(lambda m: m.nn.parallel.scatter([], TWO), reference=lambda m: [[], []])


def _columns(m, x):
    return tuple(x.chunk(2, 1))


@case("torch.nn.parallel.scatter_gather.scatter_kwargs")
def scatter_kwargs(c):
    def ours(m, x):
        return m.nn.parallel.scatter_gather.scatter_kwargs((x,), {"y": x, "n": 3}, TWO)

    def theirs(m, x):
        halves = x.chunk(2)
        return tuple((h,) for h in halves), tuple({"y": h, "n": 3} for h in halves)

    def named(m, x):
        return m.nn.parallel.scatter_gather.scatter_kwargs((), {"y": x}, TWO)

    c(ours, c.f64(5, 2), reference=theirs)
    c(named, c.f64(3), reference=lambda m, x: (((), ()), tuple({"y": h} for h in x.chunk(2))))
    c(lambda m: m.nn.parallel.scatter_gather.scatter_kwargs((), None, TWO))


@case("torch.nn.parallel.gather")
def gather(c):
    x, y = c.f64(2, 3), c.f64(4, 3)

    def ours(m, x, y):
        return m.nn.parallel.gather([(x, [x], {"a": x}, None), (y, [y], {"a": y}, None)], "cpu")

    def theirs(m, x, y):
        both = m.cat([x, y])
        return both, [both], {"a": both}, None

    c(ours, x, y, reference=theirs)
    c(lambda m, x, y: m.nn.parallel.gather([x, y], "cpu", 1), x, c.f64(2, 1), reference=_beside)
    numbers = c.f64(), c.f64()
    c(lambda m, x, y: m.nn.parallel.gather([x, y], "cpu"), *numbers, reference=_stacked)


def _beside(m, x, y):
    return m.cat([x, y], 1)


def _stacked(m, x, y):
    return m.stack([x, y])


@case("torch.nn.parallel.comm.gather")
def comm_gather(c):
    call = c.f64(2, 3), c.f64(2, 1)
    c(lambda m, x, y: m.nn.parallel.comm.gather([x, y], 1), *call, reference=_beside)


@case("torch.nn.parallel.comm.broadcast")
def broadcast(c):
    x = c.f64(3)
    c(lambda m, x: m.nn.parallel.comm.broadcast(x, TWO)[1], x, reference=lambda m, x: x.clone())

    def into(m, x):
        out = [m.zeros_like(x), m.zeros_like(x)]
        return m.nn.parallel.comm.broadcast(x, out=out)

    c(into, x.constant(), reference=lambda m, x: (x.clone(), x.clone()))
    c.error(lambda m, x: m.nn.parallel.comm.broadcast(x), x)


@case("torch.nn.parallel.comm.broadcast_coalesced")
def broadcast_coalesced(c):
    def ours(m, x, y):
        return m.nn.parallel.comm.broadcast_coalesced([x, y], TWO)[1]

    c(ours, c.f64(3), c.f64(2, 2), reference=lambda m, x, y: [x.clone(), y.clone()])


@case("torch.nn.parallel.comm.reduce_add")
def reduce_add(c):
    def ours(m, x, y):
        return m.nn.parallel.comm.reduce_add([x, y])

    c(ours, c.f64(3), c.f64(3), reference=lambda m, x, y: x + y)
    c.error(lambda m: m.nn.parallel.comm.reduce_add([]))


@case("torch.nn.parallel.comm.reduce_add_coalesced")
def reduce_add_coalesced(c):
    def ours(m, x, y):
        return m.nn.parallel.comm.reduce_add_coalesced([[x, y], [y, x]])

    c(ours, c.f64(3), c.f64(3), reference=lambda m, x, y: (x + y, y + x))


@case("torch.nn.parallel.comm.scatter")
def comm_scatter(c):
    def ours(m, x):
        return m.nn.parallel.comm.scatter(x, TWO, chunk_sizes=[1, 4])

    c(ours, c.f64(5, 2), reference=lambda m, x: tuple(x.split([1, 4])))
