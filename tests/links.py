"""Show type checkers one package: a tree of links, build/links/braze, from the package mapping.

The links are one per file, since some checkers do not look into linked folders. Packages' data is
linked too, so that the tree also runs.
"""

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    out = ROOT / "build/links"
    shutil.rmtree(out, ignore_errors=True)
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = ("*.py", "*.pyi", *setuptools["package-data"]["*"])
    for package, folder in setuptools["package-dir"].items():
        for file in sorted((ROOT / folder).rglob("*")):
            if any(file.match(pattern) for pattern in patterns):
                link = out.joinpath(*package.split("."), file.relative_to(ROOT / folder))
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)


if __name__ == "__main__":
    main()
