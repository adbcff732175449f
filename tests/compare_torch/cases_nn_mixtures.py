"""Cases of distributions that later versions of PyTorch have."""

from cases_nn_distributions import densities, described, refused, sampled, shapes
from compare_cases import case


@case("torch.distributions.InverseGamma", "torch.distributions.Kumaraswamy")
def of_two_shapes(c, name):
    def build(d, a, b):
        return getattr(d, name)(a, b)

    a, b = c.f64(4, low=2.5, high=5), c.f64(4, low=1.1, high=4)
    # PyTorch takes the logarithm of a negative number for Kumaraswamy's mode.
    described(c, build, a, b, without=("mode",) if name == "Kumaraswamy" else ())
    densities(c, build, c.f64(4, low=0.1, high=0.9), a, b, cdf=True, icdf=name == "Kumaraswamy")
    sampled(c, build, a, b)
    refused(c, build, c.exactly([1.0, -1.0]), c.exactly([1.0, 1.0]))


@case("torch.distributions.LogisticNormal")
def logistic_normal(c):
    def build(d, loc, scale):
        return d.LogisticNormal(loc, scale)

    loc, scale = c.f64(2, 2), c.f64(2, 2, low=0.5)
    densities(c, build, c.exactly([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]), loc, scale, cdf=False)
    sampled(c, build, loc, scale)
    c(lambda m, *p: shapes(build(m.distributions, *p)), loc, scale)


@case("torch.distributions.MixtureSameFamily")
def mixture(c):
    def build(d, x, loc, scale):
        return d.MixtureSameFamily(d.Categorical(logits=x), d.Normal(loc, scale))

    def of_vectors(d, x, loc, scale):
        parts = d.Independent(d.Normal(loc, scale), 1)
        return d.MixtureSameFamily(d.Categorical(logits=x), parts)

    parameters = c.f64(2, 3), c.f64(2, 3), c.f64(2, 3, low=0.5)
    vectors = c.f64(2, 3), c.f64(2, 3, 4), c.f64(2, 3, 4, low=0.5)
    skip = ("mode", "entropy", "perplexity")
    described(c, build, *parameters, skip=skip)
    described(c, of_vectors, *vectors, skip=skip)
    densities(c, build, c.f64(5, 2), *parameters)
    densities(c, of_vectors, c.f64(2, 4), *vectors, cdf=False)
    sampled(c, build, *parameters, gradients=False)
    sampled(c, of_vectors, *vectors, gradients=False)
    c.error(lambda m, x, *p: m.distributions.MixtureSameFamily(x, x), *parameters)
    c.error(lambda m, x, loc, s: build(m.distributions, x[:, :2], loc, s), *parameters)
    c.error(lambda m, x, loc, s: build(m.distributions, x.tile(2, 1, 1).tile(1, 2, 1), loc, s),
            *parameters)  # fmt: skip
