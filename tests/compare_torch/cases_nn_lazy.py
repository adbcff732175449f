"""Cases of lazy modules, and of the parameters and buffers without a shape that they hold."""

import copy
import pickle

from compare_cases import case
from compare_modules import fill


def first_call(m, made, x):
    """What a lazy module is before and after its first call, and what it then computes."""
    made = made.to(m.float64)
    before = (repr(made), made.has_uninitialized_params(), list(made.state_dict()))
    dtypes = [tensor.dtype for tensor in made.state_dict().values()]
    made(x)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    fill(made, m)
    output = made(x)
    parameters = [p for p in made.parameters() if p.requires_grad]
    gradients = ()
    if parameters:
        gradients = m.autograd.grad(output.sin().sum(), parameters, retain_graph=True)
    hooks = (len(made._forward_pre_hooks), len(made._load_state_dict_pre_hooks))
    attributes = hasattr(made, "cls_to_become"), hasattr(made, "_load_hook")
    after = (repr(made), type(made).__name__, hooks, attributes)
    return before, dtypes, shapes, output, list(gradients), after


def lazy(c, build, *inputs, **options):
    c(lambda m, x: first_call(m, build(m.nn), x), *inputs, **options)


def again(way):
    """A copy of a module: by `copy`, or through a file."""
    return copy.deepcopy if way == "copy" else lambda made: pickle.loads(pickle.dumps(made))


@case("torch.nn.LazyLinear")
def lazy_linear(c):
    x = c.f64(4, 3)
    lazy(c, lambda nn: nn.LazyLinear(2), x)
    lazy(c, lambda nn: nn.LazyLinear(2, bias=False), c.f64(2, 4, 3))
    lazy(c, lambda nn: nn.LazyLinear(2), c.f64(3), compiled=False)
    for way in ("copy", "pickle"):
        lazy(c, lambda nn, way=way: again(way)(nn.LazyLinear(2)), x, compiled=False)

    def loaded(m, x):
        source, made = m.nn.Linear(3, 2).double(), m.nn.LazyLinear(2).double()
        fill(source, m)
        result = made.load_state_dict(source.state_dict())
        before = made.has_uninitialized_params(), repr(made)
        return before, list(result), made(x), repr(made), type(made).__name__

    def nothing_loaded(m):
        made = m.nn.LazyLinear(2)
        made.load_state_dict(m.nn.LazyLinear(2).state_dict())
        made.reset_parameters()
        return repr(made), repr(made.weight), repr(made.bias), list(made.state_dict())

    def inside(m, x):
        made = m.nn.Sequential(m.nn.LazyLinear(3), m.nn.ReLU(), m.nn.LazyLinear(2)).double()
        before = repr(made)
        made(x)
        fill(made, m)
        return before, made(x), repr(made)

    def trained(m, x):
        made = m.nn.LazyLinear(2).double()
        optimizer = m.optim.SGD(made.parameters(), lr=0.1)
        made(x)
        fill(made, m)
        made(x).sum().backward()
        optimizer.step()
        return [p.detach() for p in made.parameters()]

    c(loaded, x)
    c(nothing_loaded)
    c(inside, x)
    c(trained, x, gradients=0)
    c.error(lambda m: m.nn.Linear(3, 2).load_state_dict(m.nn.LazyLinear(2).state_dict()))
    c.error(lambda m: m.nn.LazyLinear(2).load_state_dict({"weight": m.zeros(2, 3)}))
    c.error(lambda m: m.nn.LazyLinear(2).share_memory())
    c.error(lambda m: m.nn.LazyLinear(2).weight.numel())
    c.error(lambda m: m.nn.LazyLinear(2).weight.shape)
    c.error(lambda m: m.nn.LazyLinear(2).weight.fill_(1))

    def other_input(m, x):
        made = m.nn.LazyLinear(2)
        made.load_state_dict(m.nn.Linear(5, 2).state_dict())
        return made(x)

    c.error(other_input, c.f32(4, 3))


