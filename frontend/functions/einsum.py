"""Einstein summation: diagonals and sums of single operands, then contractions of two at a time.

Of more than two operands the pair is contracted first that takes the fewest multiplications, and
among equals the one with the smallest result (the greedy order of D. G. A. Smith and J. Gray,
"opt_einsum", JOSS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from braze.capture import call_of
from braze.casting import casts_now, lowered
from braze.functions import reductions
from braze.functions.matrices import take_diagonal
from braze.functions.movement import permute, reshape
from braze.functions.pointwise import mul
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import op_named
from braze.tensors import Tensor, apply

# A dimension's label: a letter, or the number of a dimension of the ellipsis, counted from the end.
Label = str | int
Term = tuple[Tensor, tuple[Label, ...]]

_CONTRACT = op_named("contract")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum(*args: Any) -> Tensor:
    """Sums of products by Einstein's convention.

    ``einsum("ij,jk->ik", x, y)`` or ``einsum(x, [0, 1], y, [1, 2], [0, 2])``. Letters (numbers)
    that the result lacks are summed over; without ``->`` the result has the letters that occur
    once, in alphabetical order, after the dimensions of the ellipsis. A letter that an operand
    repeats takes its diagonal; ``...`` stands for dimensions that broadcast.

    Args:
        args: the equation and the operands (or one sequence of them), or operands alternating with
            lists of numbers from 0 to 51 and `Ellipsis`.

    Raises:
        ShapeError: the equation is malformed or does not fit the operands.
        DTypeError: the operands' dtypes differ.

    Example:
        >>> import braze
        >>> braze.einsum("ij,j", braze.ones(2, 3), braze.ones(3)).tolist()
        [3.0, 3.0]
    """
    equation, operands = _arguments(args)
    for operand in operands:
        if operand.dtype is not operands[0].dtype and not casts_now(operand, operands[0]):
            types = ", ".join(str(x._handle.type) for x in operands)
            raise DTypeError(f"[einsum] operands differ in dtype: {types}; convert with .to()")
    inputs, output, rank = _parse(equation, operands)
    sizes = _sizes(equation, operands, inputs)
    if output is None:
        every = [label for labels in inputs for label in labels]
        once = sorted(c for c in set(every) if isinstance(c, str) and every.count(c) == 1)
        output = (*range(rank - 1, -1, -1), *once)
    missing = [label for label in output if label not in sizes]
    if missing or len(set(output)) != len(output):
        what = f"{missing[0]!r} is in no operand" if missing else "a label is repeated"
        raise ShapeError(f"[einsum] {what}: output of {equation!r}")
    terms = [_narrow(x, labels, sizes) for x, labels in zip(operands, inputs, strict=True)]
    return _contract_all(terms, output, sizes)


def _arguments(args: tuple[Any, ...]) -> tuple[str, list[Tensor]]:
    """The equation and the operands of either form of call."""
    if not args:
        raise TypeError("einsum() needs an equation and operands")
    if isinstance(args[0], str):
        given = args[1:]
        if len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = tuple(given[0])
        equation = args[0]
    else:
        lists = args[1::2]
        given, tail = args[0 : 2 * len(lists) : 2], args[2 * len(lists) :]
        equation = ",".join(map(_sublist, lists))
        if tail:
            equation += "->" + _sublist(tail[0])
    if not given:
        raise ShapeError("[einsum] must provide at least one operand")
    for operand in given:
        if not isinstance(operand, Tensor):
            raise TypeError(f"einsum(): operands must be tensors, not {type(operand).__name__}")
    return equation, list(given)


def _sublist(labels: Any) -> str:
    text = ""
    for label in labels:
        if label is Ellipsis:
            text += "..."
        elif isinstance(label, int) and 0 <= label < len(_LETTERS):
            text += _LETTERS[label]
        else:
            raise ValueError(
                f"einsum(): subscripts must be in [0, 52) or Ellipsis, given {label!r}"
            )
    return text


def _parse(
    equation: str, operands: Sequence[Tensor]
) -> tuple[list[tuple[Label, ...]], tuple[Label, ...] | None, int]:
    """Labels of each operand and of the result (None: implicit), and the ellipsis' rank."""
    head, arrow, tail = equation.replace(" ", "").partition("->")
    texts = head.split(",")
    if len(texts) != len(operands):
        raise ShapeError(
            f"[einsum] equation {equation!r} has {len(texts)} operands, given {len(operands)}"
        )
    inputs: list[tuple[Label, ...]] = []
    most = 0
    for number, (text, x) in enumerate(zip(texts, operands, strict=True)):
        before, after = _split(text, equation)
        named = len(before) + len(after or "")
        if x.ndim < named or (after is None and x.ndim != named):
            raise ShapeError(
                f"[einsum] operand {number} of {equation!r} has {named} subscripts and the type "
                f"{x._handle.type}"
            )
        most = max(most, x.ndim - named)
        inputs.append((*before, *range(x.ndim - named - 1, -1, -1), *(after or "")))
    if not arrow:
        return inputs, None, most
    before, after = _split(tail, equation)
    middle = () if after is None else tuple(range(most - 1, -1, -1))
    return inputs, (*before, *middle, *(after or "")), most


