"""Cases of `nn.utils`: clipping, vectors, normalised and parametrised weights, fusing."""

import copy
import pickle
import warnings

import numpy as np
from cases_nn_module import message, text
from compare_cases import case
from compare_modules import fill

SHAPES = ((3, 4), (5,), (2, 2, 2), ())


def with_gradients(m, dtype="float64", scale=1.0, shapes=SHAPES):
    """Parameters with gradients, and one without."""
    rng = np.random.default_rng(5)
    made = [m.nn.Parameter(m.tensor(rng.normal(size=s)).to(getattr(m, dtype))) for s in shapes]
    for parameter in made:
        values = m.tensor(rng.normal(size=tuple(parameter.shape)) * scale)
        parameter.grad = values.to(parameter.dtype)
    return [*made, m.nn.Parameter(m.ones(2))]


def gradients(parameters):
    return [p.grad for p in parameters if p.grad is not None]


def warned(function, *arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments, **options)
    own = [w for w in caught if w.category in (FutureWarning, UserWarning)]
    return result, [w.category.__name__ for w in own]


# Clipping -----------------------------------------------------------------------------------------


@case("torch.nn.utils.clip_grad_norm_", "torch.nn.utils.clip_grad_norm")
def clip_grad_norm(c, name):
    def clipped(m, *arguments, scale=1.0, dtype="float64", **options):
        parameters = with_gradients(m, dtype, scale)
        function = getattr(m.nn.utils, name)
        total, told = warned(function, parameters, *arguments, **options)
        return total, gradients(parameters), told

    c(lambda m: clipped(m, 1.0))
    c(lambda m: clipped(m, 100.0))
    c(lambda m: clipped(m, 0.5, 1))
    c(lambda m: clipped(m, 0.5, float("inf")))
    c(lambda m: clipped(m, max_norm=2, norm_type=3.0, foreach=True))
    c(lambda m: clipped(m, 1.0, dtype="float32"))
    c(lambda m: clipped(m, 1.0, dtype="float16"))
    c(lambda m: clipped(m, 1.0, scale=np.inf))
    c(lambda m: clipped(m, 0.0, error_if_nonfinite=True))
    c.error(lambda m: clipped(m, 1.0, scale=np.inf, error_if_nonfinite=True))
    c.error(lambda m: clipped(m, 1.0, scale=np.nan, error_if_nonfinite=True))
    c.error(lambda m: clipped(m, "x"))

    def one(m):
        parameter = with_gradients(m)[0]
        total = getattr(m.nn.utils, name)(parameter, 1.0)
        return total, parameter.grad

    c(one)
    c(lambda m: getattr(m.nn.utils, name)([m.nn.Parameter(m.ones(2))], 1.0))
    c(lambda m: warned(getattr(m.nn.utils, name), (x for x in ()), 1.0))

    def mixed(m):
        parameters = with_gradients(m, "float32", shapes=[(3,)]) + with_gradients(m, shapes=[(4,)])
        return getattr(m.nn.utils, name)(parameters, 1.0), gradients(parameters)

    c(mixed)


@case("torch.nn.utils.get_total_norm", "torch.nn.utils.clip_grads_with_norm_")
def total_norm(c, name):
    def norms(m):
        given = gradients(with_gradients(m))
        total = m.nn.utils.get_total_norm
        return (
            total(given),
            total(given, 1.0),
            total(given, float("inf")),
            total(given[0]),
            total([]),
        )

    c(norms)

    def scaled(m):
        parameters = with_gradients(m)
        m.nn.utils.clip_grads_with_norm_(parameters, 1.0, m.tensor(4.0, dtype=m.float64))
        return gradients(parameters)

    c(scaled)

    def infinite(m):
        given = gradients(with_gradients(m, scale=np.inf))
        return m.nn.utils.get_total_norm(given, error_if_nonfinite=True)

    c.error(infinite)


@case("torch.nn.utils.clip_grad_value_")
def clip_grad_value(c):
    def clipped(m, *arguments, **options):
        parameters = with_gradients(m)
        result = m.nn.utils.clip_grad_value_(parameters, *arguments, **options)
        return result, gradients(parameters)

    c(lambda m: clipped(m, 0.5))
    c(lambda m: clipped(m, clip_value=1, foreach=False))

    def one(m):
        parameter = with_gradients(m)[0]
        m.nn.utils.clip_grad_value_(parameter, 0.25)
        return parameter.grad

    c(one)


