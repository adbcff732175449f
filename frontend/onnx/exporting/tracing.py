"""Trace a module at several sizes of its open dimensions, down to operations that can be written.

In: a module and example arguments.  Out: graphs of equal structure, the example's first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from braze.engine import Storage
from braze.handle import Handle
from braze.ir.builder import Rewriter
from braze.ir.graph import Graph, Value, types_of
from braze.ir.interpreter import decomposition
from braze.ir.op import op_named
from braze.ir.types import TensorType, tensor_type
from braze.onnx.exporting.sizes import same_structure
from braze.onnx.running import UnsupportedOperatorError
from braze.structure import rebuild, tensors_in
from braze.tensors import Tensor, wrap
from braze.tracing import Traced, trace_pure

# How many sizes are tried with success, and how many graphs must agree.
_TRIED, _NEEDED = 12, 4
# Multiples of the example's sizes, which keep what a size is divided by, and neighbours of it,
# which tell half of a size from what is rounded to it. Those beyond the first few are for functions
# that do not take most sizes.
_FACTORS = (3, 2, 5, 7, 4, 6, 9, 10)
_STEPS = (1, 5, 3, 2, 7, -1, 8, 24, 16, -2, 40, 32)

# For each argument that is a tensor, the name of each open dimension.
Open = Sequence[Mapping[int, str]]


@dataclass
class Variants:
    """What a module was traced to.

    Attributes:
        traced: one for each choice of sizes; graphs have equal structure.
        choices: the size of each open dimension, by name.
    """

    traced: list[Traced]
    choices: list[dict[str, int]]

    @property
    def graphs(self) -> list[Graph]:
        return [t.graph for t in self.traced]


def traced_variants(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    opened: Open,
    rules: Mapping[str, Any],
) -> Variants:
    """Trace the module, at several sizes if some dimensions are open.

    Raises:
        RuntimeError: the module is not one graph, or changes something when it is called.
        UnsupportedOperatorError: some operations have no rule.
        ValueError: with other sizes, it does not compute the same operations.
    """
    tensors = list(tensors_in((list(args), kwargs)))
    own: dict[str, int] = {}
    for tensor, dims in zip(tensors, opened, strict=True):
        for dim, name in dims.items():
            size = own.setdefault(name, tensor.shape[dim])
            if size != tensor.shape[dim]:
                raise ValueError(
                    f"dimension {name!r} has the sizes {size} and {tensor.shape[dim]} in the "
                    "example; give different dimensions different names"
                )
    first = _traced(model, args, kwargs, rules)
    if not own:
        return Variants([first], [own])
    found, reasons = [(own, first)], []
    for choice in _choices(own):
        if len(found) == _TRIED:
            break

        sizes = iter(zip(tensors, opened, strict=True))

        def resized(_: Tensor, sizes: Any = sizes, choice: dict[str, int] = choice) -> Tensor:
            tensor, dims = next(sizes)
            shape = [choice[dims[d]] if d in dims else s for d, s in enumerate(tensor.shape)]
            return _unset(tensor_type(tensor.dtype, tuple(shape)))

        new_args, new_kwargs = rebuild((list(args), kwargs), resized)
        try:
            found.append((choice, _traced(model, new_args, new_kwargs, rules)))
        except UnsupportedOperatorError:
            raise
        except Exception as error:
            reasons.append(f"{_text(choice)}: {str(error).splitlines()[0]}")
    alike = _largest_group(found)
    if 2 * len(alike) <= len(found) or len(alike) < _NEEDED:
        why = reasons[0] if len(found) < _NEEDED else "it computes other operations"
        raise ValueError(
            f"the module cannot be exported with the dynamic dimensions {', '.join(own)}: of other "
            f"sizes than {_text(own)}, {why}; make fewer dimensions dynamic"
        )
    return Variants([t for _, t in alike], [c for c, _ in alike])


def _unset(kind: TensorType) -> Tensor:
    """A tensor whose elements nobody reads: its memory is never touched, however large it is."""
    handle = Handle(kind, None, 0)
    handle.storage = Storage(kind.numel * kind.dtype.itemsize)
    return wrap(handle, None, 0)


def _text(choice: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in choice.items())


def _choices(own: Mapping[str, int]) -> list[dict[str, int]]:
    """Other sizes to try, of all open dimensions together, by ever other amounts."""

    def listed(table: Sequence[int], combine: Callable[[int, int], int]) -> list[dict[str, int]]:
        found = [
            {
                name: combine(size, table[(i + k * (i % 3 + 1)) % len(table)])
                for k, (name, size) in enumerate(own.items())
            }
            for i in range(len(table))
        ]
        return [choice for choice in found if min(choice.values()) > 1]

    both = zip_longest(listed(_FACTORS, int.__mul__), listed(_STEPS, int.__add__))
    found: list[dict[str, int]] = []
    for choice in (c for pair in both for c in pair if c is not None):
        if choice not in (own, *found):
            found.append(choice)
    return found


def _largest_group(
    found: list[tuple[dict[str, int], Traced]],
) -> list[tuple[dict[str, int], Traced]]:
    """Those of the most common structure. Others are special cases, such as of a batch of one, of
    what the operations mean for any size."""
    groups: list[list[tuple[dict[str, int], Traced]]] = []
    for item in found:
        for group in groups:
            if same_structure(group[0][1].graph, item[1].graph):
                group.append(item)
                break
        else:
            groups.append([item])
    return max(groups, key=len)


def _traced(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    rules: Mapping[str, Any],
) -> Traced:
    remedy = "export it with training=TrainingMode.EVAL"
    found = trace_pure(model, args, kwargs, remedy=remedy)
    found.result = None  # or the next sync would compute it
    found.graph = writable(found.graph, rules)
    return found


def writable(graph: Graph, rules: Mapping[str, Any]) -> Graph:
    """The graph in operations that have a rule; checks are left out.

    Raises:
        UnsupportedOperatorError: some have no rule, and cannot be decomposed.
    """
    missing: Counter[str] = Counter()
    result = _writable(graph, rules, missing)
    if missing:
        listed = "\n  ".join(missing)
        raise UnsupportedOperatorError(f"ONNX has nothing for these operations:\n  {listed}")
    return result


def _writable(graph: Graph, rules: Mapping[str, Any], missing: Counter[str]) -> Graph:
    new = Rewriter(graph)
    for node in graph.nodes:
        if not node.results:  # a check
            continue
        if node.op.name in rules:
            new.keep(node)
        elif node.op.decompose is None:
            missing[f"{node.op.name}" + (f" at {node.location}" if node.location else "")] += 1
            new.keep(node)
        else:
            with new.at(node.location):
                new.replace(node, _inlined(new, node, rules, missing))
    return new.done()


def _inlined(new: Rewriter, node: Any, rules: Mapping[str, Any], missing: Any) -> list[Value]:
    """The decomposition of a node, in the new graph."""
    items = tuple((name, type(value), value) for name, value in node.attributes.items())
    inner = decomposition(node.op, types_of(node.operands), items)
    before: Counter[str] = Counter()
    body = _writable(inner, rules, before)
    for name in before:
        where = f" at {node.location}" if node.location else ""
        missing[f"{name} (of {node.op.name}{where})"] += 1
    values: dict[Value, Value] = dict(zip(body.inputs, new.operands(node), strict=True))
    for own in body.nodes:
        operands = [values[x] for x in own.operands]
        made = new.emit(op_named(own.op.name), operands, own.attributes)
        values.update(zip(own.results, made.results, strict=True))
    return [values[x] for x in body.outputs]
