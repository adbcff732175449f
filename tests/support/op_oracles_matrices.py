"""Oracles of movements, indexing, linear algebra and Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
from op_oracles import ORACLES, Check, oracle

# Movements ----------------------------------------------------------------------------------------


def _slices(starts: Any, stops: Any, steps: Any) -> tuple[slice, ...]:
    return tuple(slice(*three) for three in zip(starts, stops, steps, strict=True))


@oracle("pad")
def _pad(x: np.ndarray, *, low: Any, high: Any, interior: Any, value: float) -> np.ndarray:
    for axis, gap in enumerate(interior):
        places = np.repeat(np.arange(1, x.shape[axis]), gap)
        x = np.insert(x, places, value, axis=axis)
    borders = list(zip(low, high, strict=True))
    return np.pad(x, borders, constant_values=value) if borders else x


@oracle("sum_to_shape")
def _sum_to_shape(x: np.ndarray, *, shape: Any) -> np.ndarray:
    lead = x.ndim - len(shape)
    own = np.sum(x, axis=tuple(range(lead)), dtype=x.dtype)
    dims = tuple(d for d, (n, m) in enumerate(zip(own.shape, shape, strict=True)) if n != m)
    return np.sum(own, axis=dims, keepdims=True, dtype=x.dtype)


@oracle("window")
def _window(x: np.ndarray, *, dims: Any, size: Any, stride: Any, dilation: Any) -> np.ndarray:
    wide = [gap * (k - 1) + 1 for k, gap in zip(size, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, wide, axis=dims)
    at: list[Any] = [slice(None)] * view.ndim
    for number, (d, s, gap) in enumerate(zip(dims, stride, dilation, strict=True)):
        at[d], at[x.ndim + number] = slice(None, None, s), slice(None, None, gap)
    return view[tuple(at)]


@oracle("unwindow")
def _unwindow(x: np.ndarray, *, dims: Any, extent: Any, stride: Any, dilation: Any) -> np.ndarray:
    rank = x.ndim - len(dims)
    shape = list(x.shape)
    for d, n in zip(dims, extent, strict=True):
        shape[d] = n
    out = np.zeros(shape, x.dtype)
    for place in np.ndindex(*x.shape):
        to = list(place)
        for number, d in enumerate(dims):
            to[d] = place[d] * stride[number] + place[rank + number] * dilation[number]
        out[tuple(to)] = x[place]
    return out


def _positions(sizes: Any, strides: Any, offset: int) -> np.ndarray:
    grid = np.indices(sizes).reshape(len(sizes), *sizes)
    return offset + np.tensordot(np.array(strides, dtype=int), grid, axes=1).astype(int)


@oracle("diag_embed")
def _diag_embed(
    x: np.ndarray, *, offset: int, dim1: int, dim2: int, rows: int, columns: int
) -> np.ndarray:
    out = np.zeros((*x.shape[:-1], rows, columns), x.dtype)
    for k in range(x.shape[-1]):
        out[..., k + max(-offset, 0), k + max(offset, 0)] = x[..., k]
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def _triangle(x: np.ndarray, diagonal: int, lower: bool) -> np.ndarray:
    row, column = np.ogrid[: x.shape[-2], : x.shape[-1]]
    keep = column - row <= diagonal if lower else column - row >= diagonal
    return np.where(keep, x, np.zeros((), x.dtype))


ORACLES |= {
    "reshape": lambda x, *, shape: np.array(x.reshape(-1).tolist(), x.dtype).reshape(shape),
    "permute": lambda x, *, dims: np.moveaxis(x, dims, range(x.ndim)),
    "expand": lambda x, *, shape: np.zeros(shape, x.dtype) + x if x.dtype != bool
    else np.zeros(shape, bool) | x,
    "slice": lambda x, *, starts, stops, steps: x[_slices(starts, stops, steps)],
    "flip": lambda x, *, dims: np.flip(x, dims),
    "concat": lambda *xs, dim: np.concatenate(xs, axis=dim),
    "stack": lambda *xs, dim: np.stack(xs, axis=dim),
    "select": lambda x, *, dim, index: np.take(x, index, axis=dim),
    "tril": lambda x, *, diagonal: _triangle(x, diagonal, True),
    "triu": lambda x, *, diagonal: _triangle(x, diagonal, False),
    "diagonal": lambda x, *, offset, dim1, dim2: np.diagonal(x, offset, dim1, dim2),
    "as_strided": lambda x, *, sizes, strides, offset: x[_positions(sizes, strides, offset)],
    "strided_index": lambda *, shape, strides, offset: _positions(shape, strides, offset),
    "constant": lambda *, value, dtype: np.array(value).astype(dtype.numpy),
    "full": lambda *, shape, value, dtype: np.full(shape, np.array(value).astype(dtype.numpy)),
    "iota": lambda *, shape, dim, dtype: np.indices(shape)[dim],
}  # fmt: skip

# Indexing -----------------------------------------------------------------------------------------


def _clipped(index: np.ndarray, size: int) -> np.ndarray:
    return np.clip(index, 0, max(size - 1, 0))


def _writes(x: np.ndarray, index: np.ndarray, updates: np.ndarray, dim: int, rows: bool) -> Any:
    """Where each update goes, one after the other."""
    index = _clipped(index, x.shape[dim])
    for place in np.ndindex(*updates.shape):
        if rows:
            own = place[dim : dim + index.ndim]
            to = (*place[:dim], int(index[own]), *place[dim + index.ndim :])
        else:
            to = (*place[:dim], int(index[place]), *place[dim + 1 :])
        yield to, updates[place]


def _combine(rows: bool, function: Any) -> Any:
    def run(
        x: np.ndarray, index: np.ndarray, updates: np.ndarray, *, dim: int, combine: str = ""
    ) -> np.ndarray:
        out = x.copy()
        chosen = function or {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[combine]
        for to, value in _writes(x, index, updates, dim, rows):
            out[to] = chosen(out[to], value)
        return out

    return run


def _check_range(index: np.ndarray, *, low: int, high: int, message: str) -> tuple[()]:
    assert ((index >= low) & (index < high)).all()
    return ()


ORACLES |= {
    "take": lambda x, index, *, dim: np.take(x, index, axis=dim, mode="clip")
    if index.size else np.zeros((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]), x.dtype),
    "take_along": lambda x, index, *, dim: np.take_along_axis(
        x[tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))],
        _clipped(index, x.shape[dim]).astype(int), dim,
    ),
    "index_add": _combine(True, np.add),
    "scatter_add": _combine(False, np.add),
    "index_put": _combine(True, lambda old, new: new),
    "scatter": _combine(False, lambda old, new: new),
    "scatter_reduce": _combine(False, None),
    "check_range": _check_range,
    "wrapped_index": lambda index, *, size, message: np.where(index < 0, index + size, index),
    "one_hot": lambda index, *, classes: np.eye(classes, dtype=int)[index],
}  # fmt: skip

# Linear algebra -----------------------------------------------------------------------------------


def _einsum(x: np.ndarray, y: np.ndarray, *, equation: str) -> np.ndarray:
    return np.einsum(equation, x, y, dtype=x.dtype)


ORACLES |= {
    "contract": _einsum,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), np.matmul),
    "outer": np.outer,
    "addmm": lambda bias, x, y: bias + x @ y,
    "linear_no_bias": lambda x, weight: x @ weight.T,
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "inverse": np.linalg.inv,
    "det": np.linalg.det,
    "slogdet": lambda x: (np.sign(np.linalg.det(x)), np.log(np.abs(np.linalg.det(x)))),
    "solve": lambda a, b: np.linalg.inv(a) @ b,
    "cholesky": lambda x: np.linalg.cholesky(x),
}


def _swap(x: np.ndarray) -> np.ndarray:
    """The adjoint."""
    return np.conj(np.swapaxes(x, -1, -2))


def _orthonormal(x: np.ndarray) -> None:
    """The columns are."""
    eye = np.broadcast_to(np.eye(x.shape[-1]), (*x.shape[:-2], *[x.shape[-1]] * 2))
    np.testing.assert_allclose(_swap(x) @ x, eye, atol=_tolerance(x))


def _tolerance(x: np.ndarray) -> float:
    return 1e-12 if x.dtype in (np.float64, np.complex128) else 2e-5


def _near(found: np.ndarray, wanted: np.ndarray, like: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(found, wanted, atol=_tolerance(like) * scale)


@oracle("cofactor")
def _cofactor(x: np.ndarray) -> np.ndarray:
    out = np.ones_like(x)
    for *batch, i, j in np.ndindex(*x.shape):
        own = x[tuple(batch)]
        minor = np.delete(np.delete(own, i, 0), j, 1)
        out[(*batch, i, j)] = (-1) ** (i + j) * (np.linalg.det(minor) if minor.size else 1.0)
    return out


@oracle("triangular_solve")
def _triangular_solve(
    a: np.ndarray, b: np.ndarray, *, upper: bool, unitriangular: bool
) -> np.ndarray:
    out = np.zeros_like(b)
    for place in np.ndindex(*a.shape[:-2]):
        if a.shape[-1]:
            out[place] = scipy.linalg.solve_triangular(
                a[place], b[place], lower=not upper, unit_diagonal=unitriangular
            )
    return out


@oracle("pinv")
@Check
def _pinv(operands: Any, results: Any, *, rtol: float) -> None:
    """The four conditions of Penrose."""
    (x,), (p,) = operands, results
    _near(x @ p @ x, x, x)
    _near(p @ x @ p, p, x)
    _near(_swap(x @ p), x @ p, x)
    _near(_swap(p @ x), p @ x, x)


@oracle("qr")
@Check
def _qr(operands: Any, results: Any, *, complete: bool) -> None:
    (x,), (q, r) = operands, results
    _orthonormal(q)
    _near(q @ r, x, x)
    assert not np.tril(r, -1).any()


@oracle("svd")
@Check
def _svd(operands: Any, results: Any, *, full: bool) -> None:
    (x,), (u, s, vh) = operands, results
    k = s.shape[-1]
    _orthonormal(u)
    _orthonormal(_swap(vh))
    assert (s >= 0).all() and (np.diff(s) <= 0).all()
    _near(u[..., :k] * s[..., None, :] @ vh[..., :k, :], x, x)


@oracle("eigh")
@Check
def _eigh(operands: Any, results: Any) -> None:
    (x,), (values, vectors) = operands, results
    _orthonormal(vectors)
    assert (np.diff(values) >= 0).all()
    _near(x @ vectors, vectors * values[..., None, :], x)


@oracle("eig")
@Check
def _eig(operands: Any, results: Any) -> None:
    (x,), (values, vectors) = operands, results
    _near(x @ vectors, vectors * values[..., None, :], x)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(values.sum(-1), np.trace(x, axis1=-2, axis2=-1), atol=1e-5)


@oracle("lu_factor")
@Check
def _lu_factor(operands: Any, results: Any) -> None:
    (x,), (lu, pivots) = operands, results
    k = min(x.shape[-2:])
    below = np.tril(lu, -1)[..., :k] + np.eye(x.shape[-2], k, dtype=x.dtype)
    # LAPACK compares |re| + |im| of complex pivots.
    assert (np.abs(below) <= (2**0.5 if np.iscomplexobj(x) else 1.0)).all()
    _near(below @ np.triu(lu)[..., :k, :], _swapped(x, pivots), x)


def _swapped(x: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    out = x.copy()
    for place in np.ndindex(*pivots.shape[:-1]):
        for i, p in enumerate(pivots[place]):
            out[place][[i, p - 1]] = out[place][[p - 1, i]]
    return out


@oracle("lu_permutation")
def _lu_permutation(pivots: np.ndarray, *, size: int, inverse: bool) -> np.ndarray:
    rows = np.broadcast_to(np.arange(size)[:, None], (*pivots.shape[:-1], size, 1))
    order = _swapped(rows, pivots)[..., 0]
    if not inverse:
        return order
    matrix = np.eye(size, dtype=int)[order]
    return _swap(matrix) @ np.arange(size)


def _q(a: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The whole orthogonal matrix, [m, m], as a product of reflections."""
    m = a.shape[-2]
    out = np.zeros((*a.shape[:-2], m, m), a.dtype) + np.eye(m, dtype=a.dtype)
    for i in range(tau.shape[-1]):
        column = a[..., :, i].copy()
        column[..., :i], column[..., i] = 0, 1
        v = column
        out = out - (out @ v[..., None]) * (tau[..., i, None, None] * np.conj(v)[..., None, :])
    return out


