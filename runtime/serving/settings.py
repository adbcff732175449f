"""The settings of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

BATCHING = ("auto", "always", "never")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is served.

    Attributes:
        batching: "auto" computes waiting requests as one where trials show that no row's result
            depends on another row, "always" without trials, "never" each alone.
        max_batch: rows that are computed as one at most. A request of more is computed alone.
        max_delay_ms: how long a request waits for others while a worker is free.
        workers: threads that run the model.
        max_queue: requests that may be read, or wait, at once.
        max_body_bytes: of a request; also of what a compressed one unpacks to.
        timeout_s: from a request's first byte to its answer.
        grace_s: how long a stop waits for the requests that are there, in whole seconds.
        max_connections: that may be open at once.
        finite_only: whether NaN and infinities are refused.

    Raises:
        ValueError: one is out of range; the message names it as the command line does.
    """

    batching: str = "auto"
    max_batch: int = 64
    max_delay_ms: float = 0.0
    workers: int = 1
    max_queue: int = 256
    max_body_bytes: int = 16 << 20
    timeout_s: float = 30.0
    grace_s: float = 30.0
    max_connections: int = 1024
    finite_only: bool = False

    def __post_init__(self) -> None:
        if self.batching not in BATCHING:
            raise ValueError(
                f"[serve] --batching must be one of {', '.join(BATCHING)}, given {self.batching!r}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (str, bool)):
                continue
            name = "--" + field.name.replace("_", "-")
            if field.name in ("max_delay_ms", "grace_s"):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"[serve] {name} must be 0 or more, given {value}")
            elif field.name == "timeout_s":
                if not 0 < value < float("inf"):
                    raise ValueError(f"[serve] {name} must be more than 0, given {value}")
            elif value < 1:
                raise ValueError(f"[serve] {name} must be at least 1, given {value}")
