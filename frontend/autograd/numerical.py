"""`gradcheck` and `gradgradcheck`: compare the gradients of the tape with finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import braze.functions  # noqa: F401  (first: it attaches the tensor methods)
from braze import engine
from braze.autograd.engine import grad
from braze.capture import flush, materialise, tracer
from braze.engine import config
from braze.ir.dtypes import bf16, c128, f64
from braze.placing import array_beside
from braze.random import Generator, randn
from braze.tensors import Tensor, from_array

# Of the largest gradient.
_ROUNDING = 1e-12
Array = np.ndarray[Any, Any]


class GradcheckError(RuntimeError):
    """The gradients are not those of the function."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check the gradients of `func(*inputs)` against central differences.

    Args:
        func: gives a tensor or several; outputs that are neither floating-point nor complex are
            left out.
        inputs: tensors are checked if they require a gradient; they should be float64 or
            complex128, of which real and imaginary part are varied as numbers of their own. Other
            objects are passed on. The tensors' memory is changed for each difference, and restored.
        eps: half of the step.
        atol, rtol: an element may differ by ``atol + rtol * abs(numerical)``.
        raise_exception: whether to raise or to return False where the gradients are wrong.
        nondet_tol: how much two backward passes may differ from each other, beside rounding: the
            first may be interpreted, and the second compiled.
        check_undefined_grad: accepted. The Jacobian of each output is found with no gradient for
            the others, so that functions of several outputs are checked for it anyway.
        check_grad_dtypes: the gradients must have the dtypes of the inputs.
        fast_mode: compare one random projection of the Jacobian instead of all of it.
        check_backward_ad: False checks nothing.
        check_batched_grad, check_forward_ad, check_batched_forward_grad, masked: accepted where
            False or None: there is no forward mode, no batched backward pass, no sparse tensor.

    Raises:
        GradcheckError: a RuntimeError with the numerical and the analytical Jacobian.
        ValueError: no input requires a gradient, or an output is sparse.
        NotImplementedError: one of the checks above that there is not, or a sparse input.

    Example:
        >>> import braze
        >>> x = braze.ones(3, dtype=braze.float64, requires_grad=True)
        >>> gradcheck(braze.sin, x)
        True
    """
    for name, asked in (
        ("check_batched_grad", check_batched_grad),
        ("check_batched_forward_grad", check_batched_forward_grad),
        ("check_forward_ad", check_forward_ad),
        ("masked", masked),
    ):
        if asked:
            raise NotImplementedError(f"gradcheck: {name}=True is not supported")
    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    if not check_backward_ad:
        return True
    check = _Check(func, arguments, eps, atol, rtol, nondet_tol, check_grad_dtypes)
    try:
        with _one_tier():
            check.run(fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Check the derivatives of the gradients of `func(*inputs)`, with respect to the inputs and to
    the gradients of the outputs.

    Args:
        grad_outputs: gradients of the outputs at which to check; random ones by default.
        gen_non_contig_grad_outputs: accepted; every tensor is contiguous.
        Others as `gradcheck`.

    Raises: as `gradcheck`.
    """
    if check_fwd_over_rev:
        raise NotImplementedError("gradgradcheck: check_fwd_over_rev=True is not supported")
    if not check_rev_over_rev:
        return True
    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    count = len(arguments)
    if not any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
        raise ValueError(
            "gradgradcheck expects at least one input tensor to require gradient, but none of them "
            "have requires_grad=True."
        )
    if grad_outputs is None:
        generator = Generator().manual_seed(0)
        given = tuple(
            randn(out.shape, dtype=c128 if out.dtype.is_complex else f64, generator=generator)
            .to(out.device, out.dtype)
            .requires_grad_()
            for out in _differentiable(func(*arguments))
        )
    else:
        several = isinstance(grad_outputs, (list, tuple))
        given = tuple(grad_outputs) if several else (grad_outputs,)  # type: ignore[arg-type]

    def first(*values: Any) -> tuple[Tensor, ...]:
        own, upstream = values[:count], values[count:]
        wanted = [x for x in own if isinstance(x, Tensor) and x.requires_grad]
        outputs = _differentiable(func(*own))
        found = grad(outputs, wanted, upstream, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        first,
        arguments + given,
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        fast_mode=fast_mode,
        masked=masked,
    )


@contextmanager
def _one_tier() -> Iterator[None]:
    """Where a graph would be interpreted until it is compiled, interpret: results must repeat."""
    state = tracer()
    before = state.tier
    flush()
    if before is None and config.tier == "auto":
        state.tier = "interpret"
    try:
        yield
    finally:
        flush()
        state.tier = before