# Vectors ------------------------------------------------------------------------------------------


@case("torch.nn.utils.parameters_to_vector")
def to_vector(c):
    c(lambda m: m.nn.utils.parameters_to_vector(with_gradients(m)[:4]))
    c(lambda m, x, y: m.nn.utils.parameters_to_vector([x, y]), c.f64(3, 2), c.f64(4), gradients=2)
    c.error(lambda m: m.nn.utils.parameters_to_vector([]))


@case("torch.nn.utils.vector_to_parameters")
def from_vector(c):
    def given(m, x):
        parameters = with_gradients(m)[:3]
        m.nn.utils.vector_to_parameters(x, parameters)
        return parameters

    c(given, c.f64(25), gradients=0)
    c(given, c.f64(30), gradients=0)
    c.error(given, c.f64(10).constant())
    c.error(lambda m: m.nn.utils.vector_to_parameters(3, []))


# Normalised weights -------------------------------------------------------------------------------


def state(made):
    return {name: value.detach() for name, value in made.state_dict().items()}


def trained(m, made, x, steps=2):
    """Outputs, gradients and states of a few steps."""
    seen = []
    optimizer = m.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        y = made(x)
        y.sin().sum().backward()
        seen += [y.detach(), {name: p.grad.clone() for name, p in made.named_parameters()}]
        optimizer.step()
        seen.append({name: value.clone() for name, value in state(made).items()})
    made.eval()
    return seen, made(x).detach()


def layer(m, kind="Linear", *arguments):
    made = getattr(m.nn, kind)(*(arguments or (3, 4))).double()
    fill(made, m)
    return made


def set_vectors(m, made):
    """The same singular vectors in both libraries."""
    with m.no_grad():
        for name, buffer in made.named_buffers():
            values = (m.arange(float(buffer.numel()), dtype=m.float64) + len(name)).sin()
            buffer.copy_(values / values.norm())


@case("torch.nn.utils.weight_norm")
def weight_norm(c):
    for options in ({}, {"dim": None}, {"dim": 1}, {"name": "weight", "dim": -1}):
        c(
            lambda m, x, o=options: trained(m, m.nn.utils.weight_norm(layer(m), **o), x),
            c.f64(2, 3).constant(),
            gradients=0,
        )
    c(
        lambda m, x: trained(m, m.nn.utils.weight_norm(layer(m, "Conv1d", 2, 3, 3)), x),
        c.f64(2, 2, 5).constant(),
        gradients=0,
    )

    def facts(m):
        made, told = warned(m.nn.utils.weight_norm, layer(m))
        names = [name for name, _ in made.named_parameters()]
        again = message(m, m.nn.utils.weight_norm, made)
        return names, told, again, type(made.weight) is m.Tensor, len(made._forward_pre_hooks)

    c(facts)


@case("torch.nn.utils.remove_weight_norm")
def remove_weight_norm(c):
    def removed(m, x):
        made = m.nn.utils.weight_norm(layer(m))
        trained(m, made, x)
        m.nn.utils.remove_weight_norm(made)
        names = [name for name, _ in made.named_parameters()]
        return names, state(made), len(made._forward_pre_hooks), made(x)

    c(removed, c.f64(2, 3), gradients=0)
    c(lambda m: message(m, m.nn.utils.remove_weight_norm, layer(m)))


