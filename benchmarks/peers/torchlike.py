"""Braze and PyTorch: eager, compiled, and Braze from a package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Options, Unsupported, leaves
from benchmarks.programs import Call, Library, Loop
from benchmarks.suite import Workload

Step = Callable[[], Any]


def stepper(library: Library, program: Call | Loop) -> Step:
    """One unit of the program's work, not yet waited for."""
    if isinstance(program, Loop):
        return program.step
    T, arguments = library.T, program.arguments
    function = library.compile(program.function)
    if program.wrt:
        wanted = [arguments[place] for place in program.wrt]

        def both() -> Any:
            result = function(*arguments)
            gradients = T.autograd.grad(result, wanted, program.cotangent)
            return [result.detach(), *gradients]

        return both

    def forward() -> Any:
        with T.no_grad():
            return function(*arguments)

    return forward


class Braze:
    """Plain eager code."""

    def __init__(self, threads: int) -> None:
        import braze

        braze.set_num_threads(threads)
        self.T = braze

    def compile(self, function: Any) -> Any:
        """Nothing to do for eager code."""
        return function

    def prepare(self, workload: Workload, options: Options) -> Step:
        """A step that asks where its results lie, which makes Braze compute them."""
        assert workload.make is not None
        self.T.manual_seed(0)
        library = Library(self.T, self.compile, random=options.random)
        step = stepper(library, workload.make(library))

        def wait() -> Any:
            result = step()
            for tensor in leaves(result):
                tensor.data_ptr()
            return result

        return wait

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays."""
        return [tensor.numpy() for tensor in leaves(result)]


class BrazeCompile(Braze):
    """Models and functions wrapped in `braze.compile`."""

    def compile(self, function: Any) -> Any:
        """What a user would wrap."""
        return self.T.compile(function)


class BrazePackage(Braze):
    """Compiled ahead of time, written to a file, and loaded from it."""

    def prepare(self, workload: Workload, options: Options) -> Step:
        """The loaded model on arrays."""
        from braze.runtime import load

        program = self.program(workload, options.random)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.brz"
            self.write(program, path)
            model = load(path)
        arrays = [tensor.numpy() for tensor in program.arguments]
        return lambda: model(*arrays)

    def program(self, workload: Workload, random: bool = True) -> Call:
        """A forward pass."""
        assert workload.make is not None
        program = workload.make(Library(self.T, random=random))
        if not isinstance(program, Call) or program.wrt:
            raise Unsupported("packages hold forward passes")
        return program

    def write(self, program: Call, path: Path) -> None:
        """The package."""
        self.T.aot.compile(program.function, program.arguments, path)

    def arrays(self, result: Any) -> list[np.ndarray]:
        """They are arrays."""
        return leaves(result)


class Torch:
    """PyTorch, eager."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.T = torch

    def compile(self, function: Any) -> Any:
        """Nothing to do for eager code."""
        return function

    def prepare(self, workload: Workload, options: Options) -> Step:
        """The step as it is: nothing in it returns before it is done."""
        assert workload.make is not None
        self.T.manual_seed(0)
        library = self.library(options)
        return stepper(library, workload.make(library))

    def library(self, options: Options) -> Library:
        """PyTorch in the layout asked for."""

        def place(thing: Any) -> Any:
            images = hasattr(thing, "parameters") or thing.dim() == 4
            if options.channels_last and images:
                return thing.to(memory_format=self.T.channels_last)
            return thing

        return Library(self.T, self.compile, place, options.random)

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays."""
        return [tensor.detach().numpy() for tensor in leaves(result)]


class TorchCompile(Torch):
    """Models and functions wrapped in `torch.compile`."""

    def compile(self, function: Any) -> Any:
        """What a user would wrap."""
        return self.T.compile(function)
