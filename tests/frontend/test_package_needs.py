"""What a program with a package imports: the standard library, NumPy, and Braze's runtime."""

import os
import subprocess
import sys

import numpy as np
import pytest

import braze
from braze import nn

PROGRAM = """
import sys

class NothingElse:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first not in sys.stdlib_module_names and first not in ("numpy", "braze"):
            raise ImportError(f"{name} is asked for")

sys.meta_path.insert(0, NothingElse())
import numpy as np
from braze.runtime import load

model = load(sys.argv[1])
x = np.load(sys.argv[2])
np.save(sys.argv[3], model(x))
parts = {name.split(".")[1] for name in sys.modules if name.startswith("braze.")}
print(*sorted(parts - {"ir", "runtime"}))
"""


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_package_needs_numpy_only(tmp_path, dynamic):
    braze.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = braze.randn(3, 2, 8, 8)
    package, given, made = (tmp_path / name for name in ("model.brz", "x.npy", "y.npy"))
    sizes = {"dynamic": [{0: "batch"}]} if dynamic else {}
    braze.aot.compile(model, (x,), package, **sizes)
    np.save(given, x.numpy())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, package, given, made],
        env={**os.environ, "BRAZE_CACHE_DIR": ""}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    np.testing.assert_allclose(np.load(made), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