@case("torch.nn.utils.spectral_norm")
def spectral_norm(c):
    def normalised(m, x, kind="Linear", arguments=(3, 4), **options):
        made = m.nn.utils.spectral_norm(layer(m, kind, *arguments), **options)
        set_vectors(m, made)
        return trained(m, made, x)

    x = c.f64(2, 3).constant()
    c(lambda m, x: normalised(m, x), x, gradients=0)
    c(lambda m, x: normalised(m, x, n_power_iterations=3, eps=1e-3), x, gradients=0)
    c(lambda m, x: normalised(m, x, dim=1), x, gradients=0)
    c(
        lambda m, x: normalised(m, x, "Conv1d", (2, 3, 3)),
        c.f64(2, 2, 5).constant(),
        gradients=0,
    )

    def facts(m):
        made = m.nn.utils.spectral_norm(layer(m))
        buffers = {
            name: (list(b.shape), round(float(b.norm()), 5)) for name, b in made.named_buffers()
        }
        metadata = dict(made.state_dict()._metadata[""])
        return [
            [name for name, _ in made.named_parameters()],
            buffers,
            metadata,
            message(m, m.nn.utils.spectral_norm, made),
            message(m, m.nn.utils.spectral_norm, layer(m), n_power_iterations=0),
            message(m, m.nn.utils.spectral_norm, m.nn.Linear(2, 2, bias=False), "bias"),
            type(made.weight) is m.Tensor,
        ]

    c(facts)

    def twice(m, x):
        made = m.nn.utils.spectral_norm(layer(m))
        set_vectors(m, made)
        (made(x).sum() - made(x * 2).sum()).backward()
        return [p.grad for p in made.parameters()]

    c(twice, x, gradients=0)

    def older(m):
        made = m.nn.utils.spectral_norm(layer(m, "Linear", 3, 2))
        set_vectors(m, made)
        with m.no_grad():
            made(m.ones(1, 3, dtype=m.float64))
        old = {name: value.clone() for name, value in made.state_dict().items()}
        v = old.pop("weight_v")
        old["weight"] = made.weight.detach()
        new = m.nn.utils.spectral_norm(layer(m, "Linear", 3, 2)).eval()
        new.load_state_dict(old)
        return state(new)["weight_u"], state(new)["weight_v"], v.shape

    c(older)
    c(
        lambda m: m.nn.utils.spectral_norm(layer(m)).load_state_dict(
            m.nn.utils.spectral_norm(layer(m)).state_dict()
        )[0]
    )


@case("torch.nn.utils.remove_spectral_norm")
def remove_spectral_norm(c):
    def removed(m, x):
        made = m.nn.utils.spectral_norm(layer(m))
        set_vectors(m, made)
        trained(m, made, x)
        m.nn.utils.remove_spectral_norm(made)
        tables = (made._forward_pre_hooks, made._state_dict_hooks)
        return state(made), [len(table) for table in tables], made(x)

    c(removed, c.f64(2, 3), gradients=0)
    c(lambda m: message(m, m.nn.utils.remove_spectral_norm, layer(m)))


# Parametrised weights -----------------------------------------------------------------------------


def symmetric(m):
    class Symmetric(m.nn.Module):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return x.triu() + x.triu(1).transpose(-1, -2)

        def right_inverse(self, x):
            return x.triu()

    return Symmetric()


def doubled(m):
    class Doubled(m.nn.Module):
        def forward(self, x):
            return x * 2

    return Doubled()


def halves(m):
    class Halves(m.nn.Module):
        def forward(self, one, two):
            return one + two

        def right_inverse(self, x):
            return x / 4, 3 * x / 4

    return Halves()


