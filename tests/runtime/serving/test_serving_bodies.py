"""Requests and answers in JSON, NPY and NPZ, and what is refused of them."""

import json

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

from served import JSON, NPY, NPZ, OCTETS, ask, error, floats, npy, npz, read_npy, read_npz

import braze

X = floats(0, 2, 6)
PAIR = floats(1, 2, 3), floats(2, 2, 3)


def body(inputs):
    return json.dumps({"inputs": inputs}).encode(), JSON


def test_json_by_name_and_in_order(mlp):
    expected = mlp(X).tolist()
    for inputs in ({"x": X.tolist()}, [X.tolist()]):
        response = ask(mlp, body(inputs))
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {"outputs": expected}


def test_npy_is_answered_with_npy(mlp):
    for headers in (NPY, OCTETS):
        found = read_npy(ask(mlp, (npy(X), headers)))
        assert found.dtype == np.float32 and np.array_equal(found, mlp(X))


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda x: x.astype(">f4"), lambda x: x[::-1]]
)
def test_any_layout_of_npy_is_read(mlp, change):
    x = change(X)
    assert np.array_equal(read_npy(ask(mlp, (npy(x), NPY))), mlp(np.ascontiguousarray(x, "<f4")))


def test_structures_of_results(pair):
    x, y = PAIR
    answer = ask(pair, body({"y": y.tolist(), "x": x.tolist()})).json()
    assert answer == {"outputs": {"sum": (x + y).tolist(), "parts": [(x * 2).tolist(), None]}}


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_by_name_and_in_order(pair, compressed):
    x, y = PAIR
    bodies = npz(x, y, compressed=compressed), npz(y=y, x=x, compressed=compressed)
    for content in bodies:
        for headers in (NPZ, OCTETS):
            found = read_npz(ask(pair, (content, headers)))
            assert found.keys() == {"sum", "parts.0"}
            assert np.array_equal(found["sum"], x + y) and np.array_equal(found["parts.0"], x * 2)


def test_the_answer_has_the_kind_that_is_accepted(mlp, pair):
    def kind(model, content, headers, accept):
        return ask(model, (content, {**headers, "Accept": accept})).headers["content-type"]

    x = npy(X)
    assert kind(mlp, x, NPY, "application/json") == "application/json"
    assert kind(mlp, x, NPY, "*/*") == "application/x-npy"
    assert kind(mlp, x, NPY, "text/html, application/json;q=0.4, application/x-npz;q=0.5") == (
        "application/x-npz"
    )
    assert kind(mlp, *body([X.tolist()]), "application/octet-stream") == "application/x-npy"
    assert kind(mlp, npz(X), NPZ, "*/*") == "application/x-npz"
    assert kind(pair, npz(*PAIR), NPZ, "*/*") == "application/x-npz"
    assert kind(pair, npz(*PAIR), NPZ, "application/octet-stream") == "application/x-npz"
    text = error(ask(pair, (npz(*PAIR), {**NPZ, "Accept": "application/x-npy"})), 406)
    assert "can be application/json, application/x-npz" in text


def test_numbers_of_every_kind(unary):
    cases = {
        "bool_": ([[True, False]], lambda x: ~x),
        "uint8": ([[0, 255]], lambda x: x + 0),
        "int64": ([[-(2**63), 2**63 - 1]], lambda x: x + 0),
        "float16": ([[0.5, -65504.0]], lambda x: x * 1),
        "bfloat16": ([[0.5, -3.0]], lambda x: x * 2),
        "float64": ([[0.1, 1e300]], lambda x: x * 1),
        "complex64": ([[[0.5, -2.0], [1.0, 3.0]]], lambda x: x * 1),
    }
    for name, (values, function) in cases.items():
        example = braze.ones(1, 2, dtype=getattr(braze, name.rstrip("_")))
        model = unary(f"kind_{name}", function, example, dynamic=False)
        answer = ask(model, body([values])).json()["outputs"]
        expected = {"bool_": [[False, True]], "bfloat16": [[1.0, -6.0]]}.get(name, values)
        assert answer == expected, name
        if name == "bfloat16":
            array = np.array(values, np.float32).astype("bfloat16")
            response = ask(model, (npy(array.view("V2")), NPY))
            assert read_npy(response).view("bfloat16").tolist() == expected


