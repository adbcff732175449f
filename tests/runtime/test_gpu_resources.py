"""What kernels take of a GPU's multiprocessor."""

import shutil

import pytest
from networks import mnist_step

from braze import ir
from braze.ir.cuda_program import Launch
from braze.ir.gpu_limits import LIMITS
from braze.ir.target import GPU_NAMES, named_target
from braze.runtime.cuda.resources import Resources, occupancy, resources_in, resources_of
from braze.runtime.insides import look_inside

NVCC = shutil.which("/usr/local/cuda/bin/nvcc") or shutil.which("/usr/local/bin/nvcc")

SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 33.645 ms
ptxas info    : Compiling entry function 'second' for 'sm_90'
ptxas info    : Function properties for second
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""


def test_the_assemblers_messages():
    assert resources_in(SAID) == {
        "first": Resources(10, 0, 0, 128), "second": Resources(255, 8, 12, 0),
    }  # fmt: skip
    assert resources_in("") == {}


def launch(threads, shared=0):
    return Launch("k", (1, 1, 1), (threads, 1, 1), shared, ())


@pytest.mark.parametrize(
    ("name", "threads", "shared", "registers", "wanted"),
    [
        ("sm_80", 256, 0, 32, 1.0),  # 8 blocks of 8 warps
        ("sm_80", 256, 0, 64, 0.5),  # 65,536 registers are 4 blocks'
        ("sm_80", 256, 0, 255, 0.125),
        ("sm_80", 32, 0, 16, 0.5),  # no more than 32 blocks of a warp
        ("sm_80", 128, 40 << 10, 32, 0.25),  # 4 blocks have shared memory
        ("sm_75", 1024, 0, 32, 1.0),
        ("sm_86", 1024, 0, 32, 2 / 3),  # one block of 32 warps, where 48 fit
        ("sm_90", 1000, 0, 32, 1.0),  # the last warp counts whole
    ],
)
def test_occupancy(name, threads, shared, registers, wanted):
    found = occupancy(launch(threads, shared), Resources(registers, 0, 0, 0), named_target(name))
    assert found == pytest.approx(wanted)


def test_every_target_has_limits():
    assert {named_target(name).capability for name in GPU_NAMES} == set(LIMITS)


@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler")
def test_nothing_is_spilled_and_everything_is_counted(monkeypatch):
    monkeypatch.setenv("PATH", str(NVCC).rsplit("/", 1)[0] + ":/usr/bin:/bin")
    stages = {s.name: s.text for s in look_inside(mnist_step(4), named_target("sm_80")).stages}
    found = resources_of(stages["cuda"], named_target("sm_80"))
    assert found and all(r.spill_stores == r.spill_loads == 0 for r in found.values())
    assert all(0 < r.registers <= 255 for r in found.values())
    lines = stages["launches"].splitlines()
    assert len(lines) > len(found) and all(line.endswith("%") for line in lines[1:])
    rows = [line.split() for line in stages["roofline"].splitlines()[1:]]
    assert rows and all(int(row[1]) > 0 for row in rows)


def test_what_is_not_measured_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (64, 32)))
    insides = look_inside(b.finish([b.exp(x)]), named_target("sm_90"))
    stages = {s.name: s.text for s in insides.stages}
    assert "not measured" in stages["launches"] and "x1x1" in stages["launches"]
    (row,) = stages["roofline"].splitlines()[1:]
    assert row.split()[1] == str(2 * 4 * 64 * 32)
