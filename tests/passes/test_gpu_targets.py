"""What passes leave to the code generator of GPUs, and what they do otherwise for them."""

import braze.ir as ir
from braze.ir.loops import Contraction, Loop, Nest, Reduce
from braze.ir.target import named_target
from braze.passes import compile_graph

GPU, CPU = named_target("sm_80"), named_target("x86-64-v3")


def kernels_of(graph, target=GPU):
    return [*compile_graph(graph, target)[0].kernels()]


def loops_of(statements):
    for statement in statements:
        if isinstance(statement, Loop):
            yield statement.kind, statement.chunks
            yield from loops_of(statement.body)
        elif isinstance(statement, Reduce):
            yield from ((kind, 1) for _, kind in statement.loops)


def test_loops_are_neither_vectors_nor_cut_into_chunks():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (2000, 3000)))
    graph = b.finish([b.softmax(x, dim=1), b.relu(x)])
    for target in (GPU, CPU):
        kernels = kernels_of(graph, target)
        assert all(isinstance(kernel, Nest) for kernel in kernels)
        plain = {loop for kernel in kernels for loop in loops_of(kernel.body)} == {("serial", 1)}
        assert plain == target.is_gpu


def test_no_border_of_a_convolution_is_in_memory():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (2, 16, 8, 8)))
    w = b.input(ir.tensor_type(ir.f32, (32, 16, 3, 3)))
    settings = dict.fromkeys(("stride", "padding", "dilation"), (1, 1))
    graph = b.finish([b.conv_no_bias(x, w, **settings, groups=1)])
    (kernel,) = kernels_of(graph)
    assert isinstance(kernel, Contraction) and len(kernel.lhs.guard) == 2
    assert len(kernels_of(graph, CPU)) > 1


def test_long_sums_are_cut_into_more_parts_and_products_are_not():
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(ir.f32, (1 << 22,)))
    total = b.sum(x, dims=(0,), keepdim=False)
    first, second = kernels_of(b.finish([total]))
    assert {512} == {buffer.numel for buffer in first.buffers if buffer.access == "out"}
    assert second.buffers[-1].numel == 1
    b = ir.Builder("g")
    y = b.input(ir.tensor_type(ir.f32, (16, 1 << 16)))
    graph = b.finish([b.contract(y, y, equation="mk,nk->mn")])
    assert len(kernels_of(graph)) == 1 and len(kernels_of(graph, CPU)) == 2
