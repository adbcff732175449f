"""Every primitive pointwise operation in every dtype against its NumPy semantics, and how
expressions are emitted.
"""

import itertools
from math import inf, nan

import numpy as np
import pytest
from native import Native, elementwise, runnable_targets

from braze.codegen.llvm.compile import assembly, compile_object
from braze.codegen.llvm.kernel import CodegenError
from braze.codegen.llvm.operations import SEQUENCES
from braze.codegen.llvm.program import generate
from braze.ir.dtypes import REAL, DType, bf16, bool_, dtype_named, f16, f32, f64, i32, u8, u64
from braze.ir.errors import DTypeError
from braze.ir.index import Index, LoopVar
from braze.ir.loops import Apply, Buffer, Expr, Load, Loop, Nest, Placement, Program, Store
from braze.ir.op import Op, all_ops, op_named
from braze.ir.target import TARGET_NAMES, named_target
from braze.ir.types import tensor_type
from braze.runtime.cpu import host_target

POINTWISE = [op for op in all_ops() if op.is_pointwise]
CONVERSIONS = ("cast", "bitcast")
PLAIN = [op for op in POINTWISE if op.name not in CONVERSIONS]

# Largest error of a result relative to it; narrow floats are rounded once more than NumPy rounds
# them.
TOLERANCE = {"f16": 2e-3, "bf16": 1.6e-2, "f32": 4e-7, "f64": 1e-15}


def result_type(op: Op, dtypes: list[DType], **attributes: DType) -> DType | None:
    """None where the operation refuses these operands."""
    try:
        (result,) = op.result_types([tensor_type(d, (4,)) for d in dtypes], attributes)
    except DTypeError:
        return None
    return result.dtype


def operand_dtypes(op: Op, dtype: DType) -> list[DType]:
    count = len(op.operands)
    return [bool_, dtype, dtype] if op.operands[0] == "condition" else [dtype] * count


def samples(dtype: DType, domain: tuple[float, float], size: int, seed: int) -> np.ndarray:
    """Values over the domain, then special ones."""
    rng = np.random.default_rng(seed)
    if dtype.is_floating_point:
        values = rng.uniform(*domain, size).astype(dtype.numpy)
    elif dtype is bool_:
        values = rng.random(size) < 0.5
    else:
        bounds = np.iinfo(dtype.numpy)
        values = rng.integers(max(bounds.min, -9), 10, size).astype(dtype.numpy)
        values[::5] = rng.integers(bounds.min, bounds.max, values[::5].size, dtype.numpy)
    return np.concatenate([values, specials(dtype)])


def specials(dtype: DType) -> np.ndarray:
    if dtype.is_floating_point:
        return np.array([0.0, -0.0, 1.0, -1.0, 2.5, -0.5, inf, -inf, nan]).astype(dtype.numpy)
    if dtype is bool_:
        return np.array([True, False])
    bounds = np.iinfo(dtype.numpy)
    return np.array(
        [0, 1, 2, 7, bounds.max, bounds.min, bounds.max - 1, bounds.min + 1], dtype.numpy
    )


def operands(op: Op, dtypes: list[DType]) -> list[np.ndarray]:
    """Random operands, then every combination of special values."""
    drawn = [samples(d, op.domain, 67, n) for n, d in enumerate(dtypes)]
    grid = itertools.product(*(specials(d) for d in dtypes))
    columns = list(zip(*grid, strict=True))
    size = min(a.size for a in drawn)
    return [
        np.concatenate([a[:size], np.array(c, d.numpy)])
        for a, c, d in zip(drawn, columns, dtypes, strict=True)
    ]


def widened(op: Op, arrays: list[np.ndarray], result: DType) -> np.ndarray:
    """NumPy's answer; for narrow floats that of f32 operands, rounded once."""
    if any(a.dtype in (f16.numpy, bf16.numpy) for a in arrays):
        wide = [a.astype(np.float32) if a.dtype != np.bool_ else a for a in arrays]
        with np.errstate(all="ignore"):
            return np.asarray(op.evaluate(*wide)).astype(result.numpy)
    return np.asarray(op.evaluate(*arrays))


