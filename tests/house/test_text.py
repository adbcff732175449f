"""What the text of the project must hold to: short files, and nothing left over or private."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("frontend", "ir", "passes", "codegen", "runtime", "tests")
FOLDERS = (*CODE_FOLDERS, "examples", "benchmarks", "docs", ".ci")
CODE = {".py", ".pyi", ".c", ".h", ".cpp", ".cu", ".js", ".css", ".html", ".in"}
TEXT = CODE | {"", ".md", ".toml", ".txt", ".json", ".ir", ".ll", ".sh", ".yml", ".yaml", ".cfg"}

# Put together here, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(wo" + r"rk|tmp/bra" + r"ze|ro" + r"ot|home/\w+)/",
    "unfinished work": r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b",
}


def files(folders: tuple[str, ...], suffixes: set[str]) -> Iterator[Path]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and file.suffix in suffixes and "__pycache__" not in file.parts:
                yield file


def text_files() -> Iterator[Path]:
    yield from files(FOLDERS, TEXT)
    for name in ("README.md", "pyproject.toml", "MANIFEST.in", "LICENSE"):
        yield ROOT / name


@pytest.mark.parametrize("folder", CODE_FOLDERS)
def test_files_are_short(folder):
    found = list(files((folder,), CODE))
    assert found
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in found}
    assert not {name: length for name, length in lengths.items() if length >= 600}


@pytest.mark.parametrize("fault", FORBIDDEN)
def test_nothing_left_over(fault):
    pattern = re.compile(FORBIDDEN[fault])
    found = []
    for file in text_files():
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {fault}: {line.strip()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("fault", "line", "wrong"),
    [
        ("a path of one machine", 'open("/wo' + 'rk/main/x")', True),
        ("a path of one machine", "see /tmp/bra" + "ze/x.md", True),
        ("a path of one machine", "the network/work" + "/load", False),
        ("a path of one machine", "/tmp/anything and /usr/share/x", False),
        ("unfinished work", "# TO" + "DO: later", True),
        ("unfinished work", "x = 1  # FIX" + "ME", True),
        ("unfinished work", "MASTO" + "DON", False),
    ],
)
def test_the_patterns_tell_faults_from_others(fault, line, wrong):
    assert bool(re.search(FORBIDDEN[fault], line)) == wrong


def test_links_lead_somewhere():
    """Relative links in the pages point to files that exist."""
    pages = [ROOT / "README.md", *files(FOLDERS, {".md"})]
    local, broken = 0, []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
            if "://" not in link:
                local += 1
                broken += [] if (page.parent / link).exists() else [f"{page}: {link}"]
    assert local and not broken
