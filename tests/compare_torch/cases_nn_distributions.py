"""Cases of distributions: what their parameters give exactly, and statistics of their samples."""

import math

import numpy as np
from compare_cases import case

EXACT = ("mean", "variance", "stddev", "mode")


def described(c, build, *parameters, skip=(), without=()):
    """The properties and the entropy, with gradients for the parameters.

    Args:
        skip: what raises. without: what is not compared.
    """
    for name in (n for n in (*EXACT, "entropy", "perplexity") if n not in without):
        if name in skip:
            c.error(lambda m, *p, n=name: read(build(m.distributions, *p), n), *parameters)
        else:
            c(lambda m, *p, n=name: read(build(m.distributions, *p), n), *parameters,
              gradients=int(name != "mode"), compiled=False, rtol=1e-6)  # fmt: skip
    c(lambda m, *p: shapes(build(m.distributions, *p)), *parameters, gradients=0)


def read(d, name):
    found = getattr(d, name)
    return found() if callable(found) else found


def shapes(d):
    d2 = d.expand((2, *d.batch_shape))
    return [
        tuple(d.batch_shape), tuple(d.event_shape), d.has_rsample, d.has_enumerate_support,
        tuple(d2.batch_shape), tuple(d2.event_shape), tuple(d.sample().shape),
        tuple(d.sample((3,)).shape), tuple(d2.sample((5, 1)).shape), d.sample().requires_grad,
        d2.log_prob(d2.sample()).detach().shape == d2.batch_shape, type(d).__name__,
    ]  # fmt: skip


def densities(c, build, value, *parameters, cdf=True, icdf=False, integers=False):
    """log_prob at values, cdf, icdf."""
    value = value.constant() if integers else value
    c(
        lambda m, v, *p: build(m.distributions, *p).log_prob(v),
        value,
        *parameters,
        gradients=2,
        rtol=1e-6,
    )  # PyTorch's trigamma and erfinv are no better
    if cdf:
        c(lambda m, v, *p: build(m.distributions, *p).cdf(v), value, *parameters, gradients=0)
    if icdf:
        q = c.f64(4, low=0.05, high=0.95)
        c(lambda m, v, *p: build(m.distributions, *p).icdf(v), q, *parameters)


def sampled(c, build, *parameters, within=0.05, gradients=True):
    """The moments of samples, and the mean gradient."""
    count = 20000
    c.random(lambda m, *p: build(m.distributions, *p).sample((count,)), *parameters, within=within,
             statistics=moments)  # fmt: skip
    if gradients:
        c.random(lambda m, *p: slope(m, build, *p), *parameters, within=within,
                 statistics=lambda x: x.reshape(-1).tolist())  # fmt: skip


def slope(m, build, *parameters):
    leaves = [p.detach().requires_grad_() for p in parameters]
    drawn = build(m.distributions, *leaves).rsample((20000,))
    total = m.tanh(drawn).mean(0).sum()
    found = m.autograd.grad(total, leaves, allow_unused=True)
    return m.cat([g.reshape(-1) for g in found if g is not None])


def moments(x):
    rows = x.astype(np.float64).reshape(len(x), -1)
    return [*np.tanh(rows).mean(0), *np.tanh(rows).std(0)]


def refused(c, build, *parameters):
    """What is no parameter, or no value."""
    c.error(lambda m, *p: build(m.distributions, *p).sample(), *parameters)


# Of single numbers --------------------------------------------------------------------------------

SCALED = ("Normal", "Laplace", "Cauchy", "LogNormal", "Gumbel")


@case(*(f"torch.distributions.{name}" for name in SCALED))
def location_and_scale(c, name):
    def build(d, loc, scale):
        return getattr(d, name)(loc, scale)

    loc, scale = c.f64(4, low=-1, high=1), c.f64(4, low=0.5, high=2)
    value = c.f64(4, low=0.1, high=3)
    described(c, build, loc, scale)
    densities(c, build, value, loc, scale, icdf=True)
    densities(c, build, c.f64(3, 4, low=0.1), loc, scale)
    sampled(c, build, loc, scale)
    c(lambda m: repr(getattr(m.distributions, name)(0.5, 2.0)))
    c(lambda m: getattr(m.distributions, name)(0.5, 2.0).log_prob(m.tensor(1.0)))
    c(lambda m, x: getattr(m.distributions, name)(0, x).log_prob(x), scale)
    refused(c, build, c.f64(3), c.exactly([1.0, -1.0, 2.0]))
    refused(c, build, c.exactly([math.nan]), c.exactly([1.0]))
    c.error(lambda m: getattr(m.distributions, name)(0.0, -1.0))
    c.error(lambda m, v, *p: build(m.distributions, *p).log_prob(v), c.f64(3), loc, scale)
    c.error(lambda m, *p: build(m.distributions, *p).log_prob(0.5), loc, scale)
    c.error(lambda m: getattr(m.distributions, name)("a", 1.0))
    c(lambda m, x: getattr(m.distributions, name)(x, -1.0, validate_args=False).batch_shape == (4,),
      loc)  # fmt: skip


