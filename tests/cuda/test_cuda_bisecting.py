"""`braze.bisect` and `braze bisect` of what runs on CUDA devices."""

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import pytest
from faults import swapped, wrong_pass
from test_cuda_checking import wrong_code

import braze
from braze.cli import main
from braze.runtime.cuda.entries import clear_executables

SCRIPT = """
import braze
x = braze.tensor([[0.5, -1.0], [2.0, 3.0]])
y = x.to("cuda").relu().exp()
print(y.sum().item())
"""


@pytest.fixture(autouse=True)
def new_code():
    clear_executables()
    yield
    clear_executables()


def step(a):
    return a.relu().softmax(1)


def test_a_function_on_a_gpu():
    x = braze.tensor([[0.5, -1.0], [2.0, 3.0]], device="cuda")
    found = braze.bisect(step, x)
    assert found.culprit is None and "compiled code" in found.stages
    assert x.tolist() == [[0.5, -1.0], [2.0, 3.0]]


def test_a_wrong_pass_is_found(monkeypatch):
    x = braze.tensor([[0.5, -1.0], [2.0, 3.0]], device="cuda")
    wrong_pass(monkeypatch, "cse", swapped("maximum", "minimum"))
    found = braze.bisect(step, x)
    assert found.culprit.stage == "cse" and "test_cuda_bisecting.py:" in str(found)


def test_wrong_code_of_a_gpu_is_found(monkeypatch):
    wrong_code(monkeypatch, "exp(", "sin(")
    x = braze.tensor([[0.5, -1.0], [2.0, 3.0]])
    assert braze.bisect(step, x).culprit is None  # not that of the CPU
    found = braze.bisect(lambda a: step(a.cuda()).cpu(), x)
    assert found.culprit.kind == "code" and found.culprit.error.device == "cuda:0"
    assert "on cuda:0 differs" in str(found)


def test_a_program_on_a_gpu(monkeypatch, tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert main(["bisect", str(script)]) == 0
    assert "nothing changed a result of 1 graphs, 1 of them on GPUs" in capsys.readouterr().err
    wrong_code(monkeypatch, "exp(", "sin(")
    assert main(["bisect", str(script), "--repro", str(tmp_path / "repro.py")]) == 1
    shown = capsys.readouterr()
    assert "on cuda:0 differs" in shown.out and "train.py:4" in shown.out
    assert "DEVICE = 'cuda:0'" in (tmp_path / "repro.py").read_text()
    wrong_pass(monkeypatch, "cse", swapped("exp", "sin"))
    assert main(["bisect", str(script), "--repro", str(tmp_path / "repro.py")]) == 1
    assert capsys.readouterr().out.startswith("pass 'cse' changed a result")
    text = (tmp_path / "repro.py").read_text()
    assert "DEVICE = 'cuda:0'" in text and "run_graph(GRAPH, ARRAYS, device=DEVICE)" in text


def test_a_program_without_graphs(tmp_path, capsys):
    script = tmp_path / "idle.py"
    script.write_text("print(1)\n")
    assert main(["bisect", str(script)]) == 2
    assert "of 0 graphs" in capsys.readouterr().err
