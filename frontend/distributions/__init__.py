"""Probability distributions: samples, densities, entropies, divergences, with gradients."""

from braze.distributions import constraints, kl, transforms
from braze.distributions.bernoulli import Bernoulli
from braze.distributions.beta import Beta
from braze.distributions.binomial import Binomial
from braze.distributions.categorical import Categorical
from braze.distributions.cauchy import Cauchy
from braze.distributions.chi2 import Chi2
from braze.distributions.dirichlet import Dirichlet
from braze.distributions.distribution import Distribution
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.exponential import Exponential
from braze.distributions.fishersnedecor import FisherSnedecor
from braze.distributions.gamma import Gamma
from braze.distributions.geometric import Geometric
from braze.distributions.gumbel import Gumbel
from braze.distributions.half_cauchy import HalfCauchy
from braze.distributions.half_normal import HalfNormal
from braze.distributions.independent import Independent
from braze.distributions.inverse_gamma import InverseGamma
from braze.distributions.kl import kl_divergence, register_kl
from braze.distributions.kumaraswamy import Kumaraswamy
from braze.distributions.laplace import Laplace
from braze.distributions.log_normal import LogNormal
from braze.distributions.logistic_normal import LogisticNormal
from braze.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from braze.distributions.mixture_same_family import MixtureSameFamily
from braze.distributions.multinomial import Multinomial
from braze.distributions.multivariate_normal import MultivariateNormal
from braze.distributions.negative_binomial import NegativeBinomial
from braze.distributions.normal import Normal
from braze.distributions.one_hot_categorical import (
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from braze.distributions.pareto import Pareto
from braze.distributions.poisson import Poisson
from braze.distributions.relaxed_bernoulli import RelaxedBernoulli
from braze.distributions.relaxed_categorical import RelaxedOneHotCategorical
from braze.distributions.studentT import StudentT
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from braze.distributions.uniform import Uniform
from braze.distributions.weibull import Weibull

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "Bernoulli",
    "Beta",
    "Binomial",
    "CatTransform",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ComposeTransform",
    "CumulativeDistributionTransform",
    "Dirichlet",
    "Distribution",
    "ExpTransform",
    "Exponential",
    "ExponentialFamily",
    "FisherSnedecor",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Independent",
    "IndependentTransform",
    "InverseGamma",
    "Kumaraswamy",
    "Laplace",
    "LogNormal",
    "LogisticNormal",
    "LowRankMultivariateNormal",
    "LowerCholeskyTransform",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Pareto",
    "Poisson",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "StudentT",
    "TanhTransform",
    "Transform",
    "TransformedDistribution",
    "Uniform",
    "Weibull",
    "constraints",
    "identity_transform",
    "kl",
    "kl_divergence",
    "register_kl",
    "transforms",
]
