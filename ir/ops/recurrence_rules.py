"""What the recurrences of networks share: their declaration, type rules and steps of gradients.

Time is dimension 0. The products with the inputs are made before, for all steps at once, and so are
those of the gradients; what is left to a step is what depends on the step before. Weights have
their inputs in dimension 0, [inputs, outputs], so that a step reads them along their rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from braze.ir.errors import ShapeError
from braze.ir.op import AttributeKind, Op, Rule, Steps, declare
from braze.ir.ops.composite import cut, require_floating, widened
from braze.ir.ops.rules import common_dtype
from braze.ir.steps import evaluate_steps
from braze.ir.types import Shape, TensorType, tensor_type
from braze.ir.unrolled import unrolled_gradient

# Sizes of a recurrence by name, and operand or result -> the names of its sizes, "time batch state"
# for example. A number before a name multiplies it, a number alone is a size.
Shapes = Mapping[str, str]


def declare_recurrence(
    name: str,
    operands: Shapes,
    results: Shapes,
    rule: Rule,
    *,
    starts: Mapping[str, str],
    gradients: Mapping[str, Rule] | None = None,
    attributes: Mapping[str, AttributeKind] | None = None,
    check: Callable[..., None] | None = None,
    backwards: bool = False,
    doc: str,
) -> Op:
    """Declare a recurrence with the attribute `reverse`: time is run through from its end.

    Args:
        operands: name -> its dimensions; stacked is what has `time` in front.
        gradients: by default those of the unrolled steps.
        check: raises errors for bad attributes.
    """
    kinds: dict[str, AttributeKind] = {**(attributes or {}), "reverse": bool}

    def infer(*types: TensorType, **given: Any) -> tuple[TensorType, ...]:
        if check is not None:
            check(**given)
        return _types(name, operands, results, types)

    def evaluate(*arrays: Any, **given: Any) -> Any:
        return evaluate_steps(name, arrays, given)

    stacked = tuple(n for n, dims in operands.items() if dims.split()[0] == "time")
    return declare(
        name,
        "recurrence",
        " ".join(operands),
        infer=infer,
        evaluate=evaluate,
        gradients=gradients or _unrolled(name, operands, results, kinds),
        attributes=kinds,
        results=" ".join(results),
        domain=(-1.0, 1.0),
        doc=doc,
        steps=Steps(rule, stacked, starts, backwards),
    )


def _types(
    name: str, operands: Shapes, results: Shapes, types: tuple[TensorType, ...]
) -> tuple[TensorType, ...]:
    require_floating(name, *types)
    dtype = common_dtype(name, *types)
    sizes: dict[str, int] = {}
    for (operand, dims), given in zip(operands.items(), types, strict=True):
        words = dims.split()
        fits = given.rank == len(words)
        for word, size in zip(words, given.shape, strict=False):
            factor, letter = _factor(word)
            if letter and size % factor == 0:
                fits = fits and sizes.setdefault(letter, size // factor) * factor == size
            else:
                fits = fits and not letter and size == factor
        if not fits:
            every = ", ".join(f"{o} [{', '.join(d.split())}]" for o, d in operands.items())
            shown = ", ".join(map(str, types))
            raise ShapeError(f"[{name}] needs {every}; {operand} is {given} among {shown}")
    if sizes["time"] < 1:
        raise ShapeError(f"[{name}] there must be at least one step, given {types[0]}")

    def shape(dims: str) -> Shape:
        pairs = map(_factor, dims.split())
        return tuple(factor * sizes[letter] if letter else factor for factor, letter in pairs)

    return tuple(tensor_type(dtype, shape(dims)) for dims in results.values())


def _factor(word: str) -> tuple[int, str]:
    """ "4state" is 4 times the size "state", "4" just 4."""
    letter = word.lstrip("0123456789")
    return int(word.removesuffix(letter) or 1), letter


def _unrolled(
    name: str, operands: Shapes, results: Shapes, attributes: Mapping[str, AttributeKind]
) -> dict[str, Rule]:
    """Gradients by the rules of the operations that the steps are made of, step by step."""
    upstream = ["g"] if len(results) == 1 else [f"g_{result}" for result in results]
    names = ["b", *upstream, *operands, *attributes]
    rules: dict[str, Rule] = {}
    for position, operand in enumerate(operands):
        rule: Any = partial(_unrolled_rule, name, position, len(upstream), tuple(attributes))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(word, kind) for word in names]
        rule.__signature__ = inspect.Signature(parameters)
        rules[operand] = rule
    return rules


def _unrolled_rule(
    name: str, position: int, upstream: int, attributes: tuple[str, ...], b: Any, *given: Any
) -> Any:
    operands = given[upstream : len(given) - len(attributes)]
    settings = dict(zip(attributes, given[len(given) - len(attributes) :], strict=True))
    return unrolled_gradient(b, name, operands, settings, given[:upstream], position)


# Steps of rules; b is a builder ------------------------------------------------------------------


def columns(b: Any, x: Any, count: int) -> list[Any]:
    """The last dimension of a matrix in equal parts."""
    size = x.type.shape[1] // count
    return [cut(b, x, 1, size * n, size * (n + 1)) for n in range(count)]


def gru_gates(b: Any, x: Any, hidden: Any) -> tuple[Any, Any, Any, Any]:
    """A GRU's r, z and n, and the part of `hidden` that r is a factor of."""
    x_r, x_z, x_n = (widened(b, part) for part in columns(b, x, 3))
    h_r, h_z, h_n = (widened(b, part) for part in columns(b, hidden, 3))
    r, z = b.sigmoid(b.add(x_r, h_r)), b.sigmoid(b.add(x_z, h_z))
    return r, z, b.tanh(b.add(x_n, b.mul(r, h_n))), h_n


