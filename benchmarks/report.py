"""The figures as tables: ``python -m benchmarks.report results.json [--markdown]``.

Times of all peers, Braze's time over the best peer's, the part of the machine's limit that Braze
reaches, and the bars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bars import best_peer, fraction, ratio, value
from benchmarks.limits import UNITS
from benchmarks.peers import PEERS
from benchmarks.suite import GROUPS

Table = list[list[str]]
NONE = "-"


def number(figure: float | None) -> str:
    """Three digits that count, without an exponent.

    >>> [number(x) for x in (0.01234, 1.2345, 123.45, 2345.6, 0.0, None)]
    ['0.0123', '1.23', '123', '2346', '0', '-']
    """
    if figure is None:
        return NONE
    if figure == 0:
        return "0"
    if figure >= 100:
        return f"{figure:.0f}"
    digits, scale = 2, figure
    while scale < 1 and digits < 6:
        scale, digits = scale * 10, digits + 1
    return f"{figure:.{digits if figure < 10 else 1}f}"


def percent(part: float | None) -> str:
    """A part of one as a percentage."""
    return NONE if part is None else f"{100 * part:.0f} %"


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    """The peers with at least one figure in these rows."""
    return [p for p in PEERS if any(value(row, p) is not None for row in rows)]


def _times(rows: dict[str, Any]) -> Table:
    peers = _peers(list(rows.values()))
    units = {row["unit"] for row in rows.values()}
    shared = units.pop() if len(units) == 1 else ""
    heads = [f"{shared or 'workload'}", *peers, "braze/best", "compile/best", "best", "of limit"]
    table = [heads]
    for name, row in rows.items():
        best = best_peer(row)
        ours = "braze.aot" if value(row, "braze.aot") is not None else "braze.compile"
        table.append(
            [
                name if shared else f"{name} ({row['unit']})",
                *(number(value(row, peer)) for peer in peers),
                number(ratio(row, "braze")),
                number(ratio(row, ours)),
                best[0] if best else NONE,
                percent(fraction(row, "braze")),
            ]
        )
    empty = [i for i in range(len(heads)) if i and all(line[i] == NONE for line in table[1:])]
    return [[cell for i, cell in enumerate(line) if i not in empty] for line in table]


def _memory(rows: dict[str, Any]) -> Table:
    peers = [p for p in PEERS if any(value(r, p, "peak_bytes") is not None for r in rows.values())]
    table = [["peak MiB", *peers]]
    for name, row in rows.items():
        peaks = (value(row, peer, "peak_bytes") for peer in peers)
        table.append([name, *(number(None if p is None else p / 2**20) for p in peaks)])
    return table


def _warm(rows: dict[str, Any]) -> Table:
    some = {n: r for n, r in rows.items() if any("warm" in f for f in r["peers"].values())}
    peers = _peers(list(some.values()))
    table = [["warm, s", *peers]]
    table += [[n, *(number(value(r, p, "warm")) for p in peers)] for n, r in some.items()]
    return table


_STARTS = {"import_ms": 1.0, "load_ms": 1.0, "first_ms": 1.0, "peak_bytes": 2.0**-20}


def _starts(rows: dict[str, Any]) -> Table:
    some = {n: r for n, r in rows.items() if any("load_ms" in f for f in r["peers"].values())}
    peers = _peers(list(some.values()))
    heads = ("import ms", "load ms", "first call ms", "peak MiB")
    table = [["", *(f"{peer}: {head}" for head in heads for peer in peers)]]
    for name, row in some.items():
        cells = [
            number(None if (v := value(row, peer, key)) is None else v * factor)
            for key, factor in _STARTS.items()
            for peer in peers
        ]
        table.append([name, *cells])
    return table


def _failures(results: dict[str, Any]) -> Table:
    table = [["workload", "peer", "failure"]]
    for name, row in results["workloads"].items():
        for peer, facts in row["peers"].items():
            if "failed" in facts:
                table.append([name, peer, facts["failed"]])
    return table


def _bars(results: dict[str, Any]) -> Table:
    table = [["workload", "bar", "value", "bound", "state"]]
    for bar in results["bars"]:
        sign = ">=" if bar["least"] else "<="
        bound = f"{sign} {bar['bound']:g}"
        table.append([bar["workload"], bar["what"], number(bar["value"]), bound, bar["state"]])
    return table


def tables(results: dict[str, Any]) -> Iterator[tuple[str, Table]]:
    """Titles and tables, in order; those without rows are left out."""
    limits = [["limit", "", "unit"]]
    limits += [[n, number(v), UNITS[n]] for n, v in results["limits"].items()]
    yield GROUPS["limits"], limits
    for group, about in GROUPS.items():
        rows = {n: r for n, r in results["workloads"].items() if r["group"] == group}
        if rows:
            yield f"{group}: {about}", _times(rows)
        if group == "training":
            yield "peak resident memory of a training process", _memory(rows)
        if group == "overheads":
            yield "the same with what an earlier process left in the disk cache", _warm(rows)
            yield "starting with a model from a file, in a new process", _starts(rows)
    yield "bars", _bars(results)
    yield "what failed", _failures(results)


def plain(table: Table) -> str:
    """Columns side by side, numbers to the right."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    texts = []
    for line in table:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def markdown_table(table: Table) -> str:
    """The table in Markdown."""
    rule = ["---"] + ["--:"] * (len(table[0]) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (table[0], rule, *table[1:]))


def report(results: dict[str, Any], markdown: bool = False) -> str:
    """All tables, and how many bars are passed."""
    parts = []
    for title, table in tables(results):
        if len(table) > 1:
            parts.append(f"### {title}\n" if markdown else title)
            parts.append((markdown_table(table) if markdown else plain(table)) + "\n")
    states = [bar["state"] for bar in results["bars"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("pass", "miss", "unknown"))
    machine = results["machine"]
    conditions = f"{results['threads']} threads, {machine.get('gpu', machine['processor'])}"
    parts.append(f"bars: {counts}; {conditions}")
    return "\n".join(parts)


def main() -> None:
    """Print the tables of a file."""
    print(report(json.loads(Path(sys.argv[1]).read_text()), markdown="--markdown" in sys.argv))


if __name__ == "__main__":
    main()
