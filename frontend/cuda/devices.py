"""Which CUDA devices there are, what they can do, and which one is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from braze import engine
from braze.capture import flush
from braze.devices import Used, current_gpu, has_gpus, set_current_gpu
from braze.devices import device as _Device


def is_available() -> bool:
    """Whether tensors can be on a GPU."""
    return has_gpus()


def device_count() -> int:
    """The number of GPUs that tensors can be on."""
    return int(engine.cuda().device_count())


def is_initialized() -> bool:
    """Whether this process uses CUDA."""
    return bool(engine.cuda().is_initialised())


def init() -> None:
    """Load PyCUDA and ask for the devices, which otherwise happens when one is first used.

    Raises:
        RuntimeError: PyCUDA, the driver or a GPU is missing.
    """
    engine.cuda().driver()


def index_of(wanted: Any) -> int:
    """A GPU's number, from a number, a name or a device; None stands for the current one.

    Raises:
        ValueError: another kind of device.
    """
    if wanted is None:
        return current_gpu()
    if isinstance(wanted, int):
        return wanted
    found = wanted if isinstance(wanted, _Device) else _Device(wanted)
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {found}")
    return current_gpu() if found.index is None else found.index


def device_at(wanted: Any) -> Any:
    """The runtime's device.

    Raises:
        RuntimeError: there is no such device.
    """
    found = engine.cuda().cuda_device(index_of(wanted))
    Used.devices = True
    return found


def current_device() -> int:
    """The number of the GPU that is used where none is named.

    Raises:
        RuntimeError: there is none.
    """
    init()
    return current_gpu()


def set_device(device: Any) -> None:
    """Use this GPU where none is named, in the calling thread; a negative number changes nothing.

    Raises:
        RuntimeError: there is no such device.
    """
    index = index_of(device)
    if index >= 0:
        device_at(index)
        set_current_gpu(index)


class device:
    """A `with` block in which another GPU is used where none is named.

    Args:
        device: a number, name or device; None or a negative number changes nothing.
    """

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = current_gpu()
        set_device(self.idx)

    def __exit__(self, *error: object) -> None:
        set_current_gpu(self.prev_idx)


class device_of(device):
    """A `with` block in which a tensor's GPU is used; nothing changes for one on the CPU."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else None)


def synchronize(device: Any = None) -> None:
    """Run what was captured, and wait until a GPU has done all its work.

    Raises:
        RuntimeError: there is no such device; or what a check found in what it has done.
    """
    found = device_at(device)
    flush()
    found.synchronize()


@dataclass(frozen=True)
class DeviceProperties:
    """What a GPU is: its name, compute capability, bytes of memory, and sizes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    L2_cache_size: int
    is_integrated: bool


def get_device_properties(device: Any = None) -> DeviceProperties:
    """What a GPU is.  Raises: RuntimeError, there is no such device."""
    found = device_at(device)
    known = found.properties()
    major, minor = found.capability
    return DeviceProperties(
        name=str(found.raw.name()),
        major=major,
        minor=minor,
        total_memory=int(found.raw.total_memory()),
        multi_processor_count=known.get("multiprocessor_count", 0),
        warp_size=known.get("warp_size", 32),
        max_threads_per_block=known.get("max_threads_per_block", 0),
        max_threads_per_multi_processor=known.get("max_threads_per_multiprocessor", 0),
        regs_per_multiprocessor=known.get("max_registers_per_multiprocessor", 0),
        shared_memory_per_block=known.get("max_shared_memory_per_block", 0),
        shared_memory_per_block_optin=known.get("max_shared_memory_per_block_optin", 0),
        L2_cache_size=known.get("l2_cache_size", 0),
        is_integrated=bool(known.get("integrated", 0)),
    )


def get_device_name(device: Any = None) -> str:
    """A GPU's name.  Raises: RuntimeError, there is no such device."""
    return str(device_at(device).raw.name())


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """A GPU's compute capability.  Raises: RuntimeError, there is no such device."""
    major, minor = device_at(device).capability
    return int(major), int(minor)


def get_arch_list() -> list[str]:
    """The architectures that code can be made for, the current GPU's among them; none without a
    GPU."""
    if not is_available():
        return []
    return list(dict.fromkeys([*engine.gpu_names(), device_at(None).target.name]))


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current GPU computes in bfloat16: those before compute capability 8 by way of
    float32."""
    if not is_available():
        return False
    return including_emulation or get_device_capability()[0] >= 8


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of a GPU.  Raises: RuntimeError, there is no such device."""
    found = device_at(device)
    with found.active():
        free, total = engine.cuda().driver().mem_get_info()
    return int(free), int(total)


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether a GPU can reach another one's memory.

    Raises:
        RuntimeError: there is no such device.
    """
    own, other = device_at(device), device_at(peer_device)
    return own is not other and bool(own.raw.can_access_peer(other.raw))
