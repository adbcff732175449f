"""Derivatives of functions: `jacobian`, `hessian` and products of vectors with them.

Products with the Jacobian from the right (`jvp`, `hvp`) come from two backward passes: the first is
linear in the vector it is given, so its own derivative is the product ("double backward trick").
Only what the result depends on is run, so that the first pass itself costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.autograd.engine import grad
from braze.autograd.modes import enable_grad
from braze.functions.creation import ones, zeros
from braze.functions.movement import stack
from braze.tensors import Tensor
from braze.views import unrecorded

Tensors = tuple[Tensor, ...]


def vjp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The outputs, and the vector `v` times the Jacobian of `func` at `inputs`.

    Args:
        func: takes the inputs, gives a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: of the outputs' shapes; may be left out for a single output of one element.
        create_graph: the results can be differentiated.
        strict: raise where the outputs do not depend on an input, instead of giving zeros.

    Returns:
        The outputs, and the products in the structure of the inputs.

    Raises:
        TypeError: inputs, outputs or `v` are not tensors. RuntimeError: shapes do not fit, or
        `strict` finds something.
    """
    single, given = _as_tuple(inputs, "inputs", "vjp")
    with enable_grad():
        given = _prepared(given, create_graph)
        single_output, outputs = _as_tuple(
            func(*given), "outputs of the user-provided function", "vjp"
        )
        _check_outputs(outputs, strict)
        upstream = _vector(v, outputs, single_output, "vjp")
        found = _products(outputs, given, upstream, create_graph, strict)
    return (
        _result(outputs, single_output, create_graph),
        _result(found, single, create_graph),
    )


def jvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The outputs, and the Jacobian of `func` at `inputs` times the vector `v`.

    Args: as `vjp`; `v` has the inputs' shapes.

    Returns:
        The outputs, and the products in the structure of the outputs.

    Raises: as `vjp`.
    """
    single, given = _as_tuple(inputs, "inputs", "jvp")
    with enable_grad():
        given = _prepared(given, create_graph)
        direction = _vector(v, given, single, "jvp")
        single_output, outputs = _as_tuple(
            func(*given), "outputs of the user-provided function", "jvp"
        )
        _check_outputs(outputs, strict)
        found = _forward_products(outputs, given, direction, create_graph, strict)
    return (
        _result(outputs, single_output, create_graph),
        _result(found, single_output, create_graph),
    )


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of `func` at `inputs`: of the output's shape followed by the input's.

    Args:
        func, inputs, create_graph, strict: as `vjp`.
        vectorize: accepted; the backward passes of all elements are one graph anyway.
        strategy: "reverse-mode"; there is no forward mode.

    Returns:
        A tensor for a single input and a single output; a tuple over the inputs for several, in a
        tuple over the outputs if there are several of those.

    Raises: as `vjp`. NotImplementedError: another strategy.
    """
    if strategy != "reverse-mode":
        raise NotImplementedError(f"jacobian: strategy {strategy!r} is not supported")
    single, given = _as_tuple(inputs, "inputs", "jacobian")
    with enable_grad():
        given = _prepared(given, create_graph)
        single_output, outputs = _as_tuple(
            func(*given), "outputs of the user-provided function", "jacobian"
        )
        _check_outputs(outputs, strict)
        rows = [_jacobian_of(output, given, create_graph, strict) for output in outputs]
    results = [_result(row, single, create_graph) for row in rows]
    return results[0] if single_output else tuple(results)


