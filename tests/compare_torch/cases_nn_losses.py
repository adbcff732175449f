"""Cases of losses of differences, of probabilities and of classes."""

import warnings

from compare_cases import FLOATS, case
from compare_modules import functional, module

KINDS = ("none", "mean", "sum")


def reductions(c, name, *inputs, gradients=1, **options):
    """With each reduction, by name and by the early booleans."""
    for kind in KINDS:
        c(functional(name, reduction=kind, **options), *inputs, gradients=gradients)
    for size_average in (None, True, False):
        for reduce in (None, True, False):
            flags = {"size_average": size_average, "reduce": reduce}
            c(functional(name, **flags, **options), *inputs, compiled=False)
    c.error(functional(name, reduction="most", **options), *inputs)
    if name not in ("poisson_nll_loss", "multilabel_soft_margin_loss"):
        c(functional(name, reduction="elementwise_mean", **options), *inputs, compiled=False)


def modules(c, name, *inputs, **settings):
    """The module with each reduction, and what it says of the early booleans."""
    for kind in KINDS:
        module(c, lambda nn, k=kind: getattr(nn, name)(reduction=k, **settings), *inputs)
    c(lambda m: repr(getattr(m.nn, name)(**settings)))
    c(lambda m, *x: getattr(m.nn, name)(reduction="most", **settings).reduction)
    c.error(lambda m, *x: getattr(m.nn, name)(reduction="most", **settings)(*x), *inputs)


def early(c, name):
    """What the early booleans come to, and what is said of them."""
    for average, reduce in ((False, None), (None, False), (True, True), (None, True)):
        flags = {"size_average": average, "reduce": reduce}
        c(lambda m, f=flags: said(lambda: getattr(m.nn, name)(**f).reduction))


