"""A model behind a queue: what a server does with a request's body, without HTTP.

In: a `LoadedModel` and `Settings`.  Out: a `Service`: bodies in, bodies out, within limits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from braze.ir.errors import BrazeError
from braze.ir.polynomials import Point
from braze.runtime.package import LoadedModel
from braze.runtime.serving import media
from braze.runtime.serving.batcher import Arrays, Batcher
from braze.runtime.serving.faults import RequestFault
from braze.runtime.serving.metrics import Metrics
from braze.runtime.serving.row_trials import why_rows_depend
from braze.runtime.serving.rows import Rows
from braze.runtime.serving.settings import Settings
from braze.runtime.serving.signature import Signature

log = logging.getLogger("braze.serving")

_Result = TypeVar("_Result")
# Shorter bodies are read and written on the event loop: a thread's hand-over costs as much.
_SHORT = 1 << 15
# Bodies that are read or written at once: JSON takes many times its size while it is read.
_CODERS = 2


class Service:
    """A model that answers requests.

    Attributes:
        rows: how requests are computed as one, or None.
        alone: why they are not, or None.
        ready: whether the model has been warmed up.
        unanswered: requests that were given up at a stop.
        stopping: set when the server stops, so that it counts as not ready. What still arrives on
            open connections is answered.

    Raises:
        ValueError: batching "always" is asked of a model that has no rows.
    """

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        self.settings = settings
        self.signature = Signature(model)
        self._model = model
        self.rows, self.alone = _rows(model, self.signature, settings)
        self.ready = False
        self.stopping = False
        self.unanswered = 0
        self._admitted = 0
        self._most_rows = min(settings.max_batch, max(self.signature.highest[:1], default=1))
        self._batcher = Batcher(
            model.results,
            self.rows,
            most_rows=self._most_rows,
            delay=settings.max_delay_ms / 1e3,
            workers=settings.workers,
            seen=self._seen,
        )
        facts = {"name": model.name, "braze": model.braze_version, "target": model.target.name}
        self.metrics = Metrics(facts, lambda: self._batcher.waiting, lambda: self._admitted)

    @property
    def under_way(self) -> int:
        """Requests that have been admitted and not answered."""
        return self._admitted

    async def start(self) -> None:
        """Warm up, and take requests, in the running event loop."""
        self._coders = ThreadPoolExecutor(_CODERS, "braze-coder")
        await asyncio.to_thread(self.warm_up)
        await self._batcher.start()
        self.ready = True

    async def stop(self) -> None:
        """Take no more requests."""
        self.stopping = True
        await self._batcher.stop()
        self._coders.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        """Run the model on zeros at the sizes of small and full batches, so that no request pays
        for a first run. What the model says of zeros does not matter."""
        begin = time.perf_counter()
        for sizes in self._warm_sizes():
            zeros = [np.zeros(a.at(sizes), a.numpy) for a in self.signature.inputs]
            try:
                self._model.results(zeros)
            except Exception as error:
                said = str(error).partition("\n")[0]
                log.warning("warm-up at size %s: %s", " x ".join(map(str, sizes)), said)
        log.info("warm-up took %.0f ms", 1e3 * (time.perf_counter() - begin))

    def _warm_sizes(self) -> list[Point]:
        """Batches of several sizes, with the least size of another dimension; and the least batch
        with its greatest."""
        lowest, highest = self.signature.lowest, self.signature.highest
        if not lowest:
            return [()]
        least, most = lowest[0], self._most_rows
        rows = {least, max(most, least)}
        rows |= {2**i for i in range(most.bit_length()) if least <= 2**i <= most}
        return [*dict.fromkeys([*((n, *lowest[1:]) for n in sorted(rows)), (least, *highest[1:])])]

    def facts(self) -> dict[str, Any]:
        """For `GET /model`."""
        return {
            "name": self._model.name,
            "braze": self._model.braze_version,
            "target": self._model.target.name,
            **self.signature.facts(),
            "batching": {
                "most_rows": None if self.rows is None else self._most_rows,
                "max_delay_ms": self.settings.max_delay_ms,
                "why_not": self.alone,
            },
        }

    def admit(self) -> None:
        """Count a request in.  Raises: RequestFault 503 where too many wait."""
        if self._admitted - self._batcher.running >= self.settings.max_queue:
            raise RequestFault(
                503, f"{self.settings.max_queue} requests wait already", {"Retry-After": "1"}
            )
        self._admitted += 1

    def leave(self) -> None:
        """Count a request out."""
        self._admitted -= 1

    async def answer(self, body: bytes, kind: str, answer_kind: str) -> bytes:
        """The answer to a request's body; the kinds are `media`'s.

        Raises: RequestFault; anything else is a fault of the server's.
        """
        settings = self.settings

        def read() -> tuple[Arrays, int]:
            arrays = media.decoded(body, kind, self.signature, settings.max_body_bytes)
            sizes = self.signature.checked(arrays, settings.finite_only)
            return arrays, sizes[0] if sizes else 1

        arrays, rows = await self._coded(read, len(body))
        try:
            results = await self._batcher.run(arrays, rows)
        except (BrazeError, IndexError) as error:
            # The model's checks of values. Lines of the program that it was made of stay here.
            raise RequestFault(422, str(error).partition("\n")[0]) from error
        size = sum(array.nbytes for array in results)
        return await self._coded(
            lambda: media.encoded(results, answer_kind, self.signature, self._model.arrange), size
        )

    async def _coded(self, function: Callable[[], _Result], size: int) -> _Result:
        if size <= _SHORT:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._coders, function)

    def _seen(self, requests: int, rows: int, seconds: float) -> None:
        self.metrics.batch_requests.observe(requests)
        self.metrics.batch_rows.observe(rows)
        self.metrics.model_seconds.observe(seconds)


def _rows(
    model: LoadedModel, signature: Signature, settings: Settings
) -> tuple[Rows | None, str | None]:
    """How requests are computed as one, or why not."""
    if settings.batching == "never" or settings.max_batch == 1:
        return None, "it is switched off"
    rows = Rows.of(signature)
    if isinstance(rows, str):
        if settings.batching == "always":
            raise ValueError(f"[serve] requests cannot be computed as one: {rows}")
        return None, rows
    if settings.batching == "auto":
        reason = why_rows_depend(model, signature, rows)
        if reason is not None:
            return None, reason
    return rows, None
