"""The documents name what exists: every setting, and only those."""

import re
from pathlib import Path

from braze.runtime.config import config

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_setting_is_documented():
    text = (DOCS / "debugging.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `(BRAZE_\w+)` \|", text, re.MULTILINE))
    source = Path(__import__("braze.runtime.config", fromlist=["x"]).__file__).read_text()
    known = dict(re.findall(r"^ {4}(\w+) +(BRAZE_\w+) ", source, re.MULTILINE))
    assert rows == known
    for name in rows:
        assert hasattr(config, name)


def test_files_named_in_the_documents_exist():
    root = DOCS.parent
    for document in DOCS.glob("*.md"):
        for path in re.findall(
            r"`((?:frontend|ir|passes|codegen|runtime|tests)/[\w./]*)`", document.read_text()
        ):
            assert (root / path).exists(), f"{document.name} names {path}"
