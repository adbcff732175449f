"""ONNX Runtime, on graphs that PyTorch's exporter writes from the same programs."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Options, Unsupported, leaves, published_file
from benchmarks.programs import Call, Library
from benchmarks.suite import Workload


class OnnxRuntime:
    """Forward passes only: there are no gradients in these graphs."""

    def __init__(self, threads: int) -> None:
        import onnxruntime
        import torch

        torch.set_num_threads(threads)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        self.torch, self.runtime, self.threads = torch, onnxruntime, threads

    def prepare(self, workload: Workload, options: Options) -> Callable[[], Any]:
        """Export, optimise as far as it goes, and run on arrays."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            arrays = self.write(workload, path, options.random)
            settings = self.runtime.SessionOptions()
            settings.intra_op_num_threads = self.threads
            settings.inter_op_num_threads = 1
            session = self.runtime.InferenceSession(
                path, settings, providers=["CPUExecutionProvider"]
            )
        names = [given.name for given in session.get_inputs()]
        feed = dict(zip(names, arrays, strict=True))
        return lambda: session.run(None, feed)

    def write(self, workload: Workload, path: Path, random: bool = True) -> list[np.ndarray]:
        """The graph's file, and its inputs in order."""
        published = workload.published
        if published is None:
            program = self._program(workload, random)
            self._export(program, path)
            return [tensor.detach().numpy() for tensor in program.arguments]
        shutil.copyfile(published_file(published), path)
        quiet = self.runtime.SessionOptions()
        quiet.log_severity_level = 3
        session = self.runtime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
        given = {**published.inputs(), **published.fixed}
        return [given[i.name] for i in session.get_inputs()]

    def _program(self, workload: Workload, random: bool) -> Call:
        """A forward pass."""
        assert workload.make is not None
        if workload.name.endswith((".backward", ".data", ".weights")):
            raise Unsupported("gradients")
        program = workload.make(Library(self.torch, random=random))
        if not isinstance(program, Call):
            raise Unsupported("programs with a state")
        return program

    def _export(self, program: Call, path: Path) -> None:
        """The exported graph."""
        torch, function = self.torch, program.function

        class Module(torch.nn.Module):
            def forward(self, *arguments: Any) -> Any:
                return function(*arguments)

        module = function if isinstance(function, torch.nn.Module) else Module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), tuple(program.arguments), str(path), dynamo=True, verbose=False
            )

    def arrays(self, result: Any) -> list[np.ndarray]:
        """They are arrays."""
        return leaves(result)
