"""Values that are there later, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Future:
    """A value that is computed when somebody asks for it, or set by somebody.

    Args:
        compute: gives the value, once; None: `set_result` does.
    """

    def __init__(self, compute: Callable[[], Any] | None = None) -> None:
        self._compute = compute
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether there is a value, or an error."""
        return self._done

    def set_result(self, result: Any) -> None:
        """Let this be the value.  Raises: RuntimeError if there is one."""
        if self._done:
            raise RuntimeError("Future can only be marked completed once")
        self._value, self._done, self._compute = result, True, None

    def set_exception(self, result: BaseException) -> None:
        """Let this be raised in place of a value.  Raises: as `set_result`."""
        self.set_result(None)
        self._error = result

    def wait(self) -> Any:
        """The value.

        Raises: what went wrong in computing it. RuntimeError if nobody has set it, or will.
        """
        if not self._done:
            if self._compute is None:
                raise RuntimeError("Future: nobody has set a result, and nothing computes one")
            compute = self._compute
            try:
                self.set_result(compute())
            except BaseException as error:
                self._error, self._done, self._compute = error, True, None
        if self._error is not None:
            raise self._error
        return self._value

    value = wait

    def then(self, callback: Callable[[Future], Any]) -> Future:
        """What a function makes of this future."""

        def compute() -> Any:
            if not self._done:
                self.wait()
            return callback(self)

        return Future(compute)