def assert_equal(
    found: np.ndarray, right: np.ndarray, dtype: DType, arrays: list[np.ndarray]
) -> None:
    if not dtype.is_floating_point:
        wrong = found != right
    else:
        x, y = found.astype(np.float64), right.astype(np.float64)
        with np.errstate(all="ignore"):
            close = np.abs(x - y) <= TOLERANCE[dtype.name] * np.abs(y)
        # A result that is just beyond the largest number may round either way.
        wrong = ~(close | (x == y) | (np.isnan(x) & np.isnan(y)))
    cases = [(*(a[n] for a in arrays), found[n], right[n]) for n in np.flatnonzero(wrong)[:5]]
    assert not cases, f"(operands..., found, right): {cases}"


Case = tuple[Op, list[DType], DType]


def several(cases: list[Case]) -> Program:
    """One program with a kernel for each (op, operand dtypes, result dtype), to compile them
    together.
    """
    waves, placements, inputs = [], {}, 0
    for number, (op, dtypes, result) in enumerate(cases):
        single = elementwise(op, dtypes, result, operand_count(op, dtypes))
        (kernel,) = single.kernels()
        assert isinstance(kernel, Nest)
        names = {
            b.name: Buffer(f"{b.name}_{number}", b.dtype, b.numel, b.access) for b in kernel.buffers
        }
        (loop,) = kernel.body
        assert isinstance(loop, Loop)
        (store,) = loop.body
        assert isinstance(store, Store) and isinstance(store.value, Apply)
        loads = tuple(Load(names[a.buffer.name], a.index) for a in store.value.arguments)
        body = [Store(names["out"], store.index, Apply(op, loads, result))]
        kernel = Nest(
            f"k{number}_{op.name}", tuple(names.values()), [Loop(loop.var, body, "vector")]
        )
        waves.append(kernel)
        for old, new in names.items():
            if old != "out":
                placements[new.name] = Placement("input", inputs)
                inputs += 1
        placements[names["out"].name] = Placement("output", number)
    return Program("several", inputs, len(cases), [waves], placements, 0)


def operand_count(op: Op, dtypes: list[DType]) -> int:
    return operands(op, dtypes)[0].size


def cases_of(dtype: DType) -> tuple[list[Case], list[list[np.ndarray]]]:
    """Every operation that takes a dtype, and operands for it."""
    cases = []
    for op in PLAIN:
        dtypes = operand_dtypes(op, dtype)
        result = result_type(op, dtypes)
        if result is not None and _numpy_can(op, dtypes):
            cases.append((op, dtypes, result))
    assert cases
    return cases, [operands(op, dtypes) for op, dtypes, _ in cases]


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_every_operation(dtype, target):
    """Over its domain, on all pairs of special values, in full vectors and in the tail."""
    cases, arrays = cases_of(dtype)
    native = Native(several(cases), target)
    outs = [np.zeros(a[0].size, r.numpy) for a, (_, _, r) in zip(arrays, cases, strict=True)]
    results = native.run([x for group in arrays for x in group], outs)
    assert_meanings(cases, arrays, results, dtype)


def assert_meanings(
    cases: list[Case],
    arrays: list[list[np.ndarray]],
    results: list[np.ndarray],
    dtype: DType,
) -> None:
    """Each result is what NumPy says."""
    for (op, _, result), group, found in zip(cases, arrays, results, strict=True):
        right = widened(op, group, result)
        try:
            assert_equal(found, right, result, group)
        except AssertionError as error:
            raise AssertionError(f"{op.name} {dtype.name}: {error}") from None


def _numpy_can(op: Op, dtypes: list[DType]) -> bool:
    """NumPy has no negation or sign of truth values, and so they have no meaning here."""
    try:
        result = np.asarray(op.evaluate(*(specials(d)[:2] for d in dtypes)))
    except TypeError:
        return False
    return result.dtype in (bool_.numpy, dtypes[-1].numpy)


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("source", REAL, ids=str)
def test_casts(source, target):
    for goal, x in cast_cases(source):
        program = elementwise(op_named("cast"), [source], goal, x.size)
        (found,) = Native(program, target).run([x], [np.zeros(x.size, goal.numpy)])
        assert_cast(found, x, goal)


def cast_cases(source: DType) -> list[tuple[DType, np.ndarray]]:
    """Numbers of a dtype whose casts to another have a meaning, for each other."""
    cases = []
    for goal in REAL:
        x = specials(source)
        if source.is_floating_point and not goal.is_floating_point and goal is not bool_:
            low = 0 if goal.kind == "uint" else -120
            x = np.linspace(low, 120, 97).astype(source.numpy)
        elif source.is_floating_point:
            rng = np.random.default_rng(0)
            x = (rng.standard_normal(91) * 10.0 ** rng.integers(-9, 6, 91)).astype(np.float64)
            x = np.concatenate([x, [65504, 65519.99, 65520, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25]])
            with np.errstate(all="ignore"):
                x = np.concatenate([x.astype(source.numpy), specials(source)])
        cases.append((goal, x))
    return cases


