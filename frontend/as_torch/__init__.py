"""`import torch` means Braze: for programs that were written for PyTorch and stay as they are.

`install()` puts aliases of Braze's modules under PyTorch's names; `braze run` does it for a whole
program and its processes. An alias says of a name that Braze lacks what comes nearest to it.
"""

from braze.as_torch.alias import install
from braze.as_torch.nearest import explain_missing

__all__ = ["explain_missing", "install"]
