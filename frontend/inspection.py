"""`braze.inspect`: every stage of the compiler for one function, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from braze import engine
from braze.tracing import trace


class Inspection:
    """The stages from the captured graph to machine code, in order.

    `str()` gives all of them; ``inspection["fuse"]`` one; iteration gives (name, text) pairs.
    """

    def __init__(self, stages: list[tuple[str, str]]) -> None:
        self._stages = stages

    def names(self) -> list[str]:
        """The stages' names, in order."""
        return [name for name, _ in self._stages]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._stages)

    def __getitem__(self, name: str) -> str:
        for stage, text in self._stages:
            if stage == name:
                return text
        raise KeyError(f"no stage {name!r}; the stages are {', '.join(self.names())}")

    def __str__(self) -> str:
        return "\n".join(
            f"== {name} {'=' * (96 - len(name))}\n{text}" for name, text in self._stages
        )

    __repr__ = __str__


def inspect(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Inspection:
    """What the compiler makes of `function(*args, **kwargs)`.

    The function runs once, recording gradients as usual, so a whole training step can be looked at:
    pass a function that returns the tensors of interest, such as the loss and the gradients.

    Returns:
        The captured graph, the graph after each pass, the loop IR, the LLVM IR and the assembly.

    Raises:
        RuntimeError: the function is not one graph because it reads a tensor's value.
    """
    name = getattr(function, "__name__", type(function).__name__)
    traced = trace(function, args, kwargs, name=name, grad=True)
    return Inspection(engine.stages(traced.graph))
