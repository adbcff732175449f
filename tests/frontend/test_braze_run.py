"""`braze run`: programs written for PyTorch, run as they are; names that are missing."""

import subprocess
import sys

import pytest

import braze
from braze.as_torch.names_used import missing_names
from braze.as_torch.nearest import explain_missing, nearest
from braze.cli import main


def run(tmp_path, source, *arguments, name="program.py", options=()):
    """The program run by `braze run` in a process of its own."""
    file = tmp_path / name
    file.write_text(source)
    command = [sys.executable, "-m", "braze", "run", *options, str(file), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )


TRAINING = """\
import sys
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, TensorDataset
import torch.backends.cudnn as cudnn

cudnn.benchmark = True
assert torch.backends.cudnn.benchmark
assert torch.__version__ >= "1.0" and torch.version.cuda is None
assert torch.nn.Linear is nn.Linear and isinstance(torch.zeros(1), torch.Tensor)
assert torch.nn.modules.batchnorm.BatchNorm1d is nn.BatchNorm1d


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


if __name__ == "__main__":
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.rand(64, 2)
    y = x.sum(1, keepdim=True)
    model = Net().to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(20):
        for a, b in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):
            optimizer.zero_grad()
            loss = F.mse_loss(model(a.to(device)), b.to(device))
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.02, loss
    print("argument", sys.argv[1], "main", __file__.endswith("program.py"), torch.__name__)
"""


def test_a_training_program(tmp_path):
    done = run(tmp_path, TRAINING, "--lr")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "argument --lr main True torch\n"
    assert done.stderr == ""


FAILING = """\
import torch


def work(x):
    return torch.conv_1d(x)


print("before", flush=True)
try:
    from torch import no_such
except ImportError as error:
    print(error)
work(torch.ones(3))
"""


def test_a_missing_name_is_named_before_and_where_it_is_used(tmp_path):
    done = run(tmp_path, FAILING)
    assert done.returncode == 1
    assert done.stdout.startswith("before\ncannot import name 'no_such' from 'torch'")
    first, *rest = done.stderr.splitlines()
    assert first.endswith("program.py:5: Braze has no torch.conv_1d; the nearest is torch.conv1d")
    assert "running.py" not in done.stderr and "alias.py" not in done.stderr
    assert rest[1].startswith("Traceback")
    assert "line 13, in <module>" in rest[2]
    assert "AttributeError: Braze has no torch.conv_1d; the nearest is torch.conv1d" in rest[-1]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("torch.ones(3).soft_max(0)", "Braze has no torch.Tensor.soft_max; the nearest is"),
        ("from torch import conv_2d", "Braze has no torch.conv_2d; the nearest is torch.conv2d"),
        ("import torch.nn.functionals", "Braze has no torch.nn.functionals; the nearest is"),
        ("torch.zeros(2).backward()", "RuntimeError"),
    ],
)
def test_what_ends_a_program_is_explained(tmp_path, line, hint):
    done = run(tmp_path, f"import torch\n{line}\n")
    assert done.returncode == 1
    assert hint in done.stderr.splitlines()[-1]


def test_exit_status_and_processes_of_the_program(tmp_path):
    source = """\
import subprocess, sys
import multiprocessing
import torch

def child(queue):
    import torch
    queue.put(torch.__version__)

if __name__ == "__main__":
    code = "import torch; print(torch.__version__, torch.zeros(2).tolist())"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get(timeout=60))
    process.join()
    sys.exit(7)
"""
    done = run(tmp_path, source)
    assert done.returncode == 7, done.stderr
    version, again = done.stdout.split("[0.0, 0.0]")
    assert version.strip() == again.strip()
    assert "braze" in version


