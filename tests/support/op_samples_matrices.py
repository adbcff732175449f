"""Samplers of linear algebra: products, factorisations, solvers and Fourier transforms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from op_samples import Draw, Sample, sampler, well_conditioned

# Products -----------------------------------------------------------------------------------------


@sampler("contract")
def _contract(draw: Draw) -> Iterator[Sample]:
    for equation, left, right in (
        ("mk,kn->mn", (3, 4), (4, 2)),
        ("bmk,bnk->bmn", (2, 3, 4), (2, 2, 4)),
        ("k,k->", (5,), (5,)),
        ("m,n->nm", (3,), (2,)),
        ("mk,nk->mn", (0, 3), (2, 3)),
        ("mk,nk->mn", (2, 0), (2, 0)),
        ("abk,kc->acb", (2, 1, 3), (3, 2)),
        ("mk,kn->mn", (17, 33), (33, 19)),
        ("b,b->b", (3,), (3,)),
    ):
        yield Sample([draw(*left), draw(*right)], {"equation": equation}, gradients=17 not in left)


PRODUCTS = {
    "matmul": (
        ((3, 4), (4, 2)), ((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)), ((19, 34), (34, 18)),
    ),
    "mm": (((3, 4), (4, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)),
    ((19, 34), (34, 18))),
    "bmm": (((2, 3, 4), (2, 4, 2)), ((0, 2, 3), (0, 3, 2)), ((1, 1, 1), (1, 1, 1)),
    ((2, 2, 0), (2, 0, 2))),
    "mv": (((3, 4), (4,)), ((0, 3), (3,)), ((2, 0), (0,)), ((35, 40), (40,))),
    "dot": (((4,), (4,)), ((0,), (0,)), ((1,), (1,)), ((40,), (40,))),
    "outer": (((3,), (4,)), ((0,), (2,)), ((1,), (1,))),
    "addmm": (
        ((2,), (3, 4), (4, 2)), ((3, 2), (3, 4), (4, 2)), ((), (2, 3), (3, 2)),
        ((3, 1), (3, 0), (0, 2)),
        ((18,), (19, 34), (34, 18)),
    ),
    "linear_no_bias": (((3, 4), (2, 4)), ((4,), (2, 4)), ((2, 1, 3), (2, 3)), ((0, 3), (2, 3)),
    ((19, 34), (18, 34))),
    "linear": (
        ((3, 4), (2, 4), (2,)), ((4,), (2, 4), (2,)), ((2, 1, 3), (2, 3), (2,)),
        ((0, 3), (2, 3), (2,)),
        ((2, 0), (3, 0), (3,)), ((19, 34), (18, 34), (18,)),
    ),
}  # fmt: skip


@sampler(*PRODUCTS)
def _products(draw: Draw) -> Iterator[Sample]:
    for shapes in PRODUCTS[draw.op.name]:
        small = max(itertools.chain(*shapes), default=0) < 10
        yield Sample([draw(*shape) for shape in shapes], gradients=small)


# Factorisations -----------------------------------------------------------------------------------

SQUARE = ((3, 3), (2, 3, 3), (1, 1), (0, 2, 2), (0, 0))
ANY = ((3, 3), (4, 3), (3, 4), (2, 3, 2), (1, 1), (0, 3), (2, 0), (0, 2, 2))


def widest(x: np.ndarray) -> np.ndarray:
    """In double precision."""
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


@sampler("cholesky", "eigh")
def _symmetric(draw: Draw) -> Iterator[Sample]:
    for shape in SQUARE:
        x = widest(well_conditioned(draw, *shape)) * 1.5
        both = (x + np.conj(np.swapaxes(x, -1, -2))).astype(draw.dtype.numpy)
        yield Sample([both], gradients=0 not in shape)


@sampler("pstrf")
def _pstrf(draw: Draw) -> Iterator[Sample]:
    for number, shape in enumerate((*SQUARE, (4, 4))):
        root = well_conditioned(draw, *shape)
        root[..., :, 2:3] = 0  # not of full rank
        x = root @ np.swapaxes(root, -1, -2)
        yield Sample([x.astype(draw.dtype.numpy)], {"tolerance": (-1.0, 1e-3)[number % 2]})


@sampler("qr", "svd", "lu_factor", "geqrf", "pinv")
def _any_matrix(draw: Draw) -> Iterator[Sample]:
    op = draw.op
    kinds = {"qr": "complete", "svd": "full"}
    for number, shape in enumerate(itertools.chain(ANY, ((3, 3), (3, 4), (4, 3)))):
        attributes: dict[str, object] = {}
        m, n = shape[-2:]
        whole = number >= len(ANY)
        if op.name in kinds:
            attributes = {kinds[op.name]: whole}
        elif whole:
            continue
        if op.name == "pinv":
            attributes = {"rtol": 1e-6}
        # These have no gradient, and say so.
        without = (
            (op.name == "qr" and whole and m > n)
            or (op.name == "svd" and whole and m != n)
            or (op.name == "lu_factor" and m != n)
        )
        x = well_conditioned(draw, *shape)
        yield Sample([x], attributes, gradients=0 not in shape and not without)


@sampler("lu_permutation")
def _lu_permutation(draw: Draw) -> Iterator[Sample]:
    for shape, size, inverse in (
        ((3,), 3, False),
        ((2, 2), 4, True),
        ((0,), 2, False),
        ((0, 2), 2, True),
    ):
        low = np.arange(shape[-1]) + 1
        pivots = low + draw.random.integers(0, 100, shape) % (size - low + 1)
        yield Sample([pivots.astype(draw.dtype.numpy)], {"size": size, "inverse": inverse})


def reflectors(draw: Draw, *shape: int) -> list[np.ndarray]:
    """Householder vectors and factors that make an orthogonal matrix."""
    wide = widest(well_conditioned(draw, *shape))
    a, tau = np.linalg.qr(wide, mode="raw")
    kind = draw.dtype.numpy
    return [np.ascontiguousarray(np.swapaxes(a, -1, -2)).astype(kind), tau.astype(kind)]


@sampler("orgqr")
def _orgqr(draw: Draw) -> Iterator[Sample]:
    for shape in ((3, 3), (4, 3), (2, 3, 2), (1, 1), (3, 0), (0, 2, 2)):
        yield Sample(reflectors(draw, *shape), gradients=0 not in shape)


@sampler("ormqr")
def _ormqr(draw: Draw) -> Iterator[Sample]:
    for number, shape in enumerate(((3, 3), (4, 3), (2, 3, 2), (3, 4), (1, 1), (0, 2, 2), (4, 2))):
        left, transpose = bool(number % 2), bool(number // 2 % 2)
        m = shape[-2]
        x = draw(*shape[:-2], *((m, 2) if left else (2, m)))
        attributes = {"left": left, "transpose": transpose}
        yield Sample([*reflectors(draw, *shape), x], attributes, gradients=0 not in shape)


@sampler("solve", "triangular_solve")
def _solve(draw: Draw) -> Iterator[Sample]:
    flags = itertools.product((False, True), repeat=2)
    for shape in (*SQUARE, (3, 3), (3, 3), (2, 2)):
        attributes = {}
        if draw.op.attributes:
            attributes = dict(zip(draw.op.attributes, next(flags, (True, False)), strict=True))
        right = draw(*shape[:-1], 2)
        a = well_conditioned(draw, *shape)
        yield Sample([a, right], attributes, gradients=0 not in shape)


# Fourier transforms -------------------------------------------------------------------------------


@sampler("fft")
def _fft(draw: Draw) -> Iterator[Sample]:
    for shape, dims, inverse in (
        ((5,), (0,), False), ((2, 4), (1,), True), ((3, 2), (0, 1), False),
        ((1, 2, 3), (2, 0, 1), True), ((0, 3), (1,), False), ((3, 2), (0,), True),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dims": dims, "inverse": inverse})


@sampler("rfft")
def _rfft(draw: Draw) -> Iterator[Sample]:
    for shape, dims in (
        ((5,), (0,)), ((2, 4), (1,)), ((3, 4), (0, 1)), ((2, 2, 3), (2, 1, 0)), ((0, 3), (1,)),
        ((1,), (0,)), ((4, 3), (0,)),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dims": dims})


@sampler("irfft")
def _irfft(draw: Draw) -> Iterator[Sample]:
    for shape, dims, size in (
        ((3,), (0,), 5), ((3,), (0,), 4), ((2, 3), (0, 1), 4), ((2, 2, 2), (2, 1, 0), 3),
        ((0, 2), (1,), 3), ((1,), (0,), 1), ((3, 2), (0,), 4),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dims": dims, "size": size})
