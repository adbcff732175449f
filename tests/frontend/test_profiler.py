"""The profiler: events, their averages, the table, the trace file, and no trace of it when off."""

import json

import pytest

import braze
from braze.autograd import profiler
from braze.engine import observing


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield request.param
        braze.sync()


def work():
    x = braze.ones(8, 4, requires_grad=True)
    x.exp().sum().backward()  # the line to name
    return x.grad.tolist()


def by_key(prof, **options):
    return {average.key: average for average in prof.key_averages(**options)}


def test_graphs_ranges_and_operations(tier):
    with profiler.profile() as prof:
        for _ in range(2):
            with profiler.record_function("step"):
                work()
    found = by_key(prof)
    run = found["run compiled graph" if tier == "compile" else "interpret graph"]
    assert run.count == 2
    assert 0.0 < run.cpu_time_total <= found["step"].cpu_time_total
    assert found["step"].count == 2
    assert found["step"].self_cpu_time_total < found["step"].cpu_time_total
    assert found["exp"].count == 2
    assert not found["exp"].timed
    assert found["exp"].cpu_time_total == 0.0
    assert "test_profiler.py:" in found["exp"].source
    (line,) = found["exp"].locations
    number = int(line.rpartition(":")[2])
    with open(__file__) as file:
        assert "the line to name" in file.readlines()[number - 1]
    total = prof.total_average()
    assert total.count == len(prof.function_events)
    assert total.cpu_time_total == pytest.approx(prof.self_cpu_time_total)
    outermost = sum(e.cpu_time_total for e in prof.function_events if e.cpu_parent is None)
    assert total.cpu_time_total == pytest.approx(outermost)


def test_operations_are_timed_on_request():
    expected = work()
    with profiler.profile(per_operation=True, record_shapes=True) as prof:
        assert work() == expected
    found = by_key(prof, group_by_input_shape=True)
    assert "run compiled graph" not in found
    assert found["exp"].timed
    assert found["exp"].cpu_time_total > 0.0
    assert found["exp"].input_shapes == [[8, 4]]
    (graph,) = [e for e in prof.function_events if e.kind == "interpret"]
    inside = [e for e in prof.function_events if e.cpu_parent is graph]
    assert {e.kind for e in inside} == {"operation"}
    assert sum(e.cpu_time_total for e in inside) <= graph.cpu_time_total


def test_tables():
    with profiler.profile() as prof, profiler.record_function("outer"):
        work()
    averages = prof.key_averages()
    table = averages.table(sort_by="cpu_time_total", header="Title")
    assert table.startswith("Title\n")
    rows = table.splitlines()
    assert rows[4].startswith("outer")
    assert "Self CPU time total: " in table
    assert "more rows)" in averages.table(row_limit=1)
    assert "more rows)" not in averages.table(row_limit=-1)
    names = [row.split()[0] for row in averages.table(sort_by="key").splitlines()[3:-3]]
    assert names == sorted(names)
    assert len(prof.key_averages(group_by_stack_n=1)) >= len(averages)
    with pytest.raises(ValueError, match="sort_by must be one of"):
        averages.table(sort_by="cuda_time")


def test_the_trace_file_is_complete_or_not_there(tmp_path, monkeypatch):
    with profiler.profile() as prof, profiler.record_function("outer"):
        work()
    path = tmp_path / "trace.json"
    prof.export_chrome_trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    assert len(events) == len(prof.function_events)
    (outer,) = [event for event in events if event["name"] == "outer"]
    assert outer["ph"] == "X"
    assert outer["dur"] > 0
    exp = next(event for event in events if event["name"] == "exp")
    assert exp["ph"] == "i"
    assert outer["ts"] <= exp["ts"] <= outer["ts"] + outer["dur"]

    def failing(source, target):
        raise OSError("no space")

    monkeypatch.setattr("os.replace", failing)
    before = path.read_text()
    with pytest.raises(OSError, match="no space"):
        prof.export_chrome_trace(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_states():
    prof = profiler.profile()
    with pytest.raises(RuntimeError, match="didn't finish"):
        prof.key_averages()
    with prof:
        with pytest.raises(RuntimeError, match="another profiler"):
            profiler.profile().__enter__()
        with pytest.raises(RuntimeError, match="not reentrant"):
            prof.__enter__()
    assert observing.observer is None
    with pytest.raises(KeyError), profiler.profile():
        raise KeyError
    assert observing.observer is None
    with profiler.profile(enabled=False) as off:
        assert observing.observer is None
        work()
    assert off.key_averages() == []


def test_ranges_decorate_functions_and_cost_nothing_when_off():
    @profiler.record_function("double")
    def double(x):
        """Text."""
        return x * 2

    assert double(2) == 4
    assert double.__doc__ == "Text."
    with profiler.profile() as prof:
        double(3)
    assert by_key(prof)["double"].count == 1


def test_cuda_is_refused_clearly():
    with pytest.raises(RuntimeError, match="emit_nvtx needs CUDA"):
        profiler.emit_nvtx()
    with profiler.emit_nvtx(enabled=False):
        pass
    with pytest.raises(RuntimeError, match="load_nvprof.*needs CUDA"):
        profiler.load_nvprof("trace.nvprof")
    with pytest.warns(UserWarning, match="CUDA is not available"):
        profiler.profile(use_cuda=True)
    with pytest.warns(UserWarning, match="with_flops is not measured"):
        profiler.profile(with_flops=True)


def test_kernels_are_timed_on_request(tier, tmp_path):
    x = braze.ones(400, 300)

    def kernels():
        return ((x @ x.t()).relu().sum() * 2.0).item()  # the line of the kernels

    expected = kernels()
    with profiler.profile(per_kernel=True) as prof:
        assert kernels() == pytest.approx(expected, rel=1e-5)
        assert kernels() == pytest.approx(expected, rel=1e-5)
    events = prof.function_events
    found = [event for event in events if event.kind == "kernel"]
    if tier == "interpret":
        assert not found
        return
    assert len(found) == 2 * len({event.key for event in found}) >= 4
    runs = [event for event in events if event.kind == "native"]
    for event in found:
        assert event.timed and event.cpu_time_total > 0.0
        assert event.cpu_parent in runs
        assert "test_profiler.py:" in event.location
    # Of a run's time, nothing is counted twice.
    for run in runs:
        inside = sum(e.cpu_time_total for e in run.cpu_children if e.kind == "kernel")
        assert 0.0 < inside <= run.cpu_time_total * 1.01
    assert by_key(prof)[found[0].key].count == 2
    prof.export_chrome_trace(tmp_path / "trace.json")
    traced = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    pieces = [entry for entry in traced if entry["cat"] == "kernel"]
    assert len(pieces) == sum(len(event.pieces) for event in found)
    assert all(entry["ph"] == "X" for entry in pieces)


def test_one_kind_of_times_at_once():
    with pytest.raises(ValueError, match="per_operation interprets graphs"):
        profiler.profile(per_operation=True, per_kernel=True)
