"""ONNX Runtime, on graphs that PyTorch's exporter writes from the same programs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Options, Unsupported, leaves
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
        program = self.program(workload, options.random)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            self.write(program, path)
            settings = self.runtime.SessionOptions()
            settings.intra_op_num_threads = self.threads
            settings.inter_op_num_threads = 1
            session = self.runtime.InferenceSession(
                path, settings, providers=["CPUExecutionProvider"]
            )
        arrays = [tensor.detach().numpy() for tensor in program.arguments]
        names = [given.name for given in session.get_inputs()]
        feed = dict(zip(names, arrays, strict=True))
        return lambda: session.run(None, feed)

    def program(self, workload: Workload, random: bool = True) -> Call:
        """A forward pass."""
        assert workload.make is not None
        if workload.name.endswith((".backward", ".data", ".weights")):
            raise Unsupported("gradients")
        program = workload.make(Library(self.torch, random=random))
        if not isinstance(program, Call):
            raise Unsupported("programs with a state")
        return program

    def write(self, program: Call, path: Path) -> None:
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
