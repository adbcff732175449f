"""Bodies in JSON: ``{"inputs": {"x": [[1, 2]]}}`` in, ``{"outputs": [[3, 4]]}`` out.

Numbers are nested lists, a complex number is ``[real, imaginary]``. JSON has no NaN and no
infinities: they are the texts "NaN", "Infinity" and "-Infinity", as in Protocol Buffers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.runtime.serving.faults import RequestFault
from braze.runtime.serving.signature import Argument, Signature

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_SPARE_COMMAS = 64


def read_json(body: bytes, signature: Signature) -> list[np.ndarray]:
    """The arrays of a request.  Raises: RequestFault."""
    # Nothing is made of a body that cannot fit: a number of one byte takes 60 as an object.
    if body.count(b",") > signature.most_values + len(signature.inputs) + _SPARE_COMMAS:
        raise RequestFault(
            413,
            f"[{signature.model}] the body has more values than the inputs together may have, "
            f"{signature.most_values}",
        )
    try:
        request = json.loads(
            body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_without_doubles
        )
    except UnicodeDecodeError:
        raise RequestFault(400, "the body is not UTF-8 text") from None
    except RecursionError:
        raise RequestFault(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise RequestFault(400, f"the body is not JSON: {error}") from None
    if not isinstance(request, dict) or set(request) != {"inputs"}:
        given = sorted(request)[:5] if isinstance(request, dict) else type(request).__name__
        raise RequestFault(400, f'the body must be {{"inputs": ...}}, given {given}')
    inputs = request["inputs"]
    if isinstance(inputs, dict):
        values = signature.by_name(inputs)
    elif isinstance(inputs, list):
        values = signature.in_order(inputs)
    else:
        raise RequestFault(
            400,
            "inputs must be an object with a value for each input, or a list of one item for "
            f"each, given {type(inputs).__name__}",
        )
    return [
        _array(value, argument, signature.place(argument))
        for value, argument in zip(values, signature.inputs, strict=True)
    ]


def write_json(arrays: Sequence[np.ndarray], arrange: Callable[[Sequence[Any]], Any]) -> bytes:
    """The outputs in their structure."""
    outputs = arrange([_listed(array) for array in arrays])
    return json.dumps({"outputs": outputs}, separators=(",", ":"), allow_nan=False).encode()


def _refuse_constant(name: str) -> float:
    raise ValueError(f'{name} is no number, write "{name}"')


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made


def _array(value: Any, argument: Argument, place: str) -> np.ndarray:
    """Nested lists as an array of the input's dtype; its shape is checked later."""
    dtype = argument.numpy
    expected = f"{place} must be {argument}"
    # Python objects first: texts would be made as long as the longest, numbers as wide as any.
    items = np.array(value, dtype=object)
    kinds = set(map(type, items.reshape(-1)))
    if list in kinds:
        raise RequestFault(422, f"{expected}, given lists of different lengths or too many levels")
    if dtype.kind == "c":
        return _complex(items, kinds, dtype, expected)
    if dtype.kind == "b":
        _require(kinds, {bool}, "true and false", expected)
        return items.astype(dtype)
    if dtype.kind in "iu":
        _require(kinds, {int}, "integers", expected)
        limits = np.iinfo(dtype)
        for extreme in (items.min(), items.max()) if items.size else ():
            if not limits.min <= extreme <= limits.max:
                raise RequestFault(422, f"{expected}, given {_short(extreme)}, out of its range")
        return items.astype(dtype)
    return _floats(items, kinds, dtype, expected)


def _floats(items: np.ndarray, kinds: set[type], dtype: np.dtype, expected: str) -> np.ndarray:
    if str in kinds:
        flat = [_NOT_FINITE.get(i, i) if isinstance(i, str) else i for i in items.reshape(-1)]
        kinds = set(map(type, flat))
        items = np.array(flat, dtype=object).reshape(items.shape)
    _require(kinds, {int, float}, 'numbers, "NaN", "Infinity" and "-Infinity"', expected)
    try:
        wide = items.astype(np.float64)
        with np.errstate(over="ignore"):
            made = wide.astype(dtype)
    except OverflowError:
        raise RequestFault(422, f"{expected}, given a number out of its range") from None
    lost = np.isinf(made) & np.isfinite(wide)
    if lost.any():
        raise RequestFault(422, f"{expected}, given {wide[lost][0]}, out of its range")
    return made


def _complex(items: np.ndarray, kinds: set[type], dtype: np.dtype, expected: str) -> np.ndarray:
    if items.ndim == 0 or items.shape[-1] != 2:
        raise RequestFault(422, f"{expected} with [real, imaginary] for each number")
    parts = _floats(items, kinds, np.dtype(f"f{dtype.itemsize // 2}"), expected)
    return np.ascontiguousarray(parts).view(dtype)[..., 0]


def _require(kinds: set[type], allowed: set[type], text: str, expected: str) -> None:
    wrong = kinds - allowed
    if wrong:
        name = _JSON_NAMES.get(min(wrong, key=lambda kind: kind.__name__), "something else")
        raise RequestFault(422, f"{expected}, which takes {text}, given {name}")


_JSON_NAMES = {
    bool: "true or false",
    dict: "an object",
    float: "a number that is no integer",
    int: "an integer",
    str: "a text",
    type(None): "null",
}


def _listed(array: np.ndarray) -> Any:
    """An array as nested lists."""
    if array.dtype.kind == "c":
        real = array.real.dtype
        array = np.ascontiguousarray(array)[..., None].view(real)
    if array.dtype.kind == "V":
        array = array.astype(np.float32)  # NumPy makes bfloat16 objects of it otherwise
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    items = array.astype(object)
    items[np.isnan(array)] = "NaN"
    items[array == np.inf] = "Infinity"
    items[array == -np.inf] = "-Infinity"
    return items.tolist()


def _short(number: int) -> str:
    try:
        text = str(number)
    except ValueError:  # more digits than Python prints
        return "a huge integer"
    return text if len(text) <= 40 else text[:37] + "..."
