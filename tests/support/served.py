"""Models behind a server, in this process: packages, and requests without a network."""

import asyncio
import contextlib
import io
import threading
from dataclasses import dataclass, field

import httpx
import numpy as np

from braze.runtime.package import LoadedModel
from braze.runtime.serving.app import make_app
from braze.runtime.serving.settings import Settings

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
NPZ = {"Content-Type": "application/x-npz"}
OCTETS = {"Content-Type": "application/octet-stream"}


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(*arrays, compressed=False, **named):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, *arrays, **named)
    return file.getvalue()


def read_npy(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npy"
    return np.load(io.BytesIO(response.content))


def read_npz(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npz"
    return dict(np.load(io.BytesIO(response.content)))


def error(response, status):
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    return response.json()["error"]


def floats(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass
class Held:
    """A model whose calls are noted, and wait while the gate is shut."""

    model: LoadedModel
    gate: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self.model, name)

    def results(self, arrays):
        self.sizes.append(len(arrays[0]))
        assert self.gate.wait(30)
        return self.model.results(arrays)


@contextlib.asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client,
    ):
        yield client


def drive(model, scenario, **settings):
    """What `scenario(client, service)` returns, for a server of the model."""

    async def run():
        app = make_app(model, Settings(**settings))
        async with client_of(app) as client:
            return await scenario(client, app.state.service)

    return asyncio.run(run())


def ask(model, *requests, **settings):
    """The responses to requests, one after the other; each: a body and headers, or a path."""

    async def scenario(client, service):
        return [
            await (
                client.get(request)
                if isinstance(request, str)
                else client.post("/predict", content=request[0], headers=request[1])
            )
            for request in requests
        ]

    found = drive(model, scenario, **settings)
    return found[0] if len(found) == 1 else found


async def until(condition):
    """Wait for something that is to happen soon."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")
