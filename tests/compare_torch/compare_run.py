"""Run the variants of a name with PyTorch and with Braze, and say how they differ.

Of a call are compared: the exception's type, or of the result the structure (tuples and their
names), dtypes, shapes, values (nan equals nan), whether a gradient can be asked of it and which
operand it is (in-place calls, `out`); then the operands after the call; then, for float64 operands,
the gradients of a weighted sum of the results, and the gradients of a weighted sum of those.

All variants are recorded before one result is read, so that they make one graph: compiled, it
costs one compilation. Calls that raise run one by one.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch
from compare_cases import CASES, Array, Variant, variants_of
from compared_names import is_present
from known_differences import KNOWN, PENDING

import braze

TIERS = ("auto", "compile")  # "auto" interprets a graph that is run once
COMPILED = 3  # variants of a name that are also compiled: compiling takes most of the time
# (relative, absolute) for each dtype of a result; integers and bools are equal or not.
TOLERANCE = {
    "float64": (1e-9, 1e-11),
    "float32": (2e-5, 2e-6),
    "float16": (2e-3, 1e-3),
    "bfloat16": (1.6e-2, 1e-2),
}


@dataclass
class Outcome:
    """What a call came to: tensors of one library, or numbers once `plain` was called."""

    result: Any = None
    operands: Any = ()
    gradients: Any = ()
    error: Exception | None = None


@dataclass
class Values:
    """A tensor's dtype, elements and whatever else is compared of it."""

    dtype: str
    array: np.ndarray
    requires_grad: bool
    operand: int | None = None


@dataclass
class Findings:
    """What the comparison of one name found.

    Attributes:
        differences: a line for each variant that differs and is not known to.
        known: the same for variants that are known to differ.
        wrong: what is wrong with the case itself.
    """

    name: str
    present: bool
    variants: int = 0
    differences: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        compared = self.present and self.variants > 0
        return compared and not (self.differences or self.known or self.wrong)

    @property
    def reason(self) -> str:
        """Why the name is not equal."""
        if self.name in PENDING:
            return PENDING[self.name]
        if not self.present:
            return "missing"
        if self.known:
            return KNOWN[self.name]
        return next(iter([*self.wrong, *self.differences]), "no case")


