"""Cases of the base classes of distributions, of constraints, and of divergences."""

import numpy as np
from compare_cases import case


@case("torch.distributions.Distribution", "torch.distributions.ExponentialFamily")
def bases(c, name):
    c(lambda m: [tuple(getattr(m.distributions, name)(validate_args=False).batch_shape)])
    for method in ("sample", "rsample", "entropy", "enumerate_support"):
        c.error(lambda m, k=method: getattr(getattr(m.distributions, name)(
            validate_args=False), k)())  # fmt: skip
    c.error(lambda m: m.distributions.Distribution.set_default_validate_args(3))


@case("torch.distributions.constraints")
def constraints(c):
    plain = (
        "boolean nonnegative_integer positive_integer real positive nonnegative unit_interval "
        "simplex one_hot real_vector lower_triangular lower_cholesky corr_cholesky square "
        "symmetric positive_definite positive_semidefinite"
    ).split()
    values = [
        c.exactly(np.array([[0.6, 0.0], [0.4, 1.0]])), c.exactly(np.eye(2)), c.f64(2, 2),
        c.exactly(np.array([[2.0, 0.5], [0.5, 1.0]])),
        c.exactly(np.array([[1.0, 2.0], [2.0, 1.0]])),
    ]  # fmt: skip
    for name in plain:
        for value in values:
            c(lambda m, x, n=name: getattr(m.distributions.constraints, n).check(x), value,
              gradients=0, compiled=False)  # fmt: skip
        c(lambda m, n=name: facts_of(getattr(m.distributions.constraints, n)))
    for made in (
        lambda k: k.interval(-1.0, 0.5), lambda k: k.half_open_interval(-1.0, 0.5),
        lambda k: k.integer_interval(0, 2), lambda k: k.greater_than(0.3),
        lambda k: k.greater_than_eq(0.4), lambda k: k.less_than(0.6), lambda k: k.multinomial(2),
        lambda k: k.independent(k.positive, 1), lambda k: k.cat([k.real, k.positive], -1),
        lambda k: k.stack([k.real, k.positive], -1),
    ):  # fmt: skip
        for value in values:
            c(lambda m, x, k=made: k(m.distributions.constraints).check(x), value, gradients=0,
              compiled=False)  # fmt: skip
        c(lambda m, k=made: facts_of(k(m.distributions.constraints))[:2])
    c(lambda m: [m.distributions.constraints.is_dependent(m.distributions.constraints.dependent)])
    c.error(lambda m: m.distributions.constraints.dependent.check(m.tensor(1.0)))


def facts_of(constraint):
    return [constraint.is_discrete, constraint.event_dim, repr(constraint)]


KINDS = {
    "Bernoulli": lambda d, x: d.Bernoulli(x / 3),
    "Beta": lambda d, x: d.Beta(x, 2 * x),
    "Binomial": lambda d, x: d.Binomial(5, x / 3),
    "Categorical": lambda d, x: d.Categorical(x),
    "OneHotCategorical": lambda d, x: d.OneHotCategorical(x),
    "Cauchy": lambda d, x: d.Cauchy(x, x),
    "Dirichlet": lambda d, x: d.Dirichlet(x),
    "Exponential": lambda d, x: d.Exponential(x),
    "Gamma": lambda d, x: d.Gamma(x, 2 * x),
    "Geometric": lambda d, x: d.Geometric(x / 3),
    "Gumbel": lambda d, x: d.Gumbel(x, x),
    "HalfNormal": lambda d, x: d.HalfNormal(x),
    "Laplace": lambda d, x: d.Laplace(x, x),
    "LogNormal": lambda d, x: d.LogNormal(x, x),
    "Normal": lambda d, x: d.Normal(x, x),
    "Pareto": lambda d, x: d.Pareto(x, x),
    "Poisson": lambda d, x: d.Poisson(x),
    "Uniform": lambda d, x: d.Uniform(x - 1, x + 2),
    "Independent": lambda d, x: d.Independent(d.Normal(x, x), 1),
    "MultivariateNormal": lambda d, x: d.MultivariateNormal(x, x.diag_embed()),
    "LowRankMultivariateNormal": lambda d, x: d.LowRankMultivariateNormal(x, x[..., None], x),
}


@case("torch.distributions.kl_divergence")
def kl_divergence(c):
    x, y = c.f64(3, low=1, high=2), c.f64(3, low=1, high=2)
    for name in KINDS:
        c(lambda m, x, y, n=name: kl(m, n, n, x, y), x, y, compiled=False, rtol=1e-6)
    for p, q in (
        ("Beta", "Exponential"), ("Exponential", "Gamma"), ("Gamma", "Exponential"),
        ("Normal", "Laplace"), ("Laplace", "Normal"), ("Normal", "Gumbel"), ("Uniform", "Normal"),
        ("Uniform", "Exponential"), ("Normal", "Gamma"), ("Poisson", "Binomial"),
        ("MultivariateNormal", "LowRankMultivariateNormal"), ("Bernoulli", "Poisson"),
        ("LowRankMultivariateNormal", "MultivariateNormal"), ("Pareto", "Uniform"),
    ):  # fmt: skip
        c(lambda m, x, y, p=p, q=q: kl(m, p, q, x, y), x, y, compiled=False, rtol=1e-6)
    c.error(lambda m, x, y: kl(m, "Cauchy", "Normal", x, y), x, y)


def kl(m, p, q, x, y):
    return m.distributions.kl_divergence(KINDS[p](m.distributions, x), KINDS[q](m.distributions, y))


@case("torch.distributions.register_kl")
def register_kl(c):
    def own(m, x):
        class Mine(m.distributions.Normal):
            def expand(self, shape, _instance=None):
                return self

        @m.distributions.register_kl(Mine, Mine)
        def rule(p, q):
            return p.loc * 0 + 7

        normal = m.distributions.Normal(x, 1.0)
        return [
            m.distributions.kl_divergence(Mine(x, 1.0), Mine(x, 1.0)),
            m.distributions.kl_divergence(Mine(x, 1.0), normal),
        ]

    c(own, c.f64(3))
