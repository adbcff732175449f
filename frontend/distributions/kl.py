"""Kullback-Leibler divergences of pairs of distributions: `kl_divergence`, `register_kl`.

Formulas: M. Gil, "On Renyi divergence measures for continuous alphabet sources", 2011, and the
integrals of p log(p / q) where it has none.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import braze
from braze.distributions.bernoulli import Bernoulli
from braze.distributions.beta import Beta
from braze.distributions.binomial import Binomial
from braze.distributions.categorical import Categorical
from braze.distributions.cauchy import Cauchy
from braze.distributions.dirichlet import Dirichlet
from braze.distributions.distribution import Distribution
from braze.distributions.exp_family import ExponentialFamily
from braze.distributions.exponential import Exponential
from braze.distributions.gamma import Gamma
from braze.distributions.geometric import Geometric
from braze.distributions.gumbel import Gumbel
from braze.distributions.half_normal import HalfNormal
from braze.distributions.independent import Independent
from braze.distributions.laplace import Laplace
from braze.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from braze.distributions.multivariate_normal import (
    MultivariateNormal,
    half_log_det,
    mahalanobis,
    triangular_solve,
)
from braze.distributions.normal import Normal
from braze.distributions.one_hot_categorical import OneHotCategorical
from braze.distributions.pareto import Pareto
from braze.distributions.poisson import Poisson
from braze.distributions.transformed_distribution import TransformedDistribution
from braze.distributions.uniform import Uniform
from braze.distributions.utils import Values, euler_constant, sum_rightmost
from braze.nn.functional import softplus

Rule = Callable[[Any, Any], Values]
_RULES: dict[tuple[type, type], Rule] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Enter a function as the divergence of two kinds of distributions; a decorator.

    Raises:
        TypeError: these are no distributions.
    """
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def enter(rule: Rule) -> Rule:
        _RULES[type_p, type_q] = rule
        _rule_for.cache_clear()
        return rule

    return enter


@functools.cache
def _rule_for(type_p: Any, type_q: Any) -> Rule | None:
    """The rule of the nearest kinds: those of p first."""
    matches = [
        (type_p.__mro__.index(p), type_q.__mro__.index(q), rule)
        for (p, q), rule in _RULES.items()
        if issubclass(type_p, p) and issubclass(type_q, q)
    ]
    return min(matches, key=lambda match: match[:2])[2] if matches else None


def kl_divergence(p: Distribution, q: Distribution) -> Values:
    """The mean of log(p(x) / q(x)) over samples of p, for each distribution of the batch.

    Raises:
        NotImplementedError: there is no formula for these kinds.
    """
    kinds: tuple[Any, Any] = type(p), type(q)
    rule = _rule_for(*kinds)
    if rule is None:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type "
            f"{type(q).__name__}"
        )
    return rule(p, q)


def _infinite(p: Any, q: Any) -> Values:
    shape = braze.broadcast_shapes(p.batch_shape, q.batch_shape)
    return braze.full(shape, math.inf, dtype=p.mean.dtype)


