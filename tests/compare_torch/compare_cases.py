"""How a case is written: a function that names calls, with the arrays that they are given.

    @case("torch.add")
    def add(c):
        c(lambda m, x, y: m.add(x, y, alpha=2), c.f64(3, 4), c.f64(4))
        c.error(lambda m, x, y: m.add(x, y), c.f32(3), c.f32(4))
        c.pairs(lambda m, x, y: m.add(x, y), (3, 1), (4,))

`m` is PyTorch or Braze; both are given tensors made from the same arrays. Each call is a variant:
what is compared of it is said in `compare_run.py`. The arrays are the same in every run.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FLOATS = ("float64", "float32", "float16", "bfloat16")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
NUMERIC = (*FLOATS, *INTEGERS)
DTYPES = (*NUMERIC, "bool")
VIEWS = ("transposed", "strided", "expanded", "offset")


@dataclass(frozen=True)
class Array:
    """What one tensor is made from.

    Attributes:
        values: float64, int64 or bool numbers, which every dtype's tensor is made from.
        dtype: a name of both libraries.
        view: how the tensor lies in its storage: None, or one of VIEWS.
        leaf: whether gradients are asked of it (only float64 tensors).
    """

    values: np.ndarray
    dtype: str
    view: str | None = None
    leaf: bool = True

    def seen(self, view: str) -> Array:
        """The same values through a view that is not contiguous."""
        return replace(self, view=view)

    def constant(self) -> Array:
        """The same values, of which no gradient is asked."""
        return replace(self, leaf=False)

    def to(self, dtype: str) -> Array:
        return replace(self, dtype=dtype)

    def __str__(self) -> str:
        shape = ",".join(map(str, self.values.shape))
        return f"{self.dtype}[{shape}]" + (f" {self.view}" if self.view else "")


@dataclass
class Variant:
    """One call.

    Attributes:
        kind: "value" (both must return), "error" (both must raise), "either" (as PyTorch does, but
            for what it has not implemented) or "random" (compared by statistics).
        reference: what is called in place of `function` with PyTorch.
        gradients: how many times the results are differentiated: 0, 1 or 2.
        known: whether it is known to differ (the reason is in `known_differences.py`).
        statistics: of a random array, the numbers to compare, and how far they may differ.
    """

    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    kind: str
    line: str
    reference: Callable[..., Any] | None = None
    gradients: int = 1
    compiled: bool = True
    rtol: float | None = None
    atol: float | None = None
    known: bool = False
    statistics: Callable[[np.ndarray], Sequence[float]] | None = None
    within: float = 0.04
    theirs: Any = None

    def __str__(self) -> str:
        return f"{self.line} ({', '.join(map(str, self.inputs))})"


class Recorder:
    """Collects the variants of one name, and makes arrays for them."""

    def __init__(self, name: str) -> None:
        self.variants: list[Variant] = []
        self.generator = np.random.default_rng(zlib.crc32(name.encode()))

    # Calls ----------------------------------------------------------------------------------------

    def __call__(self, function: Callable[..., Any], *inputs: Array, **options: Any) -> None:
        """Both libraries return, and the results are equal."""
        self._add(function, inputs, "value", **options)

    def error(self, function: Callable[..., Any], *inputs: Array, **options: Any) -> None:
        """Both libraries raise, Braze an exception of PyTorch's type or of a subclass."""
        self._add(function, inputs, "error", compiled=False, **options)

    def either(self, function: Callable[..., Any], *inputs: Array, **options: Any) -> None:
        """Braze returns or raises as PyTorch does; not compared if PyTorch has not implemented it.

        Run by the interpreter alone, unless `compiled=True` is given.
        """
        self._add(function, inputs, "either", **{"compiled": False, "gradients": 0} | options)

    def random(self, function: Callable[..., Any], *inputs: Array, **options: Any) -> None:
        """Shapes and dtypes are equal, and so, nearly, are `statistics` (mean, deviation)."""
        chosen = {"statistics": moments, "gradients": 0, "compiled": False} | options
        self._add(function, inputs, "random", **chosen)

    def dtypes(
        self,
        function: Callable[..., Any],
        *shapes: tuple[int, ...],
        dtypes: Sequence[str] = DTYPES,
        low: float = -3,
        high: float = 3,
        **options: Any,
    ) -> None:
        """The call with all operands of each dtype in turn."""
        for dtype in dtypes:
            arrays = [self.of(dtype, *shape, low=low, high=high) for shape in shapes]
            self._add(function, tuple(arrays), "either", **{"compiled": False} | options)

    def pairs(
        self,
        function: Callable[..., Any],
        first: tuple[int, ...] = (3, 4),
        second: tuple[int, ...] = (4,),
        *,
        left: Sequence[str] = DTYPES,
        right: Sequence[str] = DTYPES,
        low: float = 1,
        high: float = 4,
        **options: Any,
    ) -> None:
        """The call with two operands of each pair of dtypes."""
        options = {"compiled": False, "gradients": 0} | options
        for one in left:
            for two in right:
                x = self.of(one, *first, low=low, high=high)
                y = self.of(two, *second, low=low, high=high)
                self._add(function, (x, y), "either", **options)

    # Arrays ---------------------------------------------------------------------------------------

    def of(self, dtype: str, *shape: int, low: float = -3, high: float = 3) -> Array:
        """Numbers from low to high (whole ones for integers, and none negative if unsigned)."""
        if dtype == "bool" and low > 0:
            return Array(np.ones(shape, bool), dtype)
        if dtype == "bool":
            return Array(self.generator.integers(0, 2, shape).astype(bool), dtype)
        if dtype in FLOATS:
            return Array(self.generator.uniform(low, high, shape), dtype)
        lowest = max(int(np.ceil(low)), 0) if dtype.startswith("u") else int(np.ceil(low))
        highest = max(int(high) + 1, lowest + 1)
        return Array(self.generator.integers(lowest, highest, shape), dtype)

    def f64(self, *shape: int, low: float = -3, high: float = 3) -> Array:
        return self.of("float64", *shape, low=low, high=high)

    def f32(self, *shape: int, low: float = -3, high: float = 3) -> Array:
        return self.of("float32", *shape, low=low, high=high)

    def i64(self, *shape: int, low: float = -3, high: float = 3) -> Array:
        return self.of("int64", *shape, low=low, high=high)

    def mask(self, *shape: int) -> Array:
        return self.of("bool", *shape)

    def distinct(self, *shape: int, dtype: str = "float64") -> Array:
        """Numbers of which no two are equal or close, in random order."""
        count = int(np.prod(shape))
        return Array(self.generator.permutation(count).reshape(shape) - count // 2, dtype)

    def exactly(self, values: Any, dtype: str | None = None) -> Array:
        """The given numbers; float64, int64 or bool unless a dtype is named."""
        array = np.asarray(values)
        default = {"f": "float64", "b": "bool"}.get(array.dtype.kind, "int64")
        if array.size == 0 and dtype is None:
            default = "float64"
        return Array(array, dtype or default)

    def special(self, dtype: str = "float64") -> Array:
        """Zeros, infinities, nan, and numbers near them."""
        values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 0.5, -2.5, 30.0]
        return Array(np.array(values), dtype, leaf=False)

    def _add(
        self, function: Callable[..., Any], inputs: tuple[Array, ...], kind: str, **options: Any
    ) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        line = f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
        self.variants.append(Variant(function, inputs, kind, line, **options))


CASES: dict[str, list[Callable[[Recorder], None]]] = {}


def case(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a function as the case of a name.

    With several names the function takes the name after its last dot as a second argument, so that
    alike functions share one case.
    """

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        for name in names:
            if len(names) == 1:
                entered: Callable[[Recorder], None] = function
            else:
                entered = _named(function, name.rsplit(".", 1)[-1])
            CASES.setdefault(name, []).append(entered)
        return function

    return enter


def _named(function: Callable[..., None], name: str) -> Callable[[Recorder], None]:
    return lambda c: function(c, name)


def variants_of(name: str) -> list[Variant]:
    recorder = Recorder(name)
    for function in CASES[name]:
        function(recorder)
    return recorder.variants


def moments(array: np.ndarray) -> Sequence[float]:
    """Mean and deviation."""
    values = array.astype(np.float64)
    return (float(values.mean()), float(values.std()))
