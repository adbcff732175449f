"""Cases of `nn.utils`: clipping, vectors, normalised weights, fusing."""

import warnings

import numpy as np
from compare_cases import case
from compare_modules import fill
from compare_networks import layer, message, set_vectors, state, trained

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
