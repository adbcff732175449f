"""Function transforms: `grad`, `vjp`, `jvp`, `jacrev` and `functional_call`; they nest.

A transform calls the function on inputs of its own, which are leaves, or connected to the given
ones where these are being differentiated by somebody else (an outer transform, or the caller). Its
results are recorded if they depend on anything that requires a gradient besides its own inputs.
Containers (tuples, lists, dicts) of tensors may be given wherever a tensor may.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.autograd import engine
from braze.autograd.modes import enable_grad
from braze.autograd.tape import TapeNode
from braze.capture import tracer
from braze.functions.creation import ones, zeros
from braze.functions.movement import stack
from braze.nn.utils.stateless import functional_call
from braze.structure import rebuild, tensors_in
from braze.tensors import Tensor
from braze.views import unrecorded

ArgNums = int | tuple[int, ...]

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacrev",
    "jvp",
    "value_and_grad",
    "vjp",
]


def grad(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Any:
    """A function that computes the gradient of `func`, which gives one element.

    Args:
        argnums: which positional arguments to differentiate by; a tuple gives a tuple.
        has_aux: `func` gives ``(result, aux)``, and the gradient comes as ``(gradient, aux)``.

    Raises (when called):
        RuntimeError: the result is not a tensor of one element, or `argnums` is out of range.

    Example:
        >>> import braze
        >>> second = grad(grad(lambda x: x**3))
        >>> second(braze.tensor(2.0)).item()
        12.0
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Any:
    """As `grad`; gives ``(gradient, value)``, or ``(gradient, (value, aux))``."""

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        with _Level() as level:
            replaced, chosen = level.arguments(args, argnums)
            output, aux = _split(func(*replaced, **kwargs), has_aux, "grad_and_value")
            if not isinstance(output, Tensor):
                raise RuntimeError(
                    "Expected f(*args) to return a Tensor for grad(f)(*args), got "
                    f"{type(output).__name__}"
                )
            if output.numel() != 1:
                raise RuntimeError(
                    "Expected f(*args) to return a scalar tensor for grad(f)(*args), got "
                    f"{output._handle.type}"
                )
            found = level.gradients([output], [None], list(tensors_in(chosen)))
            answer = _in_place_of(chosen, found)
            value = level.leave(output)
            return level.leave(answer), (value, level.leave(aux)) if has_aux else value

    return gradient


