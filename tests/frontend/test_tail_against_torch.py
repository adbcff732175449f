"""The long tail of functions against PyTorch, where it is installed: values and gradients."""

import warnings

import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(2, 3, 3))
ROWS = RNG.normal(size=(5, 4))
PLACES = np.array([2, 0, 2, 1, 2])
LENGTHS = np.array([2, 0, 3])


def long(m, values):
    return m.tensor(np.asarray(values, np.int64))


# What to call with the library and the operands; then the operands.
CASES = {
    "cov": (lambda m, x: m.cov(x), X),
    "cov method": (lambda m, x: x.cov(correction=0), X),
    "cov of a vector": (lambda m, x: m.cov(x), X[0]),
    "cov weighted": (
        lambda m, x: m.cov(
            x,
            fweights=long(m, [1, 2, 1, 3]),
            aweights=m.tensor([0.5, 1.0, 2.0, 0.1], dtype=m.float64),
        ),
        X,
    ),
    "corrcoef": (lambda m, x: m.corrcoef(x), X),
    "gradient": (lambda m, x: m.gradient(x), X),
    "gradient along one": (lambda m, x: m.gradient(x, spacing=0.5, dim=1, edge_order=2), X),
    "gradient uneven": (
        lambda m, x: m.gradient(
            x, spacing=(m.tensor([0.0, 1.0, 3.0, 4.5], dtype=m.float64),), dim=1, edge_order=2
        ),
        X,
    ),
    "gradient of two": (lambda m, x: m.gradient(x[:2], dim=0), X),
    "matrix_exp": (lambda m, x: m.matrix_exp(x), SQUARE),
    "matrix_exp large": (lambda m, x: x.matrix_exp(), SQUARE * 20 - 60 * np.eye(3)),
    "index_reduce prod": (
        lambda m, x, s: m.index_reduce(x, 0, long(m, PLACES), s, "prod"), X, ROWS,
    ),
    "index_reduce mean": (
        lambda m, x, s: m.index_reduce(x, 0, long(m, PLACES), s, "mean"), X, ROWS,
    ),
    "index_reduce amax": (
        lambda m, x, s: x.index_reduce(
            1, long(m, PLACES), s.transpose(0, 1)[:3], "amax", include_self=False
        ),
        X, ROWS,
    ),
    "segment sum": (
        lambda m, x: m.segment_reduce(x, "sum", lengths=long(m, LENGTHS), initial=0), ROWS,
    ),
    "segment mean": (
        lambda m, x: m.segment_reduce(x, "mean", lengths=long(m, [2, 3])), ROWS,
    ),
    "segment max": (
        lambda m, x: m.segment_reduce(x, "max", offsets=long(m, [0, 2, 2, 5]), initial=-1.0),
        ROWS,
    ),
    "segment min of rows": (
        lambda m, x: m.segment_reduce(x, "min", lengths=long(m, [[1, 3], [2, 2], [4, 0]]), axis=1),
        X,
    ),
    "segment prod": (lambda m, x: m.segment_reduce(x, "prod", lengths=long(m, [4, 1])), ROWS),
    "nonzero_static": (
        lambda m, x: m.nonzero_static((x > 0).to(m.int64), size=4).to(m.float64), X,
    ),
    "nonzero_static filled": (
        lambda m, x: (x > 0).nonzero_static(size=14, fill_value=7).to(m.float64), X,
    ),
    "histogramdd": (lambda m, x: m.histogramdd(x.detach(), [2, 3, 1, 2])[0], ROWS),
    "histogramdd weighted": (
        lambda m, x, w: m.histogramdd(
            x[:, :2].detach(), 3, range=(-1.0, 1.0, -0.5, 2.0), weight=w.detach(), density=True
        )[0],
        ROWS, np.abs(ROWS[:, 3]),
    ),
    "histogramdd edges": (
        lambda m, x: m.histogramdd(x[:, :2].detach(), bins=[
            m.tensor([-1.0, 0.0, 2.0], dtype=m.float64), m.tensor([-2.0, 2.0], dtype=m.float64),
        ])[0],
        ROWS,
    ),
    "norm_except_dim": (lambda m, x: m.norm_except_dim(x, 2, 1), SQUARE),
    "norm_except_dim of all": (lambda m, x: m.norm_except_dim(x, 3, -1), SQUARE),
    "fill": (lambda m, x: m.fill(x, x[0, 0]), X),
    "split_with_sizes": (lambda m, x: m.split_with_sizes(x, [1, 3], 1), X),
    "unsafe_split": (lambda m, x: m.unsafe_split(x, 3, 1), X),
    "unsafe_chunk": (lambda m, x: x.unsafe_chunk(2), X),
    "slice_inverse": (lambda m, x: m.slice_inverse(x[:, 1:], x, 1, 1, 4), X),
    "view_copy": (lambda m, x: m.view_copy(x, (2, 6)), X),
    "slice_copy": (lambda m, x: m.slice_copy(x, 1, 1, None, 2), X),
    "unbind_copy": (lambda m, x: m.unbind_copy(x, 1), X),
    "expand_copy": (lambda m, x: m.expand_copy(x, (2, 3, 4)), X),
    "kaiser_window": (
        lambda m, x: m.kaiser_window(6, False, 7.0, dtype=m.float64) * x.sum(), X,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_function(name):
    function, *arrays = CASES[name]
    ours = [braze.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, wanted = function(braze, *ours), function(torch, *theirs)
    found, wanted = (list(r) if isinstance(r, tuple) else [r] for r in (found, wanted))
    assert len(found) == len(wanted)
    for mine, their in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            mine.numpy(force=True), their.detach().numpy(), rtol=1e-9, atol=1e-12
        )
        assert mine.dtype.public_name == str(their.dtype).split(".")[1]
    if not wanted[0].requires_grad:
        return
    weights = np.linspace(0.5, 1.5, wanted[0].numel()).reshape(tuple(wanted[0].shape))
    (found[0] * braze.tensor(weights)).sum().backward()
    (wanted[0] * torch.tensor(weights)).sum().backward()
    for a, t in zip(ours, theirs, strict=True):
        scale = max(1.0, float(t.grad.abs().max()))
        np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-7, atol=1e-10 * scale)


@pytest.mark.parametrize("size", [(5, 3), (3, 5), (2, 6, 4)])
def test_few_singular_values(size):
    """Of a matrix of rank 2 they are exact, whatever the random numbers."""
    a = RNG.normal(size=(*size[:-1], 2)) @ RNG.normal(size=(*size[:-2], 2, size[-1]))
    for function in (braze.svd_lowrank, braze.pca_lowrank):
        u, s, v = function(braze.tensor(a), q=3)
        shifted = a - a.mean(-2, keepdims=True) if function is braze.pca_lowrank else a
        rebuilt = u.numpy() * s.numpy()[..., None, :] @ np.swapaxes(v.numpy(), -1, -2)
        np.testing.assert_allclose(rebuilt, shifted, atol=1e-12)
        expected = np.linalg.svd(shifted, compute_uv=False)[..., :3]
        np.testing.assert_allclose(s.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("general", [True, False])
def test_few_eigenvalues(largest, general):
    a = RNG.normal(size=(20, 20))
    a = a @ a.T + np.diag(np.arange(20.0))
    b = np.eye(20) * 2 if general else np.eye(20)
    product = braze.tensor(b) if general else None
    values, vectors = braze.lobpcg(
        braze.tensor(a), 3, B=product, largest=largest, niter=200, tol=1e-9
    )
    every = np.linalg.eigvalsh(a) / (2 if general else 1)
    expected = every[::-1][:3] if largest else every[:3]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-8)
    x = vectors.numpy()
    np.testing.assert_allclose(a @ x, b @ x * values.numpy(), atol=1e-4)
    with pytest.raises(ValueError, match="smaller than 3 x"):
        braze.lobpcg(braze.tensor(a), 7)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.cov(m.zeros(2, 2, 2)),
        lambda m: m.cov(m.zeros(2, 2), fweights=m.zeros(2)),
        lambda m: m.cov(m.zeros(2, 2), aweights=m.tensor([1, 2])),
        lambda m: m.gradient(m.zeros(1)),
        lambda m: m.gradient(m.zeros(3, 3), spacing=[1.0, 2.0, 3.0]),
        lambda m: m.matrix_exp(m.zeros(2, 3)),
        lambda m: m.segment_reduce(m.zeros(6), "sum"),
        lambda m: m.segment_reduce(m.zeros(6), "foo", lengths=m.tensor([6])),
        lambda m: m.segment_reduce(m.zeros(6), "sum", lengths=m.tensor([2, 1])),
        lambda m: m.index_reduce(m.zeros(3), 0, m.tensor([0]), m.zeros(1), "sum"),
        lambda m: m.split_with_sizes(m.zeros(3), [1, 1]),
        lambda m: m.split_with_sizes(m.zeros(3), [4, -1]),
        lambda m: m.fill(m.zeros(2), m.zeros(2)),
        lambda m: m.set_deterministic_debug_mode("loud"),
        lambda m: m.set_num_interop_threads(0),
        lambda m: m.sym_constrain_range(5, min=1, max=3),
        lambda m: m.empty_permuted((2, 3), (0, 0)),
        lambda m: m.asarray([1, 2], copy=False),
        lambda m: m.frombuffer(bytearray(8), dtype=m.int32, count=3),
        lambda m: m.frombuffer(bytearray(7), dtype=m.int32),
        lambda m: m.frombuffer(bytearray(0), dtype=m.int32),
        lambda m: m.zeros(3).resize(2, 2),
        lambda m: m.zeros(3).reinforce(1.0),
    ],
)
@pytest.mark.filterwarnings("ignore:.*resize:UserWarning")
def test_errors_of_the_tail(call):
    with pytest.raises(Exception) as theirs:
        call(torch)
    wanted = theirs.type if theirs.type is not NotImplementedError else RuntimeError
    with pytest.raises(wanted):
        call(braze)
