"""Deferred capture: what a sync runs, what it keeps alive, and what repeats."""

import _thread
import gc
import threading

import numpy as np
import pytest

import braze
from braze import capture, engine
from braze.ir import ShapeError

pytestmark = pytest.mark.usefixtures("interpret")


def pending():
    return capture.tracer().pending


def test_operations_wait_for_a_read():
    x = braze.tensor([1.0, 2.0])
    y = x * 3.0
    assert y._handle.storage is None
    assert y.tolist() == [3.0, 6.0]
    assert y._handle.storage is not None


def test_only_live_values_reach_memory():
    x = braze.tensor([1.0, 2.0])
    kept = []

    def outputs(graph, **_):
        kept.append([str(value.type) for value in graph.outputs])
        return original(graph)

    original, engine.prepare = engine.prepare, outputs
    try:
        z = ((x + 1.0) * 2.0).sum()
        alive = x * 5.0
        braze.sync()
    finally:
        engine.prepare = original
    assert kept == [["f32[]", "f32[2]"]]
    assert z.item() == 10.0
    assert alive.tolist() == [5.0, 10.0]


def test_a_repeated_iteration_adds_no_states():
    def iteration(x):
        y = (x * 2.0 + 1.0).sum()
        return y.item()

    x = braze.tensor([1.0, 2.0])
    iteration(x)
    iteration(x)
    states = capture.TRIE.states
    graphs = braze.stats.graphs
    assert [iteration(braze.tensor([float(i), 0.0])) for i in range(5)] == [
        2.0 * i + 2 for i in range(5)
    ]
    assert capture.TRIE.states == states
    assert braze.stats.graphs == graphs


def test_a_changing_number_is_the_same_graph():
    x = braze.ones(3)
    braze.sync()
    (x * 0.5).sum().item()
    graphs = braze.stats.graphs
    assert [(x * s).sum().item() for s in (0.25, 1.0, 2.0)] == [0.75, 3.0, 6.0]
    assert braze.stats.graphs == graphs


def test_in_place_updates_keep_their_memory():
    x = braze.tensor([1.0, 2.0])
    address = x.data_ptr()
    x += 1.0
    x.mul_(2.0)
    assert x._handle.storage is None
    assert x.tolist() == [4.0, 6.0]
    assert x.data_ptr() == address


def test_an_old_value_is_still_read_after_an_in_place_update():
    x = braze.tensor([1.0, 2.0])
    before = x * 1.0
    x += 10.0
    after = x * 1.0
    assert before.tolist() == [1.0, 2.0]
    assert after.tolist() == [11.0, 12.0]


def test_numpy_shares_memory_with_the_tensor():
    array = np.array([1.0, 2.0], dtype=np.float32)
    x = braze.from_numpy(array)
    x.add_(1.0)
    braze.sync()
    assert array.tolist() == [2.0, 3.0]
    array[0] = 9.0
    assert (x * 1.0).tolist() == [9.0, 3.0]


def test_read_only_arrays_are_copied():
    array = np.ones(3, dtype=np.float32)
    array.flags.writeable = False
    x = braze.from_numpy(array)
    x.add_(1.0)
    assert x.tolist() == [2.0, 2.0, 2.0]
    assert array.tolist() == [1.0, 1.0, 1.0]


def test_shape_errors_name_the_users_line():
    a, b = braze.ones(3, 4), braze.ones(8, 2)
    with pytest.raises(ShapeError) as caught:
        a @ b  # the line of the error
    text = str(caught.value)
    assert "[matmul] inner sizes differ: f32[3,4] @ f32[8,2] (4 != 8)" in text
    assert "test_capture.py" in text
    assert "a @ b  # the line of the error" in text


def test_a_failed_operation_leaves_the_trace_usable():
    x = braze.ones(2)
    y = x + 1.0
    with pytest.raises(ShapeError):
        x + braze.ones(3)
    assert y.tolist() == [2.0, 2.0]


def test_index_errors_name_the_line_of_this_call():
    x = braze.ones(4)

    def pick(index):
        return x[braze.tensor([index])].sum().item()

    assert pick(3) == 1.0
    with pytest.raises(IndexError, match="out of range"):
        pick(7)
    picked = x[braze.tensor([9])]
    with pytest.raises(IndexError, match="test_capture"):
        picked.tolist()
    with pytest.raises(RuntimeError, match="no value"):
        (picked + 1.0).tolist()


def test_index_errors_name_the_line_where_inputs_were_computed_before():
    computed = [braze.ones(4) * float(i) for i in range(12)]
    braze.sync()
    total = braze.stack(computed).sum(0)
    picked = total[braze.tensor([9])]  # the line to name
    with pytest.raises(IndexError, match="the line to name"):
        picked.tolist()


def test_values_cross_threads():
    x = braze.ones(3) * 2.0
    seen = []

    def worker():
        y = x + 1.0
        seen.append(y.tolist())

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert seen == [[3.0, 3.0, 3.0]]
    assert x.tolist() == [2.0, 2.0, 2.0]


def test_memory_of_others_is_copied_also_beside_another_thread_s_operand():
    array = np.ones(3, np.float32)
    exposed = braze.from_numpy(array)
    x = braze.ones(3)
    braze.sync()
    held = x * 2.0  # this thread's unfinished trace has x
    seen = []

    def worker():
        y = x + exposed
        array[:] = 100.0
        seen.append(y.tolist())

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert seen == [[2.0, 2.0, 2.0]]
    assert held.tolist() == [2.0, 2.0, 2.0]


def test_a_trace_is_run_when_it_reaches_the_limit():
    before = braze.config.trace_limit
    braze.config.trace_limit = 16
    try:
        x = braze.zeros(2)
        for _ in range(100):
            x = x + 1.0
        assert len(pending().handles) <= 17
        assert x.tolist() == [100.0, 100.0]
    finally:
        braze.config.trace_limit = before


def test_eager_mode_runs_each_operation():
    before = braze.config.eager
    braze.config.eager = True
    try:
        x = braze.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2.0
        assert y._handle.storage is not None
        values, indices = y.max(0)
        assert (values.item(), indices.item()) == (4.0, 1)
        (y * y).sum().backward()
        assert x.grad.tolist() == [8.0, 16.0]
        memory = x.data_ptr()
        with braze.no_grad():
            x -= 1.0
        assert x.tolist() == [0.0, 1.0]
        assert x.data_ptr() == memory
    finally:
        braze.config.eager = before


def test_dropped_tensors_free_their_memory():
    x = braze.ones(1000)
    y = x * 2.0
    braze.sync()
    import weakref

    handle = y._handle
    storage = handle.storage
    assert storage is not None
    probe = weakref.ref(y)
    del y
    gc.collect()
    assert probe() is None


def test_a_thread_that_starts_in_a_function_of_the_library():
    x, done = braze.tensor([-1.0, 2.0]), threading.Lock()
    results = []

    def work(tensor):
        results.append(tensor)
        done.release()

    done.acquire()
    _thread.start_new_thread(map(work, map(braze.relu, [x])).__next__, ())
    assert done.acquire(timeout=30)
    assert results[0].tolist() == [0.0, 2.0]
