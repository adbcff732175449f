"""Fixtures of the emulator's own tests: a context, and kernels from their source."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest


@pytest.fixture
def context() -> Iterator[object]:
    """The first device's primary context, current for the test."""
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield context
    cuda.Context.pop()


@pytest.fixture
def launch(context: object) -> Callable[..., None]:
    """launch(source, *arguments, grid=1, block=32, shared=0) runs the kernel `k` of the source.

    Arrays are copied to the device and back; an array given as a tuple of one is only allocated
    there, so that nobody wrote it, and copied back.
    """
    import pycuda.driver as cuda
    from pycuda.compiler import SourceModule

    def run(source, *arguments, grid=1, block=32, shared=0):
        function = SourceModule(source, no_extern_c=True).get_function("k")
        if shared > 48 * 1024:
            attribute = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(attribute, shared)
        given = [
            cuda.Out(a[0]) if isinstance(a, tuple) else cuda.InOut(a) if np.ndim(a) else a
            for a in arguments
        ]
        shape = (block, 1, 1) if isinstance(block, int) else block
        blocks = (grid, 1) if isinstance(grid, int) else grid
        function(*given, block=shape, grid=blocks, shared=shared)

    return run
