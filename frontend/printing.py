"""How tensors print: the text that PyTorch gives, with this package's names for dtypes.

In: a tensor.  Out: its elements, aligned to one width for the whole tensor, long ones shortened to
their edges, and what the elements do not show: dtype, shape of an empty tensor, history. The rules
are those of PyTorch's `torch/_tensor_str.py`, so that doctests and eyes carry over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.dtypes import bool_, i64

if TYPE_CHECKING:
    from braze.sparse.tensor import SparseTensor
    from braze.tensors import Tensor

# Beyond these, fixed-point columns get too wide or show too few digits.
_MOST_RATIO = 1e3
_LARGEST_FIXED = 1e8
_SMALLEST_FIXED = 1e-4


@dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_OPTIONS = _Options()
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print; what is None stays, except `sci_mode`.

    Args:
        precision: digits behind the point (4).
        threshold: tensors of more elements show only their edges (1000).
        edgeitems: how many entries an edge has (3).
        linewidth: characters in a line (80).
        profile: "default", "short" or "full" as a start for the others.
        sci_mode: scientific notation always (True), never (False), or where the values call for it.

    Raises:
        ValueError: there is no such profile.

    Example:
        >>> import braze
        >>> with braze.printing.printoptions(precision=2):
        ...     braze.tensor([1.12345])
        tensor([1.12])
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"profile must be one of {', '.join(_PROFILES)}, given {profile!r}")
        for name, value in _PROFILES[profile].items():
            setattr(_OPTIONS, name, value)
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    for name, value in given.items():
        if value is not None:
            setattr(_OPTIONS, name, value)
    _OPTIONS.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options as keyword arguments of `set_printoptions`."""
    return asdict(_OPTIONS)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Other options for a while; takes the arguments of `set_printoptions`."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


class _Elements:
    """The format that all elements of one tensor share.

    Attributes:
        width: of the widest element.
        kind: "plain" (integers, bools), "whole" (floats without fractions: ``2.``), "fixed" or
            "scientific".
    """

    def __init__(self, shown: np.ndarray) -> None:
        self.precision = _OPTIONS.precision
        self.width = 1
        self.parts: tuple[_Elements, _Elements] | None = None
        if shown.dtype.kind == "c":
            self.kind = "complex"
            self.parts = _Elements(shown.real), _Elements(shown.imag)
            self.width = self.parts[0].width + self.parts[1].width + 1
            return
        if shown.dtype.kind != "f":
            self.kind = "plain"
            values = shown.reshape(-1).tolist()
        else:
            finite = shown[np.isfinite(shown) & (shown != 0)]
            values = finite.tolist()
            self.kind = self._kind_of(finite)
        for value in values:
            self.width = max(self.width, len(self._text(value)))

    def _kind_of(self, finite: np.ndarray) -> str:
        if finite.size == 0:
            return "whole"
        sizes = np.abs(finite)
        least, most = float(sizes.min()), float(sizes.max())
        scientific = _OPTIONS.sci_mode
        if scientific is None:
            scientific = (
                most / least > _MOST_RATIO or most > _LARGEST_FIXED or least < _SMALLEST_FIXED
            )
        if scientific:
            return "scientific"
        return "whole" if np.all(finite == np.ceil(finite)) else "fixed"

    def _text(self, value: Any) -> str:
        if self.parts is not None:
            first, second = self.parts
            imag = second(value.imag).lstrip()
            sign = "" if imag[0] == "-" else "+"
            return f"{first(value.real)}{sign}{imag}j"
        if self.kind == "scientific":
            return f"{value:.{self.precision}e}"
        if self.kind == "fixed":
            return f"{value:.{self.precision}f}"
        if self.kind == "whole":
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return str(value)

    def __call__(self, value: Any) -> str:
        text = self._text(value)
        return text if self.parts is not None else text.rjust(self.width)


def _edges(array: np.ndarray) -> np.ndarray:
    """The elements that a shortened tensor shows."""
    edge = _OPTIONS.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            kept = [*range(edge), *range(size - edge, size)]
            array = np.take(array, np.array(kept, dtype=np.intp), axis)
    return array


