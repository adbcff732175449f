"""The code in a package, with all of the compile that it came from: `PackageCode`.

In: a package's file.  Out: for each code in it the `Insides` of compiling its graph once more, for
the target that it was made for, and whether that gives the package's machine code, byte by byte.
Nothing of the package is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from braze.ir.devices import HOST
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Graph
from braze.ir.parser import parse_graph
from braze.ir.polynomials import Point
from braze.ir.target import Target, can_run
from braze.runtime import compiler
from braze.runtime.cpu import host_runner
from braze.runtime.environment import braze_version
from braze.runtime.insides import Functions, Insides, host_functions, insides_of
from braze.runtime.kernel_cases import Array, KernelCase, case_with_values
from braze.runtime.package_format import Archive
from braze.runtime.package_recipes import Recipe, recipe_of
from braze.runtime.package_targets import target_of
from braze.runtime.provenance import Provenance
from braze.runtime.recorder import Keeper
from braze.runtime.repro import Setting, drawn_for
from braze.runtime.timing import TimedExecutable, timed_executable
from braze.runtime.weights import unpack_weights

if TYPE_CHECKING:
    from braze.codegen.llvm.panels import Order, Packer
    from braze.ir.cuda_program import CudaProgram
    from braze.ir.loops import Program

FOLDED = "fold_weights"  # the stage that the package's graph is the result of


class StoredWeight(NamedTuple):
    """A weight as a package has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class PackageCode:
    """One code of a package.

    Attributes:
        target: what it was made for.
        lowest, highest: the sizes that it serves; () where calls choose none.
        entry: what the manifest says of it.
        recipe: what it was compiled from.
        weights: the arrays that it reads, as they are stored.
    """

    def __init__(
        self,
        archive: Archive,
        target: Target,
        entry: Mapping[str, Any],
        everything: Mapping[str, np.ndarray],
    ) -> None:
        self._archive = archive
        self.target, self.entry = target, entry
        self.lowest: Point = tuple(entry.get("lowest", ()))
        self.highest: Point = tuple(entry.get("highest", ()))
        self.recipe: Recipe = recipe_of(archive, entry)
        self.weights = {slot: everything[name] for slot, name in entry["weights"].items()}

    @property
    def label(self) -> str:
        """The target's name, and the sizes where calls choose any: "x86-64-v3/2-64x1-8"."""
        sizes = (f"{a}-{b}" for a, b in zip(self.lowest, self.highest, strict=True))
        return "/".join(filter(None, (self.target.name, "x".join(sizes))))

    @property
    def stored(self) -> list[StoredWeight]:
        """The weights that it reads, as they are stored."""
        slots = {slot["name"]: slot for slot in self.entry["facts"]["inputs"]}
        return [
            StoredWeight(name, str(slots[name]["dtype"]), array.shape, array.nbytes)
            for name, array in self.weights.items()
        ]

    @property
    def graph(self) -> Graph:
        """The graph that was compiled; of code for many sizes that of some of them."""
        return parse_graph(self.recipe.graph)

    @property
    def machine_code(self) -> dict[str, bytes]:
        """The entries of the file with its machine code."""
        names = [self.entry["cubin"]] if "cubin" in self.entry else self.entry["objects"]
        return {name: bytes(self._archive[name]) for name in names}

    @property
    def can_be_timed(self) -> bool:
        """Whether it is for one choice of sizes, and this processor runs it."""
        own = self.recipe.sized is None and not self.target.is_gpu
        return own and can_run(self.target, host_runner()) is None

    def timed(self) -> TimedExecutable:
        """The same code with stopwatches in it.  Raises: as `timed_executable`."""
        return timed_executable(self.graph, self.target, self._packer())

    @cached_property
    def insides(self) -> Insides:
        """The compile."""
        return self._compiled[0]

    @cached_property
    def difference(self) -> str:
        """In what the package's machine code is another than that of the compile; "" in nothing."""
        return self._compiled[1]

    @cached_property
    def packed(self) -> dict[str, Order]:
        """The orders of the weights that are stored as a kernel reads them."""
        return self._compiled[2]

    def inputs(self) -> list[Array | int | float]:
        """Something to run the graph on: the weights, each in its own order, and arguments that
        are drawn at random."""
        from braze.codegen.llvm.panels import unpacked

        known = {
            name: unpacked(held, self.packed[name]) if name in self.packed else np.array(held)
            for name, held in self.weights.items()
        }
        return drawn_for(self.graph, known)

    def case(self, kernel: str) -> tuple[KernelCase, dict[str, Array]]:
        """A kernel by its name, with what the interpreter hands it of `inputs`.

        Raises: KeyError: there is none of that name; the message lists those that there are.
        """
        insides = self.insides
        scheduled = insides.graphs[-1].graph
        return case_with_values(insides.program, scheduled, self.inputs(), kernel)

    @property
    def setting(self) -> Setting:
        """Where reproducers of it run: for the same target, on weights in the same order."""
        device = "cuda:0" if self.target.is_gpu else HOST
        data = "the package's weights, and arguments drawn at random"
        return Setting(device, self.target, self.packed, data)

    @cached_property
    def verdict(self) -> str:
        """A sentence on whether the compile is that of the package's machine code."""
        own = self.machine_code
        if not self.difference:
            what = "cubin" if self.target.is_gpu else f"{len(own)} objects"
            size = sum(map(len, own.values()))
            return (
                f"this is the package's machine code: compiling its graph gives all {size} bytes "
                f"of its {what}"
            )
        return (
            f"{self.difference}: what is shown is what braze {braze_version()} makes of the "
            f"package's graph here, the package was written by braze "
            f"{self._archive.manifest['braze']}"
        )

    @cached_property
    def _compiled(self) -> tuple[Insides, str, dict[str, Order]]:
        captured = parse_graph(self.recipe.captured)
        origin = Provenance(captured)
        record = Keeper(origin.graph, fingerprint(captured), whole=True)

        def folded(graph: Graph) -> Provenance:
            nonlocal origin
            origin = origin.derived(graph, self.recipe.positions)
            record.restart_clock()  # it took its time when the package was made
            record(FOLDED, origin.graph)
            return origin

        pack = self._packer()
        if self.target.is_gpu:
            found = self._compiled_for_gpu(folded, record)
        else:
            found = self._compiled_for_host(folded, record, pack)
        program, report, functions, difference = found
        made = insides_of(captured, self.target, origin, record, program, report, functions)
        return made, difference, pack.orders

    def _compiled_for_host(
        self, folded: Callable[[Graph], Provenance], record: Keeper, pack: Packer
    ) -> tuple[Program, Any, Functions, str]:
        recipe = self.recipe
        objects: Sequence[bytes]
        if recipe.sized is None:
            program, report, generated = compiler.compile_recorded(
                folded(self.graph).graph, self.target, record, pack
            )
            objects = compiler.compile_modules(generated.modules, self.target)
        else:
            artifact, program, report, generated = compiler.compile_recorded_symbolic(
                recipe.fit(), recipe.sized.point, self.target, pack, folded, record
            )
            objects = artifact.objects
        functions = host_functions(record, generated.symbols)
        return program, report, functions, _object_difference(self.machine_code, objects)

    def _compiled_for_gpu(
        self, folded: Callable[[Graph], Provenance], record: Keeper
    ) -> tuple[Program, Any, Functions, str]:
        from braze.runtime.cuda.insides import compile_for_gpu, compile_sizes_for_gpu

        recipe = self.recipe
        if recipe.sized is None:
            graph = folded(self.graph).graph
            program, report, made, functions = compile_for_gpu(graph, self.target, record)
        else:
            program, report, made, functions = compile_sizes_for_gpu(
                recipe.fit(), recipe.sized.point, self.target, folded, record
            )
        return program, report, functions, self._cubin_difference(made)

    def _cubin_difference(self, made: CudaProgram) -> str:
        from braze.runtime.cuda.code import steps_facts
        from braze.runtime.cuda.compiling import kept_cubin
        from braze.runtime.cuda.driver import CudaError
        from braze.runtime.kept_objects import disk_cache

        if json.loads(json.dumps(steps_facts(made))) != self.entry["facts"]["steps"]:
            return "the package launches other kernels"
        ((name, own),) = self.machine_code.items()
        try:
            cubin, _ = kept_cubin(made, self.target, disk_cache())
        except CudaError as error:
            return f"the package's launches are the same, its {name} was not compared ({error})"
        return "" if cubin == own else f"the package's {name} is another"

    def _packer(self) -> Packer:
        """What gives the weights that are known the order in which the package has them."""
        from braze.codegen.llvm.panels import Packer

        orders = self.recipe.orders
        return Packer(self.weights, self.target, None if orders is None else dict(orders))


def _object_difference(own: Mapping[str, bytes], made: Sequence[bytes]) -> str:
    if len(own) != len(made):
        return f"the package has {len(own)} objects, here it is {len(made)}"
    others = [name for (name, data), here in zip(own.items(), made, strict=True) if data != here]
    return f"the package's {', '.join(others)} is another" if others else ""


def package_codes(path: str | os.PathLike[str]) -> list[PackageCode]:
    """All codes of a package, by targets.  Raises: PackageError: the file is none, or is damaged;
    FileNotFoundError."""
    archive = Archive(Path(path))
    everything = dict(unpack_weights(archive["weights.safetensors"]))
    return [
        PackageCode(archive, target_of(entry), code, everything)
        for entry in archive.manifest["targets"]
        for code in entry.get("codes", [entry])
    ]
