"""Every name of the array API standard, with its parameters, in the namespace and on tensors; and
what `braze` itself makes of the standard's calls."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from test_array_api import CALLS, convert

import braze
from braze import array_api as xp

EXTENSIONS = ("linalg", "fft", "info", "array")
CONSTANTS = ("e", "inf", "nan", "newaxis", "pi")

# Calls that mean something else in PyTorch, and so under `braze`. Name: what to know.
OTHERWISE = {
    "equal": "True if all elements are equal, as a bool",
    "max": "with a dimension, the maxima and their places",
    "min": "with a dimension, the minima and their places",
    "meshgrid": "indexing='ij' by default",
    "std": "correction=1 by default",
    "var": "correction=1 by default",
}
# Calls that are errors in PyTorch by intent.
REFUSED = {"arange": (5, 2), "full": (3, 1.5)}


def sections() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    file = Path(__file__).with_name("array_api_2024_12.txt")
    for line in file.read_text().splitlines():
        if line.startswith("["):
            found[line[1:-1]] = []
        elif line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found


SECTIONS = sections()
FUNCTIONS = [line for key, lines in SECTIONS.items() if key not in EXTENSIONS for line in lines]


def split(line: str) -> tuple[str, inspect.Signature | None]:
    """A line's name, and its parameters (None for an attribute)."""
    name, bracket, rest = line.partition("(")
    if not bracket:
        return name, None
    arguments = ast.parse(f"def f({rest}: pass").body[0].args  # type: ignore[attr-defined]
    kinds = inspect.Parameter
    parameters, missing = [], inspect.Parameter.empty
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(placed) - len(arguments.defaults)) + arguments.defaults
    for number, (argument, default) in enumerate(zip(placed, defaults, strict=True)):
        first = number < len(arguments.posonlyargs)
        kind = kinds.POSITIONAL_ONLY if first else kinds.POSITIONAL_OR_KEYWORD
        value = missing if default is None else ast.literal_eval(default)
        parameters.append(kinds(argument.arg, kind, default=value))
    if arguments.vararg:
        parameters.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = missing if default is None else ast.literal_eval(default)
        parameters.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=value))
    return name, inspect.Signature(parameters)


