"""Limits on size, number and time; health, metrics, and errors that nobody foresaw."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")
pytest.importorskip("prometheus_client")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import parser
from served import (
    JSON,
    NPY,
    NPZ,
    OCTETS,
    Held,
    ask,
    client_of,
    drive,
    error,
    floats,
    npy,
    npz,
    read_npy,
    until,
)

from braze.runtime.serving.app import make_app
from braze.runtime.serving.settings import Settings

X = floats(0, 2, 6)


async def parts(*sizes, pause=0.0):
    for size in sizes:
        yield bytes(size)
        await asyncio.sleep(pause)


def test_long_bodies_are_refused_by_their_header_and_by_what_comes(mlp):
    async def scenario(client, service):
        first = await client.post("/predict", content=bytes(101), headers=NPY)
        # Without a length in the header: chunk by chunk.
        second = await client.post("/predict", content=parts(60, 60), headers=NPY)
        third = await client.post("/predict", content=parts(50, 50), headers=NPY)
        return first, second, third

    first, second, third = drive(mlp, scenario, max_body_bytes=100)
    assert error(first, 413) == error(second, 413) == "the body must have at most 100 bytes"
    assert "is not an NPY array" in error(third, 400)


def test_a_slow_body_is_not_waited_for(mlp):
    async def scenario(client, service):
        return await client.post("/predict", content=parts(1, 1, 1, pause=0.3), headers=NPY)

    assert "did not arrive within 0.2 s" in error(drive(mlp, scenario, timeout_s=0.2), 408)


def test_a_slow_model_is_not_waited_for_and_who_gave_up_is_not_computed(mlp):
    held = Held(mlp)

    async def scenario(client, service):
        held.sizes.clear()
        held.gate.clear()
        posts = [client.post("/predict", content=npy(X), headers=NPY) for _ in range(3)]
        slow = await asyncio.gather(*posts)
        held.gate.set()
        after = await client.post("/predict", content=npy(X[:1]), headers=NPY)
        return slow, after, service.under_way, service._batcher.waiting

    slow, after, under_way, waiting = drive(held, scenario, timeout_s=0.3, batching="never")
    for response in slow:
        assert error(response, 504) == "there is no result after 0.3 s"
    assert np.array_equal(read_npy(after), mlp(X[:1]))
    assert held.sizes == [2, 1] and under_way == waiting == 0


def test_a_full_queue_is_said_at_once(mlp):
    held = Held(mlp)

    async def scenario(client, service):
        def post():
            return asyncio.create_task(client.post("/predict", content=npy(X), headers=NPY))

        held.gate.clear()
        running = post()
        await until(lambda: service._batcher.running)
        waiting = [post() for _ in range(4)]
        await until(lambda: service._batcher.waiting == 4)
        refused = await post()
        held.gate.set()
        return refused, await asyncio.gather(running, *waiting), await post()

    refused, served, after = drive(held, scenario, max_queue=4)
    assert error(refused, 503) == "4 requests wait already"
    assert refused.headers["retry-after"] == "1"
    for response in (*served, after):
        read_npy(response)


def test_what_nobody_foresaw_is_logged_under_an_id(mlp, caplog):
    class Broken(Held):
        def results(self, arrays):
            if self.sizes == ["broken"]:
                raise RuntimeError("a secret of the server's")
            return self.model.results(arrays)

    model = Broken(mlp)

    async def scenario(client, service):
        model.sizes.append("broken")
        first = await client.post("/predict", content=npy(X), headers=NPY)
        model.sizes.clear()
        return first, await client.post("/predict", content=npy(X), headers=NPY)

    first, second = drive(model, scenario)
    text = error(first, 500)
    number = text.removeprefix("internal error ")
    assert len(number) == 32 and number in caplog.text
    assert "secret" not in first.text and "a secret of the server's" in caplog.text
    read_npy(second)


def test_other_paths_and_methods(mlp):
    async def scenario(client, service):
        return await client.get("/other"), await client.get("/predict")

    other, method = drive(mlp, scenario)
    assert error(other, 404) == "Not Found: /other"
    assert error(method, 405) == "Method Not Allowed: /predict" and method.headers["allow"]


def test_the_model_is_described(mlp, fixed, pair):
    found = ask(mlp, "/model").json()
    assert found["name"] == "function" and found["target"] == mlp.target.name
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 6]}]
    assert found["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 3]}]
    assert found["dynamic"] == [{"name": "batch", "lowest": 1, "highest": 64}]
    assert found["batching"] == {"most_rows": 64, "max_delay_ms": 0.0, "why_not": None}
    assert ask(fixed, "/model").json()["dynamic"] == []
    outputs = ask(pair, "/model").json()["outputs"]
    assert [output["name"] for output in outputs] == ["sum", "parts.0"]


def test_health_and_readiness(mlp):
    app = make_app(mlp)

    async def run():
        async with client_of(app) as client:
            states = [(await client.get(path)).status_code for path in ("/health", "/ready")]
            app.state.service.stopping = True
            states += [(await client.get(path)).status_code for path in ("/health", "/ready")]
            app.state.service.stopping = app.state.service.ready = False
            return [*states, (await client.get("/ready")).json()]

    assert asyncio.run(run()) == [200, 200, 200, 503, {"status": "starting"}]


def test_the_model_is_warm_before_the_first_request(mlp):
    held = Held(mlp)

    async def scenario(client, service):
        return list(held.sizes)

    assert drive(held, scenario, max_batch=20, batching="always") == [1, 2, 4, 8, 16, 20]


def test_metrics(mlp):
    def read(text):
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    held = Held(mlp)

    async def scenario(client, service):
        def post(content):
            return asyncio.create_task(client.post("/predict", content=content, headers=NPY))

        await post(b"")
        held.gate.clear()
        first = post(npy(X))
        await until(lambda: service._batcher.running)
        rest = [post(npy(X)) for _ in range(3)]
        await until(lambda: service._batcher.waiting == 3)
        busy = await client.get("/metrics")
        held.gate.set()
        await asyncio.gather(first, *rest)
        idle = await client.get("/metrics")
        assert idle.headers["content-type"].startswith("text/plain; version=")
        return read(busy.text), read(idle.text)

    busy, idle = drive(held, scenario)
    assert busy["braze_queue_length",] == 3 and busy["braze_requests_in_flight",] == 4
    assert idle["braze_queue_length",] == 0 and idle["braze_requests_in_flight",] == 0
    assert idle["braze_requests_total", "200"] == 4 and idle["braze_requests_total", "400"] == 1
    assert idle["braze_request_seconds_count",] == 5
    assert idle["braze_model_seconds_count",] == 2
    assert idle["braze_batch_requests_sum",] == 4 and idle["braze_batch_rows_sum",] == 8
    assert idle["braze_batch_rows_bucket", "4.0"] == 1
    assert idle["braze_batch_rows_bucket", "8.0"] == 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"max_batch": 0}, "--max-batch must be at least 1, given 0"),
        ({"max_queue": -1}, "--max-queue must be at least 1, given -1"),
        ({"timeout_s": 0.0}, "--timeout-s must be more than 0, given 0.0"),
        ({"grace_s": float("nan")}, "--grace-s must be 0 or more, given nan"),
        ({"max_delay_ms": -0.5}, "--max-delay-ms must be 0 or more, given -0.5"),
        ({"batching": "on"}, "--batching must be one of auto, always, never, given 'on'"),
    ],
)
def test_settings_are_checked(wrong, text):
    with pytest.raises(ValueError) as caught:
        Settings(**wrong)
    assert str(caught.value) == f"[serve] {text}"


# Any body is answered -----------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5))
VALUES = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=6), max_leaves=30)
REQUESTS = st.one_of(
    st.dictionaries(st.sampled_from(["inputs", "x"]), VALUES, max_size=2),
    st.fixed_dictionaries({"inputs": st.dictionaries(st.sampled_from("xy"), VALUES, max_size=2)}),
    st.fixed_dictionaries({"inputs": st.lists(VALUES, max_size=3)}),
)
WHOLE = [npy(X), npz(x=X), npz(x=X, compressed=True), json.dumps({"inputs": [X.tolist()]}).encode()]


@st.composite
def damaged(draw):
    """A right body with some bytes changed, left out or put in."""
    body = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        if not body:
            break
    return bytes(body)


BODIES = st.one_of(
    REQUESTS.map(lambda request: json.dumps(request).encode()), damaged(), st.binary(max_size=60)
)

ACCEPTED = st.one_of(st.just("*/*"), st.text("ajxnpyz/*;q=.1,", max_size=20))


def test_no_body_is_the_servers_fault(mlp):
    app = make_app(mlp)
    seen = set()
    loop = asyncio.new_event_loop()
    context = client_of(app)
    client = loop.run_until_complete(context.__aenter__())

    @given(BODIES, st.sampled_from([JSON, NPY, NPZ, OCTETS]), ACCEPTED)
    @settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
    def ask_once(body, kind, accept):
        headers = {**kind, "Accept": accept}
        response = loop.run_until_complete(client.post("/predict", content=body, headers=headers))
        seen.add(response.status_code)
        assert response.status_code in (200, 400, 406, 413, 422), response.text
        if response.status_code != 200:
            assert response.json()["error"]

    try:
        ask_once()
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()
    assert {200, 400, 422} <= seen
    assert app.state.service.under_way == 0
