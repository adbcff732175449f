"""What a server counts, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
_POWERS = tuple(2**i for i in range(11))


class Metrics:
    """The counters of one server.

    Args:
        facts: of the model, as texts.
        waiting, under_way: how many requests wait for a worker, and how many are being served.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self, facts: dict[str, str], waiting: Callable[[], int], under_way: Callable[[], int]
    ) -> None:
        own = self._registry = CollectorRegistry()
        Info("braze_model", "The model that is served", registry=own).info(facts)
        self.requests = Counter(
            "braze_requests", "Requests for predictions, by status", ["status"], registry=own
        )
        self.seconds = Histogram(
            "braze_request_seconds",
            "From a request's beginning to its answer",
            buckets=_SECONDS,
            registry=own,
        )
        self.model_seconds = Histogram(
            "braze_model_seconds", "Times of calls of the model", buckets=_SECONDS, registry=own
        )
        self.batch_rows = Histogram(
            "braze_batch_rows", "Rows in calls of the model", buckets=_POWERS, registry=own
        )
        self.batch_requests = Histogram(
            "braze_batch_requests", "Requests in calls of the model", buckets=_POWERS, registry=own
        )
        for name, about, read in (
            ("braze_queue_length", "Requests that wait for a worker", waiting),
            ("braze_requests_in_flight", "Requests that are being served", under_way),
        ):
            Gauge(name, about, registry=own).set_function(read)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
