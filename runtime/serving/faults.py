"""What a request is answered with when it cannot be served."""

from __future__ import annotations

from collections.abc import Mapping


class RequestFault(Exception):
    """A request cannot be served.

    Attributes:
        status: of the answer, 4xx or 503.
        headers: more of the answer's headers.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
