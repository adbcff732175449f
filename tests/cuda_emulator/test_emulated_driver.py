"""The driver's interface as PyCUDA uses it: memory, copies, streams, events, modules, devices."""

import gc
import threading

import cuda_device
import numpy as np
import pycuda.driver as cuda
import pytest
from cuda_emulator import control
from pycuda.compiler import SourceModule
from pycuda.tools import DeviceMemoryPool, PageLockedMemoryPool

pytestmark = [cuda_device.emulated_only, pytest.mark.usefixtures("context")]

ADD = """
__global__ void add(float* x, float value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += value;
}
"""


def adder():
    function = SourceModule(ADD).get_function("add")
    return function.prepare("Pfi")


def values(pointer, n):
    out = np.empty(n, np.float32)
    cuda.memcpy_dtoh(out, pointer)
    return out


def test_prepared_calls():
    add, x = adder(), cuda.to_device(np.zeros(100, np.float32))
    add.prepared_call((2, 1), (64, 1, 1), x, 1.5, 100)
    add.prepared_async_call((2, 1), (64, 1, 1), None, x, 1, 50)
    np.testing.assert_array_equal(values(x, 100), [2.5] * 50 + [1.5] * 50)
    seconds = add.prepared_timed_call((2, 1), (64, 1, 1), x, 1, 50)()
    assert 0 <= seconds < 10


def test_calls_with_a_wrong_number_of_bytes():
    x = cuda.mem_alloc(400)
    with pytest.raises(cuda.LogicError, match="kernel add takes 16 bytes of parameters, got 24"):
        SourceModule(ADD).get_function("add").prepare("Pdq").prepared_call(
            (1, 1), (1, 1, 1), x, 1, 1
        )


@pytest.mark.parametrize(
    ("grid", "block", "shared", "message"),
    [
        ((1, 1), (1025, 1, 1), 0, "at most 1024 threads"),
        ((1, 1), (32, 33, 1), 0, "at most 1024 threads"),
        ((1, 1), (1, 1, 65), 0, "64 deep"),
        ((1, 65536), (1, 1, 1), 0, "at most 65535 blocks"),
        ((0, 1), (1, 1, 1), 0, "an extent is zero"),
        ((1, 1), (1, 1, 1), 48 * 1024 + 1, "bytes of dynamic shared memory, .* set MAX_DYNAMIC"),
    ],
)
def test_limits_of_a_launch(grid, block, shared, message):
    function = SourceModule("__global__ void k() {}").get_function("k")
    with pytest.raises(cuda.LogicError, match=f"kernel k.*{message}"):
        function(grid=grid, block=block, shared=shared)


def test_more_shared_memory_must_be_asked_for():
    source = "__global__ void k() { extern __shared__ char s[]; s[threadIdx.x] = 1; }"
    function = SourceModule(source).get_function("k")
    attribute = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
    function.set_attribute(attribute, 163 * 1024)
    function(grid=(1, 1), block=(32, 1, 1), shared=163 * 1024)
    with pytest.raises(cuda.LogicError, match="where a block may have 166912"):
        function.set_attribute(attribute, 163 * 1024 + 1)
    with control.options(ARCHITECTURE=90):
        function.set_attribute(attribute, 227 * 1024)


def test_launch_bounds():
    source = "__global__ void __launch_bounds__(64) k() {}"
    function = SourceModule(source).get_function("k")
    assert function.max_threads_per_block == 64
    with pytest.raises(cuda.LaunchError, match="__launch_bounds__ allows 64 threads"):
        function(grid=(1, 1), block=(65, 1, 1))


def test_what_a_function_says_of_itself():
    source = "__global__ void k(float* x) { __shared__ float s[10]; s[(int)*x] = 1; *x = s[2]; }"
    function = SourceModule(source).get_function("k")
    assert function.shared_size_bytes == 40


def test_functions_and_variables_of_a_module():
    module = SourceModule(
        "__constant__ float c[4]; __device__ int n = 7;\n"
        "__global__ void k(float* x) { x[threadIdx.x] = c[threadIdx.x] + n; }"
    )
    with pytest.raises(cuda.LogicError, match="no kernel other; there are: k"):
        module.get_function("other")
    address, size = module.get_global("c")
    assert size == 16
    cuda.memcpy_htod(address, np.arange(4, dtype=np.float32))
    out = np.zeros(4, np.float32)
    module.get_function("k")(cuda.Out(out), block=(4, 1, 1), grid=(1, 1))
    np.testing.assert_array_equal(out, [7, 8, 9, 10])
    n = np.zeros(1, np.int32)
    cuda.memcpy_dtoh(n, module.get_global("n")[0])
    assert n[0] == 7