def test_a_module_of_a_package(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("NAME = 'other'\n")
    (package / "__main__.py").write_text("from .other import NAME\nimport torch\nprint(NAME)\n")
    command = [sys.executable, "-m", "braze", "run", "-m", "mine"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "other\n"), done.stderr


def test_a_program_in_another_encoding(tmp_path, capsys):
    file = tmp_path / "program.py"
    file.write_bytes(b"# -*- coding: latin-1 -*-\nimport torch\nprint(ascii('h\xe9'))\n")
    command = [sys.executable, "-m", "braze", "run", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "'h\\xe9'\n"), done.stderr
    assert main(["run", "--check", str(file)]) == 0
    assert capsys.readouterr().out == ""


def test_pytorch_in_the_process_is_not_replaced():
    code = (
        "import sys, types\n"
        "sys.modules['torch'] = types.SimpleNamespace(_C=1)\n"
        "from braze.as_torch import install\n"
        "install()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "RuntimeError: PyTorch is imported already" in done.stderr


# What is missing ----------------------------------------------------------------------------------


def test_names_that_a_program_uses():
    source = """\
import numpy as np
import torch as t, torch.nn.functional
import torch.nn as nn
from torch import optim as o, foo
from torch.nn import functional as F
from .torch import anything
np.bar; x.torch.baz
t.ones(2).no_method; t.Tensor.add; t.Tensor.ad
nn.Linears(2, 3)
o.Adam(); o.Adamm; F.relu
F.relus(nn.Linears)
t.version.cuda
t.version.cuda.split(".")
import torch.utils.data.dataloader
from torch.nn.modules.rnn import LSTM
"""
    found = missing_names(source)
    assert [(m.line, m.name) for m in found] == [
        (4, "torch.foo"),
        (8, "torch.Tensor.ad"),
        (9, "torch.nn.Linears"),
        (10, "torch.optim.Adamm"),
        (11, "torch.nn.functional.relus"),
    ]
    assert found[2].text == "Braze has no torch.nn.Linears; the nearest is torch.nn.Linear"


def test_the_nearest_name():
    assert nearest("torch.nn", "relu") == "torch.relu"
    assert nearest("torch", "cross_entropy") == "torch.nn.functional.cross_entropy"
    assert nearest("torch.nn", "Conv_2d") == "torch.nn.Conv2d"
    assert nearest("torch", "qqqqqqqq") is None
    assert explain_missing("torch", "qqqqqqqq") == "Braze has no torch.qqqqqqqq"


def test_check(tmp_path, capsys):
    file = tmp_path / "program.py"
    file.write_text("import torch\ntorch.ones(2)\n")
    assert main(["run", "--check", str(file)]) == 0
    assert capsys.readouterr().out == ""
    file.write_text("import torch\ntorch.oness(2)\n")
    assert main(["run", "--check", str(file)]) == 1
    assert capsys.readouterr().out == (
        f"{file}:2: Braze has no torch.oness; the nearest is torch.ones\n"
    )


def test_check_of_a_module_and_of_what_is_no_python(tmp_path, capsys):
    assert main(["run", "--check", "-m", "json.tool"]) == 0
    file = tmp_path / "program.py"
    file.write_text("import torch\nprint(\n")
    assert main(["run", "--check", str(file)]) == 1
    assert capsys.readouterr().err.startswith("braze: '(' was never closed")


def test_no_such_program(capsys):
    assert main(["run", "/no/such/program.py"]) == 2
    assert "there is no file /no/such/program.py" in capsys.readouterr().err


# What programs ask of the machine -----------------------------------------------------------------


def test_backends_and_accelerators():
    assert not braze.backends.mps.is_available()
    assert not braze.backends.cudnn.is_available()
    assert braze.backends.cuda.matmul.allow_tf32 is False
    assert braze.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2", "DEFAULT")
    before = braze.backends.cudnn.deterministic
    with braze.backends.cudnn.flags(deterministic=not before):
        assert braze.backends.cudnn.deterministic is not before
    assert braze.backends.cudnn.deterministic is before
    assert braze.accelerator.is_available() == braze.cuda.is_available()
    if not braze.cuda.is_available():
        assert braze.accelerator.device_count() == 0
        assert braze.accelerator.current_accelerator() is None
        with pytest.raises(RuntimeError, match="CUDA"):
            braze.accelerator.synchronize()
