"""The inspector's page in a real browser: speed, search, folding, links, and no requests."""

import time

import pytest
from browser import Browser, find_browser
from models import resnet18

import braze
import braze.ir as ir
from braze import nn
from braze.inspector.packages import package_report
from braze.inspector.report import GraphReport, Report
from braze.ir.graph import Location
from braze.ir.target import named_target
from braze.nn import functional as F

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="there is no Chromium (BRAZE_CHROMIUM names one)"
)


@pytest.fixture(scope="module")
def inspection():
    braze.manual_seed(0)
    model = resnet18(nn, classes=10, width=8)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss, *braze.autograd.grad(loss, list(model.parameters()))]

    return braze.inspect(step, braze.randn(2, 3, 32, 32), braze.arange(2))


@pytest.fixture(scope="module")
def page(inspection, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "page.html"
    inspection.html(file)
    return file


@pytest.fixture(scope="module")
def browser():
    made = Browser()
    yield made
    made.close()


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    yield browser
    assert browser.errors == []
    assert browser.requests == []


def count(browser, selector):
    return browser.evaluate(f"document.querySelectorAll({selector!r}).length")


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({selector!r}).textContent")


def shown(browser, address):
    """Wait until the page shows what its address says."""
    browser.wait(f"document.documentElement.dataset.shown === {address!r}")


def test_a_training_step_opens_quickly(browser, page, inspection):
    data = inspection.report.graphs[0].data
    assert len(data["operations"]) > 500 and len(data["kernels"]) > 50
    begin = time.perf_counter()
    ready = browser.open(page)
    seconds = time.perf_counter() - begin
    assert ready < 2000, f"{ready} ms"
    assert seconds < 4
    assert browser.errors == [] and browser.requests == []
    assert count(browser, "#picture .box") >= len(data["kernels"])
    assert browser.evaluate("document.title") == "step · Braze inspector"


def test_a_line_leads_to_its_operations_kernels_loops_and_code(opened, inspection):
    data = inspection.report.graphs[0].data
    conv = next(o for o in data["operations"] if o["op"] == "conv_no_bias")
    line = f"{conv['file']}:{conv['line']}"
    opened.click(f'.row[data-line="{line}"]')
    opened.wait("document.querySelector('.title h3')?.textContent === 'Line'")
    same = [i for i, o in enumerate(data["operations"]) if f"{o['file']}:{o['line']}" == line]
    assert count(opened, "[data-to-op]") == len(same)
    kernels = {k for i in same for k in data["operations"][i]["kernels"]}
    assert count(opened, "[data-to-kernel]") == len(kernels)
    assert count(opened, "#picture .box.on") == len(kernels)
    assert count(opened, ".row.on") == 1
    assert len(text(opened, "[data-code=loops] pre")) > 50


def test_a_kernel_leads_to_its_code_and_back_to_its_lines(opened, inspection):
    data = inspection.report.graphs[0].data
    number = next(i for i, k in enumerate(data["kernels"]) if k["kind"] == "contract")
    kernel = data["kernels"][number]
    opened.click(f'#picture [data-kernel="{number}"]')
    shown(opened, f"#0/graph/k{number}")
    assert text(opened, ".title h2") == kernel["name"]
    assert text(opened, "[data-code=loops] pre") == kernel["loops"]
    for part, language in (("llvm", "llvm"), ("assembly", "assembly")):
        opened.click(f"[data-code={part}] summary")
        opened.wait(f"document.querySelector('[data-code={part}] pre').textContent")
        code = inspection.report.graphs[0].code[kernel["function"]][language]
        assert text(opened, f"[data-code={part}] pre") == code
    places = {
        f"{data['operations'][o]['file']}:{data['operations'][o]['line']}"
        for o in kernel["operations"]
    }
    marked = "[...document.querySelectorAll('.row.on')].map((row) => row.dataset.line)"
    assert set(opened.evaluate(marked)) == places
    # Back up: the operation, then its line.
    operation = kernel["operations"][0]
    opened.click(f'[data-to-op="{operation}"]')
    shown(opened, f"#0/graph/o{operation}")
    assert text(opened, ".title h2") == data["operations"][operation]["op"]
    opened.click("[data-to-line]")
    opened.wait("document.querySelector('.title h3')?.textContent === 'Line'")
    opened.evaluate("history.back()")
    shown(opened, f"#0/graph/o{operation}")


def test_a_kernel_of_a_gpu_leads_to_cuda(browser, tmp_path):
    """Compiled for one that is not there."""
    b = ir.Builder("softmax")
    x = b.input(ir.tensor_type(ir.f32, (64, 32)))
    with b.at(Location(__file__, 10)):
        graph = b.finish([b.softmax(x, dim=1)])
    report = Report("a GPU", [GraphReport(graph, list, target=named_target("sm_90"))])
    report.html(tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.click('#picture [data-op="0"]')
    shown(browser, "#0/graph/o0")
    browser.click('[data-to-kernel="0"]')
    shown(browser, "#0/graph/k0")
    browser.wait("document.querySelector('[data-code=cuda] pre').textContent")
    assert "__global__ void __launch_bounds__" in text(browser, "[data-code=cuda] pre")
    assert count(browser, "[data-code=cuda] pre .w") > 10  # keywords are marked
    browser.click("[data-code=launches] summary")
    browser.wait("document.querySelector('[data-code=launches] pre').textContent")
    assert "registers" in text(browser, "[data-code=launches] pre")
    assert count(browser, "[data-code]") == 3
    assert "sm_90" in browser.evaluate("document.body.textContent")
    assert browser.errors == [] and browser.requests == []


def test_kernels_unfold_to_primitives_and_layers_to_operations(opened, inspection):
    data = inspection.report.graphs[0].data
    kernel = data["kernels"][1]
    assert count(opened, "#picture [data-prim]") == 0
    opened.click('#picture [data-fold="1"]')
    opened.wait("document.querySelector('#picture [data-prim]')")
    assert count(opened, "#picture [data-prim]") == len(kernel["primitives"])
    primitive = kernel["primitives"][0]
    opened.click(f'#picture [data-prim="{primitive}"]')
    shown(opened, f"#0/graph/p{primitive}")
    assert text(opened, ".title h3") == "Primitive"
    opened.click('#picture [data-fold="1"]')
    opened.wait("!document.querySelector('#picture [data-prim]')")
    opened.click("[data-mode=operations]")
    folded = count(opened, "#picture .box")
    assert folded < len(data["operations"]) / 2
    opened.click("#unfold")
    assert count(opened, "#picture [data-op]") == len(data["operations"])
    opened.click("#fold")
    assert count(opened, "#picture .box") == folded
    opened.click("[data-mode=kernels]")


IN_VIEW = """(() => {
  const c = document.querySelector("#canvas").getBoundingClientRect();
  return [...document.querySelectorAll("#picture .box")].filter((box) => {
    const r = box.getBoundingClientRect();
    return r.right > c.left && r.left < c.right && r.bottom > c.top && r.top < c.bottom;
  }).length;
})()"""


def test_the_picture_is_never_out_of_sight(opened):
    for mode in ("operations", "kernels"):
        opened.click(f"[data-mode={mode}]")
        for button in ("#unfold", "#fit", "[aria-label=Larger]", "#unfold", "#fold"):
            opened.click(button)
            assert opened.evaluate(IN_VIEW) > 0, (mode, button)
            if button == "#fit":
                assert opened.evaluate(IN_VIEW) == count(opened, "#picture .box")
    opened.click("[aria-label=Larger]")


def test_search_by_keyboard(opened, inspection):
    data = inspection.report.graphs[0].data
    opened.press("/")
    assert opened.evaluate("document.activeElement.id") == "query"
    opened.type("layer3.0 conv1")
    opened.wait("document.querySelector('#hits li')")
    kinds = opened.evaluate("[...document.querySelectorAll('#hits li')].map((e) => e.dataset.hit)")
    wanted = [
        i
        for i, o in enumerate(data["operations"])
        if all(word in f"{o['text']} {o['scope']}".lower() for word in ("layer3.0", "conv1"))
    ]
    assert kinds == ["op"] * len(wanted) and wanted
    opened.press("Enter")
    shown(opened, f"#0/graph/o{wanted[0]}")
    assert text(opened, ".title h2") == "conv_no_bias"
    assert count(opened, f'#picture .box.on[data-op="{wanted[0]}"]') == 1
    opened.press("Escape")
    shown(opened, "#0/graph")
    assert count(opened, "#picture .box.on") == 0
    opened.press("/")
    opened.evaluate("document.querySelector('#query').value = ''")
    opened.type("no such thing")
    opened.wait("document.querySelector('#hits').textContent.includes('Nothing')")
    opened.press("Escape")


def test_views(opened, inspection):
    data = inspection.report.graphs[0].data
    opened.click("[data-tab=kernels]")
    shown(opened, "#0/kernels")
    first = max(range(len(data["kernels"])), key=lambda k: data["kernels"][k]["seconds"])
    assert count(opened, "#kernels tbody tr") == len(data["kernels"])
    top = opened.evaluate("document.querySelector('#kernels tbody tr').dataset.kernel")
    assert top == str(first)
    assert count(opened, "#roofline circle") > 50
    opened.click("#kernels tbody tr")
    shown(opened, f"#0/kernels/k{first}")
    opened.click("[data-tab=memory]")
    shown(opened, f"#0/memory/k{first}")
    assert count(opened, "#memory rect") == len(data["memory"])
    opened.click("[data-tab=timeline]")
    shown(opened, f"#0/timeline/k{first}")
    assert count(opened, "#timeline rect") == len(data["chunks"])
    assert count(opened, "#timeline rect.on") == data["kernels"][first]["chunks"]
    width = opened.evaluate("document.querySelector('#timeline').getBoundingClientRect().width")
    opened.click("#closer")
    wider = opened.evaluate("document.querySelector('#timeline').getBoundingClientRect().width")
    assert wider == pytest.approx(2 * width)
    opened.click("[data-tab=compiles]")
    shown(opened, f"#0/compiles/k{first}")
    assert "compiled in" in text(opened, ".events")


def test_passes_side_by_side(opened, inspection):
    passes = inspection.report.graphs[0].passes
    opened.click("[data-tab=passes]")
    shown(opened, "#0/passes")
    assert count(opened, "[data-pass]") == len(passes) - 1
    opened.click("[data-pass=fuse]")
    opened.wait("document.querySelector('[data-pass=fuse]').ariaSelected === 'true'")
    fuse = next(p for p in passes if p["name"] == "fuse")
    assert count(opened, ".diff .add") == fuse["added"]
    assert count(opened, ".diff .del") == fuse["removed"]
    opened.click(".diff .add[data-op]")
    opened.wait("document.querySelector('.title h3')?.textContent === 'Operation'")
    assert count(opened, ".diff .cell.on") > 0


def test_passes_over_loops(opened, inspection):
    passes = inspection.report.graphs[0].passes
    opened.click("[data-tab=passes]")
    shown(opened, "#0/passes")
    vectorise = next(p for p in passes if p["name"] == "vectorise")
    opened.click("[data-pass=vectorise]")
    opened.wait("document.querySelector('[data-pass=vectorise]').ariaSelected === 'true'")
    assert count(opened, ".diff .add") == vectorise["added"] > 0
    assert count(opened, ".diff .del") == vectorise["removed"]
    assert text(opened, ".diff .two .cell") == "before: loops"
    added = "[...document.querySelectorAll('.diff .add')].map((e) => e.textContent)"
    assert any(line.endswith("vector {") for line in opened.evaluate(added))


def test_a_package_says_that_it_is_its_own_code(browser, tmp_path):
    path = tmp_path / "m.brz"
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    braze.aot.compile(model, braze.ones(2, 8), path, weights="int8")
    report = package_report(path)
    report.html(tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert text(browser, "#verdict").startswith("this is the package's machine code: ")
    browser.click("[data-tab=memory]")
    shown(browser, "#0/memory")
    weights = report.graphs[0].data["package"]["weights"]
    assert count(browser, "#weights [data-weight]") == len(weights) > 4
    assert "i8[16,8]" in text(browser, "#weights")
    assert browser.errors == []


def test_no_graph_at_all(browser, tmp_path):
    from braze.inspector.report import Report

    Report("nothing.py", []).html(tmp_path / "empty.html")
    browser.open(tmp_path / "empty.html")
    assert "No graph was compiled" in text(browser, "#view")
    assert browser.errors == []
