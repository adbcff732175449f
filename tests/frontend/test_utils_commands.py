"""`utils.collect_env`, `utils.bottleneck` and `utils.backcompat`."""

import subprocess
import sys

import braze
from braze.utils import backcompat, bottleneck, collect_env


def test_environment():
    info = collect_env.get_env_info()
    assert info.braze_version == braze.__version__
    assert info.threads == braze.get_num_threads()
    text = collect_env.get_pretty_env_info()
    assert len(text.splitlines()) == len(info)
    assert "numpy" in text and "tier = " in text
    done = subprocess.run(
        [sys.executable, "-m", "braze.utils.collect_env"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1] == text.splitlines()[0]


def test_bottleneck(tmp_path, capsys):
    file = tmp_path / "program.py"
    file.write_text(
        "import sys\nimport braze\n"
        "def slow():\n    for _ in range(2_000_000):\n        pass\n"
        "if __name__ == '__main__':\n"
        "    slow()\n    print('given', sys.argv[1], (braze.ones(3) * 2).sum().item())\n"
        "    sys.exit(0)\n"
    )
    before = list(sys.path), list(sys.argv)
    assert bottleneck.main([str(file), "--x"]) == 0
    assert (list(sys.path), list(sys.argv)) == before
    out = capsys.readouterr().out
    assert out.count("given --x 6.0") == 2
    python, graphs = out.split("autograd profiler output")
    assert "(slow)" in python
    assert "graph" in graphs
    assert bottleneck.main([]) == 2
    assert bottleneck.main(["/no/such/file.py"]) == 2
    assert "no file /no/such/file.py" in capsys.readouterr().err


def test_switches():
    backcompat.keepdim_warning.enabled = True
    assert backcompat.keepdim_warning.get_enabled()
    backcompat.keepdim_warning.set_enabled(False)
    assert not backcompat.keepdim_warning.enabled
    assert not backcompat.broadcast_warning.enabled


def test_they_are_names_of_the_package():
    for name in ("backcompat", "bottleneck", "collect_env", "serialization"):
        assert getattr(braze.utils, name).__name__ == f"braze.utils.{name}"