class _Check:
    """One check of one function at one point."""

    def __init__(
        self,
        func: Callable[..., Any],
        arguments: tuple[Any, ...],
        eps: float,
        atol: float,
        rtol: float,
        nondet_tol: float,
        check_grad_dtypes: bool,
    ) -> None:
        self.func = func
        self.arguments = arguments
        self.eps, self.atol, self.rtol = eps, atol, rtol
        self.nondet_tol = nondet_tol
        self.check_grad_dtypes = check_grad_dtypes
        self.wanted = [x for x in arguments if isinstance(x, Tensor) and x.requires_grad]
        if not self.wanted:
            raise ValueError(
                "gradcheck expects at least one input tensor to require gradient, but none of them "
                "have requires_grad=True."
            )
        if any(x.is_sparse for x in self.wanted):
            raise NotImplementedError(
                "gradcheck: sparse inputs are not supported; check a function of their values()"
            )
        for position, x in enumerate(arguments):
            if isinstance(x, Tensor) and x.requires_grad and x.dtype not in (f64, c128):
                warnings.warn(
                    f"Input #{position} requires gradient and is not a double precision floating "
                    "point. This check will likely fail if all the inputs are not of double "
                    "precision floating point.",
                    stacklevel=4,
                )

    def run(self, fast: bool) -> None:
        outputs = _differentiable(self.func(*self.arguments))
        tracked = [output for output in outputs if output.requires_grad]
        for position, output in enumerate(outputs):
            if not output.requires_grad:
                self._constant(position)
        for position, output in enumerate(outputs):
            if not output.requires_grad:
                continue
            if fast:
                self._projection(position, output)
            else:
                self._jacobians(position, output)
        if tracked:
            self._zero(tracked)

    # Numerical ------------------------------------------------------------------------------------

    def _value(self, position: int) -> Array:
        """An output for the inputs as they are in memory now."""
        output = _differentiable(self.func(*self.arguments))[position]
        return _numbers(_array(output))

    def _difference(self, position: int, x: Tensor, direction: Array) -> Array:
        """The output's derivative in a direction of one input's."""
        flush()  # what was captured reads the memory that is changed here
        before = _in_reals(x._numpy()).copy()
        try:
            with np.errstate(all="ignore"):
                _overwrite(x, before + self.eps * direction)
                above = self._value(position)
                _overwrite(x, before - self.eps * direction)
                below = self._value(position)
        finally:
            flush()
            _overwrite(x, before)
        difference: Array = (above - below) / (2 * self.eps)
        return difference

    def _numerical(self, position: int, x: Tensor, size: int) -> Array:
        """The Jacobian: a row for each element of the input."""
        count = _count(x)
        jacobian = np.zeros((count, size))
        for at in range(count):
            direction = np.zeros(count)
            direction[at] = 1.0
            jacobian[at] = self._difference(position, x, direction)
        return jacobian

    def _constant(self, position: int) -> None:
        for x in self.wanted:
            size = _count(_differentiable(self.func(*self.arguments))[position])
            if np.abs(self._numerical(position, x, size)).max(initial=0.0) > self.atol:
                raise GradcheckError("Numerical gradient for function expected to be zero")

    # Analytical -----------------------------------------------------------------------------------

    def _pass(self, output: Tensor, upstream: Array) -> list[Array]:
        """One backward pass: the gradient of each input, flat."""
        numbers = np.array(upstream)
        if output.dtype.is_complex:
            numbers = numbers.view(np.complex128)
        weights = array_beside(output, numbers.reshape(output.shape)).to(output.dtype)
        found = grad(output, self.wanted, weights, retain_graph=True, allow_unused=True)
        flat: list[Array] = []
        for x, gradient in zip(self.wanted, found, strict=True):
            if gradient is None:
                flat.append(np.zeros(_count(x)))
                continue
            if self.check_grad_dtypes and gradient.dtype is not x.dtype:
                raise GradcheckError("Gradient has dtype mismatch")
            if gradient.shape != x.shape:
                raise GradcheckError("Analytical gradient has incorrect size")
            flat.append(_numbers(_array(gradient)))
        return flat

    def _analytical(self, output: Tensor) -> list[Array]:
        """The Jacobian of each input: a column for each element of the output."""
        columns = []
        for at in range(_count(output)):
            upstream = np.zeros(_count(output))
            upstream[at] = 1.0
            columns.append(self._pass(output, upstream))
        if not columns:
            return [np.zeros((_count(x), 0)) for x in self.wanted]
        return [np.stack(rows, axis=1) for rows in zip(*columns, strict=True)]

    # Comparisons ----------------------------------------------------------------------------------

    def _jacobians(self, position: int, output: Tensor) -> None:
        analytical = self._analytical(output)
        again = self._analytical(output)
        for number, (x, found, repeated) in enumerate(
            zip(self.wanted, analytical, again, strict=True)
        ):
            numerical = self._numerical(position, x, _count(output))
            self._compare(position, number, numerical, found)
            self._repeatable(found, repeated)

    def _projection(self, position: int, output: Tensor) -> None:
        generator = np.random.default_rng(position)
        upstream = generator.uniform(0.5, 1.5, _count(output))
        found, again = self._pass(output, upstream), self._pass(output, upstream)
        for number, (x, gradient, repeated) in enumerate(
            zip(self.wanted, found, again, strict=True)
        ):
            self._repeatable(gradient, repeated)
            direction = generator.standard_normal(_count(x))
            direction /= max(float(np.linalg.norm(direction)), 1e-12)
            slope = self._difference(position, x, direction)
            self._compare(
                position, number, np.array([upstream @ slope]), np.array([gradient @ direction])
            )

    def _compare(self, position: int, number: int, numerical: Array, analytical: Array) -> None:
        close = np.isclose(analytical, numerical, rtol=self.rtol, atol=self.atol, equal_nan=True)
        if not close.all():
            raise GradcheckError(
                f"Jacobian mismatch for output {position} with respect to input {number},\n"
                f"numerical:{from_array(numerical)!r}\nanalytical:{from_array(analytical)!r}\n"
            )

    def _repeatable(self, found: Array, again: Array) -> None:
        worst = np.abs(found - again).max(initial=0.0)
        # The first pass may be interpreted and the second compiled, which round in other places.
        rounding = _ROUNDING * np.abs(found).max(initial=0.0)
        if worst > self.nondet_tol + rounding:
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and grad_output "
                "multiple times gives different values, although analytical gradient matches "
                f"numerical gradient. The tolerance for nondeterminism was {self.nondet_tol}."
            )

    def _zero(self, outputs: Sequence[Tensor]) -> None:
        """No gradient comes out where none goes in."""
        zeros = [array_beside(o, np.zeros(o.shape)).to(o.dtype) for o in outputs]
        found = grad(outputs, self.wanted, zeros, retain_graph=True, allow_unused=True)
        for x, gradient in zip(self.wanted, found, strict=True):
            if gradient is None:
                continue
            if (_array(gradient) != 0).any():
                raise GradcheckError("backward not multiplied by grad_output")
            if gradient.shape != x.shape:
                raise GradcheckError("grad is incorrect size")


