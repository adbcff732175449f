"""What a call of an `autograd.Function` leaves on the tape, and the `ctx` that its methods see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from braze.autograd.tape import Edge, TapeNode, check_savable, edge_of, next_number
from braze.handle import SparseHandle
from braze.ir.graph import Location
from braze.ir.types import Shape, TensorType
from braze.sites import Site, current_scope, location_of

if TYPE_CHECKING:
    from braze.autograd.engine import Sweep
    from braze.tensors import Tensor


class FunctionCtx:
    """What `forward` and `backward` share; any other attribute may be set on it.

    Attributes:
        needs_input_grad: for each argument of `forward`, whether it is a tensor that requires a
            gradient.
        saved_tensors: in `backward`, what was given to `save_for_backward`.
    """

    _node: FunctionNode | None = None

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep arguments, results or other tensors (or None) for `backward`.

        A second call replaces the first. Values that are changed in place afterwards are refused by
        the backward pass.
        """
        from braze.tensors import Tensor

        for position, tensor in enumerate(tensors):
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {position} is of "
                    f"type {type(tensor).__name__}"
                )
        self._to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Accepted; there is no forward mode to use it."""

    def mark_dirty(self, *args: Tensor) -> None:
        """Say which arguments `forward` changed in place; each must be among the results."""
        self._dirty = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Say which results carry no gradient; `backward` gets zeros for them."""
        self._non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for results that nothing used."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What was saved; the tensors have their history.

        Raises:
            RuntimeError: they were freed by an earlier backward pass, or one was changed in place.
        """
        return () if self._node is None else self._node.saved_tensors


class FunctionNode(TapeNode):
    """One call of a custom function; a tensor's `grad_fn`. Attributes of its `ctx` are its own.

    Attributes:
        function: the subclass of `Function`.
        ctx: what the call keeps.
    """

    def __init__(
        self, function: type[Any], ctx: FunctionCtx, args: Sequence[Any], site: Site
    ) -> None:
        from braze.tensors import Tensor

        self.function = function
        self.ctx = ctx
        self.site = site
        self.scope = current_scope()
        self.sparse = {
            position: x._handle
            for position, x in enumerate(args)
            if isinstance(x, Tensor) and isinstance(x._handle, SparseHandle)
        }
        self.sparse_results: dict[int, SparseHandle] = {}
        self.edges = tuple(
            [edge_of(self._on_tape(x)) if isinstance(x, Tensor) else None for x in args]
        )
        self.inputs = tuple([x._handle.type if isinstance(x, Tensor) else None for x in args])
        self.hooks = None
        self.number = next_number()
        self.values: Any = []
        self.result_types: tuple[TensorType | None, ...] = ()
        # For each saved position: (index in `values`, its edge, which result it is); None for None.
        self._saved: list[tuple[int, Edge | None, int | None] | None] = []

    @staticmethod
    def _on_tape(tensor: Tensor) -> Tensor:
        """A sparse tensor's place on the tape is that of its values."""
        handle = tensor._handle
        return handle.values if isinstance(handle, SparseHandle) else tensor

    def finish(self, results: Sequence[Any], ctx: FunctionCtx, places: dict[int, int]) -> None:
        """After `forward`: note the types of the results and keep what was asked for.

        Args:
            places: id of a result of `forward` -> its number, for those that carry a gradient.
        """
        from braze.tensors import Tensor

        for index, x in enumerate(results):
            if isinstance(x, Tensor) and isinstance(x._handle, SparseHandle):
                self.sparse_results[index] = x._handle
        self.result_types = tuple(
            [self._on_tape(x)._handle.type if isinstance(x, Tensor) else None for x in results]
        )
        for tensor in ctx._to_save:
            if tensor is None:
                self._saved.append(None)
                continue
            place = places.get(id(tensor))
            edge = None if place is not None else edge_of(self._on_tape(tensor))
            self._saved.append((len(self.values), edge, place))
            self.values.append(check_savable(tensor._current()))
        ctx._to_save = ctx._dirty = ctx._non_differentiable = ()

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The saved values as tensors with their history."""
        from braze.tensors import wrap, wrap_at

        values = self.check()
        found: list[Tensor | None] = []
        for entry in self._saved:
            if entry is None:
                found.append(None)
                continue
            at, edge, place = entry
            value = values[at]
            if isinstance(value, SparseHandle):
                from braze.sparse.tensor import around

                found.append(around(value))
                continue
            found.append(
                wrap_at(values[at], edge) if place is None else wrap(values[at], self, place)
            )
        return tuple(found)

    @property
    def types(self) -> Sequence[TensorType | None]:
        return self.result_types

    @property
    def location(self) -> Location:
        return location_of(self.site, self.scope)

    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def _describe_kept(self, position: int) -> str:
        return f"saved tensor {position} of [{self.name()}]"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "ctx" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.ctx, name)

    # The backward pass ----------------------------------------------------------------------------

    def propagate(self, sweep: Sweep, upstream: list[Any]) -> list[tuple[int, Any]]:
        """Call the user's `backward` and check what it returns."""
        from braze.autograd.engine import user_code

        if self.values is None:
            self.check()
        with user_code():
            given = self._given(sweep, upstream)
            self.ctx._node = self
            try:
                answer = self._rule()(self.ctx, *given)
            finally:
                # The node refers to it; a circle would keep the saved values until it is collected.
                del self.ctx._node
            gradients = self._checked(answer)
            found = []
            for position, gradient in enumerate(gradients):
                edge = self.edges[position]
                if gradient is None or edge is None or not sweep.wants(edge):
                    continue
                fitted = self._fitted(gradient, position)
                if position in self.sparse:
                    from braze.sparse.gradients import elements_at

                    fitted = elements_at(self.sparse[position], fitted)
                found.append((position, sweep.from_tensor(fitted)))
        return found

    def _rule(self) -> Callable[..., Any]:
        """`backward`, or `vjp` where that is what the class defines."""
        from braze.autograd.function import Function

        function = self.function
        own_backward = function.backward is not Function.backward
        own_vjp = function.vjp is not Function.vjp
        if own_backward and own_vjp:
            raise RuntimeError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You "
                "should only implement one of them."
            )
        rule: Callable[..., Any] = function.vjp if own_vjp else function.backward
        return rule

    def _given(self, sweep: Sweep, upstream: list[Any]) -> list[Tensor | None]:
        """The arguments of `backward`."""
        given: list[Tensor | None] = []
        for gradient, type in zip(upstream, self.result_types, strict=True):
            if gradient is None and type is not None and self.ctx._materialize:
                gradient = sweep.zeros(type)
            given.append(None if gradient is None else sweep.to_tensor(gradient))
        for index, handle in self.sparse_results.items():
            from braze.sparse.gradients import gradient_at

            values = given[index]
            given[index] = None if values is None else gradient_at(handle, values)
        return given

    def _checked(self, answer: Any) -> list[Tensor | None]:
        """One gradient for each argument of `forward`."""
        from braze.tensors import Tensor

        gradients = list(answer) if isinstance(answer, tuple) else [answer]
        count = len(self.edges)
        while len(gradients) > count and gradients[-1] is None:
            gradients.pop()
        if len(gradients) != count:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected "
                f"{count}, got {len(gradients)})"
            )
        for position, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if not isinstance(gradient, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(gradient).__name__})")
            if self.inputs[position] is None:
                raise RuntimeError(
                    f"function {self.name()} returned a gradient different than None at position "
                    f"{position + 1}, but the corresponding forward input was not a Variable"
                )
        return gradients

    def _fitted(self, gradient: Tensor, position: int) -> Tensor:
        """The gradient in its argument's shape and dtype.

        Raises: RuntimeError if the shapes do not fit.
        """
        from braze.capture import call_of
        from braze.functions.promotion import cast
        from braze.ir.op import op_named
        from braze.tensors import apply

        wanted = self.inputs[position]
        assert wanted is not None
        given = gradient._current().type
        if given.shape != wanted.shape:
            if not _sums_to(given.shape, wanted.shape):
                raise RuntimeError(
                    f"Function {self.name()} returned an invalid gradient at index {position} - "
                    f"got {list(given.shape)} but expected shape compatible with "
                    f"{list(wanted.shape)}"
                )
            gradient = apply(call_of(op_named("sum_to_shape"), shape=wanted.shape), gradient)
        if not given.dtype.is_differentiable or given.dtype is not wanted.dtype:
            gradient = cast(gradient, wanted.dtype)
        return gradient


def _sums_to(given: Shape, wanted: Shape) -> bool:
    """Whether summing over broadcast dimensions leads from one shape to the other."""
    if len(given) < len(wanted):
        return False
    tail = given[len(given) - len(wanted) :]
    return all(w in (g, 1) for g, w in zip(tail, wanted, strict=True))
