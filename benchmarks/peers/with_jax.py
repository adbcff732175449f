"""JAX: the same computations in `jax.numpy` and `lax`, jitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import Options, Unsupported, leaves
from benchmarks.suite import Workload


class Jax:
    """Kernels from `jax_kernels`, models from `jax_training`, the rest from `jax_programs`."""

    def __init__(self, threads: int) -> None:
        import jax

        self.jax = jax
        self._back: tuple[int, ...] = ()

    def prepare(self, workload: Workload, options: Options) -> Callable[[], Any]:
        """A jitted function on arrays that lie ready; training gives its old state away."""
        from benchmarks.peers import jax_kernels, jax_programs, jax_training

        jax = self.jax
        self._back = ()
        jax.config.update("jax_enable_x64", workload.cost.arithmetic == "f64")
        if workload.name in jax_programs.PROGRAMS:
            step: Callable[[], Any] = jax_programs.PROGRAMS[workload.name](options.random)
            return step
        if workload.name in jax_kernels.KERNELS and workload.inputs is not None:
            function = jax.jit(jax_kernels.KERNELS[workload.name])
            there, self._back = jax_kernels.layout(workload.name)
            arrays = [
                jax.device_put(np.ascontiguousarray(array.transpose(axes) if axes else array))
                for array, axes in zip(workload.inputs(), there, strict=False)
            ]
            return lambda: jax.block_until_ready(function(*arrays))
        if workload.name in jax_training.INFERENCE and workload.inputs is not None:
            run, parameters = jax_training.INFERENCE[workload.name]()
            arrays = [jax.device_put(array) for array in workload.inputs()]
            compiled = jax.jit(run)
            return lambda: jax.block_until_ready(compiled(parameters, *arrays))
        if workload.name in jax_training.TRAINING and workload.inputs is not None:
            return self._training(jax_training.TRAINING[workload.name], workload, options)
        raise Unsupported("no JAX version")

    def _training(self, make: Any, workload: Workload, options: Options) -> Callable[[], Any]:
        jax = self.jax
        assert workload.inputs is not None
        update, state = make(options.random)
        arrays = [jax.device_put(array) for array in workload.inputs()]
        compiled = jax.jit(update, donate_argnums=0)
        box = [state]

        def step() -> Any:
            box[0], results = compiled(box[0], *arrays)
            # The state too: the step is not over before the parameters are there.
            jax.block_until_ready(box[0])
            return box[0][0] if results is None else jax.block_until_ready(results)

        return step

    def arrays(self, result: Any) -> list[np.ndarray]:
        """Results as arrays, in PyTorch's layout."""
        arrays = [np.asarray(array) for array in leaves(result)]
        return [array.transpose(self._back) for array in arrays] if self._back else arrays
