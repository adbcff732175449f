"""Compare a wheel with the five folders: `python tests/house/wheel_contents.py FOLDER_OF_WHEEL`.

An editable install hides a data file that the build configuration forgets; this does not. Every
file in a mapped folder that git does not ignore must be in the wheel under its package, and
nothing else.
"""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def expected() -> set[str]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = set()
    for package, folder in configuration["tool"]["setuptools"]["package-dir"].items():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        for file in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / file).is_file():
                names.add(f"{package.replace('.', '/')}/{Path(file).relative_to(folder)}")
    return names


def main() -> None:
    (wheel,) = Path(sys.argv[1]).glob("braze-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("braze/")}
    wanted = expected()
    for name in sorted(wanted - packed):
        print(f"missing from the wheel: {name}")
    for name in sorted(packed - wanted):
        print(f"in the wheel, but not in the folders: {name}")
    if packed != wanted:
        sys.exit(1)
    print(f"{wheel.name}: {len(packed)} files, as in the folders")


if __name__ == "__main__":
    main()
