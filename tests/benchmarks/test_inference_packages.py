"""The models of the benchmark run from packages as they run eagerly, in a process that never
imports the front end, the passes or the compiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import braze
from benchmarks.peers import PEERS, leaves
from benchmarks.programs import Library
from benchmarks.suite import workloads

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import json, sys
import numpy as np
from braze.runtime import load
folder = sys.argv[1]
results = load(f"{folder}/model.brz")(*np.load(f"{folder}/inputs.npz").values())
results = results if isinstance(results, tuple) else (results,)
np.savez(f"{folder}/results.npz", *results)
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("name", ["resnet50", "mobile", "lstm_step", "encoder"])
def test_a_package_gives_what_eager_code_gives(name, tmp_path):
    workload = workloads()[f"infer.{name}"]
    program = workload.make(Library(braze, random=False))
    with braze.no_grad():
        expected = [x.numpy() for x in leaves(program.function(*program.arguments))]
    adapter = PEERS["braze.aot"].open(braze.get_num_threads())
    np.savez(tmp_path / "inputs.npz", *adapter.write(workload, tmp_path / "model.brz"))
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    wrong = ("braze.tensors", "braze.capture", "braze.passes", "braze.codegen", "llvmlite")
    assert not [m for m in json.loads(done.stdout) if m.startswith(wrong)]
    with np.load(tmp_path / "results.npz") as found:
        assert len(found) == len(expected)
        for result, wanted in zip(found.values(), expected, strict=True):
            assert np.abs(result - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
