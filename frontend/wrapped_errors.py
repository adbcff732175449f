"""Exceptions on their way from another process or thread to the one that waits for it."""

from __future__ import annotations

import pickle
import sys
import traceback
from typing import Any, NoReturn


class _Text(str):
    """A text that prints as itself also where an exception shows `repr` of it, as KeyError does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """The exception that is being handled, without its frames.

    Attributes:
        exc_type: its type, and type_name what that is called where it was raised.
        exc_msg: its traceback as text. where: where it was caught.
    """

    def __init__(self, exc_info: Any = None, where: str = "in background") -> None:
        kind, error, trace = sys.exc_info() if exc_info is None else exc_info
        assert kind is not None
        self.exc_type: type[BaseException] = kind
        self.type_name = kind.__name__
        self.exc_msg = "".join(traceback.format_exception(kind, error, trace))
        self.where = where

    def for_another_process(self) -> ExceptionWrapper:
        """The same with a type that another process knows too."""
        try:
            pickle.loads(pickle.dumps(self.exc_type))
        except Exception:
            self.exc_type = RuntimeError
        return self

    def reraise(self) -> NoReturn:
        """Raise it here, with the place and the original traceback as its message."""
        text: str = f"Caught {self.type_name} {self.where}.\nOriginal {self.exc_msg}"
        if self.exc_type is KeyError:
            text = _Text(text)
        try:
            if getattr(self.exc_type, "message", None):
                error = self.exc_type(message=text)  # type: ignore[call-arg]
            else:
                error = self.exc_type(text)
        except Exception:  # its constructor takes something else
            error = RuntimeError(text)
        raise error
