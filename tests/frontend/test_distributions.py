"""Distributions against SciPy: densities, moments, entropies, samples; checks and divergences."""

import numpy as np
import pytest
import scipy.special as special
import scipy.stats as st

import braze
from braze import distributions as D
from braze.distributions import constraints
from braze.distributions.utils import require
from braze.functions.sampling import _standard_gamma


@pytest.fixture(autouse=True)
def interpret():
    with braze.config.using(tier="interpret"):
        braze.manual_seed(3)
        yield
        braze.sync()


def t(*values):
    return braze.tensor(values, dtype=braze.float64)


A, B = np.array([0.7, 1.5, 4.0]), np.array([2.0, 0.8, 3.0])
X = np.array([0.3, 0.55, 0.9])
K = np.array([0.0, 2.0, 1.0])
P = np.array([0.2, 0.5, 0.7])
a, b, p = t(*A), t(*B), t(*P)

# Ours, SciPy's, and where the density is compared.
FAMILIES = {
    "Normal": (lambda: D.Normal(a, b), st.norm(A, B), X),
    "Laplace": (lambda: D.Laplace(a, b), st.laplace(A, B), X),
    "Cauchy": (lambda: D.Cauchy(a, b), st.cauchy(A, B), X),
    "Uniform": (lambda: D.Uniform(0 * a, a + 1), st.uniform(0, A + 1), X),
    "Exponential": (lambda: D.Exponential(a), st.expon(scale=1 / A), X),
    "HalfNormal": (lambda: D.HalfNormal(b), st.halfnorm(scale=B), X),
    "HalfCauchy": (lambda: D.HalfCauchy(b), st.halfcauchy(scale=B), X),
    "Gamma": (lambda: D.Gamma(a, b), st.gamma(A, scale=1 / B), X),
    "Chi2": (lambda: D.Chi2(b), st.chi2(B), X),
    "Beta": (lambda: D.Beta(a, b), st.beta(A, B), X),
    "StudentT": (lambda: D.StudentT(a + 3, a, b), st.t(A + 3, A, B), X),
    "FisherSnedecor": (lambda: D.FisherSnedecor(a + 3, b + 5), st.f(A + 3, B + 5), X),
    "LogNormal": (lambda: D.LogNormal(a, b / 4), st.lognorm(B / 4, scale=np.exp(A)), X),
    "Gumbel": (lambda: D.Gumbel(a, b), st.gumbel_r(A, B), X),
    "Weibull": (lambda: D.Weibull(a, b), st.weibull_min(B, scale=A), X),
    "Pareto": (lambda: D.Pareto(a, b + 3), st.pareto(B + 3, scale=A), X + 4),
    "Bernoulli": (lambda: D.Bernoulli(p), st.bernoulli(P), np.array([0.0, 1.0, 1.0])),
    "Geometric": (lambda: D.Geometric(p), st.geom(P, loc=-1), K),
    "Binomial": (lambda: D.Binomial(5, p), st.binom(5, P), K),
    "NegativeBinomial": (lambda: D.NegativeBinomial(b, p), st.nbinom(B, 1 - P), K),
    "Poisson": (lambda: D.Poisson(b), st.poisson(B), K),
}
DISCRETE = {"Bernoulli", "Geometric", "Binomial", "NegativeBinomial", "Poisson"}
WITHOUT_MOMENTS = {"Cauchy", "HalfCauchy"}
WITHOUT_DIVERGENCE = {"StudentT", "NegativeBinomial", "FisherSnedecor", "HalfCauchy"}
WITHOUT_ENTROPY = {"FisherSnedecor", "NegativeBinomial", "Poisson"}