def _jacobian_of(output: Tensor, given: Tensors, create_graph: bool, strict: bool) -> Tensors:
    """The Jacobian of one output with respect to each input."""
    rows: list[list[Tensor]] = [[] for _ in given]
    flat = output.reshape(-1)
    for at in range(output.numel()):
        found = _products((flat[at],), given, (None,), create_graph, strict)
        for row, gradient in zip(rows, found, strict=True):
            row.append(gradient)
    return tuple(
        stack(row).reshape(output.shape + x.shape)
        if row
        else zeros(output.shape + x.shape, dtype=x.dtype, device=x.device)
        for row, x in zip(rows, given, strict=True)
    )


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a scalar function: of the one input's shape followed by the
    other's.

    Args: as `jacobian`; `func` gives a tensor of one element.

    Returns:
        A tensor for a single input, a tuple of tuples for several.

    Raises: as `jacobian`; RuntimeError if `func` does not give a single element.
    """
    single, given = _as_tuple(inputs, "inputs", "hessian")

    def scalar(*values: Tensor) -> Tensor:
        result = _scalar_output(func(*values), "hessian")
        return result.reshape(()) if result.numel() == 1 else result

    def gradients(*values: Tensor) -> Any:
        found = jacobian(scalar, values, create_graph=True)
        if strict:
            _require(found, "jacobian")
        return found[0] if single else found

    return jacobian(
        gradients,
        inputs,
        create_graph=create_graph,
        strict=strict,
        vectorize=vectorize,
        strategy=outer_jacobian_strategy,
    )


def vhp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The output, and the vector `v` times the Hessian of a scalar function.

    Args: as `vjp`; `v` has the inputs' shapes.

    Returns:
        The output, and the products in the structure of the inputs.

    Raises: as `hessian`.
    """
    single, given = _as_tuple(inputs, "inputs", "vhp")
    with enable_grad():
        given = _prepared(given, create_graph)
        vector = _vector(v, given, single, "vhp")
        output = _scalar_output(func(*given), "vhp")
        _check_outputs((output,), strict)
        first = _products((output,), given, (None,), True, False)
        if strict:
            _require(first, "jacobian")
        found = _products(first, given, vector, create_graph, strict)
    return (
        _result((output,), True, create_graph),
        _result(found, single, create_graph),
    )


def hvp(
    func: Callable[..., Any],
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """The output, and the Hessian of a scalar function times the vector `v`.

    Args: as `vhp`. The Hessian is symmetric where it is continuous, and `vhp` is the faster one.

    Returns:
        The output, and the products in the structure of the inputs.

    Raises: as `hessian`.
    """
    single, given = _as_tuple(inputs, "inputs", "hvp")
    with enable_grad():
        given = _prepared(given, create_graph)
        vector = _vector(v, given, single, "hvp")
        output = _scalar_output(func(*given), "hvp")
        _check_outputs((output,), strict)
        first = _products((output,), given, (None,), True, False)
        if strict:
            _require(first, "jacobian")
        found = _forward_products(first, given, vector, create_graph, strict)
    return (
        _result((output,), True, create_graph),
        _result(found, single, create_graph),
    )


# Pieces -------------------------------------------------------------------------------------------


def _as_tuple(values: Any, name: str, function: str) -> tuple[bool, Tensors]:
    """Whether there is just one tensor, and all of them."""
    single = not isinstance(values, tuple)
    found = (values,) if single else values
    for position, value in enumerate(found):
        if not isinstance(value, Tensor):
            where = f"given {name}" if single else f"value at index {position}"
            raise TypeError(
                f"The {name} given to {function} must be either a Tensor or a tuple of Tensors but "
                f"the {where} has type {type(value)}."
            )
    return single, found


def _prepared(given: Tensors, create_graph: bool) -> Tensors:
    """Inputs to differentiate by: views, connected to the given tensors if that is wanted."""
    return tuple(
        x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_()
        for x in given
    )


def _vector(v: Any, like: Tensors, single: bool, function: str) -> Tensors:
    """The vector of a product, checked; ones where it may be left out."""
    if v is None:
        if not single or like[0].numel() != 1:
            of = {
                "vjp": "user-provided function returns a single Tensor",
                "jvp": "input to the user-provided function is a single Tensor",
            }.get(function, "input to the user-provided function is a single Tensor")
            raise RuntimeError(f"The vector v can only be None if the {of} with a single element.")
        return (ones(like[0].shape, dtype=like[0].dtype, device=like[0].device),)
    _, given = _as_tuple(v, "v", function)
    if len(given) != len(like):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(given)}."
        )
    for position, (own, other) in enumerate(zip(given, like, strict=True)):
        if own.shape != other.shape:
            entry = "" if single else f"Entry {position} in "
            raise RuntimeError(
                f"{entry}v has invalid size: should be {other.shape} but got {own.shape}."
            )
    return given


