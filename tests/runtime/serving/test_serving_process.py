"""The real server: its own process, sockets and signals."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
from served import NPY, NPZ, floats, npy, npz, read_npy, read_npz

from braze.runtime import load

_TWICE = [signal.SIGINT, signal.SIGINT]
COMMAND = [sys.executable, "-m", "braze", "serve"]


@contextlib.contextmanager
def running(path, *options):
    """A server's process and its address."""
    process = subprocess.Popen(
        [*COMMAND, str(path), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("braze: serving function on http://127.0.0.1:"), (
            line or process.stderr.read()
        )
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def ended(process, number=signal.SIGTERM):
    process.send_signal(number)
    return process.wait(60), process.stderr.read()


def await_status(address, status):
    deadline = time.monotonic() + 30
    while httpx.get(address).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status_of(*arguments):
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_bodies_concurrency_and_batches(mlp_path, mlp):
    given = [floats(i, 1 + i % 4, 6) for i in range(96)]
    with running(mlp_path, "--max-delay-ms", "20") as (process, address):
        with httpx.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(16) as pool:
            assert client.get("/ready").json() == {"status": "ready"}

            def ask(i):
                x = given[i]
                match i % 3:
                    case 0:
                        response = client.post("/predict", json={"inputs": {"x": x.tolist()}})
                        return np.array(response.json()["outputs"], np.float32)
                    case 1:
                        return read_npy(client.post("/predict", content=npy(x), headers=NPY))
                response = client.post("/predict", content=npz(x=x), headers=NPZ)
                return read_npz(response)["output"]

            found = list(pool.map(ask, range(len(given))))
            metrics = client.get("/metrics").text
        assert ended(process)[0] == 0
    for x, result in zip(given, found, strict=True):
        np.testing.assert_allclose(result, mlp(x), rtol=1e-5, atol=1e-6)
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    assert float(values["braze_batch_requests_sum"]) == len(given)
    assert float(values["braze_batch_requests_count"]) < len(given) / 2
    assert float(values['braze_requests_total{status="200"}']) == len(given)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_no_request_that_has_begun(mlp_path, mlp, number):
    x = floats(0, 2, 6)
    # Half a second between arrival and call: all of them are in the queue when the signal comes.
    with running(mlp_path, "--max-delay-ms", "500", "--max-batch", "64") as (process, address):
        limits = httpx.Limits(max_connections=32)
        with httpx.Client(base_url=address, timeout=60, limits=limits) as client:
            with ThreadPoolExecutor(24) as pool:
                posts = [
                    pool.submit(client.post, "/predict", content=npy(x), headers=NPY)
                    for _ in range(24)
                ]
                deadline = time.monotonic() + 30
                while "braze_requests_in_flight 24.0" not in client.get("/metrics").text:
                    assert time.monotonic() < deadline
                status, text = ended(process, number)
                for post in posts:
                    np.testing.assert_allclose(read_npy(post.result()), mlp(x), rtol=1e-5)
        assert status == 0, text
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")


@pytest.mark.parametrize(("grace", "signals"), [("1", [signal.SIGTERM]), ("60", _TWICE)])
def test_a_stop_waits_no_longer_than_it_is_told(mlp_path, grace, signals):
    with running(mlp_path, "--grace-s", grace) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
                b"Content-Length: 100\r\n\r\n12345"
            )
            while "braze_requests_in_flight 1.0" not in httpx.get(f"{address}/metrics").text:
                time.sleep(0.01)
            begin = time.monotonic()
            for number in signals[:-1]:
                process.send_signal(number)
                time.sleep(0.5)
                assert process.poll() is None
            status, text = ended(process, signals[-1])
            answer = half.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"the server stops" in answer
    assert status == 1 and "some requests were not answered in time" in text
    assert time.monotonic() - begin < 20
    assert "Traceback" not in text


def test_answers_are_sent_at_once(mlp_path):
    """Head and body are two packets; a system that holds the second one back does so for 40 ms."""
    body = npy(floats(0, 1, 6))
    request = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    with running(mlp_path) as (_, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            times = []
            for _ in range(40):
                begin, answer = time.perf_counter(), b""
                connection.sendall(request)
                while not answer.partition(b"\r\n\r\n")[2]:
                    answer += connection.recv(4096)
                times.append(time.perf_counter() - begin)
                assert answer.startswith(b"HTTP/1.1 200 ")
    assert sorted(times)[20] < 0.03


def test_connections_are_limited(mlp_path):
    with running(mlp_path, "--max-connections", "4") as (_, address):
        host, port = address.removeprefix("http://").split(":")
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(socket.create_connection((host, int(port))))
            await_status(f"{address}/health", 503)
        await_status(f"{address}/health", 200)


def test_what_is_wrong_is_said_without_a_traceback(mlp_path, tmp_path):
    (tmp_path / "bad.brz").write_bytes(b"no package")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            ([tmp_path / "bad.brz", "--port", 0], 1, "is not a Braze package"),
            ([tmp_path / "none.brz", "--port", 0], 1, "No such file"),
            ([mlp_path, "--port", port], 1, f"cannot listen on 127.0.0.1 port {port}"),
            ([mlp_path, "--port", 99999], 1, "cannot listen on 127.0.0.1 port 99999"),
            ([mlp_path, "--max-batch", 0], 1, "--max-batch must be at least 1, given 0"),
            ([mlp_path, "--max-batch", "x"], 2, "invalid int value: 'x'"),
            ([], 2, "the following arguments are required: MODEL.brz"),
        ]
        for arguments, status, text in cases:
            found, said = status_of(*arguments)
            assert found == status and text in said and "Traceback" not in said, said


def test_help_names_every_option():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for option in (
        "--host --port --threads --batching --max-batch --max-delay-ms --workers --max-queue "
        "--max-body-bytes --timeout-s --grace-s --max-connections --finite-only"
    ).split():
        assert option in done.stdout


def test_a_server_needs_neither_the_front_end_nor_a_compiler(mlp_path):
    program = f"""
import asyncio, json, sys
from braze.serve_command import main
from braze.runtime.package import load
import braze.runtime.serving.server
from braze.runtime.serving.app import make_app
async def run(app):
    async with app.router.lifespan_context(app):
        kind = "application/json"
        body = json.dumps({{"inputs": [[[1, 2, 3, 4, 5, 6]]]}}).encode()
        print((await app.state.service.answer(body, kind, kind)).decode())
asyncio.run(run(make_app(load({str(mlp_path)!r}))))
print(*sorted(m for m in sys.modules if m.split(".")[0] in ("braze", "llvmlite", "networkx")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, loaded = done.stdout.splitlines()
    x = np.array([[1, 2, 3, 4, 5, 6]], np.float32)
    np.testing.assert_allclose(json.loads(answer)["outputs"], load(mlp_path)(x), rtol=1e-6)
    allowed = ("braze.runtime", "braze.ir")
    wrong = [
        name
        for name in loaded.split()
        if name not in ("braze", "braze.serve_command") and not name.startswith(allowed)
    ]
    assert not wrong


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_named(mlp_path, missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from braze.cli import main; "
        f"sys.exit(main(['serve', {str(mlp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"serving needs {missing}" in done.stderr and "braze[serve]" in done.stderr
    assert "Traceback" not in done.stderr
