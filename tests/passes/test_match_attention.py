"""Attention that is written out becomes one operation, and what only looks like it does not."""

import numpy as np
import pytest

import braze
import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.interpreter import interpret
from braze.ir.verifier import verify
from braze.passes import Choices
from braze.passes.match_attention import match_attention

SIZES = {"b": 2, "h": 3, "l": 9, "s": 11, "e": 4, "v": 5}


def draw(b, letters, name, dtype=ir.f32):
    return b.input(ir.tensor_type(dtype, tuple(SIZES[c] for c in letters)), name=name)


def matched(graph):
    """The graph after the pass, which computes the same."""
    new = match_attention(graph, Choices(many_sizes=True))
    verify(new)
    rng = np.random.default_rng(0)
    given = [
        rng.integers(0, 2, v.shape).astype(v.dtype.numpy)
        if v.dtype is ir.bool_
        else rng.standard_normal(v.shape).astype(v.dtype.numpy)
        for v in graph.inputs
    ]
    with np.errstate(all="ignore"):
        results = zip(interpret(graph, given), interpret(new, given), strict=True)
    for wanted, found in results:
        assert wanted.dtype == found.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    return [node.op.name for node in new.nodes]


def number(b, value, dtype=ir.f32):
    return b.constant(value=value, dtype=dtype)


def plain(b, change=lambda b, s: s, dtype=ir.f32, after=lambda b, w: w):
    """The scores through `change`, the weights through `after`."""
    q, k, v = (draw(b, letters, letters, dtype) for letters in ("bhle", "bhse", "bhsv"))
    scores = change(b, b.matmul(q, b.permute(k, dims=(0, 1, 3, 2))))
    weights = after(b, b.softmax(scores, dim=3))
    return b.matmul(weights, v)


def masked_by(letters):
    return lambda b, s: b.add(s, draw(b, letters, "m"))


