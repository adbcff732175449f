"""Packages whose hashes are right and whose manifests are wrong are refused, and crash nothing."""

import json

import mutated_packages
import numpy as np
import pytest
from package_mutations import check_mutations, facts, fixed_and_dynamic
from rewritten import rewritten

import braze
from braze.runtime import PackageError, load
from braze.runtime.package_format import Archive


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """One for fixed sizes, one for several."""
    return fixed_and_dynamic(tmp_path_factory.mktemp("packages"))


@pytest.mark.parametrize(
    ("package", "kind", "count"),
    [
        ("fixed", "manifest", 800),
        ("dynamic", "manifest", 800),
        ("fixed", "weights", 200),
        ("dynamic", "weights", 200),
        ("fixed", "resealed", 150),
        ("dynamic", "resealed", 150),
    ],
)
def test_mutations_are_refused_or_harmless(packages, package, kind, count):
    check_mutations(packages[package], kind, count)


WRONG = [
    (lambda m: facts(m).update(arena_bytes=-1), "the arena has -1 bytes"),
    (lambda m: facts(m).update(arena_bytes=1 << 60), "the arena has 1152921504606846976 bytes"),
    (lambda m: facts(m).update(scratch_bytes=-8), "a thread's workspace has -8 bytes"),
    (lambda m: facts(m).update(words=[-1]), "the code is given the number -1"),
    (lambda m: facts(m)["outputs"][0].update(shape=[-3, 4]), r"has the shape \[-3, 4\]"),
    (lambda m: facts(m)["outputs"][0].update(shape=[1 << 50, 0]), "has 4503599627370496 bytes"),
    (lambda m: facts(m)["outputs"][0].update(dtype="f31"), "unknown dtype 'f31'"),
    (lambda m: facts(m)["inputs"][0].update(role="guest"), "unknown role 'guest'"),
    (lambda m: facts(m)["inputs"][0].update(name=7), "is no text"),
    (lambda m: facts(m)["inputs"].pop(), "the code reads no weight"),
    (lambda m: facts(m)["inputs"].append(facts(m)["inputs"][0]), "input names are not distinct"),
    (lambda m: m["inputs"].append("y"), "the code takes 1 arguments, the package 2"),
    (lambda m: m.update(inputs=["x", "x"]), "argument names are not distinct: x, x"),
    (lambda m: m.update(inputs="x"), "inputs are no names"),
    (lambda m: m.update(structure="7"), r"7 is neither a container nor .* \(0 to 0\)"),
    (lambda m: m.update(structure=0), "structure is no text: 0"),
    (lambda m: m.update(targets=[]), "there are no targets"),
    (lambda m: m["targets"].__setitem__(0, 3), "cannot be loaded: TypeError"),
    (lambda m: m["targets"][0].update(weights=[]), "cannot be loaded: AttributeError"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_facts_that_cannot_be_are_named(packages, tmp_path, number):
    """Even if the code was sealed for them."""
    change, message = WRONG[number]
    path = rewritten(packages["fixed"], tmp_path / "m.brz", change)
    with pytest.raises(PackageError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(PackageError):
        braze.aot.export_c(path, tmp_path)


def test_codes_of_one_package_take_the_same(packages, tmp_path):
    def change(manifest):
        codes = manifest["targets"][0]["codes"]
        codes.append(json.loads(json.dumps(codes[0])))
        codes[0]["facts"]["outputs"].append(codes[0]["facts"]["outputs"][0])

    path = rewritten(packages["dynamic"], tmp_path / "m.brz", change)
    with pytest.raises(PackageError, match="takes or gives other arrays than for others"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: facts(m).update(arena_bytes=0),
        lambda m: facts(m).update(arena_bytes=facts(m)["arena_bytes"] + 64),
        lambda m: facts(m)["outputs"][0].update(shape=[0]),
        lambda m: facts(m)["inputs"][0].update(shape=[1]),
        lambda m: m.update(structure="[]"),
    ],
)
def test_code_is_tied_to_what_is_said_of_it(packages, tmp_path, change):
    path, data = tmp_path / "m.brz", packages["fixed"].read_bytes()
    manifest = mutated_packages.manifest_of(data)
    change(manifest)
    path.write_bytes(mutated_packages.with_manifest(data, manifest))
    message = r"m.brz is inconsistent: code/host/\w+.o was not made for this manifest"
    for use in (load, lambda p: load(p, "meta"), lambda p: braze.aot.export_c(p, tmp_path)):
        with pytest.raises(PackageError, match=message):
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