@functools.cache
def findings(name: str) -> Findings:
    """Compare all variants of a name, interpreted and compiled."""
    found = Findings(name, is_present(name))
    if not found.present or name not in CASES:
        return found
    # PyTorch's compiler switches its checks off for the rest of the process.
    torch.distributions.Distribution.set_default_validate_args(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        variants = [v for v in variants_of(name) if _run_theirs(v, found)]
        found.variants = len(variants)
        differing: set[int] = set()
        for tier in TIERS:
            chosen = [v for v in variants if id(v) not in differing]
            if tier == "compile":
                chosen = [v for v in chosen if v.compiled][:COMPILED]
            with braze.config.using(tier=tier):
                for variant, difference in _run_ours(chosen, 2 if tier == "auto" else 1):
                    differing.add(id(variant))
                    known = found.known if variant.known else found.differences
                    known.append(f"{variant}, tier {tier}: {difference}")
    for variant in variants:
        if variant.known and id(variant) not in differing:
            found.wrong.append(f"{variant}: known to differ, and does not")
    if found.known and name not in KNOWN:
        found.wrong.append("differences are known, but `known_differences.py` gives no reason")
    return found


def _run_theirs(variant: Variant, found: Findings) -> bool:
    """Fill in PyTorch's outcome; False where there is nothing to compare."""
    outcome = plain(call(variant, torch), "torch")
    variant.theirs = outcome
    if variant.kind == "either":
        return not (outcome.error and "not implemented for" in str(outcome.error))
    if (outcome.error is not None) != (variant.kind == "error"):
        what = f"raises {outcome.error!r}" if outcome.error else "does not raise"
        found.wrong.append(f"{variant}: PyTorch {what}")
        return False
    return True


def _run_ours(variants: Sequence[Variant], times: int) -> Iterator[tuple[Variant, str]]:
    """Each variant that differs from PyTorch, and how; differentiated at most `times` times."""
    together = [v for v in variants if v.theirs.error is None]
    outcomes = [call(v, braze, times) for v in together]
    alone = [v for v in variants if v.theirs.error is not None]
    try:
        braze.sync()
    except Exception:
        alone, together = list(variants), []
    for variant, outcome in zip(together, outcomes, strict=False):
        difference = compare(variant, plain(outcome, "braze"))
        if difference:
            yield variant, difference
    for variant in alone:
        difference = compare(variant, plain(call(variant, braze, times), "braze"))
        if difference:
            yield variant, difference


# Calls --------------------------------------------------------------------------------------------


def call(variant: Variant, library: Any, times: int = 2) -> Outcome:
    """Make the operands, call, and differentiate; an exception is an outcome."""
    function = variant.function
    if library is torch and variant.reference is not None:
        function = variant.reference
    tensors = [make(a, library, variant.gradients > 0) for a in variant.inputs]
    if variant.kind == "random":
        library.manual_seed(31)
    try:
        result = function(library, *tensors)
        leaves = [x for x in tensors if x.is_leaf and x.requires_grad]
        gradients = _differentiate(result, leaves, library, min(variant.gradients, times))
        return Outcome(_with_operands(result, tensors), tensors, gradients)
    except Exception as error:
        return Outcome(error=error)


def make(array: Array, library: Any, differentiable: bool) -> Any:
    """A tensor of either library."""
    values = array.values
    if array.view == "transposed":
        values = values.T
    elif array.view == "strided":
        values = np.stack([values, np.zeros_like(values)], axis=-1)
    elif array.view == "expanded":
        values = values[:1]
    elif array.view == "offset":
        values = np.concatenate([values[:1], values, values[:1]])
    x = _tensor(np.ascontiguousarray(values).reshape(values.shape), array.dtype, library)
    if array.view == "transposed":
        x = x.permute(*reversed(range(x.dim())))
    elif array.view == "strided":
        x = x[..., 0]
    elif array.view == "expanded":
        x = x.expand(*array.values.shape)
    elif array.view == "offset":
        x = x[1:-1]
    if differentiable and array.leaf and array.dtype == "float64":
        x = x.detach().requires_grad_()
    return x


def _tensor(values: np.ndarray, dtype: str, library: Any) -> Any:
    with np.errstate(all="ignore"):
        array = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if library is torch and dtype == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return library.tensor(array)


def _differentiate(result: Any, leaves: list[Any], library: Any, times: int) -> list[Any]:
    found: list[Any] = []
    outputs = [x for x in _tensors(result) if x.requires_grad and x.dtype.is_floating_point]
    for left in range(times, 0, -1):
        if not outputs or not leaves:
            found.extend([None] * len(leaves))
            continue
        total = sum(((x * _weights(x, library)).sum() for x in outputs), start=0.0)
        gradients = library.autograd.grad(total, leaves, create_graph=left > 1, allow_unused=True)
        found.extend(gradients)
        outputs = [g for g in gradients if g is not None and g.requires_grad]
    return found


def _weights(x: Any, library: Any) -> Any:
    shape = tuple(x.shape)
    values = np.linspace(0.5, 1.5, math.prod(shape)).reshape(shape)
    return _tensor(values, str(x.dtype).split(".")[-1], library)


def _tensors(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (torch.Tensor, braze.Tensor)):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


# Plain values -------------------------------------------------------------------------------------


def _with_operands(tree: Any, tensors: list[Any]) -> Any:
    """The tree with each tensor replaced by itself and the operand that it is, if any."""
    if isinstance(tree, (torch.Tensor, braze.Tensor)):
        places = [i for i, x in enumerate(tensors) if x is tree]
        return _Placed(tree, places[0] if places else None)
    if isinstance(tree, dict):
        return {key: _with_operands(value, tensors) for key, value in tree.items()}
    if isinstance(tree, (torch.Size, braze.Size)):
        return ("Size", *tree)
    if isinstance(tree, (tuple, list)):
        items = [_with_operands(item, tensors) for item in tree]
        names = getattr(tree, "_fields", None)
        if names is None and hasattr(tree, "n_fields"):
            names = _names_of_fields(tree)
        return _Sequence(type(tree) is list, names and tuple(names), items)
    return tree


@dataclass
class _Placed:
    tensor: Any
    operand: int | None


@dataclass
class _Sequence:
    is_list: bool
    names: tuple[str, ...] | None
    items: list[Any]


def _names_of_fields(result: Any) -> tuple[str, ...]:
    """The names of PyTorch's result type, in order: a type of C, which does not list them."""
    kind = type(result)
    names = [n for n in dir(kind) if inspect.ismemberdescriptor(getattr(kind, n))]
    places = {id(item): i for i, item in enumerate(result)}
    return tuple(sorted(names, key=lambda name: places[id(getattr(result, name))]))


def plain(outcome: Outcome, library: str) -> Outcome:
    """Read the tensors; an exception that rises only now is an outcome too."""
    if outcome.error is not None:
        return outcome
    try:
        return Outcome(
            _plain(outcome.result),
            [_plain(_Placed(x, None)) for x in outcome.operands],
            [g if g is None else _plain(_Placed(g.detach(), None)) for g in outcome.gradients],
        )
    except Exception as error:
        return Outcome(error=error)


def _plain(tree: Any) -> Any:
    if isinstance(tree, _Placed):
        x = tree.tensor.detach()
        dtype = str(x.dtype).split(".")[-1]
        if isinstance(x, torch.Tensor):
            array = (x.float() if dtype == "bfloat16" else x).numpy(force=True).copy()
        else:
            array = np.array(x.numpy(), dtype=np.float32 if dtype == "bfloat16" else None)
        return Values(dtype, array, tree.tensor.requires_grad, tree.operand)
    if isinstance(tree, _Sequence):
        return _Sequence(tree.is_list, tree.names, [_plain(item) for item in tree.items])
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, (torch.dtype, braze.dtype)):
        return str(tree).split(".")[-1]
    return tree