@pytest.mark.parametrize("name", FAMILIES)
def test_density_and_moments(name):
    build, theirs, where = FAMILIES[name]
    ours = build()
    wanted = theirs.logpmf(where) if name in DISCRETE else theirs.logpdf(where)
    np.testing.assert_allclose(ours.log_prob(t(*where)).numpy(), wanted, rtol=1e-7, atol=1e-9)
    if name not in WITHOUT_MOMENTS:
        np.testing.assert_allclose(ours.mean.numpy(), theirs.mean(), rtol=1e-7)
        np.testing.assert_allclose(ours.variance.numpy(), theirs.var(), rtol=1e-7)
    if name not in WITHOUT_ENTROPY:
        np.testing.assert_allclose(ours.entropy().numpy(), theirs.entropy(), rtol=1e-6, atol=1e-9)
    try:
        cdf = ours.cdf(t(*where))
    except NotImplementedError:
        return
    np.testing.assert_allclose(cdf.numpy(), theirs.cdf(where), rtol=1e-7, atol=1e-12)
    try:
        back = ours.icdf(cdf)
    except NotImplementedError:
        return
    some = np.abs(cdf.numpy() - 0.5) < 0.499
    np.testing.assert_allclose(back.numpy()[some], where[some], rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_samples(name):
    build, theirs, _ = FAMILIES[name]
    drawn = build().sample((4000,)).numpy()
    for i in range(3):
        if name in DISCRETE:
            values, counts = np.unique(drawn[:, i], return_counts=True)
            chance = theirs.pmf(np.broadcast_to(values[:, None], (len(values), 3)))[:, i]
            assert np.abs(counts / 4000 - chance).max() < 0.04
        else:
            column = drawn[:, i]
            points = np.quantile(column, np.linspace(0.05, 0.95, 19))
            wide = np.broadcast_to(points[:, None], (19, 3))
            found = theirs.cdf(wide)[:, i]
            np.testing.assert_allclose(found, np.linspace(0.05, 0.95, 19), atol=0.04)


def test_gradients_of_gamma_numbers_keep_their_quantile():
    shapes = np.array([0.05, 0.4, 1.0, 3.0, 40.0, 900.0])
    x = braze.tensor(np.repeat(shapes, 20)).requires_grad_()
    for tier in ("interpret", "compile"):
        x.grad = None
        with braze.config.using(tier=tier):
            y = _standard_gamma(x)
            y.sum().backward()
        alpha, drawn = x.detach().numpy(), y.detach().numpy()
        seen = drawn > 1e-35
        q = special.gammainc(alpha, drawn)
        seen &= (q > 1e-6) & (q < 1 - 1e-6)
        h = 1e-5 * alpha
        slope = (special.gammaincinv(alpha + h, q) - special.gammaincinv(alpha - h, q)) / (2 * h)
        np.testing.assert_allclose(x.grad.numpy()[seen], slope[seen], rtol=2e-4)


def test_reparameterised_samples_train():
    loc, scale = t(0.5).requires_grad_(), t(1.5).requires_grad_()
    with braze.config.using(tier="compile"):
        drawn = D.Normal(loc, scale).rsample((20000,))
        (drawn**2).mean().backward()
    assert loc.grad.item() == pytest.approx(2 * 0.5, abs=0.1)  # of loc ** 2 + scale ** 2
    assert scale.grad.item() == pytest.approx(2 * 1.5, abs=0.15)
    logits = t(0.1, 0.4, -0.2).requires_grad_()
    D.Categorical(logits=logits).log_prob(braze.tensor(1)).backward()
    soft = np.exp([0.1, 0.4, -0.2]) / np.exp([0.1, 0.4, -0.2]).sum()
    np.testing.assert_allclose(logits.grad.numpy(), np.eye(3)[1] - soft, rtol=1e-12)


def test_vectors():
    root = np.random.default_rng(0).normal(size=(3, 3))
    cov = root @ root.T + np.eye(3)
    value = t(0.1, -0.3, 0.7)
    for key, matrix in (
        ("covariance_matrix", cov),
        ("precision_matrix", np.linalg.inv(cov)),
        ("scale_tril", np.linalg.cholesky(cov)),
    ):
        d = D.MultivariateNormal(a, **{key: braze.tensor(matrix)})
        wanted = st.multivariate_normal(A, cov)
        assert d.log_prob(value).item() == pytest.approx(wanted.logpdf(value.numpy()))
        assert d.entropy().item() == pytest.approx(wanted.entropy())
        np.testing.assert_allclose(d.covariance_matrix.numpy(), cov, rtol=1e-9)
    low = D.LowRankMultivariateNormal(a, braze.tensor(root[:, :2].copy()), b)
    wanted = st.multivariate_normal(A, root[:, :2] @ root[:, :2].T + np.diag(B))
    assert low.log_prob(value).item() == pytest.approx(wanted.logpdf(value.numpy()))
    assert np.cov(low.sample((20000,)).numpy().T) == pytest.approx(wanted.cov, abs=0.3)
    dirichlet = D.Dirichlet(a)
    assert dirichlet.log_prob(t(0.2, 0.3, 0.5)).item() == pytest.approx(
        st.dirichlet(A).logpdf([0.2, 0.3, 0.5])
    )
    counts = D.Multinomial(6, p / p.sum())
    assert counts.log_prob(t(1, 2, 3)).item() == pytest.approx(
        st.multinomial(6, P / P.sum()).logpmf([1, 2, 3])
    )
    assert counts.entropy().item() == pytest.approx(st.multinomial(6, P / P.sum()).entropy())
    assert counts.sample((7,)).sum(-1).tolist() == [6] * 7


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WITHOUT_DIVERGENCE])
def test_divergences_are_mean_log_ratios(name):
    build, _, _ = FAMILIES[name]
    one, two = build(), build()
    np.testing.assert_allclose(D.kl_divergence(one, two).numpy(), 0, atol=1e-9)
    other = {
        "Normal": lambda: D.Normal(a + 1, b * 2), "Laplace": lambda: D.Laplace(a + 1, b * 2),
        "Gamma": lambda: D.Gamma(a + 1, b * 2), "Gumbel": lambda: D.Gumbel(a + 1, b * 2),
        "Beta": lambda: D.Beta(a + 1, b * 2), "Poisson": lambda: D.Poisson(b * 2),
        "Exponential": lambda: D.Exponential(a * 2), "Geometric": lambda: D.Geometric(p / 2),
    }.get(name)  # fmt: skip
    if other is not None:
        drawn = one.sample((6000,))
        estimate = (one.log_prob(drawn) - other().log_prob(drawn)).mean(0)
        exact = D.kl_divergence(one, other())
        np.testing.assert_allclose(exact.numpy(), estimate.numpy(), rtol=0.12, atol=0.06)


