"""Derivatives on the IR for tests: reverse mode over a graph, numerical checks of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import braze.ir as ir
from braze.ir.graph import Value, types_of
from braze.ir.interpreter import interpret
from braze.ir.op import Op, gradient_of


def backward(
    b: ir.Builder, upstream: dict[Value, Value], wanted: Sequence[Value]
) -> list[Value | None]:
    """Reverse-mode differentiation of what a builder has made so far, appended to it.

    Args:
        upstream: gradients of some of its values.
        wanted: the values whose gradients to return (None where nothing flows back).
    """
    gradients = dict(upstream)
    for node in reversed(list(b.graph.nodes)):
        flowing = [gradients.get(result) for result in node.results]
        if not node.op.differentiable or all(g is None for g in flowing):
            continue
        saved = {"operand": node.operands, "result": node.results}
        for position, operand in enumerate(node.operands):
            rule = node.op.gradient(position)
            if rule is None or not operand.dtype.is_differentiable:
                continue
            gradient = gradient_of(
                b,
                node.op,
                position,
                types_of(node.operands),
                node.attributes,
                flowing,
                lambda kind, i, saved=saved: saved[kind][i],
            )
            before = gradients.get(operand)
            gradients[operand] = gradient if before is None else b.add(before, gradient)
    return [gradients.get(value) for value in wanted]


def numerical_gradient(
    function: Callable[[Sequence[np.ndarray]], float],
    operands: Sequence[np.ndarray],
    position: int,
    step: float,
) -> np.ndarray:
    """Central differences of a scalar function with respect to one operand.

    That for a complex operand has as its parts the derivatives by the operand's parts.
    """
    base = operands[position]
    gradient = np.zeros(base.shape, base.dtype)
    for place in np.ndindex(*base.shape):
        for unit in (1, 1j) if np.iscomplexobj(base) else (1,):
            values = []
            for sign in (1, -1):
                moved = base.copy()
                moved[place] += sign * step * unit
                values.append(function([*operands[:position], moved, *operands[position + 1 :]]))
            gradient[place] += unit * (values[0] - values[1]) / (2 * step)
    return gradient


def _weight(generator: np.random.Generator, type: ir.TensorType) -> np.ndarray:
    """Random weights of a result, complex ones for complex numbers."""
    made = np.asarray(generator.uniform(0.5, 1.5, type.shape))
    if type.dtype.is_complex:
        made = made + 1j * np.asarray(generator.uniform(-1.0, 1.0, type.shape))
    return np.asarray(made)


def _weighted(arrays: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> float:
    """What the gradients are of: the sum of Re(conj(weight) * element)."""
    pairs = zip(arrays, weights, strict=True)
    return float(sum(np.sum((np.conj(w) * a).real) for a, w in pairs))


def gradcheck_op(
    op: Op | str,
    operands: Sequence[Any],
    attributes: dict[str, Any] | None = None,
    *,
    second: bool = False,
    tolerance: float = 1e-6,
    step: float = 1e-5,
    seed: int = 0,
    prepare: Callable[[ir.Builder, list[Value]], list[Value]] | None = None,
    finish: Callable[[ir.Builder, list[Value]], list[Value]] | None = None,
) -> None:
    """Check every gradient rule of an op against central differences in f64.

    The checked function is the sum of the float and complex results, each times a random weight.

    Args:
        operands: arrays; the float ones must be f64, the complex ones c128.
        second: check the derivatives of the gradients as well.
        prepare: makes the op's operands from values of their types; the derivatives are those for
            these values. (Some gradients hold for symmetric matrices only.)
        finish: what is checked in place of the results. (Some results are only unique up to a
            factor.)

    Raises:
        AssertionError: a gradient is wrong, or has not its operand's type.
    """
    op = ir.op_named(op) if isinstance(op, str) else op
    attributes = attributes or {}
    arrays = [np.asarray(operand) for operand in operands]
    types = [ir.tensor_type(ir.from_numpy(a.dtype), a.shape) for a in arrays]
    b = ir.Builder(f"gradcheck_{op.name}")
    values = [b.input(t) for t in types]
    operands_made = prepare(b, values) if prepare else values
    node = b.emit(op, operands_made, attributes)
    generator = np.random.default_rng(seed)
    flowing: dict[Value, Value] = {}
    weights: list[np.ndarray] = []
    for result in finish(b, list(node.results)) if finish else node.results:
        if result.dtype.is_differentiable:
            flowing[result] = b.input(result.type)
            weights.append(_weight(generator, result.type))
    checked = [i for i, t in enumerate(types) if _has_gradient(op, i, t)]
    assert checked, f"{op.name} has no gradient to check"
    found = backward(b, flowing, [values[i] for i in checked])
    missing = [op.operand_name(i) for i, g in zip(checked, found, strict=True) if g is None]
    assert not missing, f"{op.name}: no gradient came back for {missing}"
    for i, gradient in zip(checked, found, strict=True):
        assert gradient is not None
        assert gradient.type == types[i], f"{op.name}: gradient {gradient.type} of {types[i]}"
    outputs = list(flowing)
    forward = _function(b, outputs, weights)
    graph = b.finish([g for g in found if g is not None])
    actual = interpret(graph, [*arrays, *weights])
    for i, gradient in zip(checked, actual, strict=True):
        expected = numerical_gradient(forward, arrays, i, step)
        np.testing.assert_allclose(
            gradient, expected, rtol=tolerance, atol=tolerance, err_msg=f"{op.name}: {i}"
        )
    if second:
        _second(b, graph.outputs, arrays, weights, checked, tolerance * 10, step)


def _has_gradient(op: Op, position: int, type: ir.TensorType) -> bool:
    return op.gradient(position) is not None and type.dtype.is_differentiable


def _function(
    b: ir.Builder, outputs: Sequence[Value], weights: Sequence[np.ndarray]
) -> Callable[[Sequence[np.ndarray]], float]:
    """The weighted sum of values of a builder as a function of its first inputs."""
    graph = ir.Graph(
        b.graph.name,
        list(b.graph.inputs),
        list(b.graph.roles),
        list(b.graph.nodes),
        list(outputs),
    )
    extra = len(graph.inputs)

    def run(arrays: Sequence[np.ndarray]) -> float:
        inputs = [*arrays, *weights][:extra]
        return _weighted(interpret(graph, inputs), weights)

    return run


def _second(
    b: ir.Builder,
    gradients: Sequence[Value],
    arrays: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    checked: Sequence[int],
    tolerance: float,
    step: float,
) -> None:
    """Check the derivative of a weighted sum of the gradients."""
    generator = np.random.default_rng(1)
    wanted = [b.graph.inputs[i] for i in checked]
    own = [_weight(generator, g.type) for g in gradients]
    count = len(b.graph.inputs)
    first = ir.Graph(
        "first",
        list(b.graph.inputs),
        list(b.graph.roles),
        list(b.graph.nodes),
        list(gradients),
    )
    flowing: dict[Value, Value] = {}
    for gradient in gradients:
        weight = b.input(gradient.type)
        known = flowing.get(gradient)
        flowing[gradient] = weight if known is None else b.add(known, weight)
    found = backward(b, flowing, wanted)

    def function(inputs: Sequence[np.ndarray]) -> float:
        return _weighted(interpret(first, [*inputs, *weights][:count]), own)

    for i, gradient in zip(checked, found, strict=True):
        expected = numerical_gradient(function, arrays, i, step)
        if gradient is None:
            actual = np.zeros_like(expected)
        else:
            (actual,) = interpret(b.finish([gradient]), [*arrays, *weights, *own])
        np.testing.assert_allclose(
            actual, expected, rtol=tolerance, atol=tolerance, err_msg=f"second derivative: {i}"
        )
