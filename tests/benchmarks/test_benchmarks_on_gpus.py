"""The benchmark on a GPU: what it measures there, its bars, and that its command works."""

# isort: off
import cuda_device
# isort: on

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from benchmarks import kernels_narrow, models, training
from benchmarks.bars import GPU_RULES, judge
from benchmarks.limits_gpu import measure
from benchmarks.peers import PEERS
from benchmarks.peers.torchlike import stepper
from benchmarks.programs import Library, integers, normal
from benchmarks.run import main
from benchmarks.suite import CPU, Workload, chosen, workloads

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
    narrow = {w.name for w in kernels_narrow.WORKLOADS}
    assert on_gpus - on_cpu == {"train.resnet50", "train.resnet50_autocast"} | narrow
    assert {"gemm.bf16_4096", "gemm.tf32_4096", "conv3x3_128.f16_weights"} <= narrow
    assert {"gemm.1024", "conv3x3_64.weights", "optimizer.adam", "infer.resnet50"} <= on_gpus
    assert not any(name.startswith(("overhead.", "start.", "compile.")) for name in on_gpus)
    for name in ("train.resnet50", "train.resnet50_autocast"):
        (step,) = chosen([name])
        assert step.bars == ("training_gpu",)
    left = {name for name, peer in PEERS.items() if not peer.missing(GPU).startswith("it is")}
    assert left == {"braze", "braze.compile", "torch", "torch.compile"}


def test_a_device_must_be_one(capsys):
    with pytest.raises(SystemExit):
        main(["--device", "gpu", "--list"])
    assert "--device must be cpu, cuda or cuda:N, given 'gpu'" in capsys.readouterr().err
    main(["--device", "cuda", "--list", "training"])
    assert "train.resnet50" in capsys.readouterr().out


def result_of(workload, steps=1):
    """What a workload gives on the GPU after some steps."""
    library = Library(braze, place=lambda thing: thing.to(GPU), random=False)
    step = stepper(library, workload.make(library))
    for _ in range(steps):
        result = step()
    return result


# Of the largest result; sums of 40 and more products of numbers with 8 to 11 bits.
ROUNDED = {"f16": 2e-3, "bf16": 2e-2, "tf32": 2e-3}


@pytest.mark.parametrize("kind", kernels_narrow.DTYPES)
def test_narrow_products(kind):
    workload = kernels_narrow.product(kind, 24, 40, 16)
    assert workload.cost.flops == 2 * 24 * 40 * 16 and workload.runs_on(GPU)
    x, y = workload.inputs()
    found = result_of(workload)
    assert found.device.type == "cuda" and str(found.dtype).endswith(kernels_narrow.DTYPES[kind])
    np.testing.assert_allclose(found.float().cpu(), x @ y, atol=ROUNDED[kind] * abs(x @ y).max())
    assert braze.get_float32_matmul_precision() == "highest"


def test_products_in_tf32_are_rounded():
    """Which f32's are not: the numbers are such that TF32 cannot hold them."""
    workload = kernels_narrow.product("tf32", 32, 32, 32)
    x, y = map(braze.from_numpy, workload.inputs())
    exact = (x.double() @ y.double()).numpy()
    off = abs(result_of(workload).cpu().numpy() - exact).max()
    assert off > 20 * abs((x.to(GPU) @ y.to(GPU)).cpu().numpy() - exact).max()


@pytest.mark.parametrize("which", ["forward", "data", "weights"])
@pytest.mark.parametrize("kind", kernels_narrow.DTYPES)
def test_narrow_convolutions(kind, which):
    workload = kernels_narrow.convolution(kind, which, 2, 8, 6)
    assert workload.cost.flops == 2 * 2 * 8 * 6 * 6 * 8 * 9
    x, w, *g = map(braze.from_numpy, workload.inputs())
    options = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    if which == "forward":
        wanted = F.conv2d(x, w, **options)
    else:
        wanted = Library(braze).conv_gradient(which, x, w, *g, options)
    found = result_of(workload).float().cpu()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=ROUNDED[kind] * float(wanted.abs().max()))


def test_a_step_within_autocast():
    def inputs():
        return [normal(4, 20), integers(5, 4)]

    def network(library):
        return models.mlp(library.T, 20, 32, 5)

    losses = {}
    for dtype in ("", "bfloat16"):
        make = training._classifier(network, inputs, "cross_entropy", training._momentum, dtype)
        step = Workload("train.small", "training", "", make, on_gpus=True)
        losses[dtype] = [float(result_of(step, count)) for count in (1, 4)]
    assert losses["bfloat16"] != losses[""]
    np.testing.assert_allclose(losses["bfloat16"], losses[""], rtol=2e-2)
    assert losses["bfloat16"][1] < losses["bfloat16"][0]


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