@case(
    "torch.nn.LazyConv1d", "torch.nn.LazyConv2d", "torch.nn.LazyConv3d",
    "torch.nn.LazyConvTranspose1d", "torch.nn.LazyConvTranspose2d", "torch.nn.LazyConvTranspose3d",
)  # fmt: skip
def lazy_conv(c, name):
    n = int(name[-2])
    x = c.f64(2, 4, *(4, 3, 3)[:n])

    def layer(*args, **kwargs):
        return lambda nn: getattr(nn, name)(*args, **kwargs)

    lazy(c, layer(6, 2), x)
    lazy(c, layer(6, (3, 2, 2)[:n], 2, 1, groups=2, bias=False), x)
    lazy(c, layer(6, 2, dtype=None, device=None), c.f64(4, *(4, 3, 3)[:n]), compiled=False)

    def loaded(m, x):
        source = getattr(m.nn, name.removeprefix("Lazy"))(4, 3, 2).double()
        fill(source, m)
        made = layer(3, 2)(m.nn).double()
        made.load_state_dict(source.state_dict())
        return made(x), type(made).__name__

    c(loaded, x, compiled=False)
    c.error(lambda m, x: layer(3, 2)(m.nn)(x), c.f32(4))
    c.error(lambda m, x: layer(6, 2, groups=3)(m.nn)(x), c.f32(2, 4, *(4, 3, 3)[:n]))
    c.error(lambda m: layer(4, 2, padding_mode="other")(m.nn))


@case(
    "torch.nn.LazyBatchNorm1d", "torch.nn.LazyBatchNorm2d", "torch.nn.LazyBatchNorm3d",
    "torch.nn.LazyInstanceNorm1d", "torch.nn.LazyInstanceNorm2d", "torch.nn.LazyInstanceNorm3d",
)  # fmt: skip
def lazy_norm(c, name):
    n = int(name[-2])
    x = c.f64(4, 3, *(4, 3, 3)[:n])

    def layer(*args, **kwargs):
        return lambda nn: getattr(nn, name)(*args, **kwargs)

    lazy(c, layer(), x, rtol=1e-7)
    lazy(c, layer(1e-3, None, affine=False), x, compiled=False, rtol=1e-7)
    lazy(c, layer(track_running_stats=False), x, compiled=False, rtol=1e-7)
    lazy(c, lambda nn: again("pickle")(layer()(nn)), x, compiled=False, rtol=1e-7)

    def loaded(m, x):
        settings = {"affine": True, "track_running_stats": True}
        source = getattr(m.nn, name.removeprefix("Lazy"))(3, **settings).double()
        source(x.detach())
        made = layer()(m.nn).double()
        made.load_state_dict(source.state_dict())
        initialized = not made.has_uninitialized_params()
        return made.eval()(x), initialized, type(made).__name__

    if "Batch" in name:  # PyTorch does not call an InstanceNorm that was loaded so
        c(loaded, x, compiled=False, rtol=1e-7)
    c.error(lambda m, x: layer()(m.nn)(x), c.f32(4, 3, 2, 2, 2, 2))


def _uninitialized(c, name):
    """What both kinds do, and what they refuse."""

    def described(m):
        made = getattr(m.nn, name)()
        return (
            repr(made), made.dtype, made.requires_grad, made.is_leaf, made.ndim,
            tuple(made.size()), isinstance(made, m.Tensor),
            isinstance(made, m.nn.Parameter), made.is_floating_point(),
        )  # fmt: skip

    def materialized(m, **kwargs):
        made = getattr(m.nn, name)()
        made.materialize((2, 3), **kwargs)
        made.detach().fill_(1.5)
        return made * 2, type(made).__name__, made.requires_grad, hasattr(made, "materialize")

    def pickled(m):
        made = pickle.loads(pickle.dumps(getattr(m.nn, name)(False)))
        return repr(made), made.requires_grad

    c(described)
    c(materialized)
    c(lambda m: materialized(m, dtype=m.float64))
    c(pickled)
    for call in (
        lambda x, m: x.shape, lambda x, m: x + 1, lambda x, m: x.dim(), lambda x, m: x.numel(),
        lambda x, m: len(x), lambda x, m: x[0], lambda x, m: m.relu(x), lambda x, m: x.tolist(),
        lambda x, m: x.detach(), lambda x, m: x.zero_(), lambda x, m: x.share_memory_(),
        lambda x, m: m.zeros(2) * x, lambda x, m: m.cat([x, x]), lambda x, m: x.sum().backward(),
    ):  # fmt: skip
        c.error(lambda m, call=call: call(getattr(m.nn, name)(), m))


@case("torch.nn.UninitializedParameter")
def uninitialized_parameter(c):
    _uninitialized(c, "UninitializedParameter")
    c.error(lambda m: m.nn.UninitializedParameter(dtype=m.int64))

    def copied(m):
        made = m.nn.UninitializedParameter(dtype=m.float64)
        copies = (copy.copy(made), copy.deepcopy(made))
        return [(repr(x), x.requires_grad) for x in copies], made.data, copies[1].dtype

    c(copied)


@case("torch.nn.UninitializedBuffer")
def uninitialized_buffer(c):
    _uninitialized(c, "UninitializedBuffer")
    c(lambda m: repr(m.nn.UninitializedBuffer(dtype=m.int64).dtype).split(".")[-1])
