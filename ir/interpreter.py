"""Run a graph on NumPy arrays: the semantics of the IR. In: a graph and its inputs. Out: its
outputs.

A node runs by its op's `evaluate`. A composite without one is decomposed into a small graph, which
is kept for the next node of the same op, types and attributes, and run in its place. Values are
dropped after their last use.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from braze.ir.builder import Builder
from braze.ir.errors import AttributeTypeError, BrazeError, DTypeError, ShapeError
from braze.ir.graph import Graph, Location, Node, Value, types_of
from braze.ir.op import AttributeValue, Op
from braze.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]
Trace = Callable[[Node, Sequence[Array], Sequence[Array]], None]
AttributeItems = tuple[tuple[str, type, AttributeValue], ...]

DECOMPOSITIONS_KEPT = 1024


def interpret(
    graph: Graph, inputs: Sequence[Array | int | float], trace: Trace | None = None
) -> list[Array]:
    """Run a graph.

    Args:
        inputs: an array for each graph input, of its dtype and shape; Python numbers do for 0-d
            inputs.
        trace: called as ``trace(node, operands, results)`` after each node, also of fusion bodies.

    Returns:
        The outputs: contiguous arrays that share no memory with the inputs or with each other.
        Aliases are not acted on; whoever owns the storage writes the outputs there.

    Raises:
        ShapeError, DTypeError: an input is not what the graph declares.
        IndexError, DivisorError: a `check_range` failed; the message ends in the user's line.
    """
    if len(inputs) != len(graph.inputs):
        raise AttributeTypeError(
            f"graph @{graph.name} takes {len(graph.inputs)} inputs, given {len(inputs)}"
        )
    arrays = [_input(graph, position, given) for position, given in enumerate(inputs)]
    seen = {id(array) for array in arrays}
    outputs = []
    for array in _run(graph, arrays, trace):
        if array.base is not None or not array.flags.c_contiguous or id(array) in seen:
            array = np.array(array, order="C")
        seen.add(id(array))
        outputs.append(array)
    return outputs


def _input(graph: Graph, position: int, given: Array | int | float) -> Array:
    """Check one input; numbers become 0-d arrays."""
    value = graph.inputs[position]
    wanted = value.type
    if isinstance(given, (int, float)):  # np.float64 is a float too
        # Through i64 or f64, so that numbers out of range wrap around as in compiled code.
        wide = np.float64 if isinstance(given, float) else np.int64
        with np.errstate(all="ignore"):
            array: Array = np.asarray(given, dtype=wide).astype(wanted.dtype.numpy)
    else:
        array = np.asarray(given)
    label = f"[{graph.name}] input {value.name or position}"
    if array.dtype != wanted.dtype.numpy:
        raise DTypeError(f"{label} must be {wanted}, given {array.dtype}{list(array.shape)}")
    if array.shape != wanted.shape:
        raise ShapeError(f"{label} must be {wanted}, given shape {list(array.shape)}")
    return array


def _run(graph: Graph, inputs: Sequence[Array], trace: Trace | None) -> list[Array]:
    """The outputs, possibly views of the inputs."""
    values: dict[Value, Array] = dict(zip(graph.inputs, inputs, strict=True))
    dying = _last_uses(graph)
    for node, dead in zip(graph.nodes, dying, strict=True):
        operands = [values[operand] for operand in node.operands]
        try:
            results = _run_node(node, operands, trace)
        except Exception as error:
            _with_line(error, node.location)
        for value, array in zip(node.results, results, strict=True):
            values[value] = array
        if trace is not None:
            trace(node, operands, results)
        for value in dead:
            del values[value]
    return [values[value] for value in graph.outputs]


def _last_uses(graph: Graph) -> list[list[Value]]:
    """For each node, the values that nothing needs after it."""
    needed = set(graph.outputs)
    dying: list[list[Value]] = []
    for node in reversed(graph.nodes):
        last = []
        for value in (*node.operands, *node.results):
            if value not in needed:
                needed.add(value)
                last.append(value)
        dying.append(last)
    dying.reverse()
    return dying


def _run_node(node: Node, operands: Sequence[Array], trace: Trace | None) -> Sequence[Array]:
    if node.body is not None:
        results: Sequence[Array] = _run(node.body, operands, trace)
    elif node.op.evaluate is not None:
        found = node.op.evaluate(*operands, **node.attributes)
        results = found if isinstance(found, tuple) else (found,)
        # NumPy gives scalars in place of 0-d arrays.
        results = [np.asarray(array) for array in results]
    else:
        items = tuple((name, type(value), value) for name, value in node.attributes.items())
        results = _run(decomposition(node.op, types_of(node.operands), items), operands, None)
    for value, array in zip(node.results, results, strict=True):
        if array.shape != value.type.shape or array.dtype != value.type.dtype.numpy:
            raise RuntimeError(
                f"internal error: {node.op.name} gave {array.dtype}{list(array.shape)} "
                f"where its type is {value.type}"
            )
    return results


@lru_cache(maxsize=DECOMPOSITIONS_KEPT)
def decomposition(op: Op, types: tuple[TensorType, ...], items: AttributeItems) -> Graph:
    """One step of a composite's decomposition as a graph of its own, shared by equal calls.

    Args:
        items: name, type and value of each attribute (1, 1.0 and True must not be taken for each
            other).
    """
    if op.decompose is None:
        raise ValueError(f"op {op.name} has neither an evaluation nor a decomposition")
    b = Builder(op.name)
    operands = [b.input(t) for t in types]
    results = op.decompose(b, *operands, **{name: value for name, _, value in items})
    return b.finish([results] if isinstance(results, Value) else list(results))


def _with_line(error: Exception, location: Location | None) -> NoReturn:
    """Raise the error again with the user's line in its message."""
    if location is None:
        raise error
    text = linecache.getline(location.file, location.line).strip()
    place = f"\n  at {location.file}:{location.line}" + (f": {text}" if text else "")
    if location.scope:
        place += f"\n  in {location.scope}"
    if type(error) is IndexError or isinstance(error, BrazeError):
        raise type(error)(f"{error}{place}") from error
    error.add_note(place.strip())
    raise error