def test_transforms_and_what_is_made_of_them():
    x = braze.tensor(np.random.default_rng(1).normal(size=(2, 4))).requires_grad_()
    stick = D.StickBreakingTransform()
    y = stick(x)
    np.testing.assert_allclose(y.sum(-1).detach().numpy(), 1)
    np.testing.assert_allclose(stick.inv(y).detach().numpy(), x.detach().numpy(), rtol=1e-9)
    row = x.detach()[0]
    jacobian = braze.autograd.functional.jacobian(lambda r: stick(r)[:-1], row)
    _, wanted = np.linalg.slogdet(jacobian.numpy())
    assert stick.log_abs_det_jacobian(row, stick(row)).item() == pytest.approx(wanted)
    for made in (D.ExpTransform(), D.TanhTransform(), D.AffineTransform(0.5, -2.0)):
        image = made(x)
        (slope,) = braze.autograd.grad(image.sum(), x)
        found = made.log_abs_det_jacobian(x, image).detach().numpy()
        np.testing.assert_allclose(found, np.log(np.abs(slope.numpy())), rtol=1e-7, atol=1e-12)
    tanh = D.TransformedDistribution(D.Normal(a, b), [D.TanhTransform(cache_size=1)])
    drawn = tanh.rsample()
    assert tanh.log_prob(drawn).isfinite().all()
    assert D.Independent(D.Normal(a, b), 1).log_prob(t(0, 0, 0)).shape == ()


def test_later_families():
    mixture = D.MixtureSameFamily(D.Categorical(p / p.sum()), D.Normal(a, b))
    density = (P / P.sum() * st.norm(A, B).pdf(0.4)).sum()
    assert mixture.log_prob(t(0.4).reshape(())).item() == pytest.approx(np.log(density))
    drawn = mixture.sample((4000,)).numpy()
    assert drawn.mean() == pytest.approx(mixture.mean.item(), abs=0.2)
    inverse = D.InverseGamma(a + 2, b)
    np.testing.assert_allclose(inverse.log_prob(t(*X)), st.invgamma(A + 2, scale=B).logpdf(X))
    np.testing.assert_allclose(inverse.entropy(), st.invgamma(A + 2, scale=B).entropy())
    curve = D.Kumaraswamy(a + 1, b + 1)
    grid = np.linspace(1e-4, 1 - 1e-4, 20001)
    heights = curve.log_prob(braze.tensor(grid[:, None])).numpy()
    np.testing.assert_allclose(curve.mode, grid[heights.argmax(0)], atol=1e-4)
    np.testing.assert_allclose(np.exp(heights).mean(0), 1, rtol=1e-3)
    simplex = D.LogisticNormal(t(0.1, 0.2), t(1.0, 2.0)).sample((5,))
    np.testing.assert_allclose(simplex.sum(-1), 1, rtol=1e-12)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="Expected parameter scale .* GreaterThan.lower_bound=0"):
        D.Normal(0.0, -1.0)
    with pytest.raises(ValueError, match="within the support .* of the distribution Beta"):
        D.Beta(a, b).log_prob(t(2.0, 0.5, 0.5))
    with pytest.raises(ValueError, match="low>= high"):
        D.Uniform(a, a)
    with pytest.raises(ValueError, match="Either `probs` or `logits`"):
        D.Bernoulli()
    with pytest.raises(ValueError, match="right-most size"):
        D.Dirichlet(a).log_prob(t(0.5, 0.5))
    assert D.Normal(0.0, -1.0, validate_args=False).stddev.item() == -1
    assert repr(D.Normal(0.5, 2.0)) == "Normal(loc: 0.5, scale: 2.0)"
    assert constraints.simplex.check(t(0.2, 0.8)).item()


