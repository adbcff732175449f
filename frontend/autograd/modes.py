"""Switch the recording of gradients on and off: context managers that also serve as decorators.

The mode belongs to the thread; a new thread records.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, TypeVar

from braze.capture import Tracer, tracer

Function = TypeVar("Function", bound=Callable[..., Any])


class _GradMode:
    """Sets the mode inside a `with` block or a decorated function and restores it after."""

    mode: bool
    _before: list[tuple[bool, bool]]

    def __enter__(self) -> None:
        state = tracer()
        self._before.append((state.grad_enabled, state.inference))
        self._set(state)

    def _set(self, state: Tracer) -> None:
        state.grad_enabled = self.mode and not state.inference

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state = tracer()
        state.grad_enabled, state.inference = self._before.pop()

    def _again(self) -> _GradMode:
        """The same mode, for one call of a decorated function."""
        return type(self)(self.mode)  # type: ignore[call-arg]

    def __call__(self, function: Function) -> Function:
        if inspect.isgeneratorfunction(function):
            return self._around_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _around_generator(self, function: Callable[..., Any]) -> Any:
        """The mode holds while the generator runs, and not for its caller in between."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator = function(*args, **kwargs)
            try:
                with self._again():
                    item = next(generator)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        with self._again():
                            generator.close()
                        raise
                    except BaseException as error:
                        with self._again():
                            item = generator.throw(error)
                    else:
                        with self._again():
                            item = generator.send(sent)
            except StopIteration as end:
                return end.value

        return wrapped


class _PlainDecorator(_GradMode):
    """Also without parentheses: ``@no_grad``."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        self._before = []
        return self if function is None else self(function)

    def _again(self) -> _GradMode:
        return type(self)()  # type: ignore[no-any-return]


class no_grad(_PlainDecorator):
    """Do not record gradients inside: ``with no_grad(): ...`` or ``@no_grad()``."""

    mode = False


class enable_grad(_PlainDecorator):
    """Record gradients inside, also within `no_grad` (but not within `inference_mode`)."""

    mode = True


class inference_mode(_GradMode):
    """As `no_grad`, for code that will never need gradients: `enable_grad` has no effect inside.
    `inference_mode(False)` records them again."""

    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        if isinstance(mode, bool):
            return self
        self.__init__()  # type: ignore[misc]
        return self(mode)

    def __init__(self, mode: bool = True) -> None:
        self.mode, self._before = mode, []

    def _set(self, state: Tracer) -> None:
        state.inference, state.grad_enabled = self.mode, not self.mode


class set_grad_enabled(_GradMode):
    """Record gradients, or do not. Takes effect at once; as a context manager it is undone at the
    end, as a decorator it holds inside the function only."""

    def __init__(self, mode: bool) -> None:
        self.mode, self._before = bool(mode), []
        state = tracer()
        self._outer = (state.grad_enabled, state.inference)
        self._set(state)

    def __enter__(self) -> None:
        self._before.append(self._outer)
        self._set(tracer())

    def __call__(self, function: Function) -> Function:
        tracer().grad_enabled = self._outer[0]
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded for a backward pass."""
    return tracer().grad_enabled


def is_inference_mode_enabled() -> bool:
    """Whether this is inside `inference_mode`."""
    return tracer().inference