def test_nan_and_infinities(unary):
    model = unary("same", lambda x: x * 1, braze.randn(8, 3))
    row = [["NaN", "Infinity", "-Infinity"]]
    assert ask(model, body([row])).json() == {"outputs": row}
    x = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(read_npy(ask(model, (npy(x), NPY))), x)
    for request in (body([[[0, "NaN", 1]]]), (npy(np.array([[0, np.nan, 1]], np.float32)), NPY)):
        text = error(ask(model, request, finite_only=True), 422)
        assert text == "[function] input x must be finite, given nan at [0, 1]"


REFUSED = [
    (b"", 400, "the body is not JSON"),
    (b"\xff\xfe", 400, "not UTF-8"),
    (b"[1", 400, "the body is not JSON: Expecting ',' delimiter"),
    (b"3", 400, 'the body must be {"inputs": ...}, given int'),
    (b"{}", 400, 'must be {"inputs": ...}, given []'),
    (b'{"inputs": [], "other": 1}', 400, "given ['inputs', 'other']"),
    (b'{"inputs": 3}', 400, "a list of one item for each, given int"),
    (b'{"inputs": {"x": 1, "x": 2}}', 400, "a name is there twice"),
    (b'{"inputs": [[[NaN]]]}', 400, 'NaN is no number, write "NaN"'),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b'{"inputs": [' + b"9" * 5000 + b"]}", 400, "the body is not JSON"),
    (b'{"inputs": []}', 422, "[function] expected 1 inputs (x: f32[batch,6]), given 0"),
    (b'{"inputs": {"z": 1}}', 422, "[function] there is no input 'z', expected x"),
    (b'{"inputs": {}}', 422, "[function] input x is missing, expected f32[batch,6]"),
    (b'{"inputs": [' + b"[" * 100 + b"]" * 100 + b"]}", 422, "or too many levels"),
    (b'{"inputs": [' + b"[" * 40 + b"1" + b"]" * 40 + b"]}", 422, "given shape [1, 1, 1"),
    (b'{"inputs": [[[1], [2, 3]]]}', 422, "given lists of different lengths"),
    (b'{"inputs": [[["1"]]]}', 422, '"Infinity" and "-Infinity", given a text'),
    (b'{"inputs": [[[true]]]}', 422, "given true or false"),
    (b'{"inputs": [[[null]]]}', 422, "given null"),
    (b'{"inputs": [{"a": 1}]}', 422, "given an object"),
    (b'{"inputs": [[[1e39]]]}', 422, "given 1e+39, out of its range"),
    (b'{"inputs": [[[1' + b"0" * 400 + b"]]]}", 422, "given a number out of its range"),
    (b'{"inputs": [1]}', 422, "[function] input x must be f32[batch,6], given shape []"),
    (b'{"inputs": [[]]}', 422, "given shape [0]"),
    (b'{"inputs": [[[1, 2]]]}', 422, "must be f32[batch,6], given shape [1, 2]"),
    (b'{"inputs": [[' + b",".join([b"[1,2,3,4,5,6]"] * 65) + b"]]}", 422, "1 to 64, given 65"),
    (b'{"inputs": [' + b"1," * 500 + b"1]}", 413, "than the inputs together may have, 384"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "text"), REFUSED)
def test_bad_json_is_refused_with_its_reason(mlp, content, status, text):
    assert text in error(ask(mlp, (content, JSON)), status)


def test_integers_are_not_rounded_or_wrapped(table):
    for value, text in (
        ("1.0", "takes integers, given a number that is no integer"),
        (str(2**63), f"given {2**63}, out of its range"),
        (str(-(10**60)), "given -100000000000000000000000000000000000..., out of its range"),
    ):
        content = f'{{"inputs": [[[1, 2, 3, {value}]]]}}'.encode()
        assert text in error(ask(table, (content, JSON)), 422)


def header(text, version=b"\x01\x00"):
    raw = text.encode()
    length = len(raw).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + raw