def test_what_is_not_in_memory_yet_is_checked_by_its_program():
    before = braze.stats.interpreted
    scale = a - 10  # pending
    d = D.Normal(b * 1.0, scale)
    assert braze.stats.interpreted == before
    with pytest.raises(
        ValueError, match=r"(?s)Expected parameter scale .*test_distributions.py:\d+: d = D.Normal"
    ):
        d.sample().numpy()


def test_checks_of_categories_name_the_users_line():
    weights = b * 1.0  # pending
    with pytest.raises(ValueError, match=r"(?s)parameter probs .*Simplex.*: D.Categorical"):
        D.Categorical(weights * float("nan")).sample().numpy()
    drawn = D.Categorical(weights)
    with pytest.raises(ValueError, match=r"(?s)support .*upper_bound=2.*: drawn.log_prob"):
        drawn.log_prob(t(1, 3, 0) * 1).numpy()
    unchecked = D.Categorical(weights, validate_args=False)
    with pytest.raises(RuntimeError, match=r"(?s)index 3 is out of range.*: unchecked.log_prob"):
        unchecked.log_prob(t(1, 3, 0) * 1).numpy()
    with pytest.raises(RuntimeError, match=r"(?s)element < 0.*: D.Categorical"):
        D.Categorical(weights - 2, validate_args=False).sample().numpy()


def test_a_choice_captures_few_operations():
    """It is made for one state at a time, so what it costs is capturing it."""
    logits = braze.zeros(4, requires_grad=True)
    braze.sync()
    before = braze.stats.captured_ops
    choice = D.Categorical(logits.softmax(0))
    action = choice.sample()
    choice.log_prob(action).backward()
    action.item()
    assert braze.stats.captured_ops - before <= 8 + 8  # there and back


def test_a_constraint_is_checked_by_one_operation():
    given, whole = b * 1.0, b.long() * 1
    braze.sync()
    for constraint, value in [
        (constraints.positive, given), (constraints.nonnegative, given),
        (constraints.less_than(9.0), given), (constraints.interval(0.0, 9.0), given),
        (constraints.half_open_interval(0, 9), given), (constraints.real_vector, given),
        (constraints.simplex, given / given.sum()), (constraints.integer_interval(0, 9), whole),
        (constraints.nonnegative_integer, whole), (constraints.real, whole > 0),
    ]:  # fmt: skip
        braze.sync()
        assert constraint.check(value).all()
        braze.sync()
        before = braze.stats.captured_ops
        constraint.demand(value, "demand!!the constraint does not hold")
        braze.sync()
        assert braze.stats.captured_ops - before <= 1 + 2 * (value.dtype is braze.bool)
    with pytest.raises(ValueError, match="does not hold"):
        constraints.greater_than(given).demand(given, "demand!!the constraint does not hold")
        braze.sync()


