"""Train a small classifier of digits, and write it as a C library with some pictures to try.

What is written, into the folder that is named (here by default): digits.brz, the package; digits.h
and digits.o, which need no Python; and pictures as PGM files, named by their digit.
"""

import sys
from pathlib import Path

import braze
import braze.nn.functional as F
from braze import nn
from braze.datasets import load_mnist
from braze.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    """Bytes of pictures in, as they are in a file; probabilities of the ten digits out."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(784, 128)
        self.last = nn.Linear(128, 10)

    def scores(self, pictures):
        x = pictures.float().flatten(1) / 255
        return self.last(F.relu(self.hidden(x)))

    def forward(self, pictures):
        probabilities = self.scores(pictures).softmax(1)
        return {"digit": probabilities.argmax(1), "probabilities": probabilities}


def main(folder):
    braze.manual_seed(0)
    pictures, labels = map(braze.from_numpy, load_mnist())
    model = Classifier()
    optimizer = braze.optim.Adam(model.parameters(), lr=1e-3)
    data = TensorDataset(pictures[:8000], labels[:8000].long())
    for _ in range(2):
        for x, y in DataLoader(data, batch_size=64, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            F.cross_entropy(model.scores(x), y).backward()
            optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / "digits.brz"
    batch = braze.aot.Dim("batch", max=64)
    braze.aot.compile(model.eval(), pictures[:8], package, dynamic={"pictures": {0: batch}})
    braze.aot.export_c(package, folder)
    for number in range(9000, 9006):
        header = b"P5 28 28 255\n"
        name = f"picture{number}-{labels[number].item()}.pgm"
        (folder / name).write_bytes(header + pictures[number].numpy().tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent))