def _split(text: str, equation: str) -> tuple[str, str | None]:
    """The letters before and after the ellipsis; None after if there is none."""
    before, dots, after = text.partition("...")
    if not all(c.isascii() and c.isalpha() for c in before + after):
        raise ShapeError(f"[einsum] subscripts must be letters, and one '...': {equation!r}")
    return before, after if dots else None


def _sizes(
    equation: str, operands: Sequence[Tensor], inputs: Sequence[tuple[Label, ...]]
) -> dict[Label, int]:
    sizes: dict[Label, int] = {}
    for x, labels in zip(operands, inputs, strict=True):
        for label, size in zip(labels, x._handle.type.shape, strict=True):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size not in (1, known):
                types = ", ".join(str(y._handle.type) for y in operands)
                name = "the ellipsis" if isinstance(label, int) else repr(label)
                raise ShapeError(
                    f"[einsum] sizes of {name} differ: {equation!r} for {types} ({known} != {size})"
                )
    return sizes


def _narrow(x: Tensor, labels: tuple[Label, ...], sizes: dict[Label, int]) -> Term:
    """Take diagonals, and drop dimensions of size 1 that broadcast."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            shape = x._handle.type.shape
            if shape[first] != shape[second]:
                raise ShapeError(
                    f"[einsum] sizes of {label!r} differ in one operand: {x._handle.type} "
                    f"({shape[first]} != {shape[second]})"
                )
            x = take_diagonal(x, first, second)
            labels = (*labels[:first], *labels[first + 1 : second], *labels[second + 1 :], label)
    shape = x._handle.type.shape
    kept = [d for d, label in enumerate(labels) if shape[d] == sizes[label]]
    if len(kept) < len(labels):
        x = reshape(x, [shape[d] for d in kept])
    return x, tuple(labels[d] for d in kept)


def _contract_all(
    terms: list[Term], output: tuple[Label, ...], sizes: dict[Label, int]
) -> Tensor:
    """Contract pairs until one operand is left, and give it the result's order."""
    terms = [_sum_own(terms, i, output) for i in range(len(terms))]
    while len(terms) > 1:
        i, j = _cheapest(terms, output, sizes)
        others = [term for k, term in enumerate(terms) if k not in (i, j)]
        needed = {*output, *(label for _, labels in others for label in labels)}
        terms = [*others, _pair(terms[i], terms[j], needed, output, sizes)]
    x, labels = terms[0]
    if labels == output:
        return x
    return permute(x, [labels.index(label) for label in output])


def _sum_own(terms: list[Term], position: int, output: tuple[Label, ...]) -> Term:
    """Sum over the labels that only this operand has."""
    x, labels = terms[position]
    others = {c for k, (_, own) in enumerate(terms) if k != position for c in own}
    summed = [d for d, c in enumerate(labels) if c not in others and c not in output]
    if not summed:
        return x, labels
    return reductions.sum(x, summed, dtype=x.dtype), tuple(
        c for d, c in enumerate(labels) if d not in summed
    )


def _cheapest(
    terms: list[Term], output: tuple[Label, ...], sizes: dict[Label, int]
) -> tuple[int, int]:
    if len(terms) == 2:
        return 0, 1

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        i, j = pair
        both = {*terms[i][1], *terms[j][1]}
        others = {c for k, (_, own) in enumerate(terms) if k not in pair for c in own}
        left = [c for c in both if c in others or c in output]
        return math.prod(sizes[c] for c in both), math.prod(sizes[c] for c in left)

    return min(combinations(range(len(terms)), 2), key=cost)


def _pair(
    left: Term,
    right: Term,
    needed: set[Label],
    output: tuple[Label, ...],
    sizes: dict[Label, int],
) -> Term:
    """Contract two operands; what has no sum is an elementwise product."""
    (x, a), (y, b) = left, right
    labels = tuple(dict.fromkeys((*a, *b)))
    kept = tuple(c for c in labels if c in needed)
    if set(kept) == set(output):
        kept = output
    if len(kept) == len(labels):
        return mul(_spread(x, a, kept), _spread(y, b, kept)), kept
    letter = {c: _LETTERS[i] for i, c in enumerate(labels)}
    words = ["".join(letter[c] for c in own) for own in (a, b, kept)]
    call = call_of(_CONTRACT, equation=f"{words[0]},{words[1]}->{words[2]}")
    x, y = lowered(x, y)
    return apply(call, x, y), kept


def _spread(x: Tensor, own: tuple[Label, ...], wanted: tuple[Label, ...]) -> Tensor:
    """Permute and insert dimensions of size 1, so that x broadcasts along `wanted`."""
    order = [own.index(c) for c in wanted if c in own]
    shape = x._handle.type.shape
    if order != list(range(len(order))):
        x = permute(x, order)
    spread = tuple(shape[own.index(c)] if c in own else 1 for c in wanted)
    return x if spread == shape else reshape(x, spread)
