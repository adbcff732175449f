"""Braze and PyTorch: eager, compiled, and Braze from a package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Options, Unsupported, leaves, published_file
from benchmarks.programs import Call, Library, Loop
from benchmarks.published import Published
from benchmarks.suite import CPU, Workload

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


def _chosen(T: Any, device: str) -> str:
    """The device, which from now on is where the library makes tensors.

    Raises:
        Unsupported: the library has no such device here.
    """
    if device != CPU:
        if not T.cuda.is_available():
            raise Unsupported(f"{T.__name__} finds no GPU")
        T.set_default_device(device)
    return device


def _waiting(T: Any, step: Step, device: str) -> Step:
    """The step until the GPU has done its work, if there is one."""
    if device == CPU:
        return step

    def synchronised() -> Any:
        result = step()
        T.cuda.synchronize()
        return result

    return synchronised


class Braze:
    """Plain eager code."""

    def __init__(self, threads: int, device: str = CPU) -> None:
        import braze

        braze.set_num_threads(threads)
        self.T = braze
        self.device = _chosen(braze, device)

    def compile(self, function: Any) -> Any:
        """Nothing to do for eager code."""
        return function

    def prepare(self, workload: Workload, options: Options) -> Step:
        """A step that asks where its results lie, which makes Braze compute them."""
        assert workload.make is not None
        self.T.manual_seed(0)
        library = Library(self.T, self.compile, self.place, options.random)
        step = stepper(library, workload.make(library))

        def wait() -> Any:
            result = step()
            for tensor in leaves(result):
                tensor.data_ptr()
            return result

        return _waiting(self.T, wait, self.device)

    def place(self, thing: Any) -> Any:
        """A tensor or module where it is measured."""
        return thing if self.device == CPU else thing.to(self.device)

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays."""
        return [tensor.cpu().numpy() for tensor in leaves(result)]


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

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.brz"
            arrays = self.write(workload, path, options.random)
            model = load(path)
        return lambda: model(*arrays)

    def write(self, workload: Workload, path: Path, random: bool = True) -> list[np.ndarray]:
        """The package, and its inputs in order."""
        if workload.published is not None:
            return self._write_published(workload.published, path)
        assert workload.make is not None
        program = workload.make(Library(self.T, random=random))
        if not isinstance(program, Call) or program.wrt:
            raise Unsupported("packages hold forward passes")
        self.T.aot.compile(program.function, program.arguments, path)
        return [tensor.numpy() for tensor in program.arguments]

    def _write_published(self, published: Published, path: Path) -> list[np.ndarray]:
        """The package of somebody's ONNX file."""
        import braze.onnx

        model = braze.onnx.load(published_file(published), fixed=published.fixed)
        inputs = published.inputs()
        arrays = [inputs[i.name] for i in model.inputs]
        self.T.aot.compile(model, [self.T.from_numpy(array) for array in arrays], path)
        return arrays

    def arrays(self, result: Any) -> list[np.ndarray]:
        """They are arrays."""
        return leaves(result)


class Torch:
    """PyTorch, eager."""

    def __init__(self, threads: int, device: str = CPU) -> None:
        import torch

        torch.set_num_threads(threads)
        self.T = torch
        self.device = _chosen(torch, device)

    def compile(self, function: Any) -> Any:
        """Nothing to do for eager code."""
        return function

    def prepare(self, workload: Workload, options: Options) -> Step:
        """The step as it is: on the CPU, nothing in it returns before it is done."""
        assert workload.make is not None
        self.T.manual_seed(0)
        library = self.library(options)
        return _waiting(self.T, stepper(library, workload.make(library)), self.device)

    def library(self, options: Options) -> Library:
        """PyTorch in the layout asked for."""

        def place(thing: Any) -> Any:
            if self.device != CPU:
                thing = thing.to(self.device)
            images = hasattr(thing, "parameters") or thing.dim() == 4
            if options.channels_last and images:
                return thing.to(memory_format=self.T.channels_last)
            return thing

        return Library(self.T, self.compile, place, options.random)

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays."""
        return [tensor.detach().cpu().numpy() for tensor in leaves(result)]


class TorchCompile(Torch):
    """Models and functions wrapped in `torch.compile`."""

    def compile(self, function: Any) -> Any:
        """What a user would wrap."""
        return self.T.compile(function)
