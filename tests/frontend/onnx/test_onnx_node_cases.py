"""ONNX's own cases for each operator that Braze claims: all are run, but for those that the tables
in `tests/support/onnx_cases.py` leave out with a reason."""

import pytest

pytest.importorskip("onnx")

import onnx_cases

import braze
import braze.onnx
from braze.onnx.rules import import_rules

CLAIMED = sorted(import_rules())

# Claimed operators that ONNX has no case for; other tests of this folder run them.
WITHOUT_CASES = (
    "ConcatFromSequence GlobalLpPool Multinomial Optional RandomNormal RandomNormalLike "
    "RandomUniform RandomUniformLike SequenceAt SequenceConstruct SequenceErase"
).split()


def run(case):
    model = braze.onnx.load(case.model)
    for inputs, outputs in case.data_sets:
        results = model(*(onnx_cases.array(x) for x in inputs))
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == len(outputs)
        for result, expected in zip(results, outputs, strict=True):
            onnx_cases.check(case, result, onnx_cases.array(expected))


def claimed(case):
    found = onnx_cases.operators_of(case.model.graph, case.model.functions)
    own = {("", name) for name in CLAIMED}
    own |= {(f.domain, f.name) for f in case.model.functions}
    return found <= own


def lacks_type(case):
    """Whether the case has elements that Braze lacks. Braze must say so by name."""
    try:
        braze.onnx.load(case.model)
    except TypeError as error:
        return any(f"has elements of type {name}" in str(error) for name in onnx_cases.LACKING)
    return False


@pytest.mark.parametrize("name", CLAIMED)
def test_cases(name, interpret):
    found = onnx_cases.cases().get(("", name), [])
    ran = 0
    for case in found:
        if onnx_cases.excluded(case.name) or not claimed(case):
            continue
        try:
            run(case)
        except TypeError:
            if not lacks_type(case):
                raise
            continue
        ran += 1
    assert ran or name in WITHOUT_CASES or all(onnx_cases.excluded(c.name) for c in found)
    assert not (ran and name in WITHOUT_CASES)


@pytest.mark.parametrize("name", CLAIMED)
def test_the_first_case_compiled(name):
    for case in onnx_cases.cases().get(("", name), []):
        if onnx_cases.excluded(case.name) or not claimed(case) or lacks_type(case):
            continue
        with braze.config.using(tier="compile"):
            run(case)
        return


def test_what_is_not_claimed_is_refused_by_name():
    refused = 0
    for found in onnx_cases.cases().values():
        for case in found:
            if claimed(case):
                continue
            missing = onnx_cases.operators_of(case.model.graph) - {("", n) for n in CLAIMED}
            if not missing:  # a function of the model's calls it
                continue
            with pytest.raises(braze.onnx.UnsupportedOperatorError) as raised:
                braze.onnx.load(case.model)
            for domain, name in missing:
                assert f"{domain}.{name}" if domain else name in str(raised.value)
            refused += 1
    assert refused > 50


def test_exclusions_are_needed(interpret):
    """Each entry of the table names a case that would fail."""
    every = [case for found in onnx_cases.cases().values() for case in found]
    for start in onnx_cases.EXCLUDED:
        own = [c for c in every if c.name == start or c.name.startswith(f"{start}_")]
        failed = 0
        for case in own:
            try:
                run(case)
            except (AssertionError, braze.onnx.UnsupportedOperatorError):
                failed += 1
        assert failed, start
