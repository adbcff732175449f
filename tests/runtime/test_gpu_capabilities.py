"""What code for a GPU is made for, by its compute capability."""

import subprocess

import pytest
from cuda_emulator import nvrtc

from braze import ir
from braze.codegen.cuda.generate import generate
from braze.ir.gpu_limits import LIMITS, limits_of
from braze.ir.target import Target, gpu_target
from braze.passes import compile_graph
from braze.runtime.cuda import devices, nvcc
from braze.runtime.cuda.devices import target_of
from braze.runtime.cuda.driver import CudaError

# Of CUDA 13.0 and 11.8, by `nvcc --list-gpu-code`.
CUDA_13 = frozenset({75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121})
CUDA_11 = frozenset({35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90})


@pytest.fixture
def toolkit(monkeypatch):
    def use(made):
        monkeypatch.setattr(devices, "architectures", lambda: made)

    return use


@pytest.mark.parametrize(
    "capability, limits",
    [
        ((7, 5), 75), ((8, 0), 80), ((8, 6), 86), ((8, 7), 86), ((8, 8), 86), ((8, 9), 89),
        ((9, 0), 90), ((10, 0), 100), ((10, 3), 100), ((11, 0), 100), ((12, 0), 120),
        ((12, 1), 120),
    ],
)  # fmt: skip
def test_a_gpu_has_code_of_its_own_architecture(toolkit, capability, limits):
    toolkit(CUDA_13)
    target = target_of(capability)
    number = 10 * capability[0] + capability[1]
    assert target.cpu == f"sm_{number}" and target.capability == number
    assert limits_of(number) is LIMITS[limits]
    assert Target.from_text(str(target)) == target


@pytest.mark.parametrize("capability", [(5, 2), (7, 0), (7, 2)])
def test_gpus_that_are_too_old(toolkit, capability):
    toolkit(CUDA_11)
    major, minor = capability
    with pytest.raises(CudaError, match=f"{major}.{minor} is older than the oldest .*, 7.5"):
        target_of(capability)


def test_an_older_compiler_makes_code_of_the_same_major_number(toolkit):
    toolkit(CUDA_11)
    assert target_of((8, 8)).cpu == "sm_87"
    for capability in ((10, 3), (11, 0), (13, 0)):
        said = f"{capability[0]}.{capability[1]} needs a newer nvcc: .* up to sm_90"
        with pytest.raises(CudaError, match=said):
            target_of(capability)


def test_gpus_of_the_future(toolkit):
    toolkit(CUDA_13)
    with pytest.raises(CudaError, match=r"13\.0 needs a newer nvcc: .* up to sm_121"):
        target_of((13, 0))
    toolkit(CUDA_13 | {130})
    assert target_of((13, 0)).cpu == "sm_130"
    assert limits_of(130) is LIMITS[120]
    toolkit(None)  # the compiler does not say, and will refuse what it does not know
    assert target_of((13, 0)).cpu == "sm_130"


def test_what_the_compiler_says(monkeypatch):
    def run(command, **_):
        assert command == ["nvcc", "--list-gpu-code"]
        return subprocess.CompletedProcess(command, 0, "sm_75\nsm_90\nsm_90a\nsm_103\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert nvcc.architectures.__wrapped__() == {75, 90, 103}


def test_a_missing_compiler_says_nothing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert nvcc.architectures.__wrapped__() is None


@pytest.mark.parametrize("number", [87, 103, 110, 121])
def test_code_is_compiled_for_them(number):
    b = ir.Builder("product")
    x = b.input(ir.tensor_type(ir.f16, (256, 256)))
    graph = b.finish([b.contract(x, x, equation="mk,kn->mn")])
    target = gpu_target(number)
    program, _ = compile_graph(graph, target)
    assert nvrtc.compile(generate(program, target).source, target.cpu)
