"""Code for many sizes on disk: a second run reads what the first one compiled."""

import json
import os
import subprocess
import sys
import time
import warnings
from hashlib import sha256

import numpy as np
import pytest
from sized_programs import run, scaled_rows

import braze
from braze.ir.arena import ArenaLayout
from braze.runtime import background, cache, disk_cache
from braze.runtime.artifact import Artifact
from braze.runtime.cache import clear_memory
from braze.runtime.config import config
from braze.runtime.disk_cache import CacheWarning, DiskCache
from braze.runtime.families import families
from braze.runtime.recompiles import log
from braze.runtime.sized_texts import Text, fitted
from braze.runtime.stats import stats
from braze.runtime.stored_sizes import _CODES_LISTED, Listed, Shelf, keep_code
from braze.runtime.symbolic_code import SymbolicCode


@pytest.fixture(autouse=True)
def folder(tmp_path):
    start_again()
    with config.using(
        tier="auto", background="never", cache_dir=str(tmp_path), debug=0, dump_dir=""
    ):
        yield tmp_path
    start_again()


def start_again():
    """As far as the runtime knows, nothing has been met yet; the disk keeps what it has."""
    braze.sync()  # what a test before left would be part of the first graph
    clear_memory()
    log.clear()
    stats.reset()


@pytest.fixture
def scaled():
    return scaled_rows("max")


def counts():
    return stats.compiles, stats.interpreted


# A second run -----------------------------------------------------------------------------------


def test_a_second_run_compiles_no_size(scaled):
    run(scaled, [20, 30, 24])
    start_again()
    run(scaled, [27, 26, 31], times=1)
    assert counts() == (0, 0), braze.explain()
    assert [event.source for event in braze.explain().events] == ["disk", "dynamic", "dynamic"]


def test_explain_says_what_was_loaded_and_why(scaled):
    run(scaled, [20, 30, 24])
    start_again()
    run(scaled, [27], times=1)
    (event,) = braze.explain().events
    assert event.sizes.startswith("one code serves sizes ")
    assert event.sizes.endswith("here 27; an earlier run compiled it when it had met 20, 30, 24")
    assert event.seconds > 0 and event.figures.kernels_after > 0
    assert "0 compiled in 0.000 s, 1 loaded from disk" in str(braze.explain())
    assert stats.disk_hits == 1


def test_sizes_that_it_does_not_serve_are_compiled_and_added(scaled):
    run(scaled, [20, 30, 24])
    start_again()
    run(scaled, [3000, 3301, 3100])
    assert stats.compiles == 3
    start_again()
    run(scaled, [3050, 25], times=1)
    assert counts() == (0, 0) and stats.disk_hits == 2


def test_who_wants_each_size_compiled_for_itself_is_given_no_other_code(scaled):
    run(scaled, [20, 30, 24])
    start_again()
    with config.using(dynamic_shapes=False):
        run(scaled, [27])
        assert counts() == (1, 1) and stats.disk_hits == 0
    (known,) = cache._memory.recent.values()
    assert known.executable.artifact.words == ()


def test_training_goes_on_with_the_code_of_an_earlier_run():
    def trained(sizes):
        braze.manual_seed(0)
        model = braze.nn.Sequential(
            braze.nn.Linear(11, 19), braze.nn.Tanh(), braze.nn.Linear(19, 3)
        )
        steps = braze.optim.Adam(model.parameters(), lr=0.01)
        rng = np.random.default_rng(0)
        for size in sizes:
            x = braze.from_numpy(rng.standard_normal((size, 11)).astype(np.float32))
            y = braze.from_numpy(rng.integers(0, 3, size))
            steps.zero_grad()
            braze.nn.functional.cross_entropy(model(x), y).backward()
            steps.step()
        return [p.detach().numpy() for p in model.parameters()]

    sizes = [40, 64, 52, 47, 39, 58, 61]
    trained(sizes)
    start_again()
    others = [40, 43, 66, 51]  # the first step, which has no gradients yet, is another graph
    found = trained(others)
    sources = [event.source for event in braze.explain().events]
    assert sources[-3:] == ["disk", "dynamic", "dynamic"], braze.explain()
    assert counts() == (1, 0)  # drawing the parameters came back
    with config.using(tier="interpret"):
        expected = trained(others)
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=2e-4, atol=2e-5)


