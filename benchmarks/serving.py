"""Requests to `braze serve` by 1, 8 and 64 clients at once, each computed alone and several as one:
``python -m benchmarks.serving mlp|conv [SECONDS]``.

A client sends one row as NPY over a connection of its own, and the next when it has the answer.
Server and clients share the machine. Both servers run all the time and take turns, in rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import braze
from braze import nn

CLIENTS = (1, 8, 64)
ROUNDS = 3
MODES = {"alone": ["--batching", "never"], "batched": ["--batching", "auto"]}


def _mlp() -> tuple[Any, tuple[int, ...]]:
    layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
    return nn.Sequential(*layers), (784,)


def _conv() -> tuple[Any, tuple[int, ...]]:
    blocks = []
    for inputs, outputs in ((3, 32), (32, 64)):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 8 * 8, 10)), (3, 32, 32)


MODELS = {"mlp": _mlp, "conv": _conv}


class _Client(asyncio.Protocol):
    """One connection; notes how long each answer took."""

    def __init__(self, request: bytes, times: list[float]) -> None:
        self._request = request
        self._times = times
        self._got = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._begin = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the server answers {self._got[:300]!r}")
        self._times.append(time.perf_counter() - self._begin)
        self._got = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)


async def load(address: str, request: bytes, clients: int, seconds: float) -> list[float]:
    """Seconds from a request to its answer, of all that were answered."""
    host, port = address.removeprefix("http://").split(":")
    times: list[float] = []
    loop = asyncio.get_running_loop()
    open_ = [
        await loop.create_connection(lambda: _Client(request, times), host, int(port))
        for _ in range(clients)
    ]
    await asyncio.sleep(seconds / 5)
    times.clear()
    await asyncio.sleep(seconds)
    found = list(times)
    for transport, _ in open_:
        transport.abort()
    await asyncio.gather(*(client.closed for _, client in open_))
    return found


@contextlib.contextmanager
def _server(path: Path, options: list[str]) -> Iterator[str]:
    command = [sys.executable, "-m", "braze", "serve", str(path), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def main() -> None:
    """Print a table."""
    name = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    braze.manual_seed(0)
    model, shape = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "model.brz"
        dim = braze.aot.Dim("batch", max=64)
        braze.aot.compile(model.eval(), braze.randn(8, *shape), path, dynamic=[{0: dim}])
        file = io.BytesIO()
        np.save(file, np.random.default_rng(0).standard_normal((1, *shape), np.float32))
        body = file.getvalue()
        request = (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        packed = braze.runtime.load(path)
        one = np.load(io.BytesIO(body))
        for size in (1, 8, 64):
            rows = np.repeat(one, size, 0)
            least = min(_timed(packed, rows) for _ in range(50))
            print(f"{name}: one call of {size} rows {least * 1e6:.0f} us")
        servers = {mode: stack.enter_context(_server(path, MODES[mode])) for mode in MODES}
        for clients in CLIENTS:
            best: dict[str, tuple[float, float, float]] = {}
            for _ in range(ROUNDS):
                for mode, address in servers.items():
                    times = sorted(asyncio.run(load(address, request, clients, seconds)))
                    median, late = times[len(times) // 2], times[len(times) * 99 // 100]
                    found = (len(times) / seconds, median, late)
                    best[mode] = max(best.get(mode, found), found)
            for mode, (rate, median, late) in best.items():
                print(
                    f"{name}: {clients:2d} clients, {mode:7s} {rate:6.0f} requests/s, median "
                    f"{median * 1e3:6.2f} ms, 99 % within {late * 1e3:6.2f} ms"
                )


def _timed(packed: Any, rows: np.ndarray) -> float:
    begin = time.perf_counter()
    packed(rows)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
