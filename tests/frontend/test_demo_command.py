"""The command line: version, errors, the demo from training to a packaged model, inspection."""

import re
import subprocess
import sys

import pytest

import braze
from braze.cli import main


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"braze {braze.__version__}\n"
    assert main([]) == 2 and "demo" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2


def test_version_loads_nothing_heavy():
    code = (
        "import sys\nfrom braze.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print(sorted(n for n in sys.modules if n in ('numpy', 'llvmlite', 'braze.tensors')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_errors_are_one_line(capsys, tmp_path):
    assert main(["inspect", str(tmp_path / "nothing.brz")]) == 1
    assert "nothing.brz" in capsys.readouterr().err
    (tmp_path / "bad.brz").write_bytes(b"no package at all")
    assert main(["inspect", str(tmp_path / "bad.brz")]) == 1
    assert capsys.readouterr().err.startswith("braze: ")
    assert main(["demo", "--epochs", "0"]) == 1
    assert "epochs must be at least 1" in capsys.readouterr().err


def test_demo_trains_explains_packages_and_runs(capsys, tmp_path):
    package = tmp_path / "digits.brz"
    # In a process of its own: here its graphs may be known from other tests, and not be explained.
    command = [sys.executable, "-m", "braze", "demo", "--quick", "--seed", "2", "--package"]
    done = subprocess.run([*command, str(package)], capture_output=True, text=True, check=True)
    text = done.stdout
    assert re.search(r"epoch 1/1: loss \d\.\d+, test accuracy \d+\.\d+%", text)
    # The explanation names the demo's own lines.
    assert "What was compiled, and why" in text and re.search(r"demo\.py:\d+", text)
    found = re.search(r"largest difference to the model here: (\S+)\.\n", text)
    assert found and float(found[1]) < 1e-4
    assert package.exists()
    assert main(["inspect", str(package)]) == 0
    shown = capsys.readouterr().out
    assert "f32[100,1,28,28]" in shown and "log_softmax" in shown and braze.__version__ in shown


def test_inspect_shows_the_stages_of_the_training_step(capsys):
    assert main(["inspect", "--list", "--batch", "2"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) > 5
    assert main(["inspect", "--stage", names[0], "--batch", "2"]) == 0
    first = capsys.readouterr().out
    assert "nll_loss" in first and "conv" in first and "demo.py:" in first
    assert main(["inspect", "--stage", "nothing", "--batch", "2"]) == 1
    assert "no stage 'nothing'; the stages are" in capsys.readouterr().err
