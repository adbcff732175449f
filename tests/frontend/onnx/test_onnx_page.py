"""`docs/onnx.md` lists the operators that are claimed, and its examples run."""

import re

import pytest

pytest.importorskip("onnx")

import onnx_page

import braze
from braze.onnx.rules import NEWEST, import_rules


@pytest.mark.parametrize("name", onnx_page.LISTS)
def test_the_lists_are_true(name):
    written = onnx_page.listed(onnx_page.PAGE.read_text(), name)
    assert written == onnx_page.LISTS[name](), "python tests/support/onnx_page.py renews it"


def test_claimed_operators_exist():
    import onnx

    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert import_rules().keys() <= names
    assert NEWEST <= onnx.defs.onnx_opset_version()


def test_operators_that_are_not_read_are_named():
    import onnx

    text = onnx_page.PAGE.read_text()
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    section = text.split("Not read are")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", section)) == names - import_rules().keys()


def test_the_examples_run(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", onnx_page.PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert isinstance(names["y"], braze.Tensor)
