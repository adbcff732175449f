"""Every name of PyTorch 1.0 that is listed in `names.txt`, compared with PyTorch.

`compare_cases.py` says how a case is written, `compare_run.py` what is compared.
"""

import pytest

pytest.importorskip("torch")

import compare_all_cases  # noqa: F401  (enters the cases)
import compared_names
from compare_cases import CASES
from compare_report import DOCUMENT, document
from compare_run import findings
from known_differences import KNOWN, PENDING

NAMES = compared_names.all_names()


@pytest.mark.parametrize("name", sorted(CASES, key=NAMES.index))
def test_same_as_pytorch(name):
    found = findings(name)
    if not found.present:
        pytest.skip("Braze does not have it; the document counts it")
    assert found.variants
    assert not found.wrong, "\n".join(found.wrong)
    assert not found.differences, "\n".join(found.differences)


def test_every_name_has_a_case():
    assert sorted(NAMES) == sorted({*CASES, *PENDING})
    assert not CASES.keys() & PENDING.keys()


def test_names_are_listed_once():
    assert len(set(NAMES)) == len(NAMES)
    assert not set(NAMES) & compared_names.left_out().keys()


def test_known_differences_are_differences():
    assert not [name for name in KNOWN if not findings(name).known]


def test_the_document_states_what_is_found():
    text = DOCUMENT.read_text()
    assert document(text) == text, "run tests/compare_torch/compare_report.py --write"