@oracle("geqrf")
@Check
def _geqrf(operands: Any, results: Any) -> None:
    (x,), (a, tau) = operands, results
    q = _q(a, tau)
    _orthonormal(q)
    _near(q @ np.triu(a), x, x)


ORACLES |= {
    "orgqr": lambda a, tau: _q(a, tau)[..., : a.shape[-1]],
    "ormqr": lambda a, tau, x, *, left, transpose: _product(_q(a, tau), x, left, transpose),
}  # fmt: skip


def _product(q: np.ndarray, x: np.ndarray, left: bool, transpose: bool) -> np.ndarray:
    q = _swap(q) if transpose else q
    return q @ x if left else x @ q


# Fourier transforms: by SciPy, which has an FFT of its own ----------------------------------------


@oracle("fft")
def _fft(x: np.ndarray, *, dims: Any, inverse: bool) -> np.ndarray:
    function, norm = (scipy.fft.ifftn, "forward") if inverse else (scipy.fft.fftn, "backward")
    return function(x, axes=dims, norm=norm)


@oracle("rfft")
def _rfft(x: np.ndarray, *, dims: Any) -> np.ndarray:
    return np.take(scipy.fft.fftn(x, axes=dims), range(x.shape[dims[-1]] // 2 + 1), axis=dims[-1])


@oracle("irfft")
def _irfft(x: np.ndarray, *, dims: Any, size: int) -> np.ndarray:
    sizes = (*(x.shape[d] for d in dims[:-1]), size)
    return scipy.fft.irfftn(x, s=sizes, axes=dims, norm="forward")


# Functions of matrices ----------------------------------------------------------------------------


@oracle("matrix_exp")
def _matrix_exp(x: np.ndarray) -> np.ndarray:
    return scipy.linalg.expm(x) if x.size else x


@oracle("pstrf")
@Check
def _pstrf(operands: Any, results: Any, *, tolerance: float) -> None:
    (x,), (u, order) = operands, results
    rows = np.take_along_axis(x, order[..., :, None].astype(int), -2)
    _near(_swap(u) @ u, np.take_along_axis(rows, order[..., None, :].astype(int), -1), x)
    diagonal = np.diagonal(u, axis1=-2, axis2=-1)
    assert not np.tril(u, -1).any() and (np.diff(diagonal) <= 0).all() and (diagonal >= 0).all()
    if x.size:
        assert np.count_nonzero(diagonal) == np.linalg.matrix_rank(x).sum()
