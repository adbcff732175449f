"""Cases of losses of margins and of sequences."""

from cases_nn_losses import KINDS, early, modules, reductions
from compare_cases import case
from compare_modules import functional, module

# Pairs and triplets -------------------------------------------------------------------------------


def signs(c, *values):
    return c.exactly([float(v) for v in values]).constant()


@case("torch.nn.functional.margin_ranking_loss")
def ranking(c):
    name = "margin_ranking_loss"
    inputs = (c.f64(4), c.f64(4), signs(c, 1, -1, 1, -1))
    reductions(c, name, *inputs, gradients=2)
    reductions(c, name, *inputs, margin=0.5)
    c(functional(name, 0.3), c.f64(2, 4), c.f64(1, 4), c.i64(2, 4))
    c.error(functional(name), c.f64(2, 4), c.f64(4), c.f64(4))
    c.error(functional(name), c.f64(3), c.f64(4), c.f64(4))


@case("torch.nn.functional.hinge_embedding_loss")
def hinge(c):
    name = "hinge_embedding_loss"
    inputs = (c.f64(4), signs(c, 1, -1, 1, -1))
    reductions(c, name, *inputs, gradients=2)
    reductions(c, name, *inputs, margin=2.0)
    c(functional(name), c.f64(2, 4), c.exactly([1, -1, 0, 2]))
    c(functional(name, reduction="none"), c.f32(4), c.exactly([1, -1, 0, 2]))
    c.error(functional(name), c.f64(3), c.f64(4))


@case("torch.nn.functional.cosine_embedding_loss")
def cosine(c):
    name = "cosine_embedding_loss"
    inputs = (c.f64(3, 4), c.f64(3, 4), signs(c, 1, -1, 1))
    reductions(c, name, *inputs, gradients=2)
    reductions(c, name, *inputs, margin=-0.5)
    c(functional(name), c.f64(4), c.f64(4), c.exactly(-1))
    c(functional(name), c.f64(3, 4), c.f64(1, 4), c.exactly([1, -1, 0]))
    c(functional(name), c.f32(3, 4), c.f32(3, 4), c.exactly([1, -1, 1]))
    c.error(functional(name), c.f64(3, 4), c.f64(3, 4), c.f64(2))
    c.error(functional(name), c.f64(3, 4), c.f64(3, 4), c.f64(3, 1))
    c.error(functional(name), c.f64(3), c.f64(3), c.f64(3))


@case("torch.nn.functional.triplet_margin_loss")
def triplet(c):
    name = "triplet_margin_loss"
    inputs = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    reductions(c, name, *inputs)
    for p in (1.0, 3.0, float("inf")):
        c(functional(name, margin=2.0, p=p, eps=1e-3, swap=True), *inputs)
    c(functional(name, reduction="none"), c.f64(4), c.f64(4), c.f64(4))
    c(functional(name), c.f64(2, 3, 4), c.f64(2, 3, 4), c.f64(1, 3, 4))
    c.error(functional(name), c.f64(3, 4), c.f64(3, 4), c.f64(4))
    c.error(functional(name, margin=0.0), *inputs)


@case("torch.nn.functional.triplet_margin_with_distance_loss")
def triplet_with_distance(c):
    name = "triplet_margin_with_distance_loss"
    inputs = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    for kind in KINDS:
        c(functional(name, reduction=kind), *inputs)
        c(lambda m, *x, k=kind: functional(
            name, reduction=k, swap=True, margin=3.0, distance_function=lambda a, b:
            1 - m.nn.functional.cosine_similarity(a, b))(m, *x), *inputs, gradients=2)  # fmt: skip
    c.error(functional(name, margin=-1.0), *inputs)
    c.error(functional(name, reduction="most"), *inputs)
    c.error(functional(name), c.f64(3, 4), c.f64(3, 4), c.f64(4))
    c.error(functional(name, None), *inputs)


@case("torch.nn.MarginRankingLoss")
def ranking_module(c):
    inputs = (c.f64(4), c.f64(4), signs(c, 1, -1, 1, -1))
    modules(c, "MarginRankingLoss", *inputs, margin=0.2)
    early(c, "MarginRankingLoss")


