"""The bars: made-up figures that pass, that miss, and that are not there."""

import pytest

from benchmarks.bars import GPU_RULES, RULES, Bar, best_peer, fraction, judge, ratio
from benchmarks.report import number, report, tables
from benchmarks.suite import Cost, workloads


def row(*bars, limit=None, unit="ms", key="value", group="kernels", **figures):
    """A row of the JSON; `braze__compile` stands for "braze.compile"."""
    peers = {name.replace("__", "."): {key: figure} for name, figure in figures.items()}
    return {
        "group": group,
        "about": "made up",
        "unit": unit,
        "bars": list(bars),
        "limit": limit,
        "peers": peers,
    }


def states(row):
    return [bar.state for bar in judge({"workloads": {"w": row}})]


PEAK = {"key": "peak_bytes"}
CASES = [
    # rule, a row that passes all its bars, a row that misses all of them
    (
        "gemm",
        {"limit": 9.3, "braze": 10.0, "torch": 10.6},
        {"limit": 9.1, "braze": 10.0, "torch": 10.4},
    ),
    (
        "convolution",
        {"limit": 8.5, "braze": 10.0, "jax": 10.6},
        {"limit": 8.4, "braze": 10.0, "jax": 10.4},
    ),
    (
        "memory",
        {"limit": 9.0, "braze": 10.0, "torch": 10.0},
        {"limit": 8.9, "braze": 10.0, "torch": 9.9},
    ),
    (
        "training",
        {"braze": 7.9, "braze__compile": 6.3, "torch": 10.0, "jax": 8.0},
        {"braze": 8.1, "braze__compile": 6.5, "torch": 10.0, "jax": 8.0},
    ),
    (
        "training_small",
        {"braze": 3.0, "braze__compile": 2.0, "torch": 10.0, "jax": 4.0},
        {"braze": 3.1, "braze__compile": 2.5, "torch": 10.0, "jax": 3.0},
    ),
    ("memory_peak", dict(PEAK, braze=100, torch=100), dict(PEAK, braze=101, torch=100)),
    (
        "inference",
        {"braze__aot": 0.9, "onnxruntime": 1.0, "torch": 0.1},
        {"braze__aot": 0.91, "onnxruntime": 1.0, "torch": 9.0},
    ),
    (
        "start",
        {"braze__aot": 0.5, "onnxruntime": 1.0, "torch": 0.1},
        {"braze__aot": 0.51, "onnxruntime": 1.0, "torch": 9.0},
    ),
    ("inference_small", {"braze": 3.0, "torch": 10.0}, {"braze": 3.1, "torch": 10.0}),
    ("captured_op", {"braze": 2.0}, {"braze": 2.01}),
    ("cached_call", {"braze__compile": 15.0}, {"braze__compile": 15.1}),
    ("parallel_region", {"braze": 2.9}, {"braze": 3.1}),
    ("compile_small", {"braze": 0.3}, {"braze": 0.31}),
    ("few_graphs", {"braze": 4}, {"braze": 5}),
    ("no_graphs", {"braze": 0}, {"braze": 1}),
]


