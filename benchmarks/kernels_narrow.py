"""Products and convolutions on tensor cores: of 16-bit floats, and of f32 rounded to TF32.

They are measured on GPUs only, as processors multiply in f32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.programs import Array, Call, Library, Loop, normal
from benchmarks.suite import Cost, Workload

DTYPES = {"f16": "float16", "bf16": "bfloat16", "tf32": "float32"}
Function = Callable[..., Any]


def narrow(
    name: str,
    about: str,
    kind: str,
    function: Function,
    inputs: Callable[[], list[Array]],
    cost: Cost,
    bars: tuple[str, ...] = (),
    images: bool = False,
) -> Workload:
    """A workload that calls ``function(library, *tensors)``.

    Args:
        kind: a key of `DTYPES`: what the tensors are, or are rounded to in products.
    """

    def make(library: Library) -> Call | Loop:
        T = library.T
        tensors = [library.tensor(array).to(getattr(T, DTYPES[kind])) for array in inputs()]

        def call(*arguments: Any) -> Any:
            return function(library, *arguments)

        if kind != "tf32":
            return Call(call, tensors)
        compiled = library.compile(call)

        def step() -> Any:
            before = T.get_float32_matmul_precision()
            T.set_float32_matmul_precision("high")
            try:
                with T.no_grad():
                    result = compiled(*tensors)
                result.data_ptr()  # what is captured is computed as is set now
            finally:
                T.set_float32_matmul_precision(before)
            return result

        return Loop(step)

    return Workload(
        name, "kernels", f"{about}, {kind}", make, inputs, cost, bars, images, on_gpus=True
    )


def product(kind: str, rows: int, inner: int, columns: int, bars: tuple[str, ...] = ()) -> Workload:
    """A product of two matrices."""
    shapes = (rows, inner), (inner, columns)
    size = 4 if kind == "tf32" else 2
    cost = Cost(
        flops=2.0 * rows * inner * columns,
        arithmetic=kind,
        read=float(size * (rows * inner + inner * columns)),
        written=float(size * rows * columns),
    )
    sizes = f"{rows}" if rows == inner == columns else f"{rows}x{inner}x{columns}"
    return narrow(
        f"gemm.{kind}_{sizes}",
        f"[{rows},{inner}] @ [{inner},{columns}]",
        kind,
        lambda library, a, b: library.T.matmul(a, b),
        lambda: [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)],
        cost,
        bars,
    )


def convolution(kind: str, which: str, batch: int, channels: int, size: int) -> Workload:
    """A 3x3 convolution of as many channels as it makes, or a gradient of it.

    Args:
        which: "forward", or the gradient for the "data" or the "weights".
    """
    x, w = (batch, channels, size, size), (channels, channels, 3, 3)
    options = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    nbytes = 4 if kind == "tf32" else 2
    images, taps = float(np.prod(x)), float(np.prod(w))
    read = images + taps if which != "weights" else 2 * images
    written = taps if which == "weights" else images

    def function(library: Library, *given: Any) -> Any:
        if which == "forward":
            return library.T.nn.functional.conv2d(*given, **options)
        return library.conv_gradient(which, *given, options)

    shapes = [x, w] if which == "forward" else [x, w, x]
    return narrow(
        f"conv3x3_{channels}.{kind}_{which}",
        f"3x3, {batch} x {channels} x {size} x {size}, {which}",
        kind,
        function,
        lambda: [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)],
        Cost(2.0 * images * taps / channels, kind, nbytes * read, nbytes * written),
        images=True,
    )


WORKLOADS = [
    *(product(kind, 4096, 4096, 4096, ("gemm",)) for kind in DTYPES),
    *(product(kind, 16, 4096, 4096) for kind in ("f16", "bf16")),
    *(
        convolution(kind, which, 32, 128, 56)
        for kind in DTYPES
        for which in ("forward", "data", "weights")
    ),
]
