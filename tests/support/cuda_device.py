"""What tests of CUDA devices import first: it makes PyCUDA work, or skips the file.

On a machine with a GPU PyCUDA runs on it, and `EMULATED` is False. Elsewhere the emulated driver is
built, once, and loaded into this process; where it cannot be built the file is skipped, with the
reason. Comes before `import pycuda` and before anything that asks Braze for its CUDA devices.
"""

import importlib.util
import os

import pytest
from cuda_emulator import build

EMULATED = not build.real_gpu()

if EMULATED:
    if reason := build.why_not():
        pytest.skip(reason, allow_module_level=True)
    os.environ.setdefault("BRAZE_EMULATED_DEVICES", "3")
    build.activate()
elif importlib.util.find_spec("pycuda") is None:
    pytest.skip("there is a GPU, but no PyCUDA: install braze[cuda]", allow_module_level=True)

emulated_only = pytest.mark.skipif(not EMULATED, reason="tests the emulated driver itself")


def variables() -> dict[str, str]:
    """The environment of a program of its own that is to see the same devices."""
    return {**os.environ, **build.environment()} if EMULATED else dict(os.environ)
