"""The first NaN of a forward pass, in words.

In: the outputs of a backward pass and the tape that leads to them.  Out: text: the first recorded
operation that has a NaN among its results and none among its operands, with its line.

Results are known as operands of what comes behind them, and all operands of an operation are known
if anomaly detection was on when it ran. Else only what its gradient is computed from is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from braze.autograd.anomaly_text import (
    Known,
    first_nan,
    known_operand,
    known_results,
    nan_count,
    operand_name,
    operation,
    result_name,
    text_of,
    values_of_known,
)
from braze.autograd.tape import TapeNode
from braze.handle import SparseHandle

if TYPE_CHECKING:
    from braze.tensors import Tensor

Result = tuple[Any, int]  # a node and the number of its result


def describe_forward(outputs: Sequence[Tensor], order: Sequence[TapeNode]) -> str:
    """Where the first NaN came from; "" if no result that is known has one. A sync point.

    Args:
        order: the nodes of the tape, the latest first.
    """
    results = _results(outputs, order)
    doubtful = ""
    for node in reversed(order):
        made = [(at, results.get((node, at))) for at in range(len(node.types))]
        wrong = [(at, known) for at, known in made if known is not None and nan_count(known)]
        if not wrong:
            continue
        operands = _operands(node, results)
        nans = [at for at, known in operands.items() if known is not None and nan_count(known)]
        given = [at for at in nans if not _is_computed(node, at)]
        if given:
            names = ", ".join(operand_name(node, at) for at in given)
            return _text(node, operands, wrong[0], f"came in as operand {names} of")
        if nans:
            continue  # it is an earlier operation's
        if all(known is not None for known in operands.values()):
            return _text(node, operands, wrong[0], "is a result of")
        doubtful = doubtful or _text(node, operands, wrong[0], "that is known is a result of")
    return doubtful


def _results(outputs: Sequence[Tensor], order: Sequence[TapeNode]) -> dict[Result, Known]:
    """The results that are still known."""
    found: dict[Result, Known] = {}
    for tensor in outputs:
        if tensor._node is not None and not isinstance(tensor._handle, SparseHandle):
            found[tensor._node, tensor._index] = tensor
    for node in order:
        for number, known in known_results(node):
            found.setdefault((node, number), known)
        for at, edge in enumerate(node.edges):
            if edge is not None and isinstance(edge[0], TapeNode):
                operand = known_operand(node, at)
                if operand is not None:
                    found.setdefault((edge[0], edge[1]), operand)
    return found


def _operands(node: TapeNode, results: dict[Result, Known]) -> dict[int, Known | None]:
    """Each operand, None if it is not known."""
    found: dict[int, Known | None] = {}
    for at, edge in enumerate(node.edges):
        known = known_operand(node, at)
        if known is None and edge is not None:
            known = results.get((edge[0], edge[1])) if _is_computed(node, at) else edge[0]
        found[at] = known
    return found


def _is_computed(node: TapeNode, at: int) -> bool:
    """Whether an operand is the result of an operation of the tape."""
    edge = node.edges[at]
    return edge is not None and isinstance(edge[0], TapeNode)


def _text(
    node: TapeNode, operands: dict[int, Known | None], wrong: tuple[int, Known], how: str
) -> str:
    from braze.autograd.anomaly import place_of

    number, result = wrong
    values = values_of_known(result)
    place = first_nan(values)
    lines = [f"\n  the first NaN of the forward pass {how} {operation(node)}", place_of(node)]
    for at, known in operands.items():
        what = "not known" if known is None else text_of(known, place, values.shape)
        lines.append(f"\n  operand {operand_name(node, at)}: {what}")
    lines.append(f"\n  {result_name(node, number)}: {text_of(result, place, values.shape)}")
    return "".join(lines)
