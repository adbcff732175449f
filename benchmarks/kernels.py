"""Kernels: single operations and short chains, with what they cost at least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.programs import Array, Call, Library, Loop, distinct, integers, normal
from benchmarks.suite import Cost, Workload

Inputs = Callable[[], list[Array]]


def kernel(
    name: str,
    about: str,
    function: Callable[..., Any],
    inputs: Inputs,
    cost: Cost,
    bars: tuple[str, ...] = (),
    wrt: tuple[int, ...] = (),
    images: bool = False,
) -> Workload:
    """A workload that calls ``function(library, *tensors)``.

    With `wrt` it is that function's forward pass and the gradients for these arguments; the last of
    the inputs is the result's gradient.
    """

    def make(library: Library) -> Call:
        tensors = [library.tensor(array) for array in inputs()]
        cotangent = tensors.pop() if wrt else None
        for place in wrt:
            tensors[place] = tensors[place].requires_grad_(True)

        def call(*arguments: Any) -> Any:
            return function(library, *arguments)

        return Call(call, tensors, wrt, cotangent)

    return Workload(name, "kernels", about, make, inputs, cost, bars, images)


def _bytes(*shapes: tuple[int, ...], size: int = 4) -> float:
    return float(sum(size * np.prod(shape, dtype=np.int64) for shape in shapes))


def _matmul(library: Library, a: Any, b: Any) -> Any:
    return library.T.matmul(a, b)


def _product(
    name: str, left: tuple[int, ...], right: tuple[int, ...], dtype: str, bars: tuple[str, ...] = ()
) -> Workload:
    array = np.float32 if dtype == "f32" else np.float64
    size = 4 if dtype == "f32" else 8
    result = (*left[:-1], *right[-1:]) if len(right) > 1 else left[:-1]
    cost = Cost(
        flops=2.0 * float(np.prod(result)) * left[-1],
        arithmetic=dtype,
        read=_bytes(left, right, size=size),
        written=_bytes(result, size=size),
    )
    shapes = f"{list(left)} @ {list(right)}".replace(" ", "").replace("@", " @ ")
    return kernel(
        name,
        f"{shapes}, {dtype}",
        _matmul,
        lambda: [normal(*left, dtype=array), normal(*right, dtype=array, seed=1)],
        cost,
        bars,
    )


PRODUCTS = [
    _product("gemm.256", (256, 256), (256, 256), "f32"),
    _product("gemm.512", (512, 512), (512, 512), "f32"),
    _product("gemm.1024", (1024, 1024), (1024, 1024), "f32", ("gemm",)),
    _product("gemm.2048", (2048, 2048), (2048, 2048), "f32", ("gemm",)),
    _product("gemm.f64_1024", (1024, 1024), (1024, 1024), "f64"),
    _product("gemm.few_rows", (16, 2048), (2048, 2048), "f32"),
    _product("gemm.few_columns", (2048, 2048), (2048, 16), "f32"),
    _product("gemm.short_inner", (2048, 16), (16, 2048), "f32"),
    _product("gemm.long_inner", (64, 16384), (16384, 64), "f32"),
    _product("gemm.f64_few_rows", (16, 2048), (2048, 2048), "f64"),
    _product("gemv.matrix_vector", (4096, 4096), (4096,), "f32"),
    _product("gemv.vector_matrix", (1, 4096), (4096, 4096), "f32"),
    _product("gemv.f64", (2048, 2048), (2048,), "f64"),
    _product("gemm.batched_64x128", (64, 128, 128), (64, 128, 128), "f32"),
    _product("gemm.batched_1024x32", (1024, 32, 32), (1024, 32, 32), "f32"),
]


def _linear_gelu(library: Library, x: Any, w: Any, b: Any) -> Any:
    functional = library.T.nn.functional
    return functional.gelu(functional.linear(x, w, b))


def _chain(library: Library, x: Any, y: Any) -> Any:
    T = library.T
    z = T.tanh(x * 0.5 + y)
    z = z * z + x
    z = T.exp(z * -0.25) - y
    z = T.sigmoid(z) * x
    return T.relu(z + 0.125) * 1.5


def _softmax(library: Library, x: Any) -> Any:
    return library.T.nn.functional.softmax(x, dim=-1)


def _layer_norm(library: Library, x: Any, w: Any, b: Any) -> Any:
    return library.T.nn.functional.layer_norm(x, (x.shape[-1],), w, b)


def _batch_norm(training: bool) -> Callable[..., Any]:
    def run(library: Library, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if training:
            return library.T.nn.functional.batch_norm(x, None, None, w, b, True)
        return library.T.nn.functional.batch_norm(x, mean, var, w, b, False)

    return run


def _sum(axis: int | None) -> Callable[..., Any]:
    def run(library: Library, x: Any) -> Any:
        return x.sum() if axis is None else x.sum(axis)

    return run


def _argmax(library: Library, x: Any) -> Any:
    return x.argmax(-1)


def _embedding(library: Library, table: Any, indices: Any) -> Any:
    return library.T.nn.functional.embedding(indices, table)


def _attention(causal: bool) -> Callable[..., Any]:
    def run(library: Library, q: Any, k: Any, v: Any) -> Any:
        functional = library.T.nn.functional
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return run


def _sort(library: Library, x: Any) -> Any:
    return library.T.sort(x, -1)


def _cumsum(axis: int) -> Callable[..., Any]:
    def run(library: Library, x: Any) -> Any:
        return x.cumsum(axis)

    return run


def _max_pool(library: Library, x: Any) -> Any:
    return library.T.nn.functional.max_pool2d(x, 3, 2, 1)


def _avg_pool(library: Library, x: Any) -> Any:
    return library.T.nn.functional.avg_pool2d(x, 2)


def adam_inputs() -> list[Array]:
    """Sixty parameters of three sizes and their gradients, 16 M numbers each."""
    shapes = [(512, 512), (1024, 512), (64,)] * 20
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    return [*arrays, *(normal(*shape, seed=100 + i) for i, shape in enumerate(shapes))]


def _adam(library: Library) -> Loop:
    T, arrays = library.T, adam_inputs()
    half = len(arrays) // 2
    parameters = [T.nn.Parameter(library.tensor(a)) for a in arrays[:half]]
    gradients = [library.tensor(g) for g in arrays[half:]]
    optimizer = T.optim.Adam(parameters, lr=1e-3)

    def step() -> Any:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return [parameter.detach() for parameter in parameters]

    return Loop(step)


_ADAM_BYTES = 4.0 * 20 * (512 * 512 + 1024 * 512 + 64)
ROWS, PLANE, CUBE = (4096, 4096), (8192, 1024), (256, 256, 256)
IMAGE, HEADS = (8, 64, 112, 112), (4, 8, 512, 64)
POOLED, HALVED = (8, 64, 56, 56), (8, 64, 56, 56)
NORMED, CHANNELS = (8, 64, 56, 56), (64,)
TABLE, LOOKED_UP = (50_000, 256), 8192
_ATTENTION_FLOPS = 4.0 * 4 * 8 * 512 * 512 * 64
_MEMORY = ("memory",)


def _norm_inputs() -> list[Array]:
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    return [normal(*NORMED), normal(64, seed=1), normal(64, seed=2), zeros, ones]


def _rows_inputs() -> list[Array]:
    return [normal(*PLANE), normal(PLANE[1], seed=1), normal(PLANE[1], seed=2)]


def _head_inputs() -> list[Array]:
    return [normal(*HEADS, seed=i) for i in range(3)]


def _table_inputs() -> list[Array]:
    return [normal(*TABLE), integers(TABLE[0], LOOKED_UP)]


def _with_gradient(inputs: Inputs, *shape: int) -> Inputs:
    return lambda: [*inputs(), normal(*shape, seed=9)]


WORKLOADS = [
    *PRODUCTS,
    kernel(
        "gemm.bias_gelu",
        "[4096,1024] @ [1024,1024] + bias, GELU",
        _linear_gelu,
        lambda: [normal(4096, 1024), normal(1024, 1024, seed=1), normal(1024, seed=2)],
        Cost(
            flops=2.0 * 4096 * 1024 * 1024,
            read=_bytes((4096, 1024), (1024, 1024)),
            written=_bytes((4096, 1024)),
        ),
    ),
    kernel(
        "elementwise.chain",
        "12 operations on 16 M numbers, two inputs",
        _chain,
        lambda: [normal(*ROWS), normal(*ROWS, seed=1)],
        Cost(read=_bytes(ROWS, ROWS), written=_bytes(ROWS)),
        _MEMORY,
    ),
    kernel(
        "softmax.forward",
        "[4096,4096] over the last dimension",
        _softmax,
        lambda: [normal(*ROWS)],
        Cost(read=_bytes(ROWS), written=_bytes(ROWS)),
        _MEMORY,
    ),
    kernel(
        "softmax.backward",
        "the same with its gradient",
        _softmax,
        _with_gradient(lambda: [normal(*ROWS)], *ROWS),
        Cost(read=_bytes(ROWS, ROWS), written=_bytes(ROWS)),
        wrt=(0,),
    ),
    kernel(
        "layer_norm.forward",
        "[8192,1024] with weight and bias",
        _layer_norm,
        _rows_inputs,
        Cost(read=_bytes(PLANE), written=_bytes(PLANE)),
        _MEMORY,
    ),
    kernel(
        "layer_norm.backward",
        "the same with its three gradients",
        _layer_norm,
        _with_gradient(_rows_inputs, *PLANE),
        Cost(read=_bytes(PLANE, PLANE), written=_bytes(PLANE)),
        wrt=(0, 1, 2),
    ),
    kernel(
        "batch_norm.inference",
        "[8,64,56,56] with running statistics",
        _batch_norm(False),
        _norm_inputs,
        Cost(read=_bytes(NORMED), written=_bytes(NORMED)),
        _MEMORY,
        images=True,
    ),
    kernel(
        "batch_norm.training",
        "[8,64,56,56] with the batch's statistics",
        _batch_norm(True),
        _norm_inputs,
        Cost(read=_bytes(NORMED), written=_bytes(NORMED)),
        images=True,
    ),
    kernel(
        "batch_norm.backward",
        "the same with its three gradients",
        _batch_norm(True),
        _with_gradient(_norm_inputs, *NORMED),
        Cost(read=_bytes(NORMED, NORMED), written=_bytes(NORMED)),
        wrt=(0, 1, 2),
        images=True,
    ),
    *(
        kernel(
            f"sum.{label}",
            f"[256,256,256] over {'everything' if axis is None else f'dimension {axis}'}",
            _sum(axis),
            lambda: [normal(*CUBE)],
            Cost(read=_bytes(CUBE), written=4.0 if axis is None else 4.0 * 256 * 256),
            _MEMORY,
        )
        for label, axis in (("first", 0), ("middle", 1), ("last", 2), ("all", None))
    ),
    kernel(
        "argmax.last",
        "[4096,4096] over the last dimension",
        _argmax,
        lambda: [normal(*ROWS)],
        Cost(read=_bytes(ROWS), written=8.0 * 4096),
        _MEMORY,
    ),
    kernel(
        "max_pool.forward",
        "[8,64,112,112], 3 x 3, stride 2, padding 1",
        _max_pool,
        lambda: [normal(*IMAGE)],
        Cost(read=_bytes(IMAGE), written=_bytes(POOLED)),
        images=True,
    ),
    kernel(
        "max_pool.backward",
        "the same with its gradient",
        _max_pool,
        _with_gradient(lambda: [normal(*IMAGE)], *POOLED),
        Cost(read=_bytes(IMAGE, POOLED), written=_bytes(IMAGE)),
        wrt=(0,),
        images=True,
    ),
    kernel(
        "avg_pool.forward",
        "[8,64,112,112], 2 x 2",
        _avg_pool,
        lambda: [normal(*IMAGE)],
        Cost(read=_bytes(IMAGE), written=_bytes(HALVED)),
        images=True,
    ),
    kernel(
        "embedding.forward",
        "8192 rows of [50000,256]",
        _embedding,
        _table_inputs,
        Cost(read=4.0 * LOOKED_UP * 256, written=4.0 * LOOKED_UP * 256),
    ),
    kernel(
        "embedding.backward",
        "the same with the table's dense gradient",
        _embedding,
        _with_gradient(_table_inputs, LOOKED_UP, 256),
        Cost(read=4.0 * LOOKED_UP * 256, written=_bytes(TABLE)),
        wrt=(0,),
    ),
    kernel(
        "attention.forward",
        "4 batches, 8 heads, 512 positions, 64 numbers each",
        _attention(False),
        _head_inputs,
        Cost(flops=_ATTENTION_FLOPS, read=_bytes(HEADS) * 3, written=_bytes(HEADS)),
    ),
    kernel(
        "attention.causal",
        "the same, each position seeing those before it",
        _attention(True),
        _head_inputs,
        Cost(flops=_ATTENTION_FLOPS / 2, read=_bytes(HEADS) * 3, written=_bytes(HEADS)),
    ),
    kernel(
        "attention.backward",
        "attention with its three gradients",
        _attention(False),
        _with_gradient(_head_inputs, *HEADS),
        Cost(flops=3 * _ATTENTION_FLOPS, read=_bytes(HEADS) * 4, written=_bytes(HEADS) * 3),
        wrt=(0, 1, 2),
    ),
    kernel(
        "sort.long",
        "1 M numbers, values and places",
        _sort,
        lambda: [distinct(1 << 20)],
        Cost(read=4.0 * (1 << 20), written=12.0 * (1 << 20)),
    ),
    kernel(
        "sort.rows",
        "[4096,256] along rows, values and places",
        _sort,
        lambda: [distinct(4096, 256)],
        Cost(read=4.0 * (1 << 20), written=12.0 * (1 << 20)),
    ),
    kernel(
        "cumsum.long",
        "16 M numbers",
        _cumsum(0),
        lambda: [normal(1 << 24)],
        Cost(read=4.0 * (1 << 24), written=4.0 * (1 << 24)),
    ),
    kernel(
        "cumsum.rows",
        "[4096,4096] along rows",
        _cumsum(1),
        lambda: [normal(*ROWS)],
        Cost(read=_bytes(ROWS), written=_bytes(ROWS)),
    ),
    kernel(
        "cumsum.columns",
        "[4096,4096] along columns",
        _cumsum(0),
        lambda: [normal(*ROWS)],
        Cost(read=_bytes(ROWS), written=_bytes(ROWS)),
    ),
    Workload(
        "optimizer.adam",
        "kernels",
        "Adam on 60 parameters, 16 M numbers together",
        _adam,
        adam_inputs,
        Cost(read=4 * _ADAM_BYTES, written=3 * _ADAM_BYTES),
        _MEMORY,
    ),
]