@case("torch.distributions.Normal")
def normal(c):
    c.error(lambda m, v: m.distributions.Normal(0.0, 1.0).log_prob(v), c.exactly([math.nan]))
    c(lambda m, v: m.distributions.Normal(v, 1.0).log_prob(v), c.f32(3))


@case("torch.distributions.Uniform")
def uniform(c):
    def build(d, low, width):
        return d.Uniform(low, low + width)

    low, width = c.f64(4), c.f64(4, low=1, high=2)
    described(c, build, low, width)
    c(lambda m, *p: build(m.distributions, *p).log_prob(p[0] + 0.5), low, width)
    c(lambda m, *p: build(m.distributions, *p).cdf(p[0] + 0.5), low, width)
    c(lambda m, *p: build(m.distributions, *p).icdf(p[0] * 0 + 0.5), low, width)
    sampled(c, build, low, width)
    c.error(lambda m: m.distributions.Uniform(1.0, 0.0))
    c.error(lambda m: m.distributions.Uniform(0.0, 1.0).log_prob(m.tensor(2.0)))
    c(lambda m: repr(m.distributions.Uniform(0.5, 1.0)))


@case("torch.distributions.Exponential", "torch.distributions.HalfNormal",
      "torch.distributions.HalfCauchy")  # fmt: skip
def scaled(c, name):
    def build(d, scale):
        return getattr(d, name)(scale)

    scale = c.f64(4, low=0.5, high=2)
    described(c, build, scale)
    densities(c, build, c.f64(4, low=0.1, high=3), scale, icdf=True)
    sampled(c, build, scale)
    refused(c, build, c.exactly([1.0, -1.0]))
    c.error(lambda m, v, p: build(m.distributions, p).log_prob(v), c.exactly([-1.0]), scale)
    c(lambda m: repr(getattr(m.distributions, name)(2.0)))


@case("torch.distributions.Gamma", "torch.distributions.Beta", "torch.distributions.FisherSnedecor")
def of_gammas(c, name):
    def build(d, a, b):
        return getattr(d, name)(a, b)

    a, b = c.f64(4, low=0.6, high=5), c.f64(4, low=0.6, high=5)
    if name == "FisherSnedecor":
        a, b = c.f64(4, low=3, high=9), c.f64(4, low=5, high=9)
    described(c, build, a, b, skip=("entropy", "perplexity") if name == "FisherSnedecor" else ())
    densities(c, build, c.f64(4, low=0.1, high=0.9), a, b, cdf=name == "Gamma")
    sampled(c, build, a, b, gradients=True, within=0.06)
    refused(c, build, c.exactly([1.0, -1.0]), c.exactly([1.0, 1.0]))
    c.error(lambda m, v, *p: build(m.distributions, *p).log_prob(v), c.exactly([-1.0]), a, b)


@case("torch.distributions.Chi2")
def chi2(c):
    described(c, lambda d, df: d.Chi2(df), c.f64(4, low=3, high=9))
    densities(c, lambda d, df: d.Chi2(df), c.f64(4, low=0.1), c.f64(4, low=3, high=9))
    sampled(c, lambda d, df: d.Chi2(df), c.f64(4, low=3, high=9))
    c(lambda m: m.distributions.Chi2(3.0).df)


@case("torch.distributions.StudentT")
def student(c):
    def build(d, df, loc, scale):
        return d.StudentT(df, loc, scale)

    parameters = c.f64(4, low=2.5, high=9), c.f64(4), c.f64(4, low=0.5)
    described(c, build, *parameters)
    densities(c, build, c.f64(4), *parameters, cdf=False)
    sampled(c, build, *parameters)
    c(lambda m, df: [m.distributions.StudentT(df).mean, m.distributions.StudentT(df).variance],
      c.exactly([0.5, 1.5, 3.0]).constant())  # fmt: skip


