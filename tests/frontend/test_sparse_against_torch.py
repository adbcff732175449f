"""Sparse tensors against PyTorch's: layouts, numbers of entries, text and errors, where it is
installed."""

import re
import warnings

import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")

INDICES = [[0, 1, 1, 0], [2, 0, 2, 2]]  # one place twice
VALUES = [3.0, 4.0, 5.0, -1.0]
ROWS = [[1.0, 2], [3, 4], [5, 6], [7, 8]]


@pytest.fixture(autouse=True)
def interpreted():
    braze.sync()
    with braze.config.using(tier="interpret"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a beta state, and of checks that are off
        yield
        braze.sync()


class Samples:
    """The same tensors in either library.

    Attributes:
        u, c: uncoalesced and coalesced. h: hybrid. d: dense. o: another coalesced one.
    """

    def __init__(self, library):
        self.u = library.sparse_coo_tensor(INDICES, VALUES, (2, 3))
        self.c = self.u.coalesce()
        self.h = library.sparse_coo_tensor(INDICES, ROWS, (2, 3, 2))
        self.d = library.arange(6.0).reshape(2, 3)
        self.o = library.tensor([[0.0, 7, 2], [5, 0, 0]]).to_sparse()
        self.library = library


CASES = {
    "coalesce": lambda s: s.u.coalesce(),
    "scaled": lambda s: s.u * 2,
    "scaled coalesced": lambda s: s.c / 2,
    "negative": lambda s: -s.u,
    "added": lambda s: s.c + s.o,
    "subtracted": lambda s: s.c - s.o,
    "added with factor": lambda s: s.library.add(s.c, s.o, alpha=3),
    "multiplied": lambda s: s.c * s.o,
    "times dense": lambda s: s.c * s.d,
    "dense times": lambda s: s.d * s.u,
    "times row": lambda s: s.c * s.d[0],
    "dense plus": lambda s: s.d + s.u,
    "floor": lambda s: s.u // 2,
    "truncated": lambda s: s.u.div(2, rounding_mode="trunc"),
    "squared": lambda s: s.c**2,
    "root": lambda s: s.c.sqrt(),
    "absolute": lambda s: s.u.abs(),
    "sine": lambda s: s.u.sin(),
    "is nan": lambda s: s.u.isnan(),
    "long": lambda s: s.c.long(),
    "bool": lambda s: s.u.bool(),
    "whole": lambda s: s.u.sum(),
    "rows": lambda s: s.library.sparse.sum(s.u, 1),
    "columns kept": lambda s: s.u.sum(0, keepdim=True),
    "hybrid sums": lambda s: s.library.sparse.sum(s.h, (0, 2)),
    "dense sums": lambda s: s.library.sparse.sum(s.h, 2),
    "norm": lambda s: s.u.norm(),
    "softmax": lambda s: s.library.sparse.softmax(s.u, 1),
    "log_softmax": lambda s: s.library.sparse.log_softmax(s.h, 0),
    "softmax dense": lambda s: s.library.sparse.softmax(s.h, 2),
    "transposed": lambda s: s.c.t(),
    "hybrid transposed": lambda s: s.h.transpose(0, 1),
    "selected": lambda s: s.u[1],
    "hybrid selected": lambda s: s.h.select(2, 1),
    "element": lambda s: s.c[1, 2],
    "narrow_copy": lambda s: s.c.narrow_copy(1, 1, 2),
    "cat": lambda s: s.library.cat([s.c, s.o], 1),
    "stack": lambda s: s.library.stack([s.c, s.o]),
    "unsqueezed": lambda s: s.h.unsqueeze(2),
    "unsqueezed behind": lambda s: s.h.unsqueeze(3),
    "mm": lambda s: s.u.mm(s.d.t()),
    "matmul": lambda s: s.u @ s.d.t(),
    "mv": lambda s: s.u.mv(s.d[0]),
    "dense mm": lambda s: s.d.t() @ s.u,
    "sparse mm": lambda s: s.library.sparse.mm(s.c, s.o.t()),
    "addmm": lambda s: s.library.sparse.addmm(s.d[:, :2], s.u, s.d.t(), beta=2, alpha=3),
    "smm": lambda s: s.library.smm(s.u, s.d.t()),
    "hspmm": lambda s: s.library.hspmm(s.u, s.d.t()),
    "sspaddmm": lambda s: s.library.sspaddmm(s.o.narrow_copy(1, 0, 2), s.u, s.d.t(), beta=2),
    "mask": lambda s: s.d.sparse_mask(s.c),
    "sparse mask": lambda s: s.o.sparse_mask(s.c),
    "to_sparse": lambda s: s.d.to_sparse(),
    "to_sparse hybrid": lambda s: s.d.to_sparse(1),
    "zeros": lambda s: s.library.zeros_like(s.u),
    "cleared": lambda s: s.h.clone().zero_(),
    "resized": lambda s: s.u.clone().sparse_resize_((3, 5), 2, 0),
    "in place": lambda s: s.library.ones(2, 3).add_(s.u, alpha=2),
    "dense product in place": lambda s: s.library.ones(2, 3).mul_(s.u),
    "diagonals": lambda s: s.library.sparse.spdiags(s.d, s.library.tensor([0, 1]), (3, 3)),
    "legacy": lambda s: s.library.sparse.FloatTensor(2, 3),
}


@pytest.mark.parametrize("name", CASES)
def test_results_and_their_layouts(name):
    found, expected = CASES[name](Samples(braze)), CASES[name](Samples(torch))
    assert found.is_sparse == expected.is_sparse
    assert str(found.dtype).removeprefix("braze.") == str(expected.dtype).removeprefix("torch.")
    assert tuple(found.shape) == tuple(expected.shape)
    if found.is_sparse:
        assert found.sparse_dim() == expected.sparse_dim()
        assert found.coalesce()._nnz() == expected.coalesce()._nnz()
        assert found.is_coalesced() or not expected.is_coalesced()
        found, expected = found.to_dense(), expected.to_dense()
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["coalesce", "hybrid sums", "bool", "zeros", "long"])
def test_text(name):
    found, expected = repr(CASES[name](Samples(braze))), repr(CASES[name](Samples(torch)))
    assert found.replace("braze.", "torch.") == expected


