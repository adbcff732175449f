"""einsum against NumPy's."""

import numpy as np
import pytest

import braze
from braze.ir.errors import DTypeError, ShapeError


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before, braze.config.tier = braze.config.tier, request.param
    yield
    braze.sync()
    braze.config.tier = before


def arrays(*shapes):
    generator = np.random.default_rng(len(shapes))
    return [generator.standard_normal(shape) for shape in shapes]


CASES = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba,ca", (2, 3), (4, 3)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("ij->", (2, 3)),
    ("ij->ji", (2, 3)),
    ("ij->ij", (2, 3)),
    ("ji", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("ii->i", (1, 1)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...ij,...jk", (2, 3, 4), (4, 2)),
    ("i...,i...->...", (3, 2, 2), (3, 2, 2)),
    ("...->...", (2, 3)),
    ("...i->...", (2, 3)),
    ("ij,j,jk->ik", (2, 3), (3,), (3, 4)),
    ("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 5), (5, 2)),
    ("ab,cd,ef->", (2, 3), (3, 2), (2, 2)),
    ("bn,anm,bm->ba", (2, 3), (5, 3, 4), (2, 4)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,kl,ij->kl", (2, 3), (2, 2), (2, 3)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("Aa,aB->AB", (2, 3), (3, 4)),
    (",i->i", (), (3,)),
    (",", (), ()),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ii->i", (0, 0)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_as_numpy(case):
    equation, *shapes = case
    given = arrays(*shapes)
    found = braze.einsum(equation, *map(braze.from_numpy, given))
    wanted = np.einsum(equation, *given)
    assert tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)
    as_list = braze.einsum(equation, [braze.from_numpy(a) for a in given])
    np.testing.assert_array_equal(as_list.numpy(), found.numpy())


def test_sizes_of_one_broadcast_as_in_pytorch():
    x, y = arrays((2, 1), (3, 4))
    found = braze.einsum("ij,jk->ik", braze.from_numpy(x), braze.from_numpy(y))
    np.testing.assert_allclose(found.numpy(), np.broadcast_to(x, (2, 3)) @ y)


def test_sublists():
    x, y = arrays((2, 2, 3), (2, 3, 4))
    tx, ty = braze.from_numpy(x), braze.from_numpy(y)
    found = braze.einsum(tx, [..., 0, 1], ty, [..., 1, 51], [..., 0, 51])
    np.testing.assert_allclose(found.numpy(), x @ y)
    np.testing.assert_allclose(braze.einsum(tx[0], [1, 0]).numpy(), x[0].T)


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case[0])
def test_gradients(case):
    equation, *shapes = case
    given = arrays(*shapes)
    tensors = [braze.from_numpy(a).requires_grad_() for a in given]
    out = braze.einsum(equation, *tensors)
    weight = np.random.default_rng(9).standard_normal(tuple(out.shape))
    (out * braze.from_numpy(weight)).sum().backward()
    for position, tensor in enumerate(tensors):
        direction = np.random.default_rng(position).standard_normal(shapes[position])
        moved = [*given[:position], direction, *given[position + 1 :]]
        # Linear in each operand: the directional derivative is the value at the direction.
        wanted = np.sum(np.einsum(equation, *moved) * weight)
        found = np.sum(tensor.grad.numpy() * direction)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_product_of_three_takes_the_cheap_order():
    from braze.capture import build_graph, tracer

    x, y, z = (braze.ones(*s) for s in ((50, 40), (40, 30), (30,)))
    out = braze.einsum("ij,jk,k->i", x, y, z)
    state = tracer().pending.state
    graph, _ = build_graph(state, [out._handle.slot])
    shapes = [n.result.shape for n in graph.nodes if n.op.name == "contract"]
    assert shapes == [(40,), (50,)]
    assert out[0].item() == 1200.0


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk", [(2, 3)], "has 2 operands, given 1"),
        ("ij", [(2, 3, 4)], "operand 0 of 'ij' has 2 subscripts and the type f64\\[2,3,4\\]"),
        ("ijk...", [(2, 3)], "has 3 subscripts"),
        ("ij,jk", [(2, 3), (4, 2)], r"sizes of 'j' differ: 'ij,jk' for .* \(3 != 4\)"),
        ("ii", [(2, 3)], "sizes of 'i' differ"),
        ("ij->ik", [(2, 3)], "'k' is in no operand"),
        ("ij->ii", [(2, 3)], "a label is repeated"),
        ("i1->i", [(2, 3)], "subscripts must be letters"),
        ("......", [(2, 3)], "subscripts must be letters"),
    ],
)
def test_errors(equation, shapes, message):
    with pytest.raises(ShapeError, match=message):
        braze.einsum(equation, *map(braze.from_numpy, arrays(*shapes)))


def test_errors_of_type():
    with pytest.raises(DTypeError, match="operands differ in dtype"):
        braze.einsum("i,i", braze.ones(2), braze.ones(2, dtype=braze.float64))
    with pytest.raises(ValueError, match="subscripts must be in"):
        braze.einsum(braze.ones(2), [52])
    with pytest.raises(TypeError, match="operands must be tensors"):
        braze.einsum("i", [1.0])
