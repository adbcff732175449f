"""Run a model that Braze wrote in ONNX Runtime, and compare."""

import numpy as np
import onnx
import pytest

import braze
import braze.onnx
from braze.structure import tensors_in


def run(model, inputs):
    """What ONNX Runtime makes of a model (or a file) and tensors, in order."""
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(3)
    content = model if isinstance(model, str) else model.SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    arrays = [x.detach().numpy() for x in inputs]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def check_equal(function, proto, calls, rtol=1e-5, atol=1e-5, read_back=True):
    """For each tuple of arguments ONNX Runtime's results, and those of the model read back, are the
    function's."""
    onnx.checker.check_model(proto, full_check=True)
    back = braze.onnx.load(proto) if read_back else None
    for args in calls:
        tensors = list(tensors_in(args))
        with braze.no_grad():
            expected = [x.numpy() for x in tensors_in(function(*args))]
        results = [run(proto, tensors)]
        if back is not None:
            results.append([x.detach().numpy() for x in tensors_in(back(*tensors))])
        for found in results:
            for result, wanted in zip(found, expected, strict=True):
                assert result.dtype == wanted.dtype and result.shape == wanted.shape
                if wanted.dtype.kind == "f":
                    np.testing.assert_allclose(result, wanted, rtol, atol)
                else:
                    np.testing.assert_array_equal(result, wanted)