def said(call):
    """The result and the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [(w.category.__name__, str(w.message)[:20]) for w in caught]


# Differences --------------------------------------------------------------------------------------


@case(
    "torch.nn.functional.l1_loss",
    "torch.nn.functional.mse_loss",
    "torch.nn.functional.smooth_l1_loss",
)
def differences(c, name):
    reductions(c, name, c.f64(3, 4), c.f64(3, 4), gradients=2)
    c(functional(name), c.f64(3, 4), c.f64(4))
    c(functional(name), c.f64(0, 4), c.f64(0, 4))
    c(functional(name), c.f64(), c.f64())
    c(functional(name), c.f64(4, 3).seen("transposed"), c.f64(4, 3))
    for kind in KINDS:
        c.pairs(functional(name, reduction=kind), (3, 4), (3, 4))
    c(lambda m, x, y: said(lambda: functional(name)(m, x, y))[1], c.f32(2, 3), c.f32(3))
    c.error(functional(name), c.f64(3), c.f64(4))


@case("torch.nn.functional.l1_loss", "torch.nn.functional.mse_loss")
def weighted(c, name):
    weight = c.f64(3, 4, low=0.1).constant()
    for kind in KINDS:
        c(lambda m, x, y, w, k=kind: functional(name, reduction=k, weight=w)(m, x, y),
          c.f64(3, 4), c.f64(3, 4), weight)  # fmt: skip
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), c.f64(3), c.f64(3), weight)


@case("torch.nn.functional.l1_loss", "torch.nn.functional.mse_loss")
def complex_differences(c, name):
    parts = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    for kind in KINDS:
        c.either(lambda m, x, y, z, k=kind: functional(name, reduction=k)(m, m.complex(x, y), z),
                 *parts, gradients=1)  # fmt: skip
    x, y = parts[:2]
    c.either(lambda m, x, y: functional(name)(m, m.complex(x, y), m.complex(y, x)), x, y)


@case("torch.nn.functional.smooth_l1_loss")
def smooth(c):
    for beta in (0.5, 2, 0):
        c(functional("smooth_l1_loss", beta=beta), c.f64(3, 4), c.f64(3, 4), gradients=2)
    c.error(functional("smooth_l1_loss", beta=-1.0), c.f64(3), c.f64(3))


@case("torch.nn.functional.huber_loss")
def huber(c):
    name = "huber_loss"
    for kind in KINDS:
        c(functional(name, reduction=kind, delta=0.7), c.f64(3, 4), c.f64(3, 4), gradients=2)
        c(lambda m, x, y, w, k=kind: functional(name, k, 2.0, w)(m, x, y),
          c.f64(3, 4), c.f64(3, 4), c.f64(3, 4).constant())  # fmt: skip
        c.pairs(functional(name, reduction=kind), (3, 4), (3, 4))
    c(functional(name), c.f64(3, 4), c.f64(4))
    c.error(functional(name, delta=0.0), c.f64(3), c.f64(3))
    c.error(functional(name, reduction="most"), c.f64(3), c.f64(3))


@case("torch.nn.L1Loss", "torch.nn.MSELoss", "torch.nn.SmoothL1Loss")
def difference_modules(c, name):
    modules(c, name, c.f64(3, 4), c.f64(3, 4))
    early(c, name)


@case("torch.nn.HuberLoss")
def huber_module(c):
    modules(c, "HuberLoss", c.f64(3, 4), c.f64(3, 4), delta=0.5)
    c.error(lambda m: m.nn.HuberLoss(delta="1"))
    c.error(lambda m, x, y: m.nn.HuberLoss(delta=-1.0)(x, y), c.f64(3), c.f64(3))


# Classes ------------------------------------------------------------------------------------------


@case("torch.nn.functional.cross_entropy", "torch.nn.functional.nll_loss")
def of_classes(c, name):
    x, y = c.f64(3, 4), c.exactly([0, 3, 1])
    reductions(c, name, x, y, gradients=2 if name == "cross_entropy" else 1)
    weight = c.f64(4, low=0.1).constant()
    for kind in KINDS:
        c(functional(name, reduction=kind, ignore_index=3), x, y)
        c(lambda m, x, y, w, k=kind: getattr(m.nn.functional, name)(
            x, y, w, ignore_index=3, reduction=k), x, y, weight)  # fmt: skip
        c(functional(name, reduction=kind), c.f64(2, 4, 3, 2), c.i64(2, 3, 2, low=0, high=3))
        c(functional(name, reduction=kind), c.f64(2, 4, 3), c.i64(2, 3, low=0, high=3))
        c(functional(name, reduction=kind), c.f64(4), c.exactly(2))
    c(functional(name), c.f64(2, 3, 4, 2, 2), c.i64(2, 4, 2, 2, low=0, high=2))
    c(functional(name), c.f64(0, 4), c.exactly([], "int64"))
    c(functional(name), x, c.exactly([0, 3, 1], "uint8"))
    c(functional(name, ignore_index=-1), x, c.exactly([0, -1, -1]))
    c(functional(name, ignore_index=1), x, c.exactly([1, 1, 1]))
    c.dtypes(lambda m, x: functional(name)(m, x, m.tensor([0, 3, 1])), (3, 4))
    c.error(functional(name), x, c.exactly([0, 4, 1]))
    c.error(functional(name), x, c.exactly([0, -1, 1]))
    c.error(functional(name), x, c.exactly([0, 3]))
    c.error(functional(name), x, c.exactly([0, 3, 1], "int32"))
    c.error(functional(name), x, c.f64(3))
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), x, y, c.f64(3))
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), x, y, c.f32(4))
    c.error(functional(name), c.f64(2, 4, 3), c.i64(2, 2, low=0, high=3))
    c.error(functional(name), c.f64(), c.exactly(0))


@case("torch.nn.functional.cross_entropy")
def of_probabilities(c):
    f = functional("cross_entropy")
    weight = c.f64(4, low=0.1).constant()
    for shape in ((3, 4), (4,), (2, 4, 3)):
        target = c.of("float64", *shape, low=0, high=1)
        for kind in KINDS:
            c(functional("cross_entropy", reduction=kind, label_smoothing=0.2),
              c.f64(*shape), target)  # fmt: skip
        c(lambda m, x, y, w: functional("cross_entropy", weight=w)(m, x, y),
          c.f64(*shape), target, weight, gradients=2)  # fmt: skip
    x, y = c.f64(3, 4), c.exactly([0, 3, 1])
    for kind in KINDS:
        c(functional("cross_entropy", reduction=kind, label_smoothing=0.1), x, y)
        c(lambda m, x, y, w, k=kind: m.nn.functional.cross_entropy(
            x, y, w, reduction=k, label_smoothing=0.3, ignore_index=0), x, y, weight)  # fmt: skip
    c(f, c.f32(3, 4), c.f64(3, 4).constant(), rtol=1e-5)
    c.error(f, x, c.i64(3, 4, low=0, high=1))
    c.error(functional("cross_entropy", ignore_index=1), x, c.f64(3, 4))
    c.error(functional("cross_entropy", label_smoothing=1.1), x, y)


@case("torch.nn.CrossEntropyLoss", "torch.nn.NLLLoss", "torch.nn.NLLLoss2d")
def class_modules(c, name):
    x, y = c.f64(3, 4), c.exactly([0, 3, 1])
    modules(c, name, x, y)
    modules(c, name, x, y, ignore_index=3)
    early(c, name)
    c(lambda m, x, y, w: [(b := getattr(m.nn, name)(w))(x, y), b.state_dict()["weight"]],
      x, y, c.f64(4, low=0.1).constant())  # fmt: skip


@case("torch.nn.NLLLoss2d")
def deprecated(c):
    c(lambda m: said(m.nn.NLLLoss2d)[1][0][0])


@case("torch.nn.CrossEntropyLoss")
def smoothing_module(c):
    modules(c, "CrossEntropyLoss", c.f64(3, 4), c.exactly([0, 3, 1]), label_smoothing=0.1)


@case("torch.nn.functional.linear_cross_entropy")
def linear_cross_entropy(c):
    def f(m, x, w, y, b=None, **options):
        return m.nn.functional.linear_cross_entropy(x, w, y, linear_bias=b, **options)

    x, w, y, b = c.f64(3, 5), c.f64(4, 5), c.exactly([0, 3, 1]), c.f64(4)
    for kind in KINDS:
        c(lambda m, *t, k=kind: f(m, *t, reduction=k), x, w, y, b)
    c(f, c.f64(5), w, c.exactly(2))
    c(f, x, c.f64(4, 2, 5), c.i64(3, 2, low=0, high=3), c.f64(4, 2))
    c(f, x, w, c.f64(3, 4, low=0).constant())
    c(lambda m, *t: f(m, *t, ignore_index=3, label_smoothing=0.1), x, w, y, b)
    c.error(lambda m, *t: f(m, *t, ignore_index=3), x, w, c.f64(3, 4))
    c.error(f, c.f64(2, 3, 5), w, y)
    c.error(f, x, c.f64(4, 4), y)
    c.error(f, x, w, y, c.f64(3))
    c.error(f, c.f64(5), c.f64(4, 2, 5), y)
    c.error(f, x, c.f64(5), y)


# Probabilities ------------------------------------------------------------------------------------


@case("torch.nn.functional.binary_cross_entropy")
def binary(c):
    name = "binary_cross_entropy"
    p, t = c.of("float64", 3, 4, low=0.05, high=0.95), c.of("float64", 3, 4, low=0, high=1)
    reductions(c, name, p, t.constant())
    c(functional(name), p, t)
    for weight in (c.f64(3, 4, low=0), c.f64(4, low=0), c.f64(3, 1, low=0)):
        c(lambda m, x, y, w: functional(name, w)(m, x, y), p, t.constant(), weight.constant())
    c(functional(name, reduction="none"), c.exactly([0.0, 1.0, 0.0]), c.exactly([0.0, 0.0, 1.0]),
      gradients=0)  # fmt: skip
    c.dtypes(functional(name), (3, 4), (3, 4), low=0.1, high=0.9, dtypes=FLOATS)
    c.error(functional(name), p, c.f64(4, low=0, high=1))
    c.error(functional(name), p, t.to("float32"))
    c.error(functional(name), c.exactly([0.5, 1.5]), c.exactly([0.5, 0.5]))
    c.error(functional(name), c.exactly([0.5, -0.1]), c.exactly([0.5, 0.5]))
    c.error(lambda m, x, y, w: functional(name, w)(m, x, y), p, t, c.f64(2, 3, 4))
    c.error(lambda m, x, y, w: functional(name, w)(m, x, y), p, t, c.f64(3))


@case("torch.nn.functional.binary_cross_entropy_with_logits")
def binary_with_logits(c):
    name = "binary_cross_entropy_with_logits"
    x, t = c.f64(3, 4), c.of("float64", 3, 4, low=0, high=1)
    reductions(c, name, x, t, gradients=2)
    for weight in (c.f64(3, 4, low=0), c.f64(4, low=0)):
        c(lambda m, x, y, w: functional(name, w)(m, x, y), x, t, weight.constant())
        c(lambda m, x, y, w: functional(name, pos_weight=w)(m, x, y), x, t, weight.constant())
    c(lambda m, x, y, w, p: m.nn.functional.binary_cross_entropy_with_logits(
        x, y, w, reduction="sum", pos_weight=p),
      *(x, t, c.f64(4).constant(), c.f64(4).constant()))  # fmt: skip
    c(functional(name, reduction="none"), c.special().constant(), c.f64(12, low=0, high=1))
    c.pairs(functional(name), (3, 4), (3, 4), left=FLOATS, rtol=1e-2)
    c.error(functional(name), x, c.f64(4))
    c.error(functional(name), x, c.i64(3, 4))
    c.error(lambda m, x, y, w: functional(name, w)(m, x, y), x, t, c.f64(2, 3, 4))
    c.error(lambda m, x, y, w: functional(name, pos_weight=w)(m, x, y), x, t, c.f64(3))


@case("torch.nn.BCELoss")
def binary_module(c):
    p, t = c.of("float64", 3, 4, low=0.05, high=0.95), c.of("float64", 3, 4, low=0, high=1)
    modules(c, "BCELoss", p, t.constant())
    early(c, "BCELoss")
    c(lambda m, x, y, w: m.nn.BCELoss(w)(x, y), p, t.constant(), c.f64(4, low=0).constant())


@case("torch.nn.BCEWithLogitsLoss")
def binary_with_logits_module(c):
    x, t, w = c.f64(3, 4), c.of("float64", 3, 4, low=0, high=1), c.f64(4, low=0).constant()
    modules(c, "BCEWithLogitsLoss", x, t)
    early(c, "BCEWithLogitsLoss")
    c(lambda m, x, y, w: m.nn.BCEWithLogitsLoss(w, pos_weight=w)(x, y), x, t, w)
    c(lambda m, w: sorted(m.nn.BCEWithLogitsLoss(pos_weight=w).state_dict()), w)


@case("torch.nn.functional.kl_div")
def divergence(c):
    x, t = c.f64(3, 4, high=0), c.f64(3, 4, low=0.1, high=1)
    reductions(c, "kl_div", x, t)
    for kind in (*KINDS, "batchmean"):
        c(functional("kl_div", reduction=kind), x, t, gradients=2)
        c(functional("kl_div", reduction=kind, log_target=True), x, c.f64(3, 4))
    c(functional("kl_div", reduction="none"), c.f64(4), c.exactly([0.0, -1.0, 2.0, 0.5]).constant())
    c(functional("kl_div", reduction="batchmean"), c.f64(), c.f64(low=0.1))
    c(functional("kl_div"), c.f64(4), t)
    c.dtypes(functional("kl_div"), (3, 4), (3, 4), low=0.1, dtypes=FLOATS)
    c.error(functional("kl_div"), c.i64(3), c.i64(3))
    c.error(functional("kl_div"), x, c.f64(3))


@case("torch.nn.KLDivLoss")
def divergence_module(c):
    x, t = c.f64(3, 4, high=0), c.f64(3, 4, low=0.1, high=1)
    modules(c, "KLDivLoss", x, t)
    modules(c, "KLDivLoss", x, t, log_target=True)
    module(c, lambda nn: nn.KLDivLoss(reduction="batchmean"), x, t)
    early(c, "KLDivLoss")


# Likelihoods --------------------------------------------------------------------------------------


@case("torch.nn.functional.poisson_nll_loss")
def poisson(c):
    name = "poisson_nll_loss"
    x, t = c.f64(3, 4, low=0.1), c.f64(3, 4, low=0, high=5).constant()
    for log_input in (True, False):
        for full in (True, False):
            reductions(c, name, x, t, log_input=log_input, full=full)
    c(functional(name, False, True, eps=0.1), x, t, gradients=2)
    c(functional(name, full=True), x, c.i64(3, 4, low=0, high=5))
    c(functional(name), c.f64(4), t)
    c.error(functional(name), x, c.f64(3))


@case("torch.nn.PoissonNLLLoss")
def poisson_module(c):
    x, t = c.f64(3, 4, low=0.1), c.f64(3, 4, low=0, high=5).constant()
    modules(c, "PoissonNLLLoss", x, t)
    modules(c, "PoissonNLLLoss", x, t, log_input=False, full=True, eps=0.01)
    early(c, "PoissonNLLLoss")


@case("torch.nn.functional.gaussian_nll_loss")
def gaussian(c):
    name = "gaussian_nll_loss"
    x, t = c.f64(3, 4), c.f64(3, 4)
    for kind in KINDS:
        for full in (True, False):
            c(functional(name, reduction=kind, full=full), x, t, c.f64(3, 4, low=0.1))
    for var in (c.f64(3, low=0.1), c.f64(3, 1, low=0.1), c.exactly([1e-9, 1.0, 2.0])):
        c(functional(name, eps=1e-3), x, t, var)
    c(functional(name, 2.5), x, t)
    c(functional(name), c.f64(2, 3, 4), c.f64(2, 3, 4), c.f64(2, 1, 4, low=0.1))
    c.error(functional(name), x, t, c.f64(2, low=0.1))
    c.error(functional(name), x, t, c.f64(4, 3, low=0.1))
    c.error(functional(name), x, t, c.exactly([1.0, -1.0, 2.0]))
    c.error(functional(name, -1.0), x, t)
    c.error(functional(name, 1), x, t)
    c.error(functional(name, reduction="most"), x, t, c.f64(3, 4, low=0.1))


@case("torch.nn.GaussianNLLLoss")
def gaussian_module(c):
    inputs = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4, low=0.1))
    modules(c, "GaussianNLLLoss", *inputs, full=True, eps=1e-3)
    c.error(lambda m: m.nn.GaussianNLLLoss(True))
