"""The error of a checked run: a compiled kernel does not compute what the interpreter does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.ir.errors import BrazeError

if TYPE_CHECKING:
    from pathlib import Path

    from braze.ir.graph import Graph
    from braze.ir.rounding import Difference
    from braze.runtime.kernel_cases import Array, KernelCase


class KernelDifference(BrazeError, RuntimeError):
    """A compiled kernel does not compute what the interpreter does.

    Attributes:
        graph: as it was captured; None of an error that was made from a message alone.
        case: the kernel.
        values: what it was given, by buffer.
        result: buffer of the first result that differs, or "".
        difference: of that result; None if it wrote where it must not write.
        is_of_plan: the kernel did as it was told, but a value that is needed lies where it writes.
        device: the GPU that ran it; "" on the CPU.
    """

    def __init__(
        self,
        message: str,
        graph: Graph | None = None,
        case: KernelCase | None = None,
        values: dict[str, Array] | None = None,
        result: str = "",
        difference: Difference | None = None,
        *,
        is_of_plan: bool = False,
        device: str = "",
    ) -> None:
        super().__init__(message)
        self.device = device
        self.result = result
        self.is_of_plan = is_of_plan
        self.graph = graph
        self.case = case
        self.values = values or {}
        self.difference = difference

    def repro(self, path: str | Path) -> None:
        """Write a program that runs this kernel alone, on the same operands.

        Raises:
            OSError: it cannot be written.
        """
        from braze.runtime.repro import HERE, Setting, write_kernel

        if self.case is None:
            raise ValueError("[repro] this error has no kernel")
        setting = Setting(self.device) if self.device else HERE
        write_kernel(path, self.case, self.values, setting)
