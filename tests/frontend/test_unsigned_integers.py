"""uint16, uint32 and uint64 against NumPy: promotion, arithmetic, reductions, interchange."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import braze

NAMES = ["uint16", "uint32", "uint64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", *NAMES]


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield request.param
    braze.sync()
    braze.config.tier = before


def samples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from the whole range, and as many that are not zero."""
    dtype = np.dtype(name)
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    x = rng.integers(0, top, 26, dtype, endpoint=True)
    edges = [0, 1, 2, 3, top, top - 1, top // 2, top // 2 + 1, 7, 9]
    x = np.concatenate([x, np.array(edges, dtype)])
    y = np.roll(x, 3)
    return x, np.where(y == 0, 5, y).astype(dtype)


def compare(cases: dict) -> None:
    """Name: (what a tensor function gave, what NumPy gave)."""
    for name, (found, right) in cases.items():
        right = np.asarray(right)
        array = found.numpy()
        assert array.dtype == right.dtype, name
        np.testing.assert_array_equal(array, right, err_msg=name)


PAIRS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "fmod": np.fmod, "maximum": np.maximum, "minimum": np.minimum,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_arithmetic(name, tier):
    a, b = samples(name)
    x, y, dtype = braze.tensor(a), braze.tensor(b), a.dtype.type
    top, bits = int(np.iinfo(a.dtype).max), np.iinfo(a.dtype).bits
    by = b % dtype(bits)
    single = np.float32
    compare(
        {key: (getattr(braze, key)(x, y), f(a, b)) for key, f in PAIRS.items()}
        | {f"{key} 3": (getattr(braze, key)(x, 3), f(a, dtype(3))) for key, f in PAIRS.items()}
        | {
            "<<": (x << braze.tensor(by), a << by),
            ">>": (x >> braze.tensor(by), a >> by),
            "/": (x / y, a.astype(single) / b.astype(single)),
            "**": (x ** braze.tensor(b % dtype(5)), a ** (b % dtype(5))),
            "neg": (-x, np.negative(a)),
            "abs": (abs(x), a),
            "~": (~x, ~a),
            "sign": (braze.sign(x), np.sign(a)),
            "signbit": (braze.signbit(x), np.zeros(a.shape, bool)),
            "floor": (braze.floor(x), a),
            "where": (braze.where(x > y, x, y), np.where(a > b, a, b)),
            "clamp": (x.clamp(2, top - 1), a.clip(2, top - 1)),
            "top": (x + top, a + dtype(top)),
            "half": (x > top // 2, a > top // 2),
            "matmul": (x.reshape(6, 6) @ y.reshape(6, 6), a.reshape(6, 6) @ b.reshape(6, 6)),
            "isclose": (braze.isclose(x, x), np.ones(a.shape, bool)),
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_reductions_scans_and_sorts(name, tier):
    a, b = samples(name)
    x, y, dtype = braze.tensor(a), braze.tensor(b), getattr(braze, name)
    sums = {"dtype": dtype}
    compare(
        {
            "sum": (x.sum(**sums), a.sum(dtype=a.dtype)),
            "default sum": (x.sum(), a.astype(np.int64).sum()),
            "prod": (braze.prod(y[:5], 0, **sums), b[:5].prod(dtype=a.dtype)),
            "amax": (x.amax(), a.max()),
            "amin": (x.amin(), a.min()),
            "argmax": (x.argmax(), a.argmax()),
            "argmin": (x.argmin(), a.argmin()),
            "any": (x.any(), a.any()),
            "count": (braze.count_nonzero(x), np.count_nonzero(a)),
            "cumsum": (x.cumsum(0, **sums), a.cumsum(dtype=a.dtype)),
            "cumprod": (x.cumprod(0, **sums), a.cumprod(dtype=a.dtype)),
            "cummax": (x.cummax(0)[0], np.maximum.accumulate(a)),
            "cummin": (x.cummin(0)[0], np.minimum.accumulate(a)),
            "sort": (x.sort()[0], np.sort(a)),
            "descending": (x.sort(descending=True)[0], np.sort(a)[::-1]),
            "argsort": (x.argsort(stable=True), np.argsort(a, stable=True)),
            "topk": (x.topk(3)[0], np.sort(a)[::-1][:3]),
            "kthvalue": (x.kthvalue(4)[0], np.sort(a)[3]),
            "searchsorted": (braze.searchsorted(x.sort()[0], y), np.searchsorted(np.sort(a), b)),
            "isin": (braze.isin(x, y), np.isin(a, b)),
            "index": (x[braze.tensor([0, 5, -1])], a[[0, 5, -1]]),
            "index_add": (
                x.index_add(0, braze.tensor([0, 0, 1]), y[:3]),
                np.concatenate([a[:1] + b[:1] + b[1:2], a[1:2] + b[2:3], a[2:]]),
            ),
        }
    )
    compare({
        "unique": (braze.unique(x), np.unique(a)),
        "mask": (x[x > y], a[a > b]),
        "bincount": (braze.bincount(x % 10), np.bincount(a % a.dtype.type(10))),
    })  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_conversions(name, tier):
    a, _ = samples(name)
    x, dtype = braze.tensor(a), getattr(braze, name)
    bits = np.iinfo(a.dtype).bits
    half = 2.0 ** (bits - 1)
    small, fractions = a % a.dtype.type(100), np.array([0.5, 1.9, half, 1.5 * half])
    compare(
        {
            other: ((x % 100).to(getattr(braze, other)), small.astype(other))
            for other in [*INTEGERS, "bool", "float16", "float32", "float64"]
        }
        | {
            "double": (x.double(), a.astype(np.float64)),
            "from double": (braze.tensor(fractions).to(dtype), fractions.astype(name)),
            "from float": (braze.tensor(fractions).float().to(dtype), fractions.astype(name)),
            "same bits": (x.view(getattr(braze, name[1:])).view(dtype), a),
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_making_and_interchange(name):
    a, _ = samples(name)
    dtype, top = getattr(braze, name), int(np.iinfo(name).max)
    x = braze.tensor(a)
    assert x.dtype is dtype and repr(dtype) == f"braze.{name}" and f"dtype=braze.{name}" in repr(x)
    assert x.tolist() == a.tolist() and x.amax().item() == top and str(top) in str(x.amax())
    assert braze.tensor([top, 0], dtype=dtype).tolist() == [top, 0]
    assert braze.full((2,), top, dtype=dtype).tolist() == [top, top]
    assert x.clone().fill_(top).tolist() == [top] * a.size
    y = x.clone()
    y[0] = top - 1
    assert y[0].item() == top - 1
    assert braze.arange(3, 10, 2, dtype=dtype).tolist() == [3, 5, 7, 9]
    assert braze.randint(0, 5, (9,), dtype=dtype).amax().item() < 5
    assert braze.empty(4, dtype=dtype).random_(2, 4).amin().item() >= 2
    assert braze.iinfo(dtype).max == top and braze.iinfo(dtype).min == 0
    assert braze.iinfo(x).dtype == name
    for other in (
        braze.from_numpy(a), braze.from_dlpack(a), np.from_dlpack(x), copy.deepcopy(x),
        pickle.loads(pickle.dumps(x)), braze.asarray(a),
    ):  # fmt: skip
        assert other.tolist() == a.tolist() and str(other.dtype).endswith(name)
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    kind = x.type()
    assert kind == f"braze.UInt{name[4:]}Tensor" and x.float().type(kind).dtype is dtype
    assert isinstance(x, getattr(braze, kind.split(".")[1]))


def test_promotion_is_numpys_where_an_integer_holds_both():
    """PyTorch refuses to promote these unsigned integers; the array API standard says how."""
    for left, right in itertools.product(INTEGERS, [*INTEGERS, "bool", "float16", "float64"]):
        expected = np.promote_types(left, right)
        mine = getattr(braze, left), getattr(braze, right)
        if expected.kind == "f" and not right.startswith("float"):
            with pytest.raises(RuntimeError, match="promotion of uint64 and int"):
                braze.promote_types(*mine)
            continue
        found = braze.promote_types(*mine)
        assert found is braze.promote_types(*mine[::-1])
        if right.startswith("float"):
            assert found is mine[1]  # PyTorch's rule: a float keeps its width
        else:
            assert found is getattr(braze, expected.name)


def test_a_number_without_dimensions_does_not_promote():
    x, y = braze.ones(2, dtype=braze.uint16), braze.tensor(3, dtype=braze.int64)
    assert (x + y).dtype is (x + 1).dtype is braze.uint16 and (x + 1.5).dtype is braze.float32
    with pytest.raises(RuntimeError, match="uint64 and int64 is not supported"):
        braze.ones(2, dtype=braze.uint64) + braze.ones(2, dtype=braze.int64)
