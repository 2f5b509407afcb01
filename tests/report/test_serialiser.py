import json
from pathlib import Path

import numpy as np
import pytest

from provisioner.report.serialiser import json_text


def test_values_that_are_no_result() -> None:
    values = {
        "a": np.float64(1.5),
        "b": np.arange(3),
        "c": np.bool_(True),
        "d": float("nan"),
        "e": Path("x"),
        2: (1, "é"),
    }
    text = json_text(values)
    assert json.loads(text) == {"a": 1.5, "b": [0, 1, 2], "c": True, "d": None, "e": "x", "2": [1, "é"]}
    assert "é" in text


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot write a object as JSON"):
        json_text(object())
