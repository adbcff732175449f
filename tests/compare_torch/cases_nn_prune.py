"""Cases of `nn.utils.prune`, which both libraries load only when it is imported."""

import torch.nn.utils.prune  # noqa: F401
from compare_cases import case
from compare_networks import layer, message, state, trained

import braze.nn.utils.prune  # noqa: F401

PRUNE = "torch.nn.utils.prune"


def pruned(m, x, *steps):
    """A layer after pruning steps, then trained for two, then made plain again."""
    made = layer(m, "Linear", 6, 4)
    seen = []
    for name, *arguments in steps:
        result = getattr(m.nn.utils.prune, name)(made, "weight", *arguments)
        seen += [result is made, made.weight.detach().clone(), list(made.state_dict())]
        seen.append(len(made._forward_pre_hooks))
    seen.append(trained(m, made, x))
    seen.append(m.nn.utils.prune.is_pruned(made))
    original = made.weight_orig
    m.nn.utils.prune.remove(made, "weight")
    seen += [made.weight is original, m.nn.utils.prune.is_pruned(made), state(made)]
    return seen


@case(f"{PRUNE}.identity", f"{PRUNE}.remove", f"{PRUNE}.is_pruned")
def identity(c, name):
    c(lambda m, x: pruned(m, x, ["identity"]), c.f64(3, 6).constant(), gradients=0)
    c(lambda m: m.nn.utils.prune.is_pruned(layer(m)))
    c(lambda m: message(m, m.nn.utils.prune.remove, layer(m), "weight"))


@case(f"{PRUNE}.l1_unstructured")
def l1_unstructured(c):
    x = c.f64(3, 6).constant()
    for amount in (5, 0.5, 0, 24):
        c(lambda m, x, a=amount: pruned(m, x, ["l1_unstructured", a]), x, gradients=0)
    twice = ["l1_unstructured", 5], ["l1_unstructured", 0.5], ["l1_unstructured", 2]
    c(lambda m, x: pruned(m, x, *twice), x, gradients=0)

    def by_scores(m, scores):
        made = layer(m, "Linear", 6, 4)
        m.nn.utils.prune.l1_unstructured(made, "weight", 0.4, importance_scores=scores)
        return made.weight_mask, type(m.nn.utils.prune.L1Unstructured(3)).PRUNING_TYPE

    c(by_scores, c.f64(4, 6).constant(), gradients=0)

    def refused(m):
        prune = m.nn.utils.prune
        return [
            message(m, prune.l1_unstructured, layer(m), "weight", 1.5),
            message(m, prune.l1_unstructured, layer(m), "weight", -1),
            message(m, prune.l1_unstructured, layer(m), "weight", "x"),
            message(m, prune.l1_unstructured, layer(m), "weight", 13),
            message(m, prune.l1_unstructured, layer(m), "weight", 1, m.ones(2))[0],
            message(m, prune.l1_unstructured, layer(m), "nothing", 1)[0],
        ]

    c(refused)
    c(lambda m, t: m.nn.utils.prune.L1Unstructured(4).prune(t), c.f64(3, 4))


@case(f"{PRUNE}.ln_structured")
def ln_structured(c):
    x = c.f64(3, 6).constant()
    for step in ((2, 2, 0), (0.5, 1, 1), (0.5, float("inf"), -1), (0, 2, 0)):
        c(lambda m, x, s=step: pruned(m, x, ["ln_structured", *s]), x, gradients=0)
    steps = ["l1_unstructured", 9], ["ln_structured", 1, 2, 0], ["ln_structured", 0.5, 2, 1]
    c(lambda m, x: pruned(m, x, *steps), x, gradients=0)

    def refused(m):
        prune = m.nn.utils.prune
        return [
            message(m, prune.ln_structured, layer(m), "weight", 1, 2, 3),
            message(m, prune.ln_structured, layer(m), "bias", 1, 2, 0),
            message(m, prune.ln_structured, layer(m), "weight", 5, 2, 0),
        ]

    c(refused)


@case(f"{PRUNE}.random_unstructured", f"{PRUNE}.random_structured")
def random(c, name):
    def counts(m, *arguments):
        made = layer(m, "Linear", 6, 4)
        prune = getattr(m.nn.utils.prune, name)
        prune(made, "weight", *arguments)
        first = made.weight_mask.sum()
        prune(made, "weight", *arguments)
        kept = (made.weight == made.weight_orig * made.weight_mask).all()
        return first, made.weight_mask.sum(), kept

    if name == "random_unstructured":
        c(lambda m: counts(m, 5))
        c(lambda m: counts(m, 0.5))
    else:
        c(lambda m: counts(m, 1, 0))
        c(lambda m: counts(m, 0.5, -1))
        c(lambda m: message(m, m.nn.utils.prune.random_structured, layer(m), "bias", 1, 0))


@case(f"{PRUNE}.custom_from_mask")
def custom_from_mask(c):
    def masked(m, mask, x):
        return pruned(m, x, ["custom_from_mask", mask], ["l1_unstructured", 3])

    c(masked, c.mask(4, 6), c.f64(3, 6).constant(), gradients=0)
    c(lambda m, t: message(m, m.nn.utils.prune.custom_from_mask, layer(m), "weight", t), c.f64(2))


@case(f"{PRUNE}.global_unstructured")
def global_unstructured(c):
    def masks(m, *scores, **options):
        net = m.nn.Sequential(layer(m, "Linear", 3, 4), layer(m, "Linear", 4, 2))
        given = [(net[0], "weight"), (net[1], "weight"), (net[1], "bias")]
        prune = m.nn.utils.prune
        prune.l1_unstructured(net[0], "weight", 3)
        method = prune.L1Unstructured
        known = {given[1]: scores[0]} if scores else None
        prune.global_unstructured(given, method, importance_scores=known, **options)
        return [getattr(module, name + "_mask") for module, name in given]

    c(lambda m: masks(m, amount=0.5))
    c(lambda m: masks(m, amount=4))
    c(lambda m, scores: masks(m, scores, amount=4), c.f64(2, 4).constant(), gradients=0)

    def refused(m):
        prune = m.nn.utils.prune
        given = [(layer(m), "weight")]
        return [
            message(m, prune.global_unstructured, 3, prune.L1Unstructured, amount=1),
            message(m, prune.global_unstructured, given, prune.L1Unstructured, 3, amount=1),
            message(m, prune.global_unstructured, given, prune.RandomStructured, amount=1)[0],
        ]

    c(refused)