def test_a_module_of_the_real_compiler_is_refused():
    with pytest.raises(cuda.LogicError, match="was another nvcc first on the PATH"):
        cuda.module_from_buffer(b"\x7fELF" + bytes(100))


def test_copies_and_fills():
    x = cuda.mem_alloc(64)
    cuda.memset_d32(x, 0x3F800000, 16)
    cuda.memset_d8(int(x) + 4, 0, 4)
    y = cuda.mem_alloc(64)
    cuda.memcpy_dtod(y, x, 64)
    np.testing.assert_array_equal(values(y, 3), [1, 0, 1])
    for call in (
        lambda: cuda.memcpy_htod(int(x) + 1, np.zeros(16, np.float32)),
        lambda: cuda.memcpy_dtoh(np.zeros(17, np.float32), x),
        lambda: cuda.memset_d8(int(x) + 60, 0, 5),
        lambda: cuda.memcpy_dtod(y, int(x) + 60, 8),
    ):
        with pytest.raises(cuda.LogicError, match="reaches byte 0 past the end of allocation"):
            call()


def test_copies_keep_what_nobody_wrote():
    x, y = cuda.mem_alloc(64), cuda.mem_alloc(64)
    cuda.memcpy_dtod(y, x, 64)
    with pytest.raises(cuda.LogicError, match="a copy to the host of what nobody wrote: byte 0"):
        values(y, 16)
    with control.options(UNWRITTEN=1):
        assert np.isnan(values(y, 16)).all()


def test_copies_of_rows():
    source = np.arange(24, dtype=np.float32).reshape(4, 6)
    x = cuda.mem_alloc(source.nbytes)
    cuda.memcpy_htod(x, source)
    target = np.zeros((3, 2), np.float32)
    copy = cuda.Memcpy2D()
    copy.set_src_device(x)
    copy.set_dst_host(target)
    copy.src_pitch, copy.dst_pitch = 24, 8
    copy.src_x_in_bytes, copy.src_y = 8, 1
    copy.width_in_bytes, copy.height = 8, 3
    copy(aligned=False)
    np.testing.assert_array_equal(target, source[1:4, 2:4])


def test_the_last_byte_is_the_end():
    x = cuda.mem_alloc(10)
    cuda.memset_d8(x, 1, 10)
    with pytest.raises(cuda.LogicError):
        cuda.memset_d8(x, 1, 11)


def test_frees():
    x = cuda.mem_alloc(10)
    address = int(x)
    x.free()
    with pytest.raises(cuda.LogicError, match="byte 0 of allocation .* which was freed"):
        cuda.memset_d8(address, 1, 1)
    assert int(cuda.mem_alloc(10)) != address


def test_allocations_are_told():
    gc.collect()
    before = control.allocations()
    x = cuda.mem_alloc(1234)
    (new,) = set(control.allocations()) - set(before)
    assert (new.device, new.bytes) == (0, 1234)
    x.free()
    assert control.allocations() == before


def test_out_of_memory():
    gc.collect()
    free, total = cuda.mem_get_info()
    assert free <= total
    used = total - free
    with control.options(MEMORY=used + 1000):
        x = cuda.mem_alloc(800)
        with pytest.raises(cuda.MemoryError, match="300 bytes asked for"):
            cuda.mem_alloc(300)
        x.free()
        cuda.mem_alloc(900).free()


def test_pools():
    gc.collect()
    pool = DeviceMemoryPool()
    before = len(control.allocations())
    x = pool.allocate(1000)
    assert pool.active_bytes >= 1000
    address = int(x)
    del x
    assert pool.active_bytes == 0 and len(control.allocations()) == before + 1
    assert int(pool.allocate(1000)) == address
    pool.free_held()
    assert len(control.allocations()) == before
    host = PageLockedMemoryPool().allocate((16,), np.float32)
    host[:] = 3
    device = cuda.to_device(host)
    np.testing.assert_array_equal(values(device, 16), host)


def test_streams_keep_order():
    add, x = adder(), cuda.to_device(np.zeros(4, np.float32))
    stream, event = cuda.Stream(), cuda.Event()
    add.prepared_async_call((1, 1), (4, 1, 1), stream, x, 1, 4)
    event.record(stream)
    event.synchronize()
    assert event.query() and stream.is_done()
    later = cuda.Event()
    later.record(stream)
    later.synchronize()
    assert later.time_since(event) >= 0
    assert values(x, 1) == 1