def sigmoid_slope(b: Any, y: Any) -> Any:
    """The derivative of sigmoid by its value."""
    return b.mul(y, b.sub(1.0, y))


def tanh_slope(b: Any, y: Any) -> Any:
    """The derivative of tanh by its value."""
    return b.sub(1.0, b.mul(y, y))


def zeros(b: Any, x: Any, shape: Shape) -> Any:
    return b.full(shape=shape, value=0.0, dtype=x.type.dtype)


def upstream_of(b: Any, g: Any, like: Any) -> Any:
    """The gradient of a result; zeros where nothing flows back."""
    return zeros(b, like, like.type.shape) if g is None else g


def first_step(b: Any, stacked: Any, reverse: bool) -> Any:
    """What a stacked value is at the step that runs first."""
    shape = stacked.type.shape
    at = shape[0] - 1 if reverse else 0
    return b.reshape(cut(b, stacked, 0, at, at + 1), shape=shape[1:])


def states_before(b: Any, states: Any, start: Any, reverse: bool) -> Any:
    """The states that the steps begin with: [time, batch, state]."""
    steps, *rest = states.type.shape
    first = b.reshape(start, shape=(1, *rest))
    if steps == 1:
        return first
    if reverse:
        return b.concat(cut(b, states, 0, 1, steps), first, dim=0)
    return b.concat(first, cut(b, states, 0, 0, steps - 1), dim=0)


def weight_gradient(b: Any, states: Any, start: Any, d: Any, reverse: bool) -> Any:
    """Sum over the steps of (state before)^T d: [state, pieces * size].

    Args:
        states: [time, batch, state]; start: [batch, state]; d: [time, pieces, batch, size].
    """
    steps = d.type.shape[0]
    first = b.contract(start, first_step(b, d, reverse), equation="bk,jbh->kjh")
    if steps > 1:
        before = cut(b, states, 0, 1, steps) if reverse else cut(b, states, 0, 0, steps - 1)
        after = cut(b, d, 0, 0, steps - 1) if reverse else cut(b, d, 0, 1, steps)
        first = b.add(first, b.contract(before, after, equation="tbk,tjbh->kjh"))
    k, j, h = first.type.shape
    return b.reshape(first, shape=(k, j * h))


def rows_of(b: Any, d: Any) -> Any:
    """[time, pieces, batch, size] to [time, batch, pieces * size]."""
    t, j, n, h = d.type.shape
    return b.reshape(b.permute(d, dims=(0, 2, 1, 3)), shape=(t, n, j * h))


def turned(b: Any, w: Any, pieces: int) -> Any:
    """A weight [state, pieces * size] as gradients go back through it: [pieces, size, state]."""
    k, width = w.type.shape
    return b.reshape(b.permute(w, dims=(1, 0)), shape=(pieces, width // pieces, k))


def through(b: Any, d: Any, w: Any) -> Any:
    """What a step's gradients [pieces, batch, size] are of the state before."""
    return b.contract(d, w, equation="jbh,jhk->bk")
