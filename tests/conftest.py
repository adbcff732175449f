"""What all tests share: graphs are compiled at their second run, not some time after it; nothing is
left to compute from the test before; what earlier tests left is not searched for garbage; only
tests of CUDA devices see some, though others may have loaded the emulated driver before; and tests
of operations and modules run on one, too, as `device_cases` says."""

import gc
import os
import sys
from contextlib import suppress

import device_cases
import pytest

os.environ.setdefault("BRAZE_BACKGROUND", "never")


def pytest_addoption(parser):
    parser.addoption(
        "--device-cases",
        choices=("some", "all", "none"),
        default=os.environ.get(device_cases.VARIABLE, "some"),
        help="which tests of operations and modules run on a CUDA device, too",
    )


def pytest_generate_tests(metafunc):
    device_cases.generate(metafunc)


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if not device_cases.is_interpreted(item)]


def pytest_collection_finish():
    _set_aside()


def _set_aside():
    """Tens of thousands of tests are a heap that a collection takes more than a second for, and
    some tests ask for several."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def device_of_case(request):
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    device_cases.enter(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    if device_cases.device_of(pyfuncitem) != "cuda":
        return (yield)
    from on_devices import tensors_moved

    with tensors_moved(pyfuncitem.funcargs, device_cases.PLACE):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    try:
        return (yield)
    finally:
        device_cases.leave(item)
        if nextitem is None or nextitem.path != item.path:
            _set_aside()


@pytest.fixture(autouse=True)
def _nothing_is_pending():
    """What an earlier test left uncomputed would run in this one's first graph."""
    if (capture := sys.modules.get("braze.capture")) is not None:
        with suppress(Exception):  # that test's, which did not ask for the values
            capture.flush()


@pytest.fixture(autouse=True)
def _gpus_are_for_tests_of_gpus(request, monkeypatch):
    if device_cases.device_of(request.node) == "cuda":
        return
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


@pytest.fixture(params=["file_descriptor", "file_system"])
def strategy(request):
    """A way in which processes share memory; it is set."""
    import braze.multiprocessing as mp

    before = mp.get_sharing_strategy()
    mp.set_sharing_strategy(request.param)
    yield request.param
    mp.set_sharing_strategy(before)