_PROGRAM = """
import sys
import numpy as np
import braze

for rows in map(int, sys.argv[1:]):
    x = braze.from_numpy(np.arange(rows * 6, dtype=np.float32).reshape(rows, 6))
    print(float((x / (x.std(0) + 1.5)).sum()))
print(str(braze.explain(0)).splitlines()[0])
"""


def test_another_process_reads_it(tmp_path):
    def started(*rows, **settings):
        settings = {"CACHE_DIR": str(tmp_path), "BACKGROUND": "never", **settings}
        environment = {**os.environ, **{f"BRAZE_{name}": own for name, own in settings.items()}}
        command = [sys.executable, "-c", _PROGRAM, *map(str, rows)]
        made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        *results, told = made.stdout.splitlines()
        return [*map(float, results)], told

    first, told = started(20, 20, 30, 30, 24, 24, 28)
    assert told.startswith("Graphs: 3 compiled")
    second, told = started(28, 24, 20)
    assert told == (
        "Graphs: 0 compiled in 0.000 s, 2 loaded from disk, 1 served by code for many sizes, "
        "0 interpreted once."
    )
    # Of size 20 there is code that serves no other.
    assert second == [first[6], first[5], first[1]]
    # The size that the code was compiled for is not kept as if it had its own.
    _, told = started(24, 20, DYNAMIC_SHAPES="0")
    assert "1 loaded from disk, 1 interpreted once" in told


def test_the_background_keeps_it_for_the_next_run(monkeypatch, scaled):
    mine = background._Background()
    monkeypatch.setattr(background, "_background", mine)
    try:
        with config.using(background="always"):
            end = time.monotonic() + 300
            while stats.compiles < 2 and time.monotonic() < end:
                run(scaled, [20, 30], times=1)
            run(scaled, [24])
            while stats.compiles < 3 and time.monotonic() < end:
                run(scaled, [24], times=1)
    finally:
        mine._compiler.leave()
    start_again()
    run(scaled, [27, 24], times=1)
    assert counts() == (0, 0), braze.explain()


# What is not used -------------------------------------------------------------------------------


def entries(folder):
    """The entries for many sizes: the family's, and its code's."""
    found = {}
    for path in folder.glob("*.entry"):
        data = path.read_bytes()
        start = len(disk_cache.MAGIC) + 40
        length = int.from_bytes(data[start - 8 : start], "little")
        header = json.loads(data[start : start + length])
        kind = header["key"].split(" ")[0]
        if kind in ("sizes", "code"):
            assert kind not in found
            found[kind] = path, header, data[start + length :]
    return found


def rewrite(path, header, rest):
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + rest
    path.write_bytes(disk_cache.MAGIC + sha256(content).digest() + content)


def compiled_anew(scaled, reason):
    """The next run says why it does not take the code, compiles, and the one after it takes
    that."""
    start_again()
    with pytest.warns(CacheWarning, match=reason):
        run(scaled, [22], times=1)
    run(scaled, [22, 26, 29])
    assert stats.compiles == 3
    start_again()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(scaled, [27], times=1)
    assert counts() == (0, 0)


@pytest.mark.parametrize("kind", ["sizes", "code"])
def test_damaged_entries_are_refused(folder, scaled, kind):
    run(scaled, [20, 30, 24])
    path, *_ = entries(folder)[kind]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    compiled_anew(scaled, f"{path.name}.* is discarded .it is damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["artifact"].pop("main"),
        lambda facts: facts["artifact"].update(arena_bytes="many"),
        lambda facts: facts["artifact"].update(scratch_bytes={"value": 3, "form": ["?", 1, 2]}),
        lambda facts: facts["artifact"].update(main="no_such_function"),
        lambda facts: facts["layout"].update(below=[[7]]),
        lambda facts: facts.pop("layout"),
    ],
)
def test_code_that_cannot_be_loaded_is_refused(folder, scaled, change):
    run(scaled, [20, 30, 24])
    path, header, rest = entries(folder)["code"]
    change(header["facts"])
    rewrite(path, header, rest)
    compiled_anew(scaled, f"{path.name}.* is discarded .it cannot be loaded")


