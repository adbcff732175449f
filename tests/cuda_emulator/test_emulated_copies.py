"""Copies to shared memory that are waited for later: what they bring, and each fault."""

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest
from cuda_emulator import control

pytestmark = cuda_device.emulated_only

# Each of 64 threads has one number of 256 brought, and stores that of another thread.
KERNEL = """extern "C" __global__ void k(const float* x, float* y) {
    __shared__ __align__(16) float s[2][64];
    const int i = threadIdx.x, other = 63 - i;
    BODY
}"""
RIGHT = """
    for (int part = 0; part < 2; part++) {
        braze_cp_async(&s[part][i], x + 64 * part + i, 4, 4);
        braze_cp_async_commit_group();
    }
    for (int part = 0; part < 4; part++) {
        braze_cp_async_wait_group(1);
        __syncthreads();
        y[64 * part + i] = s[part % 2][other];
        __syncthreads();
        if (part < 2) braze_cp_async(&s[part][i], x + 64 * (part + 2) + i, 4, 4);
        braze_cp_async_commit_group();
    }
"""
LATE = RIGHT.replace(
    """        braze_cp_async_wait_group(1);
        __syncthreads();
""",
    """        __syncthreads();
        braze_cp_async_wait_group(1);
""",
)
UNWRITTEN = r"reads 4 bytes at 0x[0-9a-f]+ that nobody wrote: shared memory"
ONE = "braze_cp_async(&s[0][i], x + i, 4, 4); braze_cp_async_commit_group();"
THERE = "braze_cp_async_wait_group(0); __syncthreads();"
FAULTS = {
    "no wait": (UNWRITTEN, RIGHT.replace("braze_cp_async_wait_group(1);", "")),
    "a wait for too few": (UNWRITTEN, RIGHT.replace("wait_group(1)", "wait_group(2)")),
    "a group that is not ended": (
        UNWRITTEN,
        RIGHT.replace("braze_cp_async_commit_group();", "", 1),
    ),
    "a wait behind the barrier": ("nobody wrote|no barrier lies between", LATE),
    "no barrier behind the wait": (
        "race: reads what thread .* wrote, and no barrier lies between",
        f"{ONE} braze_cp_async_wait_group(0); if (i > 0) y[i] = s[0][i - 1];",
    ),
    "what is still read": (
        "race: writes what thread .* read, and no barrier lies between",
        f"{ONE} {THERE} y[i] = s[0][(i + 1) % 64]; {ONE}",
    ),
    "one's own earlier number": (
        UNWRITTEN,
        f"s[0][i] = 1; {ONE} y[i] = s[0][i];",
    ),
    "past the end": (
        r"reads 16 bytes at 0x[0-9a-f]+: byte 0 past the end of allocation",
        "braze_cp_async(&s[0][0], x + 256, 16, 16);",
    ),
    "from an address in between": (
        "copies 16 bytes from .* no multiple of 16",
        "braze_cp_async(&s[0][0], x + 1, 16, 16);",
    ),
    "to an address in between": (
        "writes 16 bytes at .* no multiple of 16",
        "if (i == 0) braze_cp_async(&s[0][1], x, 16, 16);",
    ),
    "not to shared memory": ("not in shared memory", "braze_cp_async(y + i, x + i, 4, 4);"),
    "not from global memory": (
        "not in global memory",
        "s[1][i] = 0; braze_cp_async(&s[0][i], &s[1][i], 4, 4);",
    ),
    "two bytes": ("copies 2 bytes at once", "braze_cp_async(&s[0][i], x + i, 2, 2);"),
}


def given():
    return np.arange(256, dtype=np.float32), np.zeros(256, np.float32)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:1"])
def test_what_was_waited_for_is_there(launch, order):
    x, y = given()
    with control.options(ORDER=order):
        launch(KERNEL.replace("BODY", RIGHT), x, y, block=64)
    np.testing.assert_array_equal(y, x.reshape(4, 64)[:, ::-1].ravel())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_wrong_kernel_fails(launch, fault):
    message, body = FAULTS[fault]
    with pytest.raises((cuda.LogicError, cuda.LaunchError), match=message) as error:
        launch(KERNEL.replace("BODY", body), *given(), block=64)
    assert error.match(r"kernel k, block \(0, 0, 0\), thread \(\d+, 0, 0\), kernel\.cu:\d+: ")


def test_what_is_not_read_becomes_zeros_and_may_lie_anywhere(launch):
    body = f"""braze_cp_async(&s[0][i], x + (i < 32 ? i : 1 << 20), 4, i < 32 ? 4 : 0);
        braze_cp_async_commit_group(); {THERE} y[i] = s[0][other];"""
    x, y = given()
    launch(KERNEL.replace("BODY", body), x, y, block=64)
    np.testing.assert_array_equal(y[:64], np.r_[np.zeros(32), x[31::-1]])


def test_each_counts_once_and_lanes_without_a_read_keep_step(launch):
    body = f"""braze_cp_async(&s[0][i], x + 2 * i, 4, i % 2 ? 4 : 0);
        braze_cp_async(&s[1][i], x + i, 4, 4);
        braze_cp_async_commit_group(); {THERE} y[i] = s[0][i] + s[1][i];"""
    with control.profiled() as lines:
        launch(KERNEL.replace("BODY", body), *given(), block=64)
    found = [(at.space, at.access, at.requests, at.transfers) for at in lines]
    # Two warps, each with 16 numbers in 8 sectors, and 32 in 4.
    assert sorted(found)[:2] == [("global", "read", 2, 8), ("global", "read", 2, 16)]
    assert [at for at in found if at[:2] == ("shared", "write")] == [("shared", "write", 2, 2)] * 2


def test_they_work_without_checks(launch, monkeypatch):
    monkeypatch.setenv("BRAZE_EMULATED_CHECKS", "0")
    x, y = given()
    with control.options(UNWRITTEN="1"):
        launch(KERNEL.replace("BODY", f"// unchecked\n{RIGHT}"), x, y, block=64)
    np.testing.assert_array_equal(y, x.reshape(4, 64)[:, ::-1].ravel())