# Of one kind --------------------------------------------------------------------------------------


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Values:
    one = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    one = braze.where(q.probs == 0, math.inf, one)
    one = braze.where(p.probs == 0, 0.0, one)
    zero = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    zero = braze.where(q.probs == 1, math.inf, zero)
    return one + braze.where(p.probs == 1, 0.0, zero)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Values:
    total_p = p.concentration1 + p.concentration0
    total_q = q.concentration1 + q.concentration0
    lgamma, digamma = braze.lgamma, braze.digamma
    t1 = lgamma(q.concentration1) + lgamma(q.concentration0) + lgamma(total_p)
    t2 = lgamma(p.concentration1) + lgamma(p.concentration0) + lgamma(total_q)
    t3 = (p.concentration1 - q.concentration1) * digamma(p.concentration1)
    t4 = (p.concentration0 - q.concentration0) * digamma(p.concentration0)
    return t1 - t2 + t3 + t4 + (total_q - total_p) * digamma(total_p)


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Values:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError(
            "KL between Binomials where q.total_count > p.total_count is not implemented"
        )
    odds = p.logits - q.logits
    result = p.total_count * (p.probs * odds + (-p.probs).log1p() - (-q.probs).log1p())
    return braze.where(p.total_count > q.total_count, math.inf, result)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Values:
    terms = p.probs * (p.logits - q.logits)
    terms = braze.where(q.probs == 0, math.inf, terms)
    return braze.where(p.probs == 0, 0.0, terms).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Values:
    return _categorical(p._categorical, q._categorical)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Values:
    above = (p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2
    return above.log() - (4 * p.scale * q.scale).log()


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Values:
    total_p, total_q = p.concentration.sum(-1), q.concentration.sum(-1)
    volume = braze.lgamma(total_p) - braze.lgamma(total_q)
    terms = braze.lgamma(p.concentration) - braze.lgamma(q.concentration)
    slope = braze.digamma(p.concentration) - braze.digamma(total_p).unsqueeze(-1)
    return volume - terms.sum(-1) + ((p.concentration - q.concentration) * slope).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Values:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(ExponentialFamily, ExponentialFamily)
def _families(p: Any, q: Any) -> Values:
    """By the log-normaliser's Bregman divergence."""
    if type(p) is not type(q):
        raise NotImplementedError(
            f"The cross KL-divergence between {type(p).__name__} and {type(q).__name__} cannot be "
            "computed"
        )
    own = [x.detach().requires_grad_() for x in p._natural_params]
    normalizer = p._log_normalizer(*own)
    gradients = braze.autograd.grad(normalizer.sum(), own, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - normalizer
    for a, b, gradient in zip(own, q._natural_params, gradients, strict=True):
        result = result - sum_rightmost((b - a) * gradient, len(q.event_shape))
    return result


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Values:
    a, b = p.concentration, q.concentration
    t1 = b * (p.rate / q.rate).log() + braze.lgamma(b) - braze.lgamma(a)
    return t1 + (a - b) * braze.digamma(a) + (q.rate - p.rate) * (a / p.rate)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Values:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Values:
    ratio = p.scale / q.scale
    loc_p, loc_q = p.loc / q.scale, q.loc / q.scale
    t1 = -ratio.log() - loc_q + loc_p
    t3 = (loc_q + braze.lgamma(1 + ratio) - loc_p).exp()
    return t1 + ratio * euler_constant + t3 - (1 + euler_constant)


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Values:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Values:
    ratio = p.scale / q.scale
    away = (p.loc - q.loc).abs()
    return -ratio.log() + away / q.scale + ratio * (-away / p.scale).exp() - 1


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Values:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Values:
    scales, alphas = p.scale / q.scale, q.alpha / p.alpha
    result = q.alpha * scales.log() - alphas.log() + alphas - 1
    return braze.where(p.scale < q.scale, math.inf, result)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Values:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Values:
    result = ((q.high - q.low) / (p.high - p.low)).log()
    return braze.where((q.low > p.low) | (q.high < p.high), math.inf, result)


# Multivariate normal ------------------------------------------------------------------------------


def _normals(p: Any, q: Any) -> Values:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two multivariate normals with different event shapes cannot be "
            "computed"
        )
    lower_p, lower_q = p.scale_tril, q.scale_tril
    batch = braze.broadcast_shapes(lower_q.shape[:-2], lower_p.shape[:-2])
    n = p.event_shape[0]
    pair = [x.expand((*batch, n, n)) for x in (lower_q, lower_p)]
    trace = (triangular_solve(*pair) ** 2).sum((-2, -1))
    logs = half_log_det(lower_q) - half_log_det(lower_p)
    return logs + 0.5 * (trace + mahalanobis(lower_q, q.loc - p.loc) - n)


_NORMALS = (MultivariateNormal, LowRankMultivariateNormal)
for _first, _second in itertools.product(_NORMALS, _NORMALS):
    register_kl(_first, _second)(_normals)


# Of distributions made of others ------------------------------------------------------------------


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Values:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("the two have different transforms")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Values:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("the two have different numbers of reinterpreted dimensions")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


# Of two kinds -------------------------------------------------------------------------------------


@register_kl(Beta, Exponential)
def _beta_exponential(p: Any, q: Any) -> Values:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Values:
    ratio, a = q.rate / p.rate, q.concentration
    return -a * ratio.log() + ratio + braze.lgamma(a) + a * euler_constant - (1 + euler_constant)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Any, q: Any) -> Values:
    return -p.entropy() - q.rate.log() + q.rate * p.concentration / p.rate


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Values:
    away = p.loc - q.loc
    scaled = away / p.scale
    near = math.sqrt(2 / math.pi) * p.scale * (-0.5 * scaled**2).exp()
    far = away * braze.erf(math.sqrt(0.5) * scaled)
    return -p.entropy() + (2 * q.scale).log() + (near + far) / q.scale


@register_kl(Laplace, Normal)
def _laplace_normal(p: Any, q: Any) -> Values:
    squared = q.scale**2
    t1 = 0.5 * (2 * squared / p.scale**2 * math.pi).log()
    return t1 + (p.scale**2 + 0.5 * (p.loc - q.loc) ** 2) / squared - math.log(2) - 1


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Values:
    ratio = p.loc / q.scale
    moved = q.loc / q.scale
    t1 = (p.scale / q.scale * math.sqrt(2 * math.pi)).log()
    return -t1 + ratio - moved + (-ratio + 0.5 * (p.scale / q.scale) ** 2 + moved).exp() - 0.5


@register_kl(Uniform, Normal)
def _uniform_normal(p: Any, q: Any) -> Values:
    width = p.high - p.low
    squares = width**2 / 12 + ((p.high + p.low - 2 * q.loc) / 2) ** 2
    return (q.scale * math.sqrt(2 * math.pi) / width).log() + 0.5 * squares / q.scale**2


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Values:
    result = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return braze.where(p.low < 0, math.inf, result)


# The first has values that the second has not.
_WIDER: dict[type[Distribution], tuple[type[Distribution], ...]] = {
    Exponential: (Beta, Pareto, Uniform),
    Gamma: (Beta, Pareto, Uniform),
    Gumbel: (Beta, Exponential, Gamma, Pareto, Uniform),
    Laplace: (Beta, Exponential, Gamma, Pareto, Uniform),
    Normal: (Beta, Exponential, Gamma, Pareto, Uniform),
    Pareto: (Beta, Uniform),
    Poisson: (Bernoulli, Binomial),
}
for _wide, _narrow in ((p, q) for p, kinds in _WIDER.items() for q in kinds):
    register_kl(_wide, _narrow)(_infinite)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Values:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)