def test_what_is_demanded_belongs_to_the_bounds_the_type_and_the_name():
    def demand(bounds, value, constraint=constraints.interval):
        require(constraint(*bounds), value * 1, "{what} ({given}): {constraint}", "Mine", "part")
        braze.sync()

    whole = braze.tensor([3])
    for _ in range(2):
        demand((0.0, 9.0), b)
        demand((0, 9), whole)
        with pytest.raises(ValueError, match=r"Interval\(lower_bound=0.0, upper_bound=0.1\)"):
            demand((0.0, 0.1), b)
        with pytest.raises(ValueError, match=r"Interval\(lower_bound=0, upper_bound=2\)"):
            demand((0, 2), whole)
        with pytest.raises(ValueError, match=r"shape \(1,\).*IntegerInterval"):
            demand((0, 2), whole, constraints.integer_interval)
        with pytest.raises(ValueError, match=r"GreaterThan\(lower_bound=f64\[3\]\)"):
            demand((b + 1.0,), b, constraints.greater_than)
        with pytest.raises(ValueError, match="Stack"):
            demand(([constraints.real, constraints.less_than(0.0)],), b[:2], constraints.stack)


def test_a_constraint_of_the_users_own_is_demanded_each_time():
    class Below(constraints.Constraint):
        most = 9.0

        def check(self, value):
            return value < self.most

    for most, fits in ((9.0, True), (0.1, False), (9.0, True)):
        Below.most = most
        require(Below(), b * 1.0, "{what}", "Mine", "part")
        if fits:
            braze.sync()
        else:
            with pytest.raises(ValueError, match="part"):
                braze.sync()


def test_single_choices_and_batches_of_them():
    weights = braze.tensor([0.0, 1.0, 0.0], requires_grad=True)
    for sample_shape, shape in (((), ()), (braze.Size(), ()), ([], ()), ((4,), (4,)), ((0,), (0,))):
        drawn = D.Categorical(weights).sample(sample_shape)
        assert drawn.shape == shape and drawn.dtype is braze.int64 and not drawn.requires_grad
        assert drawn.tolist() == np.full(shape, 1).tolist()
    batch = D.Categorical(logits=braze.stack([weights * 100.0] * 4).reshape(2, 2, 3))
    assert batch.sample().tolist() == [[1, 1], [1, 1]] and batch.sample((5,)).shape == (5, 2, 2)
    choice = D.Categorical(braze.tensor([0.25, 0.75]))
    assert choice.log_prob(braze.tensor(1, dtype=braze.int32)).item() == pytest.approx(np.log(0.75))
    with pytest.raises(TypeError):
        choice.sample(0)


def test_listed_values_and_expanded_batches():
    assert D.Bernoulli(p).enumerate_support().tolist() == [[0, 0, 0], [1, 1, 1]]
    assert D.Categorical(p / p.sum()).expand((2,)).sample((4,)).shape == (4, 2)
    one_hot = D.OneHotCategoricalStraightThrough(p / p.sum())
    assert one_hot.enumerate_support().tolist() == np.eye(3).tolist()
    assert one_hot.rsample((5,)).sum(-1).tolist() == pytest.approx([1] * 5)
    assert D.Normal(a, b).expand((2, 3)).log_prob(t(0, 0, 0)).shape == (2, 3)
    assert D.Categorical(p / p.sum()).perplexity().item() == pytest.approx(
        np.exp(st.entropy(P / P.sum()))
    )


@pytest.mark.parametrize("n", [8, 32, 33])
def test_a_drawing_kernel_checks_its_own_elements_alone(n):
    """Draws are made in blocks; lanes behind the last element have no parameter to check."""
    with braze.config.using(tier="compile"):
        good = braze.tensor([1.0] * n) * 2.0
        assert len(D.Normal(0.0, good).rsample().tolist()) == n
        bad = braze.tensor([1.0] * (n - 1) + [-1.0]) * 2.0
        with pytest.raises(ValueError, match="parameter scale"):
            D.Normal(0.0, bad).rsample().tolist()


def test_a_check_that_waits_reads_no_bound_and_is_one_program():
    x, high = braze.tensor([0.5, 0.25]), braze.tensor([1.0, 2.0])
    low = braze.zeros(2)
    braze.sync()
    compiled = []
    with braze.config.using(tier="compile"):
        for step in range(3):
            pending = (x * 1.0, high + float(step))
            braze.stats.reset()
            values = D.Uniform(low, pending[1]).log_prob(pending[0])
            assert braze.stats.native_calls == 0
            values.tolist()
            compiled.append(braze.stats.compiles + braze.stats.disk_hits)
        assert compiled[1:] == [0, 0]
        with pytest.raises(ValueError, match=r"upper_bound=f32\[2\]"):
            D.Uniform(low, high * 1.0).log_prob(x * 9.0).tolist()