@pytest.mark.parametrize(("rule", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_figures_pass_and_miss(rule, good, bad):
    assert set(states(row(rule, **good))) == {"pass"}
    assert set(states(row(rule, **bad))) == {"miss"}
    nothing = {name: figure for name, figure in good.items() if name in ("limit", "key")}
    assert set(states(row(rule, **nothing))) == {"unknown"}


def test_every_rule_has_a_case():
    assert {rule for rule, _, _ in CASES} | {"compile"} == set(RULES)
    used = {rule for workload in workloads().values() for rule in workload.bars}
    assert used == set(RULES) | set(GPU_RULES)


def test_compiling_is_compared_with_compilers_only():
    figures = row("compile", unit="s", braze=5.0, jax=5.2, torch=0.1, torch__compile=44.0)
    figures["peers"]["braze"]["warm"] = 0.4
    assert states(figures) == ["pass", "pass"]
    figures["peers"]["braze"] = {"value": 5.3, "warm": 0.6}
    assert states(figures) == ["miss", "miss"]


def test_a_missing_peer_decides_nothing():
    """What is not measured is no pass, and a failed peer is not the best."""
    figures = row("training", braze=1.0, torch=2.0)
    assert states(figures) == ["pass", "pass", "unknown"]
    figures["peers"]["jax"] = {"failed": "no memory"}
    figures["peers"]["tinygrad"] = {"unsupported": "no version"}
    assert best_peer(figures) == ("torch", 2.0)
    assert states(row("inference", braze__aot=1.0, torch=5.0)) == ["unknown"]


def test_ratios_and_fractions():
    figures = row(limit=4.0, braze=5.0, braze__compile=2.0, torch=10.0, jax=8.0)
    assert best_peer(figures) == ("jax", 8.0)
    assert ratio(figures, "braze") == 5.0 / 8.0
    assert ratio(figures, "braze", "torch") == 0.5
    assert fraction(figures, "braze") == 0.8
    assert Bar("w", "what", 0.9, 0.9, least=True).state == "pass"


def test_the_limit_is_the_slower_of_arithmetic_and_memory():
    limits = {"fma_f32_all": 100.0, "fma_f64_all": 50.0, "copy": 10.0, "copy_streaming": 20.0}
    limits["read"] = 15.0
    assert Cost(flops=1e9).seconds(limits) == pytest.approx(0.01)
    assert Cost(flops=1e9, arithmetic="f64").seconds(limits) == pytest.approx(0.02)
    # What is read and written goes at the better copy, the rest at the speed of reading.
    assert Cost(read=2e9, written=2e9).seconds(limits) == pytest.approx(0.2)
    assert Cost(read=5e9, written=2e9).seconds(limits) == pytest.approx(0.4)
    assert Cost(written=1e9).seconds(limits) == pytest.approx(0.05)
    assert Cost(flops=1e9, read=3e9).seconds(limits) == pytest.approx(0.2)
    assert Cost().seconds(limits) is None
    assert Cost(flops=1e9).seconds({}) is None


def made_up():
    rows = {
        "gemm.1024": row("gemm", limit=9.3, braze=10.0, torch=12.0),
        "train.mlp": row("training", braze=1.0, torch=2.0, group="training"),
        "compile.mlp": row("compile_small", unit="s", braze=0.25, jax=0.5, group="overheads"),
    }
    rows["gemm.1024"]["peers"]["jax"] = {"failed": "RuntimeError: it broke"}
    rows["train.mlp"]["peers"]["braze"]["peak_bytes"] = 150 * 2**20
    rows["compile.mlp"]["peers"]["braze"]["warm"] = 0.125
    rows["start.mlp_one"] = row("start", braze__aot=3.0, onnxruntime=7.0, group="overheads")
    facts = {"import_ms": 41.0, "load_ms": 2.5, "first_ms": 0.5, "peak_bytes": 39 * 2**20}
    rows["start.mlp_one"]["peers"]["braze.aot"] |= facts
    results = {
        "limits": {"fma_f32_all": 231.0},
        "workloads": rows,
        "threads": 2,
        "machine": {"processor": "a processor"},
    }
    return {**results, "bars": [bar.facts() for bar in judge(results)]}


@pytest.mark.parametrize("markdown", [False, True])
def test_the_report_shows_what_was_measured(markdown):
    text = report(made_up(), markdown)
    for part in ("gemm.1024", "0.833", "93 %", "231", "RuntimeError: it broke", "150", "0.125"):
        assert part in text
    for part in ("41.0", "2.50", "0.500", "39.0", "0.429"):  # of the model that is started
        assert part in text
    assert "bars: 6 pass, 0 miss, 1 unknown; 2 threads, a processor" in text


def test_a_peer_without_a_figure_is_a_dash():
    results = made_up()
    results["workloads"]["gemm.1024"]["peers"]["onnxruntime"] = {"value": 11.0}
    results["workloads"]["gemm.2048"] = row(braze=80.0, torch=90.0)
    times = next(table for title, table in tables(results) if title.startswith("kernels"))
    heads, _, last = times
    assert last[0] == "gemm.2048"
    assert last[heads.index("onnxruntime")] == "-"
    assert "jax" not in heads  # it has failed, and has no figure anywhere


def test_numbers_have_three_digits():
    assert [number(x) for x in (0.01234, 0.5, 12.34, 999.6)] == ["0.0123", "0.500", "12.3", "1000"]