@case("torch.distributions.Weibull", "torch.distributions.Pareto")
def transformed_exponentials(c, name):
    def build(d, scale, shape):
        return getattr(d, name)(scale, shape)

    scale, shape = c.f64(4, low=0.5, high=1), c.f64(4, low=2.5, high=5)
    described(c, build, scale, shape)
    densities(c, build, c.f64(4, low=1.1, high=3), scale, shape, icdf=True)
    sampled(c, build, scale, shape)
    refused(c, build, c.exactly([1.0, -1.0]), c.exactly([1.0, 1.0]))


# Counts and classes -------------------------------------------------------------------------------


@case("torch.distributions.Bernoulli", "torch.distributions.Geometric")
def of_odds(c, name):
    def by_probs(d, p):
        return getattr(d, name)(probs=p)

    def by_logits(d, x):
        return getattr(d, name)(logits=x)

    p, x = c.f64(4, low=0.1, high=0.9), c.f64(4)
    value = c.exactly([1.0, 0.0, 1.0, 0.0])
    for build, parameter in ((by_probs, p), (by_logits, x)):
        described(c, build, parameter)
        densities(c, build, value, parameter, cdf=False, integers=True)
        sampled(c, build, parameter, gradients=False)
    c(lambda m, p: by_probs(m.distributions, p).logits, p)
    c(lambda m, x: by_logits(m.distributions, x).probs, x)
    c.error(lambda m: getattr(m.distributions, name)())
    c.error(lambda m: getattr(m.distributions, name)(0.5, 0.5))
    refused(c, by_probs, c.exactly([0.5, 1.5]))
    c.error(lambda m, p, v: by_probs(m.distributions, p).log_prob(v), p, c.exactly([0.5]))
    if name == "Bernoulli":
        for expand in (True, False):
            c(lambda m, p, e=expand: by_probs(m.distributions, p).enumerate_support(e), p)


@case("torch.distributions.Binomial", "torch.distributions.NegativeBinomial")
def of_counts(c, name):
    def build(d, p):
        return getattr(d, name)(7, probs=p)

    p = c.f64(4, low=0.1, high=0.7)
    skip = ("entropy", "perplexity") if name == "NegativeBinomial" else ()
    described(c, build, p, skip=skip)
    densities(c, build, c.exactly([1.0, 0.0, 3.0, 5.0]), p, cdf=False, integers=True)
    densities(c, lambda d, x: getattr(d, name)(7, logits=x), c.exactly([1.0, 0.0, 3.0, 5.0]),
              c.f64(4), cdf=False, integers=True)  # fmt: skip
    sampled(c, build, p, gradients=False)
    c.error(lambda m: getattr(m.distributions, name)(3))
    refused(c, build, c.exactly([0.5, 1.5]))
    if name == "Binomial":
        c(lambda m, p: build(m.distributions, p).enumerate_support(), p)
        c.error(lambda m, p: build(m.distributions, p).log_prob(m.tensor(8.0)), p)


@case("torch.distributions.Poisson")
def poisson(c):
    rate = c.f64(4, low=0.5, high=6)
    described(c, lambda d, r: d.Poisson(r), rate, skip=("entropy", "perplexity"))
    densities(c, lambda d, r: d.Poisson(r), c.exactly([1.0, 0.0, 3.0, 5.0]), rate, cdf=False,
              integers=True)  # fmt: skip
    sampled(c, lambda d, r: d.Poisson(r), rate, gradients=False)
    c.error(lambda m: m.distributions.Poisson(-1.0))


@case("torch.distributions.Categorical", "torch.distributions.OneHotCategorical",
      "torch.distributions.OneHotCategoricalStraightThrough")  # fmt: skip
def classes(c, name):
    def by_probs(d, p):
        return getattr(d, name)(probs=p)

    def by_logits(d, x):
        return getattr(d, name)(logits=x)

    p, x = c.f64(2, 4, low=0.1, high=0.9), c.f64(2, 4)
    value = c.exactly([1, 3]) if name == "Categorical" else c.exactly(np.eye(4)[[1, 3]])
    for build, parameter in ((by_probs, p), (by_logits, x)):
        described(c, build, parameter)
        densities(c, build, value, parameter, cdf=False, integers=True)
        c.random(lambda m, p, b=build: one_hot(m, b(m.distributions, p).sample((20000,)), 4),
                 parameter, statistics=moments)  # fmt: skip
    c(lambda m, p: by_probs(m.distributions, p).logits, p)
    c(lambda m, p: by_probs(m.distributions, p).probs, p)
    for expand in (True, False):
        c(lambda m, p, e=expand: by_probs(m.distributions, p).enumerate_support(e), p)
    c.error(lambda m: getattr(m.distributions, name)(m.tensor(0.5)))
    refused(c, by_probs, c.exactly([0.5, -0.5]))
    c.error(lambda m, p, v: by_probs(m.distributions, p).log_prob(v), p, c.exactly([4, 4]))


