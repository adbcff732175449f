"""Tensors: creation, promotion, indexing, views, in-place methods, conversion and printing."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import braze
from braze.ir import DimensionError, DTypeError, ShapeError

pytestmark = pytest.mark.usefixtures("interpret")


def same(tensor, array):
    np.testing.assert_array_equal(tensor.numpy(force=True), array)


def test_creation_and_default_dtypes():
    assert braze.tensor([1.0, 2.0]).dtype is braze.float32
    assert braze.tensor([1, 2]).dtype is braze.int64
    assert braze.tensor([True]).dtype is braze.bool
    assert braze.tensor([0.1], dtype=braze.float64).item() == 0.1
    assert braze.tensor(np.zeros(2)).dtype is braze.float64
    assert braze.tensor([[1, 2], [3, 4]]).shape == (2, 2)
    same(braze.arange(2, 9, 3), np.arange(2, 9, 3))
    same(braze.arange(1, 0, -0.25), np.arange(1, 0, -0.25, dtype=np.float32))
    np.testing.assert_allclose(braze.linspace(0, 1, 5).numpy(), np.linspace(0, 1, 5), rtol=1e-6)
    same(braze.eye(3, 2), np.eye(3, 2, dtype=np.float32))
    same(braze.full((2, 2), 7), np.full((2, 2), 7))
    assert braze.full((2,), 1.5).dtype is braze.float32
    assert braze.zeros(2, 3).shape == braze.zeros((2, 3)).shape == (2, 3)
    assert braze.ones_like(braze.zeros(3, dtype=braze.int32)).dtype is braze.int32
    assert braze.zeros(0, 3).numel() == 0


FLOATS = [0.1, -0.0, 1e-42, 3.4e38, 3.5e38, 1e300, float("inf"), -float("inf"), float("nan")]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("count", [1, 3, 9, 64, 65])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16"])
def test_lists_of_floats_become_what_numpy_makes_of_them(kind, count):
    braze.set_default_dtype(getattr(braze, kind))
    try:
        for numbers in (FLOATS[:4], FLOATS, FLOATS[:1]):
            numbers = (numbers * count)[:count]
            x = braze.tensor(numbers, requires_grad=True)
            assert x.dtype is getattr(braze, kind) and x.requires_grad and x.is_leaf
            wide = np.array(numbers).astype(x.dtype.numpy).astype(np.float64)
            same(x.double(), wide)
            assert np.array_equal(np.signbit(x.double().detach().numpy()), np.signbit(wide))
            assert not braze.tensor(numbers).requires_grad
            with braze.inference_mode():
                assert braze.tensor(numbers).is_inference()
    finally:
        braze.set_default_dtype(braze.float32)
    assert braze.tensor([1.0, 2]).tolist() == [1.0, 2.0] and braze.tensor([]).shape == (0,)
    assert braze.tensor([1.0], dtype=braze.int64).dtype is braze.int64
    with pytest.raises(RuntimeError, match="nowhere"):
        braze.tensor([1.0], device="nowhere")


def test_creation_errors():
    with pytest.raises(ValueError, match="rectangular"):
        braze.tensor([[1, 2], [3]])
    with pytest.raises(TypeError, match="invalid data type"):
        braze.tensor("text")
    with pytest.raises(TypeError, match="np.ndarray"):
        braze.from_numpy([1, 2])
    with pytest.raises(RuntimeError, match="step sign"):
        braze.arange(0, 5, -1)


def test_there_is_no_gpu_to_make_a_tensor_on():
    with pytest.raises(RuntimeError, match=r"'cuda' is not available; .*CUDA devices need "):
        braze.zeros(2, device="cuda")


DTYPES = ["uint8", "int8", "int32", "int64", "float32", "float64", "bool"]


@pytest.mark.parametrize(("left", "right"), list(itertools.product(DTYPES, DTYPES)))
def test_promotion_follows_torch(left, right):
    torch = pytest.importorskip("torch")

    def results(library):
        x, y = getattr(library, left), getattr(library, right)
        dim, scalar = library.ones(2, dtype=x), library.ones((), dtype=y)
        yield (dim + library.ones(2, dtype=y)).dtype
        yield (dim + scalar).dtype
        yield (scalar * dim).dtype
        yield (dim * 2).dtype
        yield (dim * 2.5).dtype
        yield (dim / 2).dtype
        yield (dim + True).dtype

    ours = [dtype.public_name for dtype in results(braze)]
    assert ours == [str(dtype).removeprefix("torch.") for dtype in results(torch)]


KEYS = [
    0,
    -1,
    slice(1, 3),
    slice(None, None, 2),
    (slice(None), 1),
    (..., 2),
    (None, 0),
    (1, slice(0, 2), -1),
    (slice(None), None, slice(1, 4)),
    [0, 2],
    np.array([[0, 1], [2, 0]]),
    ([0, 1], [2, 3]),
    (slice(None), [1, 0]),
    ([0, 1], slice(None), [1, 2]),
    (0, [1, 2]),
    Ellipsis,
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_follows_numpy(key):
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    same(braze.from_numpy(array)[key], array[key])


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_assignment_follows_numpy(key):
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    tensor = braze.tensor(array)
    array[key] = -1.0
    tensor[key] = -1.0
    same(tensor, array)


def test_masks():
    array = np.arange(6.0).reshape(2, 3)
    tensor = braze.tensor(array)
    same(tensor[tensor > 2], array[array > 2])
    tensor[tensor > 2] = 0.0
    array[array > 2] = 0.0
    same(tensor, array)
    rows = braze.tensor([True, False])
    tensor[rows] = 5.0
    assert tensor.tolist() == [[5.0, 5.0, 5.0], [0.0, 0.0, 0.0]]


def test_index_errors():
    x = braze.zeros(2, 3)
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 2"):
        x[5]
    with pytest.raises(IndexError, match="tensors used as indices"):
        x[braze.ones(2)]
    with pytest.raises(DimensionError, match=r"range of \[-2, 1\], but got 4"):
        x.sum(4)
    with pytest.raises(IndexError):
        x.sum(4)


def test_views_share_memory():
    x = braze.zeros(2, 3)
    x.view(6)[4] = 1.0
    x.t()[0] = 2.0
    x[1].add_(10.0)
    x.reshape(3, 2).permute(1, 0).mul_(2.0)
    assert x.tolist() == [[4.0, 0.0, 0.0], [24.0, 22.0, 20.0]]
    row = x[0]
    x.zero_()
    assert row.tolist() == [0.0, 0.0, 0.0]
    y = x.clone()
    y.fill_(3.0)
    assert x.sum().item() == 0.0
    with pytest.raises(RuntimeError, match="single memory location"):
        braze.zeros(1).expand(3).add_(1.0)


def test_the_address_of_a_view_is_in_its_roots_memory():
    x = braze.arange(12.0).reshape(3, 4).clone()
    start = x.data_ptr()
    views = [x[1:], x.t(), x[2, 1], x[1:, 1::2], x.detach(), x.view(12)[5:], x.data[1]]
    for view in views:
        assert view.data_ptr() == view.numpy().ctypes.data
    del views, view
    x.add_(1.0)
    assert x[1].data_ptr() == x.data_ptr() + 16 == start + 16
    before = braze.stats.captured_ops
    y = x * 2.0
    assert x[1:].data_ptr() == start + 16  # nothing had to be computed or copied for it
    assert braze.stats.captured_ops == before and y[0, 0].item() == 2.0
    assert x[3:].data_ptr() == start
    assert braze.ones(1).expand(3).data_ptr() and braze.zeros(0)[:].data_ptr()


def test_going_through_a_tensor_gives_its_rows_as_views():
    x = braze.arange(6.0).reshape(3, 2).clone().requires_grad_()
    rows = list(x)
    assert [row.tolist() for row in rows] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    (rows[1] * rows[2]).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [4.0, 5.0], [2.0, 3.0]]
    with braze.no_grad():
        for row in x:
            row.mul_(2.0)
    assert x.tolist() == [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]
    assert list(braze.zeros(0, 2)) == [] and [n.item() for n in braze.arange(3)] == [0, 1, 2]
    assert [row.to_dense().tolist() for row in braze.eye(2).to_sparse()] == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(TypeError, match="0-d"):
        iter(braze.ones(()))

    class Reversed(braze.Tensor):
        def __getitem__(self, key):
            return super().__getitem__(len(self) - 1 - key)

    assert [n.item() for n in braze.arange(3).as_subclass(Reversed)] == [2, 1, 0]


def test_in_place_result_types():
    x = braze.ones(3, dtype=braze.int64)
    x += 2
    assert x.tolist() == [3, 3, 3]
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.add_(0.5)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        braze.ones(3).add_(braze.ones(2, 3))


def test_movement():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    x = braze.tensor(array)
    same(x.transpose(0, -1), array.transpose(2, 1, 0))
    same(x.flatten(1), array.reshape(2, 12))
    same(x.unsqueeze(1).squeeze(), array)
    same(x.repeat(2, 1, 1, 2), np.tile(array, (2, 1, 1, 2)))
    same(braze.cat([x, x], -1), np.concatenate([array, array], -1))
    same(braze.stack([x, x], 1), np.stack([array, array], 1))
    same(x.flip(0, 2), np.flip(array, (0, 2)))
    same(x.narrow(2, 1, 2), array[:, :, 1:3])
    assert [p.shape[2] for p in x.split([1, 3], 2)] == [1, 3]
    assert [p.shape[1] for p in x.chunk(2, 1)] == [2, 1]
    same(x.movedim(0, 2), np.moveaxis(array, 0, 2))
    same(braze.cat([x.select(1, 0), x[:, 1]]), np.concatenate([array[:, 0], array[:, 1]]))
    with pytest.raises(ShapeError, match="invalid for input of size 24"):
        x.reshape(5, 5)
    with pytest.raises(ShapeError, match="sizes must match"):
        braze.cat([x, braze.zeros(2, 2, 3)])


def test_reductions():
    array = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]], dtype=np.float32)
    x = braze.tensor(array)
    assert x.sum().item() == 16.0
    same(x.mean(1, keepdim=True), array.mean(1, keepdims=True))
    values, indices = x.max(1)
    assert values.tolist() == [3.0, 5.0]
    assert indices.tolist() == [0, 1]
    assert x.argmax().item() == 4
    assert x.argmin(0).tolist() == [1, 0, 0]
    assert (x > 1).any(1).tolist() == [True, True]
    assert (x > -1).all().item() is True
    assert (x > 1).sum().item() == 4
    np.testing.assert_allclose(x.var(1).numpy(), array.var(1, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(x.std(unbiased=False).item(), array.std(), rtol=1e-6)
    np.testing.assert_allclose(x.softmax(1).sum(1).numpy(), [1, 1], rtol=1e-6)
    with pytest.raises(RuntimeError, match="could not infer output dtype"):
        braze.ones(2, dtype=braze.int64).mean()


def test_products():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 3, 4)), random.standard_normal((2, 4, 5))
    x, y = braze.tensor(a), braze.tensor(b)
    np.testing.assert_allclose((x @ y).numpy(), a @ b, rtol=1e-12)
    np.testing.assert_allclose(x.bmm(y).numpy(), a @ b, rtol=1e-12)
    np.testing.assert_allclose(x[0].mv(y[0, :, 0]).numpy(), a[0] @ b[0, :, 0], rtol=1e-12)
    np.testing.assert_allclose(braze.dot(x[0, 0], y[0, :, 1]).item(), a[0, 0] @ b[0, :, 1])
    np.testing.assert_allclose(braze.outer(x[0, 0], x[0, 1]).numpy(), np.outer(a[0, 0], a[0, 1]))
    with pytest.raises(DTypeError, match=r"differ in dtype: f64\[3,4\] and f32\[4,2\]"):
        x[0] @ braze.ones(4, 2)


def test_random_numbers_are_seeded():
    braze.manual_seed(3)
    first = (braze.rand(100), braze.randn(100), braze.randint(0, 10, (50,)), braze.randperm(20))
    state = braze.get_rng_state()
    following = braze.rand(5)
    braze.manual_seed(3)
    for a, b in zip(
        first,
        (braze.rand(100), braze.randn(100), braze.randint(0, 10, (50,)), braze.randperm(20)),
        strict=True,
    ):
        same(a, b.numpy())
    braze.set_rng_state(state)
    same(following, braze.rand(5).numpy())
    assert sorted(first[3].tolist()) == list(range(20))
    uniform = braze.rand(20000).numpy()
    assert 0 <= uniform.min() and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01
    normal = braze.randn(20000).numpy()
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03


def test_numpy_and_python_conversion():
    x = braze.tensor([[1.5, 2.0]], requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()
    assert np.asarray(x.detach()).tolist() == [[1.5, 2.0]]
    assert float(braze.tensor(2.5)) == 2.5
    assert int(braze.tensor(3)) == 3
    assert [10, 20, 30][braze.tensor(1)] == 20
    assert bool(braze.tensor(0.0)) is False
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(braze.zeros(2))
    with pytest.raises(RuntimeError, match="2 elements cannot be converted"):
        braze.zeros(2).item()
    assert [t.item() for t in braze.tensor([1, 2])] == [1, 2]


def test_copy_and_pickle():
    x = braze.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    clone = copy.deepcopy(x)
    assert clone.grad.tolist() == x.grad.tolist()
    with braze.no_grad():
        clone.zero_()
    assert x.tolist() == [1.0, 2.0]
    again = pickle.loads(pickle.dumps(x))
    assert again.requires_grad and again.tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2.0)