def _in_reals(array: Array) -> Array:
    """The memory of a contiguous array, flat; complex numbers as twice as many real ones."""
    flat = array.reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _overwrite(x: Tensor, numbers: Array) -> None:
    """Put numbers into a tensor's memory, without a trace; complex ones by their parts."""
    array = x._numpy()
    if not x.is_cuda:
        np.copyto(_in_reals(array), numbers, casting="unsafe")
        return
    array = array.copy()
    np.copyto(_in_reals(array), numbers, casting="unsafe")
    storage = materialise(x._current())
    engine.cuda().copy_storage(engine.Storage.from_numpy(array), storage)


def _numbers(array: Array) -> Array:
    """The elements (or their parts) in double precision."""
    return _in_reals(np.ascontiguousarray(array)).astype(np.float64)


def _count(tensor: Tensor) -> int:
    """How many real numbers a tensor has."""
    return tensor.numel() * (2 if tensor.dtype.is_complex else 1)


def _differentiable(result: Any) -> tuple[Tensor, ...]:
    """The floating-point and complex tensors among what a function returned."""

    def walk(value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            if value.dtype.is_differentiable:
                yield value
        elif isinstance(value, (tuple, list)):
            for item in value:
                yield from walk(item)

    found = tuple(walk(result))
    if any(tensor.is_sparse for tensor in found):
        raise ValueError("Sparse output is not supported at gradcheck yet. Please call to_dense().")
    if not found:
        raise ValueError("gradcheck expects a function that gives a floating-point tensor")
    return found


def _array(tensor: Tensor) -> Array:
    array: Array = tensor._numpy()
    return array.astype(np.float32) if tensor.dtype is bf16 else array
