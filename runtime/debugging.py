"""What the front end asks the runtime for when it looks for faults, in one place."""

from braze.runtime.bisecting import Bisection, Culprit, bisect_graph
from braze.runtime.checking import KernelDifference
from braze.runtime.kernel_cases import KernelCase, case_with_values
from braze.runtime.repro import Setting, write_graph, write_kernel
from braze.runtime.splitting import without_devices

__all__ = [
    "Bisection",
    "Culprit",
    "KernelCase",
    "KernelDifference",
    "Setting",
    "bisect_graph",
    "case_with_values",
    "without_devices",
    "write_graph",
    "write_kernel",
]
