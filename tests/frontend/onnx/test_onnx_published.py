"""Models that were trained and published by others, as their packages ship them: Braze's results
are ONNX Runtime's, as a module and as a package that runs without the compiler."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import braze
import braze.onnx

RNG = np.random.default_rng(0)


def sine():
    """A second and a half of 440 Hz, at 22,050 Hz, as basic-pitch's windows hold it."""
    return np.sin(2 * np.pi * 440 * np.arange(43844) / 22050).astype("f").reshape(1, -1, 1)


def text():
    """Bytes of this file as magika takes them: the first, and the last, 1024."""
    data = np.frombuffer(Path(__file__).read_bytes(), np.uint8).astype(np.int32)
    return np.concatenate([data[:1024], data[-1024:]]).reshape(1, -1)


def speech():
    return RNG.standard_normal((1, 576)).astype("f") * 0.1


STATE = np.zeros((2, 1, 128), "f")

# Package, its file, inputs, inputs that never change, what differs at most.
MODELS = {
    "magika": ("magika", "models/standard_v3_3/model.onnx", {"bytes": text()}, {}, 1e-5),
    "basic-pitch": (
        "basic_pitch",
        "saved_models/icassp_2022/nmp.onnx",
        {"serving_default_input_2:0": RNG.standard_normal((1, 43844, 1)).astype("f") * 0.1},
        {},
        1e-4,
    ),
    "silero-vad": (
        "silero_vad",
        "data/silero_vad.onnx",
        {"input": speech(), "state": STATE},
        {"sr": np.array(16000)},
        1e-5,
    ),
    "silero-vad, opset 15": (
        "silero_vad",
        "data/silero_vad_16k_op15.onnx",
        {"input": speech(), "state": STATE},
        {"sr": np.array(16000)},
        1e-5,
    ),
    "silero-vad, opset 18": (
        "silero_vad",
        "data/silero_vad_op18_ifless.onnx",
        {"input": speech(), "state": STATE},
        {"sr": np.array(16000)},
        1e-5,
    ),
    "silero-vad, sequences": (
        "silero_vad",
        "data/silero_vad_16k_sequence.onnx",
        {
            "input": RNG.standard_normal((5, 576)).astype("f") * 0.1,
            "h": np.zeros((1, 1, 128), "f"),
            "c": np.zeros((1, 1, 128), "f"),
        },
        {},
        1e-5,
    ),
}

for _name, _shape in {
    "ch_ppocr_mobile_v2.0_cls": (1, 3, 48, 192),
    "ch_PP-OCRv4_det": (1, 3, 96, 128),
    "ch_PP-OCRv4_rec": (1, 3, 48, 160),
}.items():
    MODELS[f"rapidocr, {_name}"] = (
        "rapidocr_onnxruntime",
        f"models/{_name}_infer.onnx",
        {"x": RNG.standard_normal(_shape).astype("f")},
        {},
        1e-5,
    )


def located(package, file):
    """The file in an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.origin).parent / file


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    package, file, inputs, fixed, most = MODELS[name]
    path = located(package, file)
    runtime.set_default_logger_severity(3)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    given = {k: v for k, v in {**inputs, **fixed}.items() if k in names}
    expected = session.run(None, given)

    model = braze.onnx.load(path, fixed=fixed)
    results = model(**inputs)
    results = results if isinstance(results, tuple) else (results,)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=1e-4, atol=most)

    arrays = [inputs[p.name] for p in model.inputs]
    braze.aot.compile(model, [braze.from_numpy(a) for a in arrays], tmp_path / "model.brz")
    np.savez(tmp_path / "inputs.npz", *arrays)
    code = f"""
import json, sys  # noqa: E402
import numpy as np  # noqa: E402
import braze.runtime  # noqa: E402
arrays = np.load({str(tmp_path / "inputs.npz")!r})
results = braze.runtime.load({str(tmp_path / "model.brz")!r})(*arrays.values())
results = results if isinstance(results, tuple) else (results,)
np.savez({str(tmp_path / "results.npz")!r}, *results)
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    wrong = ("braze.passes", "braze.codegen", "braze.onnx", "braze.tensors", "llvmlite", "onnx")
    assert not [m for m in json.loads(done.stdout) if m.startswith(wrong)]
    with np.load(tmp_path / "results.npz") as found:
        for result, own, wanted in zip(found.values(), results, expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=most)
            own = own.detach().numpy()
            assert np.abs(result - own).max() <= 1e-5 * max(1, np.abs(own).max())


def test_magika_knows_python():
    path = located("magika", "models/standard_v3_3/model.onnx")
    labels = json.loads((path.parent / "config.min.json").read_text())["target_labels_space"]
    scores = braze.onnx.load(path)(bytes=text())
    assert labels[int(scores.argmax())] == "python"


def test_basic_pitch_hears_an_a():
    path = located("basic_pitch", "saved_models/icassp_2022/nmp.onnx")
    model = braze.onnx.load(path)
    notes = max(
        (r for r in model(sine()) if r.shape[-1] == 88), key=lambda r: float(r.mean(1).max())
    )
    assert 21 + int(notes.mean(1).argmax()) == 69  # the lowest key of a piano is MIDI's 21
