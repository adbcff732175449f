"""Operations that NumPy runs, on complex operands: their meaning, and their twins on pairs."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.dtypes import c64
from braze.ir.interpreter import interpret
from braze.passes.split_complex import split_complex

COMPLEX = [op for op in ir.all_ops() if op.is_host and op.complex]
TWINS = {op.name for op in ir.all_ops() if op.name.endswith("_pairs")}


def numbers(*shape, seed=0):
    generator = np.random.default_rng(seed)
    z = generator.uniform(-1, 1, shape) + 1j * generator.uniform(-1, 1, shape)
    return z + 2 * np.eye(*shape[-2:]) if len(shape) > 1 else z


SQUARE, HERMITIAN = numbers(2, 3, 3), numbers(2, 3, 3) @ numbers(2, 3, 3).conj().swapaxes(1, 2)
RIGHT, TALL, SIGNAL = numbers(2, 3, 2, seed=1), numbers(4, 3), numbers(3, 5, seed=2)
REFLECTORS = [np.swapaxes(np.linalg.qr(TALL, "raw")[0], 0, 1), np.linalg.qr(TALL, "raw")[1]]

CASES = {
    "inverse": ([SQUARE], {}),
    "solve": ([SQUARE, RIGHT], {}),
    "triangular_solve": ([SQUARE, RIGHT], {"upper": True, "unitriangular": False}),
    "pinv": ([TALL], {"rtol": 1e-12}),
    "det": ([SQUARE], {}),
    "cofactor": ([SQUARE], {}),
    "slogdet": ([SQUARE], {}),
    "cholesky": ([HERMITIAN], {}),
    "qr": ([TALL], {"complete": False}),
    "eigh": ([HERMITIAN], {}),
    "svd": ([TALL], {"full": True}),
    "eig": ([SQUARE], {}),
    "lu_factor": ([SQUARE], {}),
    "matrix_exp": ([SQUARE], {}),
    "geqrf": ([TALL], {}),
    "orgqr": (REFLECTORS, {}),
    "ormqr": ([*REFLECTORS, numbers(4, 2)], {"left": True, "transpose": True}),
    "fft": ([SIGNAL], {"dims": (1, 0), "inverse": True}),
    "rfft": ([SIGNAL.real.copy()], {"dims": (0,)}),
    "irfft": ([SIGNAL], {"dims": (0, 1), "size": 9}),
    "checked": ([SIGNAL, np.array(True)], {"message": "no"}),
}


def graph_of(name, arrays, attributes):
    b = ir.Builder(name)
    values = [b.input(ir.tensor_type(ir.from_numpy(a.dtype), a.shape)) for a in arrays]
    results = getattr(b, name)(*values, **attributes)
    return b.finish(results if isinstance(results, tuple) else [results])


def in_memory(array):
    """Pairs in place of complex numbers."""
    if not np.iscomplexobj(array):
        return array
    return np.stack([array.real, array.imag], -1)


def test_there_is_a_case_for_every_operation():
    assert set(CASES) == {op.name for op in COMPLEX}
    assert {f"{name}_pairs" for name in CASES} == TWINS


@pytest.mark.parametrize("wide", [True, False], ids=["c128", "c64"])
@pytest.mark.parametrize("name", CASES)
def test_the_twin_means_the_same(name, wide):
    """What the compiler makes of a call holds its twin, whose operands and results are real."""
    arrays, attributes = CASES[name]
    if not wide:
        narrow = {"c": np.complex64, "f": np.float32, "b": np.bool_}
        arrays = [a.astype(narrow[a.dtype.kind]) for a in arrays]
    graph = graph_of(name, arrays, attributes)
    wanted = interpret(graph, arrays)
    real = split_complex(graph)
    ir.verify(real)
    assert [n.op.name for n in real.nodes if n.op.is_host] == [f"{name}_pairs"]
    assert not any(value.dtype.is_complex for value in real.values())
    found = interpret(real, [in_memory(a) for a in arrays])
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == in_memory(other).dtype
        np.testing.assert_array_equal(one, in_memory(other))
    assert str(ir.parse_graph(str(real))) == str(real)


def test_operands_are_not_taken_apart_without_need():
    """Inputs are pairs in memory; a chain of calls hands them on."""
    graph = graph_of("inverse", [SQUARE], {})
    real = split_complex(graph)
    assert real.nodes[2].op.name == "inverse_pairs"
    assert real.nodes[2].operands[0] is real.inputs[0]


def test_twins_check_their_pairs():
    b = ir.Builder()
    x = b.input(ir.tensor_type(ir.f64, (3, 3)))
    with pytest.raises(ir.ShapeError, match=r"\[inverse_pairs\] the last dimension must hold"):
        b.inverse_pairs(x, pairs=(0,))


def test_operations_that_have_no_complex_meaning_refuse():
    b = ir.Builder()
    x = b.input(ir.tensor_type(c64, (3, 3)))
    with pytest.raises(ir.DTypeError, match=r"\[lu_permutation\] not implemented for complex"):
        b.lu_permutation(x, size=3, inverse=False)


def test_results():
    np.testing.assert_allclose(interpret(graph_of("det", [SQUARE], {}), [SQUARE])[0],
                               np.linalg.det(SQUARE))  # fmt: skip
    cofactor = np.linalg.det(SQUARE)[:, None, None] * np.linalg.inv(SQUARE).swapaxes(1, 2)
    found = interpret(graph_of("cofactor", [SQUARE], {}), [SQUARE])[0]
    np.testing.assert_allclose(found, cofactor, atol=1e-12)
    lu, pivots = interpret(graph_of("lu_factor", [SQUARE], {}), [SQUARE])
    lower, upper = np.tril(lu, -1) + np.eye(3), np.triu(lu)
    for place in range(2):
        order = np.arange(3)
        for i, p in enumerate(pivots[place] - 1):
            order[[i, p]] = order[[p, i]]
        np.testing.assert_allclose((lower @ upper)[place], SQUARE[place][order], atol=1e-12)
    q = interpret(graph_of("orgqr", REFLECTORS, {}), REFLECTORS)[0]
    np.testing.assert_allclose(q, np.linalg.qr(TALL)[0], atol=1e-12)
    whole = np.linalg.qr(TALL, "complete")[0]
    for left, transpose in ((True, True), (True, False), (False, True), (False, False)):
        x = numbers(4, 4, seed=5)
        arrays, settings = [*REFLECTORS, x], {"left": left, "transpose": transpose}
        (found,) = interpret(graph_of("ormqr", arrays, settings), arrays)
        factor = whole.conj().T if transpose else whole
        np.testing.assert_allclose(found, factor @ x if left else x @ factor, atol=1e-12)


def test_a_condition_that_does_not_hold():
    x, holds = np.ones(2), np.array(False)
    graph = graph_of("checked", [x, holds], {"message": "x is too small"})
    with pytest.raises(RuntimeError, match="x is too small"):
        interpret(graph, [x, holds])
    b = ir.Builder()
    y = b.input(ir.tensor_type(ir.f64, (2,)))
    with pytest.raises(ir.DTypeError, match=r"\[checked\] the condition must be a bool"):
        b.checked(y, y, message="")
    with pytest.raises(ir.ShapeError, match=r"\[checked\] the condition must be 0-d"):
        b.checked(y, b.isnan(y), message="")
