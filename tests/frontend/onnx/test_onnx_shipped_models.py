"""The small models that come with the package onnx, most of them written by PyTorch for opsets 6 to
9, with inputs and outputs."""

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

import numpy as np  # noqa: E402
from onnx import numpy_helper  # noqa: E402

import braze.onnx  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
MODELS = sorted(
    p.parent for kind in ("pytorch-*", "simple") for p in DATA.glob(f"{kind}/*/model.onnx")
)

REFUSED = {
    "test_gradient_of": "Gradient is an operator for training",
    "test_strnorm": "there are no strings",
}


def arrays(folder, kind, infos):
    found = []
    for number, info in enumerate(infos):
        file = folder / f"{kind}_{number}.pb"
        if not file.exists():
            break
        data = file.read_bytes()
        if info.type.HasField("sequence_type"):
            sequence = onnx.SequenceProto.FromString(data)
            found.append([numpy_helper.to_array(t) for t in sequence.tensor_values])
        else:
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return found


@pytest.mark.parametrize("folder", MODELS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_a_shipped_model(folder, interpret):
    path = folder / "model.onnx"
    if folder.name.startswith(tuple(REFUSED)):
        with pytest.raises((braze.onnx.UnsupportedOperatorError, TypeError)):
            braze.onnx.load(path)
        return
    model = braze.onnx.load(path)
    graph = onnx.load(path).graph
    sets = sorted(folder.glob("test_data_set_*"))
    assert sets
    for data in sets:
        inputs = arrays(data, "input", graph.input)
        results = model(*inputs[: len(model.inputs)])
        results = results if isinstance(results, tuple) else (results,)
        for result, expected in zip(results, arrays(data, "output", graph.output), strict=True):
            listed = result if isinstance(result, list) else [result]
            wanted = expected if isinstance(expected, list) else [expected]
            for r, e in zip(listed, wanted, strict=True):
                assert r.detach().numpy().dtype == e.dtype and tuple(r.shape) == e.shape
                np.testing.assert_allclose(r.detach().numpy(), e, rtol=1e-3, atol=1e-5)


def test_there_are_models():
    assert len(MODELS) > 130


@pytest.mark.parametrize("path", sorted(DATA.glob("light/*.onnx")), ids=lambda p: p.stem)
def test_a_large_network_loads(path):
    """Nets of the model zoo, whose weights are left out; every operator has a rule."""
    model = braze.onnx.load(path)
    assert model.inputs and model.outputs
