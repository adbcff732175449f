"""A package's code as a report: the graph that it was compiled from, and all that was made of it.

In: a package's file.  Out: a `Report` with a graph for each code in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from braze import engine
from braze.inspector.describe import Data
from braze.inspector.report import ROUNDS, SECONDS, GraphReport, Report, Times

MOST_CODES = 12


class PackageGraphReport(GraphReport):
    """One code of a package. Its data says, under "package", whether what is shown is the
    package's own machine code, and has the weights as they are stored.

    Args:
        code: a `braze.runtime.package_insides.PackageCode`.
    """

    def __init__(self, code: Any) -> None:
        super().__init__(code.graph, self._measured, target=code.target)
        self.code_in_package = code

    @cached_property
    def insides(self) -> Any:
        """Every step of compiling it, as it was compiled for the package."""
        return self.code_in_package.insides

    @cached_property
    def data(self) -> Data:
        """As `GraphReport.data`, with "package"."""
        code = self.code_in_package
        data = super().data
        data["name"] = f"{self.graph.name}, {code.label}"
        data["package"] = {
            "verdict": code.verdict,
            "is_own": not code.difference,
            "sizes": None if not code.lowest else [list(code.lowest), list(code.highest)],
            "entries": {name: len(made) for name, made in code.machine_code.items()},
            "weights": [
                {
                    "name": weight.name,
                    "dtype": weight.dtype,
                    "shape": list(weight.shape),
                    "bytes": weight.nbytes,
                    "packed": weight.name in code.packed,
                }
                for weight in code.stored
            ],
        }
        return data

    def repro(self, path: str | os.PathLike[str], kernel: str | None = None) -> None:
        """Write a program that runs the graph, or one of its kernels, alone, on the package's
        weights and on arguments drawn at random. Code for many sizes is that for some of them.

        Raises:
            KeyError: it has no such kernel.
            OSError: it cannot be written.
        """
        code, debugging = self.code_in_package, engine.debugging()
        if kernel is None:
            debugging.write_graph(path, self.graph, code.inputs(), code.setting)
        else:
            debugging.write_kernel(path, *code.case(kernel), code.setting)

    def contents(self) -> str:
        """As text what the file has of it: machine code, weights, and the graph that was compiled.
        Nothing is compiled for it."""
        code = self.code_in_package
        made = ", ".join(f"{name} ({len(own)} bytes)" for name, own in code.machine_code.items())
        weights = [
            f"  {weight.name}: {weight.dtype}[{','.join(map(str, weight.shape))}]"
            for weight in code.stored
        ]
        total = sum(weight.nbytes for weight in code.stored)
        many = "" if code.recipe.sized is None else ", as it is for some of its sizes"
        return "\n".join(
            [
                f"code {code.label}: {made or 'none'}",
                f"{len(weights)} weights of {total} bytes, as they are stored",
                *weights,
                f"compiled from{many}",
                str(code.graph),
            ]
        )

    def _measured(self) -> Times:
        """Times of the same code with stopwatches, of its weights and of arguments of zeros."""
        code = self.code_in_package
        if not code.can_be_timed:
            return []
        inputs: list[Any] = []
        for value, role in zip(self.graph.inputs, self.graph.roles, strict=True):
            held = code.weights.get(value.name)
            if role == "scalar":
                inputs.append(0 if held is None else held.item())
                continue
            storage = engine.Storage(value.type.nbytes)
            array = storage.array(value.type.dtype.numpy, value.shape)
            array[...] = 0 if held is None else held
            inputs.append(storage)
        found: Times = engine.inspecting().measure(
            code.timed(), self.graph, inputs, ROUNDS, SECONDS
        )
        return found


class PackageReport(Report):
    """Some codes of a package.

    Args:
        codes: their reports.
    """

    def __init__(self, title: str, codes: Sequence[PackageGraphReport], left_out: int) -> None:
        super().__init__(title, codes, left_out=left_out)
        self._codes = codes

    @property
    def notes(self) -> list[str]:
        """How many codes are not shown."""
        return [f"{self.left_out} codes left out."] if self.left_out else []

    def contents(self) -> str:
        """As text what the file has of them; nothing is compiled for it."""
        return "\n\n".join([*(code.contents() for code in self._codes), *self.notes])


def package_report(
    path: str | os.PathLike[str], most: int = MOST_CODES, only: str | None = None
) -> PackageReport:
    """What a package's code was compiled from and to, and the times of what runs here.

    Args:
        most: codes that are looked at.
        only: the label of the one code that is: a target's name, and the sizes where there are
            several, as in "x86-64-v3/2-64".

    Raises:
        PackageError: it is no package, is damaged, or has no such code.
    """
    codes: Sequence[Any] = engine.inspecting().package_codes(path)
    if only is not None:
        labels = ", ".join(code.label for code in codes)
        codes = [code for code in codes if code.label == only]
        if not codes:
            raise ValueError(f"{path} has no code {only!r}; it has {labels}")
    graphs = [PackageGraphReport(code) for code in codes[:most]]
    return PackageReport(os.path.basename(path), graphs, len(codes) - len(graphs))