def one_hot(m, drawn, count):
    if drawn.dtype == m.int64:
        drawn = m.nn.functional.one_hot(drawn, count).double()
    return drawn


@case("torch.distributions.Multinomial")
def multinomial(c):
    def build(d, p):
        return d.Multinomial(5, p)

    p = c.f64(2, 3, low=0.1, high=0.9)
    described(c, build, p, skip=("mode",))
    densities(c, build, c.exactly([[1.0, 3.0, 1.0], [0.0, 5.0, 0.0]]), p, cdf=False, integers=True)
    sampled(c, build, p, gradients=False)
    c.error(lambda m, p: m.distributions.Multinomial(p, p), p)
    c.error(lambda m, p: build(m.distributions, p).log_prob(m.tensor([1.0, 3.0, -1.0])), p)


@case("torch.distributions.Dirichlet")
def dirichlet(c):
    a = c.f64(2, 3, low=1.2, high=5)
    described(c, lambda d, a: d.Dirichlet(a), a)
    densities(c, lambda d, a: d.Dirichlet(a), c.exactly([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]), a,
              cdf=False)  # fmt: skip
    sampled(c, lambda d, a: d.Dirichlet(a), a)
    c.error(lambda m: m.distributions.Dirichlet(m.tensor(1.0)))
    refused(c, lambda d, a: d.Dirichlet(a), c.exactly([1.0, -1.0]))


@case("torch.distributions.RelaxedBernoulli")
def relaxed_bernoulli(c):
    def build(d, x):
        return d.RelaxedBernoulli(d.utils.broadcast_all(0.7)[0].double(), logits=x)

    densities(c, build, c.f64(4, low=0.1, high=0.9), c.f64(4), cdf=False)
    sampled(c, build, c.f64(4))
    c(lambda m, p: m.distributions.RelaxedBernoulli(0.5, p).logits, c.f64(4, low=0.1, high=0.9))
    c(lambda m, p: shapes(build(m.distributions, p)), c.f64(4))


@case("torch.distributions.RelaxedOneHotCategorical")
def relaxed_categorical(c):
    def build(d, x):
        return d.RelaxedOneHotCategorical(d.utils.broadcast_all(0.7)[0].double(), logits=x)

    densities(c, build, c.exactly([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]), c.f64(2, 3), cdf=False)
    sampled(c, build, c.f64(2, 3))
    c(lambda m, p: shapes(build(m.distributions, p)), c.f64(2, 3))


# Vectors ------------------------------------------------------------------------------------------


def covariance(x):
    ones = x.detach() * 0 + 1
    return x @ x.transpose(-2, -1) + ones.tril().triu()


@case("torch.distributions.MultivariateNormal")
def multivariate_normal(c):
    loc, root = c.f64(2, 3), c.f64(2, 3, 3, low=-1, high=1)
    for key in ("covariance_matrix", "precision_matrix", "scale_tril"):

        def build(d, loc, x, key=key):
            matrix = covariance(x)
            if key == "scale_tril":
                matrix = matrix.tril()
            return d.MultivariateNormal(loc, **{key: matrix})

        described(c, build, loc, root)
        densities(c, build, c.f64(2, 3), loc, root, cdf=False)
        densities(c, build, c.f64(4, 2, 3), loc, root, cdf=False)
        for other in ("covariance_matrix", "precision_matrix", "scale_tril"):
            c(lambda m, *p, b=build, o=other: getattr(b(m.distributions, *p), o), loc, root)
        sampled(c, build, loc, root)
    c.error(lambda m, loc: m.distributions.MultivariateNormal(loc), loc)
    c.error(lambda m, loc: m.distributions.MultivariateNormal(m.tensor(0.0), loc), loc)
    c.error(lambda m, loc: m.distributions.MultivariateNormal(loc, loc[0]), loc)
    c.error(lambda m, loc: m.distributions.MultivariateNormal(loc, -m.eye(3).double()), loc)
    c.error(lambda m, loc: m.distributions.MultivariateNormal(
        loc, scale_tril=m.ones(3, 3).double()), loc)  # fmt: skip


