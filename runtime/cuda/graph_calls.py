"""Calls of the CUDA driver that PyCUDA has no names for: those that make graphs and launch them,
and those of events where their handles are needed.

In: a call's name and its arguments; the calling thread's context is the one that PyCUDA made
current.  Out: what the driver leaves in the arguments, or a `CudaError`.

Kernels are given to graphs by the driver's handles, which PyCUDA keeps to itself; so a module whose
kernels stand in graphs is loaded a second time (`GraphModule`).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

from braze.ir.cuda_program import SHARED_BYTES, Launch
from braze.runtime.cuda.devices import CudaDevice
from braze.runtime.cuda.driver import CudaError, driver, is_initialised

# CUDA driver API, "Data types used by CUDA driver".
_PARAMETERS_END, _PARAMETERS_AT, _PARAMETERS_BYTES = 0, 1, 2
_NOT_READY = 600


class KernelParameters(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = (
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared_bytes", c_uint),
        ("pointers", c_void_p),
        ("extra", c_void_p),
        ("kernel", c_void_p),
        ("context", c_void_p),
    )


class FillParameters(ctypes.Structure):
    """CUDA_MEMSET_NODE_PARAMS."""

    _fields_ = (
        ("address", c_ulonglong),
        ("pitch", c_size_t),
        ("value", c_uint),
        ("element_bytes", c_uint),
        ("width", c_size_t),
        ("height", c_size_t),
    )


class PackedArguments:
    """Arguments of a kernel, of 8 bytes each, as the driver takes them in one buffer."""

    def __init__(self, count: int) -> None:
        self.words = (c_ulonglong * count)()
        self._bytes = c_size_t(8 * count)
        self.extra = (c_void_p * 5)(
            _PARAMETERS_AT, ctypes.addressof(self.words),
            _PARAMETERS_BYTES, ctypes.addressof(self._bytes),
            _PARAMETERS_END,
        )  # fmt: skip


_NODE = (POINTER(c_void_p), c_void_p, POINTER(c_void_p), c_size_t)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuGraphCreate": (POINTER(c_void_p), c_uint),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphAddKernelNode_v2": (*_NODE, POINTER(KernelParameters)),
    "cuGraphAddMemsetNode": (*_NODE, POINTER(FillParameters), c_void_p),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphExecKernelNodeSetParams_v2": (c_void_p, c_void_p, POINTER(KernelParameters)),
    "cuGraphExecMemsetNodeSetParams": (c_void_p, c_void_p, POINTER(FillParameters), c_void_p),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventQuery": (c_void_p,),
    "cuEventDestroy_v2": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}

_functions: dict[str, Any] = {}


def _function(name: str) -> Any:
    found = _functions.get(name)
    if found is None:
        library = ctypes.CDLL("libcuda.so.1")
        try:
            found = getattr(library, name)
        except AttributeError:
            raise CudaError(
                f"NVIDIA's driver has no {name}: it is older than CUDA 12, the first to know it"
            ) from None
        found.argtypes, found.restype = _SIGNATURES[name], c_int
        _functions[name] = found
    return found


def call(name: str, *arguments: Any) -> None:
    """Call the driver.

    Raises:
        CudaError: it has no such call, or reports an error.
    """
    _check(name, _function(name)(*arguments))


def is_ready(name: str, *arguments: Any) -> bool:
    """Call the driver, which tells whether something is done.  Raises: as `call`."""
    code = _function(name)(*arguments)
    if code != _NOT_READY:
        _check(name, code)
    return bool(code != _NOT_READY)


def _check(name: str, code: int) -> None:
    if code:
        text = c_char_p()
        _function("cuGetErrorString")(code, byref(text))
        said = text.value.decode(errors="replace") if text.value else f"error {code}"
        raise CudaError(f"{name} failed: {said}")


class GraphModule:
    """The functions of a cubin by their handles."""

    def __init__(self, cubin: bytes, device: CudaDevice) -> None:
        self._device = device
        self._functions: dict[str, int] = {}
        self._shared: dict[str, int] = {}
        self._handle = c_void_p()
        call("cuModuleLoadData", byref(self._handle), cubin)

    def function(self, launch: Launch) -> int:
        """The function of a launch, which may have as much shared memory as that needs."""
        name = launch.kernel
        if name not in self._functions:
            found = c_void_p()
            call("cuModuleGetFunction", byref(found), self._handle, name.encode())
            self._functions[name] = found.value or 0
        if launch.shared_bytes > self._shared.get(name, SHARED_BYTES):
            most = int(driver().function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES)
            call("cuFuncSetAttribute", self._functions[name], most, launch.shared_bytes)
            self._shared[name] = launch.shared_bytes
        return self._functions[name]

    def __del__(self, _is_finalizing: Any = sys.is_finalizing) -> None:
        if self._handle and not _is_finalizing() and is_initialised():
            with self._device.active():
                call("cuModuleUnload", self._handle)