@case("torch.nn.utils.parametrize.register_parametrization")
def register_parametrization(c):
    def registered(m, x):
        register = m.nn.utils.parametrize.register_parametrization
        made = layer(m, "Linear", 3, 3)
        before = made.weight
        result = register(made, "weight", symmetric(m))
        seen = [
            result is made,
            type(made).__name__,
            made.parametrizations.weight.original is before,
        ]
        seen += [made.weight.detach(), text(m, repr(made)), list(made.state_dict())]
        register(made, "weight", doubled(m))
        seen += [made.weight.detach(), trained(m, made, x)]
        register(made, "bias", halves(m))
        seen += [made.bias.detach(), [name for name, _ in made.named_parameters()]]
        return seen

    c(registered, c.f64(2, 3).constant(), gradients=0)

    def assigned(m, x):
        register = m.nn.utils.parametrize.register_parametrization
        made = layer(m, "Linear", 3, 3)
        register(made, "weight", symmetric(m))
        original = made.parametrizations.weight.original
        made.weight = x + x.T
        register(made, "bias", halves(m))
        made.bias = x[0]
        same = original is made.parametrizations.weight.original
        return made.weight.detach(), same, made.bias.detach(), state(made)

    c(assigned, c.f64(3, 3).constant(), gradients=0)

    def buffers(m, x):
        made = m.nn.Module()
        made.register_buffer("b", x)
        m.nn.utils.parametrize.register_parametrization(made, "b", doubled(m))
        return made.b, list(made.state_dict()), [name for name, _ in made.named_buffers()]

    c(buffers, c.f64(3).constant(), gradients=0)

    def copies(m, x):
        made = layer(m, "Linear", 3, 3)
        m.nn.utils.parametrize.register_parametrization(made, "weight", symmetric(m))
        new = copy.deepcopy(made)
        with m.no_grad():
            new.parametrizations.weight.original.add_(1.0)
        other = layer(m, "Linear", 3, 3)
        m.nn.utils.parametrize.register_parametrization(other, "weight", symmetric(m))
        other.load_state_dict(new.state_dict())
        return made(x), new(x), other(x), message(m, pickle.dumps, made)[0]

    c(copies, c.f64(2, 3))

    def refused(m):
        register = m.nn.utils.parametrize.register_parametrization

        class Made(m.nn.Module):
            def __init__(self, function, inverse=None):
                super().__init__()
                self.forward = function
                if inverse is not None:
                    self.right_inverse = inverse

        def attempt(function, inverse=None, first=None, **options):
            made = layer(m, "Linear", 3, 3)
            if first is not None:
                register(made, "weight", first)
            return message(m, register, made, "weight", Made(function, inverse), **options)[0]

        return [
            message(m, register, layer(m), "nothing", doubled(m))[0],
            attempt(lambda x: x[0]),
            attempt(lambda x: x.float()),
            attempt(lambda x: [x]),
            attempt(lambda x: x, lambda x: 3),
            attempt(lambda x: x, lambda x: x.float()),
            attempt(lambda x: x, lambda x: [3]),
            attempt(lambda x: x[0], first=doubled(m)),
            attempt(lambda x: x.float(), first=doubled(m)),
            attempt(lambda x: x, lambda x: x[0], first=doubled(m)),
            attempt(lambda x: x, lambda x: [x], first=doubled(m)),
            attempt(lambda x: x[0], unsafe=True),
            attempt(lambda x: x[0], first=doubled(m), unsafe=True),
        ]

    c(refused)

    def unassignable(m, x):
        made = layer(m, "Linear", 3, 3)
        m.nn.utils.parametrize.register_parametrization(made, "weight", doubled(m))
        return message(m, setattr, made, "weight", x)

    c(unassignable, c.f64(3, 3).constant())


@case("torch.nn.utils.parametrize.cached")
def cached(c):
    def counted(m, x):
        parametrize = m.nn.utils.parametrize
        made, kind = layer(m, "Linear", 3, 3), symmetric(m)
        parametrize.register_parametrization(made, "weight", kind)
        type(kind).calls = 0
        with parametrize.cached():
            made(x), made(x)
            with parametrize.cached():
                same = made.weight is made.weight
        inside = type(kind).calls
        made(x)
        return inside, type(kind).calls, same, made.weight is made.weight

    c(counted, c.f64(2, 3))


@case("torch.nn.utils.parametrize.is_parametrized")
def is_parametrized(c):
    def asked(m):
        parametrize = m.nn.utils.parametrize
        made = layer(m, "Linear", 3, 3)
        before = parametrize.is_parametrized(made)
        parametrize.register_parametrization(made, "weight", symmetric(m))
        return (
            before,
            parametrize.is_parametrized(made),
            parametrize.is_parametrized(made, "weight"),
            parametrize.is_parametrized(made, "bias"),
            parametrize.type_before_parametrizations(made) is m.nn.Linear,
            parametrize.type_before_parametrizations(layer(m)) is m.nn.Linear,
        )

    c(asked)


@case("torch.nn.utils.parametrize.remove_parametrizations")
def remove_parametrizations(c):
    def removed(m, leave, first=symmetric):
        parametrize = m.nn.utils.parametrize
        made = layer(m, "Linear", 3, 3)
        parametrize.register_parametrization(made, "weight", first(m))
        parametrize.register_parametrization(made, "bias", doubled(m))
        kept = list(made.parameters())
        parametrize.remove_parametrizations(made, "weight", leave)
        middle = type(made).__name__
        parametrize.remove_parametrizations(made, "bias")
        same = any(made.weight is p for p in kept)
        is_parameter = type(made.weight) is m.nn.Parameter
        return (
            middle,
            type(made).__name__,
            same,
            is_parameter,
            state(made),
            pickle.dumps(made) != b"",
        )

    c(lambda m: removed(m, True))
    c(lambda m: removed(m, False))
    c(lambda m: removed(m, True, halves))
    c.error(lambda m: removed(m, False, halves))
    c.error(lambda m: m.nn.utils.parametrize.remove_parametrizations(layer(m), "weight"))


