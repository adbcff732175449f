"""Show type checkers one package: a tree of links, build/links/braze, from the package mapping.

The links are one per file, since some checkers do not look into linked folders.
"""

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    out = ROOT / "build/links"
    shutil.rmtree(out, ignore_errors=True)
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package, folder in configuration["tool"]["setuptools"]["package-dir"].items():
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".pyi") or file.name == "py.typed":
                link = out.joinpath(*package.split("."), file.relative_to(ROOT / folder))
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)


if __name__ == "__main__":
    main()