@case("torch.nn.HingeEmbeddingLoss")
def hinge_module(c):
    modules(c, "HingeEmbeddingLoss", c.f64(4), signs(c, 1, -1, 1, -1), margin=0.2)
    early(c, "HingeEmbeddingLoss")


@case("torch.nn.CosineEmbeddingLoss")
def cosine_module(c):
    inputs = (c.f64(3, 4), c.f64(3, 4), signs(c, 1, -1, 1))
    modules(c, "CosineEmbeddingLoss", *inputs, margin=0.1)
    early(c, "CosineEmbeddingLoss")


@case("torch.nn.TripletMarginLoss")
def triplet_module(c):
    inputs = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    modules(c, "TripletMarginLoss", *inputs, margin=0.4, p=3, swap=True)
    early(c, "TripletMarginLoss")
    c.error(lambda m: m.nn.TripletMarginLoss(margin=0))


@case("torch.nn.TripletMarginWithDistanceLoss")
def triplet_with_distance_module(c):
    inputs = (c.f64(3, 4), c.f64(3, 4), c.f64(3, 4))
    modules(c, "TripletMarginWithDistanceLoss", *inputs, margin=0.4)
    module(c, lambda nn: nn.TripletMarginWithDistanceLoss(
        distance_function=lambda x, y: ((x - y) ** 2).sum(-1), swap=True), *inputs)  # fmt: skip
    c.error(lambda m: m.nn.TripletMarginWithDistanceLoss(margin=-1))
    c.error(lambda m: m.nn.TripletMarginWithDistanceLoss(None))


# Several classes ----------------------------------------------------------------------------------


@case("torch.nn.functional.multi_margin_loss")
def multi_margin(c):
    name = "multi_margin_loss"
    x, y = c.f64(3, 4), c.exactly([0, 3, 1])
    reductions(c, name, x, y)
    for kind in KINDS:
        for p in (1, 2):
            c(lambda m, x, y, w, p=p, k=kind: m.nn.functional.multi_margin_loss(
                x, y, p, 0.5, w, reduction=k), x, y, c.f64(4, low=0.1).constant())  # fmt: skip
        c(functional(name, reduction=kind), c.f64(4), c.exactly(2))
        c(functional(name, reduction=kind), c.f64(4), c.exactly([2]))
    c(functional(name, reduction="none"), c.f64(0, 4), c.exactly([], "int64"), gradients=0)
    c.error(functional(name, 3), x, y)
    c.error(functional(name), x, c.exactly([0, 4, 1]))
    c.error(functional(name), x, c.exactly([0, -1, 1]))
    c.error(functional(name), x, c.exactly([0, 1]))
    c.error(functional(name), x, c.exactly([0, 3, 1], "int32"))
    c.error(functional(name), c.f64(2, 3, 4), y)
    c.error(functional(name), c.f64(3, 0), y)
    c.error(functional(name), c.i64(3, 4), y)
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), x, y, c.f64(3))
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), x, y, c.f32(4))
    c.error(lambda m, x, y, w: functional(name, weight=w)(m, x, y), x, y, c.f64(4, 1))


@case("torch.nn.functional.multilabel_margin_loss")
def multilabel_margin(c):
    name = "multilabel_margin_loss"
    x = c.f64(4, 5)
    y = c.exactly([[0, 2, -1, 1, 1], [1, -1, 0, 0, 0], [-1, 0, 0, 0, 0], [4, 0, 3, 1, 2]])
    reductions(c, name, x, y)
    for kind in KINDS:
        c(functional(name, reduction=kind), c.f64(4), c.exactly([2, 0, -1, 1]))
        c(functional(name, reduction=kind), x, c.i64(4, 5, low=0, high=4))
    c(functional(name, reduction="none"), c.f64(), c.exactly(0), gradients=0)
    c(functional(name, reduction="none"), c.f64(0, 4), c.i64(0, 4), gradients=0)
    c.error(functional(name), x, c.i64(4, 5, low=5, high=5))
    c.error(functional(name), x, c.i64(4, 5, low=-2, high=-2))
    c.error(functional(name), x, c.i64(4, 4, low=0, high=3))
    c.error(functional(name), x, y.to("int32"))
    c.error(functional(name), c.f64(2, 3, 4), c.i64(2, 3, 4, low=0))


