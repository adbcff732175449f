"""Requests that are computed as one: when, with what results, and when not."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

from served import NPY, NPZ, Held, drive, error, floats, npy, npz, read_npy, read_npz, until

import braze
from braze.runtime.serving.app import make_app
from braze.runtime.serving.row_trials import why_rows_depend
from braze.runtime.serving.rows import Rows
from braze.runtime.serving.settings import Settings
from braze.runtime.serving.signature import Signature


def together(model, bodies, kind=NPY, **settings):
    """The responses to requests that wait while another one runs, and the sizes of all calls."""
    held = Held(model)

    async def scenario(client, service):
        def post(body):
            return asyncio.create_task(client.post("/predict", content=body, headers=kind))

        held.sizes.clear()
        held.gate.clear()
        first = post(bodies[0])
        await until(lambda: held.sizes)
        rest = []
        for body in bodies[1:]:  # in this order
            count = service._batcher.waiting
            rest.append(post(body))
            await until(lambda expected=count + 1: service._batcher.waiting == expected)
        held.gate.set()
        return [await task for task in (first, *rest)]

    return drive(held, scenario, **settings), held.sizes


def test_waiting_requests_become_one_call_with_equal_results(mlp):
    given = [floats(i, 1 + i % 3, 6) for i in range(12)]
    responses, sizes = together(mlp, [npy(x) for x in given])
    assert sizes == [1, 23]
    for x, response in zip(given, responses, strict=True):
        found = read_npy(response)
        assert found.shape == (len(x), 3)
        np.testing.assert_allclose(found, mlp(x), rtol=1e-5, atol=1e-6)


def test_structures_are_cut_apart(pair):
    given = [(floats(i, i + 1, 3), floats(100 + i, i + 1, 3)) for i in range(4)]
    responses, sizes = together(pair, [npz(x, y) for x, y in given], NPZ)
    assert sizes == [1, 9]
    for (x, y), response in zip(given, responses, strict=True):
        found = read_npz(response)
        assert np.array_equal(found["sum"], x + y) and np.array_equal(found["parts.0"], x * 2)


def test_a_batch_has_no_more_rows_than_allowed_and_large_requests_run_alone(mlp):
    rows = [1, 3, 20, 2, 3, 4]
    responses, sizes = together(mlp, [npy(floats(n, n, 6)) for n in rows], max_batch=8)
    # 3 + 2 + 3, as 20 is too many for any batch; 4 fits into no earlier one.
    assert sizes == [1, 8, 20, 4]
    assert [len(read_npy(response)) for response in responses] == rows


def test_what_has_no_rows_must_be_equal(scaled):
    x, w, v = floats(0, 1, 3), floats(1, 3), floats(2, 3)
    bodies = [npz(x=x, w=scale) for scale in (w, w, v, w, v)]
    responses, sizes = together(scaled, bodies, NPZ)
    assert sizes == [1, 2, 2]
    for scale, response in zip((w, w, v, w, v), responses, strict=True):
        assert np.array_equal(read_npz(response)["output"], x * scale)


def test_one_requests_fault_is_not_anothers(table, caplog):
    given = [np.full((1, 4), i) for i in (1, 2, 99, 3)]
    responses, sizes = together(table, [npy(x) for x in given])
    assert sizes == [1, 3, 1, 1, 1]
    assert "a call for 3 requests failed, each is alone now: [embedding] index 99" in caplog.text
    text = error(responses.pop(2), 422)
    assert text == "[embedding] index 99 is out of range [0, 10)"
    del given[2]
    for x, response in zip(given, responses, strict=True):
        assert np.array_equal(read_npy(response), table(x))


def test_a_free_worker_waits_for_others_as_long_as_it_is_told(mlp):
    held = Held(mlp)

    async def scenario(client, service):
        held.sizes.clear()
        posts = []
        for i in range(4):
            posts.append(
                asyncio.create_task(
                    client.post("/predict", content=npy(floats(i, 1, 6)), headers=NPY)
                )
            )
            await asyncio.sleep(0.02)
        return [read_npy(await task) for task in posts]

    # The fourth fills the batch, so nobody waits for a minute.
    assert len(drive(held, scenario, max_delay_ms=60_000, max_batch=4)) == 4
    assert held.sizes == [4]
    drive(held, scenario, max_delay_ms=300, max_batch=64)
    assert held.sizes == [4]


def test_fixed_sizes_are_computed_one_by_one(fixed):
    given = [floats(i, 4, 2) for i in range(5)]
    responses, sizes = together(fixed, [npy(x) for x in given])
    assert sizes == [4] * 5
    for x, response in zip(given, responses, strict=True):
        assert np.array_equal(read_npy(response), x * 2)

    async def one(client, service):
        return await client.post("/predict", content=npy(floats(0, 1, 2)), headers=NPY)

    assert "must be f32[4,2], given shape [1, 2]" in error(drive(fixed, one), 422)


def test_several_workers_run_at_once(fixed):
    held = Held(fixed)

    async def scenario(client, service):
        held.sizes.clear()
        held.gate.clear()
        posts = [
            asyncio.create_task(client.post("/predict", content=npy(floats(i, 4, 2)), headers=NPY))
            for i in range(5)
        ]
        await until(lambda: service._batcher.waiting == 2)
        running = len(held.sizes)
        held.gate.set()
        await asyncio.gather(*posts)
        return running

    assert drive(held, scenario, workers=3) == 3


# Which models may be batched ---------------------------------------------------------------------


def reason(model):
    signature = Signature(model)
    rows = Rows.of(signature)
    return rows if isinstance(rows, str) else why_rows_depend(model, signature, rows)


def test_rows_that_are_computed_alone(mlp, pair, table, scaled):
    for model in (mlp, pair, table, scaled):
        assert reason(model) is None


ROWS_MATTER = {
    "centred": (lambda x: x - x.mean(0), "of a row changes with other rows"),
    "softmax": (lambda x: braze.softmax(x, 0), "of a row changes with other rows"),
    "shifted": (lambda x: braze.roll(x, 1, 0), "of a row changes with other rows"),
    "summed": (lambda x: x.sum(0), "has 0 dimensions n"),
    "turned": (lambda x: x.flip(0), "of a row changes with other rows"),
    "counted": (lambda x: x + braze.ones_like(x).sum(0), "changes with the number of rows"),
    "constant": (lambda x: x * 0 + 1, "nothing is shown"),
}


@pytest.mark.parametrize("name", ROWS_MATTER)
def test_rows_that_are_not(package, name):
    function, text = ROWS_MATTER[name]
    dim = braze.aot.Dim("n", max=16)
    path = package(f"rows_{name}", function, braze.randn(7, 3), [{0: dim}])
    model = braze.runtime.load(path)
    assert text in reason(model)
    app = make_app(model)
    assert text in app.state.service.facts()["batching"]["why_not"]


def test_rows_that_change_with_their_place(mlp):
    class Numbered(Held):
        def results(self, arrays):
            (found,) = self.model.results(arrays)
            return [found + np.arange(len(found), dtype=np.float32)[:, None]]

    assert reason(Numbered(mlp)) == "output output of a row changes with its place"


def test_a_model_that_refuses_random_rows(package):
    weight = braze.ones(1, 3)

    def function(ids):
        return braze.nn.functional.embedding(ids, weight)

    ids = braze.zeros(8, dtype=braze.int64)
    model = braze.runtime.load(package("rows_refused", function, [ids], [{0: "n"}]))
    text = "does not take random rows: [embedding] index 1 is out of range [0, 1)"
    assert text in reason(model)


def test_models_without_rows_and_settings(fixed, mlp):
    assert reason(fixed) == "the model has no dynamic dimension"
    with pytest.raises(ValueError, match="cannot be computed as one: the model has no dynamic dim"):
        make_app(fixed, Settings(batching="always"))
    for settings in (Settings(batching="never"), Settings(max_batch=1)):
        assert make_app(mlp, settings).state.service.alone == "it is switched off"


def test_the_users_word_replaces_trials(package):
    path = package(
        "rows_centred", ROWS_MATTER["centred"][0], braze.randn(7, 3),
        [{0: braze.aot.Dim("n", max=16)}],
    )  # fmt: skip
    model = braze.runtime.load(path)
    given = [floats(i, 2, 3) for i in range(3)]
    for settings, expected in (({}, [2, 2, 2]), ({"batching": "always"}, [2, 4])):
        assert together(model, [npy(x) for x in given], **settings)[1] == expected