@pytest.mark.parametrize(
    "change",
    [
        lambda code: code.pop("places"),
        lambda code: code.update(numbers=["1"]),
        lambda code: code.update(functions=[[[1, [1]]], [[2, [1]]]]),
        lambda code: code.update(functions=[[[1, [1, 0]]]]),
        lambda code: code.update(functions=[[[2, [1]]]]),
        lambda code: code.update(places=[[100_000]]),
        lambda code: code.update(places=[[]]),
        lambda code: code.update(free=[1]),
        lambda code: code.update(seen=[]),
        lambda code: code.update(lowest=[2, 2]),
    ],
)
def test_a_list_of_another_form_is_refused(folder, scaled, change):
    run(scaled, [20, 30, 24])
    path, header, rest = entries(folder)["sizes"]
    change(header["facts"]["codes"][0])
    rewrite(path, header, rest)
    compiled_anew(scaled, f"{path.name}.* is discarded .it cannot be read")


def test_code_that_was_evicted_is_compiled_again(folder, scaled):
    run(scaled, [20, 30, 24])
    entries(folder)["code"][0].unlink()
    start_again()
    run(scaled, [22, 26, 29])
    assert stats.compiles == 3
    start_again()
    run(scaled, [27], times=1)
    assert counts() == (0, 0)
    (code,) = entries(folder)["sizes"][1]["facts"]["codes"]  # the lost one is not listed anymore
    assert code["seen"] == [[22], [26], [29]]


def test_another_program_has_other_code(scaled):
    """Constants that are no sizes tell programs apart."""

    def shifted(rows, by):
        x = np.ones((rows, 7), np.float32)
        found = (braze.from_numpy(x).roll(by, 0) + rows).sum().item()
        assert found == 7 * rows * (rows + 1)

    run(lambda rows: shifted(rows, 3), [20, 30, 24])
    start_again()
    run(lambda rows: shifted(rows, 4), [22], times=1)
    assert stats.disk_hits == 0 and stats.interpreted == 1
    run(lambda rows: shifted(rows, 3), [22], times=1)
    assert stats.disk_hits == 1


# The list ---------------------------------------------------------------------------------------


def made_code(number):
    """Code that nobody runs, of a family in which it differs by a constant."""
    fit = fitted([Text.of(f"%x: f32[{n},{number}]") for n in (7, 8, 10)])
    artifact = Artifact("made", "", "main", (bytes([number % 256]),), (), (), 0, 0)
    return SymbolicCode(fit, artifact, ArenaLayout((), (), {}), (5,), (20,))


def test_the_latest_codes_are_listed(folder):
    disk = DiskCache(folder, 1 << 24)
    for number in range(2, _CODES_LISTED + 5):
        keep_code(disk, "family", made_code(100 + number))
    keep_code(disk, "family", made_code(110))
    facts, _ = disk.load("family")
    numbers = [Listed.from_facts(code).numbers[-1] for code in facts["codes"]]
    newest = [*range(105 + _CODES_LISTED - 1, 0, -1)]
    assert numbers == [110, *(n for n in newest if n != 110)][:_CODES_LISTED]


def test_a_shelf_gives_each_code_once(folder):
    disk = DiskCache(folder, 1 << 24)
    for number in (3, 4):
        keep_code(disk, "family", made_code(number))
    shelf = Shelf(disk, "family", Artifact.from_facts)

    def take(text):
        return shelf.take(Text.of(text))

    assert take("%x: f32[21,3]") is None  # of a size that it does not serve
    code, sizes = take("%x: f32[12,3]")
    assert sizes == (12,) and code.artifact.objects == (b"\x03",)
    assert (code.lowest, code.highest) == ((5,), (20,)) and code.disk_key
    assert take("%x: f32[12,3]") is None
    assert take("%x: f32[12,5]") is None
    assert take("%x: f32[12,4]")[0].artifact.objects == (b"\x04",)


def test_what_has_no_cache_looks_nowhere(scaled, monkeypatch):
    run(scaled, [20, 30, 24])
    start_again()
    with config.using(cache_dir=""):
        monkeypatch.setattr(families, "of", None)
        run(scaled, [22], times=1)
    assert stats.interpreted == 1