# Comparison ---------------------------------------------------------------------------------------


def compare(variant: Variant, ours: Outcome) -> str:
    """How Braze's outcome differs from PyTorch's; empty where it does not."""
    theirs: Outcome = variant.theirs
    if theirs.error is not None:
        if ours.error is None:
            return f"returns, PyTorch raises {_error(theirs.error)}"
        if not isinstance(ours.error, _public(type(theirs.error))):
            return f"raises {_error(ours.error)}, PyTorch {_error(theirs.error)}"
        return ""
    if ours.error is not None:
        return f"raises {_error(ours.error)}"
    pairs = [("result", ours.result, theirs.result)]
    pairs += [
        (f"operand {i} afterwards", a, b)
        for i, (a, b) in enumerate(zip(ours.operands, theirs.operands, strict=True))
    ]
    for what, a, b in pairs:
        difference = _difference(a, b, variant)
        if difference:
            return f"{what}: {difference}"
    first = len(theirs.gradients) // max(variant.gradients, 1)
    for i, (a, b) in enumerate(zip(ours.gradients, theirs.gradients, strict=False)):
        if i >= first and (a is None or b is None):  # what is zero everywhere may be left out
            nonzero = any(x is not None and np.any(x.array) for x in (a, b))
            difference = "not zero" if nonzero else ""
        else:
            difference = _difference(a, b, variant)
        if difference:
            return f"gradient {i}: {difference}"
    return ""


def _public(kind: type[BaseException]) -> type[BaseException]:
    """The exception type, or Braze's where PyTorch has one of its own, of the same name."""
    if kind.__module__.startswith("torch"):
        found = getattr(braze.linalg, kind.__name__.removeprefix("_"), None)
        return found or _public(kind.__mro__[1])
    return kind


def _error(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def _difference(a: Any, b: Any, variant: Variant) -> str:
    if isinstance(a, Values) and isinstance(b, Values):
        return _difference_of_tensors(a, b, variant)
    if type(a) is not type(b):
        return f"{_short(a)} of {type(a).__name__}, not {_short(b)} of {type(b).__name__}"
    if isinstance(a, _Sequence):
        if (a.is_list, a.names, len(a.items)) != (b.is_list, b.names, len(b.items)):
            return f"{_short(a)}, not {_short(b)}"
        found = (_difference(x, y, variant) for x, y in zip(a.items, b.items, strict=True))
        return next((f"[{i}] {text}" for i, text in enumerate(found) if text), "")
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"keys {list(a)}, not {list(b)}"
        found = (_difference(a[key], b[key], variant) for key in a)
        return next((text for text in found if text), "")
    if isinstance(a, float):
        rtol, atol = _tolerance("float64", variant)
        return "" if np.isclose(a, b, rtol, atol, equal_nan=True) else f"{a}, not {b}"
    return "" if a == b else f"{_short(a)}, not {_short(b)}"


def _tolerance(dtype: str, variant: Variant) -> tuple[float, float]:
    rtol, atol = TOLERANCE.get(dtype, (0.0, 0.0))
    return (
        rtol if variant.rtol is None else variant.rtol,
        atol if variant.atol is None else variant.atol,
    )


def _difference_of_tensors(a: Values, b: Values, variant: Variant) -> str:
    if a.dtype != b.dtype:
        return f"dtype {a.dtype}, not {b.dtype}"
    if a.array.shape != b.array.shape:
        return f"shape {a.array.shape}, not {b.array.shape}"
    if a.requires_grad != b.requires_grad:
        return f"requires_grad {a.requires_grad}, not {b.requires_grad}"
    if a.operand != b.operand:
        return f"is operand {a.operand}, not {b.operand}"
    if variant.kind == "random" and variant.statistics is not None:
        one, two = (list(variant.statistics(x.array)) for x in (a, b))
        if not np.allclose(one, two, rtol=variant.within, atol=variant.within):
            return f"statistics {one}, not {two}"
        return ""
    rtol, atol = _tolerance(a.dtype, variant)
    if a.array.dtype.kind in "fc":
        close = np.isclose(a.array, b.array, rtol, atol, equal_nan=True)
    else:
        close = a.array == b.array
    if np.all(close):
        return ""
    where = tuple(int(i) for i in np.argwhere(~np.asarray(close))[0])
    count = int(np.sum(~np.asarray(close)))
    first = f"at {where} {a.array[where]!r}, not {b.array[where]!r}"
    return f"{count} of {a.array.size} elements, {first}"


def _short(value: Any) -> str:
    if isinstance(value, _Sequence):
        kind = "list" if value.is_list else "tuple"
        return f"a {kind} of {len(value.items)}" + (f" named {value.names}" if value.names else "")
    if isinstance(value, Values):
        return f"{value.dtype}{list(value.array.shape)}"
    return repr(value)[:80]