def check(function, wanted: inspect.Signature, method: bool = False) -> None:
    """The function takes the standard's parameters: in its places, with its names and defaults."""
    own = list(inspect.signature(function).parameters.values())
    named = {p.name: p for p in own}
    anything = any(p.kind is p.VAR_KEYWORD for p in own)
    places = [p for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    listed = any(p.kind is p.VAR_POSITIONAL for p in own)
    for number, parameter in enumerate(wanted.parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:
            assert listed, parameter
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            assert listed or number < len(places), parameter
            mine = places[number] if number < len(places) else None
        else:
            mine = named.get(parameter.name)
            assert mine is not None or anything, parameter
            if mine is not None:
                assert mine.kind is not mine.POSITIONAL_ONLY, parameter
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and not listed:
                assert places[number].name == parameter.name, parameter
        if mine is not None and parameter.default is not parameter.empty and not method:
            assert mine.default == parameter.default, parameter


def check_in(owner, line: str) -> None:
    name, wanted = split(line)
    assert hasattr(owner, name), f"{name} is not there"
    if wanted is None:
        return
    function = getattr(owner, name)
    if inspect.isclass(function) and name != "__array_namespace_info__":
        function = function.__init__
        wanted = wanted.replace(
            parameters=[
                inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
                *wanted.parameters.values(),
            ]
        )
    check(function, wanted)


def test_the_list():
    assert len(FUNCTIONS) == 134 and len(SECTIONS["linalg"]) == 23 and len(SECTIONS["array"]) == 41
    name, signature = split("linspace(start, stop, /, num, *, dtype=None, endpoint=True)")
    assert name == "linspace"
    assert str(signature) == "(start, stop, /, num, *, dtype=None, endpoint=True)"


@pytest.mark.parametrize("line", FUNCTIONS)
def test_functions(line):
    check_in(xp, line)


@pytest.mark.parametrize("line", SECTIONS["linalg"])
def test_linear_algebra(line):
    check_in(xp.linalg, line)


@pytest.mark.parametrize("line", SECTIONS["fft"])
def test_fourier_transforms(line):
    check_in(xp.fft, line)


@pytest.mark.parametrize("line", SECTIONS["info"])
def test_inspection(line):
    check_in(xp.__array_namespace_info__(), line)


@pytest.mark.parametrize("line", SECTIONS["array"])
def test_attributes_and_methods_of_tensors(line):
    name, wanted = split(line)
    if wanted is None:
        assert getattr(braze.ones(2, 3), name) is not None
        return
    check(getattr(braze.Tensor, name), wanted, method=True)
    binary = len(wanted.parameters) == 2 and "other" in wanted.parameters
    arithmetic = binary and name not in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
    if arithmetic:
        for derived in (f"__r{name[2:]}", f"__i{name[2:]}"):
            # Python makes x = x @ y of x @= y, whose shape may be another.
            assert hasattr(braze.Tensor, derived) or derived == "__imatmul__", derived


def test_the_list_and_the_namespace_have_the_same_names():
    listed = {split(line)[0] for line in FUNCTIONS}
    dtypes = {"bool", "complex64", "complex128"} | {
        f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
    } | {"float32", "float64"}  # fmt: skip
    assert listed | dtypes | set(CONSTANTS) == set(xp.STANDARD) - {"linalg", "fft"}


def test_names_under_braze():
    assert not [line for line in FUNCTIONS if not hasattr(braze, split(line)[0])]
    for name in CONSTANTS:
        assert getattr(braze, name) is getattr(xp, name)


def call(module, name, arguments, options):
    options = {k: convert(v, xp) for k, v in options.items()}
    if "dtype" in options:
        options["dtype"] = getattr(xp, options["dtype"])
    result = getattr(module, name)(*convert(arguments, xp), **options)
    return result if isinstance(result, (list, tuple)) else [result]


def same(ours, theirs) -> bool:
    return len(ours) == len(theirs) and all(
        isinstance(x, braze.Tensor)
        and (x.shape, x.dtype) == (y.shape, y.dtype)
        and np.array_equal(x.numpy(), y.numpy(), equal_nan=x.dtype.is_floating_point)
        for x, y in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("name", "arguments", "options"), CALLS)
def test_calls_mean_the_same_under_braze(name, arguments, options):
    """As in the namespace, keywords and all, unless PyTorch gives the call another meaning."""
    braze.sync()
    before, braze.config.tier = braze.config.tier, "interpret"
    try:
        if name in OTHERWISE or name in REFUSED and arguments == REFUSED[name]:
            return
        if name == "flip" and not options:
            with pytest.raises(TypeError, match="dims"):
                call(braze, name, arguments, options)
            return
        assert same(call(braze, name, arguments, options), call(xp, name, arguments, options))
    finally:
        braze.sync()
        braze.config.tier = before


def test_what_pytorch_has_otherwise():
    x = braze.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert braze.equal(x, x) is True and xp.equal(x, x).tolist() == [[True, True], [True, True]]
    assert braze.max(x, axis=0).indices.tolist() == [1, 1] and xp.max(x, axis=0).tolist() == [3, 4]
    assert braze.min(x, axis=0).values.tolist() == xp.min(x, axis=0).tolist() == [1, 2]
    v = braze.arange(3.0)
    assert [g.shape for g in braze.meshgrid(v, v[:2])] == [(3, 2)] * 2
    assert [g.shape for g in xp.meshgrid(v, v[:2])] == [(2, 3)] * 2
    assert braze.var(v).item() == 1 and round(xp.var(v).item(), 6) == 0.666667
    with pytest.raises(RuntimeError, match="inconsistent with step sign"):
        braze.arange(5, 2)
    assert xp.arange(5, 2).shape == (0,)


def test_spellings_of_keywords():
    x = braze.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.sum(axis=1, keepdims=True).tolist() == braze.sum(x, axis=1, keepdims=True).tolist()
    assert x.cumsum(axis=-1).tolist() == x.cumsum(-1).tolist() == [[1, 3], [3, 7]]
    assert braze.unbind(x, axis=1)[0].tolist() == [1, 3] and x.unsqueeze(axis=0).shape == (1, 2, 2)
    assert braze.argmax(x, keepdim=True).tolist() == [[3]]
    for wrong in (lambda: x.sum(axis=1, dim=1), lambda: braze.amax(x, dim=0, axis=0)):
        with pytest.raises(TypeError, match="both 'dim' and its other spelling 'axis'"):
            wrong()
    out = braze.empty(2)
    assert braze.sum(x, axis=0, out=out) is out and out.tolist() == [4, 6]


def test_dtypes_as_operands():
    assert braze.result_type(braze.int8, braze.uint8) is braze.int16
    assert braze.result_type(braze.int8, braze.tensor(1), 2) is braze.int8
    assert braze.result_type(braze.int8, braze.int32, 1.5) is braze.float32
    # PyTorch's question is whether a kind may be stored in another, the standard's is about values.
    assert braze.can_cast(braze.int64, braze.int8) and not xp.can_cast(xp.int64, xp.int8)


def test_keywords_that_only_the_standard_has():
    x = braze.arange(6).reshape(2, 3)
    assert braze.tril(x, k=-1).tolist() == braze.tril(x, -1).tolist()
    assert braze.flip(x, axis=None).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert braze.concat((x, x), axis=None).shape == (12,)
    assert braze.eye(2, k=1).tolist() == [[0, 1], [0, 0]]
    assert braze.linspace(0, 1, 4, endpoint=False).tolist() == [0, 0.25, 0.5, 0.75]
    assert braze.count_nonzero(x, axis=0, keepdims=True).tolist() == [[1, 2, 2]]
    assert braze.reshape(x, (3, 2), copy=True).shape == (3, 2)
    assert braze.take(x, braze.tensor([-1]), axis=1).tolist() == [[2], [5]]