ERRORS = {
    "values": lambda s: s.u.values(),
    "add dense": lambda s: s.u + s.d,
    "add number": lambda s: s.u + 1,
    "add shapes": lambda s: s.u + s.u.t(),
    "dense shapes": lambda s: s.d.t() + s.u,
    "divide": lambda s: s.u / s.d,
    "zeroth power": lambda s: s.u**0,
    "exp": lambda s: s.u.exp(),
    "numpy": lambda s: s.u.numpy(),
    "reshape": lambda s: s.u.reshape(3, 2),
    "copy": lambda s: s.library.zeros(2, 3).copy_(s.u),
    "assign": lambda s: s.u.__setitem__(0, 1),
    "dense coalesce": lambda s: s.d.coalesce(),
    "mask": lambda s: s.d.t().sparse_mask(s.c),
    "range": lambda s: s.library.sparse_coo_tensor([[0, 2]], [1.0, 2], (2,), check_invariants=True),
    "negative": lambda s: s.library.sparse_coo_tensor([[0, -1]], [1.0, 2]),
    "entries": lambda s: s.library.sparse_coo_tensor([[0, 1]], [1.0], (2,)),
    "dimensions": lambda s: s.library.sparse_coo_tensor([[0, 1]], [1.0, 2], (2, 3)),
    "backward": lambda s: (s.c.clone().requires_grad_() * 2).backward(),
    "leaf": lambda s: s.c.clone().requires_grad_().mul_(2),
    "cat": lambda s: s.library.cat([s.u, s.d]),
    "norm": lambda s: s.u.norm(2, dim=0),
    "adam": lambda s: _adam(s.library),
}


def _adam(library):
    table = library.nn.Parameter(library.ones(3, 2))
    library.nn.functional.embedding(library.tensor([1]), table, sparse=True).sum().backward()
    library.optim.Adam([table]).step()


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_of_one_type_and_begin_alike(name):
    texts = []
    for library in (torch, braze):
        with pytest.raises(Exception) as caught:
            ERRORS[name](Samples(library))
        texts.append((caught.type, str(caught.value)))
    assert issubclass(texts[1][0], texts[0][0])
    if "Could not run" not in texts[0][1]:
        start = re.split(r"\d|\(FYI", texts[0][1].replace("torch.", "braze."))[0].strip()[:60]
        assert texts[1][1].startswith(start)


GRADIENTS = {
    "to_dense": lambda P, x, d: x.to_dense(),
    "mm": lambda P, x, d: P.sparse.mm(x, d.t()),
    "sum": lambda P, x, d: P.sparse.sum(x, 0).to_dense(),
    "product": lambda P, x, d: (x * d).to_dense(),
    "softmax": lambda P, x, d: P.sparse.softmax(x, 1).to_dense() ** 2,
    "values": lambda P, x, d: x.coalesce().values() ** 2,
    "abs": lambda P, x, d: x.abs().to_dense(),
    "addmm": lambda P, x, d: P.sparse.addmm(d[:, :2], x, d.t()),
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("kind", ["u", "c"])
def test_gradients_of_sparse_and_dense_leaves(name, kind):
    found = []
    for library in (torch, braze):
        samples = Samples(library)
        x = getattr(samples, kind).clone().requires_grad_()
        d = samples.d.clone().requires_grad_()
        GRADIENTS[name](library, x, d).sum().backward()
        assert x.grad.is_sparse
        gradients = [x.grad, d.grad if d.grad is not None else samples.d * 0]
        found.append([g.to_dense().numpy() for g in gradients])
    for expected, own in zip(*found, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5)
