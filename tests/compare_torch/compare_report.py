"""What the comparison finds, by section: `python tests/compare_torch/compare_report.py`.

With names it lists all their differences, with `--write` it puts table and list into
docs/compatibility.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import compare_all_cases  # noqa: F401  (enters the cases)
from compare_run import Findings, findings
from compared_names import all_names, sections

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- begin: table -->", "<!-- end: table -->"


def table() -> str:
    """Names, present and equal ones of each section, as a Markdown table."""
    rows = [(title, [findings(name) for name in names]) for title, names in sections().items()]
    rows.append(("**All**", [found for _, of_section in rows for found in of_section]))
    lines = ["| section | names | present | equal |", "|---|---|---|---|"]
    for title, of_section in rows:
        present, equal = sum(f.present for f in of_section), sum(f.equal for f in of_section)
        lines.append(f"| {title} | {len(of_section)} | {present} | {equal} |")
    total = rows[-1][1]
    share = 100 * sum(f.equal for f in total) / len(total)
    return "\n".join([*lines, "", f"{share:.1f} % of the names are equal."])


def differing() -> str:
    """The names that are not equal, by the reason, as a Markdown list."""
    by_reason: dict[str, list[str]] = {}
    for found in map(findings, all_names()):
        if not found.equal:
            by_reason.setdefault(found.reason, []).append(f"`{found.name}`")
    return "\n".join(f"- {reason}: {', '.join(names)}" for reason, names in by_reason.items())


def document(text: str) -> str:
    """The document with the present table and list in it."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n\nNot equal:\n\n{differing()}\n{END}{after}"


def details(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        found: Findings = findings(name)
        yield f"{name}: {found.variants} variants, {'equal' if found.equal else found.reason}"
        yield from (f"    {line}" for line in [*found.wrong, *found.differences, *found.known])


def main(arguments: list[str]) -> None:
    if arguments == ["--write"]:
        DOCUMENT.write_text(document(DOCUMENT.read_text()))
    elif arguments:
        print("\n".join(details(arguments)))
    else:
        print(table(), differing(), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