def _scalar_output(output: Any, function: str) -> Tensor:
    single, outputs = _as_tuple(output, "outputs of the user-provided function", function)
    if not single:
        raise RuntimeError(f"The function given to {function} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {function} should contain a single "
            "element"
        )
    return outputs[0]


def _check_outputs(outputs: Tensors, strict: bool) -> None:
    for position, output in enumerate(outputs):
        if strict and not output.requires_grad:
            raise RuntimeError(
                f"Output {position} of the user-provided function does not require gradients. The "
                "outputs must be computed in a differentiable manner from the input when running "
                "in strict mode."
            )


def _require(gradients: Sequence[Any], what: str) -> None:
    for position, gradient in enumerate(gradients):
        if not gradient.requires_grad:
            raise RuntimeError(
                f"While computing the hessian, found that the {what} of the user-provided function "
                f"with respect to input {position} is independent of the input. This is not "
                "allowed in strict mode. You should ensure that your function is twice "
                f"differentiable and that the {what} depends on the inputs (this would be violated "
                "by a linear function for example)."
            )


def _products(
    outputs: Tensors,
    given: Tensors,
    upstream: Sequence[Tensor | None],
    create_graph: bool,
    strict: bool,
) -> Tensors:
    """Gradients of all inputs, zeros where there are none."""
    pairs = [(o, u) for o, u in zip(outputs, upstream, strict=True) if o.requires_grad]
    found: tuple[Any, ...] = (None,) * len(given)
    if pairs:
        found = grad(
            [o for o, _ in pairs],
            given,
            [u for _, u in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    results = []
    for position, (x, gradient) in enumerate(zip(given, found, strict=True)):
        if gradient is None:
            if strict:
                raise RuntimeError(
                    "The output of the user-provided function is independent of input "
                    f"{position}. This is not allowed in strict mode."
                )
            gradient = zeros(x.shape, dtype=x.dtype, device=x.device)
        elif strict and create_graph and not gradient.requires_grad:
            raise RuntimeError(
                f"The jacobian of the user-provided function is independent of input {position}. "
                "This is not allowed in strict mode when create_graph=True."
            )
        results.append(gradient)
    return tuple(results)


def _forward_products(
    outputs: Tensors, given: Tensors, direction: Tensors, create_graph: bool, strict: bool
) -> Tensors:
    """The Jacobian times a direction, by the double backward trick."""
    upstream = tuple(
        zeros(o.shape, dtype=o.dtype, device=o.device, requires_grad=True) for o in outputs
    )
    first = _products(outputs, given, upstream, True, strict)
    pairs = [(g, d) for g, d in zip(first, direction, strict=True) if g.requires_grad]
    found: tuple[Any, ...] = (None,) * len(outputs)
    if pairs:
        found = grad(
            [g for g, _ in pairs],
            upstream,
            [d for _, d in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    results = []
    for position, (output, product) in enumerate(zip(outputs, found, strict=True)):
        if product is None:
            if strict:
                raise RuntimeError(
                    "The gradient with respect to the input is independent of entry "
                    f"{position} in the grad_outputs when using the double backward trick to "
                    "compute forward mode gradients. This is not allowed in strict mode."
                )
            product = zeros(output.shape, dtype=output.dtype, device=output.device)
        results.append(product)
    return tuple(results)


def _result(values: Sequence[Tensor], single: bool, create_graph: bool) -> Any:
    """A tensor or a tuple, without history unless it is wanted."""
    found = tuple(values if create_graph else [unrecorded(v) for v in values])
    return found[0] if single else found
