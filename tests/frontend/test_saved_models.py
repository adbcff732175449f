"""Recurrent and attention layers that PyTorch saved give the outputs that it recorded."""

from pathlib import Path

import models
import numpy as np
import pytest

import braze
from braze import nn

FILES = Path(__file__).resolve().parent / "files"


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_the_recorded_output(name):
    saved = braze.load(FILES / f"{name}.pth")
    model = getattr(models, name)(nn)
    model.load_state_dict(saved["state"])
    with braze.config.using(tier="interpret"), braze.no_grad():
        output = model.eval()(*saved["inputs"])
    pairs = [(output, saved["output"])]
    if name == "lstm":
        pairs = [(output[0], saved["output"][0]), *zip(output[1], saved["output"][1], strict=True)]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-5)
