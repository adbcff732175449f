"""Serve an application until a signal comes, and then finish what has begun.

In: an application and a socket.  Out: whether every request was answered.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import ceil
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from braze.runtime.serving.settings import Settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 1024


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address, which nobody can connect to until `serve`; port 0 is any that is
    free.  Raises: OSError that names the place."""
    # asyncio sends without delay (TCP_NODELAY) only from sockets that name their protocol.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    at = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        at.bind((host, port))
    except (OSError, OverflowError) as error:
        at.close()
        raise OSError(f"[serve] cannot listen on {host} port {port}: {error}") from error
    return at


def serve(
    app: Starlette, at: socket.socket, settings: Settings, started: Callable[[], None]
) -> bool:
    """Serve until SIGTERM or SIGINT; `started` is called once requests are taken.

    At the first signal no more connections are taken, and the requests that are being read, wait
    or run are finished, for `grace_s` at most. A second SIGINT ends this at once.

    Returns:
        Whether all of them were answered.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=ceil(settings.grace_s),
    )
    server = _Server(config, app, started)
    server.run(sockets=[at])
    return server.finished


class _Server(uvicorn.Server):
    """uvicorn's, but that a signal is an ordinary end: the process's status is 0."""

    def __init__(self, config: uvicorn.Config, app: Starlette, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._started = started
        self.finished = True

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # `/ready` says so at once; the main loop looks for it ten times a second.
        self._app.state.service.stopping = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves all where it is; so what is left gets its answer, that there is none.
            left = list(self.server_state.tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.lifespan.shutdown()
        self.finished = not self._app.state.service.unanswered