def _row(row: np.ndarray, indent: int, shorten: bool, text: _Elements) -> str:
    edge = _OPTIONS.edgeitems
    if shorten and not edge:
        items = ["..."]
    elif shorten and len(row) > 2 * edge:
        head, tail = row[:edge].tolist(), row[-edge:].tolist()
        items = [*map(text, head), " ...", *map(text, tail)]
    else:
        items = [text(value) for value in row.tolist()]
    per_line = max(1, (_OPTIONS.linewidth - indent) // (text.width + 2))
    lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(array: np.ndarray, indent: int, shorten: bool, text: _Elements) -> str:
    if array.ndim == 0:
        return text(array.item())
    if array.ndim == 1:
        return _row(array, indent, shorten, text)
    edge = _OPTIONS.edgeitems
    if shorten and len(array) > 2 * edge:
        head = [_nested(part, indent + 1, shorten, text) for part in array[:edge]]
        tail = [_nested(part, indent + 1, shorten, text) for part in array[len(array) - edge :]]
        parts = [*head, "...", *tail]
    else:
        parts = [_nested(part, indent + 1, shorten, text) for part in array]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def format_elements(array: np.ndarray, indent: int = 0) -> str:
    """The elements of an array of bools, integers, floats or complex numbers.

    Args:
        indent: how far right the first bracket will stand.
    """
    if array.size == 0:
        return "[]"
    shorten = array.size > _OPTIONS.threshold
    shown = _edges(array) if shorten else array
    if array.dtype.kind not in "biu":
        # In double precision whatever the dtype is: that is what the digits are chosen by.
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        shown = shown.astype(wide)
        array = array.astype(wide)
    return _nested(array, indent, shorten, _Elements(shown))


def _suffixes(tensor: Tensor) -> Iterator[str]:
    """What follows the elements."""
    from braze.functions.promotion import get_default_dtype

    default = get_default_dtype()
    if tensor.is_cuda:
        yield f"device='{tensor.device}'"
    if tensor.numel() == 0:
        if tensor.ndim != 1:
            yield f"size={tuple(tensor.shape)}"
        if tensor.dtype is not default:
            yield f"dtype={tensor.dtype!r}"
    else:
        if not _OPTIONS.edgeitems:
            yield f"size={tuple(tensor.shape)}"
        if tensor.dtype not in (default, default.to_complex(), i64, bool_):
            yield f"dtype={tensor.dtype!r}"
    yield from _history(tensor)


def _history(tensor: Tensor) -> Iterator[str]:
    if tensor.grad_fn is not None:
        yield f"grad_fn=<{tensor.grad_fn.name()}>"
    elif tensor.requires_grad:
        yield "requires_grad=True"


def format_tensor(tensor: Tensor) -> str:
    """The text of a tensor. A sync point.

    Example:
        >>> import braze
        >>> braze.tensor([[1.0, 2.5], [-3.0, 1e-3]])
        tensor([[ 1.0000e+00,  2.5000e+00],
                [-3.0000e+00,  1.0000e-03]])
        >>> braze.zeros(0, 3, dtype=braze.int32)
        tensor([], size=(0, 3), dtype=braze.int32)
    """
    from braze.nn.parameter import Parameter
    from braze.tensors import Tensor

    prefix = "tensor(" if type(tensor) in (Tensor, Parameter) else f"{type(tensor).__name__}("
    indent = len(prefix)
    text = prefix + format_elements(tensor._numpy(), indent)
    return _with_suffixes(text, _suffixes(tensor), indent)


def _with_suffixes(text: str, suffixes: Iterable[str], indent: int, new_line: bool = False) -> str:
    """The text with what follows it and a bracket; lines are broken where they get too long, and in
    any case before the first suffix if `new_line`."""
    # As PyTorch counts: one more than the last line has.
    column = len(text) - text.rfind("\n") + 1
    if new_line:
        first, *suffixes = suffixes
        text += ",\n" + " " * indent + first
        column = indent + len(first)
    for suffix in suffixes:
        if column + len(suffix) + 2 > _OPTIONS.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"


def format_sparse(tensor: SparseTensor) -> str:
    """The text of a sparse tensor: its entries as they are stored. A sync point."""
    from braze.functions.promotion import get_default_dtype

    prefix = "tensor("
    indent = len(prefix)
    parts = []
    for name, part in (("indices", tensor._indices()), ("values", tensor._values())):
        start = f"{name}=tensor("
        text = start + format_elements(part._numpy(), indent + len(start))
        parts.append(text + (f", size={tuple(part.shape)})" if part.numel() == 0 else ")"))
    suffixes = [f"size={tuple(tensor.shape)}", f"nnz={tensor._nnz()}"]
    if tensor._handle.type.device != "cpu":
        suffixes.insert(0, f"device='{tensor._handle.type.device}'")
    if tensor.dtype not in (get_default_dtype(), i64, bool_):
        suffixes.append(f"dtype={tensor.dtype!r}")
    suffixes += [f"layout={tensor.layout!r}", *_history(tensor)]
    text = prefix + (",\n" + " " * indent).join(parts)
    return _with_suffixes(text, suffixes, indent, new_line=True)