@case("torch.nn.functional.multilabel_soft_margin_loss")
def multilabel_soft_margin(c):
    name = "multilabel_soft_margin_loss"
    x, y = c.f64(3, 4), c.of("float64", 3, 4, low=0, high=1)
    reductions(c, name, x, y, gradients=2)
    c(lambda m, x, y, w: functional(name, w)(m, x, y), x, y, c.f64(4, low=0))
    c(functional(name, reduction="none"), c.f64(2, 3, 4), c.i64(3, 4, low=0, high=1))
    c(functional(name), c.f64(4), c.f64(4))
    c.error(functional(name), c.f64(), c.f64())
    c.error(functional(name), x, c.f64(3))


@case("torch.nn.functional.soft_margin_loss")
def soft_margin(c):
    name = "soft_margin_loss"
    y = c.of("float64", 3, 4, low=-1, high=1).constant()
    reductions(c, name, c.f64(3, 4), y)
    c(functional(name), c.f64(3, 4), c.f64(4).constant())
    c(functional(name, reduction="none"), c.f64(3, 4), c.i64(3, 4, low=-1, high=1), gradients=0)
    c(functional(name), c.f32(3, 4), y)
    c.error(functional(name), c.f64(3), c.f64(4))


@case("torch.nn.MultiMarginLoss")
def multi_margin_module(c):
    x, y = c.f64(3, 4), c.exactly([0, 3, 1])
    modules(c, "MultiMarginLoss", x, y, p=2, margin=0.7)
    early(c, "MultiMarginLoss")
    c(lambda m, x, y, w: m.nn.MultiMarginLoss(weight=w)(x, y), x, y, c.f64(4).constant())
    c.error(lambda m: m.nn.MultiMarginLoss(3))
    c.error(lambda m, w: m.nn.MultiMarginLoss(weight=w), c.f64(4, 1))


@case("torch.nn.MultiLabelMarginLoss")
def multilabel_margin_module(c):
    modules(c, "MultiLabelMarginLoss", c.f64(2, 3), c.exactly([[0, 2, -1], [1, -1, 0]]))
    early(c, "MultiLabelMarginLoss")


@case("torch.nn.MultiLabelSoftMarginLoss")
def multilabel_soft_margin_module(c):
    x, y = c.f64(3, 4), c.of("float64", 3, 4, low=0, high=1)
    modules(c, "MultiLabelSoftMarginLoss", x, y)
    early(c, "MultiLabelSoftMarginLoss")
    c(lambda m, x, y, w: m.nn.MultiLabelSoftMarginLoss(w)(x, y), x, y, c.f64(4).constant())


@case("torch.nn.SoftMarginLoss")
def soft_margin_module(c):
    modules(c, "SoftMarginLoss", c.f64(3, 4), c.of("float64", 3, 4, low=-1, high=1).constant())
    early(c, "SoftMarginLoss")


@case("torch.nn.AdaptiveLogSoftmaxWithLoss")
def adaptive(c):
    def build(nn):
        return nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 5], div_value=2.0, head_bias=True)

    x, y = c.f64(6, 8), c.exactly([0, 4, 9, 2, 5, 3])
    module(c, build, x, y)
    module(c, lambda nn: nn.AdaptiveLogSoftmaxWithLoss(8, 10, (4,)), x, y)
    module(c, lambda nn: nn.AdaptiveLogSoftmaxWithLoss(8, 10, (4,)), c.f64(8), c.exactly(7))
    module(c, build, c.f64(2, 8), c.exactly([1, 7]), known=True)
    module(c, build, x, call=lambda m, made, x: made.log_prob(x), gradients=2)
    module(c, build, x, call=lambda m, made, x: made.predict(x), gradients=0)
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(3, 8), c.exactly([0, 10, 1]))
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(3, 8), c.exactly([0, -1, 1]))
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(3, 8), c.exactly([0, 1]))
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(3, 8), c.exactly(1))
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(8), c.exactly([1] * 8))
    c.error(lambda m, x, y: build(m.nn)(x, y), c.f32(3, 8), c.exactly([[1], [2], [3]]))
    for cutoffs in ([], [0], [5, 3], [3, 3], [10], [2.5]):
        c.error(lambda m, k=cutoffs: m.nn.AdaptiveLogSoftmaxWithLoss(8, 10, k))
