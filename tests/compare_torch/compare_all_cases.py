"""Importing this enters every case: the files `cases_*.py` of this folder."""

import importlib
from pathlib import Path

for _file in sorted(Path(__file__).parent.glob("cases_*.py")):
    importlib.import_module(_file.stem)
