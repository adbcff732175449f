"""Write the files in this folder with PyTorch: `python tests/frontend/files/make_saved_files.py`.

The tests that read them need no PyTorch. Written with PyTorch 2.13.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "support"))

from models import lstm, transformer  # noqa: E402

DTYPES = (
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 "
    "complex64 complex128"
).split()


def everything() -> dict:
    """Something of each kind that a file can hold."""
    base = torch.arange(12.0).reshape(3, 4)
    tensor = torch.ones(2)
    tensor.note = "an attribute"
    return {
        "dtypes": {name: torch.arange(2).to(getattr(torch, name)) for name in DTYPES},
        "base": base,
        "column": base[:, 1],
        "turned": base.t(),
        "expanded": torch.tensor([5.0]).expand(3),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": nn.Parameter(torch.tensor([1.0, 2.0])),
        "frozen": nn.Parameter(torch.tensor([3]), requires_grad=False),
        "noted": tensor,
        "sparse": torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse(),
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "plain": [None, True, 1, -(10**30), 2.5, 1 + 2j, "text", b"bytes", (1,), {1, 2}],
        "types": [torch.float32, torch.device("cpu"), torch.Size([2, 3]), torch.strided],
    }


def checked(model: nn.Module, *inputs: torch.Tensor) -> dict:
    """A model's state, an input and what comes out."""
    with torch.no_grad():
        output = model.eval()(*inputs)
    return {"state": model.state_dict(), "inputs": inputs, "output": output}


def main() -> None:
    torch.manual_seed(0)
    torch.save(everything(), HERE / "zip.pth")
    torch.save(everything(), HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    small = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    torch.save(checked(small, torch.randn(5, 3)), HERE / "layers.pth")
    torch.save(small, HERE / "module.pth")
    torch.save(checked(lstm(nn), torch.randn(2, 5, 4)), HERE / "lstm.pth")
    model = transformer(nn)
    torch.save(checked(model, torch.randn(2, 5, 8), torch.randn(2, 3, 8)), HERE / "transformer.pth")


if __name__ == "__main__":
    main()
