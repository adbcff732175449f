"""The lists in `docs/onnx.md` of operators that are read and operations that are written.

``python tests/support/onnx_page.py`` renews them.
"""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
BEGIN, END = "<!-- begin: {} -->\n", "<!-- end: {} -->"


def operators():
    """A line for each family of operators that are read."""
    from braze.onnx.rules import import_rules

    families = {}
    for name, rule in import_rules().items():
        by_definition = rule.run is None
        family = "by ONNX's definition" if by_definition else rule.run.__module__.split(".")[-1]
        since = f" {rule.since}" if rule.since > 7 else ""
        families.setdefault(family, []).append(f"{name}{since}")
    return table(families, "operators")


def operations():
    """A line for each family of operations that have a rule for writing."""
    from braze.onnx.rules import export_rules

    families = {}
    for name, rule in export_rules().items():
        families.setdefault(rule.__module__.split(".")[-1], []).append(f"`{name}`")
    return table(families, "operations")


def table(families, what):
    count = sum(map(len, families.values()))
    rows = [f"| {family} | {', '.join(sorted(families[family]))} |" for family in sorted(families)]
    return "\n".join([f"| family | {count} {what} |", "|---|---|", *rows]) + "\n"


LISTS = {"operators": operators, "operations": operations}


def listed(text, name):
    """What the page has between the marks."""
    return text.split(BEGIN.format(name))[1].split(END.format(name))[0]


def main():
    text = PAGE.read_text()
    for name, make in LISTS.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = before + begin + make() + end + rest.split(end)[1]
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