CHANGES = {
    "nothing": lambda b, s: s,
    "multiplied": lambda b, s: b.mul(s, number(b, 0.5)),
    "multiplied from the left": lambda b, s: b.mul(number(b, 0.5), s),
    "divided by a root": lambda b, s: b.div(
        s, b.sqrt(b.cast(number(b, 9, ir.i64), dtype=ir.f32))
    ),
    "divided": lambda b, s: b.div(s, number(b, 3.0)),
    "a mask for all heads": masked_by("ls"),
    "a mask for each sequence": lambda b, s: b.add(
        b.expand(b.reshape(draw(b, "bs", "m"), shape=(2, 1, 1, 11)), shape=(2, 3, 9, 11)), s
    ),
    "scaled, and two masks": lambda b, s: b.add(
        draw(b, "bhls", "n"), masked_by("ls")(b, b.div(s, number(b, 2.0)))
    ),
    "hidden": lambda b, s: b.masked_fill(s, draw(b, "ls", "m", ir.bool_), value=float("-inf")),
    "hidden elsewhere": lambda b, s: b.where(
        draw(b, "hls", "m", ir.bool_), s, number(b, float("-inf"))
    ),
    "hidden and masked": lambda b, s: b.where(
        draw(b, "bhls", "n", ir.bool_), number(b, float("-inf")), masked_by("s")(b, s)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_scores_may_be_changed(name):
    b = Builder(name)
    found = matched(b.finish([plain(b, CHANGES[name])]))
    kinds = [n for n in found if n.startswith("attention")]
    assert kinds == ["attention" if not name.startswith(("a ", "hid")) and "mask" not in name
                     else "attention_masked"]  # fmt: skip
    assert not {"matmul", "softmax"} & set(found)


def test_a_query_whose_keys_are_all_hidden_gives_nan():
    b = Builder("hidden")
    hide = number(b, True, ir.bool_)
    hidden = plain(b, lambda b, s: b.masked_fill(s, hide, value=float("-inf")))
    assert "attention_masked" in matched(b.finish([hidden]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("bhle,bhse->bhls", "bhls,bhsv->bhlv"),
        ("blhe,bshe->bhls", "bhls,bshv->blhv"),
        ("bshe,blhe->bhls", "bshv,bhls->blhv"),
        ("blhe,bshe->blhs", "blhs,bshv->bhvl"),
        ("el,es->ls", "ls,sv->vl"),
    ],
)
@pytest.mark.parametrize("mask", [False, True])
def test_contractions_in_any_order(first, second, mask):
    b = Builder("einsum")
    left, right, scores = first.replace("->", ",").split(",")
    x, y = draw(b, left, "x"), draw(b, right, "y")
    made = b.mul(b.contract(x, y, equation=first), number(b, 0.5))
    if mask:
        made = b.add(made, draw(b, scores, "m"))
    weights = b.softmax(made, dim=len(scores) - 1)
    one, other, _ = second.replace("->", ",").split(",")
    v = draw(b, other if one == scores else one, "v")
    result = b.contract(*((weights, v) if one == scores else (v, weights)), equation=second)
    found = matched(b.finish([result]))
    assert [n for n in found if n not in ("permute", "constant")][0].startswith("attention")


def test_softmax_over_another_dimension_than_the_last():
    b = Builder("turned")
    q, k, v = draw(b, "le", "q"), draw(b, "se", "k"), draw(b, "sv", "v")
    scores = b.matmul(k, b.permute(q, dims=(1, 0)))  # [keys, queries]
    weights = b.softmax(scores, dim=0)
    found = matched(b.finish([b.contract(weights, v, equation="sl,sv->lv")]))
    assert "attention" in found


def test_values_that_a_softmax_made():
    b = Builder("twice")
    q, k, r, s = (draw(b, letters, letters) for letters in ("le", "se", "sv", "vv"))
    weights = b.softmax(b.matmul(q, b.permute(k, dims=(1, 0))), dim=1)
    values = b.softmax(b.matmul(r, s), dim=1)
    found = matched(b.finish([b.matmul(weights, values)]))
    assert found.count("attention") == 1 and found.count("softmax") == 1


def test_a_product_that_begins_another_attention():
    b = Builder("chain")
    x, w = draw(b, "le", "x"), draw(b, "ee", "w")
    for _ in range(3):
        x = b.softmax(b.matmul(x, w), dim=1)
    found = matched(b.finish([x]))
    assert found.count("attention") == 1 and found.count("softmax") == 2


UNLIKE = {
    "few queries": lambda b: few(b),
    "softmax over queries": lambda b: over_queries(b),
    "the weights are a result": lambda b: weights_too(b),
    "the scores are a result": lambda b: scores_too(b),
    "a factor for each key": lambda b: [plain(b, lambda b, s: b.mul(s, draw(b, "s", "f")))],
    "a mask within the scale": lambda b: [
        plain(b, lambda b, s: b.mul(masked_by("ls")(b, s), number(b, 2.0)))
    ],
    "hidden by a number": lambda b: [
        plain(b, lambda b, s: b.masked_fill(s, draw(b, "ls", "m", ir.bool_), value=-1e9))
    ],
    "another function": lambda b: [plain(b, lambda b, s: b.tanh(s))],
    "weights that are changed": lambda b: [plain(b, after=lambda b, w: b.mul(w, number(b, 2.0)))],
    "half precision": lambda b: [plain(b, dtype=ir.f16)],
    "scores that are wider": lambda b: wider(b),
}


def few(b):
    q, k, v = (b.input(ir.tensor_type(ir.f32, s)) for s in ((7, 4), (11, 4), (11, 5)))
    return [b.matmul(b.softmax(b.matmul(q, b.permute(k, dims=(1, 0))), dim=1), v)]


def over_queries(b):
    q, k, v = draw(b, "le", "q"), draw(b, "se", "k"), draw(b, "sv", "v")
    return [b.matmul(b.softmax(b.matmul(q, b.permute(k, dims=(1, 0))), dim=0), v)]


def weights_too(b):
    kept = []
    return [plain(b, after=lambda b, w: kept.append(w) or w), *kept]


def scores_too(b):
    kept = []
    return [plain(b, lambda b, s: kept.append(s) or b.mul(s, number(b, 2.0))), *kept]


def wider(b):
    q, k = draw(b, "le", "q"), draw(b, "se", "k")
    scores = b.matmul(q, b.permute(k, dims=(1, 0)))
    wide = b.add(scores, draw(b, "bls", "m"))
    return [b.matmul(b.softmax(wide, dim=2), draw(b, "bsv", "v"))]


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_something_else_stays(name):
    b = Builder("other")
    graph = b.finish(UNLIKE[name](b))
    assert match_attention(graph, Choices(many_sizes=True), everywhere=True) is graph


def test_the_choice_for_one_size_is_kept_for_others():
    graphs = []
    for queries in (12, 3):
        b = Builder("sized")
        q, k = (b.input(ir.tensor_type(ir.f32, (queries, 4))) for _ in "qk")
        scores = b.matmul(q, b.permute(k, dims=(1, 0)))
        graphs.append(b.finish([b.matmul(b.softmax(scores, dim=1), k)]))
    many, few = graphs
    first = Choices(many_sizes=True)
    assert match_attention(many, first) is not many
    assert match_attention(few, Choices(many_sizes=True)) is few
    assert match_attention(few, Choices(first)) is not few


def test_small_matrices_stay_unless_they_have_to_go():
    for queries, is_large in ((64, False), (600, True)):
        b = Builder("sized")
        q, k = (b.input(ir.tensor_type(ir.f32, (queries, 4))) for _ in "qk")
        scores = b.matmul(q, b.permute(k, dims=(1, 0)))
        graph = b.finish([b.matmul(b.softmax(scores, dim=1), k)])
        assert (match_attention(graph, Choices()) is not graph) == is_large
        assert match_attention(graph, Choices(), everywhere=True) is not graph


def test_gradients_keep_their_weights_and_inference_does_not():
    braze.manual_seed(0)
    x = [braze.randn(2, 400, 8, requires_grad=True) for _ in range(3)]

    def attended():
        return (x[0] @ x[1].transpose(1, 2) / 8**0.5).softmax(-1) @ x[2]

    with braze.no_grad():
        seen = attended().numpy()
    out = attended()
    out.sum().backward()
    np.testing.assert_allclose(seen, out.detach().numpy(), rtol=1e-5, atol=1e-6)
    reference = braze.nn.functional.scaled_dot_product_attention(*x)
    found = [t.grad.numpy().copy() for t in x]
    for t in x:
        t.grad = None
    reference.sum().backward()
    for a, t in zip(found, x, strict=True):
        np.testing.assert_allclose(a, t.grad.numpy(), rtol=1e-4, atol=1e-5)
