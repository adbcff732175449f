"""Operations under way, and the names of reductions."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

from braze.capture import flush
from braze.futures import Future


class ReduceOp(Enum):
    """How values of several ranks become one. `AVG` is the sum divided by the number of ranks;
    `BAND`, `BOR` and `BXOR` are for integers and truth values. `PREMUL_SUM`, called with a factor,
    is the sum of what each rank has times its own factor: `ReduceOp.PREMUL_SUM(0.5)`."""

    SUM = "sum"
    AVG = "avg"
    PRODUCT = "product"
    MIN = "min"
    MAX = "max"
    BAND = "band"
    BOR = "bor"
    BXOR = "bxor"
    PREMUL_SUM = "premul_sum"

    def __call__(self, factor: Any) -> PremultipliedSum:
        """`PREMUL_SUM` with its factor, a number or a tensor with one element.

        Raises:
            TypeError: it is another operation.
            ValueError: a tensor with another number of elements.
        """
        if self is not ReduceOp.PREMUL_SUM:
            raise TypeError(f"ReduceOp.{self.name} takes no factor; ReduceOp.PREMUL_SUM does")
        return PremultipliedSum(factor)


class PremultipliedSum:
    """`ReduceOp.PREMUL_SUM` with a factor.

    Attributes:
        op: `ReduceOp.PREMUL_SUM`, which it is equal to.
        factor: as it was given.
    """

    op = ReduceOp.PREMUL_SUM

    def __init__(self, factor: Any) -> None:
        if getattr(factor, "numel", lambda: 1)() != 1:
            raise ValueError(
                "ReduceOp.PREMUL_SUM: expected a number or a tensor with one element, given a "
                f"tensor of shape {tuple(factor.shape)}"
            )
        self.factor = factor

    def __eq__(self, other: object) -> bool:
        return other is self or other is self.op

    def __hash__(self) -> int:
        return hash(self.op)

    def __repr__(self) -> str:
        return f"ReduceOp.PREMUL_SUM({self.factor!r})"


def _make_nccl_premul_sum(factor: Any) -> PremultipliedSum:
    """As `ReduceOp.PREMUL_SUM(factor)`, for every backend."""
    return ReduceOp.PREMUL_SUM(factor)


def supports_complex(reduceOp: ReduceOp | PremultipliedSum) -> bool:
    """Whether every backend reduces complex numbers so; MPI multiplies them, too."""
    return reduceOp in (ReduceOp.SUM, ReduceOp.AVG, ReduceOp.PREMUL_SUM)


class Work:
    """An operation under way: what `async_op=True` gives.

    Until `wait` returns, the tensors it was given must be left alone.
    """

    def __init__(self, running: Any, group: Any, result: list[Any]) -> None:
        self._running = running
        self._group = group
        self._result = result

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Until it is done; then True.

        Raises:
            DistBackendError: a rank that it needs is gone, or did not come in time.
        """
        self._running.wait(None if timeout is None else timeout.total_seconds())
        return True

    def synchronize(self) -> None:
        """As `wait`, which for GPUs lets only the current stream wait."""
        self.wait()

    def is_completed(self) -> bool:
        """Whether it is done, or has failed."""
        if not self._running.done:
            self._running.progress.look()
        return bool(self._running.done)

    def is_success(self) -> bool:
        """Whether it is done and did not fail."""
        return self.is_completed() and self._running.error is None

    def exception(self) -> BaseException | None:
        """Why it failed, if it did."""
        error: BaseException | None = self._running.error
        return error

    def result(self) -> list[Any]:
        """The tensors that it wrote to."""
        return list(self._result)

    def get_future(self) -> Future:
        """Its end as a future, whose value are the tensors that it wrote to. What follows by
        `Future.then` is done when somebody waits."""
        return Future(lambda: (self.wait(), self.result())[1])

    def source_rank(self) -> int:
        """Of a message that was received: the rank that sent it."""
        return int(self._group.ranks[self._running.source])


class CapturedWork(Work):
    """An operation that was captured: what reads its result waits for it, so there is nothing to
    wait for here."""

    def __init__(self, result: list[Any]) -> None:
        self._result = result

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True: the result can be used."""
        return True

    def is_completed(self) -> bool:
        """Run what has been captured; then it is done."""
        flush()
        return True

    def is_success(self) -> bool:
        """As `is_completed`, which raises what goes wrong."""
        return self.is_completed()

    def exception(self) -> BaseException | None:
        """None: errors are raised where the result is needed."""
        return None

    def source_rank(self) -> int:
        """Raises: RuntimeError, as this is no message."""
        raise RuntimeError("source_rank: only messages that were received have one")
