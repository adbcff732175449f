"""How a case of a module or of an optimizer is written.

    @case("torch.nn.Linear")
    def linear(c):
        module(c, lambda nn: nn.Linear(4, 3), c.f64(2, 4))

    @case("torch.optim.SGD")
    def sgd(c):
        trajectory(c, lambda optim, parameters: optim.SGD(parameters, lr=0.1))

Of a module are compared its output, its parameters' gradients, its state after the call, and how it
prints; of an optimizer the parameters after each of ten steps. Both libraries' modules are given
the same parameters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from compare_cases import Array, Recorder

STEPS = 10


def module(
    c: Recorder,
    build: Callable[[Any], Any],
    *inputs: Array,
    evaluate: bool = False,
    dtype: str | None = "float64",
    call: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """Compare a module.

    Args:
        build: makes the module, given `torch.nn` or `braze.nn`.
        inputs: what it is called with.
        evaluate: whether it is called after `eval()`.
        dtype: what its parameters are converted to; None leaves them as they are.
        call: called with the library, the module and the inputs, in place of the module.
        options: as of a call of `Recorder`.
    """

    def function(m: Any, *tensors: Any) -> Any:
        made = build(m.nn)
        if dtype is not None:
            made = made.to(getattr(m, dtype))
        fill(made, m)
        made.train(not evaluate)
        output = call(m, made, *tensors) if call else made(*tensors)
        total = sum((x.sin().sum() for x in _differentiable(output)), start=0.0)
        parameters = dict(made.named_parameters())
        gradients: Any = [None] * len(parameters)
        if isinstance(total, m.Tensor) and total.requires_grad and parameters:
            gradients = m.autograd.grad(
                total, list(parameters.values()), retain_graph=True, allow_unused=True
            )
        return {
            "output": output,
            "gradients": dict(zip(parameters, gradients, strict=True)),
            "state": {name: value.detach() for name, value in made.state_dict().items()},
            "repr": repr(made),
        }

    c(function, *inputs, **options)


def functional(name: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
    """The call of a function of `nn.functional`; the arguments come after the tensors."""
    return lambda m, *x: getattr(m.nn.functional, name)(*x, *arguments, **options)


def trajectory(
    c: Recorder,
    build: Callable[[Any, list[Any]], Any],
    *,
    step: Callable[[Any, Any, Callable[[], Any], int], Any] | None = None,
    **options: Any,
) -> None:
    """Compare ten steps of an optimizer on a small regression.

    Args:
        build: makes the optimizer, given `torch.optim` or `braze.optim` and two parameters.
        step: called with the library, the optimizer, the closure and the step's number, in place of
            `optimizer.step(closure)`.
        options: as of a call of `Recorder`.
    """

    def function(m: Any) -> Any:
        rng = np.random.default_rng(7)
        w, b = (m.nn.Parameter(m.tensor(rng.normal(size=size))) for size in ((5, 3), (5,)))
        optimizer = build(m.optim, [w, b])
        seen: list[Any] = []
        for number in range(STEPS):
            x, y = (m.tensor(rng.normal(size=size)) for size in ((7, 3), (7, 5)))

            def closure(x: Any = x, y: Any = y) -> Any:
                optimizer.zero_grad()
                loss = ((x @ w.t() + b - y) ** 2).mean()
                loss.backward()
                return loss

            if step is not None:
                step(m, optimizer, closure, number)
            else:
                optimizer.step(closure)
            seen += [w.detach().clone(), b.detach().clone()]
        return seen

    c(function, **{"gradients": 0} | options)


def fill(made: Any, m: Any) -> None:
    """Give each parameter numbers that depend on its name and shape alone."""
    with m.no_grad():
        for name, parameter in made.named_parameters():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            values = rng.uniform(-0.5, 0.5, tuple(parameter.shape))
            parameter.copy_(m.tensor(values).to(parameter.dtype))


def _differentiable(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _differentiable(item)
    elif hasattr(tree, "requires_grad") and tree.requires_grad:
        yield tree
