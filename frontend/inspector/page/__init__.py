"""The page: a report's data in one HTML file, with its style and script.

The data is JSON, compressed, in blocks that the page unpacks when it needs them: a block for each
graph, and more for its code and its passes. A content security policy forbids all requests.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from braze.inspector.report import Report

HERE = Path(__file__).resolve().parent  # where the other files are, also if this is a link
SCRIPTS = ("core.js", "layout.js", "picture.js", "panes.js", "views.js", "charts.js", "main.js")


def page_of(report: Report) -> str:
    """The HTML text."""
    blocks = []
    index = []
    for number, graph in enumerate(report.graphs):
        data = graph.data
        blocks += [
            _block(f"graph-{number}", data),
            _block(f"code-{number}", graph.code),
            _block(f"passes-{number}", graph.passes),
        ]
        index.append({"name": data["name"], "runs": data["runs"], "summary": data["summary"]})
    blocks.append(_block("recompiles", report.recompiles))
    head = {"title": report.title, "graphs": index, "notes": report.notes}
    script = "\n".join((HERE / name).read_text() for name in SCRIPTS)
    parts = {
        "title": html.escape(report.title),
        "style": (HERE / "style.css").read_text(),
        "head": json.dumps(head).replace("</", "<\\/"),
        "blocks": "\n".join(blocks),
        "script": script,
    }
    page = (HERE / "page.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], page)


def _block(name: str, data: Any) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(data).encode(), 9)).decode()
    return f'<script type="text/plain" id="{name}">{packed}</script>'