def described(shape, descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE = [
    (b"", 400, "is not an NPY array"),
    (b"\x93NUMPY", 400, "is not an NPY array"),
    (npy(X)[:60], 400, "is not an NPY array"),
    (npy(X)[:-1], 400, "48 bytes behind its header, as dtype float32 and shape [2, 6] say"),
    (npy(X) + b"0", 400, "given 49"),
    (header(described((2**40, 6))), 400, "bytes behind its header"),
    (header(described((-2, -6))) + bytes(48), 400, "has no valid shape"),
    (header(described((True, 6))) + bytes(24), 400, "has no valid shape"),
    (header(described((0,) + (2**62,) * 3)), 400, "has no valid shape"),
    (header(described((1,) * 40)) + bytes(4), 400, "has no valid shape"),
    (header(described((2, 6), "'|O'")) + bytes(96), 400, "an array of numbers, given dtype object"),
    (header(described((2, 6), "[('a', '<f4')]")) + bytes(48), 400, "must be an array of numbers"),
    (header(described((2, 6), "'<M8[s]'")) + bytes(96), 400, "must be an array of numbers"),
    (header(described((2, 6), "'zzz'")) + bytes(48), 400, "is not an NPY array"),
    (header("__import__('os').abort()"), 400, "is not an NPY array"),
    (header("(" * 900), 400, "is not an NPY array"),
    (header(" " * 2000 + described((2, 6))) + bytes(48), 400, "is not an NPY array"),
    (header(described((2, 6)), b"\x03\x00") + bytes(48), 400, "version 3.0, expected 1.0 or 2.0"),
    (npy(X.astype(np.float64)), 422, "input x must be f32[batch,6], given float64[2, 6]"),
    (npy(X[0]), 422, "given shape [6]"),
    (npy(X[:0]), 422, "dimension 0 of input x (batch) must be 1 to 64, given 0"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "text"), HOSTILE)
def test_hostile_npy_is_refused_with_its_reason(mlp, content, status, text):
    assert text in error(ask(mlp, (content, NPY)), status)


def test_version_2_of_npy_is_read(mlp):
    content = header(described((2, 6)), b"\x02\x00") + X.tobytes()
    assert np.array_equal(read_npy(ask(mlp, (content, NPY))), mlp(X))


def test_pickles_are_never_loaded(mlp, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    trap = np.array([Trap()], dtype=object)
    for content, headers in (
        (npy(trap, allow_pickle=True), NPY),
        (npz(x=trap), NPZ),
        (npz(trap), OCTETS),
    ):
        error(ask(mlp, (content, headers)), 400)
    assert not list(tmp_path.iterdir())


def test_hostile_npz_is_refused_with_its_reason(pair):
    x, y = PAIR
    whole = npz(x=x, y=y)
    bomb = npz(x=np.zeros((1 << 22,), np.float32), y=y, compressed=True)
    assert len(bomb) < 100_000
    for content, status, text in (
        (b"", 400, "is not an NPZ archive"),
        (b"PK\x03\x04" + bytes(50), 400, "is not an NPZ archive"),
        (whole[:-10], 400, "is not an NPZ archive"),
        (whole.replace(b"NUMPY", b"numpy"), 400, "is not an NPZ archive: Bad CRC-32"),
        (bomb, 413, "unpacks to too many bytes"),
        (npz(**{f"a{i}": y for i in range(40)}), 422, "more entries than inputs"),
        (npz(x=x), 422, "[function] input y is missing, expected f32[batch,3]"),
        (npz(x=x, y=y, z=y), 422, "there is no input 'z'"),
        (npz(x, y, y), 422, "expected 2 inputs"),
        (npz(x=x, y=y[:1]), 422, "must be equal to dimension 0 of input x: 1 != 2"),
        (npz(x=x, y=y.astype(np.int32)), 422, "input y must be f32[batch,3], given int32[2, 3]"),
    ):
        response = ask(pair, (content, NPZ), max_body_bytes=1 << 20)
        assert text in error(response, status)


def test_other_kinds_of_bodies_are_refused(mlp):
    for headers, text in (
        ({}, "given none"),
        ({"Content-Type": "text/html; charset=utf-8"}, "given text/html"),
        ({**JSON, "Content-Encoding": "gzip"}, "Content-Encoding must be identity"),
    ):
        assert text in error(ask(mlp, (b"{}", headers)), 415)
    assert "neither an NPY array nor" in error(ask(mlp, (b"{}", OCTETS)), 400)
