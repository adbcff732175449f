"""Tell what kinds files are with magika's model, compiled ahead of time.

The first run reads the ONNX model of the package `magika` and compiles it to one file, for any
number of files at once; from then on that package is loaded, which needs neither ONNX nor a
compiler.
"""

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tqdm import tqdm

import braze
import braze.runtime

ENDS = 1024  # bytes that the model sees of the beginning and of the end of a file
BLOCK = 4096  # what they are looked for in
PADDING = 256


def model_folder():
    """Where magika keeps its model; magika itself is not imported."""
    found = find_spec("magika")
    if found is None:
        raise SystemExit("the model comes with a package: pip install magika==1.0.3")
    return Path(found.origin).parent / "models" / "standard_v3_3"


def features(path):
    """The first and the last bytes of a file without white space around it, int32 [2048]."""
    with open(path, "rb") as file:
        first = file.read(BLOCK).lstrip()[:ENDS]
        file.seek(max(0, path.stat().st_size - BLOCK))
        last = file.read(BLOCK).rstrip()[-ENDS:]
    seen = np.full(2 * ENDS, PADDING, np.int32)
    seen[: len(first)] = list(first)
    seen[2 * ENDS - len(last) :] = list(last)
    return seen


def compile_model(package, device, most=64):
    """Write the package: from bytes [1 to `most` files, 2048] to chances [files, labels]."""
    import braze.onnx

    model = braze.onnx.load(model_folder() / "model.onnx").to(device)
    files = braze.aot.Dim("files", max=most)
    example = braze.zeros(2, 2 * ENDS, dtype=braze.int32, device=device)
    braze.aot.compile(model, example, package, dynamic=[{0: files}])


def main(argv=None):
    parser = argparse.ArgumentParser(description="Tell what kinds files are.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--package", type=Path, default=Path("magika.brz"), help="made if absent")
    parser.add_argument("--batch-size", type=int, default=32, help="files at once, up to 64")
    parser.add_argument("--device", default="cpu", help="what to compile for")
    args = parser.parse_args(argv)
    if not args.package.exists():
        start = time.perf_counter()
        compile_model(args.package, args.device)
        print(f"{args.package}: compiled in {time.perf_counter() - start:.1f} s")

    model = braze.runtime.load(args.package)
    labels = json.loads((model_folder() / "config.min.json").read_text())["target_labels_space"]
    files = [path for path in args.files if path.is_file()]
    found = []
    start = time.perf_counter()
    for at in tqdm(range(0, len(files), args.batch_size), leave=False, disable=None):
        batch = files[at : at + args.batch_size]
        chances = np.asarray(model(np.stack([features(path) for path in batch])))
        found += zip(batch, chances.argmax(axis=1), chances.max(axis=1), strict=True)
    seconds = time.perf_counter() - start
    for path, label, chance in found:
        print(f"{path}: {labels[label]} ({chance:.1%})")
    print(f"{len(found)} files in {1000 * seconds:.1f} ms")
    return {path: labels[label] for path, label, _ in found}


if __name__ == "__main__":
    main()
