"""Packages for GPUs whose hashes are right and whose manifests are wrong: refused, or harmless.

The CPU's are in tests/frontend/test_aot_hostile.py.
"""

import json

import cuda_device  # comes before CUDA devices are asked for
import mutated_packages
import numpy as np
import pytest
from package_mutations import check_mutations, facts, fixed_and_dynamic
from rewritten import rewritten

from braze.runtime import PackageError, load
from braze.runtime.package_format import Archive, write_archive


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """One for fixed sizes, one for several, with int8 weights."""
    return fixed_and_dynamic(tmp_path_factory.mktemp("packages"), "cuda", weights="int8")


@pytest.mark.parametrize(
    ("package", "kind", "count"),
    [
        ("fixed", "manifest", 300),
        ("dynamic", "manifest", 300),
        ("fixed", "weights", 100),
        ("fixed", "resealed", 150),
        ("dynamic", "resealed", 150),
    ],
)
def test_mutations_are_refused_or_harmless(packages, package, kind, count):
    check_mutations(packages[package], kind, count, cuda_device.variables())


def launch(manifest):
    return next(step for step in facts(manifest)["steps"] if "launch" in step)


WRONG = {
    "the arena": (lambda m: facts(m).update(arena_bytes=-1), "lies outside the arena"),
    "a large arena": (lambda m: facts(m).update(arena_bytes=1 << 60), "the arena has 115292150460"),
    "a shape": (lambda m: facts(m)["outputs"][0].update(shape=[-3, 4]), r"the shape \[-3, 4\]"),
    "a dtype": (lambda m: facts(m)["outputs"][0].update(dtype="f31"), "unknown dtype 'f31'"),
    "a weight": (lambda m: facts(m)["inputs"].pop(), "is in input 6"),
    "a weight's name": (
        lambda m: facts(m)["inputs"][1].update(name="other"),
        "the code reads no weight",
    ),
    "a block": (lambda m: launch(m).update(block=[2048, 1, 1]), "is launched with"),
    "no grid": (lambda m: launch(m).update(grid=[0, 1, 1]), "is launched with"),
    "shared memory": (lambda m: launch(m).update(shared_bytes=-4), "has -4 shared bytes"),
    "a buffer": (
        lambda m: launch(m)["arguments"].__setitem__(0, ["nobody", 0]),
        "there is no buffer nobody",
    ),
    "a function": (
        lambda m: launch(m).update(launch="nobody"),
        "the GPU's driver refuses function 'nobody'",
    ),
    "much shared memory": (
        lambda m: launch(m).update(shared_bytes=1 << 30),
        "refuses 1073741824 bytes of shared",
    ),
    "no cubin": (lambda m: m["targets"][0].update(cubin="code/none"), "code/none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_facts_that_cannot_be_are_named(packages, tmp_path, name):
    """Even if the code was sealed for them."""
    change, message = WRONG[name]
    path = rewritten(packages["fixed"], tmp_path / "m.brz", change)
    with pytest.raises(PackageError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: facts(m).update(arena_bytes=0),
        lambda m: facts(m)["outputs"][0].update(shape=[0]),
        lambda m: launch(m).update(grid=[64, 1, 1]),
        lambda m: launch(m)["arguments"].reverse(),
        lambda m: facts(m)["placements"].update(more=["arena", 0, 0]),
    ],
)
def test_code_is_tied_to_what_is_said_of_it(packages, tmp_path, change):
    path, data = tmp_path / "m.brz", packages["fixed"].read_bytes()
    manifest = mutated_packages.manifest_of(data)
    change(manifest)
    path.write_bytes(mutated_packages.with_manifest(data, manifest))
    for use in (load, lambda p: load(p, "meta")):
        with pytest.raises(PackageError, match=r"kernels.cubin was not made for this manifest"):
            use(path)


def test_code_is_tied_to_its_weights(packages, tmp_path):
    path, data = tmp_path / "m.brz", packages["fixed"].read_bytes()
    manifest = mutated_packages.manifest_of(data)
    weights = bytes(Archive(packages["fixed"])["weights.safetensors"])
    path.write_bytes(mutated_packages.with_manifest(data, manifest, weights))
    x = np.ones((3, 12), np.float32)
    np.testing.assert_array_equal(load(path)(x), load(packages["fixed"])(x))  # the same ones
    path.write_bytes(mutated_packages.with_manifest(data, manifest, weights[:-1] + b"\1"))
    with pytest.raises(PackageError, match="is inconsistent"):
        load(path)


def test_codes_of_one_package_take_the_same(packages, tmp_path):
    def change(manifest):
        codes = manifest["targets"][0]["codes"]
        codes.append(json.loads(json.dumps(codes[0])))
        codes[0]["facts"]["outputs"].append(codes[0]["facts"]["outputs"][0])

    path = rewritten(packages["dynamic"], tmp_path / "m.brz", change)
    with pytest.raises(PackageError):
        load(path)


@pytest.mark.parametrize("code", [b"", b"no code", b"\x7fELF" + bytes(60)])
def test_machine_code_that_is_none_is_refused(packages, tmp_path, code):
    archive = Archive(packages["fixed"])
    entries = {name: bytes(archive[name]) for name in archive._entries}
    entries[archive.manifest["targets"][0]["cubin"]] = code
    path = tmp_path / "m.brz"
    write_archive(path, archive.manifest, entries)
    with pytest.raises(PackageError, match="m.brz cannot be loaded"):
        load(path)