@case("torch.distributions.LowRankMultivariateNormal")
def low_rank(c):
    def build(d, loc, w, diagonal):
        return d.LowRankMultivariateNormal(loc, w, diagonal)

    parameters = c.f64(2, 4), c.f64(2, 4, 2), c.f64(2, 4, low=0.5)
    described(c, build, *parameters)
    densities(c, build, c.f64(2, 4), *parameters, cdf=False)
    for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
        c(lambda m, *p, n=name: getattr(build(m.distributions, *p), n), *parameters)
    sampled(c, build, *parameters)
    c.error(lambda m, x, w, d: build(m.distributions, x, w, d[:, :3]), *parameters)
    c.error(lambda m, x, w, d: build(m.distributions, x, w[:, :3], d), *parameters)


@case("torch.distributions.Independent")
def independent(c):
    def build(d, loc, scale):
        return d.Independent(d.Normal(loc, scale), 1)

    loc, scale = c.f64(2, 3), c.f64(2, 3, low=0.5)
    described(c, build, loc, scale)
    densities(c, build, c.f64(2, 3), loc, scale, cdf=False)
    c.error(lambda m, *p: m.distributions.Independent(m.distributions.Normal(*p), 3), loc, scale)


@case("torch.distributions.TransformedDistribution", "torch.distributions.transforms")
def transformed(c, name):
    def build(d, loc, scale):
        maps = [d.AffineTransform(loc, -scale), d.TanhTransform()]
        return d.TransformedDistribution(d.Normal(loc, scale), maps)

    loc, scale = c.f64(4), c.f64(4, low=0.5, high=1)
    densities(c, build, c.f64(4, low=-0.5, high=0.5), loc, scale, icdf=True)
    c(lambda m, *p: shapes(build(m.distributions, *p)), loc, scale)
    for made in MAPS:
        c(lambda m, x, k=made: both_ways(MAPS[k](m.distributions), x), c.f64(3, 4, 4, low=0.1),
          rtol=1e-6)  # fmt: skip
        c(lambda m, k=made: facts(MAPS[k](m.distributions)))
    c.error(lambda m: m.distributions.TransformedDistribution(m.distributions.Normal(0.0, 1.0), 3))


MAPS = {
    "exp": lambda d: d.ExpTransform(),
    "power": lambda d: d.PowerTransform(2.5),
    "sigmoid": lambda d: d.SigmoidTransform(),
    "softplus": lambda d: d.SoftplusTransform(),
    "tanh": lambda d: d.TanhTransform(),
    "affine": lambda d: d.AffineTransform(0.5, -2.0),
    "affine of events": lambda d: d.AffineTransform(0.5, -2.0, event_dim=1),
    "composed": lambda d: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.ExpTransform()]),
    "nothing": lambda d: d.identity_transform,
    "independent": lambda d: d.IndependentTransform(d.ExpTransform(), 2),
    "reshaped": lambda d: d.ReshapeTransform((4, 4), (2, 8)),
    "stick": lambda d: d.StickBreakingTransform(),
    "cholesky": lambda d: d.LowerCholeskyTransform(),
    "definite": lambda d: d.PositiveDefiniteTransform(),
    "cat": lambda d: d.CatTransform([d.ExpTransform(), d.SigmoidTransform()], 1, [1, 3]),
    "stack": lambda d: d.StackTransform([d.ExpTransform(), d.TanhTransform(), d.ExpTransform()], 0),
    "cdf": lambda d: d.CumulativeDistributionTransform(d.Normal(0.0, 2.0)),
}
WITHOUT_JACOBIAN = ("LowerCholeskyTransform", "PositiveDefiniteTransform")


def both_ways(t, x):
    y = t(x)
    back = t.inv(y)
    found = [y, back, tuple(t.forward_shape(x.shape)), tuple(t.inverse_shape(y.shape))]
    if type(t).__name__ not in WITHOUT_JACOBIAN:
        found += [t.log_abs_det_jacobian(x, y), t.inv.log_abs_det_jacobian(y, x)]
    return found


def facts(t):
    named = [t.domain.event_dim, t.codomain.event_dim, t.bijective, t.inv.bijective]
    return [*named, t.inv.inv is t, t == t, repr(t)]
