"""Sizes that keep changing on a GPU: the third is compiled for all others."""

import re

import cuda_device  # noqa: F401  (comes before PyCUDA)
import numpy as np

import braze
import braze.ir as ir
import braze.nn.functional as F
from braze import nn
from braze.runtime.cache import clear_memory
from braze.runtime.cuda import compiling, entries
from braze.runtime.families import family_key


def step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def made():
    braze.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.LayerNorm(24), nn.Linear(24, 5))


def losses_on(device, batches):
    model = made().to(device)
    optimizer = braze.optim.Adam(model.parameters(), 1e-2)
    return [
        step(model, optimizer, braze.tensor(x, device=device), braze.tensor(y, device=device))
        for x, y in batches
    ]


def test_batches_of_any_size_are_served_by_one_code(monkeypatch):
    rng = np.random.default_rng(0)
    batches = [
        (rng.standard_normal((size, 12)).astype(np.float32), rng.integers(0, 5, size))
        for size in (20, 33, 47, 50, 21, 64)
    ]
    with monkeypatch.context() as interpreting:
        interpreting.setattr(braze.config, "tier", "interpret")
        expected = losses_on("cpu", batches)
    np.testing.assert_allclose(losses_on("cuda", batches), expected, rtol=1e-5)
    told = str(braze.explain())
    for size in (50, 21, 64):
        assert re.search(rf"one code serves sizes \d+ to \d+, here {size}\b", told), told


def test_what_has_no_code_for_many_sizes_is_compiled_one_by_one():
    for size in (5, 9, 14, 11):
        x = braze.arange(size, device="cuda").flip(0)
        assert x.sort()[0].tolist() == list(range(size))
    assert "this is the third size of one dimension, but" in str(braze.explain())


def test_a_second_run_reads_the_code_for_its_third_size(monkeypatch, tmp_path):
    def program(sizes):
        for size in sizes:
            x = np.random.default_rng(size).standard_normal((size, 13)).astype(np.float32)
            t = braze.tensor(x, device="cuda")
            expected = (x - x.mean(0)) / (x.std(0, ddof=1) + 1.0)
            found = ((t - t.mean(0)) / (t.std(0) + 1.0)).numpy(force=True)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    with braze.config.using(cache_dir=str(tmp_path)):
        program([20, 33, 47])
        clear_memory()
        entries.clear_executables()
        monkeypatch.setattr(entries, "compile_cuda_symbolic", None)
        program([22, 35])
        monkeypatch.setattr(entries, "compile_cuda", None)
        program([45, 24, 51])
    third, *others = braze.explain().events[-3:]
    assert third.source == "disk" and others[-1].source == "dynamic"
    assert third.sizes.endswith("an earlier run compiled it when it had met 20, 33, 47")


def test_code_for_an_emulated_gpu_is_not_for_a_real_one(monkeypatch):
    target = entries.device_named("cuda:0").target
    graph = ir.parse_graph("graph @g(%x: f32[3]) -> (f32[3]) {\n  return %x\n}")
    emulated = family_key(graph, target, compiling.tools(target))
    monkeypatch.delenv("BRAZE_EMULATED_VERSION")
    assert family_key(graph, target, compiling.tools(target)) != emulated
