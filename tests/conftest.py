"""What all tests share: graphs are compiled at their second run, not some time after it; and only
tests of CUDA devices see some, though others may have loaded the emulated driver before."""

import os
import sys

import pytest

os.environ.setdefault("BRAZE_BACKGROUND", "never")


@pytest.fixture(autouse=True)
def _gpus_are_for_tests_of_gpus(request, monkeypatch):
    if "cuda_device" not in sys.modules or hasattr(request.module, "cuda_device"):
        return
    from braze.devices import Used
    from braze.runtime.cuda import facade

    def none(index):
        raise facade.CudaError(f"CUDA devices need PyCUDA; {facade.INSTALL}")

    monkeypatch.setattr(facade, "device_count", lambda: 0)
    monkeypatch.setattr(facade, "devices_in_use", list)
    monkeypatch.setattr(facade, "is_initialised", lambda: False)
    monkeypatch.setattr(facade, "cuda_device", none)
    monkeypatch.setattr(Used, "devices", False)
    monkeypatch.setattr(Used, "defaults", False)
