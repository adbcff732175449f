"""Run an example under PyTorch: `import braze` means torch in it.

    python examples/with_torch.py examples/cartpole/main.py --seed 1

For comparing speed and quality. The examples use nothing that PyTorch lacks but `braze.datasets`
(which stays Braze's own) and `braze.explain`.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path


class Torch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `braze.x` where torch has `torch.x`."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("braze."):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        return importlib.import_module(spec.name.replace("braze", "torch", 1))

    def exec_module(self, module):
        pass


def install():
    """From here on, `import braze` is `import torch`."""
    datasets = importlib.import_module("braze.datasets")
    for name in [n for n in sys.modules if n == "braze" or n.startswith("braze.")]:
        del sys.modules[name]
    sys.modules["braze"] = importlib.import_module("torch")
    sys.modules["braze.datasets"] = datasets
    sys.meta_path.insert(0, Torch())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.argv = sys.argv[1:]
    sys.path.insert(0, sys.argv[0].rpartition("/")[0] or ".")
    os.environ["WITH_TORCH_PROGRAM"] = sys.argv[0]
if __name__ in ("__main__", "__mp_main__"):
    # In the place of this file's own names, not by runpy: a process that the program starts with
    # `spawn` reads its parent's main file again, as `__mp_main__`, which so is this one there, too.
    install()
    program = os.environ["WITH_TORCH_PROGRAM"]
    exec(compile(Path(program).read_bytes(), program, "exec"))