def assert_cast(found: np.ndarray, x: np.ndarray, goal: DType) -> None:
    right = op_named("cast").evaluate(x, dtype=goal)
    same = (found == right) | (np.isnan(found.astype("d")) & np.isnan(right.astype("d")))
    assert same.all(), (goal, x[~same], found[~same], right[~same])


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("width", ["f32", "f64"])
def test_the_upper_half_of_unsigned_integers(width, target):
    """Numbers from 2 ** 63 on to floats, where they round, and back."""
    number = dtype_named(width)
    rng = np.random.default_rng(0)
    whole = rng.integers(2**63, 2**64, 61, np.uint64)
    edges = np.array([2**63, 2**63 - 1, 0, 1, 2**64 - 1], np.uint64)
    whole = np.concatenate([whole, whole >> np.uint64(1), edges])
    program = elementwise(op_named("cast"), [u64], number, whole.size)
    (floats,) = Native(program, target).run([whole], [np.zeros(whole.size, number.numpy)])
    assert_equal(floats, whole.astype(number.numpy), number, [whole])
    inside = floats[floats < 2.0**64]
    program = elementwise(op_named("cast"), [number], u64, inside.size)
    (back,) = Native(program, target).run([inside], [np.zeros(inside.size, np.uint64)])
    assert back.tolist() == [int(x) for x in inside] and back.max() >= 2**63


def test_halves_are_rounded_like_hardware():
    """Every f16 through f32 and back, and every midpoint and its neighbours, on targets with and
    without f16c.
    """
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits.view(np.float16)
    floats = halves.astype(np.float32)
    finite = np.sort(floats[np.isfinite(floats)])
    middles = ((finite[1:].astype("d") + finite[:-1]) / 2).astype(np.float32)
    probes = np.concatenate([middles, np.nextafter(middles, inf), np.nextafter(middles, -inf)])
    for target in runnable_targets():
        up = elementwise(op_named("cast"), [f16], f32, halves.size)
        (wide,) = Native(up, target).run([halves], [np.zeros(halves.size, np.float32)])
        assert np.array_equal(wide, floats, equal_nan=True)
        down = elementwise(op_named("cast"), [f32], f16, probes.size)
        (narrow,) = Native(down, target).run([probes], [np.zeros(probes.size, np.float16)])
        assert np.array_equal(narrow.view(np.uint16), probes.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize(("source", "goal"), [
    ("f32", "u32"), ("u32", "f32"), ("f64", "i64"), ("i64", "f64"),
    ("f16", "i16"), ("i16", "bf16"), ("bf16", "f16"), ("u8", "i8"), ("f32", "i32"),
])  # fmt: skip
def test_bitcasts(source, goal):
    source_type, goal_type = dtype_named(source), dtype_named(goal)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, 37 * source_type.itemsize, np.uint8).view(source_type.numpy)
    x = np.where(np.isnan(x.astype("d")), 1, x).astype(source_type.numpy)
    program = elementwise(op_named("bitcast"), [source_type], goal_type, x.size)
    for target in runnable_targets():
        (found,) = Native(program, target).run([x], [np.zeros(x.size, goal_type.numpy)])
        right = x.view(goal_type.numpy)
        number = ~np.isnan(right.astype("d"))  # nan's payload need not survive a narrow float
        assert found[number].tobytes() == right[number].tobytes()


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_every_operation_compiles_for(target):
    """Also for processors that this machine is not: one kernel of all operations in a dtype."""
    chosen = named_target(target)
    for dtype in (f32, f64, f16, i32, u8, bool_):
        for op in PLAIN:
            dtypes = operand_dtypes(op, dtype)
            result = result_type(op, dtypes)
            if result is not None and _numpy_can(op, dtypes):
                generated = generate(elementwise(op, dtypes, result, 19), chosen)
                assert compile_object(generated.modules[0][1], chosen, optimise=False)


def test_every_pointwise_operation_has_a_sequence():
    assert {op.name for op in POINTWISE} == set(SEQUENCES)


