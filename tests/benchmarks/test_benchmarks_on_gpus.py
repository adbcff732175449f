"""The benchmark on a GPU: what it measures there, its bars, and that its command works."""

# isort: off
import cuda_device
# isort: on

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bars import GPU_RULES, judge
from benchmarks.limits_gpu import measure
from benchmarks.peers import PEERS
from benchmarks.run import main
from benchmarks.suite import CPU, chosen, workloads

ROOT = Path(__file__).resolve().parents[2]
GPU = "cuda:0"


def row(bars, limit=None, **values):
    peers = {name.replace("_", "."): {"value": value} for name, value in values.items()}
    return {"bars": bars, "unit": "ms", "limit": limit, "peers": peers}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("gemm", row(["gemm"], braze=1.1, torch=1.0), row(["gemm"], braze=1.2, torch=1.0)),
        ("memory", row(["memory"], 0.9, braze=1.0), row(["memory"], 0.8, braze=1.0)),
        (
            "training_gpu",
            row(["training_gpu"], braze=1.0, torch_compile=1.0),
            row(["training_gpu"], braze=1.1, torch_compile=1.0),
        ),
    ],
)
def test_figures_pass_and_miss(rule, good, bad):
    assert rule in GPU_RULES
    for figures, state in ((good, "pass"), (bad, "miss"), (row([rule], braze=1.0), "unknown")):
        (bar,) = judge({"device": GPU, "workloads": {"w": figures}})
        assert bar.state == state


def test_rules_of_the_cpu_are_not_asked_there():
    figures = row(["training", "memory_peak"], braze=9.0, torch=1.0)
    assert not judge({"device": GPU, "workloads": {"w": figures}})
    assert judge({"device": CPU, "workloads": {"w": figures}})


def test_what_runs_where():
    on_gpus = {name for name, workload in workloads().items() if workload.runs_on(GPU)}
    on_cpu = {name for name, workload in workloads().items() if workload.runs_on(CPU)}
    assert on_gpus - on_cpu == {"train.resnet50"}
    assert {"gemm.1024", "conv3x3_64.weights", "optimizer.adam", "infer.resnet50"} <= on_gpus
    assert not any(name.startswith(("overhead.", "start.", "compile.")) for name in on_gpus)
    (step,) = chosen(["train.resnet50"])
    assert step.bars == ("training_gpu",)
    left = {name for name, peer in PEERS.items() if not peer.missing(GPU).startswith("it is")}
    assert left == {"braze", "braze.compile", "torch", "torch.compile"}


def test_a_device_must_be_one(capsys):
    with pytest.raises(SystemExit):
        main(["--device", "gpu", "--list"])
    assert "--device must be cpu, cuda or cuda:N, given 'gpu'" in capsys.readouterr().err
    main(["--device", "cuda", "--list", "training"])
    assert "train.resnet50" in capsys.readouterr().out


def test_the_bandwidth_is_measured():
    name, limits = measure(GPU, 0.0, 1)
    assert name and set(limits) == {"copy"} and limits["copy"] > 0


def test_the_command(tmp_path):
    """A product, an optimizer and a training step: on the GPU, timed there and back."""
    file = tmp_path / "figures.json"
    names = ["gemv.f64", "train.mlp_one"]
    command = [sys.executable, "benchmarks/run.py", *names, "--device", GPU, "--quick"]
    command += ["--peers", "braze", "jax", "--rounds", "1", "--seconds", "0.01"]
    done = subprocess.run(
        [*command, "--json", str(file)],
        cwd=ROOT, env=cuda_device.variables(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "jax is left out: it is measured on the CPU only" in done.stderr
    found = json.loads(file.read_text())
    assert found["device"] == GPU and set(found["limits"]) == {"copy"}
    assert found["machine"]["gpu"] in done.stdout
    for name in names:
        assert found["workloads"][name]["peers"]["braze"]["value"] > 0


def test_a_library_without_the_gpu_is_left_out():
    """PyTorch for the CPU, say: it is no failure."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("it has the GPU")
    from benchmarks.peers import Unsupported

    with pytest.raises(Unsupported, match="torch finds no GPU"):
        PEERS["torch"].open(1, GPU)