def lazily_added(wait):
    """What the host sees of an asynchronous sum after `wait(stream, event)`."""
    add, x = adder(), cuda.to_device(np.zeros(4, np.float32))
    out = cuda.pagelocked_zeros(4, np.float32)
    stream, event = cuda.Stream(), cuda.Event()
    with control.options(LAZY=1):
        add.prepared_async_call((1, 1), (4, 1, 1), stream, x, 1, 4)
        cuda.memcpy_dtoh_async(out, x, stream)
        event.record(stream)
        wait(stream, event)
        return out.copy()


def test_lazy_streams_show_a_missing_wait():
    assert (lazily_added(lambda stream, event: None) == 0).all()
    assert (lazily_added(lambda stream, event: stream.synchronize()) == 1).all()
    assert (lazily_added(lambda stream, event: event.synchronize()) == 1).all()
    assert (lazily_added(lambda stream, event: cuda.Context.synchronize()) == 1).all()

    def polled(stream, event):
        assert not event.query()
        while not event.query():
            pass

    assert (lazily_added(polled) == 1).all()


def test_lazy_streams_show_a_host_array_that_changed():
    x = cuda.mem_alloc(16)
    host = cuda.pagelocked_zeros(4, np.float32)
    pageable = np.zeros(4, np.float32)
    stream = cuda.Stream()
    with control.options(LAZY=1):
        for array, seen in ((host, 5), (pageable, 0)):
            array[:] = 0
            cuda.memcpy_htod_async(x, array, stream)
            array[:] = 5
            stream.synchronize()
            assert (values(x, 4) == seen).all()


def test_lazy_streams_show_a_missing_event():
    add, x = adder(), cuda.to_device(np.zeros(4, np.float32))
    non_blocking = 1
    first, second = cuda.Stream(non_blocking), cuda.Stream(non_blocking)
    out = cuda.pagelocked_zeros(4, np.float32)
    for waits, seen in ((False, 0), (True, 2)):
        with control.options(LAZY=1):
            event = cuda.Event()
            add.prepared_async_call((1, 1), (4, 1, 1), first, x, 1, 4)
            event.record(first)
            if waits:
                second.wait_for_event(event)
            cuda.memcpy_dtoh_async(out, x, second)
            second.synchronize()
            assert (out == seen).all()
            first.synchronize()


def test_a_lazy_kernels_fault_rises_where_it_is_waited_for():
    stream, add, x = cuda.Stream(), adder(), cuda.mem_alloc(16)
    with control.options(LAZY=1):
        add.prepared_async_call((1, 1), (8, 1, 1), stream, x, 1, 8)
        with pytest.raises(cuda.LogicError, match="cuStreamSynchronize failed.*kernel add"):
            stream.synchronize()
        stream.synchronize()


def test_the_default_stream_waits_for_others():
    add, x = adder(), cuda.to_device(np.zeros(4, np.float32))
    with control.options(LAZY=1):
        add.prepared_async_call((1, 1), (4, 1, 1), cuda.Stream(), x, 1, 4)
        add.prepared_async_call((1, 1), (4, 1, 1), None, x, 1, 4)
        assert (values(x, 4) == 2).all()


def test_counts():
    add, x = adder(), cuda.mem_alloc(16)
    with control.counted() as counts:
        cuda.memcpy_htod(x, np.zeros(4, np.float32))
        add.prepared_call((1, 1), (4, 1, 1), x, 1, 4)
        add.prepared_call((1, 1), (4, 1, 1), x, 1, 4)
        values(x, 4)
    assert counts["launches"] == 2
    assert counts["copies to devices"] == counts["copies to the host"] == 1
    assert counts["bytes copied"] == 32


def order_of_execution(order):
    """For each of 4 blocks of 64 threads, the how-manieth it was to reach a counter."""
    source = """__device__ int count;
    __global__ void k(int* out) {
        out[blockIdx.x * 64 + threadIdx.x] = atomicAdd(&count, 1);
    }"""
    out = np.zeros((4, 64), np.int32)
    with control.options(ORDER=order):
        SourceModule(source).get_function("k")(cuda.Out(out), grid=(4, 1), block=(64, 1, 1))
    return out


