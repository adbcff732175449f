"""`autograd.Function`: an operation whose gradient is the user's own Python.

`forward` runs while nothing is recorded; what it calls is captured like any other operations and
compiled with the rest. Its results get one tape node, a `FunctionNode`, whose gradients are what
`backward` returns. Reading values inside (`detach().numpy()`) is a sync point, as everywhere.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze.autograd.function_node import FunctionCtx, FunctionNode
from braze.autograd.modes import no_grad
from braze.capture import tracer
from braze.handle import SparseHandle
from braze.sites import user_site
from braze.tensors import Tensor, wrap


class _NotInstantiable(type):
    """Classes of functions are used without instances."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            f"new-style autograd function with static forward method: {cls.__name__}.apply(...)"
        )


class Function(metaclass=_NotInstantiable):
    """Subclass it with static methods `forward` and `backward`, and call `apply`.

    Example:
        >>> import braze
        >>> class Cube(braze.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x * x
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return grad * 3 * x * x
        >>> x = braze.tensor([2.0], requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad.tolist()
        [12.0]
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """``forward(ctx, *args)``, or ``forward(*args)`` where `setup_context` is defined: the
        result, a tensor or a tuple of tensors and other objects."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what `backward` needs; called after a `forward` without `ctx`."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient for each argument of `forward` (None where there is none), from one for each
        result. Tensor operations in it can be differentiated in turn."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    # Another name for `backward`.
    vjp = backward

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the function on these arguments and record it.

        Raises:
            RuntimeError: tensors that were marked dirty are not among the results, or are leaves
                that require a gradient.
            TypeError: something that is not a tensor was saved for the backward pass.
        """
        separate = cls.setup_context is not Function.setup_context
        if separate:
            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        elif kwargs:
            raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments")
        needs = tuple(isinstance(arg, Tensor) and _needs_grad(arg) for arg in args)
        recording = tracer().grad_enabled and any(needs)
        ctx = FunctionCtx(needs)
        node = FunctionNode(cls, ctx, args, user_site()) if recording else None
        with no_grad():
            if separate:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args)
        single = not isinstance(output, tuple)
        results = _finish(ctx, node, args, (output,) if single else output)
        if node is not None and (watch := tracer().watch) is not None:
            watch.append(node)
        return results[0] if single else results


def _needs_grad(tensor: Tensor) -> bool:
    tensor._current()
    return tensor._requires_grad


def _finish(
    ctx: FunctionCtx, node: FunctionNode | None, args: tuple[Any, ...], outputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Give the results of `forward` their place on the tape, and save what was asked for."""
    inputs = {id(arg) for arg in args if isinstance(arg, Tensor)}
    dirty = {id(tensor) for tensor in ctx._dirty}
    if dirty - {id(output) for output in outputs}:
        raise RuntimeError(
            "Some elements marked as dirty during the forward method were not returned as output. "
            "The inputs that are modified inplace must all be outputs of the Function."
        )
    constant = {id(tensor) for tensor in ctx._non_differentiable}
    places: dict[int, int] = {}
    results: list[Any] = []
    for index, output in enumerate(outputs):
        if not isinstance(output, Tensor):
            results.append(output)
            continue
        output._current()
        tracked = node if _is_differentiable(output, constant) else None
        if tracked is not None:
            places[id(output)] = index
        if id(output) in dirty:
            results.append(_changed(output, tracked, index))
        elif id(output) in inputs:
            view = output.detach()
            if tracked is not None:
                _record(view, tracked, index)
            results.append(view)
        else:
            results.append(_fresh(output, tracked, index))
    if node is not None:
        node.finish(results, ctx, places)
    return tuple(results)


def _is_differentiable(output: Tensor, constant: set[int]) -> bool:
    return output.dtype.is_differentiable and id(output) not in constant


def _record(tensor: Tensor, node: FunctionNode, index: int) -> None:
    tensor._node, tensor._index, tensor._requires_grad = node, index, True


def _fresh(output: Tensor, node: FunctionNode | None, index: int) -> Tensor:
    """A result made by `forward`: the same object if nothing is known of it elsewhere."""
    if isinstance(output._handle, SparseHandle):
        from braze.sparse.tensor import make

        own = output._handle
        values = wrap(own.values._current(), node, index)
        return make(own.indices, values, own.type.shape, own.coalesced)
    if type(output) is Tensor and output._base is None and not output._requires_grad:
        if node is not None:
            _record(output, node, index)
        return output
    return wrap(output._current(), node, index)


def _changed(tensor: Tensor, node: FunctionNode | None, index: int) -> Tensor:
    """An argument that `forward` changed in place."""
    if node is None:
        return tensor
    if tensor._requires_grad and tensor._node is None:
        raise RuntimeError(
            "a leaf Variable that requires grad has been used in an in-place operation."
        )
    if tensor._base is None:
        if tensor._node is not None and tensor._node.hooks is not None:
            tensor._node.hooks.move_retained(tensor, node, index)
        _record(tensor, node, index)
        return tensor
    return tensor._replace(wrap(tensor._current(), node, index))


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `backward` that cannot be differentiated, such as one that uses NumPy: its
    gradients raise RuntimeError when they are."""

    @functools.wraps(function)
    def wrapped(ctx: Any, *gradients: Any) -> Any:
        with no_grad():
            outputs = function(ctx, *gradients)
        needed = any(isinstance(g, Tensor) and g.requires_grad for g in gradients)
        if not tracer().grad_enabled or not needed:
            return outputs
        given: Sequence[Any] = outputs if isinstance(outputs, tuple) else (outputs,)
        refused = tuple(_refuse(x) if isinstance(x, Tensor) else x for x in given)
        return refused if isinstance(outputs, tuple) else refused[0]

    return wrapped


def _refuse(tensor: Tensor) -> Tensor:
    """The same values, with a place on the tape that raises."""
    marked = tensor.detach().requires_grad_()
    result: Tensor = _TwiceRefused.apply(marked)
    return result


class _TwiceRefused(Function):
    """The identity, whose gradient is an error."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )


__all__ = ["Function", "FunctionCtx", "once_differentiable"]
