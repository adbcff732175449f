"""docs/tour.md holds exactly what the compiler prints: `python tests/support/tour.py --bless`."""

import os
import subprocess
import sys

import pytest
import tour

from braze.ir.parser import parse_graph
from braze.ir.verifier import verify


@pytest.fixture(scope="module")
def made():
    """The blocks, from a process in which nothing else was captured or compiled."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BRAZE_")}
    done = subprocess.run(
        [sys.executable, tour.__file__], capture_output=True, text=True, timeout=300, env=clean
    )
    assert done.returncode == 0, done.stderr
    return tour.blocks_in(done.stdout)


@pytest.fixture(scope="module")
def page():
    return tour.blocks_in(tour.PAGE.read_text())


def test_the_page_shows_every_block(made, page):
    assert page.keys() - tour.NATIVE == made.keys() - tour.NATIVE
    assert all(text.strip() for text in page.values())


def test_the_page_shows_what_the_compiler_prints(made, page):
    for name in made.keys() - tour.VARYING:
        assert page[name] == made[name], (
            f"block {name} of docs/tour.md is out of date: read the difference, then run "
            "`python tests/support/tour.py --bless`"
        )


def test_the_captured_graph_reads_back(page):
    text = page["captured"].removeprefix("```text\n").removesuffix("\n```")
    graph = parse_graph(text)
    verify(graph)
    assert str(parse_graph(str(graph))) == str(graph)


def test_blocks_are_replaced_by_name():
    page = "a\n<!-- block: x -->\nold\n<!-- end -->\nb\n<!-- block: y -->\n<!-- end -->\n"
    after = tour.with_blocks(page, {"x": "new"})
    assert after == page.replace("old", "new").replace("y -->\n<", "y -->\n\n<")
    assert tour.blocks_in(after) == {"x": "new", "y": ""}


def test_long_lines_are_wrapped_where_the_text_still_reads_back():
    line = "  " + ", ".join(f"%value_{i}: f32[4]" for i in range(20))
    pieces = list(tour.wrapped(line))
    assert len(pieces) > 1 and max(map(len, pieces)) <= tour.WIDTH
    assert " ".join(piece.strip() for piece in pieces) == line.strip()