@case("torch.nn.utils.parametrize.transfer_parametrizations_and_params")
def transfer(c):
    def transferred(m, name=None):
        parametrize = m.nn.utils.parametrize
        one, two = layer(m, "Linear", 3, 3), m.nn.Linear(3, 3).double()
        parametrize.register_parametrization(one, "weight", symmetric(m))
        parametrize.transfer_parametrizations_and_params(one, two, name)
        return two.weight.detach(), parametrize.is_parametrized(two, "weight")

    c(transferred)
    c(lambda m: transferred(m, "weight"))


@case("torch.nn.utils.parametrizations.weight_norm")
def weight_norm_parametrization(c):
    def made(m, **options):
        return m.nn.utils.parametrizations.weight_norm(layer(m), **options)

    for options in ({}, {"dim": None}, {"dim": 1}):
        c(
            lambda m, x, o=options: (
                trained(m, made(m, **o), x),
                repr(made(m, **o)).count("_Weight"),
            ),
            c.f64(2, 3).constant(),
            gradients=0,
        )

    def older(m):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old = m.nn.utils.weight_norm(layer(m))
        with m.no_grad():
            old.weight_g.mul_(2.0)
        new = made(m)
        new.load_state_dict(old.state_dict())
        return state(new)

    c(older)


@case("torch.nn.utils.parametrizations.spectral_norm")
def spectral_norm_parametrization(c):
    def made(m, kind="Linear", arguments=(3, 4), **options):
        new = m.nn.utils.parametrizations.spectral_norm(layer(m, kind, *arguments), **options)
        set_vectors(m, new)
        return new

    x = c.f64(2, 3).constant()
    c(lambda m, x: trained(m, made(m), x), x, gradients=0)
    c(lambda m, x: trained(m, made(m, n_power_iterations=2, dim=1), x), x, gradients=0)
    c(lambda m, x: trained(m, made(m, name="bias"), x), x, gradients=0)

    def converged(m):
        new = m.nn.utils.parametrizations.spectral_norm(layer(m), n_power_iterations=40)
        return m.linalg.svdvals(new.weight.detach())[0]

    c(converged, atol=1e-6)

    def refused(m):
        norm = m.nn.utils.parametrizations.spectral_norm
        return [
            message(m, norm, layer(m), "nothing")[0],
            message(m, norm, layer(m), n_power_iterations=0),
            message(m, norm, layer(m), dim=2),
        ]

    c(refused)


