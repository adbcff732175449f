"""`braze.inspect` as data: links between the strata, what passes changed, the other forms."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import braze
from braze import nn
from braze.cli import main
from braze.inspector.collect import inspect_script
from braze.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import braze
from braze.nn import functional as F

model = braze.nn.Linear(8, 4)
optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
x = braze.ones(16, 8)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x).relu(), braze.zeros(16, 4))  # the loss
    loss.backward()
    optimizer.step()
print("loss", loss.item() >= 0.0)
if len(sys.argv) > 2:
    raise ValueError("asked to fail")
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, 10)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()  # the first line
        return self.head(x.flatten(1))  # the second line


@pytest.fixture(scope="module")
def inspection():
    braze.manual_seed(0)
    model = Net()

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss, *braze.autograd.grad(loss, list(model.parameters()))]

    return braze.inspect(step, braze.randn(4, 1, 8, 8), braze.arange(4))


@pytest.fixture(scope="module")
def data(inspection):
    found = json.loads(inspection.to_json())
    assert found["title"] == "step"
    (graph,) = found["graphs"]
    return graph


def test_every_operation_has_its_line_and_its_kernels_or_the_pass_that_took_it(data):
    lines = {tuple(line) for file in data["files"] for line in file["lines"]}
    for number, operation in enumerate(data["operations"]):
        assert operation["file"] == __file__ and operation["line"] > 0
        assert bool(operation["kernels"]) != bool(operation["gone"])
        for kernel in operation["kernels"]:
            assert number in data["kernels"][kernel]["operations"]
    conv = next(o for o in data["operations"] if o["op"] == "conv")
    assert conv["scope"].startswith("Net.conv (Conv2d(1, 4")
    (text,) = [text for n, text in lines if n == conv["line"]]
    assert "the first line" in text


def test_gradients_belong_to_the_layer_of_their_operation(data):
    (gradient,) = [o for o in data["operations"] if o["op"] == "conv_weight_grad"]
    assert gradient["scope"].startswith("Net.conv (Conv2d(1, 4")
    layers = {o["scope"].partition(" (")[0] for o in data["operations"]}
    assert layers == {"", "Net", "Net.conv", "Net.norm", "Net.head"}  # "": of the loss
    # Neighbours of one layer are one group of the picture.
    groups = [o["group"] for o in data["operations"]]
    assert groups == sorted(groups) and len(set(groups)) < len(groups) / 2


def test_every_kernel_leads_back_to_the_source(data):
    for number, kernel in enumerate(data["kernels"]):
        assert kernel["operations"], kernel["name"]
        for operation in kernel["operations"]:
            assert number in data["operations"][operation]["kernels"]
        assert kernel["primitives"] or kernel["kind"] == "copy"
        for primitive in kernel["primitives"]:
            assert data["primitives"][primitive]["kernel"] == number
            found = set(data["primitives"][primitive]["operation"])
            # A number may be an earlier operation's, too.
            is_single = re.search(r": \w+\[[1,]*\] = ", data["primitives"][primitive]["text"])
            assert found and (is_single or found <= set(kernel["operations"]))
        code = data["code"][kernel["function"]]
        assert kernel["function"] in code["llvm"] and kernel["function"] in code["assembly"]
        assert f"@{kernel['name']}(" in kernel["loops"]
        assert all(source < number for source in kernel["reads"])


def test_kernels_have_times_and_limits(data):
    summary = data["summary"]
    assert summary["kernels"] == len(data["kernels"]) and summary["limits"]["flops"] > 0
    assert summary["seconds"] == pytest.approx(sum(k["seconds"] for k in data["kernels"]))
    for kernel in data["kernels"]:
        assert kernel["seconds"] > 0 and kernel["least"] >= 0 and kernel["chunks"] >= 1
        assert kernel["read"] + kernel["written"] > 0
    chunks = sum(kernel["chunks"] for kernel in data["kernels"])
    assert len(data["chunks"]) == chunks


def test_the_memory_plan_has_no_two_values_at_one_place(data):
    assert data["memory"]
    for a in data["memory"]:
        assert data["kernels"][a["maker"]]["wave"] == a["first"]
        for b in data["memory"]:
            together = a["first"] <= b["last"] and b["first"] <= a["last"]
            ends = [block["offset"] + block["bytes"] for block in (a, b)]
            if a is not b and together and a["offset"] < ends[1] and b["offset"] < ends[0]:
                # One takes over the other's place in the kernel that reads it last.
                assert a["offset"] == b["offset"]
                assert a["last"] == b["first"] or b["last"] == a["first"]


def test_passes_say_what_they_changed(data):
    passes = {entry["name"]: entry for entry in data["passes"]}
    assert list(passes)[:2] == ["captured", "split_complex"]
    assert passes["split_complex"]["added"] == passes["split_complex"]["removed"] == 0
    assert passes["decompose"]["added"] > passes["decompose"]["removed"] > 0
    assert passes["dce"]["added"] == 0
    latest = None
    for entry in data["passes"]:
        before, latest = entry.get("before", latest), entry
        assert len(entry["origins"]) == len(entry["lines"])
        if before is not None and entry["spans"]:
            # The spans go through both texts without a gap.
            for start, end in ((1, 2), (3, 4)):
                ends = [0, *(s[end] for s in entry["spans"][:-1])]
                assert [s[start] for s in entry["spans"]] == ends
            assert entry["spans"][-1][2] == len(before["lines"])
            assert entry["spans"][-1][4] == len(entry["lines"])


def test_passes_over_loops_have_the_kernels_that_they_changed(inspection, data):
    graph = inspection.report.graphs[0]
    loops = [entry for entry in data["passes"] if entry["level"] == "loops"]
    names = [entry["name"] for entry in loops]
    assert names[0] == "lower" and names.index("merge_loops") < names.index("vectorise")
    assert names.index("vectorise") < names.index("merge_loops_again") < names.index("reuse_rows")
    assert data["passes"][-len(loops) - 1]["name"] == "gather_updates"
    # What was lowered stands beside the fusion nodes; the last loops are those of the kernels.
    lowered, latest = loops[0], {}
    assert lowered["added"] == len(lowered["lines"]) and "before" not in lowered
    kernels = {kernel["name"]: kernel for kernel in data["kernels"]}
    for stage in graph.insides.loops:
        assert stage.seconds >= 0
        latest.update(stage.kernels)
    assert {name: latest[name] for name in kernels} == {n: k["loops"] for n, k in kernels.items()}
    (vectorised,) = [entry for entry in loops if entry["name"] == "vectorise"]
    assert vectorised["added"] and any(" vector" in line for line in vectorised["lines"])
    assert not any(" vector" in line for line in vectorised["before"]["lines"])
    changed = [k for k in kernels if any(f"@{k}(" in line for line in vectorised["lines"])]
    assert changed and len(changed) < len(kernels)  # a contraction has no such pass
    for number in range(len(vectorised["lines"])):
        assert vectorised["origins"][number] >= 0


def test_links_as_text(inspection, data):
    text = inspection.links()
    conv = next(o for o in data["operations"] if o["op"] == "conv")
    kernel = data["kernels"][conv["kernels"][0]]["name"]
    at = text.index(f"test_inspector.py:{conv['line']}  x = self.norm(self.conv(x))")
    after = text[at:]
    assert f"{conv['text']}  in Net.conv\n        -> {kernel}" in after
    assert f"kernel {kernel}: " in after
    gone = next(o for o in data["operations"] if o["gone"])
    assert f"{gone['text']}" in text and f"-> nothing left after {gone['gone']}" in text
    for kernel in data["kernels"]:
        assert f"    function  {kernel['function']} (llvm, assembly" in text
    assert text.count("\n    reads ") == sum(bool(k["reads"]) for k in data["kernels"])


def test_the_memory_plan_as_text(inspection, data):
    text = inspection.memory()
    assert f"in an arena of {data['summary']['arena']} bytes" in text
    for block in data["memory"]:
        maker = data["kernels"][block["maker"]]["name"]
        assert f"{block['offset']:>12} {block['bytes']:>12} " in text
        assert f"%{block['name']}, {maker} -> " in text
    waves = text[text.index("  wave ") :].splitlines()[1:]
    assert len(waves) == data["waves"]
    most = max(int(line.split()[1]) for line in waves)
    assert 0 < most <= data["summary"]["arena"]


def test_what_passes_changed_as_text(inspection, data):
    text = inspection.changes()
    for entry in data["passes"][1:]:
        level = " of loops" if entry["level"] == "loops" else ""
        assert f"== {entry['name']}{level}: " in text
    fuse = text[text.index("== fuse: ") :].partition("\n== ")[0].splitlines()
    entry = next(entry for entry in data["passes"] if entry["name"] == "fuse")
    assert sum(line.startswith("+ ") for line in fuse) == entry["added"]
    assert sum(line.startswith("- ") for line in fuse) == entry["removed"]
    assert "equal lines" in text and "== split_complex: no change" in text


def test_an_unchanged_line_is_no_change_although_its_numbers_are_others():
    """What `simplify` drops shifts the numbers of all that follows."""

    def program(x, y):
        scaled = x.t().t().reshape(4)
        return (scaled.exp() * y.sin() + y.cos()).sum()

    found = braze.inspect(program, braze.ones(2, 2), braze.ones(4)).report.graphs[0]
    passes = {entry["name"]: entry for entry in found.passes}
    before, after = passes["cse"]["lines"], passes["simplify"]["lines"]
    (at,) = [n for n, line in enumerate(before) if "cos(" in line]
    (to,) = [n for n, line in enumerate(after) if "cos(" in line]
    assert before[at] != after[to]
    equal = [span for span in passes["simplify"]["spans"] if span[0] == "equal"]
    assert any(i1 <= at < i2 and at - i1 == to - j1 for _, i1, i2, j1, _ in equal)


def test_other_forms(inspection, data, tmp_path):
    dot = inspection.dot()
    assert dot.startswith('digraph "step" {') and dot.rstrip().endswith("}")
    assert dot.count("[label=") == len(data["kernels"])
    assert dot.count(" -> ") == sum(len(k["reads"]) for k in data["kernels"])
    inspection.chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    kernels = [e for e in events if e.get("cat") == "kernel"]
    assert {e["name"] for e in kernels} == {k["name"] for k in data["kernels"]}
    assert all(e["dur"] > 0 and e["ts"] >= 0 for e in kernels)
    assert {e["name"] for e in events if e.get("cat") == "pass"} >= {"decompose", "fuse"}
    text = inspection.summary(3)
    assert "of limit" in text and "more kernels" in text
    inspection.html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and "{{" not in page.split("<style>")[0]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_measuring_does_not_change_the_model():
    model = nn.BatchNorm1d(3)
    x = braze.randn(8, 3)
    found = braze.inspect(lambda x: model(x).sum(), x)
    mean = model.running_mean.tolist()
    assert found.report.graphs[0].data["summary"]["seconds"] > 0
    assert model.running_mean.tolist() == mean


def test_a_script_runs_as_it_would_alone_and_is_reported_on(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with braze.config.using(tier="compile", cache_dir=""):
        report, error = inspect_script(str(script), ["3"])
    assert error is None
    assert capsys.readouterr().out == "loss True\n"
    hottest = report.graphs[0]
    # Which graph is the hottest is the machine's say: one that ran once may have been held up.
    assert max(graph.data["runs"]["count"] for graph in report.graphs) >= 2
    assert [file["name"] for file in hottest.data["files"]] == ["train.py"]
    assert hottest.data["summary"]["seconds"] > 0
    seconds = [graph.runs[1] for graph in report.graphs]
    assert seconds == sorted(seconds, reverse=True)
    assert any(e["source"] == "compiled" for e in report.recompiles["events"])
    assert braze.engine.observing.observer is None


def test_lines_are_of_the_inspected_program_not_of_who_captured_it_first(tmp_path):
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text(SCRIPT)
    second.write_text("# a line more\n" + SCRIPT)
    with braze.config.using(tier="compile", cache_dir=""):
        inspect_script(str(first), ["3"])
        report, _ = inspect_script(str(second), ["3"])
    operations = [operation for g in report.graphs for operation in g.data["operations"]]
    assert {Path(operation["file"]).name for operation in operations} == {"second.py"}
    loss = 1 + next(n for n, text in enumerate(SCRIPT.splitlines(), 1) if "# the loss" in text)
    lines = {operation["line"] for operation in operations}
    assert loss in lines and loss - 1 not in lines


def test_what_ran_once_is_not_there_but_named(tmp_path):
    script = tmp_path / "once.py"
    script.write_text("import braze\nbraze.ones(7).tan().sum().item()\n")
    with braze.config.using(tier="interpret"):
        report, error = inspect_script(str(script))
    assert error is None and report.graphs == []
    (note,) = report.notes
    assert note.startswith("1 graph only interpreted")
    assert note in report.summary() and note in report.to_html()


def test_the_command(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    names = {form: tmp_path / f"out.{form}" for form in ("html", "json", "dot", "trace")}
    options = [part for form, path in names.items() for part in (f"--{form}", str(path))]
    command = [sys.executable, "-m", "braze", "inspect", str(script), *options, "--", "3", "fail"]
    environment = {**os.environ, "BRAZE_TIER": "compile", "BRAZE_CACHE_DIR": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "loss True\n"
    # The program's end is told as Python tells it, and there is a report all the same.
    assert done.returncode == 1
    assert "ValueError: asked to fail" in done.stderr and "collect.py" not in done.stderr
    assert json.loads(names["json"].read_text())["graphs"]
    assert json.loads(names["trace"].read_text())["traceEvents"]
    assert names["dot"].read_text().startswith('digraph "train.py"')
    assert "train.py" in names["html"].read_text()


def test_the_command_prints_the_hottest_kernels(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with braze.config.using(tier="compile"):
        assert main(["inspect", str(script), "--", "2"]) == 0
    text = capsys.readouterr().out
    assert "GFLOP/s" in text and "train.py:" in text and "Graphs: " in text
    assert main(["inspect", str(tmp_path / "nothing.py")]) == 2


def test_the_command_prints_parts(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with braze.config.using(tier="compile"):
        asked = ["--show", "memory", "--show", "links", "--graphs", "1"]
        assert main(["inspect", str(script), *asked, "--", "2"]) == 0
    text = capsys.readouterr().out
    assert "memory plan of graph" in text and "links of graph" in text
    assert text.index("memory plan of") < text.index("links of")
    assert "GFLOP/s" not in text and "== fuse" not in text


def test_a_package_has_a_page(tmp_path, capsys):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    path = tmp_path / "m.brz"
    braze.aot.compile(model, braze.ones(2, 4), path)
    out = tmp_path / "m.json"
    assert main(["inspect", str(path), "--json", str(out)]) == 0
    (graph,) = json.loads(out.read_text())["graphs"]
    assert graph["kernels"] and graph["summary"]["seconds"] > 0


def test_a_program_may_use_the_profiler_meanwhile(tmp_path):
    script = tmp_path / "profiled.py"
    script.write_text(
        "import braze\n"
        "with braze.autograd.profiler.profile() as prof:\n"
        "    braze.ones(4).exp().sum().item()\n"
        "assert 'exp' in prof.table()\n"
        "braze.ones(5).exp().sum().item()\n"
    )
    with braze.config.using(tier="compile"):
        report, error = inspect_script(str(script))
    assert error is None and report.graphs


def test_a_kernel_is_not_linked_to_who_first_used_its_constants():
    def both(x, y):
        first = (x.relu() * 2.0).sum(0)
        second = (y.relu() * 2.0 + 1.0).sum(1)
        return first, second

    inspection = braze.inspect(both, braze.ones(64, 64), braze.ones(128, 32))
    kernels = inspection.report.graphs[0].data["kernels"]
    assert [kernel["operations"] for kernel in kernels] == [[0, 1, 2], [3, 4, 5, 6]]
    first, second = (kernel["loops"] for kernel in kernels)
    line = both.__code__.co_firstlineno
    assert f":{line + 1}" in first and f":{line + 2}" not in first
    assert f":{line + 2}" in second and f":{line + 1}" not in second
