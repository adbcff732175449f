"""Cases of `nn.utils.parametrize` and of the parametrizations ready to use."""

import copy
import pickle
import warnings

import numpy as np
from compare_cases import case
from compare_networks import layer, message, set_vectors, state, text, trained

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


@case("torch.nn.utils.parametrize.register_parametrization")
def parametrized_modules(c):
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


@case("torch.nn.utils.parametrize.register_parametrization")
def refused_parametrizations(c):
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
