"""The routes of a server, as an ASGI application.

    POST /predict   a request's results            GET /health   200 while the process works
    GET  /model     what the model takes and gives GET /ready    200 while it takes requests
    GET  /metrics   in Prometheus's text format

Every error is JSON, ``{"error": "..."}``; what nobody foresaw is logged under an id, which is all
that the caller gets of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from braze.runtime.package import LoadedModel
from braze.runtime.serving import media
from braze.runtime.serving.faults import RequestFault
from braze.runtime.serving.service import Service
from braze.runtime.serving.settings import Settings

log = logging.getLogger("braze.serving")

# What nginx notes of a request whose sender went away; nobody receives it.
_GONE = 499


def make_app(model: LoadedModel, settings: Settings | None = None) -> Starlette:
    """An application that serves a model; `app.state.service` is its `Service`.

    Raises:
        ValueError: batching "always" is asked of a model that has no rows.
    """
    service = Service(model, settings or Settings())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    async def predict(request: Request) -> Response:
        return await _counted(service, request)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> Response:
        if service.ready and not service.stopping:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "stopping" if service.stopping else "starting"}, 503)

    async def describe(request: Request) -> Response:
        return JSONResponse(service.facts())

    async def metrics(request: Request) -> Response:
        return Response(
            service.metrics.text(), headers={"Content-Type": service.metrics.content_type}
        )

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _fault(error.status_code, f"{error.detail}: {request.url.path}", error.headers)

    app = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/model", describe),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


async def _counted(service: Service, request: Request) -> Response:
    """The answer to a request for a prediction, whatever happens."""
    begin = time.perf_counter()
    admitted = False
    try:
        service.admit()
        admitted = True
        response = await _predicted(service, request)
    except RequestFault as fault:
        response = _fault(fault.status, str(fault), fault.headers)
    except asyncio.CancelledError:  # the server's patience at a stop is over
        service.unanswered += 1
        response = _fault(503, "the server stops", {"Retry-After": "1"})
    except ClientDisconnect:
        response = Response(status_code=_GONE)
    except Exception:
        number = uuid.uuid4().hex
        log.exception("error %s", number)
        response = _fault(500, f"internal error {number}")
    finally:
        if admitted:
            service.leave()
    service.metrics.requests.labels(str(response.status_code)).inc()
    service.metrics.seconds.observe(time.perf_counter() - begin)
    return response


async def _predicted(service: Service, request: Request) -> Response:
    settings = service.settings
    headers = request.headers
    kind = media.kind_of(headers.get("content-type", ""))
    answer_kind = media.answer_kind(headers.get("accept", ""), kind, service.signature)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestFault(415, "Content-Encoding must be identity")
    deadline = asyncio.get_running_loop().time() + settings.timeout_s
    try:
        async with asyncio.timeout_at(deadline):
            body = await _body(request, settings.max_body_bytes)
    except TimeoutError:
        raise RequestFault(
            408, f"the body did not arrive within {settings.timeout_s:g} s"
        ) from None
    try:
        async with asyncio.timeout_at(deadline):
            answer = await service.answer(body, kind, answer_kind)
    except TimeoutError:
        return _fault(504, f"there is no result after {settings.timeout_s:g} s")
    return Response(answer, media_type=answer_kind)


async def _body(request: Request, most: int) -> bytes:
    """The body, of which no more than `most` bytes are kept.  Raises: RequestFault 413."""
    length = request.headers.get("content-length", "")
    fault = RequestFault(413, f"the body must have at most {most} bytes")
    if length.isdecimal() and int(length[:20]) > most:
        raise fault
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise fault
        parts.append(part)
    return b"".join(parts)


def _fault(status: int, message: str, headers: Mapping[str, Any] | None = None) -> Response:
    return JSONResponse({"error": message}, status, dict(headers or {}))