@case("torch.nn.utils.parametrizations.orthogonal")
def orthogonal(c):
    def columns(m, shape, *arguments, **options):
        made = m.nn.Module()
        values = m.arange(float(np.prod(shape)), dtype=m.float64).reshape(shape)
        made.register_parameter("weight", m.nn.Parameter((values * values * 0.37).sin()))
        m.nn.utils.parametrizations.orthogonal(made, "weight", *arguments, **options)
        with m.no_grad():
            rng = np.random.default_rng(3)
            original = made.parametrizations.weight.original
            noise = m.tensor(rng.normal(size=tuple(shape)) * 0.3)
            if "householder" in arguments or shape[-1] != shape[-2]:
                noise = noise.tril(-1) if shape[-2] >= shape[-1] else noise.triu(1)
            original.add_(noise)
        return made

    def products(m, *arguments, **options):
        w = columns(m, *arguments, **options).weight
        w = w if w.shape[-2] >= w.shape[-1] else w.transpose(-1, -2)
        return (w.transpose(-1, -2) @ w).detach()

    for shape in ((4, 4), (5, 3), (3, 5), (2, 4, 3)):
        for kind in ("matrix_exp", "cayley", "householder"):
            c(lambda m, s=shape, k=kind: products(m, s, k))
        c(lambda m, s=shape: products(m, s))

    def values(m, shape, kind, trivial):
        made = columns(m, shape, kind, use_trivialization=trivial)
        w = made.weight
        (w * w.detach().cos()).sum().backward()
        return w.detach(), made.parametrizations.weight.original.grad

    for kind in ("matrix_exp", "cayley"):
        c(lambda m, k=kind: values(m, (4, 4), k, True))
        c(lambda m, k=kind: values(m, (4, 4), k, False))
        c(lambda m, k=kind: values(m, (5, 3), k, False))
    c(lambda m: values(m, (5, 3), "householder", False))
    c(lambda m: values(m, (3, 5), "householder", False))

    def assigned(m, trivial):
        made = columns(m, (3, 3), "householder", use_trivialization=trivial)
        q = m.linalg.qr(m.arange(9.0, dtype=m.float64).reshape(3, 3).cos())[0]
        made.weight = q
        return (made.weight.detach() - q).abs().max() < 1e-10

    c(lambda m: assigned(m, True))
    c(lambda m: assigned(m, False))

    def refused(m):
        orthogonal = m.nn.utils.parametrizations.orthogonal
        made = columns(m, (3, 3), "cayley", use_trivialization=False)
        return [
            message(m, orthogonal, layer(m), "nothing")[0],
            message(m, orthogonal, layer(m), "bias"),
            message(m, orthogonal, layer(m), "weight", "x"),
            message(m, setattr, made, "weight", m.eye(3, dtype=m.float64)),
            message(m, setattr, columns(m, (3, 3)), "weight", m.ones(2, 2))[0],
        ]

    c(refused)


# Others -------------------------------------------------------------------------------------------


@case("torch.nn.utils.fuse_conv_bn_eval", "torch.nn.utils.fuse_linear_bn_eval")
def fusing(c, name):
    def pair(m, **options):
        if name == "fuse_conv_bn_eval":
            one, two = m.nn.Conv2d(2, 3, 2, **options), m.nn.BatchNorm2d(3)
        else:
            one, two = m.nn.Linear(2, 3, **options), m.nn.BatchNorm1d(3)
        for made in (one, two):
            fill(made, m)
        with m.no_grad():
            two.running_mean.copy_(m.tensor([0.5, -1.0, 2.0]))
            two.running_var.copy_(m.tensor([0.5, 1.0, 2.0]))
        return one.double().eval(), two.double().eval()

    def fused(m, x, **options):
        one, two = pair(m, **options)
        made = getattr(m.nn.utils, name)(one, two)
        flags = made.weight.requires_grad, made.bias.requires_grad, made is one
        return made(x).detach(), (made(x) - two(one(x))).abs().max() < 1e-12, flags, state(made)

    x = c.f64(2, 2, 4, 4) if name == "fuse_conv_bn_eval" else c.f64(5, 2)
    c(fused, x.constant(), gradients=0)
    c(lambda m, x: fused(m, x, bias=False), x.constant(), gradients=0)
    c.error(lambda m: getattr(m.nn.utils, name)(pair(m)[0].train(), pair(m)[1]))


@case("torch.nn.utils.skip_init")
def skip_init(c):
    def made(m):
        m.manual_seed(3)
        new = m.nn.utils.skip_init(m.nn.Linear, 3, 4, bias=False, dtype=m.float64)
        after = m.rand(3)
        m.manual_seed(3)
        facts = [(name, list(p.shape), p.requires_grad) for name, p in new.named_parameters()]
        return facts, (after == m.rand(3)).all(), repr(new), new.weight.dtype

    c(made)
    c(lambda m: message(m, m.nn.utils.skip_init, int)[0])
    c(lambda m: message(m, m.nn.utils.skip_init, m.nn.ReLU)[0])


@case("torch.nn.utils.stateless.functional_call")
def functional_call(c):
    def called(m, x, w):
        made = layer(m)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call = m.nn.utils.stateless.functional_call
            one = call(made, {"weight": w}, x)
            two = call(made, {"weight": w, "bias": w[:, 0]}, (), {"input": x})
        return one, two, made(x)

    c(called, c.f64(2, 3), c.f64(4, 3))

    def strict(m, x):
        call = m.nn.utils.stateless.functional_call
        return call(layer(m), {"x": x, "weight": x}, x, strict=True)

    c.error(strict, c.f64(2, 3))