def test_meaningless_dtypes_are_refused():
    with pytest.raises(CodegenError, match=r"\[neg\] there is no code for bool"):
        generate(elementwise(op_named("neg"), [bool_], bool_, 4), host_target())


# How expressions are emitted ----------------------------------------------------------------------


def kernel_text(value: Expr, buffers: list[Buffer], var: LoopVar) -> str:
    out = buffers[-1]
    body = [Loop(var, [Store(out, Index.of(var), value)], "vector")]
    places = {b.name: Placement("input", n) for n, b in enumerate(buffers[:-1])}
    places[out.name] = Placement("output", 0)
    nest = Nest("probe", tuple(buffers), body)
    program = Program("p", len(buffers) - 1, 1, [[nest]], places, 0)
    return generate(program, named_target("x86-64-v3")).modules[0][1]


def test_shared_subexpressions_are_emitted_once():
    var = LoopVar("i", 8)
    x, out = Buffer("x", f32, 8, "in"), Buffer("out", f32, 8, "out")
    total = Load(x, Index.of(var))
    for _ in range(30):
        total = Apply(op_named("add"), (total, total), f32)
    text = kernel_text(total, [x, out], var)
    assert text.count("fadd") == 30 and text.count("load <8 x float>") == 1


def test_what_is_the_same_in_all_lanes_is_scalar():
    var = LoopVar("i", 64)
    x, s, out = Buffer("x", f32, 64, "in"), Buffer("s", f32, 1, "in"), Buffer("out", f32, 64, "out")
    rate = Apply(op_named("sqrt"), (Load(s, Index()),), f32)
    value = Apply(op_named("mul"), (Load(x, Index.of(var)), rate), f32)
    text = kernel_text(value, [x, s, out], var)
    assert '@llvm.sqrt.f32(' in text and "sqrt.v8f32" not in text


def test_products_and_sums_are_fused_where_the_target_can():
    var = LoopVar("i", 64)
    x, out = Buffer("x", f64, 64, "in"), Buffer("out", f64, 64, "out")
    load = Load(x, Index.of(var))
    value = Apply(op_named("add"), (Apply(op_named("mul"), (load, load), f64), load), f64)
    assert "vfmadd" in assembly(kernel_text(value, [x, out], var), named_target("x86-64-v3"))


@pytest.mark.parametrize("goal", [f32, f64, i32])
def test_narrow_floats_are_rounded_before_a_cast(goal):
    """256 + 1 in bf16 is 256, also as a number of a dtype that has more digits."""
    x, y = (Buffer(n, bf16, 9, "in") for n in ("x", "y"))
    out, index = Buffer("out", goal, 9, "out"), Index.of(LoopVar("i", 9))
    total = Apply(op_named("add"), (Load(x, index), Load(y, index)), bf16)
    body = [Loop(LoopVar("i", 9), [Store(out, index, Apply(op_named("cast"), (total,), goal))])]
    places = {
        "x": Placement("input", 0), "y": Placement("input", 1), "out": Placement("output", 0),
    }  # fmt: skip
    program = Program("p", 2, 1, [[Nest("narrow", (x, y, out), body)]], places, 0)
    arrays = [np.full(9, v, bf16.numpy) for v in (256, 1)]
    (found,) = Native(program).run(arrays, [np.zeros(9, goal.numpy)])
    assert (found == 256).all()


def test_narrow_floats_are_not_rounded_in_between():
    """256 + 1 - 256 in bf16 is 1 if the sum is kept in f32, 0 if it is rounded."""
    var = LoopVar("i", 9)
    x, y, out = (Buffer(n, bf16, 9, "out" if n == "out" else "in") for n in ("x", "y", "out"))
    a, b = Load(x, Index.of(var)), Load(y, Index.of(var))
    value = Apply(op_named("sub"), (Apply(op_named("add"), (a, b), bf16), a), bf16)
    body = [Loop(var, [Store(out, Index.of(var), value)], "vector")]
    places = {"x": Placement("input", 0), "y": Placement("input", 1), "out": Placement("output", 0)}
    program = Program("p", 2, 1, [[Nest("narrow", (x, y, out), body)]], places, 0)
    arrays = [np.full(9, v, bf16.numpy) for v in (256, 1)]
    (found,) = Native(program).run(arrays, [np.zeros(9, bf16.numpy)])
    assert (found.astype(np.float32) == 1).all()