def value_and_grad(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Any:
    """As `grad_and_value`, the other way round: ``(value, gradient)``."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return value, found

    return gradient


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `func` and a function from vectors to their products with its Jacobian.

    Args:
        primals: the arguments, all of which are differentiated by.
        has_aux: `func` gives ``(result, aux)``, and this ``(result, function, aux)``.

    Returns:
        ``(output, vjp_fn)``: `vjp_fn` takes vectors in the structure of the output and gives a
        tuple with one product for each primal. It may be called repeatedly.
    """
    with _Level() as level:
        given = tuple(level.enter(primal) for primal in primals)
        output, aux = _split(func(*given), has_aux, "vjp")
        outputs = list(tensors_in(output))

    def products(*cotangents: Any) -> tuple[Any, ...]:
        structure = cotangents[0] if len(cotangents) == 1 else cotangents
        vectors = list(tensors_in(structure))
        if len(vectors) != len(outputs):
            raise RuntimeError(
                f"Expected pytree structure of cotangents to be the same as pytree structure of "
                f"outputs to the function: {len(outputs)} tensors, got {len(vectors)}"
            )
        with _Level(level) as inner:
            found = inner.gradients(outputs, vectors, list(tensors_in(given)))
            answer: tuple[Any, ...] = inner.leave(_in_place_of(given, found))
            return answer

    value = level.leave(output)
    return (value, products, level.leave(aux)) if has_aux else (value, products)


def jvp(
    func: Callable[..., Any],
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """The value of `func(*primals)` and its derivative in the direction of `tangents`.

    Computed by two backward passes, since there is no forward mode.

    Args:
        strict: raise where an output does not depend on the primals, instead of giving zeros.
        has_aux: `func` gives ``(result, aux)``, and this ``(result, derivative, aux)``.

    Raises:
        RuntimeError: primals and tangents differ in structure or shapes.
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to be tuples")
    directions = list(tensors_in(tangents))
    with _Level() as level:
        given = tuple(level.enter(primal) for primal in primals)
        sources = list(tensors_in(given))
        if [t.shape for t in sources] != [t.shape for t in directions]:
            raise RuntimeError(
                "jvp(f, primals, tangents): Expected primals and tangents to have the same "
                f"structure and shapes, got {[tuple(t.shape) for t in sources]} and "
                f"{[tuple(t.shape) for t in directions]}"
            )
        output, aux = _split(func(*given), has_aux, "jvp")
        outputs = list(tensors_in(output))
        vectors = [
            zeros(o.shape, dtype=o.dtype, device=o.device, requires_grad=True) for o in outputs
        ]
        first = level.gradients(outputs, vectors, sources, record=True)
        linear = [(g, d) for g, d in zip(first, directions, strict=True) if g.requires_grad]
        found = level.gradients(
            [g for g, _ in linear], [d for _, d in linear], vectors, own=vectors, strict=strict
        )
        derivative = level.leave(_in_place_of(output, found), vectors)
        value = level.leave(output)
        return (value, derivative, level.leave(aux)) if has_aux else (value, derivative)


def jacrev(
    func: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Any:
    """A function that computes the Jacobian of `func`: of the output's shape, then the input's.

    Args:
        argnums: which positional arguments to differentiate by; a tuple gives a tuple.
        has_aux: `func` gives ``(result, aux)``, and the Jacobian comes as ``(jacobian, aux)``.
        chunk_size: accepted; the backward passes of all elements are captured in turn.

    Returns (when called):
        The Jacobian in the structure of the output, each entry in that of the arguments.
    """

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        with _Level() as level:
            replaced, chosen = level.arguments(args, argnums)
            output, aux = _split(func(*replaced, **kwargs), has_aux, "jacrev")
            sources = list(tensors_in(chosen))

            def rows(result: Tensor) -> Any:
                flat = result.reshape(-1)
                passes = [
                    level.gradients([flat[at]], [None], sources) for at in range(result.numel())
                ]
                entries = [
                    stack([found[i] for found in passes]).reshape(result.shape + x.shape)
                    if passes
                    else zeros(result.shape + x.shape, dtype=x.dtype, device=x.device)
                    for i, x in enumerate(sources)
                ]
                return _in_place_of(chosen, entries)

            answer = level.leave(rebuild(output, rows))
            return (answer, level.leave(aux)) if has_aux else answer

    return jacobian


def hessian(func: Callable[..., Any], argnums: ArgNums = 0) -> Any:
    """A function that computes the second derivatives of `func`: `jacrev` twice."""
    return jacrev(jacrev(func, argnums), argnums)


# Levels -------------------------------------------------------------------------------------------


class _Level:
    """One transform at work: recording is on inside, and its own inputs are known.

    Attributes:
        record: whether the caller records, so that results may have a history.
        inputs: the tensors that this transform differentiates by.
    """

    def __init__(self, outer: _Level | None = None) -> None:
        self.record = tracer().grad_enabled
        self.inputs: list[Tensor] = [] if outer is None else outer.inputs
        self._mode = enable_grad()

    def __enter__(self) -> _Level:
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    def enter(self, value: Any) -> Any:
        """The same structure with each tensor replaced by an input of this transform."""

        def own(tensor: Tensor) -> Tensor:
            connected = self.record and tensor.requires_grad
            if connected:
                replaced = tensor.view_as(tensor)
            else:
                replaced = unrecorded(tensor).requires_grad_()
            self.inputs.append(replaced)
            return replaced

        return rebuild(value, own)

    def arguments(self, args: tuple[Any, ...], argnums: ArgNums) -> tuple[list[Any], Any]:
        """The arguments with the chosen ones replaced, and these in the form of `argnums`."""
        replaced = list(args)
        numbers = (argnums,) if isinstance(argnums, int) else argnums
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise RuntimeError(f"Got argnum={number}, but only {len(args)} positional inputs")
            replaced[number] = self.enter(args[number])
        chosen = tuple(replaced[number] for number in numbers)
        return replaced, chosen[0] if isinstance(argnums, int) else chosen

    def gradients(
        self,
        outputs: Sequence[Tensor],
        vectors: Sequence[Tensor | None],
        sources: Sequence[Tensor],
        record: bool = False,
        own: Sequence[Tensor] = (),
        strict: bool = False,
    ) -> list[Tensor]:
        """Gradients of the outputs, zeros where there are none.

        Args:
            record: whether the gradients must be differentiable; they are anyway where the outputs
                depend on other things than the inputs of this transform (and `own`).
        """
        pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
        found: Sequence[Tensor | None] = (None,) * len(sources)
        if pairs:
            weights = [
                ones(o.shape, dtype=o.dtype, device=o.device) if v is None else v for o, v in pairs
            ]
            found = engine.grad(
                [o for o, _ in pairs],
                list(sources),
                weights,
                retain_graph=True,
                create_graph=record or self._depends([*(o for o, _ in pairs), *weights], own),
                allow_unused=True,
            )
        if strict and any(gradient is None for gradient in found):
            raise RuntimeError("an output does not depend on the inputs, which strict=True forbids")
        return [
            zeros(x.shape, dtype=x.dtype, device=x.device) if gradient is None else gradient
            for x, gradient in zip(sources, found, strict=True)
        ]

    def leave(self, value: Any, own: Sequence[Tensor] = ()) -> Any:
        """Results, without history if nothing but this transform's inputs is behind it."""

        def plain(tensor: Tensor) -> Tensor:
            if tensor.requires_grad and self._depends([tensor], own):
                return tensor
            return unrecorded(tensor)

        return rebuild(value, plain)

    def _depends(self, tensors: Iterable[Tensor], own: Sequence[Tensor] = ()) -> bool:
        """Whether they depend on a leaf that is not this transform's own."""
        if not self.record:
            return False
        known = {id(tensor) for tensor in (*self.inputs, *own)}
        seen: set[TapeNode] = set()
        waiting: list[Any] = []
        for tensor in tensors:
            if tensor.requires_grad:
                waiting.append(tensor if tensor._node is None else tensor._node)
        while waiting:
            place = waiting.pop()
            if not isinstance(place, TapeNode):
                if id(place) not in known:
                    return True
            elif place not in seen:
                seen.add(place)
                waiting.extend(edge[0] for edge in place.edges if edge is not None)
        return False


def _split(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """What a function gave, as (output, aux)."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{name}(f)(*args): output of function f should be a tuple: (output, "
            "aux) if has_aux is True"
        )
    return result


def _in_place_of(structure: Any, tensors: Iterable[Tensor]) -> Any:
    """The structure with its tensors replaced in turn."""
    remaining = iter(tensors)
    return rebuild(structure, lambda _: next(remaining))
