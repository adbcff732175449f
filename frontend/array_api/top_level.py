"""The array API standard under `braze` itself, where PyTorch's meaning does not contradict it.

PyTorch's functions keep their names, signatures and results. Names that only the standard has are
added. A keyword that only the standard has (`braze.eye(3, k=1)`, `braze.flip(x, axis=None)`) makes
a call one of the standard's. `axis` and `keepdims` are spellings of `dim` and `keepdim` everywhere.
"""

from __future__ import annotations

from typing import Any

from braze import array_api
from braze.functions.keywords import with_keywords
from braze.functions.spellings import with_spellings

# Names that PyTorch does not have. (A tensor's method `repeat` is the standard's `tile`.)
ADDED = """
asarray astype bitwise_invert broadcast_arrays cumulative_prod cumulative_sum expand_dims isdtype
matrix_transpose permute_dims repeat take_along_axis unique_all unique_counts unique_inverse
unique_values unstack vecdot
""".split()
CONSTANTS = "e inf nan newaxis pi".split()

# Functions that have other meanings with keywords that PyTorch's do not have.
_ROUTED: dict[str, str] = {
    "concat": "axis",
    "count_nonzero": "axis keepdims",
    "eye": "k",
    "flip": "axis",
    "linspace": "endpoint",
    "reshape": "copy",
    "roll": "axis",
    "take": "axis",
    "tensordot": "axes",
    "tril": "k",
    "triu": "k",
}


def standard_names(functions: dict[str, Any]) -> dict[str, Any]:
    """A table of PyTorch's functions, with the standard's spellings and names."""
    result = {name: with_spellings(function) for name, function in functions.items()}
    for name, keywords in _ROUTED.items():
        standard = getattr(array_api, name)
        result[name] = with_keywords(functions[name], frozenset(keywords.split()), standard)
    for name in ADDED:
        if name == "repeat" or name not in result:
            result[name] = getattr(array_api, name)
    return result


def constants() -> dict[str, Any]:
    """The standard's constants by name."""
    return {name: getattr(array_api, name) for name in CONSTANTS}
