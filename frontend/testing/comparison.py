"""`assert_close`: whether tensors, numbers and nested structures of them agree up to tolerances.

Tolerances and messages are those of `torch.testing.assert_close`. The first difference is the one
that is reported; in a structure, the message ends with the item's place in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from braze.functions.creation import as_tensor
from braze.ir.dtypes import DType, bf16, f16, f32, f64, i64, promote
from braze.tensors import Tensor

# dtype: (relative, absolute); other dtypes must agree exactly.
_TOLERANCES = {
    f16: (0.001, 1e-5),
    bf16: (0.016, 1e-5),
    f32: (1.3e-6, 1e-5),
    f64: (1e-7, 1e-7),
}
_NUMBERS = (int, float, np.number)

Message = str | Callable[[str], str] | None


def default_tolerances(*inputs: Tensor | DType) -> tuple[float, float]:
    """The loosest default tolerances of some tensors or dtypes: relative, absolute.

    Raises:
        TypeError: an input is neither.
    """
    pairs = []
    for input in inputs:
        dtype = input.dtype if isinstance(input, Tensor) else input
        if not isinstance(dtype, DType):
            raise TypeError(f"Expected a braze.Tensor or a braze.dtype, but got {type(input)}")
        pairs.append(_TOLERANCES.get(dtype, (0.0, 0.0)))
    return max(rtol for rtol, _ in pairs), max(atol for _, atol in pairs)


@dataclass(frozen=True)
class _Wanted:
    """What `assert_close` was asked for."""

    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    msg: Message

    def fail(self, place: tuple[Any, ...], text: str, kind: type[Exception]) -> NoReturn:
        __tracebackhide__ = True
        if place:
            where = "".join(str([item]) for item in place)
            text += f"\n\nThe failure occurred for item {where}"
        if isinstance(self.msg, str):
            text = self.msg
        elif self.msg is not None:
            text = self.msg(text)
        raise kind(text)

    def tolerances(self, place: tuple[Any, ...], *inputs: Tensor | DType) -> tuple[float, float]:
        if (self.rtol is None) != (self.atol is None):
            missing = "rtol" if self.rtol is None else "atol"
            self.fail(
                place,
                "Both 'rtol' and 'atol' must be either specified or omitted, "
                f"but got no {missing}.",
                ValueError,
            )
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        return default_tolerances(*inputs)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Message = None,
) -> None:
    """Assert that |actual - expected| <= atol + rtol * |expected| everywhere. A sync point.

    Args:
        actual, expected: tensors, arrays, numbers, bools, None, or nested sequences and mappings of
            them.
        allow_subclasses: accept related types; else the types must be the same.
        rtol, atol: the tolerances; by default the loosest of the two dtypes' (float16: 1e-3, 1e-5;
            bfloat16: 1.6e-2, 1e-5; float32: 1.3e-6, 1e-5; float64: 1e-7, 1e-7; others: equal).
        equal_nan: whether two NaNs agree.
        check_device, check_dtype, check_layout: whether these must be equal too; if not, the values
            are compared in the common dtype. Sparse tensors are compared by all their elements.
        check_stride: accepted; every value is row-major.
        msg: the error's text, or a function of the text that would be used.

    Raises:
        AssertionError: something differs. TypeError: nothing can compare these inputs.
        ValueError: one tolerance without the other.

    Example:
        >>> import braze
        >>> braze.testing.assert_close(braze.tensor([1.0, 2.0]), braze.tensor([1.0, 3.0]))
        Traceback (most recent call last):
        AssertionError: Tensor-likes are not close!
        <BLANKLINE>
        Mismatched elements: 1 / 2 (50.0%)
        Greatest absolute difference: 1.0 at index (1,) (up to 1e-05 allowed)
        Greatest relative difference: 0.3333333432674408 at index (1,) (up to 1.3e-06 allowed)
    """
    __tracebackhide__ = True
    wanted = _Wanted(
        allow_subclasses, rtol, atol, equal_nan, check_device, check_dtype, check_layout, msg
    )
    for place, left, right in list(_pairs(actual, expected, wanted, ())):
        _compare(left, right, wanted, place)


def _pairs(actual: Any, expected: Any, wanted: _Wanted, place: tuple[Any, ...]) -> Any:
    """The single values of two structures, with their places. Structures must agree."""
    __tracebackhide__ = True
    both = (actual, expected)
    if all(isinstance(x, Sequence) and not isinstance(x, str) for x in both):
        if len(actual) != len(expected):
            text = f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
            wanted.fail(place, text, AssertionError)
        keys: Any = range(len(actual))
    elif all(isinstance(x, Mapping) for x in both):
        keys = set(actual)
        if keys != set(expected):
            wanted.fail(
                place,
                "The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {sorted(set(expected) - keys)}\n"
                f"Additional keys in the actual mapping: {sorted(keys - set(expected))}",
                AssertionError,
            )
        with suppress(TypeError):
            keys = sorted(keys)
    else:
        yield place, actual, expected
        return
    for key in keys:
        yield from _pairs(actual[key], expected[key], wanted, (*place, key))


def _compare(actual: Any, expected: Any, wanted: _Wanted, place: tuple[Any, ...]) -> None:
    __tracebackhide__ = True
    both = (actual, expected)
    if actual is None or expected is None:
        if actual is not expected:
            text = f"None mismatch: {actual} is not {expected}"
            wanted.fail(place, text, AssertionError)
    elif all(isinstance(x, (bool, np.bool_)) for x in both):
        if bool(actual) is not bool(expected):
            text = f"Booleans mismatch: {bool(actual)} is not {bool(expected)}"
            wanted.fail(place, text, AssertionError)
    elif all(isinstance(x, _NUMBERS) and not isinstance(x, bool) for x in both):
        _compare_numbers(actual, expected, wanted, place)
    else:
        _compare_tensors(*_as_tensors(actual, expected, wanted, place), wanted, place)


def _compare_numbers(actual: Any, expected: Any, wanted: _Wanted, place: tuple[Any, ...]) -> None:
    __tracebackhide__ = True
    left, right = (x.item() if isinstance(x, np.number) else x for x in (actual, expected))
    dtypes = [i64 if isinstance(x, int) else f64 for x in (left, right)]
    rtol, atol = wanted.tolerances(place, *dtypes)
    if wanted.check_dtype and type(left) is not type(right):
        text = f"The (d)types do not match: {type(left)} != {type(right)}."
        wanted.fail(place, text, AssertionError)
    if left == right or (wanted.equal_nan and math.isnan(left) and math.isnan(right)):
        return
    difference = abs(left - right)
    if not (math.isfinite(difference) and difference <= atol + rtol * abs(right)):
        wanted.fail(place, _numbers_differ(left, right, rtol, atol), AssertionError)


def _as_tensors(
    actual: Any, expected: Any, wanted: _Wanted, place: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    __tracebackhide__ = True
    related = isinstance(actual, type(expected)) or isinstance(expected, type(actual))
    if related and (wanted.allow_subclasses or type(actual) is type(expected)):
        with suppress(TypeError, ValueError):
            return as_tensor(actual), as_tensor(expected)
    wanted.fail(
        place,
        f"No comparison pair was able to handle inputs of type {type(actual)} and "
        f"{type(expected)}.",
        TypeError,
    )


def _compare_tensors(
    actual: Tensor, expected: Tensor, wanted: _Wanted, place: tuple[Any, ...]
) -> None:
    __tracebackhide__ = True
    rtol, atol = wanted.tolerances(place, actual, expected)
    checks = [("shape", True), ("layout", wanted.check_layout)]
    checks += [("device", wanted.check_device), ("dtype", wanted.check_dtype)]
    for name, check in checks:
        mine, theirs = getattr(actual, name), getattr(expected, name)
        if check and mine != theirs:
            text = f"The values for attribute '{name}' do not match: {mine} != {theirs}."
            wanted.fail(place, text, AssertionError)
    common = promote(actual.dtype, expected.dtype).numpy
    left, right = (x.to_dense()._numpy().astype(common) for x in (actual, expected))
    with np.errstate(all="ignore"):
        # As `isclose` has it: in the tensors' own precision.
        error = _difference(left, right)
        matches = left == right
        matches |= np.isfinite(error) & (error <= atol + np.abs(rtol * right))
        if wanted.equal_nan:
            matches |= (left != left) & (right != right)
        if matches.all():
            return
        if left.ndim == 0:
            one, other = (x.astype(_shown(x)).item() for x in (left, right))
            text = _numbers_differ(one, other, rtol, atol)
        else:
            text = _elements_differ(error, right, matches, rtol, atol)
    wanted.fail(place, text, AssertionError)


def _shown(array: np.ndarray) -> Any:
    return array.dtype if array.dtype.kind in "biuf" else np.float32


def _difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if left.dtype.kind in "biu":
        left, right = left.astype(np.int64), right.astype(np.int64)
    return np.abs(left - right)


def _numbers_differ(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    difference = abs(actual - expected)
    relative = math.inf if expected == 0 else difference / abs(expected)
    exact = rtol == 0 and atol == 0
    return (
        f"Scalars are not {'equal' if exact else 'close'}!\n\n"
        f"Expected {expected} but got {actual}.\n"
        f"Absolute difference: {difference}{_allowed(atol, exact)}\n"
        f"Relative difference: {relative}{_allowed(rtol, exact)}"
    )


def _elements_differ(
    error: np.ndarray, expected: np.ndarray, matches: np.ndarray, rtol: float, atol: float
) -> str:
    wrong = matches.size - int(matches.sum())
    exact = rtol == 0 and atol == 0
    error = np.where(matches, 0, error).astype(error.dtype)
    relative = np.where(matches, 0, error / np.abs(expected).astype(error.dtype))
    if error.dtype.kind in "biu":
        relative = relative.astype(np.float32)
    else:
        relative = relative.astype(error.dtype)
    lines = [
        f"Tensor-likes are not {'equal' if exact else 'close'}!\n",
        f"Mismatched elements: {wrong} / {matches.size} ({wrong / matches.size:.1%})",
    ]
    for name, values, limit in (("absolute", error, atol), ("relative", relative, rtol)):
        worst = int(np.argmax(values))
        index = tuple(int(i) for i in np.unravel_index(worst, values.shape))
        value = values.reshape(-1)[worst].astype(_shown(values)).item()
        allowed = _allowed(limit, exact)
        lines.append(f"Greatest {name} difference: {value} at index {index}{allowed}")
    return "\n".join(lines)


def _allowed(limit: float, exact: bool) -> str:
    return "" if exact else f" (up to {limit} allowed)"