def test_the_order_of_threads_and_blocks():
    np.testing.assert_array_equal(order_of_execution("forward").ravel(), np.arange(256))
    np.testing.assert_array_equal(order_of_execution("reverse").ravel(), np.arange(256)[::-1])
    random = order_of_execution("random:1")
    np.testing.assert_array_equal(random, order_of_execution("random:1"))
    assert (random != order_of_execution("random:2")).any()
    # Blocks run one after the other, in any order, and so do their threads.
    assert sorted(random.ravel()) == list(range(256))
    assert len(set(random[0] // 64)) == 1 and (np.diff(random[0]) < 0).any()


def test_options_that_do_not_exist():
    with (
        pytest.raises(ValueError, match="no option ORDER=sideways"),
        control.options(ORDER="sideways"),
    ):
        pass


def test_several_devices():
    assert cuda.Device.count() == 3
    contexts = [cuda.Device(i).retain_primary_context() for i in (1, 2)]
    pointers = []
    for context in contexts:
        context.push()
        pointers.append(cuda.to_device(np.full(4, len(pointers), np.float32)))
        cuda.Context.pop()
    assert [a.device for a in control.allocations()[-2:]] == [1, 2]
    contexts[0].push()
    add = adder()
    add.prepared_call((1, 1), (4, 1, 1), pointers[0], 1, 4)
    with pytest.raises(cuda.LogicError, match="another device's memory without peer access"):
        add.prepared_call((1, 1), (4, 1, 1), pointers[1], 1, 4)
    cuda.memcpy_peer(pointers[1], pointers[0], 16, contexts[1], contexts[0])
    contexts[0].enable_peer_access(contexts[1])
    add.prepared_call((1, 1), (4, 1, 1), pointers[1], 1, 4)
    contexts[0].disable_peer_access(contexts[1])
    cuda.Context.pop()
    contexts[1].push()
    assert (values(pointers[1], 4) == 2).all()
    with pytest.raises(cuda.LogicError, match="kernel add was loaded on another device"):
        add.prepared_call((1, 1), (4, 1, 1), pointers[1], 1, 4)
    del pointers
    cuda.Context.pop()


def test_threads_of_the_host():
    """Several threads launch at once, each with the context current."""
    primary = cuda.Device(0).retain_primary_context()
    address = np.intp(int(x := cuda.to_device(np.zeros(256, np.float32))))
    source = """__global__ void k(float* x) {
        __shared__ float s[256];
        s[threadIdx.x] = 1; __syncthreads();
        x[threadIdx.x] += s[255 - threadIdx.x];
    }"""
    function = SourceModule(source).get_function("k")
    faults = []

    def work():
        try:
            primary.push()
            for _ in range(20):
                function(address, block=(256, 1, 1), grid=(1, 1))
            cuda.Context.pop()
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert (values(x, 256) == 80).all()


def test_device_attributes():
    device = cuda.Device(0)
    assert device.compute_capability() == (8, 0)
    attributes = device.get_attributes()
    assert attributes[cuda.device_attribute.WARP_SIZE] == 32
    assert attributes[cuda.device_attribute.MAX_THREADS_PER_BLOCK] == 1024
    assert device.total_memory() == cuda.mem_get_info()[1]


def test_arrays_of_pycuda():
    from pycuda import cumath, gpuarray

    x = gpuarray.to_gpu(np.linspace(0, 1, 1000).astype(np.float32))
    y = 2 * x + cumath.exp(x)
    expected = 2 * x.get() + np.exp(x.get())
    np.testing.assert_allclose(y.get(), expected, rtol=1e-6)
    # Its sums rely on the lanes of a warp running in step, which they need not since Volta.
    with pytest.raises(cuda.LaunchError, match="kernel reduce_kernel_stage1.*race: writes what"):
        gpuarray.sum(y)


def test_what_is_not_emulated_says_so():
    with pytest.raises(cuda.Error, match="operation not supported: cuTexRefCreate is not emulated"):
        cuda.TextureReference()


@pytest.mark.parametrize("own, made_for", [(80, 90), (80, 75), (80, 86), (120, 90)])
def test_machine_code_for_another_architecture_is_refused(own, made_for):
    with control.options(ARCHITECTURE=own):
        said = f"no kernel image is available .*for sm_{made_for}, this GPU is sm_{own}"
        with pytest.raises(cuda.Error, match=said):
            SourceModule("__global__ void k() {}", arch=f"sm_{made_for}")


@pytest.mark.parametrize("own, made_for", [(80, 80), (86, 80), (121, 120)])
def test_machine_code_runs_on_later_ones_of_its_major_number(own, made_for):
    with control.options(ARCHITECTURE=own):
        module = SourceModule("__global__ void k() {}", arch=f"sm_{made_for}")
        module.get_function("k")(block=(32, 1, 1), grid=(1, 1))
