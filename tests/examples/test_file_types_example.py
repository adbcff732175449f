"""examples/file_types: right about files of this project; it reads them as magika itself does."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "README.md": "markdown",
    "pyproject.toml": "toml",
    "examples/c_interface/main.c": "c",
    "frontend/capture.py": "python",
    "frontend/datasets/mnist-10k.npz": "npz",
}


def test_it_knows_files_and_compiles_once(load_example, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("magika")
    example = load_example("file_types")
    package = tmp_path / "magika.brz"
    files = [str(ROOT / name) for name in EXPECTED]
    arguments = [*files, str(tmp_path), "--package", str(package), "--batch-size", "2"]
    wanted = {ROOT / name: label for name, label in EXPECTED.items()}
    assert example.main(arguments) == wanted
    assert "compiled in" in capsys.readouterr().out
    written = package.stat().st_mtime_ns
    assert example.main(arguments) == wanted
    assert package.stat().st_mtime_ns == written
    assert "5 files in" in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 3, 1500, 5000])
def test_what_the_model_sees_is_what_magika_shows_it(load_example, tmp_path, size):
    magika = pytest.importorskip("magika.magika")
    seekable = pytest.importorskip("magika.types.seekable")
    example = load_example("file_types")
    path = tmp_path / "file"
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(b"  \n" + content + b"\t \n")
    with path.open("rb") as stream:
        seen = magika.Magika._extract_features_from_seekable(
            seekable.Seekable(stream), 1024, 0, 1024, 256, 4096, False
        )
    np.testing.assert_array_equal(example.features(path), [*seen.beg, *seen.end])
